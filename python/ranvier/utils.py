"""Small helpers for preparing data and for repeatable runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .config import floatx
from .images import image_dataset
from .seeds import set_random_seed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["clear_session", "image_dataset", "normalize", "set_random_seed", "to_categorical"]


def clear_session() -> None:
    """Start the numbering of layers' names anew: the next Dense is "dense" again."""
    from .layers.base import clear_names

    clear_names()


def to_categorical(x: ArrayLike, num_classes: int | None = None) -> np.ndarray:
    """Turn class numbers into one-hot rows.

    Args:
        x: whole numbers in [0, num_classes), of shape (n,) or (n, 1); more axes are kept, and a
            last axis of length 1 is replaced.
        num_classes: C, the length of a row; None takes the largest label plus one.

    Returns:
        float32 array (n, C) with a single 1 in each row.

    Raises:
        ValueError: if a label is not whole or out of range, or num_classes is not positive.
    """
    values = np.asarray(x)
    if values.ndim > 1 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.dtype.kind == "f" and np.all(np.isfinite(values) & (values == np.floor(values))):
        values = values.astype(np.int64)
    if values.dtype.kind not in "biu":
        raise ValueError(
            f"[to_categorical] labels must be whole numbers; received an array of {values.dtype}"
        )
    labels = values.reshape(-1).astype(np.int64)
    if num_classes is None:
        if not labels.size:
            raise ValueError("[to_categorical] x is empty: give num_classes")
        num_classes = int(labels.max()) + 1
    elif num_classes < 1:
        raise ValueError(f"[to_categorical] num_classes must be positive; received {num_classes}")
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise ValueError(
            f"[to_categorical] label {labels[outside][0]} is outside [0, {num_classes}): "
            "give a larger num_classes, or number the classes from 0"
        )
    rows = np.zeros((labels.size, num_classes), dtype=np.float32)
    rows[np.arange(labels.size), labels] = 1
    return rows.reshape(*values.shape, num_classes)


def normalize(x: ArrayLike, axis: int = -1, order: float = 2) -> np.ndarray:
    """Divide by the norm (sum |x|**order)**(1/order) along one axis; vectors of zeros stay zero.

    Args:
        x: array of any shape; float32 and float64 are kept, everything else becomes `floatx()`.
        axis: the axis along which vectors lie.
        order: 1, 2, any other positive number, or infinity (the largest |x|).

    Returns:
        Array of x's shape, with vectors of norm 1.

    Raises:
        ValueError: if order is not positive, or x is a scalar.
    """
    values = np.asarray(x)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(floatx())
    if values.ndim == 0:
        raise ValueError("[normalize] x must have at least one axis; received a scalar")
    if not order > 0:
        raise ValueError(f"[normalize] order must be positive; received order={order}")
    # Scaled by the largest entry first, so that powers neither overflow nor vanish.
    largest = np.max(np.abs(values), axis=axis, keepdims=True, initial=0)
    scaled = values / _nonzero(largest)
    if order == np.inf:
        return scaled
    norm = np.sum(np.abs(scaled) ** order, axis=axis, keepdims=True) ** (1 / order)
    return scaled / _nonzero(norm)


def _nonzero(divisor: np.ndarray) -> np.ndarray:
    return np.where(divisor == 0, np.ones_like(divisor), divisor)
