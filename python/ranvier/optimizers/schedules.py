"""Schedules: a learning rate for each step, given to an optimizer in place of a number.

Formulas and arguments are Keras 3's; steps count from 0. Each is also a function of an array of
steps, to draw it.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np

from ranvier.registry import Registry

__all__ = [
    "CosineDecay",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "deserialize",
    "serialize",
]


class LearningRateSchedule:
    """Base class. One of your own defines `__call__(step)`, a function of the step alone: it is
    asked some steps ahead."""

    def __call__(self, step: Any) -> Any:
        raise NotImplementedError(f"[schedule] {type(self).__name__} must define __call__(step)")

    def rates(self, begin: int, end: int) -> np.ndarray:
        """The learning rates of the steps from `begin` to before `end`.

        Raises:
            ValueError: if one is no number >= 0.
        """
        rates = np.array([self(step) for step in range(begin, end)], np.float64)
        return self._checked(rates, begin)

    def _checked(self, rates: np.ndarray, begin: int) -> np.ndarray:
        good = np.isfinite(rates) & (rates >= 0)
        if not good.all():
            bad = int(good.argmin())
            raise ValueError(
                f"[schedule] {type(self).__name__} must give numbers >= 0; of step {begin + bad} it"
                f" gave {rates[bad]}"
            )
        return rates

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        raise NotImplementedError(f"[schedule] {type(self).__name__} must define get_config()")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRateSchedule:
        """The schedule of a config."""
        return cls(**config)


class _Formula(LearningRateSchedule):
    """A schedule whose formula takes many steps at once."""

    def rates(self, begin: int, end: int) -> np.ndarray:
        return self._checked(self(np.arange(begin, end)), begin)

    def get_config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in signature(type(self)).parameters}


class _Decay(_Formula):
    def __init__(self, initial_learning_rate: float, decay_steps: int, name: str) -> None:
        if not decay_steps > 0:
            raise ValueError(
                f"[{type(self).__name__}] decay_steps must be above 0; received decay_steps="
                f"{decay_steps!r}"
            )
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.name = name


class ExponentialDecay(_Decay):
    """initial_learning_rate * decay_rate^(step / decay_steps).

    Args:
        staircase: whether step / decay_steps is rounded down.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, name)
        self.decay_rate, self.staircase = decay_rate, staircase

    def __call__(self, step):
        p = np.asarray(step) / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (
            np.floor(p) if self.staircase else p
        )


class InverseTimeDecay(_Decay):
    """initial_learning_rate / (1 + decay_rate * step / decay_steps).

    Args:
        staircase: whether step / decay_steps is rounded down.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, name)
        self.decay_rate, self.staircase = decay_rate, staircase

    def __call__(self, step):
        p = np.asarray(step) / self.decay_steps
        p = np.floor(p) if self.staircase else p
        return self.initial_learning_rate / (1 + self.decay_rate * p)


class PolynomialDecay(_Decay):
    """(initial_learning_rate - end_learning_rate) * (1 - step / decay_steps)^power +
    end_learning_rate, and end_learning_rate after decay_steps.

    Args:
        cycle: whether it begins anew after decay_steps instead, each time over so many steps more.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, name)
        self.end_learning_rate, self.power, self.cycle = end_learning_rate, power, cycle

    def __call__(self, step):
        p = np.asarray(step) / self.decay_steps
        p = p / np.maximum(np.ceil(p), 1) if self.cycle else np.minimum(p, 1)
        fall = self.initial_learning_rate - self.end_learning_rate
        return fall * (1 - p) ** self.power + self.end_learning_rate


class CosineDecay(_Decay):
    """initial_learning_rate * ((1 - alpha) (1 + cos(pi step / decay_steps)) / 2 + alpha), and
    initial_learning_rate * alpha after decay_steps (Loshchilov and Hutter, 2017).

    Args:
        alpha: the share of the learning rate that is left at the end.
        warmup_target: None, or where to climb from initial_learning_rate in a straight line before,
            and to decay from.
        warmup_steps: in how many steps.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, name)
        self.alpha, self.warmup_target, self.warmup_steps = alpha, warmup_target, warmup_steps

    def __call__(self, step):
        start, top, warmup = self.initial_learning_rate, self.warmup_target, self.warmup_steps
        if top is None:
            top, warmup = start, 0
        step = np.asarray(step)
        climb = start + (top - start) * step / max(warmup, 1)
        p = np.clip((step - warmup) / self.decay_steps, 0, 1)
        decay = (1 - self.alpha) * 0.5 * (1 + np.cos(np.pi * p)) + self.alpha
        return np.where(step < warmup, climb, top * decay)[()]


class PiecewiseConstantDecay(_Formula):
    """values[0] up to step boundaries[0], values[1] behind it up to boundaries[1], and so on.

    Args:
        boundaries: steps in rising order.
        values: learning rates, one more than boundaries.
    """

    def __init__(
        self, boundaries: Sequence[int], values: Sequence[float], name: str = "PiecewiseConstant"
    ) -> None:
        if len(boundaries) != len(values) - 1 or list(boundaries) != sorted(boundaries):
            raise ValueError(
                "[PiecewiseConstantDecay] boundaries must rise, and values be one more; received "
                f"boundaries={boundaries}, values={values}"
            )
        self.boundaries, self.values, self.name = list(boundaries), list(values), name

    def __call__(self, step):
        return np.asarray(self.values, np.float64)[np.searchsorted(self.boundaries, step)]


_registry = Registry(
    "schedule",
    LearningRateSchedule,
    [
        ExponentialDecay,
        InverseTimeDecay,
        PolynomialDecay,
        CosineDecay,
        PiecewiseConstantDecay,
    ],
)
get = deserialize = _registry.get
serialize = _registry.serialize
