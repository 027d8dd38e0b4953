"""Activations: each a value and a derivative of one number, by its name; and softmax."""

from __future__ import annotations

import math

import numpy as np

from reference.tensor import f64

DEFAULT_ALPHA = {"leaky_relu": 0.2, "elu": 1.0}
# Klambauer et al., "Self-normalizing neural networks" (2017): fixed point of mean 0, variance 1
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
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
