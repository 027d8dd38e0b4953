"""Optimizers: the new values, in the order of the arguments that change."""

from __future__ import annotations

import math

import numpy as np

from reference.tensor import f64


def decayed(p, learning_rate, weight_decay):
    """Loshchilov and Hutter, "Decoupled weight decay" (2019); as in Keras before the step."""
    return f64(p) - learning_rate * (weight_decay or 0.0) * f64(p)


def sgd(p, g, *, learning_rate=0.01, momentum=0.0, nesterov=False, velocity=None, weight_decay=0.0):
    p, g = decayed(p, learning_rate, weight_decay), f64(g)
    v = momentum * (np.zeros_like(p) if velocity is None else f64(velocity)) - learning_rate * g
    return p + (momentum * v - learning_rate * g if nesterov else v), v


def rmsprop(
    p, g, v, *, learning_rate=0.001, rho=0.9, epsilon=1e-7, momentum=0.0, velocity=None,
    weight_decay=0.0,
):  # fmt: skip
    p, g = decayed(p, learning_rate, weight_decay), f64(g)
    v = rho * f64(v) + (1 - rho) * g**2
    increment = learning_rate * g / np.sqrt(v + epsilon)
    velocity = momentum * (np.zeros_like(p) if velocity is None else f64(velocity)) + increment
    return p - velocity, v, velocity


def adam(
    p, g, m, v, *, step, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7,
    weight_decay=0.0,
):  # fmt: skip
    """Kingma and Ba, "Adam" (2015), in the form at the end of their section 2."""
    p, g, m, v = decayed(p, learning_rate, weight_decay), f64(g), f64(m), f64(v)
    m = m + (g - m) * (1 - beta_1)
    v = v + (g**2 - v) * (1 - beta_2)
    rate = learning_rate * math.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    return p - rate * m / (np.sqrt(v) + epsilon), m, v


def clipped(gradients, clipnorm=None, clipvalue=None, global_clipnorm=None):
    """The gradients, a list, as they are after one of the three limits."""
    gradients = [f64(g) for g in gradients]
    if clipvalue is not None:
        return [np.clip(g, -clipvalue, clipvalue) for g in gradients]
    norms = [np.sqrt((g**2).sum()) for g in gradients]
    if global_clipnorm is not None:
        norms, clipnorm = [np.sqrt(np.square(norms).sum())] * len(norms), global_clipnorm
    return [g * clipnorm / max(n, clipnorm) for g, n in zip(gradients, norms, strict=True)]
