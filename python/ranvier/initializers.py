"""Initialisers: what a weight holds before the first step.

An initialiser is called with a shape and a float type and returns a new array. One with a seed
returns the same values at each call; with `seed=None` each call draws a fresh seed from
`ranvier.seeds`, so that a single instance may fill many weights and `set_random_seed` repeats
them all.

A kernel's last two axes are (inputs, outputs) and the axes before them its receptive field. With
R the product of the latter, fan_in = R * inputs and fan_out = R * outputs; a vector of n has both
fans n, a scalar both 1.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import seeds
from .config import dtype_name
from .registry import Registry, snake_case

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "compute_fans",
    "deserialize",
    "get",
    "serialize",
]

# The standard deviation of a standard normal variable cut off at -2 and 2:
# sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)).
_TRUNCATED_STDDEV = 0.87962566103423978
_BLOCK = 1 << 17  # values drawn at a time, so that they, and masks of them, stay in the cache


class Initializer:
    """Base class: define `__call__(shape, dtype=None)` and, to be saved, `get_config`."""

    def __call__(self, shape: int | Sequence[int], dtype: DTypeLike | None = None) -> np.ndarray:
        """Make the values of a weight.

        Args:
            shape: the weight's shape, non-negative integers.
            dtype: float32 or float64; None is `ranvier.config.floatx()`.

        Returns:
            A new C-contiguous array (shape) of dtype.

        Raises:
            ValueError: if shape or dtype is unusable.
        """
        return self._make(_as_shape(self._tag, shape), dtype_name(dtype))

    def _make(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        raise NotImplementedError(f"[{self._tag}] define __call__(self, shape, dtype=None)")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Initializer:
        """Make an initialiser from the result of `get_config`."""
        return cls(**config)

    @property
    def _tag(self) -> str:
        return snake_case(type(self).__name__)


InitializerLike = (
    Initializer | Callable[..., Any] | type[Initializer] | str | Mapping[str, Any] | None
)


class Zeros(Initializer):
    """All zeros."""

    def _make(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return np.zeros(shape, dtype)


class Ones(Initializer):
    """All ones."""

    def _make(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return np.ones(shape, dtype)


class Constant(Initializer):
    """One value everywhere, or a given array.

    Args:
        value: a number, or an array that broadcasts to the weight's shape.
    """

    def __init__(self, value: ArrayLike = 0.0) -> None:
        if np.asarray(value).dtype.kind not in "biuf":
            raise ValueError(f"[{self._tag}] value must be real numbers; received {value!r}")
        self.value = value

    def _make(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        value = np.asarray(self.value)
        try:
            return np.full(shape, value, dtype)
        except ValueError:
            raise ValueError(
                f"[{self._tag}] a value of shape {value.shape} does not fit the shape {shape}"
            ) from None

    def get_config(self) -> dict[str, Any]:
        return {"value": np.asarray(self.value).tolist()}


class Identity(Initializer):
    """The identity matrix times gain; for an oblong matrix ones on its main diagonal.

    Args:
        gain: the factor.
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = _finite(self._tag, "gain", gain)

    def _make(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        if len(shape) != 2:
            raise ValueError(f"[{self._tag}] shape must have two axes; received {shape}")
        values = np.eye(*shape, dtype=dtype)
        values *= self.gain
        return values

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain}


class _Random(Initializer):
    def __init__(self, seed: int | None = None) -> None:
        self.seed = seeds.check_seed(self._tag, seed)

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}


class RandomNormal(_Random):
    """Normal distribution.

    Args:
        mean: its centre.
        stddev: its standard deviation, >= 0.
        seed: None or an integer >= 0.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = _finite(self._tag, "mean", mean)
        self.stddev = _finite(self._tag, "stddev", stddev, least=0)

    def _make(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return _normal(seeds.generator(self.seed), shape, dtype, self.mean, self.stddev)

    def get_config(self) -> dict[str, Any]:
        return {"mean": self.mean, "stddev": self.stddev, "seed": self.seed}


class TruncatedNormal(RandomNormal):
    """Normal distribution whose values beyond two standard deviations are drawn again.

    Args:
        mean: its centre.
        stddev: the standard deviation before the cut, >= 0; after it 0.8796 of that remains.
        seed: None or an integer >= 0.
    """

    def _make(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return _truncated_normal(seeds.generator(self.seed), shape, dtype, self.mean, self.stddev)


class RandomUniform(_Random):
    """Uniform distribution between minval and maxval.

    Args:
        minval: lower bound.
        maxval: upper bound, >= minval.
        seed: None or an integer >= 0.
    """

    def __init__(
        self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None
    ) -> None:
        super().__init__(seed)
        self.minval = _finite(self._tag, "minval", minval)
        self.maxval = _finite(self._tag, "maxval", maxval)
        if self.maxval < self.minval:
            raise ValueError(
                f"[{self._tag}] maxval must not be below minval; "
                f"received minval={minval}, maxval={maxval}"
            )

    def _make(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return _uniform(seeds.generator(self.seed), shape, dtype, self.minval, self.maxval)

    def get_config(self) -> dict[str, Any]:
        return {"minval": self.minval, "maxval": self.maxval, "seed": self.seed}


class VarianceScaling(_Random):
    """Mean 0 and variance scale / fan, so that signals keep their size from layer to layer.

    Args:
        scale: the numerator, > 0.
        mode: "fan_in", "fan_out" or "fan_avg" (their mean): the denominator, at least 1.
        distribution: "truncated_normal" (cut at two standard deviations, and widened so that the
            variance is right after the cut), "untruncated_normal", or "uniform" on
            +-sqrt(3 scale / fan).
        seed: None or an integer >= 0.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.scale = _finite(self._tag, "scale", scale)
        if self.scale <= 0:
            raise ValueError(f"[{self._tag}] scale must be positive; received scale={scale}")
        self.mode = _choice(self._tag, "mode", mode, ("fan_in", "fan_out", "fan_avg"))
        self.distribution = _choice(
            self._tag,
            "distribution",
            "truncated_normal" if distribution == "normal" else distribution,
            ("truncated_normal", "untruncated_normal", "uniform"),
        )

    def _make(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        fan_in, fan_out = compute_fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        rng = seeds.generator(self.seed)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return _uniform(rng, shape, dtype, -limit, limit)
        stddev = math.sqrt(variance)
        if self.distribution == "untruncated_normal":
            return _normal(rng, shape, dtype, 0.0, stddev)
        return _truncated_normal(rng, shape, dtype, 0.0, stddev / _TRUNCATED_STDDEV)

    def get_config(self) -> dict[str, Any]:
        return {
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Initializer:
        # Keras also writes which axes are inputs and outputs; None is the order that we use.
        axes = ("input_axes", "output_axes")
        return cls(**{k: v for k, v in config.items() if k not in axes or v is not None})


class _Preset(VarianceScaling):
    """A `VarianceScaling` with a name of its own; only the seed is left to choose."""

    _preset: tuple[float, str, str]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(*self._preset, seed=seed)

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}


class GlorotNormal(_Preset):
    """Truncated normal of variance 2 / (fan_in + fan_out): Glorot and Bengio (2010)."""

    _preset = (1.0, "fan_avg", "truncated_normal")


class GlorotUniform(_Preset):
    """Uniform on +-sqrt(6 / (fan_in + fan_out)): Glorot and Bengio (2010)."""

    _preset = (1.0, "fan_avg", "uniform")


class HeNormal(_Preset):
    """Truncated normal of variance 2 / fan_in, for relu: He et al. (2015)."""

    _preset = (2.0, "fan_in", "truncated_normal")


class HeUniform(_Preset):
    """Uniform on +-sqrt(6 / fan_in), for relu: He et al. (2015)."""

    _preset = (2.0, "fan_in", "uniform")


class LecunNormal(_Preset):
    """Truncated normal of variance 1 / fan_in, as selu wants it: LeCun et al. (1998)."""

    _preset = (1.0, "fan_in", "truncated_normal")


class LecunUniform(_Preset):
    """Uniform on +-sqrt(3 / fan_in): LeCun et al. (1998)."""

    _preset = (1.0, "fan_in", "uniform")


class Orthogonal(_Random):
    """A random matrix with orthonormal rows or columns, whichever are fewer: Saxe et al. (2014).

    All axes but the last are taken together as rows. The matrix is the Q of a normal matrix's QR
    decomposition, with signs such that R's diagonal is positive; else it would not be uniform.

    Args:
        gain: factor on the result.
        seed: None or an integer >= 0.
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = _finite(self._tag, "gain", gain)

    def _make(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(f"[{self._tag}] shape must have two axes or more; received {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        long, short = max(rows, columns), min(rows, columns)
        # float64 throughout: in float32 the columns would be orthogonal to a few digits only.
        q, r = np.linalg.qr(seeds.generator(self.seed).standard_normal((long, short)))
        q *= np.where(np.diagonal(r) < 0, -self.gain, self.gain)
        return np.ascontiguousarray(q if rows >= columns else q.T, dtype).reshape(shape)

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, "seed": self.seed}


_CLASSES: tuple[type[Initializer], ...] = (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Identity,
    LecunNormal,
    LecunUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
)


def compute_fans(shape: Sequence[int]) -> tuple[int, int]:
    """The fan_in and fan_out of a weight of this shape (see the head of this module)."""
    if len(shape) == 0:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    receptive_field = math.prod(shape[:-2])
    return receptive_field * shape[-2], receptive_field * shape[-1]


def get(identifier: InitializerLike) -> Callable[..., Any] | None:
    """Find the initialiser that an argument means.

    Args:
        identifier: a name ("glorot_uniform" or "GlorotUniform"), a dict as `serialize` makes it, an
            initialiser, its class, any function (shape, dtype) -> array, or None.

    Returns:
        An initialiser or the function; None for None.

    Raises:
        ValueError: if a name is unknown or the argument is none of these.
    """
    plain = callable(identifier) and not isinstance(identifier, type)
    return identifier if identifier is None or plain else deserialize(identifier)  # type: ignore


def serialize(initializer: Initializer | Callable[..., Any] | None) -> dict[str, Any] | None:
    """Describe an initialiser by a dict that JSON can hold: {"class_name": ..., "config": ...}.

    Raises:
        ValueError: for a plain function, which has no name that `get` could find again.
    """
    if initializer is not None and not isinstance(initializer, Initializer):
        raise ValueError(
            f"[initializer] {initializer!r} is a function and cannot be saved: write it as a "
            "subclass of Initializer with get_config"
        )
    return _registry.serialize(initializer)


def deserialize(
    config: Any, custom_objects: Mapping[str, type[Initializer]] | None = None
) -> Initializer | None:
    """Make the initialiser that `serialize` described.

    Args:
        config: a dict with "class_name" and perhaps "config"; other keys are ignored.
        custom_objects: classes of the user's own, by name. Nothing is ever imported by name.

    Raises:
        ValueError: if config is not such a dict or the name is unknown.
    """
    return None if config is None else _registry.get(config, custom_objects)


def _normal(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: str, mean: float, stddev: float
) -> np.ndarray:
    values = np.empty(shape, dtype)
    for block in _blocks(values):
        rng.standard_normal(dtype=block.dtype, out=block)
        block *= stddev
        block += mean
    return values


def _truncated_normal(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: str, mean: float, stddev: float
) -> np.ndarray:
    values = np.empty(shape, dtype)
    for block in _blocks(values):
        rng.standard_normal(dtype=block.dtype, out=block)
        beyond = np.flatnonzero(np.abs(block) > 2)
        while beyond.size:
            block[beyond] = rng.standard_normal(beyond.size, dtype=block.dtype)
            beyond = beyond[np.abs(block[beyond]) > 2]
        block *= stddev
        block += mean
    return values


def _uniform(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: str, low: float, high: float
) -> np.ndarray:
    values = np.empty(shape, dtype)
    for block in _blocks(values):
        rng.random(dtype=block.dtype, out=block)
        block *= high - low
        block += low
    return values


def _blocks(values: np.ndarray) -> Iterable[np.ndarray]:
    """Parts that stay in the cache while they are drawn and scaled: weights may be gigabytes."""
    flat = values.reshape(-1)
    return (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))


def _as_shape(tag: str, shape: int | Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(map(operator.index, shape if isinstance(shape, Iterable) else (shape,)))
    except TypeError:
        sizes = (-1,)
    if min(sizes, default=0) < 0:
        raise ValueError(f"[{tag}] shape must be non-negative integers; received {shape!r}")
    return sizes


def _finite(tag: str, name: str, value: float, least: float = -math.inf) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= least):
        wanted = "a finite number" + (f" >= {least}" if least > -math.inf else "")
        raise ValueError(f"[{tag}] {name} must be {wanted}; received {name}={value!r}")
    return number


def _choice(tag: str, name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(
            f"[{tag}] {name} must be one of {', '.join(allowed)}; received {name}={value!r}"
        )
    return value


# The only names that a file or an argument can give.
_registry = Registry(
    "initializer",
    Initializer,
    _CLASSES,
    {
        "OrthogonalInitializer": Orthogonal,
        "IdentityInitializer": Identity,
        "zero": Zeros,
        "one": Ones,
        "normal": RandomNormal,
        "uniform": RandomUniform,
    },
)
