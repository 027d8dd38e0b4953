"""Losses: the value, and the gradient of its mean over the batch, in one visit.

Formulas and clipping are Keras 3's. The kernels do the arithmetic: see `ranvier.ops`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ranvier import _core, config
from ranvier.registry import Registry, snake_case

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "align",
    "deserialize",
    "get",
    "serialize",
]


def align(
    name: str, shape: tuple[int, ...], prediction: tuple[int | None, ...], labels: bool
) -> tuple[int, ...]:
    """The shape in which y_true meets y_pred.

    One trailing axis of 1 is squeezed or added, as in Keras 3; nothing is ever broadcast.

    Args:
        name: of the loss or metric, for the message.
        shape: y_true's.
        prediction: y_pred's; None matches any number of rows.
        labels: y_true holds class labels, one for each row of y_pred.

    Returns:
        A shape of the same size as y_true's.

    Raises:
        ValueError: if the two do not fit.
    """
    wanted = prediction[:-1] if labels else prediction

    def fits(candidate: tuple[int, ...]) -> bool:
        return len(candidate) == len(wanted) and all(
            w is None or c == w for c, w in zip(candidate, wanted, strict=True)
        )

    candidates = [shape, (*shape, 1)]
    if shape and shape[-1] == 1:
        candidates.append(shape[:-1])
    for candidate in candidates:
        if fits(candidate):
            return candidate
    text = f"[{name}] y_true has shape {shape} but y_pred has shape {prediction}: "
    if labels:
        if len(shape) == len(prediction) and shape[-1] == prediction[-1]:
            hint = "one-hot targets go with categorical_crossentropy"
        else:
            hint = f"labels need shape {wanted}, or {(*wanted, 1)}"
    elif len(shape) == len(prediction) - 1 and "categorical" in name:
        hint = "integer labels go with sparse_categorical_crossentropy, or use utils.to_categorical"
    else:
        hint = "the last layer must have as many outputs as y has columns"
    raise ValueError(text + hint)


class Loss:
    """Base class.

    A subclass names its kernel, or defines `forward`.

    Args:
        name: shown in messages.
    """

    kernel: Callable[..., Any]
    labels = False  # y_true holds class labels

    def __init__(self, name: str | None = None) -> None:
        self.name = name or snake_case(type(self).__name__)
        self.from_logits = False

    def forward(self, y_true: Any, y_pred: Any, *, gradient: bool = True) -> tuple[Any, Any]:
        """The loss of a batch, a Buffer (1,), and the gradient by y_pred, None if not wanted.

        Args:
            y_true: a Buffer of y_pred's shape and dtype; int32 labels (rows,) where `labels`.
            y_pred: a Buffer (rows, ..., columns).
        """
        return type(self).kernel(y_true, y_pred, self.from_logits, gradient)

    def __call__(self, y_true: ArrayLike, y_pred: ArrayLike) -> float:
        """The loss of two arrays.

        Raises:
            ValueError: if the shapes do not fit, labels are out of range or the arrays are empty.
        """
        y_pred = np.asarray(y_pred)
        if y_pred.dtype not in (np.float32, np.float64):
            y_pred = y_pred.astype(config.floatx())
        y_true = np.asarray(y_true)
        y_true = y_true.reshape(align(self.name, y_true.shape, y_pred.shape, self.labels))
        if not self.labels:
            y_true = y_true.astype(y_pred.dtype)
        elif y_true.dtype.kind == "f":
            if not np.all(np.isfinite(y_true) & (y_true == np.floor(y_true))):
                raise ValueError(f"[{self.name}] labels must be whole numbers; received {y_true}")
            y_true = y_true.astype(np.int64)
        return type(self).kernel(y_true, y_pred, self.from_logits, False)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        """The loss of a config."""
        return cls(**config)


class MeanSquaredError(Loss):
    """The mean of (y_pred - y_true)^2."""

    kernel = staticmethod(_core.mean_squared_error)


class MeanAbsoluteError(Loss):
    """The mean of |y_pred - y_true|."""

    kernel = staticmethod(_core.mean_absolute_error)


class _Crossentropy(Loss):
    """Args:
    from_logits: y_pred holds logits, not probabilities.
    """

    def __init__(self, from_logits: bool = False, name: str | None = None) -> None:
        super().__init__(name)
        self.from_logits = bool(from_logits)

    def get_config(self) -> dict[str, Any]:
        return {"from_logits": self.from_logits, **super().get_config()}


class BinaryCrossentropy(_Crossentropy):
    """The mean of -(t log p + (1 - t) log(1 - p)), p clipped to [1e-7, 1 - 1e-7].

    Args:
        from_logits: y_pred holds logits z, p = sigmoid(z).
    """

    kernel = staticmethod(_core.binary_crossentropy)


class CategoricalCrossentropy(_Crossentropy):
    """The mean over the rows of -sum t log p; y_true holds a distribution in each row.

    Probabilities that come from a softmax layer are taken together with it: the loss is computed
    from what went into the softmax, exactly, and the gradient is p - t.

    Args:
        from_logits: y_pred holds logits z, p = softmax(z).
    """

    kernel = staticmethod(_core.categorical_crossentropy)


class SparseCategoricalCrossentropy(_Crossentropy):
    """`CategoricalCrossentropy` for integer labels, (rows,) or (rows, 1).

    Args:
        from_logits: y_pred holds logits z, p = softmax(z).
    """

    kernel = staticmethod(_core.sparse_categorical_crossentropy)
    labels = True


_registry = Registry(
    "loss",
    Loss,
    [
        MeanSquaredError,
        MeanAbsoluteError,
        BinaryCrossentropy,
        CategoricalCrossentropy,
        SparseCategoricalCrossentropy,
    ],
    {"mse": MeanSquaredError, "mae": MeanAbsoluteError, "bce": BinaryCrossentropy},
)
get = deserialize = _registry.get
serialize = _registry.serialize
