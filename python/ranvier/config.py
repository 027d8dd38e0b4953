"""The float type that models use unless they are told otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["dtype_name", "floatx", "set_floatx"]

_FLOATS = ("float32", "float64")
_floatx = "float32"


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
