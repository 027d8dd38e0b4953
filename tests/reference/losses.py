"""Losses: (value, d value / d y_pred)."""

from __future__ import annotations

import numpy as np

from reference.activation import sigmoid, softmax
from reference.tensor import f64

PROBABILITY_EPSILON = 1e-7  # cross-entropies clip probabilities to [1e-7, 1 - 1e-7]


def _mean_over_rows(per_row, gradient_of_sum, gradient):
    rows = max(per_row.size, 1)
    value = float(per_row.sum() / rows)
    return (value, gradient_of_sum / rows) if gradient else value


def mean_squared_error(y_true, y_pred, *, gradient=False):
    difference = f64(y_pred) - f64(y_true)
    columns = difference.shape[-1]
    per_row = (difference**2).sum(axis=-1) / columns
    return _mean_over_rows(per_row, 2 * difference / columns, gradient)


def mean_absolute_error(y_true, y_pred, *, gradient=False):
    difference = f64(y_pred) - f64(y_true)
    columns = difference.shape[-1]
    per_row = np.abs(difference).sum(axis=-1) / columns
    return _mean_over_rows(per_row, np.sign(difference) / columns, gradient)


def _clip_probability(p, dtype):
    """`p` clipped, and 1 where the clip left it alone (there its derivative passes).

    The bounds are as the dtype of y_pred holds them: in float32 1 - 1e-7 is 1 - 2^-23.
    """
    low, one = dtype.type(PROBABILITY_EPSILON), dtype.type(1)
    clipped = np.clip(p, float(low), float(one - low))
    return clipped, np.where(clipped == p, 1.0, 0.0)


def binary_crossentropy(y_true, y_pred, *, from_logits=False, gradient=False):
    t, p = f64(y_true), f64(y_pred)
    columns = p.shape[-1]
    if from_logits:
        # -t log s(z) - (1 - t) log(1 - s(z)), with -log s(z) = softplus(-z)
        loss = t * np.logaddexp(0.0, -p) + (1 - t) * np.logaddexp(0.0, p)
        d_loss = sigmoid(p) - t
    else:
        p, passes = _clip_probability(p, np.asarray(y_pred).dtype)
        loss = -(t * np.log(p) + (1 - t) * np.log(1 - p))
        d_loss = passes * ((1 - t) / (1 - p) - t / p)
    return _mean_over_rows(loss.sum(axis=-1) / columns, d_loss / columns, gradient)


def categorical_crossentropy(y_true, y_pred, *, from_logits=False, gradient=False):
    t, p = f64(y_true), f64(y_pred)
    if from_logits:
        shifted = p - p.max(axis=-1, keepdims=True, initial=-np.inf)
        log_sum = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        per_row = -(t * (shifted - log_sum)).sum(axis=-1)
        d_rows = softmax(p) * t.sum(axis=-1, keepdims=True) - t
    else:
        total = p.sum(axis=-1, keepdims=True)
        q = p / total
        c, passes = _clip_probability(q, np.asarray(y_pred).dtype)
        per_row = -(t * np.log(c)).sum(axis=-1)
        dq = -passes * t / c
        d_rows = (dq - (dq * q).sum(axis=-1, keepdims=True)) / total  # q = p / sum(p)
    return _mean_over_rows(per_row, d_rows, gradient)


def one_hot(labels, classes):
    return np.eye(classes)[np.asarray(labels).astype(np.int64)]


def sparse_categorical_crossentropy(y_true, y_pred, *, from_logits=False, gradient=False):
    return categorical_crossentropy(
        one_hot(y_true, np.shape(y_pred)[-1]), y_pred, from_logits=from_logits, gradient=gradient
    )
