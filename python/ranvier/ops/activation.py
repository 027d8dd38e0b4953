"""Activations with their slopes, and functions of one number."""

from __future__ import annotations

from ranvier import _core
from ranvier.ops.tensor import Tensor


def activation(
    x: Tensor, name: str, *, alpha: float | None = None, out: Tensor | None = None
) -> Tensor:
    """y = f(x), element by element (softmax: over the last axis).

    Args:
        x: any shape.
        name: f, as in `dense`. gelu is x * (1 + erf(x / sqrt 2)) / 2, and gelu_tanh its
            approximation; hard_sigmoid is x / 6 + 1/2 cut to [0, 1]; cap is min(x, alpha).
        alpha: as in `dense`.
        out: where to write y; may be x itself.

    Returns:
        y, of x's shape.
    """
    return _core.activation(x, name, alpha, out)


def activation_backward(
    dy: Tensor,
    x: Tensor | None,
    y: Tensor | None,
    name: str,
    *,
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """dx = dy f'(x).

    Args:
        dy: gradient of the output.
        x: the forward's input, of dy's shape; read for gelu, gelu_tanh and silu only, else may be
            None.
        y: the forward's output, of dy's shape; read for all others.
        name, alpha: as given to `activation`.
        out: where to write dx; may be dy itself.

    Returns:
        dx, of dy's shape.
    """
    return _core.activation_backward(dy, x, y, name, alpha, out)


def softmax(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y = e^(x - max x) / sum e^(x - max x) over the last axis.

    Args:
        x: (..., C).
        out: where to write y; may be x itself.

    Returns:
        y, of x's shape; each row sums to 1.
    """
    return _core.softmax(x, out)


def softmax_backward(dy: Tensor, y: Tensor, *, out: Tensor | None = None) -> Tensor:
    """dx = y (dy - sum(dy y)) over the last axis.

    Args:
        dy: (..., C), gradient of the output.
        y: what `softmax` returned.
        out: where to write dx; may be dy itself.

    Returns:
        dx, of dy's shape.
    """
    return _core.softmax_backward(dy, y, out)


# Functions of one number. Each takes x, of any shape, and `out`, where to write y, which may be x
# itself; and returns y, of x's shape. y is within 2 units in the last place of the true value
# (float64: 4), for every x. A number below the smallest normal one (float32: 1.2e-38) counts as 0,
# as x and as y. Those that are activations have their backward in `activation_backward`.


def exp(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y = e^x, the activation "exponential"."""
    return _core.activation(x, "exponential", None, out)


def expm1(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y = e^x - 1, without cancellation near 0."""
    return _core.function(x, "expm1", out)


def log(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y = log x; -inf at 0, NaN below."""
    return _core.function(x, "log", out)


def log1p(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y = log(1 + x), without cancellation near 0; -inf at -1, NaN below."""
    return _core.function(x, "log1p", out)


def sin(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y = sin x, x in radians and of any size; NaN at infinity."""
    return _core.function(x, "sin", out)


def cos(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y = cos x, x in radians and of any size; NaN at infinity."""
    return _core.function(x, "cos", out)


def erf(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y = 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    return _core.function(x, "erf", out)


def tanh(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y = (e^x - e^-x) / (e^x + e^-x), the activation "tanh"."""
    return _core.activation(x, "tanh", None, out)


def sigmoid(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y = 1 / (1 + e^-x), the activation "sigmoid"."""
    return _core.activation(x, "sigmoid", None, out)


def softplus(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y = log(1 + e^x), the activation "softplus"."""
    return _core.activation(x, "softplus", None, out)


def silu(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y = x / (1 + e^-x), the activation "silu"."""
    return _core.activation(x, "silu", None, out)


def gelu(x: Tensor, *, approximate: bool = False, out: Tensor | None = None) -> Tensor:
    """y = x * (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel, 2016), the activation "gelu".

    Args:
        approximate: y = x * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, the activation
            "gelu_tanh".
    """
    return _core.activation(x, "gelu_tanh" if approximate else "gelu", None, out)
