"""Small models that several tests train, and what is asked of them."""

from __future__ import annotations

import numpy as np
import pytest

from ranvier import Input, Sequential, layers


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape)


def labels(rows, classes=3, seed=0):
    return np.random.default_rng([seed, rows]).integers(0, classes, rows)


def stack():
    return [layers.Dense(4, activation="relu", name="a"), layers.Dense(2, name="b")]


def mlp(dtype="float32", loss="mse", optimizer="sgd", metrics=None):
    """3-4-2, always with the same weights."""
    model = Sequential(
        [
            Input((3,), dtype=dtype),
            layers.Dense(4, activation="tanh", dtype=dtype),
            layers.Dense(2, dtype=dtype),
        ]
    )
    model.set_weights([0.5 * draw(*w.shape) for w in model.get_weights()])
    model.compile(optimizer, loss, metrics)
    return model


def bits(model):
    return [w.tobytes() for w in model.get_weights()]


def same_weights(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def state(model):
    return bits(model), model.optimizer.iterations


def refused(model, call, error, text):
    """`call` raises, and leaves the model as it was and fit to go on."""
    before = state(model)
    with pytest.raises(error, match=text):
        call()
    assert state(model) == before
