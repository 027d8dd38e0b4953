"""Metrics: what is reported beside the loss, added up over an epoch by kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ranvier import _core, config
from ranvier.losses import align
from ranvier.registry import Registry, snake_case

__all__ = [
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "Mean",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "SparseCategoricalAccuracy",
    "accuracy_for",
    "deserialize",
    "get",
    "serialize",
]


class Metric:
    """A mean that grows batch by batch.

    Args:
        name: shown beside the value.
    """

    labels = False  # y_true holds class labels

    def __init__(self, name: str | None = None) -> None:
        self.name = name or snake_case(type(self).__name__)
        self.sums = _core.Buffer((4,), "float64")  # total, count, batches, first bad batch
        self._view = self.sums.view()
        self.reset_state()

    def reset_state(self) -> None:
        """Forget what has been added."""
        self._view[:] = 0, 0, 0, -1

    def result(self) -> float:
        """The mean so far; 0 before anything was added."""
        total, count = self._view[:2]
        return float(total / count) if count else 0.0

    def forward(self, y_true: Any, y_pred: Any) -> None:
        """Add a batch, given as Buffers: y_true aligned with y_pred, labels as int32."""
        raise NotImplementedError

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike) -> None:
        """Add a batch, given as arrays.

        Raises:
            ValueError: if the shapes do not fit.
        """
        y_pred = np.asarray(y_pred)
        if y_pred.dtype not in (np.float32, np.float64):
            y_pred = y_pred.astype(config.floatx())
        y_true = np.asarray(y_true)
        y_true = y_true.reshape(align(self.name, y_true.shape, y_pred.shape, self.labels))
        y_true = y_true.astype(np.int32 if self.labels else y_pred.dtype)
        self.forward(_core.Buffer.from_array(y_true), _core.Buffer.from_array(y_pred))

    def __call__(self, y_true: ArrayLike, y_pred: ArrayLike) -> float:
        """Add a batch and return the mean so far."""
        self.update_state(y_true, y_pred)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Metric:
        """The metric of a config."""
        return cls(**config)


class Mean(Metric):
    """The mean of a value that is already computed for each batch, weighted by rows: the loss."""

    def add(self, value: Any, rows: int) -> None:
        """Add a batch's value, a Buffer (1,)."""
        _core.accumulate(self.sums, value, rows)

    @property
    def first_bad(self) -> int | None:
        """The first batch whose value was not finite, counted from 0; None if all were."""
        return None if self._view[3] < 0 else int(self._view[3])


class _MeanLoss(Metric):
    kernel: Any

    def forward(self, y_true: Any, y_pred: Any) -> None:
        value, _ = type(self).kernel(y_true, y_pred, False, False)
        _core.accumulate(self.sums, value, y_pred.shape[0])


class MeanSquaredError(_MeanLoss):
    """The mean of (y_pred - y_true)^2."""

    kernel = staticmethod(_core.mean_squared_error)


class MeanAbsoluteError(_MeanLoss):
    """The mean of |y_pred - y_true|."""

    kernel = staticmethod(_core.mean_absolute_error)


class BinaryAccuracy(Metric):
    """The share of outputs on the right side of the threshold.

    Args:
        threshold: y_pred above it counts as 1.
    """

    def __init__(self, name: str | None = None, threshold: float = 0.5) -> None:
        super().__init__(name)
        self.threshold = threshold

    def forward(self, y_true: Any, y_pred: Any) -> None:
        _core.binary_accuracy(self.sums, y_true, y_pred, self.threshold)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold}


class CategoricalAccuracy(Metric):
    """The share of rows whose largest output is where the largest target is."""

    def forward(self, y_true: Any, y_pred: Any) -> None:
        _core.categorical_accuracy(self.sums, y_true, y_pred)


class SparseCategoricalAccuracy(Metric):
    """The share of rows whose largest output is at the label."""

    labels = True

    def forward(self, y_true: Any, y_pred: Any) -> None:
        _core.sparse_categorical_accuracy(self.sums, y_true, y_pred)


def accuracy_for(y_true: tuple[int, ...], y_pred: tuple[int | None, ...], name: str) -> Metric:
    """The accuracy that "accuracy" means for these shapes, as Keras chooses it."""
    if y_pred[-1] == 1:
        return BinaryAccuracy(name)
    if len(y_true) < len(y_pred) or y_true[-1] == 1:
        return SparseCategoricalAccuracy(name)
    return CategoricalAccuracy(name)


_registry = Registry(
    "metric",
    Metric,
    [
        MeanSquaredError,
        MeanAbsoluteError,
        BinaryAccuracy,
        CategoricalAccuracy,
        SparseCategoricalAccuracy,
    ],
    {"mse": MeanSquaredError, "mae": MeanAbsoluteError},
)
deserialize = _registry.get
serialize = _registry.serialize


def get(identifier: Any) -> Metric:
    """The metric that an argument means; a string names the value as it stands, as in Keras."""
    metric = _registry.get(identifier)
    if isinstance(identifier, str):
        metric.name = identifier
    return metric
