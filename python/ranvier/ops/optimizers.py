"""Steps of the optimizers, in place."""

from __future__ import annotations

import numpy as np

from ranvier import _core


def _state(learning_rate: float) -> np.ndarray:
    """What the optimizer kernels read: learning rate, beta powers, Adam's rate, step."""
    return np.array([learning_rate, 1.0, 1.0, 0.0, 0.0])


def _check_decay(op: str, weight_decay: float) -> None:
    if not 0 <= weight_decay < float("inf"):
        raise ValueError(f"[{op}] weight_decay must be a number >= 0; received {weight_decay!r}")


def sgd(
    p: np.ndarray,
    g: np.ndarray,
    *,
    learning_rate: float = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
    velocity: np.ndarray | None = None,
    weight_decay: float = 0.0,
) -> None:
    """Gradient descent, in place: p -= learning_rate g.

    With momentum: velocity = momentum velocity - learning_rate g and p += velocity, or with
    Nesterov's look ahead p += momentum velocity - learning_rate g (Sutskever et al., 2013).

    Args:
        p: parameters, any shape, contiguous; changed.
        g: their gradient.
        velocity: as p, zero at first, changed; needed for momentum.
        weight_decay: first p -= learning_rate * weight_decay * p (Loshchilov and Hutter, 2019).
    """
    _check_decay("sgd", weight_decay)
    if momentum and velocity is None:
        raise ValueError("[sgd] momentum needs velocity, an array of zeros like p")
    velocity = velocity if momentum else None
    state = _state(learning_rate)
    _core.sgd(p, g, velocity, state, momentum, nesterov, weight_decay=weight_decay)


def rmsprop(
    p: np.ndarray,
    g: np.ndarray,
    v: np.ndarray,
    *,
    learning_rate: float = 0.001,
    rho: float = 0.9,
    epsilon: float = 1e-7,
    momentum: float = 0.0,
    velocity: np.ndarray | None = None,
    weight_decay: float = 0.0,
) -> None:
    """RMSprop, in place (Hinton, lecture 6e, 2012, with Keras's place for epsilon).

    v = rho v + (1 - rho) g^2; step = learning_rate g / sqrt(v + epsilon); p -= step, or with
    momentum velocity = momentum velocity + step and p -= velocity.

    Args:
        p: parameters, any shape, contiguous; changed.
        g: their gradient.
        v: as p, zero at first; changed.
        velocity: as p, zero at first, changed; needed for momentum.
        weight_decay: first p -= learning_rate * weight_decay * p (Loshchilov and Hutter, 2019).
    """
    _check_decay("rmsprop", weight_decay)
    if momentum and velocity is None:
        raise ValueError("[rmsprop] momentum needs velocity, an array of zeros like p")
    velocity = velocity if momentum else None
    state = _state(learning_rate)
    _core.rmsprop(p, g, v, velocity, state, rho, momentum, epsilon, weight_decay=weight_decay)


def adam(
    p: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    *,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float = 0.0,
) -> None:
    """Adam, in place (Kingma and Ba, 2015, with epsilon added as Keras does).

    m += (1 - beta_1)(g - m); v += (1 - beta_2)(g^2 - v);
    p -= learning_rate sqrt(1 - beta_2^step) / (1 - beta_1^step) m / (sqrt(v) + epsilon).

    Args:
        p: parameters, any shape, contiguous; changed.
        g: their gradient.
        m, v: as p, zero at first; changed.
        step: 1 for the first update.
        weight_decay: first p -= learning_rate * weight_decay * p (AdamW:
            Loshchilov and Hutter, 2019).
    """
    _check_decay("adam", weight_decay)
    if step < 1:
        raise ValueError(f"[adam] step counts from 1; received {step}")
    state = _state(learning_rate)
    state[1:3] = beta_1 ** (step - 1), beta_2 ** (step - 1)
    _core.tick(state, beta_1, beta_2)
    _core.adam(p, g, m, v, state, beta_1, beta_2, epsilon, weight_decay=weight_decay)
