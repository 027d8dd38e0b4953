"""Optimizers: one pass of one kernel over flat parameters, gradients and moments.

Formulas and defaults are Keras 3's. What changes from step to step (learning rate, step count)
lives in a buffer that the kernels read.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ranvier import _core
from ranvier._core import Buffer
from ranvier.interrupts import uninterrupted
from ranvier.optimizers import schedules
from ranvier.registry import Registry
from ranvier.variables import Variable, house, offsets

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "deserialize", "get", "serialize"]

LearningRate = float | schedules.LearningRateSchedule
_RATES = 4096  # of a schedule, known at a time


class _Span:
    """Variables that lie one behind another, with their gradients and moments: one kernel call."""

    def __init__(self, p: Buffer, g: Buffer, moments: list[Buffer], weight_decay: float) -> None:
        self.p, self.g, self.moments, self.weight_decay = p, g, moments, weight_decay


class Optimizer:
    """Base class.

    Args:
        learning_rate: the step's size, above 0, which can be changed at any time; or a schedule of
            `optimizers.schedules`.
        weight_decay: before each step p -= learning_rate * weight_decay * p, apart from the
            gradient and its moments (Loshchilov and Hutter, 2019); None is none.
        name: shown in messages.
        clipnorm: a variable's gradient that is longer is shortened to this length; None: never.
        clipvalue: each value of a gradient is brought between -clipvalue and clipvalue.
        global_clipnorm: as clipnorm, for all gradients together (Pascanu et al., 2013). One of the
            three may be given.
    """

    slots = 0  # moments kept for each parameter

    def __init__(
        self,
        learning_rate: LearningRate,
        weight_decay: float | None = None,
        name: str | None = None,
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        self.name = name or type(self).__name__.lower()
        self.clipnorm = _limit(self.name, "clipnorm", clipnorm)
        self.clipvalue = _limit(self.name, "clipvalue", clipvalue)
        self.global_clipnorm = _limit(self.name, "global_clipnorm", global_clipnorm)
        limits = [self.clipnorm, self.clipvalue, self.global_clipnorm]
        self._clips = limits != [None] * 3
        if limits.count(None) < 2:
            raise ValueError(f"[{self.name}] give one of clipnorm, clipvalue and global_clipnorm")
        decay = None if weight_decay is None else _number(self.name, "weight_decay", weight_decay)
        self.weight_decay = decay
        self._undecayed: tuple[set[str], list[str]] = set(), []
        self.variables: list[Variable] = []
        self.gradients: list[Buffer] = []
        self._owner: weakref.ref[Any] | None = None
        self._early = False
        self._spans: list[_Span] = []
        self._homes: list[tuple[Buffer, list[Buffer], int]] = []
        self._moments: list[list[Buffer]] = []
        # learning_rate, beta_1^step, beta_2^step, Adam's rate, step: as OptimizerState in kernels.h
        self.state = Buffer.from_array(np.array([0.0, 1.0, 1.0, 0.0, 0.0]))
        self._view = self.state.view()
        self.schedule: schedules.LearningRateSchedule | None = None
        # Of a schedule: the learning rate of step i at i % _RATES, written for steps before _known.
        self._rates: Buffer | None = None
        self._known = 0
        self.learning_rate = learning_rate

    @property
    def learning_rate(self) -> Any:
        """The step's size; of a schedule that of the next step."""
        return float(self._view[0] if self.schedule is None else self.schedule(self.iterations))

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        if isinstance(value, (schedules.LearningRateSchedule, Mapping)):
            self.schedule = schedules.get(value)
            self._rates = self._rates or Buffer((_RATES,), "float64")
            self._known = self.iterations
        elif self.schedule is not None:
            raise TypeError(
                f"[{self.name}] the learning rate follows {type(self.schedule).__name__}: give it "
                "another schedule, or make an optimizer with a number"
            )
        else:
            self._view[0] = _number(self.name, "learning_rate", value)

    def look_ahead(self, count: int) -> int:
        """Write down the learning rates of up to `count` steps from the next on; returns of how
        many. They must be known before steps run without Python."""
        if self.schedule is None:
            return count
        assert self._rates is not None
        first = self.iterations
        end = first + min(count, _RATES - first % _RATES)
        begin = max(first, self._known)
        if begin < end:
            rates = self.schedule.rates(begin, end)
            self._rates.view()[begin % _RATES :][: end - begin] = rates
            self._known = end
        return end - first

    @property
    def iterations(self) -> int:
        """Steps done."""
        return int(self._view[4])

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] = (), var_names: Iterable[str] = ()
    ) -> None:
        """Leave variables as they are but for their gradients: biases, for example.

        Args:
            var_list: the variables.
            var_names: patterns (of `re`); variables are meant whose name contains one.

        Raises:
            ValueError: if the optimizer has taken steps or met its variables already.
        """
        if self.variables:
            raise ValueError(
                f"[{self.name}] exclude_from_weight_decay must come before the optimizer is built"
            )
        self._undecayed = {v.path for v in var_list or ()}, list(var_names or ())

    def _decay_of(self, variable: Variable) -> float:
        paths, patterns = self._undecayed
        if variable.path in paths or any(re.search(p, variable.name) for p in patterns):
            return 0.0
        return self.weight_decay or 0.0

    def build(self, variables: Sequence[Variable]) -> None:
        """Take over variables: give them places in an arena, and make gradients and moments.

        Args:
            variables: float32 or float64. The same ones again change nothing; others start anew.
        """
        variables = list(variables)
        if [id(v) for v in variables] == [id(v) for v in self.variables]:
            return
        house(variables)
        self._view[1:] = 1.0, 1.0, 0.0, 0.0
        self._known = 0
        self.variables = variables
        homes: dict[int, tuple[Buffer, list[Buffer], int]] = {}
        for dtype in dict.fromkeys(v.dtype for v in variables):
            group = [v for v in variables if v.dtype == dtype]
            starts, end = offsets(group)
            flat_g = Buffer((end,), dtype)
            flat_m = [Buffer((end,), dtype) for _ in range(self.slots)]
            for v, start in zip(group, starts, strict=True):
                homes[id(v)] = flat_g, flat_m, start
        self._homes = [homes[id(v)] for v in variables]
        self.gradients, self._moments = [], []
        for v, (flat_g, flat_m, start) in zip(variables, self._homes, strict=True):
            self.gradients.append(flat_g.part(start, v.shape))
            self._moments.append([m.part(start, v.shape) for m in flat_m])
        self._spans = self._join([True] * len(variables))

    def _join(self, wanted: list[bool]) -> list[_Span]:
        """The wanted variables, in runs that lie in their arena as their gradients do in theirs."""
        spans: list[_Span] = []
        items = [
            (v, home) for v, home, w in zip(self.variables, self._homes, wanted, strict=True) if w
        ]
        first = 0
        for i in range(1, len(items) + 1):
            if i < len(items):
                (a, (a_g, _, a_start)), (b, (b_g, _, b_start)) = items[i - 1], items[i]
                gap = offsets([a])[1]  # from one to the next, if nothing lies between
                together = b.arena is a.arena and b_g is a_g
                together = together and self._decay_of(a) == self._decay_of(b)
                if together and b.offset - a.offset == gap and b_start - a_start == gap:
                    continue
            (head, (flat_g, flat_m, start)), (tail, (_, _, last)) = items[first], items[i - 1]
            assert head.arena is not None  # house
            # To the end of the last variable, not of its padding: that may be another model's.
            length = last + tail.size - start
            spans.append(
                _Span(
                    head.arena.part(head.offset, (length,)),
                    flat_g.part(start, (length,)),
                    [m.part(start, (length,)) for m in flat_m],
                    self._decay_of(head),
                )
            )
            first = i
        return spans

    def attach(self, early: bool = True) -> None:
        """Have the variables gather their gradients here, from nothing.

        Args:
            early: let a recorded step change a variable in the call that completes its gradient.
        """
        self._early = early and not self._clips  # norms are known when gradients are complete
        for variable, gradient, moments in zip(
            self.variables, self.gradients, self._moments, strict=True
        ):
            variable.gradient = gradient
            if self._early:
                decay = self._decay_of(variable)
                self.update(variable, gradient, *moments, weight_decay=decay, keep=True)

    def detach(self) -> None:
        """Have the variables gather no gradients."""
        for variable in self.variables:
            variable.gradient = None

    def take_step(self, backward: Callable[[], Any]) -> None:
        """Gather the gradients by `backward`, and change the variables by them.

        A step that is composed and run at once changes nothing before `backward` is through. One
        that is only recorded, and run when all of it is known to work, takes each variable's step
        as soon as its gradient is complete.
        """
        if self._early and _core.recording():
            self.tick()
            backward()
            for span in self._join([not variable.updated for variable in self.variables]):
                self.update(span.p, span.g, *span.moments, weight_decay=span.weight_decay)
            return
        backward()
        with uninterrupted():
            self.step()

    def step(self) -> None:
        """Change the variables by the gradients gathered."""
        self.tick()
        if self._clips:
            self._clip()
        for span in self._spans:
            self.update(span.p, span.g, *span.moments, weight_decay=span.weight_decay)

    def _clip(self) -> None:
        if self.clipnorm is not None:
            for gradient in self.gradients:
                _core.clip_by_norm([gradient], self.clipnorm)
        elif self.clipvalue is not None:
            for span in self._spans:
                _core.clip_by_value(span.g, self.clipvalue)
        elif self.global_clipnorm is not None:
            _core.clip_by_norm([span.g for span in self._spans], self.global_clipnorm)

    def belong_to(self, model: Any) -> None:
        """Note whose optimizer this is: its moments and step count are one model's alone.

        Raises:
            ValueError: if it is another's.
        """
        owner = self._owner() if self._owner is not None else None
        if owner is not None and owner is not model:
            raise ValueError(
                f"[compile] this {type(self).__name__} is the optimizer of {owner.name!r} already: "
                "give each model one of its own"
            )
        self._owner = weakref.ref(model)

    def tick(self) -> None:
        """Advance the step count and what follows from it."""
        _core.tick(self.state, 0.0, 0.0, self._rates)

    def update(
        self,
        p: Buffer,
        g: Buffer,
        *moments: Buffer,
        weight_decay: float = 0.0,
        keep: bool = False,
    ) -> None:
        """One kernel call over flat Buffers.

        Args:
            weight_decay: p's.
            keep: p is a variable that remembers the call for when its gradient is complete.
        """
        raise NotImplementedError(f"[{self.name}] {type(self).__name__} must define update")

    def apply_gradients(self, pairs: Sequence[tuple[Any, Variable]]) -> None:
        """Step with gradients given as arrays.

        Args:
            pairs: (gradient, variable), the same variables each time.

        Raises:
            ValueError: if a gradient has not its variable's shape; nothing is changed then.
        """
        pairs = list(pairs)
        for array, variable in pairs:
            if np.shape(array) != variable.shape:
                raise ValueError(
                    f"[{self.name}] the gradient of {variable.path} has shape {np.shape(array)} "
                    f"but the variable has {variable.shape}"
                )
        self.build([variable for _, variable in pairs])
        for (array, _), gradient in zip(pairs, self.gradients, strict=True):
            gradient.assign(array)
        self.look_ahead(1)
        self.step()

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the moments, for each variable in turn."""
        return [m.numpy() for moments in self._moments for m in moments]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "learning_rate": schedules.serialize(self.schedule) or self.learning_rate,
            "weight_decay": self.weight_decay,
            "name": self.name,
            "clipnorm": self.clipnorm,
            "clipvalue": self.clipvalue,
            "global_clipnorm": self.global_clipnorm,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Optimizer:
        """The optimizer of a config, with no steps done."""
        return cls(**config)


class SGD(Optimizer):
    """Gradient descent: p -= learning_rate g.

    With momentum: velocity = momentum velocity - learning_rate g and p += velocity, or with
    Nesterov's look ahead p += momentum velocity - learning_rate g (Sutskever et al., 2013).

    Args:
        momentum: from 0 to 1.
        nesterov: whether to look ahead.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        name: str | None = None,
        **clipping: float | None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, name, **clipping)
        self.momentum, self.nesterov = _share("SGD", "momentum", momentum, 1.0), bool(nesterov)
        self.slots = 1 if self.momentum else 0

    def update(
        self,
        p: Buffer,
        g: Buffer,
        *moments: Buffer,
        weight_decay: float = 0.0,
        keep: bool = False,
    ) -> None:
        velocity = moments[0] if moments else None
        _core.sgd(p, g, velocity, self.state, self.momentum, self.nesterov, keep, weight_decay)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}


class RMSprop(Optimizer):
    """v = rho v + (1 - rho) g^2; p -= learning_rate g / sqrt(v + epsilon)
    (Hinton, lecture 6e, 2012).

    Args:
        rho: how slowly the mean of the squares forgets, from 0 to below 1.
        momentum: gathers the steps, from 0 to 1.
        epsilon: keeps the root from 0.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        name: str | None = None,
        **clipping: float | None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, name, **clipping)
        self.rho = _share("RMSprop", "rho", rho)
        self.momentum = _share("RMSprop", "momentum", momentum, 1.0)
        self.epsilon = _number("RMSprop", "epsilon", epsilon)
        self.slots = 2 if self.momentum else 1

    def update(
        self,
        p: Buffer,
        g: Buffer,
        *moments: Buffer,
        weight_decay: float = 0.0,
        keep: bool = False,
    ) -> None:
        velocity = moments[1] if self.momentum else None
        state, rho, momentum, epsilon = self.state, self.rho, self.momentum, self.epsilon
        _core.rmsprop(p, g, moments[0], velocity, state, rho, momentum, epsilon, keep, weight_decay)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }


class Adam(Optimizer):
    """m += (1 - beta_1)(g - m); v += (1 - beta_2)(g^2 - v);
    p -= learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)
    (Kingma and Ba, 2015; epsilon outside the bias correction, as in Keras).

    Args:
        beta_1, beta_2: how slowly the two means forget, from 0 to below 1.
        epsilon: keeps the root from 0.
    """

    slots = 2

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        name: str | None = None,
        **clipping: float | None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, name, **clipping)
        self.beta_1, self.beta_2 = (
            _share("Adam", "beta_1", beta_1),
            _share("Adam", "beta_2", beta_2),
        )
        self.epsilon = _number("Adam", "epsilon", epsilon)

    def tick(self) -> None:
        _core.tick(self.state, self.beta_1, self.beta_2, self._rates)

    def update(
        self,
        p: Buffer,
        g: Buffer,
        *moments: Buffer,
        weight_decay: float = 0.0,
        keep: bool = False,
    ) -> None:
        m, v = moments
        beta_1, beta_2, epsilon = self.beta_1, self.beta_2, self.epsilon
        _core.adam(p, g, m, v, self.state, beta_1, beta_2, epsilon, keep, weight_decay)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


class AdamW(Adam):
    """`Adam` that also lets weights decay: before each step
    p -= learning_rate * weight_decay * p (Loshchilov and Hutter, 2019).

    Args:
        weight_decay: how fast; `exclude_from_weight_decay` names variables that do not.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str | None = None,
        **clipping: float | None,
    ) -> None:
        if weight_decay is None:
            raise ValueError("[AdamW] weight_decay must be a number; Adam has none by default")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, name, **clipping)


def _number(owner: str, name: str, value: float) -> float:
    """A finite number >= 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError(f"[{owner}] {name} must be a number >= 0; received {name}={value!r}")
    return number


def _limit(owner: str, name: str, value: float | None) -> float | None:
    """None, or a finite number > 0."""
    if value is not None and _number(owner, name, value) == 0:
        raise ValueError(f"[{owner}] {name} must be above 0; received {name}={value!r}")
    return None if value is None else float(value)


def _share(owner: str, name: str, value: float, high: float | None = None) -> float:
    """A factor from 0 to below 1, or to `high`."""
    number = _number(owner, name, value)
    if not (number < 1 or number == high):
        raise ValueError(f"[{owner}] {name} must be from 0 to 1; received {name}={value!r}")
    return number


_registry = Registry("optimizer", Optimizer, [SGD, RMSprop, Adam, AdamW])
get = deserialize = _registry.get
serialize = _registry.serialize
