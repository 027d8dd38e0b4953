"""Images at random: flipped, shifted, turned, zoomed, cropped, of other contrast; and resized.

The random ones act in training only. What they draw depends on the seed, on how many batches the
layer has seen and on the image's place in the batch: on nothing else, so it is the same at any
number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ranvier import _core, ops, seeds
from ranvier._core import Buffer
from ranvier.layers.base import Shape
from ranvier.layers.spatial import SpatialLayer, choice, per_axis

__all__ = [
    "CenterCrop",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "Resizing",
]

Factor = float | Sequence[float]


class _Resampled(SpatialLayer):
    """Moves the pixels by a matrix for each image: see `ops.resample`."""

    fill_mode, interpolation, fill_value = "nearest", "bilinear", 0.0

    def size(self, shape: Shape) -> tuple[Any, Any]:
        """The output's height and width, for an input (rows, height, width, channels)."""
        return shape[1], shape[2]

    def shape_channels_last(self, shape: Shape) -> Shape:
        return (shape[0], *self.size(shape), shape[3])

    def resample(self, x: Buffer, matrices: Buffer):
        how = {"interpolation": self.interpolation, "fill_mode": self.fill_mode}

        def backward(dy):
            return ops.resample_backward(dy, matrices, x.shape, **how)

        size = self.size(x.shape)
        return ops.resample(x, matrices, size, **how, fill_value=self.fill_value), backward


class _Random(_Resampled):
    """Draws anew for each batch, in training."""

    def __init__(self, data_format: str | None, seed: int | None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.seed = seeds.check_seed(type(self).__name__, seed)
        start = seeds.next_seed() if self.seed is None else self.seed
        self.random_state = Buffer.from_array(np.array([start % 2**64, 0], np.uint64))

    def draw(self, x: Buffer, move: str, bounds: Sequence[float], together: bool = False) -> Buffer:
        """A matrix for each image of x, channels last."""
        key = _core.draw(self.random_state)
        size = self.size(x.shape)
        return _core.draw_moves(key, move, x.shape[0], x.shape[1:3], size, list(bounds), together)

    def forward(self, x, *, training=False):
        return super().forward(x) if training else (x, lambda dy: dy)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


class RandomFlip(_Random):
    """In training, turns each image over with probability 1/2.

    Args:
        mode: "horizontal" (left and right change places), "vertical", or
            "horizontal_and_vertical": each by itself.
        seed: an integer, or None for one from `utils.set_random_seed`'s stream.
        data_format: "channels_last" (None) or "channels_first".

    Input and output (rows, height, width, channels).
    """

    interpolation = "nearest"
    _MODES = {
        "horizontal": (0.0, 0.5),
        "vertical": (0.5, 0.0),
        "horizontal_and_vertical": (0.5, 0.5),
    }

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, seed, **kwargs)
        self.mode = choice("RandomFlip", "mode", mode, tuple(self._MODES))

    def run_channels_last(self, x):
        over, across = self._MODES[self.mode]
        return self.resample(x, self.draw(x, "flip", (0, over, 0, across)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mode": self.mode}


class _Filled(_Random):
    """A random move that leaves places for which the image has no pixel."""

    def __init__(
        self,
        fill_mode: str,
        interpolation: str,
        seed: int | None,
        fill_value: float,
        data_format: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, seed, **kwargs)
        kind = type(self).__name__
        self.fill_mode = choice(
            kind, "fill_mode", fill_mode, ("constant", "nearest", "reflect", "wrap")
        )
        self.interpolation = choice(kind, "interpolation", interpolation, ("bilinear", "nearest"))
        self.fill_value = float(fill_value)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "fill_mode": self.fill_mode,
            "interpolation": self.interpolation,
            "fill_value": self.fill_value,
        }


class RandomTranslation(_Filled):
    """In training, shifts each image by a random share of its height and width.

    Args:
        height_factor, width_factor: a share f, for shifts from -f to f; or a pair of them.
            Positive is down, and to the right.
        fill_mode: what comes in at the edges: "reflect" (c b a | a b c | c b a), "wrap"
            (a b c | a b c), "nearest" (a a a | a b c | c c c), or "constant" (fill_value).
        interpolation: "bilinear" or "nearest".
        seed: an integer, or None for one from `utils.set_random_seed`'s stream.
        fill_value: for "constant".
        data_format: "channels_last" (None) or "channels_first".

    Input and output (rows, height, width, channels).
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor = height_factor
        self.width_factor = width_factor
        self._bounds = (
            *_bounds("RandomTranslation", "height_factor", height_factor),
            *_bounds("RandomTranslation", "width_factor", width_factor),
        )

    def run_channels_last(self, x):
        return self.resample(x, self.draw(x, "shift", self._bounds))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "height_factor": self.height_factor,
            "width_factor": self.width_factor,
        }


class RandomRotation(_Filled):
    """In training, turns each image about its middle.

    Args:
        factor: a share f of the full circle, for angles from -f to f; or a pair of them. Positive
            is against the clock.
        fill_mode, interpolation, seed, fill_value, data_format: as in RandomTranslation.

    Input and output (rows, height, width, channels).
    """

    def __init__(
        self,
        factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.factor = factor
        self._bounds = _bounds("RandomRotation", "factor", factor)

    def run_channels_last(self, x):
        return self.resample(x, self.draw(x, "rotate", (*self._bounds, 0, 0)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


class RandomZoom(_Filled):
    """In training, makes each image larger or smaller about its middle.

    Args:
        height_factor: a share f, for sizes changed by -f to f; or a pair of them. Positive is
            further away: more is seen, and smaller.
        width_factor: the same for the width; None: as much as the height.
        fill_mode, interpolation, seed, fill_value, data_format: as in RandomTranslation.

    Input and output (rows, height, width, channels).
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor | None = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor, self.width_factor = height_factor, width_factor
        by_height = _bounds("RandomZoom", "height_factor", height_factor)
        by_width = by_height
        if width_factor is not None:
            by_width = _bounds("RandomZoom", "width_factor", width_factor)
        self._bounds = (*by_height, *by_width)

    def run_channels_last(self, x):
        return self.resample(x, self.draw(x, "zoom", self._bounds, self.width_factor is None))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "height_factor": self.height_factor,
            "width_factor": self.width_factor,
        }


class _Cropped(SpatialLayer):
    """Cuts (height, width) out of images that are at least as large."""

    height: int
    width: int

    def size(self, shape: Shape) -> tuple[Any, Any]:
        found = zip(shape[1:3], (self.height, self.width), strict=True)
        if any(have is not None and have < want for have, want in found):
            raise ValueError(
                f"[{self.name}] images of {shape[1]} x {shape[2]} are smaller than what "
                f"{type(self).__name__} cuts out, {self.height} x {self.width}: use Resizing"
            )
        return self.height, self.width

    def middle(self, x: Buffer) -> Buffer:
        """The matrix that cuts out the middle."""
        top, left = (x.shape[1] - self.height) // 2, (x.shape[2] - self.width) // 2
        return _matrix(1, top, 1, left)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height": self.height, "width": self.width}


class RandomCrop(_Cropped, _Random):
    """In training, cuts each image out at a place of its own; otherwise the middle.

    Args:
        height, width: of the output; the input must be as large.
        seed: an integer, or None for one from `utils.set_random_seed`'s stream.
        data_format: "channels_last" (None) or "channels_first".

    Input (rows, H, W, channels), output (rows, height, width, channels).
    """

    interpolation = "nearest"

    def __init__(
        self,
        height: int,
        width: int,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, seed, **kwargs)
        (self.height,) = per_axis("RandomCrop", "height", height, 1)
        (self.width,) = per_axis("RandomCrop", "width", width, 1)

    def forward(self, x, *, training=False):
        self._training = training
        return SpatialLayer.forward(self, x)

    def run_channels_last(self, x):
        draws = self._training
        return self.resample(x, self.draw(x, "crop", (0, 0, 0, 0)) if draws else self.middle(x))


class CenterCrop(_Cropped, _Resampled):
    """Cuts out the middle.

    Args:
        height, width: of the output; the input must be as large.
        data_format: "channels_last" (None) or "channels_first".

    Input (rows, H, W, channels), output (rows, height, width, channels).
    """

    interpolation = "nearest"

    def __init__(
        self, height: int, width: int, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(data_format, **kwargs)
        (self.height,) = per_axis("CenterCrop", "height", height, 1)
        (self.width,) = per_axis("CenterCrop", "width", width, 1)

    def run_channels_last(self, x):
        return self.resample(x, self.middle(x))


class Resizing(_Resampled):
    """Images of another size, with pixels' middles at (i + 1/2) / size, as in Keras.

    Args:
        height, width: of the output.
        interpolation: "bilinear" (of the four pixels around, also where the image becomes much
            smaller) or "nearest".
        data_format: "channels_last" (None) or "channels_first".

    Input (rows, H, W, channels), output (rows, height, width, channels).
    """

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, **kwargs)
        (self.height,) = per_axis("Resizing", "height", height, 1)
        (self.width,) = per_axis("Resizing", "width", width, 1)
        self.interpolation = choice(
            "Resizing", "interpolation", interpolation, ("bilinear", "nearest")
        )

    def size(self, shape: Shape) -> tuple[Any, Any]:
        return self.height, self.width

    def run_channels_last(self, x):
        down, across = x.shape[1] / self.height, x.shape[2] / self.width
        return self.resample(x, _matrix(down, (down - 1) / 2, across, (across - 1) / 2))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "height": self.height,
            "width": self.width,
            "interpolation": self.interpolation,
        }


class _Toned(_Random):
    """In training, changes the values and cuts them to value_range."""

    def __init__(
        self,
        factor: Factor,
        value_range: Sequence[float],
        seed: int | None,
        data_format: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, seed, **kwargs)
        kind = type(self).__name__
        self.factor = factor
        self._bounds = _bounds(kind, "factor", factor)
        if len(value_range) != 2 or not value_range[0] < value_range[1]:
            raise ValueError(f"[{kind}] value_range must be (low, high); received {value_range}")
        self.value_range = tuple(float(v) for v in value_range)

    def draw_factor(self, x: Buffer, low: float, high: float) -> Buffer:
        """One number for each image, (rows, 1, 1, 1)."""
        key = _core.draw(self.random_state)
        return _core.draw_uniform(key, (x.shape[0], 1, 1, 1), x.dtype, low, high)

    def cut(self, y: Buffer):
        low, high = (_constant(v, y) for v in self.value_range)
        above = ops.merge(y, low, "maximum")

        def backward(dy):
            dy, _ = ops.merge_backward(dy, above, high, "minimum")
            return ops.merge_backward(dy, y, low, "maximum")[0]

        return ops.merge(above, high, "minimum"), backward

    def shape_channels_last(self, shape: Shape) -> Shape:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor, "value_range": self.value_range}


class RandomBrightness(_Toned):
    """In training, adds one random number to each image.

    Args:
        factor: a share f of the range of values, for numbers from -f to f times it; or a pair.
        value_range: (low, high), to which the result is cut.
        seed: an integer, or None for one from `utils.set_random_seed`'s stream.
        data_format: "channels_last" (None) or "channels_first".

    Input and output (rows, height, width, channels).
    """

    def __init__(
        self,
        factor: Factor,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(factor, value_range, seed, data_format, **kwargs)

    def run_channels_last(self, x):
        span = self.value_range[1] - self.value_range[0]
        number = self.draw_factor(x, *(b * span for b in self._bounds))
        return self.cut(ops.merge(x, number, "add"))


class RandomContrast(_Toned):
    """In training, y = (x - mean) c + mean with a random c for each image, and the mean of each of
    its channels.

    Args:
        factor: f, for c from 1 - f to 1 + f; or a pair (l, u), for c from 1 - l to 1 + u.
        value_range, seed, data_format: as in RandomBrightness.

    Input and output (rows, height, width, channels).
    """

    def __init__(
        self,
        factor: Factor,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(factor, value_range, seed, data_format, **kwargs)
        lower, upper = (factor, factor) if isinstance(factor, (int, float)) else factor
        if min(lower, upper) < 0 or lower > 1:
            raise ValueError(
                f"[RandomContrast] factor must be from 0, the lower at most 1; received {factor!r}"
            )
        self._bounds = (1 - lower, 1 + upper)

    def run_channels_last(self, x):
        c = self.draw_factor(x, *self._bounds)

        def blend(x):  # c x + (1 - c) mean: linear, and its own transpose
            mean = _core.sum_over(x, (x.shape[0], 1, 1, x.shape[3]))
            mean = ops.affine(mean, 1 / (x.shape[1] * x.shape[2]))
            return ops.merge(ops.merge(ops.merge(x, mean, "subtract"), c, "multiply"), mean, "add")

        y, through_cut = self.cut(blend(x))

        def backward(dy):
            return blend(through_cut(dy))

        return y, backward


def _matrix(down: float, top: float, across: float, left: float) -> Buffer:
    """Pixel (i, j) is at (down i + top, across j + left), in all images."""
    return Buffer.from_array(np.array([[down, 0, top, 0, across, left]], np.float64))


def _constant(value: float, like: Buffer) -> Buffer:
    found = Buffer.from_array(np.full((1,) * like.ndim, value, like.dtype))
    found.constant = True
    return found


def _bounds(kind: str, name: str, factor: Factor) -> tuple[float, float]:
    """f is from -f to f; a pair is itself."""
    try:
        low, high = (-factor, factor) if isinstance(factor, (int, float)) else factor
        fits = math.isfinite(low) and math.isfinite(high) and low <= high
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"[{kind}] {name} must be a number >= 0 or a pair (low, high); received {factor!r}"
        )
    return float(low), float(high)
