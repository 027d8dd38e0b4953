"""Activations by name, as functions on arrays.

Each takes x, an array of any shape (float32 or float64; anything else is converted to the default
float type), and returns an array of its shape. Layers take the same names as strings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ranvier import config, ops

__all__ = [
    "elu",
    "exponential",
    "gelu",
    "gelu_tanh",
    "get",
    "hard_sigmoid",
    "leaky_relu",
    "linear",
    "relu",
    "selu",
    "serialize",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "swish",
    "tanh",
]


def _array(x: ArrayLike) -> np.ndarray:
    x = np.asarray(x)
    return x if x.dtype in (np.float32, np.float64) else x.astype(config.floatx())


def linear(x: ArrayLike) -> np.ndarray:
    """x"""
    return ops.activation(_array(x), "linear")


def relu(x: ArrayLike) -> np.ndarray:
    """max(x, 0)"""
    return ops.activation(_array(x), "relu")


def leaky_relu(x: ArrayLike, negative_slope: float = 0.2) -> np.ndarray:
    """x where positive, negative_slope * x elsewhere (Maas et al., 2013)"""
    return ops.activation(_array(x), "leaky_relu", alpha=negative_slope)


def sigmoid(x: ArrayLike) -> np.ndarray:
    """1 / (1 + e^-x)"""
    return ops.activation(_array(x), "sigmoid")


def tanh(x: ArrayLike) -> np.ndarray:
    """(e^x - e^-x) / (e^x + e^-x)"""
    return ops.activation(_array(x), "tanh")


def softmax(x: ArrayLike) -> np.ndarray:
    """e^x / sum e^x over the last axis"""
    return ops.softmax(_array(x))


def elu(x: ArrayLike, alpha: float = 1.0) -> np.ndarray:
    """x where positive, alpha (e^x - 1) elsewhere (Clevert et al., 2016)"""
    return ops.activation(_array(x), "elu", alpha=alpha)


def selu(x: ArrayLike) -> np.ndarray:
    """1.0507 * elu(x, alpha=1.6733) (Klambauer et al., 2017)"""
    return ops.activation(_array(x), "selu")


def gelu(x: ArrayLike, approximate: bool = False) -> np.ndarray:
    """x * (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel, 2016)

    Args:
        approximate: x * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 instead: `gelu_tanh`, the
            name that layers take.
    """
    return ops.gelu(_array(x), approximate=approximate)


def gelu_tanh(x: ArrayLike) -> np.ndarray:
    """x * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, as `gelu` with approximate=True"""
    return ops.gelu(_array(x), approximate=True)


def silu(x: ArrayLike) -> np.ndarray:
    """x * sigmoid(x) (Elfwing et al., 2017)"""
    return ops.activation(_array(x), "silu")


def softplus(x: ArrayLike) -> np.ndarray:
    """log(1 + e^x)"""
    return ops.activation(_array(x), "softplus")


def exponential(x: ArrayLike) -> np.ndarray:
    """e^x"""
    return ops.activation(_array(x), "exponential")


def hard_sigmoid(x: ArrayLike) -> np.ndarray:
    """x / 6 + 1/2, cut to [0, 1]"""
    return ops.activation(_array(x), "hard_sigmoid")


swish = silu

_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    f.__name__: f
    for f in (
        linear, relu, leaky_relu, sigmoid, tanh, softmax, elu, selu, gelu, gelu_tanh, silu,
        softplus, exponential, hard_sigmoid,
    )
}  # fmt: skip
_FUNCTIONS["swish"] = silu


def get(identifier: Any) -> Callable[..., np.ndarray]:
    """The function that an argument means: a name, one of the functions here, or None (linear).

    Raises:
        ValueError: if it is none of these.
    """
    return _FUNCTIONS[serialize(identifier)]


def serialize(identifier: Any) -> str:
    """The name of an activation: what layers keep, and the kernels know. Of
    functools.partial(gelu, approximate=True) it is "gelu_tanh".

    Raises:
        ValueError: if it is not one of the activations here.
    """
    if identifier is None:
        return "linear"
    if isinstance(identifier, partial) and identifier.func is gelu and not identifier.args:
        if set(identifier.keywords) <= {"approximate"}:
            return "gelu_tanh" if identifier.keywords.get("approximate") else "gelu"
    name = identifier if isinstance(identifier, str) else getattr(identifier, "__name__", "")
    if name not in _FUNCTIONS or not (
        isinstance(identifier, str) or identifier is _FUNCTIONS[name]
    ):
        raise ValueError(
            f"[activation] unknown activation {identifier!r}; use one of "
            f"{', '.join(sorted(_FUNCTIONS))}, or a layer such as layers.LeakyReLU"
        )
    return _FUNCTIONS[name].__name__
