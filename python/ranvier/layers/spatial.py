"""What layers over images and sequences share: their arguments, and where the channels stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ranvier import ops
from ranvier._core import Buffer
from ranvier.layers.base import Layer, Shape

__all__ = ["SpatialLayer", "choice", "format_of", "per_axis"]


def per_axis(kind: str, name: str, value: Any, rank: int, least: int = 1) -> tuple[int, ...]:
    """An argument that is one integer, or one for each axis of the image, as a tuple of `rank`.

    Raises:
        ValueError: if it is neither, or one is below `least`; `kind` is the layer's class.
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values)
    if len(values) != rank or not whole or min(values) < least:
        many = "" if rank == 1 else f", or a tuple of {rank}"
        raise ValueError(
            f"[{kind}] {name} must be an integer of at least {least}{many}; received "
            f"{name}={value!r}"
        )
    return tuple(int(v) for v in values)


def choice(kind: str, name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """An argument that is one of some words, in capitals or not.

    Raises:
        ValueError: if it is none; `kind` is the layer's class.
    """
    word = value.lower() if isinstance(value, str) else value
    if word not in allowed:
        raise ValueError(f"[{kind}] {name} must be one of {', '.join(allowed)}; received {value!r}")
    return word


def format_of(kind: str, data_format: str | None) -> str:
    """Where the channels stand: last, if None."""
    allowed = ("channels_last", "channels_first")
    return choice(kind, "data_format", data_format or "channels_last", allowed)


class SpatialLayer(Layer):
    """A layer over (rows, *axes, channels), or (rows, channels, *axes) for "channels_first".

    The kernels work on channels last; with "channels_first" the axes are turned before and after.

    Args:
        data_format: "channels_last" (None) or "channels_first".
    """

    single_input = True
    rank = 2  # axes of the image

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = format_of(type(self).__name__, data_format)

    def run_channels_last(self, x: Buffer) -> tuple[Buffer, Callable[[Any], Any]]:
        """y and backward, for x (rows, *axes, channels)."""
        raise NotImplementedError

    def shape_channels_last(self, shape: Shape) -> Shape:
        """The output's shape, for an input (rows, *axes, channels)."""
        raise NotImplementedError

    def check_input(self, input_shape: Shape) -> None:
        order = "*axes, channels" if self.data_format == "channels_last" else "channels, *axes"
        if len(input_shape) != self.rank + 2 or self.channels_last(input_shape)[-1] is None:
            raise ValueError(
                f"[{self.name}] {type(self).__name__} needs inputs of {self.rank + 2} axes (rows, "
                f"{order}) with a known number of channels; received {input_shape}"
            )
        self.compute_output_shape(input_shape)

    def channels_last(self, shape: Shape) -> Shape:
        """The shape as the kernels see it."""
        return shape if self.data_format == "channels_last" else (shape[0], *shape[2:], shape[1])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        out = self.shape_channels_last(self.channels_last(input_shape))
        return out if self.data_format == "channels_last" else (out[0], out[-1], *out[1:-1])

    def forward(self, x, *, training=False):
        return self.with_channels_last(x, self.run_channels_last)

    def with_channels_last(
        self, x: Buffer, run: Callable[[Buffer], tuple[Buffer, Callable[[Any], Any]]]
    ) -> tuple[Buffer, Callable[[Any], Any]]:
        """What `run` makes of x, turned before and after if the channels stand first."""
        if self.data_format == "channels_last":
            return run(x)
        axes = range(1, self.rank + 1)
        last, first = (0, *(a + 1 for a in axes), 1), (0, self.rank + 1, *axes)
        y, through = run(ops.transpose(x, last))

        def backward(dy):
            dx = through(ops.transpose(dy, last))
            return None if dx is None else ops.transpose(dx, first)

        return ops.transpose(y, first), backward

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}
