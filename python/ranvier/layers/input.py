"""Input: where a graph begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ranvier.graph import SymbolicTensor
from ranvier.layers.base import Layer

__all__ = ["Input", "InputLayer"]


class InputLayer(Layer):
    """The beginning of a graph, as a layer: for Sequential models and configs.

    Args:
        shape: of one row.
        batch_size: rows, if fixed; only shown.
    """

    def __init__(
        self, shape: Sequence[int | None], batch_size: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.shape = _checked(shape)
        self.batch_size = batch_size
        self.tensor = SymbolicTensor((batch_size, *self.shape), self.dtype, name=self.name)
        self.tensor.layer = self
        self.built = True

    def forward(self, x, *, training=False):
        return x, lambda dy: dy

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shape": self.shape, "batch_size": self.batch_size}


def Input(
    shape: Sequence[int | None],
    batch_size: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> SymbolicTensor:
    """The symbolic tensor at which a model begins.

    Args:
        shape: of one row, as (784,).
        batch_size: rows, if fixed.
        dtype: what arrays are converted to; the default float type if None.
        name: for models whose inputs come as a dict.

    Returns:
        A symbolic tensor of shape (batch_size, *shape), to call layers on.
    """
    return InputLayer(shape, batch_size, dtype=dtype, name=name).tensor


def _checked(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    if isinstance(shape, (int, np.integer)):
        raise ValueError(f"[Input] shape must be a tuple: write shape=({shape},)")
    for d in shape:
        if d is not None and (not isinstance(d, (int, np.integer)) or d < 0):
            raise ValueError(f"[Input] shape must hold integers >= 0 or None; received {shape!r}")
    return tuple(None if d is None else int(d) for d in shape)
