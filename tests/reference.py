"""Float64 oracles for `ranvier.ops`: the plainest correct NumPy, each backward beside its forward.

The names and argument orders are those of `ranvier.ops`, so a test calls both with the same
arguments. Every argument is converted to float64 first. Differences from the ops: there is no
`out=`, nothing is changed in place (optimizers return the new arrays), and the `y` handed to a
backward is not used, so that a wrong `y` cannot hide a wrong derivative.

`test_reference.py` compares every backward here with central differences of its forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray
PROBABILITY_EPSILON = 1e-7  # cross-entropies clip probabilities to [1e-7, 1 - 1e-7]
DEFAULT_ALPHA = {"leaky_relu": 0.2, "elu": 1.0}
# Klambauer et al., "Self-normalizing neural networks" (2017): fixed point of mean 0, variance 1
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


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


# ---- activations: name -> (value, derivative) of one number ----------------------------------

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def sigmoid(x):
    return np.exp(-np.logaddexp(0.0, -x))  # 1 / (1 + exp(-x)) without its overflow


def normal_cdf(x):
    return 0.5 * _erfc(-x / math.sqrt(2.0))


def normal_pdf(x):
    return np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_derivative(x, alpha):
    return np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0)))


def silu_derivative(x):
    return sigmoid(x) * (1 + x * sigmoid(-x))


def hard_sigmoid_derivative(x):
    return np.where((x > -3) & (x < 3), 1 / 6, 0.0)


POINTWISE = {
    "linear": (lambda x, a: x, lambda x, a: np.ones_like(x)),
    "relu": (lambda x, a: np.maximum(x, 0), lambda x, a: np.where(x > 0, 1.0, 0.0)),
    "leaky_relu": (lambda x, a: np.where(x > 0, x, a * x), lambda x, a: np.where(x > 0, 1.0, a)),
    "sigmoid": (lambda x, a: sigmoid(x), lambda x, a: sigmoid(x) * sigmoid(-x)),
    "tanh": (lambda x, a: np.tanh(x), lambda x, a: 1 - np.tanh(x) ** 2),
    "elu": (elu, elu_derivative),
    "selu": (
        lambda x, a: SELU_SCALE * elu(x, SELU_ALPHA),
        lambda x, a: SELU_SCALE * elu_derivative(x, SELU_ALPHA),
    ),
    "gelu": (lambda x, a: x * normal_cdf(x), lambda x, a: normal_cdf(x) + x * normal_pdf(x)),
    "silu": (lambda x, a: x * sigmoid(x), lambda x, a: silu_derivative(x)),
    "softplus": (lambda x, a: np.logaddexp(0.0, x), lambda x, a: sigmoid(x)),
    "exponential": (lambda x, a: np.exp(x), lambda x, a: np.exp(x)),
    "hard_sigmoid": (
        lambda x, a: np.clip(x / 6 + 0.5, 0, 1),
        lambda x, a: hard_sigmoid_derivative(x),
    ),
}
ACTIVATIONS = (*POINTWISE, "softmax")


def softmax(x):
    x = f64(x)
    if x.size == 0:
        return np.zeros_like(x)
    with np.errstate(over="ignore"):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(dy, y):
    dy, y = f64(dy), f64(y)
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def activation(x, name, *, alpha=None):
    if name == "softmax":
        return softmax(x)
    alpha = DEFAULT_ALPHA.get(name) if alpha is None else alpha
    with np.errstate(over="ignore"):
        return POINTWISE[name][0](f64(x), alpha)


def activation_backward(dy, x, y, name, *, alpha=None):
    if name == "softmax":
        return softmax_backward(dy, softmax(x))
    alpha = DEFAULT_ALPHA.get(name) if alpha is None else alpha
    with np.errstate(over="ignore"):
        return f64(dy) * POINTWISE[name][1](f64(x), alpha)


_activation = activation  # `dense` has an argument of that name


# ---- dense -----------------------------------------------------------------------------------


def linear(x, w, b=None):
    z = f64(x) @ f64(w)
    return z if b is None else z + f64(b)


def dense(x, w, b=None, *, activation="linear", alpha=None):
    return _activation(linear(x, w, b), activation, alpha=alpha)


def dense_backward(dy, x, y, w, b=None, *, activation="linear", alpha=None):
    dz = activation_backward(dy, linear(x, w, b), y, activation, alpha=alpha)
    x, w = f64(x), f64(w)
    dz_rows = dz.reshape(math.prod(dz.shape[:-1]), dz.shape[-1])
    x_rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return dz @ w.T, x_rows.T @ dz_rows, None if b is None else dz_rows.sum(axis=0)


# ---- losses: (value, d value / d y_pred) -----------------------------------------------------


def _mean_over_rows(per_row, gradient_of_sum, gradient):
    rows = max(per_row.size, 1)
    value = float(per_row.sum() / rows)
    return (value, gradient_of_sum / rows) if gradient else value


def mean_squared_error(y_true, y_pred, *, gradient=False):
    difference = f64(y_pred) - f64(y_true)
    columns = difference.shape[-1]
    per_row = (difference**2).sum(axis=-1) / columns
    return _mean_over_rows(per_row, 2 * difference / columns, gradient)


def mean_absolute_error(y_true, y_pred, *, gradient=False):
    difference = f64(y_pred) - f64(y_true)
    columns = difference.shape[-1]
    per_row = np.abs(difference).sum(axis=-1) / columns
    return _mean_over_rows(per_row, np.sign(difference) / columns, gradient)


def _clip_probability(p, dtype):
    """`p` clipped, and 1 where the clip left it alone (there its derivative passes).

    The bounds are as the dtype of y_pred holds them: in float32 1 - 1e-7 is 1 - 2^-23.
    """
    low, one = dtype.type(PROBABILITY_EPSILON), dtype.type(1)
    clipped = np.clip(p, float(low), float(one - low))
    return clipped, np.where(clipped == p, 1.0, 0.0)


def binary_crossentropy(y_true, y_pred, *, from_logits=False, gradient=False):
    t, p = f64(y_true), f64(y_pred)
    columns = p.shape[-1]
    if from_logits:
        # -t log s(z) - (1 - t) log(1 - s(z)), with -log s(z) = softplus(-z)
        loss = t * np.logaddexp(0.0, -p) + (1 - t) * np.logaddexp(0.0, p)
        d_loss = sigmoid(p) - t
    else:
        p, passes = _clip_probability(p, np.asarray(y_pred).dtype)
        loss = -(t * np.log(p) + (1 - t) * np.log(1 - p))
        d_loss = passes * ((1 - t) / (1 - p) - t / p)
    return _mean_over_rows(loss.sum(axis=-1) / columns, d_loss / columns, gradient)


def categorical_crossentropy(y_true, y_pred, *, from_logits=False, gradient=False):
    t, p = f64(y_true), f64(y_pred)
    if from_logits:
        shifted = p - p.max(axis=-1, keepdims=True, initial=-np.inf)
        log_sum = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        per_row = -(t * (shifted - log_sum)).sum(axis=-1)
        d_rows = softmax(p) * t.sum(axis=-1, keepdims=True) - t
    else:
        total = p.sum(axis=-1, keepdims=True)
        q = p / total
        c, passes = _clip_probability(q, np.asarray(y_pred).dtype)
        per_row = -(t * np.log(c)).sum(axis=-1)
        dq = -passes * t / c
        d_rows = (dq - (dq * q).sum(axis=-1, keepdims=True)) / total  # q = p / sum(p)
    return _mean_over_rows(per_row, d_rows, gradient)


def one_hot(labels, classes):
    return np.eye(classes)[np.asarray(labels).astype(np.int64)]


def sparse_categorical_crossentropy(y_true, y_pred, *, from_logits=False, gradient=False):
    return categorical_crossentropy(
        one_hot(y_true, np.shape(y_pred)[-1]), y_pred, from_logits=from_logits, gradient=gradient
    )


# ---- optimizers: the new values, in the order of the arguments that change -------------------


def sgd(p, g, *, learning_rate=0.01, momentum=0.0, nesterov=False, velocity=None):
    p, g = f64(p), f64(g)
    v = momentum * (np.zeros_like(p) if velocity is None else f64(velocity)) - learning_rate * g
    return p + (momentum * v - learning_rate * g if nesterov else v), v


def rmsprop(p, g, v, *, learning_rate=0.001, rho=0.9, epsilon=1e-7, momentum=0.0, velocity=None):
    p, g = f64(p), f64(g)
    v = rho * f64(v) + (1 - rho) * g**2
    increment = learning_rate * g / np.sqrt(v + epsilon)
    velocity = momentum * (np.zeros_like(p) if velocity is None else f64(velocity)) + increment
    return p - velocity, v, velocity


def adam(p, g, m, v, *, step, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """Kingma and Ba, "Adam" (2015), in the form at the end of their section 2."""
    p, g, m, v = f64(p), f64(g), f64(m), f64(v)
    m = m + (g - m) * (1 - beta_1)
    v = v + (g**2 - v) * (1 - beta_2)
    rate = learning_rate * math.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    return p - rate * m / (np.sqrt(v) + epsilon), m, v


# ---- data ------------------------------------------------------------------------------------


def gather(source, indices, *, dtype=None):
    """Unlike the other oracles this one keeps the dtype: the conversion is what it checks."""
    source = np.asarray(source)
    if dtype is None:
        dtype = np.float64 if source.dtype == np.float64 else np.float32
    with np.errstate(over="ignore"):
        return np.stack([source[i] for i in indices]).astype(dtype)


def dropout(x, rate, keep):
    """`keep` (bool, of x's shape) stands for the mask that the op draws from seed and counter."""
    return np.where(keep, f64(x) / (1 - rate), 0.0)


def dropout_backward(dy, rate, keep):
    return np.where(keep, f64(dy) / (1 - rate), 0.0)


def affine(x, scale, offset):
    return f64(x) * f64(scale) + f64(offset)


def affine_backward(dy, scale):
    return f64(dy) * f64(scale)


# ---- merge -----------------------------------------------------------------------------------

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
