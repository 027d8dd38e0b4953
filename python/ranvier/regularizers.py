"""Regularizers: penalties on weights, and on what layers put out.

A weight's penalty joins the loss as it is. A penalty on a layer's output is summed and divided by
the batch size, as in Keras. The arithmetic, value and derivative, is the kernel `penalty`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ranvier.registry import Registry

__all__ = ["L1", "L1L2", "L2", "Regularizer", "deserialize", "get", "serialize"]


class Regularizer:
    """l1 * sum|x| + l2 * sum x^2, with derivative l1 sign(x) + 2 l2 x.

    Attributes:
        l1, l2: the two factors, at least 0.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        for name, value in (("l1", l1), ("l2", l2)):
            if not (isinstance(value, (int, float)) and 0 <= value < math.inf):
                raise ValueError(
                    f"[{type(self).__name__}] {name} must be a number >= 0; received {value!r}"
                )
        self.l1, self.l2 = float(l1), float(l2)

    def __call__(self, x: np.ndarray) -> float:
        """The penalty of an array."""
        x = np.asarray(x, np.float64)
        return float(self.l1 * np.abs(x).sum() + self.l2 * np.square(x).sum())

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"l1": self.l1, "l2": self.l2}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Regularizer:
        """The regularizer of a config."""
        return cls(**config)


class L1L2(Regularizer):
    """l1 * sum|x| + l2 * sum x^2; both 0 unless given."""


class L1(Regularizer):
    """l1 * sum|x|."""

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1=l1)

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1}


class L2(Regularizer):
    """l2 * sum x^2."""

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(l2=l2)

    def get_config(self) -> dict[str, Any]:
        return {"l2": self.l2}


_registry = Registry(
    "regularizer", Regularizer, [L1, L2, L1L2], {"l1": L1, "l2": L2, "l1l2": L1L2, "l1_l2": L1L2}
)
serialize = _registry.serialize


def get(identifier: Any) -> Regularizer | None:
    """The regularizer that an argument means: a name, a config, an object, or None."""
    return None if identifier is None else _registry.get(identifier)


deserialize = get
