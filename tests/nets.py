"""Small models that several tests train, and what is asked of them."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from ranvier import Input, Model, Sequential, layers


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


# --- parts of graphs, and models made of them ---------------------------------------------------


class Add(layers.NumpyLayer):
    def forward(self, x, *, training=False):
        return sum(x), lambda dy: [dy] * len(x)


class Join(layers.NumpyLayer):
    def forward(self, x, *, training=False):
        ends = np.cumsum([a.shape[1] for a in x])[:-1]
        return np.concatenate(x, axis=1), lambda dy: np.split(dy, ends, axis=1)


class Split(layers.NumpyLayer):
    def forward(self, x, *, training=False):
        half = x.shape[1] // 2
        return [x[:, :half], x[:, half:]], lambda dys: np.concatenate(dys, axis=1)


CUSTOM = {"Add": Add, "Join": Join, "Split": Split}


def dense(x, layer, activation="linear"):
    return reference.dense(x, layer.kernel.numpy(), layer.bias.numpy(), activation=activation)


def assert_near(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def two_by_two():
    a, b = Input((3,), name="a"), Input((2,), name="b")
    h = layers.Dense(4, activation="tanh", name="h")(a)
    both = Join(name="join")([h, b])
    return Model(
        [a, b], [layers.Dense(2, name="p")(both), layers.Dense(1, name="q")(h)], name="net"
    )


class Net(Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden = layers.Dense(units, activation="relu", name="hidden")
        self.out = layers.Dense(2, name="out")

    def call(self, x):
        return self.out(self.hidden(x))

    def get_config(self):
        return {"name": self.name, "units": self.units}


class NetByForward(Model):
    """As Net, with the way back written out."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(4, activation="relu", name="hidden")
        self.out = layers.Dense(2, name="out")

    def forward(self, x, *, training=False):
        h, hidden_back = self.hidden.run(x, training)
        y, out_back = self.out.run(h, training)
        return y, lambda dy: hidden_back(out_back(dy))


def summary(model, **kwargs):
    printed = []
    model.summary(print_fn=printed.append, **kwargs)
    (text,) = printed
    return text
