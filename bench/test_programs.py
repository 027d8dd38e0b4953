"""Whole programs through `fit` beside NumPy written by hand, PyTorch and JAX, from equal weights.

Times are for several epochs, told in `extra_info` with the number of steps in them.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy_net import Net
from peer_nets import with_jax, with_torch

import ranvier


def weights_of(widths):
    r = np.random.default_rng(0)
    arrays = []
    for inputs, outputs in itertools.pairwise(widths):
        limit = np.sqrt(6 / (inputs + outputs))
        arrays += [r.uniform(-limit, limit, (inputs, outputs)), r.uniform(0, 0.1, outputs)]
    return [a.astype(np.float32) for a in arrays]


def with_ranvier(widths, last, x, y, batch, epochs):
    """The function that trains for some more epochs and returns their losses."""
    hidden = [ranvier.layers.Dense(units, activation="relu") for units in widths[1:-1]]
    out = ranvier.layers.Dense(widths[-1], activation=last)
    model = ranvier.Sequential([ranvier.Input((widths[0],)), *hidden, out])
    loss = "mse" if last == "sigmoid" else "sparse_categorical_crossentropy"
    model.compile(optimizer="adam", loss=loss)
    model.set_weights(weights_of(widths))

    def run():
        history = model.fit(x, y, batch_size=batch, epochs=epochs, shuffle=False, verbose=0)
        return history.history["loss"]

    return run


def with_numpy(widths, last, x, y, batch, epochs, dtype=np.float32):
    net = Net(weights_of(widths), last, dtype)
    return lambda: [net.epoch(x, y, batch) for _ in range(epochs)]


def on_torch(widths, last, x, y, batch, epochs):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    return with_torch(torch, weights_of(widths), last, x, y, batch, epochs)


def on_jax(widths, last, x, y, batch, epochs):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    return with_jax(jax, weights_of(widths), last, x, y, batch, epochs)


def rows():
    x = np.random.default_rng(1).random((100, 10), np.float32)
    return x, x


def images():
    """As many rows as 100 steps take, with labels that depend on some of the columns."""
    r = np.random.default_rng(2)
    x = r.normal(size=(3200, 784)).astype(np.float32)
    return x, (x[:, :40] @ r.normal(size=(40, 10))).argmax(axis=1)


def patches():
    x = np.random.default_rng(3).random((5120, 784), np.float32)
    return x, x


# name -> widths, last activation, data, batch size, epochs
PROGRAMS = {
    "autoencoder 10-5-5-5-10": ((10, 5, 5, 5, 10), "sigmoid", rows, 1, 10),
    "autoencoder 784-64-64-784": ((784, 64, 64, 784), "sigmoid", patches, 256, 1),
    "MLP 784-64-64-10": ((784, 64, 64, 10), "softmax", images, 32, 1),
}


MAKERS = {"ranvier": with_ranvier, "numpy": with_numpy, "torch": on_torch, "jax": on_jax}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("maker", MAKERS)
def test_fit(benchmark, maker, name):
    widths, last, data, batch, epochs = PROGRAMS[name]
    x, y = data()
    steps = epochs * len(x) // batch
    benchmark.group = f"{name}, batch {batch}: {steps} steps"
    benchmark.extra_info["steps"] = steps
    run = MAKERS[maker](widths, last, x, y, batch, epochs)
    losses = [run(), run()]
    oracle = with_numpy(widths, last, x.astype(float), y, batch, epochs, np.float64)
    # PyTorch's Adam puts epsilon elsewhere, JAX takes powers in float32: near, not the same.
    tolerance = 1e-4 if maker in ("ranvier", "numpy") else 1e-2
    np.testing.assert_allclose(losses, [oracle(), oracle()], rtol=tolerance)
    benchmark(run)
