"""Dropout."""

from __future__ import annotations

import numpy as np

from ranvier import _core


def dropout(
    x: np.ndarray, rate: float, *, seed: int, counter: int = 0, out: np.ndarray | None = None
) -> np.ndarray:
    """y = x / (1 - rate) where kept, 0 elsewhere.

    Which elements are kept depends on (seed, counter) and the element's place alone, by the
    counter-based generator Philox4x32-10 (Salmon et al., 2011): the same at any number of threads.

    Args:
        x: any shape.
        rate: the share to drop, from 0 to below 1, to a precision of 1/65536.
        seed, counter: from 0 to 2^64 - 1.
        out: where to write y; may be x itself.

    Returns:
        y, of x's shape.
    """
    return _core.dropout(x, rate, _key("dropout", seed, counter), out)


def dropout_backward(
    dy: np.ndarray, rate: float, *, seed: int, counter: int = 0, out: np.ndarray | None = None
) -> np.ndarray:
    """dx = dy / (1 - rate) where `dropout` with the same arguments keeps, 0 elsewhere."""
    return _core.dropout_backward(dy, rate, _key("dropout_backward", seed, counter), out)


def _key(op: str, seed: int, counter: int) -> np.ndarray:
    """The place in the random stream."""
    for name, value in (("seed", seed), ("counter", counter)):
        if not (isinstance(value, (int, np.integer)) and 0 <= value < 2**64):
            raise ValueError(
                f"[{op}] {name} must be an integer from 0 to 2^64 - 1; received {value!r}"
            )
    return np.array([seed, counter], np.uint64)
