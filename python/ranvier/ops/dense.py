"""Dense layers: a matrix product, a bias and an activation."""

from __future__ import annotations

from ranvier import _core
from ranvier.ops.tensor import Tensor


def dense(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    activation: str = "linear",
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """y = f(x w + b).

    Views of two dimensions, such as `w.T` or some columns of a larger array, are read where they
    lie. Products of up to four rows by a transposed w, and the gradients of views of 4096 rows or
    more, add up in an order of their own, which may change their last bits.

    Args:
        x: (..., K), at least two dimensions.
        w: (K, N).
        b: (N,), or None for no bias.
        activation: f, one of linear, relu, leaky_relu, sigmoid, tanh, softmax, elu, selu, gelu,
            gelu_tanh, silu, softplus, exponential, hard_sigmoid, cap.
        alpha: slope of leaky_relu (0.2 if None), scale of elu or bound of cap (1.0 if None).
        out: where to write y; must not share memory with an input.

    Returns:
        y, (..., N).
    """
    return _core.dense(x, w, b, activation, alpha, out)


def dense_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    *,
    activation: str = "linear",
    alpha: float | None = None,
    out: tuple[Tensor | None, Tensor | None, Tensor | None] | None = None,
) -> Tensor:
    """The three gradients of `dense`, with dz = dy f'(x w + b):

    dx = dz w^T, dw = x^T dz, db = the sum of dz's rows.

    Args:
        dy: (..., N), gradient of the output.
        x, w, b, activation, alpha: as given to `dense`.
        y: (..., N), what `dense` returned; not read for linear.
        out: None, or (dx, dw, db) to write to, each an array or None.

    Returns:
        (dx, dw, db), db None where there is no bias. In a layer, where w and b are its variables:
        dx alone, or None where nobody wants it; dw and db are added to the variables' gradients.
    """
    return _core.dense_backward(dy, x, y, w, b, activation, alpha, out)
