"""Pooling."""

from __future__ import annotations

import numpy as np

from reference.tensor import f64


def _pairs(value, axes):
    return tuple(value) if isinstance(value, tuple) else (value,) * axes


def _pool_windows(x, pool_size, strides, padding):
    """Each window as (index of the output, slices of x along the image)."""
    axes = x.ndim - 2
    pool = _pairs(pool_size, axes)
    steps = pool if strides is None else _pairs(strides, axes)
    spans = []
    for size, p, s in zip(x.shape[1:-1], pool, steps, strict=True):
        count = -(-size // s) if padding == "same" else (size - p) // s + 1
        before = max((count - 1) * s + p - size, 0) // 2 if padding == "same" else 0
        starts = [i * s - before for i in range(count)]
        spans.append([slice(max(a, 0), min(a + p, size)) for a in starts])
    shape = tuple(len(axis) for axis in spans)
    at = [(i, tuple(axis[j] for axis, j in zip(spans, i, strict=True))) for i in np.ndindex(shape)]
    return shape, at


def _pool(x, pool_size, strides, padding, reduce):
    x = f64(x)
    shape, windows = _pool_windows(x, pool_size, strides, padding)
    y = np.zeros((x.shape[0], *shape, x.shape[-1]))
    for i, inside in windows:
        y[(slice(None), *i)] = reduce(x[(slice(None), *inside)], axis=tuple(range(1, x.ndim - 1)))
    return y


def max_pool(x, pool_size, strides=None, padding="valid"):
    return _pool(x, pool_size, strides, padding, np.max)


def max_pool_backward(dy, x, where, pool_size, strides=None, padding="valid"):
    """`where` is not used: the first of the largest ones is looked for again."""
    x, dy = f64(x), f64(dy)
    dx = np.zeros_like(x)
    for i, inside in _pool_windows(x, pool_size, strides, padding)[1]:
        window = x[(slice(None), *inside)]
        flat = window.reshape(len(x), int(np.prod(window.shape[1:-1])), x.shape[-1])
        share = np.arange(flat.shape[1])[None, :, None] == flat.argmax(axis=1)[:, None]
        sent = share * dy[(slice(None), *i)][:, None]
        dx[(slice(None), *inside)] += sent.reshape(window.shape)
    return dx


def average_pool(x, pool_size, strides=None, padding="valid"):
    return _pool(x, pool_size, strides, padding, np.mean)


def average_pool_backward(dy, x, pool_size, strides=None, padding="valid"):
    x, dy = f64(x), f64(dy)
    dx = np.zeros_like(x)
    for i, inside in _pool_windows(x, pool_size, strides, padding)[1]:
        window = dx[(slice(None), *inside)]
        sent = dy[(slice(None), *i)].reshape(len(x), *[1] * (x.ndim - 2), x.shape[-1])
        window += sent * x.shape[0] * x.shape[-1] / window.size
    return dx
