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


GELU_RATE = math.sqrt(8 / math.pi)  # Hendrycks and Gimpel, "Gaussian error linear units" (2016)


def gelu_tanh(x):
    return x * sigmoid(GELU_RATE * (x + 0.044715 * x**3))


def gelu_tanh_derivative(x):
    s = sigmoid(GELU_RATE * (x + 0.044715 * x**3))
    other = sigmoid(-GELU_RATE * (x + 0.044715 * x**3))
    return s + x * s * other * GELU_RATE * (1 + 3 * 0.044715 * x**2)


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
    "gelu_tanh": (lambda x, a: gelu_tanh(x), lambda x, a: gelu_tanh_derivative(x)),
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


def decayed(p, learning_rate, weight_decay):
    """Loshchilov and Hutter, "Decoupled weight decay" (2019); as in Keras before the step."""
    return f64(p) - learning_rate * (weight_decay or 0.0) * f64(p)


def sgd(p, g, *, learning_rate=0.01, momentum=0.0, nesterov=False, velocity=None, weight_decay=0.0):
    p, g = decayed(p, learning_rate, weight_decay), f64(g)
    v = momentum * (np.zeros_like(p) if velocity is None else f64(velocity)) - learning_rate * g
    return p + (momentum * v - learning_rate * g if nesterov else v), v


def rmsprop(
    p, g, v, *, learning_rate=0.001, rho=0.9, epsilon=1e-7, momentum=0.0, velocity=None,
    weight_decay=0.0,
):  # fmt: skip
    p, g = decayed(p, learning_rate, weight_decay), f64(g)
    v = rho * f64(v) + (1 - rho) * g**2
    increment = learning_rate * g / np.sqrt(v + epsilon)
    velocity = momentum * (np.zeros_like(p) if velocity is None else f64(velocity)) + increment
    return p - velocity, v, velocity


def adam(
    p, g, m, v, *, step, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7,
    weight_decay=0.0,
):  # fmt: skip
    """Kingma and Ba, "Adam" (2015), in the form at the end of their section 2."""
    p, g, m, v = decayed(p, learning_rate, weight_decay), f64(g), f64(m), f64(v)
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


# ---- convolution: x (B, H, W, C), w (KH, KW, C / groups, F) ----------------------------------


def _pair(value):
    return value if isinstance(value, tuple) else (value, value)


def conv_padding(shape, kernel, strides, padding, dilation):
    """((top, bottom), (left, right)); "same" as TensorFlow defines it."""
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding != "same":
        return padding
    ends = []
    for size, k, s, d in zip(shape, kernel, strides, dilation, strict=True):
        total = max((math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size, 0)
        ends.append((total // 2, total - total // 2))
    return tuple(ends)


def _windows(x, kernel, strides, pads, dilation):
    """(B, OH, OW, KH, KW, C): what each output reads of the padded image."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(1, 2))
    view = view[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]
    return view.transpose(0, 1, 2, 4, 5, 3)


def _grouped(a, groups):
    """The last axis as (groups, rest)."""
    return a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups)


def _conv_linear(x, w, b, strides, padding, dilation, groups):
    x, w = f64(x), f64(w)
    strides, dilation = _pair(strides), _pair(dilation)
    pads = conv_padding(x.shape[1:3], w.shape[:2], strides, padding, dilation)
    read = _grouped(_windows(x, w.shape[:2], strides, pads, dilation), groups)
    y = np.einsum("nijklgc,klcgf->nijgf", read, _grouped(w, groups), optimize=True)
    y = y.reshape(*y.shape[:3], w.shape[-1])
    return y if b is None else y + f64(b)


def conv2d(
    x, w, b=None, *, strides=1, padding="valid", dilation=1, groups=1, activation="linear",
    alpha=None,
):  # fmt: skip
    z = _conv_linear(x, w, b, strides, padding, dilation, groups)
    return _activation(z, activation, alpha=alpha)


def _conv_input_gradient(dz, w, shape, strides, pads, dilation, groups):
    """Each dz goes back to where its window lay."""
    (top, bottom), (left, right) = pads
    count, height, width, channels = shape
    dx = np.zeros((count, height + top + bottom, width + left + right, channels))
    rows, columns = dz.shape[1:3]
    for kh, kw in np.ndindex(w.shape[:2]):
        back = np.einsum("nijgf,cgf->nijgc", _grouped(dz, groups), _grouped(w[kh, kw], groups))
        i, j = kh * dilation[0], kw * dilation[1]
        i_end, j_end = i + (rows - 1) * strides[0] + 1, j + (columns - 1) * strides[1] + 1
        dx[:, i : i_end : strides[0], j : j_end : strides[1]] += back.reshape(*dz.shape[:3], -1)
    return dx[:, top : top + height, left : left + width]


def conv2d_backward(
    dy, x, y, w, b=None, *, strides=1, padding="valid", dilation=1, groups=1, activation="linear",
    alpha=None,
):  # fmt: skip
    z = _conv_linear(x, w, b, strides, padding, dilation, groups)
    dz = activation_backward(dy, z, y, activation, alpha=alpha)
    x, w = f64(x), f64(w)
    strides, dilation = _pair(strides), _pair(dilation)
    pads = conv_padding(x.shape[1:3], w.shape[:2], strides, padding, dilation)
    dx = _conv_input_gradient(dz, w, x.shape, strides, pads, dilation, groups)
    read = _grouped(_windows(x, w.shape[:2], strides, pads, dilation), groups)
    dw = np.einsum("nijklgc,nijgf->klcgf", read, _grouped(dz, groups), optimize=True)
    return dx, dw.reshape(w.shape), None if b is None else dz.sum(axis=(0, 1, 2))


def _depthwise_kernel(w):
    return f64(w).reshape(*w.shape[:2], 1, -1)


def depthwise_conv2d(x, w, b=None, **options):
    return conv2d(x, _depthwise_kernel(w), b, groups=x.shape[-1], **options)


def depthwise_conv2d_backward(dy, x, y, w, b=None, **options):
    dx, dw, db = conv2d_backward(dy, x, y, _depthwise_kernel(w), b, groups=x.shape[-1], **options)
    return dx, dw.reshape(w.shape), db


def _transposed_axis(size, k, stride, padding, dilation, extra):
    """(outputs, (before, after)) of one axis: Keras's sizes, TensorFlow's place for the cut."""
    span = (k - 1) * dilation + 1
    whole = (size - 1) * stride + span
    if padding not in ("valid", "same"):
        return whole - sum(padding) + (extra or 0), (padding[0], padding[1] - (extra or 0))
    if extra is None:
        outputs = size * stride + (max(span - stride, 0) if padding == "valid" else 0)
    else:
        outputs = whole - (2 * (span // 2) if padding == "same" else 0) + extra
    before = max(whole - outputs, 0) // 2 if padding == "same" else 0
    return outputs, (before, whole - outputs - before)


def _transposed(x, w, strides, padding, dilation, output_padding):
    """y's shape; strides, pads (negative: added) and dilation of the convolution that reads y."""
    strides, dilation = _pair(strides), _pair(dilation)
    extra = _pair(output_padding)
    axes = [
        _transposed_axis(
            x.shape[1 + i], w.shape[i], strides[i],
            padding if isinstance(padding, str) else padding[i], dilation[i], extra[i],
        )
        for i in range(2)
    ]  # fmt: skip
    shape = (x.shape[0], axes[0][0], axes[1][0], w.shape[2])
    return shape, strides, (axes[0][1], axes[1][1]), dilation


def _transposed_linear(x, w, b, geometry):
    """The whole of what the inputs reach, then cut (or, where the cut is negative, extended)."""
    shape, strides, pads, dilation = geometry
    (top, bottom), (left, right) = pads
    added = ((0, 0), (0, max(-bottom, 0)), (0, max(-right, 0)), (0, 0))
    rows = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in
            zip(x.shape[1:3], strides, w.shape[:2], dilation, strict=True)]  # fmt: skip
    whole = (x.shape[0], *rows, shape[-1])
    y = _conv_input_gradient(f64(x), f64(w), whole, strides, ((0, 0), (0, 0)), dilation, 1)
    y = np.pad(y, added)[:, top : top + shape[1], left : left + shape[2]]
    return y if b is None else y + f64(b)


def conv2d_transpose(
    x, w, b=None, *, strides=1, padding="valid", dilation=1, output_padding=None,
    activation="linear", alpha=None,
):  # fmt: skip
    z = _transposed_linear(x, w, b, _transposed(x, w, strides, padding, dilation, output_padding))
    return _activation(z, activation, alpha=alpha)


def conv2d_transpose_backward(
    dy, x, y, w, b=None, *, strides=1, padding="valid", dilation=1, output_padding=None,
    activation="linear", alpha=None,
):  # fmt: skip
    shape, strides, pads, dilation = _transposed(x, w, strides, padding, dilation, output_padding)
    z = _transposed_linear(x, w, b, (shape, strides, pads, dilation))
    dz = activation_backward(dy, z, y, activation, alpha=alpha)
    (top, bottom), (left, right) = pads
    kept = dz[:, : shape[1] + min(bottom, 0), : shape[2] + min(right, 0)]
    pads = ((top, max(bottom, 0)), (left, max(right, 0)))
    read = _windows(kept, w.shape[:2], strides, pads, dilation)  # (B, H, W, KH, KW, F)
    dx = np.einsum("nijklf,klfc->nijc", read, f64(w), optimize=True)
    dw = np.einsum("nijklf,nijc->klfc", read, f64(x), optimize=True)
    return dx, dw, None if b is None else dz.sum(axis=(0, 1, 2))


def _in_one_dimension(name):
    """The 1D form of a 2D oracle: height 1."""

    def up(a):
        return None if a is None else np.expand_dims(f64(a), 1)

    def options_of(options):
        for key in ("strides", "dilation"):
            options[key] = (1, options.get(key, 1))
        if not isinstance(options.get("padding", "valid"), str):
            options["padding"] = ((0, 0), options["padding"])
        if options.get("output_padding") is not None:
            options["output_padding"] = (0, options["output_padding"])
        return options

    def forward(x, w, b=None, **options):
        return globals()[name](up(x), f64(w)[None], b, **options_of(options))[:, 0]

    def backward(dy, x, y, w, b=None, **options):
        whole = globals()[name + "_backward"]
        dx, dw, db = whole(up(dy), up(x), None, f64(w)[None], b, **options_of(options))
        return dx[:, 0], dw[0], db

    return forward, backward


conv1d, conv1d_backward = _in_one_dimension("conv2d")
depthwise_conv1d, depthwise_conv1d_backward = _in_one_dimension("depthwise_conv2d")
conv1d_transpose, conv1d_transpose_backward = _in_one_dimension("conv2d_transpose")


# ---- augment: images moved by matrices -------------------------------------------------------

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


# ---- pooling ---------------------------------------------------------------------------------


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


# ---- batch normalization ---------------------------------------------------------------------


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
