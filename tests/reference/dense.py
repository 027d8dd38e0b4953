"""Dense layers."""

from __future__ import annotations

import math

from reference.activation import activation as activation_of
from reference.activation import activation_backward
from reference.tensor import f64


def linear(x, w, b=None):
    z = f64(x) @ f64(w)
    return z if b is None else z + f64(b)


def dense(x, w, b=None, *, activation="linear", alpha=None):
    return activation_of(linear(x, w, b), activation, alpha=alpha)


def dense_backward(dy, x, y, w, b=None, *, activation="linear", alpha=None):
    dz = activation_backward(dy, linear(x, w, b), y, activation, alpha=alpha)
    x, w = f64(x), f64(w)
    dz_rows = dz.reshape(math.prod(dz.shape[:-1]), dz.shape[-1])
    x_rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return dz @ w.T, x_rows.T @ dz_rows, None if b is None else dz_rows.sum(axis=0)
