"""Dropout, of single elements and of whole channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranvier import _core, ops, seeds
from ranvier._core import Buffer
from ranvier.layers.base import Layer, Shape
from ranvier.layers.spatial import format_of

__all__ = ["Dropout", "SpatialDropout1D", "SpatialDropout2D"]


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

    single_input = True

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        kind = type(self).__name__
        if isinstance(rate, bool) or not (isinstance(rate, (int, float)) and 0 <= rate < 1):
            raise ValueError(
                f"[{kind}] rate must be a number from 0 to below 1; received rate={rate!r}"
            )
        self.rate = float(rate)
        self.seed = seeds.check_seed(kind, seed)
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


class SpatialDropout2D(Dropout):
    """In training drops whole channels of each image: y = x / (1 - rate) where kept, 0 elsewhere
    (Tompson et al., Efficient Object Localization Using Convolutional Networks, 2015).

    Args:
        rate: the share to drop, from 0 to below 1.
        data_format: "channels_last" (None) or "channels_first".
        seed: an integer, or None for one from `utils.set_random_seed`'s stream.

    Input and output (rows, H, W, channels).
    """

    rank = 2  # axes of the image

    def __init__(
        self, rate: float, data_format: str | None = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(rate, seed, **kwargs)
        self.data_format = format_of(type(self).__name__, data_format)

    def check_input(self, input_shape: Shape) -> None:
        if len(input_shape) != self.rank + 2:
            raise ValueError(
                f"[{self.name}] {type(self).__name__} needs inputs of {self.rank + 2} axes; "
                f"received {input_shape}"
            )

    def forward(self, x, *, training=False):
        if not training or self.rate == 0:
            return x, lambda dy: dy
        one = (1,) * self.rank
        last = self.data_format == "channels_last"
        shape = (x.shape[0], *one, x.shape[-1]) if last else (*x.shape[:2], *one)
        key = _core.draw(self.random_state)
        ones = Buffer.from_array(np.ones(shape, x.dtype))
        ones.constant = True
        mask = _core.dropout(ones, self.rate, key, None)  # 0 or 1 / (1 - rate)
        return ops.merge(x, mask, "multiply"), lambda dy: ops.merge(dy, mask, "multiply")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}


class SpatialDropout1D(SpatialDropout2D):
    """In training drops whole channels of each sequence: y = x / (1 - rate) where kept, 0
    elsewhere.

    Args:
        rate: the share to drop, from 0 to below 1.
        seed: an integer, or None for one from `utils.set_random_seed`'s stream.

    Input and output (rows, L, channels).
    """

    rank = 1

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(rate, None, seed, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["data_format"]
        return config
