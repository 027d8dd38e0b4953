"""Merges of two arrays, concatenation, and sums of products."""

from __future__ import annotations

import numpy as np

from reference.tensor import f64

MERGES = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def merge(a, b, how):
    return MERGES[how](f64(a), f64(b))


def summed_to(x, shape):
    """x summed over the axes that are 1 in `shape`."""
    axes = tuple(d for d, n in enumerate(shape) if n != x.shape[d])
    return x.sum(axis=axes, keepdims=True)


def merge_backward(dy, a, b, how):
    dy, a, b = f64(dy), f64(a), f64(b)
    da, db = {
        "add": lambda: (dy, dy),
        "subtract": lambda: (dy, -dy),
        "multiply": lambda: (dy * b, dy * a),
        "maximum": lambda: (np.where(a < b, 0, dy), np.where(a < b, dy, 0)),
        "minimum": lambda: (np.where(a > b, 0, dy), np.where(a > b, dy, 0)),
    }[how]()
    return summed_to(da, a.shape), summed_to(db, b.shape)


def concatenate_backward(dy, xs, axis=-1):
    ends = np.cumsum([x.shape[axis] for x in xs])[:-1]
    return np.split(f64(dy), ends, axis)


def _dot_formula(a, b, axes):
    """The letters of einsum: z for the samples, k for what is summed."""
    i, j = (axes, axes) if isinstance(axes, int) else axes
    left, right = ["z", *"abcd"[: a.ndim - 1]], ["z", *"efgh"[: b.ndim - 1]]
    left[i] = right[j] = "k"
    out = [c for c in left + right[1:] if c != "k"]
    return "".join(left), "".join(right), "".join(out)


def dot(a, b, axes=-1):
    left, right, out = _dot_formula(a, b, axes)
    y = np.einsum(f"{left},{right}->{out}", f64(a), f64(b))
    return y[:, None] if y.ndim == 1 else y


def dot_backward(dy, a, b, axes=-1):
    left, right, out = _dot_formula(a, b, axes)
    dy = f64(dy).reshape(dy.shape[: len(out)])
    return (
        np.einsum(f"{out},{right}->{left}", dy, f64(b)),
        np.einsum(f"{out},{left}->{right}", dy, f64(a)),
    )
