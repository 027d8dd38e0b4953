"""Layers that change shapes and the order of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ranvier import ops
from ranvier.layers.base import Layer, Shape
from ranvier.layers.spatial import format_of

__all__ = ["Flatten", "Permute", "Reshape"]


class Flatten(Layer):
    """(rows, a, b, ...) to (rows, a * b * ...); (rows,) to (rows, 1).

    Args:
        data_format: "channels_last" (None), or "channels_first": (rows, channels, a, ...) is
            flattened as if the channels stood last, so that what follows does not depend on it.
    """

    single_input = True

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = format_of("Flatten", data_format)

    def forward(self, x, *, training=False):
        shape = (x.shape[0], math.prod(x.shape[1:]))
        if self.data_format == "channels_last" or x.ndim < 3:
            return _reshape(x, shape)
        last = (0, *range(2, x.ndim), 1)
        back = [last.index(d) for d in range(x.ndim)]
        turned = ops.transpose(x, last)
        y = turned.reshape(shape)
        return y, lambda dy: ops.transpose(dy.reshape(turned.shape), back)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        rest = input_shape[1:]
        return (input_shape[0], None if None in rest else math.prod(d or 0 for d in rest))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}


class Reshape(Layer):
    """Gives each row another shape of the same size.

    Args:
        target_shape: without the rows; one -1 is worked out from the rest.
    """

    single_input = True

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_shape = tuple(target_shape)
        if self.target_shape.count(-1) > 1 or any(d < -1 for d in self.target_shape):
            raise ValueError(
                f"[Reshape] target_shape may hold one -1 and no other negative: {self.target_shape}"
            )

    def check_input(self, input_shape: Shape) -> None:
        self._target(input_shape)

    def _target(self, input_shape: Shape) -> tuple[int, ...]:
        """The target with -1 worked out."""
        size = math.prod(d or 0 for d in input_shape[1:])
        known = math.prod(d for d in self.target_shape if d != -1)
        fits = size == known if -1 not in self.target_shape else known > 0 and size % known == 0
        if not fits:
            raise ValueError(
                f"[{self.name}] cannot reshape rows of shape {tuple(input_shape[1:])} ({size} "
                f"values) to {self.target_shape}"
            )
        return tuple(size // known if d == -1 else d for d in self.target_shape)

    def forward(self, x, *, training=False):
        return _reshape(x, (x.shape[0], *self._target(x.shape)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *self._target(input_shape))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "target_shape": self.target_shape}


class Permute(Layer):
    """The axes behind the rows in another order.

    Args:
        dims: the axes, counted from 1: (2, 1) gives (rows, b, a) for (rows, a, b).
    """

    single_input = True

    def __init__(self, dims: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                f"[Permute] dims must name each axis behind the rows once, from 1: received {dims}"
            )

    def check_input(self, input_shape: Shape) -> None:
        if len(input_shape) != len(self.dims) + 1:
            raise ValueError(
                f"[{self.name}] Permute{self.dims} needs inputs of {len(self.dims) + 1} axes; "
                f"received {input_shape}"
            )

    def forward(self, x, *, training=False):
        there = (0, *self.dims)
        back = [there.index(d) for d in range(len(there))]

        def backward(dy):
            return ops.transpose(dy, back)

        return ops.transpose(x, there), backward

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *(input_shape[d] for d in self.dims))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dims": self.dims}


def _reshape(x, shape):
    def backward(dy):
        return dy.reshape(x.shape)

    return x.reshape(shape), backward
