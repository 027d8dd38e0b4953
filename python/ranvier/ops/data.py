"""Rows on their way in: gathered, converted, scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ranvier import _core
from ranvier.ops.tensor import Tensor


def gather(
    source: np.ndarray,
    indices: ArrayLike,
    *,
    dtype: DTypeLike | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Rows of an array, converted: source[indices].astype(dtype) in one pass.

    Args:
        source: (n, ...), of any integer, bool or float type.
        indices: (k,), integers from 0 to n - 1; IndexError otherwise.
        dtype: float32, float64 or int32; None is float64 for float64 sources, else float32.
        out: where to write the rows.

    Returns:
        (k, ...), of dtype.
    """
    return _core.gather(
        source, np.asarray(indices), None if dtype is None else np.dtype(dtype), out
    )


def affine(
    x: Tensor,
    scale: ArrayLike | Tensor | None = None,
    offset: ArrayLike | Tensor | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """y = x * scale + offset.

    Args:
        x: (..., C).
        scale, offset: one number, or (C,): one for each column; None is 1 and 0.
        out: where to write y; may be x itself.

    Returns:
        y, of x's shape.
    """
    return _core.affine(x, _like(scale, x), _like(offset, x), out)


def affine_backward(
    dy: Tensor, scale: ArrayLike | Tensor | None = None, *, out: Tensor | None = None
) -> Tensor:
    """dx = dy * scale; arguments as in `affine`."""
    return _core.affine_backward(dy, _like(scale, dy), out)


def _like(value: Any, x: Tensor) -> Any:
    """A plain number takes x's dtype."""
    if isinstance(value, (int, float)):
        return np.asarray(value, getattr(x, "dtype", None))
    return value
