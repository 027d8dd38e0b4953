"""Pooling: the largest or the mean of each window, or of the whole image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ranvier import ops
from ranvier.layers.base import Layer, Shape
from ranvier.layers.spatial import SpatialLayer, choice, per_axis

__all__ = [
    "AveragePooling1D",
    "AveragePooling2D",
    "AvgPool1D",
    "AvgPool2D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPooling1D",
    "MaxPooling2D",
]


class _Pooling(SpatialLayer):
    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, **kwargs)
        kind = type(self).__name__
        self.pool_size = per_axis(kind, "pool_size", pool_size, self.rank)
        chosen = pool_size if strides is None else strides
        self.strides = per_axis(kind, "strides", chosen, self.rank)
        self.padding = choice(kind, "padding", padding, ("valid", "same"))

    def shape_channels_last(self, shape: Shape) -> Shape:
        axes = zip(shape[1:-1], self.pool_size, self.strides, strict=True)
        return (shape[0], *(self._outputs(*axis) for axis in axes), shape[-1])

    def _outputs(self, size: int | None, pool: int, stride: int) -> int | None:
        if size is None:
            return None
        if self.padding == "same":
            return -(-size // stride)
        if size < pool:
            raise ValueError(
                f"[{self.name}] the window {self.pool_size} is larger than the image ({size} < "
                f"{pool}): use padding='same' or a smaller pool_size"
            )
        return (size - pool) // stride + 1

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
        }


def _max_pool(x, pool_size, strides, padding):
    window = (pool_size, strides, padding)
    if x.constant:
        return ops.max_pool(x, *window), lambda dy: None
    y, where = ops.max_pool(x, *window, argmax=True)
    return y, lambda dy: ops.max_pool_backward(dy, x, where, *window, y=y)


def _average_pool(x, pool_size, strides, padding):
    window = (pool_size, strides, padding)
    return ops.average_pool(x, *window), lambda dy: ops.average_pool_backward(dy, x, *window)


class _MaxPooling(_Pooling):
    def run_channels_last(self, x):
        return _max_pool(x, self.pool_size, self.strides, self.padding)


class _AveragePooling(_Pooling):
    def run_channels_last(self, x):
        return _average_pool(x, self.pool_size, self.strides, self.padding)


class MaxPooling1D(_MaxPooling):
    """The largest of each window: (rows, L, channels) to (rows, OL, channels).

    Of equal ones the first has the gradient; NaN where the window holds one.

    Args:
        pool_size: the window, a number.
        strides: from one window to the next; None: pool_size.
        padding: "valid" (windows inside the image) or "same" (ceil(size / stride) windows, of
            which what lies outside does not count).
        data_format: "channels_last" or "channels_first".
    """

    rank = 1


class MaxPooling2D(_MaxPooling):
    """The largest of each window: (rows, H, W, channels) to (rows, OH, OW, channels).

    Of equal ones the first has the gradient; NaN where the window holds one.

    Args:
        pool_size: the window, a number or one for each axis.
        strides: from one window to the next, likewise; None: pool_size.
        padding: "valid" (windows inside the image) or "same" (ceil(size / stride) windows, of
            which what lies outside does not count).
        data_format: "channels_last" or "channels_first".
    """


def pools_by_two(layer: SpatialLayer, readers: Sequence[Layer], x: Any) -> bool:
    """Whether the first of the readers keeps of each 2x2 pixels of a layer's output the largest.

    Args:
        layer, readers, x: as of `Layer.fuses`.
    """
    if not readers or type(readers[0]) is not MaxPooling2D:
        return False
    pool = readers[0]
    if pool.pool_size != (2, 2) or pool.strides != (2, 2):
        return False
    if pool.dtype != layer.dtype or pool.data_format != layer.data_format:
        return False
    image = layer.channels_last(layer.compute_output_shape(x.shape))[1:-1]
    whole = pool.padding == "valid" or all(size is not None and size % 2 == 0 for size in image)
    return whole and not (layer.penalised or pool.penalised)


class AveragePooling1D(_AveragePooling):
    """The mean of each window: (rows, L, channels) to (rows, OL, channels).

    Args:
        pool_size: the window, a number.
        strides: from one window to the next; None: pool_size.
        padding: "valid" (windows inside the image) or "same" (ceil(size / stride) windows, of
            which what lies outside does not count).
        data_format: "channels_last" or "channels_first".
    """

    rank = 1


class AveragePooling2D(_AveragePooling):
    """The mean of each window: (rows, H, W, channels) to (rows, OH, OW, channels).

    Args:
        pool_size: the window, a number or one for each axis.
        strides: from one window to the next, likewise; None: pool_size.
        padding: "valid" (windows inside the image) or "same" (ceil(size / stride) windows, of
            which what lies outside does not count).
        data_format: "channels_last" or "channels_first".
    """


class _GlobalPooling(SpatialLayer):
    pool = staticmethod(_max_pool)

    def __init__(
        self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(data_format, **kwargs)
        self.keepdims = bool(keepdims)

    def shape_channels_last(self, shape: Shape) -> Shape:
        if 0 in shape[1:-1]:
            raise ValueError(f"[{self.name}] the image has no pixels: {shape}")
        return (shape[0], *[1] * self.rank, shape[-1])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if self.keepdims:
            return super().compute_output_shape(input_shape)
        shape = self.shape_channels_last(self.channels_last(input_shape))
        return (shape[0], shape[-1])

    def run_channels_last(self, x):
        image = x.shape[1:-1]
        return self.pool(x, image, image, "valid")

    def forward(self, x, *, training=False):
        y, back = super().forward(x, training=training)
        if self.keepdims:
            return y, back
        flat = y.reshape((y.shape[0], math.prod(y.shape[1:])))
        return flat, lambda dy: back(dy.reshape(y.shape))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "keepdims": self.keepdims}


class GlobalMaxPooling1D(_GlobalPooling):
    """The largest of each channel: (rows, L, channels) to (rows, channels).

    Args:
        data_format: "channels_last" or "channels_first".
        keepdims: whether the axes that are pooled stay, with size 1.
    """

    rank = 1


class GlobalMaxPooling2D(_GlobalPooling):
    """The largest of each channel: (rows, H, W, channels) to (rows, channels).

    Args:
        data_format: "channels_last" or "channels_first".
        keepdims: whether the axes that are pooled stay, with size 1.
    """


class GlobalAveragePooling1D(_GlobalPooling):
    """The mean of each channel: (rows, L, channels) to (rows, channels).

    Args:
        data_format: "channels_last" or "channels_first".
        keepdims: whether the axes that are pooled stay, with size 1.
    """

    rank = 1
    pool = staticmethod(_average_pool)


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean of each channel: (rows, H, W, channels) to (rows, channels).

    Args:
        data_format: "channels_last" or "channels_first".
        keepdims: whether the axes that are pooled stay, with size 1.
    """

    pool = staticmethod(_average_pool)


# Keras's other names
MaxPool1D, MaxPool2D = MaxPooling1D, MaxPooling2D
AvgPool1D, AvgPool2D = AveragePooling1D, AveragePooling2D
GlobalMaxPool1D, GlobalMaxPool2D = GlobalMaxPooling1D, GlobalMaxPooling2D
GlobalAvgPool1D, GlobalAvgPool2D = GlobalAveragePooling1D, GlobalAveragePooling2D
