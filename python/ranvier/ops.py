"""The kernels as functions on NumPy arrays.

Arrays are float32 or float64, the same in all arguments of a call; results have that type. Inputs
that are not C-contiguous, or not in native byte order, are copied; `out` never is, so it must be
contiguous, native and of the result's shape and dtype. Each `*_backward` stands beside its forward
and takes the gradient of the output first. Everything raises ValueError for shapes that do not fit
and TypeError for dtypes, with the op's name, both shapes and the likely mend.

Layers call the same functions with `Buffer`s, the engine's arrays, and get Buffers back; where
`w` or `b` is a layer's variable, its gradient is added to the variable's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ranvier import _core

__all__ = [
    "activation",
    "activation_backward",
    "adam",
    "affine",
    "affine_backward",
    "average_pool",
    "average_pool_backward",
    "batch_normalization",
    "batch_normalization_backward",
    "binary_crossentropy",
    "categorical_crossentropy",
    "concatenate",
    "concatenate_backward",
    "conv1d",
    "conv1d_backward",
    "conv1d_transpose",
    "conv1d_transpose_backward",
    "conv2d",
    "conv2d_backward",
    "conv2d_transpose",
    "conv2d_transpose_backward",
    "cos",
    "dense",
    "dense_backward",
    "depthwise_conv1d",
    "depthwise_conv1d_backward",
    "depthwise_conv2d",
    "depthwise_conv2d_backward",
    "dot",
    "dot_backward",
    "dropout",
    "dropout_backward",
    "erf",
    "exp",
    "expm1",
    "gather",
    "gelu",
    "log",
    "log1p",
    "max_pool",
    "max_pool_backward",
    "mean_absolute_error",
    "mean_squared_error",
    "merge",
    "merge_backward",
    "moving_average",
    "resample",
    "resample_backward",
    "rmsprop",
    "sgd",
    "sigmoid",
    "silu",
    "sin",
    "softmax",
    "softmax_backward",
    "softplus",
    "sparse_categorical_crossentropy",
    "tanh",
    "transpose",
]

# Any: an ndarray gives an ndarray, a Buffer gives a Buffer.
Tensor = Any

# --- dense ----------------------------------------------------------------------------------------


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


# --- activation -----------------------------------------------------------------------------------


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


# --- functions of one number ----------------------------------------------------------------------
#
# Each takes x, of any shape, and `out`, where to write y, which may be x itself; and returns y, of
# x's shape. y is within 2 units in the last place of the true value (float64: 4), for every x. A
# number below the smallest normal one (float32: 1.2e-38) counts as 0, as x and as y. Those that are
# activations have their backward in `activation_backward`.


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


# --- losses ---------------------------------------------------------------------------------------


def mean_squared_error(y_true: Tensor, y_pred: Tensor, *, gradient: bool = False) -> Any:
    """The mean of (y_pred - y_true)^2.

    Args:
        y_true, y_pred: (..., C), the same shape, not empty.
        gradient: return the gradient as well.

    Returns:
        The loss, a float; with gradient=True the pair (loss, d loss / d y_pred).
    """
    return _core.mean_squared_error(y_true, y_pred, False, gradient)


def mean_absolute_error(y_true: Tensor, y_pred: Tensor, *, gradient: bool = False) -> Any:
    """The mean of |y_pred - y_true|; its slope at 0 is 0.

    Arguments and result as in `mean_squared_error`.
    """
    return _core.mean_absolute_error(y_true, y_pred, False, gradient)


def binary_crossentropy(
    y_true: Tensor, y_pred: Tensor, *, from_logits: bool = False, gradient: bool = False
) -> Any:
    """The mean of -(t log p + (1 - t) log(1 - p)).

    Args:
        y_true: (..., C), t, from 0 to 1.
        y_pred: (..., C), p, which is clipped to [1e-7, 1 - 1e-7] and has no slope where it is; or
            logits.
        from_logits: y_pred holds logits z, p = sigmoid(z).
        gradient: return the gradient as well.

    Returns:
        The loss, a float; with gradient=True the pair (loss, d loss / d y_pred).
    """
    return _core.binary_crossentropy(y_true, y_pred, from_logits, gradient)


def categorical_crossentropy(
    y_true: Tensor, y_pred: Tensor, *, from_logits: bool = False, gradient: bool = False
) -> Any:
    """The mean over the rows of -sum t log p.

    Args:
        y_true: (..., C), t, a distribution over the classes in each row.
        y_pred: (..., C), p, which is divided by its row's sum and clipped to [1e-7, 1 - 1e-7]; or
            logits.
        from_logits: y_pred holds logits z, p = softmax(z), computed as one with the loss.
        gradient: return the gradient as well.

    Returns:
        The loss, a float; with gradient=True the pair (loss, d loss / d y_pred).
    """
    return _core.categorical_crossentropy(y_true, y_pred, from_logits, gradient)


def sparse_categorical_crossentropy(
    y_true: Tensor, y_pred: Tensor, *, from_logits: bool = False, gradient: bool = False
) -> Any:
    """`categorical_crossentropy` for labels: the mean over the rows of -log p[label].

    Args:
        y_true: (...,), integers from 0 to C - 1; anything else is a ValueError.
        y_pred, from_logits, gradient: as in `categorical_crossentropy`.

    Returns:
        The loss, a float; with gradient=True the pair (loss, d loss / d y_pred).
    """
    return _core.sparse_categorical_crossentropy(y_true, y_pred, from_logits, gradient)


# --- optimizers -----------------------------------------------------------------------------------


def _state(learning_rate: float) -> np.ndarray:
    """What the optimizer kernels read: learning rate, beta powers, Adam's rate, step."""
    return np.array([learning_rate, 1.0, 1.0, 0.0, 0.0])


def _check_decay(op: str, weight_decay: float) -> None:
    if not 0 <= weight_decay < float("inf"):
        raise ValueError(f"[{op}] weight_decay must be a number >= 0; received {weight_decay!r}")


def sgd(
    p: np.ndarray,
    g: np.ndarray,
    *,
    learning_rate: float = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
    velocity: np.ndarray | None = None,
    weight_decay: float = 0.0,
) -> None:
    """Gradient descent, in place: p -= learning_rate g.

    With momentum: velocity = momentum velocity - learning_rate g and p += velocity, or with
    Nesterov's look ahead p += momentum velocity - learning_rate g (Sutskever et al., 2013).

    Args:
        p: parameters, any shape, contiguous; changed.
        g: their gradient.
        velocity: as p, zero at first, changed; needed for momentum.
        weight_decay: first p -= learning_rate * weight_decay * p (Loshchilov and Hutter, 2019).
    """
    _check_decay("sgd", weight_decay)
    if momentum and velocity is None:
        raise ValueError("[sgd] momentum needs velocity, an array of zeros like p")
    velocity = velocity if momentum else None
    state = _state(learning_rate)
    _core.sgd(p, g, velocity, state, momentum, nesterov, weight_decay=weight_decay)


def rmsprop(
    p: np.ndarray,
    g: np.ndarray,
    v: np.ndarray,
    *,
    learning_rate: float = 0.001,
    rho: float = 0.9,
    epsilon: float = 1e-7,
    momentum: float = 0.0,
    velocity: np.ndarray | None = None,
    weight_decay: float = 0.0,
) -> None:
    """RMSprop, in place (Hinton, lecture 6e, 2012, with Keras's place for epsilon).

    v = rho v + (1 - rho) g^2; step = learning_rate g / sqrt(v + epsilon); p -= step, or with
    momentum velocity = momentum velocity + step and p -= velocity.

    Args:
        p: parameters, any shape, contiguous; changed.
        g: their gradient.
        v: as p, zero at first; changed.
        velocity: as p, zero at first, changed; needed for momentum.
        weight_decay: first p -= learning_rate * weight_decay * p (Loshchilov and Hutter, 2019).
    """
    _check_decay("rmsprop", weight_decay)
    if momentum and velocity is None:
        raise ValueError("[rmsprop] momentum needs velocity, an array of zeros like p")
    velocity = velocity if momentum else None
    state = _state(learning_rate)
    _core.rmsprop(p, g, v, velocity, state, rho, momentum, epsilon, weight_decay=weight_decay)


def adam(
    p: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    *,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float = 0.0,
) -> None:
    """Adam, in place (Kingma and Ba, 2015, with epsilon added as Keras does).

    m += (1 - beta_1)(g - m); v += (1 - beta_2)(g^2 - v);
    p -= learning_rate sqrt(1 - beta_2^step) / (1 - beta_1^step) m / (sqrt(v) + epsilon).

    Args:
        p: parameters, any shape, contiguous; changed.
        g: their gradient.
        m, v: as p, zero at first; changed.
        step: 1 for the first update.
        weight_decay: first p -= learning_rate * weight_decay * p (AdamW:
            Loshchilov and Hutter, 2019).
    """
    _check_decay("adam", weight_decay)
    if step < 1:
        raise ValueError(f"[adam] step counts from 1; received {step}")
    state = _state(learning_rate)
    state[1:3] = beta_1 ** (step - 1), beta_2 ** (step - 1)
    _core.tick(state, beta_1, beta_2)
    _core.adam(p, g, m, v, state, beta_1, beta_2, epsilon, weight_decay=weight_decay)


# --- data -----------------------------------------------------------------------------------------


def gather(
    source: np.ndarray,
    indices: ArrayLike,
    *,
    dtype: DTypeLike | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Rows of an array, converted: source[indices].astype(dtype) in one pass.

    Args:
        source: (n, ...), of any integer, bool or float type.
        indices: (k,), integers from 0 to n - 1; IndexError otherwise.
        dtype: float32, float64 or int32; None is float64 for float64 sources, else float32.
        out: where to write the rows.

    Returns:
        (k, ...), of dtype.
    """
    return _core.gather(
        source, np.asarray(indices), None if dtype is None else np.dtype(dtype), out
    )


def affine(
    x: Tensor,
    scale: ArrayLike | Tensor | None = None,
    offset: ArrayLike | Tensor | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """y = x * scale + offset.

    Args:
        x: (..., C).
        scale, offset: one number, or (C,): one for each column; None is 1 and 0.
        out: where to write y; may be x itself.

    Returns:
        y, of x's shape.
    """
    return _core.affine(x, _like(scale, x), _like(offset, x), out)


def affine_backward(
    dy: Tensor, scale: ArrayLike | Tensor | None = None, *, out: Tensor | None = None
) -> Tensor:
    """dx = dy * scale; arguments as in `affine`."""
    return _core.affine_backward(dy, _like(scale, dy), out)


def _like(value: Any, x: Tensor) -> Any:
    """A plain number takes x's dtype."""
    if isinstance(value, (int, float)):
        return np.asarray(value, getattr(x, "dtype", None))
    return value


# --- dropout --------------------------------------------------------------------------------------


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


# --- merge ----------------------------------------------------------------------------------------


def merge(a: Tensor, b: Tensor, how: str, *, out: Tensor | None = None) -> Tensor:
    """y = a + b, a - b, a b, max(a, b) or min(a, b), element by element.

    Args:
        a, b: of one number of dimensions, and equal but for axes of size 1, which are repeated.
        how: "add", "subtract", "multiply", "maximum" or "minimum"; the last two give NaN where one
            is NaN.
        out: where to write y; may be an input of y's shape.

    Returns:
        y, of the shape that both are repeated to.
    """
    return _core.merge(a, b, how, out)


def merge_backward(
    dy: Tensor,
    a: Tensor,
    b: Tensor,
    how: str,
    *,
    out: tuple[Tensor | None, Tensor | None] | None = None,
) -> tuple[Tensor, Tensor]:
    """The gradients of `merge`; where a and b are equal, a has all of a maximum's or minimum's.

    Args:
        dy: gradient of the output.
        a, b, how: as given to `merge`.
        out: None, or (da, db) to write to, each an array or None.

    Returns:
        (da, db), of the shapes of a and b: summed over the axes that were repeated.
    """
    return _core.merge_backward(dy, a, b, how, out)


def concatenate(xs: Sequence[Tensor], axis: int = -1, *, out: Tensor | None = None) -> Tensor:
    """Arrays one behind the other along an axis.

    Args:
        xs: one or more, of equal shapes but for that axis.
        axis: from -rank to rank - 1.
        out: where to write the result; must not share memory with an input.

    Returns:
        All of them in one.
    """
    return _core.concatenate(xs, axis, out)


def concatenate_backward(dy: Tensor, xs: Sequence[Tensor], axis: int = -1) -> list[Tensor]:
    """The parts of dy that belong to each of xs.

    Args:
        dy: gradient of the output.
        xs, axis: as given to `concatenate`.

    Returns:
        A list of gradients, of the shapes of xs.
    """
    return _core.concatenate_backward(dy, xs, axis)


def dot(
    a: Tensor, b: Tensor, axes: int | tuple[int, int] = -1, *, out: Tensor | None = None
) -> Tensor:
    """For each sample the sum of products along one axis of a and one of b.

    Args:
        a: (samples, ...), at least two dimensions.
        b: (samples, ...), at least two dimensions.
        axes: (axis of a, axis of b), or one number for both: equally long, and each the first or
            the last after the samples.
        out: where to write the result; must not share memory with an input.

    Returns:
        (samples, a's other axes ..., b's other axes ...); (samples, 1) if there are none.
    """
    return _core.dot(a, b, *_pair(axes), out)


def dot_backward(
    dy: Tensor, a: Tensor, b: Tensor, axes: int | tuple[int, int] = -1
) -> tuple[Tensor, Tensor]:
    """The gradients of `dot`.

    Args:
        dy: gradient of the output.
        a, b, axes: as given to `dot`.

    Returns:
        (da, db), of the shapes of a and b.
    """
    return _core.dot_backward(dy, a, b, *_pair(axes))


def _pair(axes: int | tuple[int, int]) -> tuple[int, int]:
    return (axes, axes) if isinstance(axes, int) else axes


# --- convolution ----------------------------------------------------------------------------------

Steps = int | tuple[int, int]  # one for both axes, or (height, width)
# "valid", "same", (left, right) or ((top, bottom), (left, right))
Padding = str | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None] | None


def conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    groups: int = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """y = f(x * w + b), a cross-correlation over the image, as in Keras and PyTorch:

    y[n, i, j, f] = sum over kh, kw, c of x[n, i s - p + kh d, j s - p + kw d, c] w[kh, kw, c, f],
    with stride s, dilation d, p zeros before the image. Then b is added, and f applied.

    Args:
        x: (B, H, W, C), channels last.
        w: (KH, KW, C / groups, F).
        b: (F,), or None for no bias.
        strides: s, one or (height, width).
        padding: "valid" (no zeros), "same" (ceil(H / s) outputs; of an odd number of zeros the
            larger half stands at bottom and right) or ((top, bottom), (left, right)).
        dilation: d, one or (height, width).
        groups: in how many groups channels and filters fall; a group's filters see its channels.
        activation, alpha: f, as in `dense`; softmax is over the filters.
        out: where to write y; must not share memory with an input.

    Returns:
        y, (B, OH, OW, F) with OH = (H + top + bottom - (KH - 1) d - 1) // s + 1.
    """
    return _core.conv2d(x, w, b, strides, padding, dilation, groups, None, activation, alpha, out)


def conv2d_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    groups: int = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Gradients = None,
) -> Tensor:
    """The three gradients of `conv2d`, with dz = dy f'(x * w + b):

    dx[n, i s - p + kh d, j s - p + kw d, c] += dz[n, i, j, f] w[kh, kw, c, f],
    dw[kh, kw, c, f] += dz[n, i, j, f] x[n, i s - p + kh d, j s - p + kw d, c],
    db = the sum of dz over all pixels.

    Args:
        dy: (B, OH, OW, F), gradient of the output.
        x, w, b, strides, padding, dilation, groups, activation, alpha: as given to `conv2d`.
        y: (B, OH, OW, F), what `conv2d` returned; not read for linear.
        out: None, or (dx, dw, db) to write to, each an array or None.

    Returns:
        (dx, dw, db), db None where there is no bias. In a layer, where w and b are its variables:
        dx alone, or None where nobody wants it; dw and db are added to the variables' gradients.
    """
    return _core.conv2d_backward(
        dy, x, y, w, b, strides, padding, dilation, groups, None, activation, alpha, out
    )


def conv1d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
    groups: int = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`conv2d` in one dimension.

    Args:
        x: (B, L, C).
        w: (K, C / groups, F).
        padding: "valid", "same" or (left, right); (K - 1) d zeros at the left make it causal.
        b, strides, dilation, groups, activation, alpha, out: as in `conv2d`.

    Returns:
        y, (B, OL, F).
    """
    return _core.conv1d(x, w, b, strides, padding, dilation, groups, None, activation, alpha, out)


def conv1d_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
    groups: int = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Gradients = None,
) -> Tensor:
    """The gradients of `conv1d`, as `conv2d_backward` gives those of `conv2d`."""
    return _core.conv1d_backward(
        dy, x, y, w, b, strides, padding, dilation, groups, None, activation, alpha, out
    )


def depthwise_conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`conv2d` of each channel by itself: filter c M + m sees channel c only.

    Args:
        x: (B, H, W, C).
        w: (KH, KW, C, M), M filters for each channel.
        b: (C M,), or None for no bias.
        strides, padding, dilation, activation, alpha, out: as in `conv2d`.

    Returns:
        y, (B, OH, OW, C M).
    """
    return _core.depthwise_conv2d(
        x, w, b, strides, padding, dilation, 1, None, activation, alpha, out
    )


def depthwise_conv2d_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Gradients = None,
) -> Tensor:
    """The gradients of `depthwise_conv2d`, as `conv2d_backward` gives those of `conv2d`."""
    return _core.depthwise_conv2d_backward(
        dy, x, y, w, b, strides, padding, dilation, 1, None, activation, alpha, out
    )


def depthwise_conv1d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`depthwise_conv2d` in one dimension: x (B, L, C), w (K, C, M), y (B, OL, C M)."""
    return _core.depthwise_conv1d(
        x, w, b, strides, padding, dilation, 1, None, activation, alpha, out
    )


def depthwise_conv1d_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Gradients = None,
) -> Tensor:
    """The gradients of `depthwise_conv1d`, as `conv2d_backward` gives those of `conv2d`."""
    return _core.depthwise_conv1d_backward(
        dy, x, y, w, b, strides, padding, dilation, 1, None, activation, alpha, out
    )


def conv2d_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    output_padding: Steps | None = None,
    activation: str = "linear",
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The transposed convolution: the gradient with respect to its input of the `conv2d` that has
    these strides, padding and dilation, as a forward pass.

    y[n, i s - p + kh d, j s - p + kw d, f] = sum over i, j, c of x[n, i, j, c] w[kh, kw, f, c].
    Then b is added, and the activation applied.

    Args:
        x: (B, H, W, C), channels last.
        w: (KH, KW, F, C): filters before channels, as in Keras.
        b: (F,), or None for no bias.
        strides, dilation: one or (height, width).
        padding: "valid", "same" (H s rows) or ((top, bottom), (left, right)), what is cut off.
        output_padding: rows and columns added at bottom and right, one or (height, width); with
            "same" the result then has (H - 1) s + K - 2 (K // 2) + output_padding rows, where
            K = (KH - 1) d + 1. None: as many as Keras makes by itself.
        activation, alpha, out: as in `conv2d`.

    Returns:
        y, (B, OH, OW, F); "valid": OH = H s + max(K - s, 0).
    """
    return _core.conv2d_transpose(
        x, w, b, strides, padding, dilation, 1, output_padding, activation, alpha, out
    )


def conv2d_transpose_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    output_padding: Steps | None = None,
    activation: str = "linear",
    alpha: float | None = None,
    out: Gradients = None,
) -> Tensor:
    """The gradients of `conv2d_transpose`, as `conv2d_backward` gives those of `conv2d`."""
    return _core.conv2d_transpose_backward(
        dy, x, y, w, b, strides, padding, dilation, 1, output_padding, activation, alpha, out
    )


def conv1d_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
    output_padding: int | None = None,
    activation: str = "linear",
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`conv2d_transpose` in one dimension: x (B, L, C), w (K, F, C), y (B, OL, F)."""
    return _core.conv1d_transpose(
        x, w, b, strides, padding, dilation, 1, output_padding, activation, alpha, out
    )


def conv1d_transpose_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
    output_padding: int | None = None,
    activation: str = "linear",
    alpha: float | None = None,
    out: Gradients = None,
) -> Tensor:
    """The gradients of `conv1d_transpose`, as `conv2d_backward` gives those of `conv2d`."""
    return _core.conv1d_transpose_backward(
        dy, x, y, w, b, strides, padding, dilation, 1, output_padding, activation, alpha, out
    )


# --- transpose ------------------------------------------------------------------------------------


def transpose(x: Tensor, axes: Sequence[int], *, out: Tensor | None = None) -> Tensor:
    """The axes of x in another order: y's axis i is x's axis axes[i]. Its gradient goes back by
    the opposite order.

    Args:
        x: any shape.
        axes: each of x's axes once.
        out: where to write y; must not share memory with x.

    Returns:
        y, C-contiguous.
    """
    return _core.transpose(x, axes, out)


# --- augment --------------------------------------------------------------------------------------


def resample(
    x: Tensor,
    matrices: ArrayLike | Tensor,
    size: tuple[int, int] | None = None,
    *,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    out: Tensor | None = None,
) -> Tensor:
    """Images whose pixels come from elsewhere: turned, shifted, resized, ...

    Pixel (i, j) of y is x at (m0 i + m1 j + m2, m3 i + m4 j + m5).

    Args:
        x: (B, H, W, C).
        matrices: (B, 6) float64, m of each image, or (1, 6) for all.
        size: (height, width) of the result; None: as x.
        interpolation: "bilinear", of the four pixels around, or "nearest".
        fill_mode: what is beyond the edges: "constant" (fill_value), "nearest" (a a | a b c | c c),
            "reflect" (b a | a b c | c b) or "wrap" (b c | a b c | a b).
        fill_value: for "constant".
        out: where to write y; must not share memory with x.

    Returns:
        y, (B, height, width, C).
    """
    size = x.shape[1:3] if size is None else size
    return _core.resample(
        x, _matrices(matrices), size, interpolation, fill_mode, float(fill_value), out
    )


def resample_backward(
    dy: Tensor,
    matrices: ArrayLike | Tensor,
    shape: Sequence[int],
    *,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    out: Tensor | None = None,
) -> Tensor:
    """The gradient of `resample`: each dy goes back to the pixels that its y was mixed of.

    Args:
        dy: (B, height, width, C), gradient of the output.
        matrices, interpolation, fill_mode: as given to `resample`.
        shape: x's, (B, H, W, C).
        out: where to write dx.

    Returns:
        dx, of that shape.
    """
    return _core.resample_backward(dy, _matrices(matrices), shape, interpolation, fill_mode, out)


def _matrices(given: Any) -> Any:
    return given if isinstance(given, _core.Buffer) else np.asarray(given, np.float64)


# --- pooling --------------------------------------------------------------------------------------

Sizes = int | Sequence[int]  # one for all axes of the image, or one for each


def max_pool(
    x: Tensor,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    *,
    argmax: bool = False,
    out: Tensor | None = None,
) -> Any:
    """The largest of each window: y[n, i, j, c] = max over kh, kw of x[n, i s + kh, j s + kw, c].

    Args:
        x: (B, L, C) or (B, H, W, C), channels last.
        pool_size: the window, one number or one for each axis.
        strides: s, from one window to the next; None: pool_size.
        padding: "valid" (windows inside the image) or "same" (ceil(H / s) windows, of which what
            lies outside does not count).
        argmax: whether to return also where in its window each largest is, which
            `max_pool_backward` needs.
        out: where to write y; must not share memory with x.

    Returns:
        y, (B, OL, C) or (B, OH, OW, C), with OH = (H - KH) // s + 1 for "valid". NaN where the
        window holds one. With argmax (y, where): where is kh * KW + kw, the first of equal ones,
        uint8, or int32 for windows of more than 256 elements.

    Raises:
        ValueError: if the window is larger than the image, or an argument is none of the above.
    """
    return _core.max_pool(x, pool_size, strides, padding, argmax, out)


def max_pool_backward(
    dy: Tensor,
    x: Tensor,
    where: Tensor,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    *,
    y: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """dx of `max_pool`: each dy goes to the largest of its window.

    Args:
        dy: gradient of the output, of its shape.
        x, pool_size, strides, padding: as given to `max_pool`; of x only the shape is used.
        where: as `max_pool` returned it.
        y: the output, for layers: where x is an activation's output, dx is taken through that in
            the same pass, because y tells the slope.
        out: where to write dx; must not share memory with dy.

    Returns:
        dx, of x's shape.
    """
    return _core.max_pool_backward(dy, x, y, where, pool_size, strides, padding, out)


def average_pool(
    x: Tensor,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    *,
    out: Tensor | None = None,
) -> Tensor:
    """The mean of each window, of what lies inside the image; arguments as in `max_pool`."""
    return _core.average_pool(x, pool_size, strides, padding, out)


def average_pool_backward(
    dy: Tensor,
    x: Tensor,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    *,
    out: Tensor | None = None,
) -> Tensor:
    """dx of `average_pool`: each dy is shared out evenly among its window.

    Args:
        dy: gradient of the output, of its shape.
        x, pool_size, strides, padding: as given to `average_pool`; of x only the shape is used.
        out: where to write dx; must not share memory with dy.

    Returns:
        dx, of x's shape.
    """
    return _core.average_pool_backward(dy, x, pool_size, strides, padding, out)


# --- batch normalization --------------------------------------------------------------------------


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
