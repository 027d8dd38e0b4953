"""Dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranvier import _core, seeds
from ranvier.layers.base import Layer

__all__ = ["Dropout"]


class Dropout(Layer):
    """In training y = x / (1 - rate) where kept and 0 where dropped; otherwise y = x.

    Which elements are kept depends on the seed, on how many batches the layer has seen, and on the
    element's place: on nothing else, so it is the same at any number of threads (Srivastava et al.,
    2014; Salmon et al., 2011).

    Args:
        rate: the share to drop, from 0 to below 1.
        seed: an integer, or None for one from `utils.set_random_seed`'s stream.

    Output of the input's shape.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(rate, bool) or not (isinstance(rate, (int, float)) and 0 <= rate < 1):
            raise ValueError(
                f"[Dropout] rate must be a number from 0 to below 1; received rate={rate!r}"
            )
        self.rate = float(rate)
        self.seed = seeds.check_seed("Dropout", seed)
        start = seeds.next_seed() if self.seed is None else self.seed
        self.random_state = _core.Buffer.from_array(np.array([start % 2**64, 0], np.uint64))

    def forward(self, x, *, training=False):
        if not training or self.rate == 0:
            return x, lambda dy: dy
        key = _core.draw(self.random_state)
        y = _core.dropout(x, self.rate, key, None)

        def backward(dy):
            return _core.dropout_backward(dy, self.rate, key, None)  # the same key: the same mask

        return y, backward

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
