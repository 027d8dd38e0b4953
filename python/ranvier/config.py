"""The float type that models use unless they are told otherwise, and how precisely they compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranvier import _core

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["dtype_name", "floatx", "precision", "set_floatx", "set_precision"]

_FLOATS = ("float32", "float64")
_floatx = "float32"
_precision = "fast"


def floatx() -> str:
    """The default float type, "float32" or "float64"; "float32" until `set_floatx` is called."""
    return _floatx


def set_floatx(value: str) -> None:
    """Set the default float type of layers and initialisers made from now on.

    Args:
        value: "float32" or "float64".

    Raises:
        ValueError: for any other value.
    """
    global _floatx
    if not isinstance(value, str) or value not in _FLOATS:
        raise ValueError(f'[set_floatx] value must be "float32" or "float64"; received {value!r}')
    _floatx = value


def precision() -> str:
    """How float32 convolutions are computed, "fast" or "highest"; see `set_precision`."""
    return _precision


def set_precision(value: str) -> None:
    """Choose between speed and the last digit, for everything computed from now on.

    It concerns float32 convolutions with kernels of 3x3 and 5x5, no strides and at least 16
    channels and filters, and their gradients. With "fast" these go by Winograd's F(4x4, 3x3) and
    F(2x2, 5x5), with 25 and 36 % of the multiplications, where that is faster; float64 never does.
    They share work among 4x4 or 2x2 results: a NaN or infinity that one of these reads spreads to
    all.

    The errors against float64, in units of the result's standard deviation, measured on layers of
    3x3 that map 224x224x32 to 64, 112x112x64 to 128 and 56x56x128 to 256 channels (normal inputs,
    Glorot's kernels): forward, "fast" has a mean error of 4e-7, 6e-7 and 7e-7 and a largest one of
    7e-6 to 1.2e-5, "highest" of 2e-7, 3e-7 and 4e-7 and 4e-6 to 7e-6. Of the input's gradient,
    those of "fast" are 6e-7, 7e-7 and 1.0e-6, and 1.1e-5 to 1.8e-5, those of "highest" 3e-7, 4e-7
    and 6e-7, and 5e-6 to 9e-6. Of the kernel's, a sum over all pixels, both have about 1e-6, and
    7e-6 to 1.2e-5.

    And on layers of 5x5 that map 28x28x32 to 64, 56x56x64 to 128 and 28x28x128 to 256 channels:
    forward, "fast" 5e-7, 7e-7 and 9e-7, and 5e-6 to 9e-6, "highest" 3e-7, 5e-7 and 7e-7, and 6e-6
    to 1.5e-5. Of the input's gradient, "fast" 7e-7, 9e-7 and 1.3e-6, and 6e-6 to 1.3e-5, "highest"
    5e-7, 7e-7 and 1.0e-6, and 7e-6 to 1.7e-5. Of the kernel's, "fast" 1.4e-6 to 1.9e-6, and 1.5e-5
    to 4e-5, "highest" 7e-7 to 1.5e-6, and 7e-6 to 1.6e-5.

    Args:
        value: "fast" (the default), or "highest": every product as the formula has it.

    Raises:
        ValueError: for any other value.
    """
    global _precision
    if not isinstance(value, str) or value not in ("fast", "highest"):
        raise ValueError(f'[set_precision] value must be "fast" or "highest"; received {value!r}')
    _core.set_winograd("auto" if value == "fast" else "never")
    _precision = value


def dtype_name(dtype: DTypeLike | None = None) -> str:
    """Name a float type in the one form the library uses.

    Args:
        dtype: None (the default type, see `floatx`), a name, a NumPy type or an `np.dtype`.

    Returns:
        "float32" or "float64"; byte order is dropped.

    Raises:
        ValueError: if dtype is something else: the kernels know these two types only.
    """
    if dtype is None:
        return _floatx
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in _FLOATS:
        raise ValueError(f"[dtype_name] dtype must be float32 or float64; received {dtype!r}")
    return name
