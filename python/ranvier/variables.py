"""Variables: what layers learn, and the arenas that optimizers sweep over in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ranvier._core import Buffer

if TYPE_CHECKING:
    from ranvier.regularizers import Regularizer

__all__ = ["Variable", "house", "offsets"]


class Variable(Buffer):
    """An array that a layer owns, with a name.

    Args:
        value: its first values; float32 or float64.
        name: as "kernel".
        path: as "dense/kernel".
        trainable: whether optimizers may change it.
        regularizer: a penalty on it, or None.

    Attributes:
        name, path, trainable, regularizer: as given.
        shape, dtype: of the array; dtype is a string.
    """

    def __init__(
        self,
        value: np.ndarray,
        *,
        name: str = "variable",
        path: str | None = None,
        trainable: bool = True,
        regularizer: Regularizer | None = None,
    ) -> None:
        value = np.asarray(value)
        super().__init__(value.shape, value.dtype)
        super().assign(value)
        self.name = name
        self.path = path or name
        self.trainable = trainable
        self.regularizer = regularizer
        # Its place: the flat Buffer that holds it, once one does, and where in it.
        self.arena: Buffer | None = None
        self.offset = 0

    def assign(self, value: Any) -> None:
        """Replace the values.

        Args:
            value: an array of this variable's shape; converted to its dtype.

        Raises:
            ValueError: if the shape differs; the variable is unchanged then.
        """
        try:
            super().assign(value)
        except ValueError as error:
            raise ValueError(f"[{self.path}] {error}") from None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def __repr__(self) -> str:
        return f"<Variable path={self.path} shape={self.shape} dtype={self.dtype}>"


_LINE = 16  # elements: each variable begins on a cache line of its own


def offsets(variables: Sequence[Buffer]) -> tuple[list[int], int]:
    """Where each variable begins when they are laid one after another, and the length of all."""
    starts, end = [], 0
    for variable in variables:
        starts.append(end)
        end += -(-variable.size // _LINE) * _LINE
    return starts, end


def house(variables: Iterable[Variable]) -> None:
    """Give those that have none a place in an arena, one behind another in their order.

    A variable never moves again: other models' optimizers may know its place.
    """
    homeless = [variable for variable in variables if variable.arena is None]
    for dtype in dict.fromkeys(variable.dtype for variable in homeless):
        group = [variable for variable in homeless if variable.dtype == dtype]
        starts, end = offsets(group)
        arena = Buffer((end,), dtype)
        for variable, start in zip(group, starts, strict=True):
            variable.move_to(arena, start)
            variable.arena, variable.offset = arena, start
