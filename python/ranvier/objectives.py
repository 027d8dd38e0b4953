"""What compile asks for, matched with the model's outputs: losses, their weights, metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ranvier import losses, metrics

__all__ = ["Output", "check_names", "match", "metric_for"]

_ACCURACY = ("accuracy", "acc")


class Output:
    """One output of the model with its loss and metrics."""

    def __init__(
        self, name: str, loss: losses.Loss | None, weight: float, requested: list[Any]
    ) -> None:
        self.name, self.loss, self.weight = name, loss, weight
        self.requested = requested  # metrics as given to compile
        self.metrics: list[metrics.Metric] | None = None  # made when y's shape is known
        self.tracker = metrics.Mean(f"{name}_loss")  # shown when there are several outputs


def metric_for(
    wanted: Any, y: tuple[int, ...], prediction: tuple[int | None, ...]
) -> metrics.Metric:
    if wanted in _ACCURACY:
        return metrics.accuracy_for(y, prediction, wanted)
    return metrics.get(wanted)


def _leaves(given: Any) -> list[Any]:
    """The names and objects in an argument of compile, whatever its form."""
    if given is None:
        return []
    if isinstance(given, Mapping) and "class_name" not in given:
        given = list(given.values())
    if isinstance(given, (list, tuple)):
        return [leaf for item in given for leaf in _leaves(item)]
    return [given]


def _each(given: Any, names: list[str], what: str) -> list[Any]:
    """An argument of compile as one item for each output."""
    if isinstance(given, Mapping) and "class_name" not in given:
        unknown = [key for key in given if key not in names]
        if unknown:
            raise ValueError(f"[compile] {what} has keys {unknown} but the outputs are {names}")
        return [given.get(name) for name in names]
    if isinstance(given, (list, tuple)):
        if len(given) != len(names):
            raise ValueError(
                f"[compile] {what} has {len(given)} items but the model has outputs {names}"
            )
        return list(given)
    return [given] * len(names)


def _each_metric(given: Any, names: list[str]) -> list[list[Any]]:
    def listed(item: Any) -> list[Any]:
        if item is None:
            return []
        return list(item) if isinstance(item, (list, tuple)) else [item]

    if isinstance(given, Mapping):
        return [listed(item) for item in _each(given, names, "metrics")]
    if len(names) > 1 and isinstance(given, Sequence) and not isinstance(given, str):
        return [listed(item) for item in _each(given, names, "metrics")]
    return [listed(given) for _ in names]


def check_names(loss: Any, wanted_metrics: Any) -> None:
    """Raise ValueError for names that are no loss or metric."""
    for item in _leaves(loss):
        losses.get(item)
    for item in _leaves(wanted_metrics):
        if item not in _ACCURACY:
            metrics.get(item)


def match(names: list[str], loss: Any, wanted_metrics: Any, weights: Any) -> list[Output]:
    """The arguments of compile as one Output for each output's name.

    Raises:
        ValueError: if they do not fit the outputs, or no output has a loss.
    """
    each_loss = _each(loss, names, "loss")
    if loss is not None and all(item is None for item in each_loss):
        raise ValueError(f"[compile] no output has a loss: loss={loss!r}")
    outputs = []
    for name, item, weight, requested in zip(
        names,
        each_loss,
        _each(weights, names, "loss_weights"),
        _each_metric(wanted_metrics, names),
        strict=True,
    ):
        found = None if item is None else losses.get(item)
        outputs.append(Output(name, found, 1.0 if weight is None else weight, requested))
    return outputs
