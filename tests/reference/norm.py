"""Batch normalization."""

from __future__ import annotations

import numpy as np

from reference.tensor import f64


def batch_normalization(
    x, gamma=None, beta=None, *, mean=None, variance=None, epsilon=1e-3, activation="linear"
):
    """y alone."""
    x = f64(x)
    over = tuple(range(x.ndim - 1))
    mean = x.mean(axis=over) if mean is None else f64(mean)
    variance = ((x - mean) ** 2).mean(axis=over) if variance is None else f64(variance)
    z = (x - mean) / np.sqrt(variance + epsilon)
    y = z * (1 if gamma is None else f64(gamma)) + (0 if beta is None else f64(beta))
    return np.maximum(y, 0) if activation == "relu" else y


def batch_normalization_backward(
    dy, x, gamma=None, beta=None, *, mean=None, variance=None, epsilon=1e-3, activation="linear"
):
    """(dx, dgamma, dbeta), through mean and variance where they are x's own, step by step."""
    x, g = f64(x), f64(dy)
    if activation == "relu":
        y = batch_normalization(x, gamma, beta, mean=mean, variance=variance, epsilon=epsilon)
        g = np.where(y > 0, g, 0)
    over, n = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    own = mean is None
    mean = x.mean(axis=over) if own else f64(mean)
    variance = ((x - mean) ** 2).mean(axis=over) if own else f64(variance)
    deviation = np.sqrt(variance + epsilon)
    dz = g * (1 if gamma is None else f64(gamma))
    dx = dz / deviation
    if own:
        dvariance = (dz * (x - mean)).sum(axis=over) * -0.5 / deviation**3
        dx = dx + dvariance * 2 * (x - mean) / n - (dz / deviation).sum(axis=over) / n
    dgamma = (g * (x - mean) / deviation).sum(axis=over)
    return dx, None if gamma is None else dgamma, None if beta is None else g.sum(axis=over)
