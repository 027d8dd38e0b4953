"""Images made larger and smaller: repeated, framed with zeros, cropped."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranvier import ops
from ranvier._core import Buffer
from ranvier.layers.base import Shape
from ranvier.layers.spatial import SpatialLayer, choice, per_axis

__all__ = [
    "Cropping1D",
    "Cropping2D",
    "UpSampling1D",
    "UpSampling2D",
    "ZeroPadding1D",
    "ZeroPadding2D",
]

Ends = tuple[tuple[int, int], ...]  # of each axis, before and after


class _Placed(SpatialLayer):
    """Output pixel i of an axis is the input at i * step + start, or 0 beyond its edges."""

    interpolation, fill_mode = "nearest", "constant"

    def size(self, axis: int, size: int) -> int:
        """How many pixels an axis of `size` pixels has in the output."""
        raise NotImplementedError

    def place(self, axis: int) -> tuple[float, float]:
        """(step, start) of an axis."""
        raise NotImplementedError

    def shape_channels_last(self, shape: Shape) -> Shape:
        axes = [None if d is None else self.size(i, d) for i, d in enumerate(shape[1:-1])]
        if any(d is not None and d < 1 for d in axes):
            raise ValueError(
                f"[{self.name}] {type(self).__name__} leaves nothing of the input: it is {shape}"
            )
        return (shape[0], *axes, shape[-1])

    def run_channels_last(self, x):
        line = self.rank == 1  # an image one pixel wide
        image = x.reshape((*x.shape[:2], 1, x.shape[2])) if line else x
        shape = self.shape_channels_last(x.shape)
        (a, b), (c, d) = self.place(0), (1.0, 0.0) if line else self.place(1)
        matrices = Buffer.from_array(np.array([[a, 0, b, 0, c, d]]))
        how: dict[str, Any] = {"interpolation": self.interpolation, "fill_mode": self.fill_mode}
        size: Any = (shape[1], 1 if line else shape[2])
        y = ops.resample(image, matrices, size, **how)

        def backward(dy):
            dx = ops.resample_backward(dy.reshape(y.shape), matrices, image.shape, **how)
            return dx.reshape(x.shape)

        return y.reshape(shape), backward


class UpSampling2D(_Placed):
    """Each pixel becomes size[0] x size[1] pixels: (rows, H, W, channels) to
    (rows, H size[0], W size[1], channels).

    Args:
        size: how many times, one number or (height, width).
        data_format: "channels_last" (None) or "channels_first".
        interpolation: "nearest" repeats each pixel; "bilinear" mixes the four whose centres are
            around.
    """

    def __init__(
        self,
        size: Any = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, **kwargs)
        kind = type(self).__name__
        self.times = per_axis(kind, "size", size, self.rank)
        self.interpolation = choice(kind, "interpolation", interpolation, ("nearest", "bilinear"))
        self.fill_mode = "nearest"

    def size(self, axis: int, size: int) -> int:
        return size * self.times[axis]

    def place(self, axis: int) -> tuple[float, float]:
        return 1 / self.times[axis], 0.5 / self.times[axis] - 0.5  # centre on centre

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.times, "interpolation": self.interpolation}


class UpSampling1D(UpSampling2D):
    """Each step is repeated: (rows, L, channels) to (rows, L size, channels).

    Args:
        size: how many times.
    """

    rank = 1

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        super().__init__(size, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["data_format"], config["interpolation"]
        return {**config, "size": self.times[0]}


class _Framed(_Placed):
    """Shifts each axis by what is put before it."""

    ends: Ends

    def size(self, axis: int, size: int) -> int:
        before, after = self.ends[axis]
        return size + before + after

    def place(self, axis: int) -> tuple[float, float]:
        return 1.0, -float(self.ends[axis][0])


class ZeroPadding2D(_Framed):
    """Puts zeros around each image.

    Args:
        padding: one number; (height, width), for both ends; or ((top, bottom), (left, right)).
        data_format: "channels_last" (None) or "channels_first".

    Input (rows, H, W, channels), output (rows, H + top + bottom, W + left + right, channels).
    """

    def __init__(self, padding: Any = (1, 1), data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.ends = self.padding = _ends(type(self).__name__, "padding", padding, self.rank)

    def get_config(self) -> dict[str, Any]:
        padding = self.padding[0] if self.rank == 1 else self.padding
        return {**super().get_config(), "padding": padding}


class ZeroPadding1D(ZeroPadding2D):
    """Puts zeros before and behind each sequence.

    Args:
        padding: one number for both ends, or (before, behind).
        data_format: "channels_last" (None) or "channels_first".

    Input (rows, L, channels), output (rows, L + before + behind, channels).
    """

    rank = 1

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(padding, data_format, **kwargs)


class Cropping2D(_Framed):
    """Cuts the edges off each image.

    Args:
        cropping: one number; (height, width), for both ends; or ((top, bottom), (left, right)).
        data_format: "channels_last" (None) or "channels_first".

    Input (rows, H, W, channels), output (rows, H - top - bottom, W - left - right, channels).
    """

    def __init__(
        self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(data_format, **kwargs)
        self.cropping = _ends(type(self).__name__, "cropping", cropping, self.rank)
        self.ends = tuple((-before, -after) for before, after in self.cropping)

    def get_config(self) -> dict[str, Any]:
        cropping = self.cropping[0] if self.rank == 1 else self.cropping
        return {**super().get_config(), "cropping": cropping}


class Cropping1D(Cropping2D):
    """Cuts the ends off each sequence.

    Args:
        cropping: one number for both ends, or (before, behind).
        data_format: "channels_last" (None) or "channels_first".

    Input (rows, L, channels), output (rows, L - before - behind, channels).
    """

    rank = 1

    def __init__(self, cropping: Any = (1, 1), data_format: str | None = None, **kwargs: Any):
        super().__init__(cropping, data_format, **kwargs)


def _ends(kind: str, name: str, value: Any, rank: int) -> Ends:
    """What is put or cut at both ends of each axis, in any of the forms that Keras takes."""
    many = isinstance(value, (tuple, list))
    if rank == 1:
        return (tuple(per_axis(kind, name, value, 2, 0)),)  # type: ignore[return-value]
    if many and len(value) == 2 and all(isinstance(v, (tuple, list)) for v in value):
        return tuple(per_axis(kind, name, v, 2, 0) for v in value)  # type: ignore[misc]
    return tuple((v, v) for v in per_axis(kind, name, value, 2, 0))
