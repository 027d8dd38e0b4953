"""What compile asks for, matched with the model's outputs: losses, their weights, metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ranvier import _core, losses, metrics
from ranvier.feed import Lane, as_rows, check_labels

__all__ = ["Objectives", "check_names", "match"]

_ACCURACY = ("accuracy", "acc")


class _Output:
    """One output of the model with its loss and metrics."""

    def __init__(
        self, name: str, loss: losses.Loss | None, weight: float, requested: list[Any]
    ) -> None:
        self.name, self.loss, self.weight = name, loss, weight
        self.requested = requested  # metrics as given to compile
        self.metrics: list[metrics.Metric] | None = None  # made when y's shape is known
        self.tracker = metrics.Mean(f"{name}_loss")  # shown when there are several outputs


class Objectives:
    """The outputs of a model with their losses and metrics, and the loss of them all."""

    def __init__(self, outputs: list[_Output]) -> None:
        self.outputs = outputs
        self.loss = metrics.Mean("loss")

    def targets(
        self, what: str, model: str, y: Any, rows: int, shapes: list[tuple[int | None, ...]]
    ) -> list[np.ndarray]:
        """The user's y as one array for each output, aligned with its shape and checked."""
        names = [output.name for output in self.outputs]
        if y is None:
            raise ValueError(f"[{what}] y is missing: {model} was compiled with a loss")
        if isinstance(y, Mapping):
            missing = [name for name in names if name not in y]
            if missing:
                raise ValueError(f"[{what}] y has keys {list(y)} but the outputs are {names}")
            y = [y[name] for name in names]
        if len(names) == 1 and not (
            isinstance(y, (list, tuple)) and len(y) == 1 and np.ndim(y[0]) > 0 and rows != 1
        ):
            y = [y]
        arrays = [as_rows(what, "y", a) for a in y]
        if len(arrays) != len(names):
            raise ValueError(
                f"[{what}] {model} has outputs {names} but {len(arrays)} arrays of y were given"
            )
        chosen: list[list[metrics.Metric]] = []
        for i, (output, a, shape) in enumerate(zip(self.outputs, arrays, shapes, strict=True)):
            if a.ndim == 0 or len(a) != rows:
                raise ValueError(
                    f"[{what}] x has {rows} rows but y has "
                    f"{len(a) if a.ndim else 'none'}: they must be the same"
                )
            shape = (None, *shape[1:])
            labels = output.loss.labels if output.loss is not None else False
            name = output.loss.name if output.loss is not None else output.name
            arrays[i] = a.reshape(losses.align(name, a.shape, shape, labels))
            metrics_now = output.metrics or [
                _metric_for(m, a.shape, shape) for m in output.requested
            ]
            for metric in metrics_now:
                losses.align(metric.name, a.shape, shape, metric.labels)
            if labels or any(m.labels for m in metrics_now):
                check_labels(name, a, shape[-1])
            chosen.append(metrics_now)
        for output, metrics_now in zip(self.outputs, chosen, strict=True):
            output.metrics = metrics_now
        return arrays

    def losses(
        self, lane: Lane, rows: int, x: Any, ys: list[Any], gradient: bool
    ) -> tuple[Any, list[Any]]:
        """The weighted sum of the losses, a Buffer (1,), and the gradients by the outputs."""
        total, dys = None, []
        for i, (output, y_pred) in enumerate(zip(self.outputs, ys, strict=True)):
            targets: dict[bool, Any] = {}

            def target(labels: bool, i=i, y_pred=y_pred, targets=targets) -> Any:
                if labels not in targets:
                    dtype = "int32" if labels else y_pred.dtype
                    batch = lane.same_batch(i, x, dtype)  # an autoencoder's targets are its inputs
                    if batch is None:
                        batch = lane.batch("y", i, rows, dtype)
                    shape = losses.align("y", batch.shape, y_pred.shape, labels)
                    targets[labels] = batch if batch.shape == shape else batch.reshape(shape)
                return targets[labels]

            dy = None
            if output.loss is not None:
                value, dy = output.loss.forward(
                    target(output.loss.labels), y_pred, gradient=gradient
                )
                if len(self.outputs) > 1:
                    output.tracker.add(value, rows)
                if output.weight != 1.0:
                    scale = np.asarray(output.weight, value.dtype)
                    value = _core.affine(value, scale, None, None)
                    dy = None if dy is None else _core.scale_gradient(dy, output.weight)
                value = value if total is None else _core.cast(value, total.dtype)
                total = value if total is None else _core.add(total, value)
            dys.append(dy)
            for metric in output.metrics or []:
                metric.forward(target(metric.labels), y_pred)
        return total, dys

    def reset(self) -> None:
        self.loss.reset_state()
        for output in self.outputs:
            output.tracker.reset_state()
            for metric in output.metrics or []:
                metric.reset_state()

    def logs(self) -> dict[str, float]:
        """The means so far, by name, in Keras's order."""
        outputs = self.outputs
        logs = {"loss": self.loss.result()}
        if len(outputs) > 1:
            logs.update({f"{o.name}_loss": o.tracker.result() for o in outputs if o.loss})
        for output in outputs:
            for metric in output.metrics or []:
                name = metric.name if len(outputs) == 1 else f"{output.name}_{metric.name}"
                logs[name] = metric.result()
        return logs


def _metric_for(
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


def match(names: list[str], loss: Any, wanted_metrics: Any, weights: Any) -> Objectives:
    """The arguments of compile, matched with the names of the outputs.

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
        outputs.append(_Output(name, found, 1.0 if weight is None else weight, requested))
    return Objectives(outputs)
