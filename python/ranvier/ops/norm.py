"""Batch normalization."""

from __future__ import annotations

from typing import Any

from ranvier import _core
from ranvier.ops.tensor import Gradients, Tensor


def batch_normalization(
    x: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    mean: Tensor | None = None,
    variance: Tensor | None = None,
    epsilon: float = 1e-3,
    activation: str = "linear",
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y = f(gamma (x - mean) / sqrt(variance + epsilon) + beta), for each channel (Ioffe and
    Szegedy, 2015).

    Args:
        x: (rows, ..., C).
        gamma, beta: (C,); None: 1 and 0.
        mean, variance: (C,), as of other batches; None: x's own, over all axes but the last.
        epsilon: above 0.
        activation: f, "linear" or "relu".
        out: where to write y; must not share memory with an input.

    Returns:
        (y, statistics): y of x's shape, and statistics (5, C), which the backward reads: mean,
        variance (of the population), 1 / sqrt(variance + epsilon), and the factor and summand that
        y is made with.

    Raises:
        ValueError: if a shape does not fit, or an empty batch is to give its mean.
    """
    return _core.batch_norm(x, gamma, beta, mean, variance, epsilon, activation, out)


def batch_normalization_backward(
    dy: Tensor,
    x: Tensor,
    statistics: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    given: bool = False,
    activation: str = "linear",
    out: Gradients = None,
) -> Any:
    """The gradients of `batch_normalization`. With g = dy where y > 0 for relu, else g = dy, and
    z = (x - mean) / deviation, n values to a channel:

    dbeta = sum g, dgamma = sum g z, dx = gamma / deviation (g - dbeta / n - z dgamma / n);
    where mean and variance were given, dx = gamma / deviation g.

    Args:
        dy: gradient of the output, of x's shape.
        x, gamma, beta, activation: as given to `batch_normalization`.
        statistics: as it returned them.
        given: whether mean and variance were given.
        out: None, or (dx, dgamma, dbeta) to write to, each an array or None; dx may be dy.

    Returns:
        (dx, dgamma, dbeta), None for those of gamma and beta where these are None. In a layer,
        where they are its variables: dx alone, or None where nobody wants it; the others are added
        to the variables' gradients.
    """
    return _core.batch_norm_backward(dy, x, statistics, gamma, beta, given, activation, out)


def moving_average(moving: Tensor, value: Tensor, momentum: float = 0.99) -> None:
    """moving = moving * momentum + value * (1 - momentum), in place.

    Args:
        moving: any shape; changed.
        value: of its shape and dtype.
        momentum: from 0 to 1.
    """
    _core.moving_average(moving, value, momentum)
