"""What all oracles share: float64, and central differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray


def f64(a) -> Array:
    return np.asarray(a, dtype=np.float64)


def central_difference(f: Callable[[Array], float], x: Array, step: float = 1e-6) -> Array:
    """The gradient of the scalar function `f` at `x`, one coordinate at a time, in float64."""
    x = f64(x).copy()
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        middle = x[i]
        x[i] = middle + step
        above = f(x)
        x[i] = middle - step
        below = f(x)
        x[i] = middle
        gradient[i] = (above - below) / (2 * step)
    return gradient
