"""Images moved by matrices."""

from __future__ import annotations

import math

import numpy as np

from reference.tensor import f64

PAD_MODES = {"nearest": "edge", "reflect": "symmetric", "wrap": "wrap"}  # NumPy's names


def resample_weights(matrix, shape, size, interpolation, fill_mode):
    """(height * width, H * W + 1): of which pixels each output is mixed; last: of fill_value."""
    rows, columns = shape
    padding = 3 * max(rows, columns, *size) + 20  # further than any index here goes
    indices = np.arange(rows * columns).reshape(shape)
    if fill_mode == "constant":
        known = np.pad(indices, padding, constant_values=rows * columns)
    else:
        known = np.pad(indices, padding, mode=PAD_MODES[fill_mode])
    weights = np.zeros((size[0] * size[1], rows * columns + 1))
    for k, (i, j) in enumerate(np.ndindex(*size)):
        y, x = (m[0] * i + m[1] * j + m[2] for m in (matrix[:3], matrix[3:]))
        if interpolation == "nearest":
            parts = [(math.floor(y + 0.5), math.floor(x + 0.5), 1.0)]
        else:
            top, left = math.floor(y), math.floor(x)
            parts = [
                (top + a, left + b, (1 - abs(y - top - a)) * (1 - abs(x - left - b)))
                for a in (0, 1)
                for b in (0, 1)
            ]
        for a, b, weight in parts:
            weights[k, known[a + padding, b + padding]] += weight
    return weights


def resample(
    x, matrices, size=None, *, interpolation="bilinear", fill_mode="constant", fill_value=0.0
):
    x = f64(x)
    size = size or x.shape[1:3]
    y = []
    for image, matrix in zip(x, np.broadcast_to(matrices, (len(x), 6)), strict=True):
        weights = resample_weights(matrix, x.shape[1:3], size, interpolation, fill_mode)
        pixels = image.reshape(-1, x.shape[3])
        y.append(weights @ np.vstack([pixels, np.full((1, x.shape[3]), fill_value)]))
    return np.array(y).reshape(len(x), *size, x.shape[3])


def resample_backward(dy, matrices, shape, *, interpolation="bilinear", fill_mode="constant"):
    dy = f64(dy)
    dx = []
    for image, matrix in zip(dy, np.broadcast_to(matrices, (len(dy), 6)), strict=True):
        weights = resample_weights(matrix, shape[1:3], dy.shape[1:3], interpolation, fill_mode)
        dx.append((weights.T @ image.reshape(-1, shape[3]))[:-1])
    return np.array(dx).reshape(shape)
