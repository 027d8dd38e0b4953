"""Losses, each with its gradient in the same pass."""

from __future__ import annotations

from typing import Any

from ranvier import _core
from ranvier.ops.tensor import Tensor


def mean_squared_error(y_true: Tensor, y_pred: Tensor, *, gradient: bool = False) -> Any:
    """The mean of (y_pred - y_true)^2.

    Args:
        y_true, y_pred: (..., C), the same shape, not empty.
        gradient: return the gradient as well.

    Returns:
        The loss, a float; with gradient=True the pair (loss, d loss / d y_pred).
    """
    return _core.mean_squared_error(y_true, y_pred, False, gradient)


def mean_absolute_error(y_true: Tensor, y_pred: Tensor, *, gradient: bool = False) -> Any:
    """The mean of |y_pred - y_true|; its slope at 0 is 0.

    Arguments and result as in `mean_squared_error`.
    """
    return _core.mean_absolute_error(y_true, y_pred, False, gradient)


def binary_crossentropy(
    y_true: Tensor, y_pred: Tensor, *, from_logits: bool = False, gradient: bool = False
) -> Any:
    """The mean of -(t log p + (1 - t) log(1 - p)).

    Args:
        y_true: (..., C), t, from 0 to 1.
        y_pred: (..., C), p, which is clipped to [1e-7, 1 - 1e-7] and has no slope where it is; or
            logits.
        from_logits: y_pred holds logits z, p = sigmoid(z).
        gradient: return the gradient as well.

    Returns:
        The loss, a float; with gradient=True the pair (loss, d loss / d y_pred).
    """
    return _core.binary_crossentropy(y_true, y_pred, from_logits, gradient)


def categorical_crossentropy(
    y_true: Tensor, y_pred: Tensor, *, from_logits: bool = False, gradient: bool = False
) -> Any:
    """The mean over the rows of -sum t log p.

    Args:
        y_true: (..., C), t, a distribution over the classes in each row.
        y_pred: (..., C), p, which is divided by its row's sum and clipped to [1e-7, 1 - 1e-7]; or
            logits.
        from_logits: y_pred holds logits z, p = softmax(z), computed as one with the loss.
        gradient: return the gradient as well.

    Returns:
        The loss, a float; with gradient=True the pair (loss, d loss / d y_pred).
    """
    return _core.categorical_crossentropy(y_true, y_pred, from_logits, gradient)


def sparse_categorical_crossentropy(
    y_true: Tensor, y_pred: Tensor, *, from_logits: bool = False, gradient: bool = False
) -> Any:
    """`categorical_crossentropy` for labels: the mean over the rows of -log p[label].

    Args:
        y_true: (...,), integers from 0 to C - 1; anything else is a ValueError.
        y_pred, from_logits, gradient: as in `categorical_crossentropy`.

    Returns:
        The loss, a float; with gradient=True the pair (loss, d loss / d y_pred).
    """
    return _core.sparse_categorical_crossentropy(y_true, y_pred, from_logits, gradient)
