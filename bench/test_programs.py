"""Whole programs through `fit` beside NumPy written by hand, PyTorch and JAX, from equal weights.

Times are of one step, taken over several epochs.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy_net import Net
from peer_nets import with_jax, with_torch
from works import LIBRARIES, Work, beside, torch_of

import ranvier


class Fit(Work):
    """Training of a dense net with Adam. The last activation is sigmoid, then the loss is the mean
    squared error, or softmax with labels.

    Args:
        widths: of the layers, the input's first.
        last: activation of the last layer.
        data: the function that draws x and y.
        batch: rows of a step.
        epochs: in one run.
    """

    def __init__(self, widths, last, data, batch, epochs):
        self.widths, self.last, self.data = widths, last, data
        self.batch, self.epochs = batch, epochs
        kind = "autoencoder" if last == "sigmoid" else "MLP"
        self.name = f"{kind} {'-'.join(map(str, widths))}, batch {batch}"
        self.steps = epochs * len(data()[0]) // batch

    def draw(self):
        return self.data()

    def weights(self):
        r = np.random.default_rng(0)
        arrays = []
        for inputs, outputs in itertools.pairwise(self.widths):
            limit = np.sqrt(6 / (inputs + outputs))
            arrays += [r.uniform(-limit, limit, (inputs, outputs)), r.uniform(0, 0.1, outputs)]
        return [a.astype(np.float32) for a in arrays]

    def prepare(self, who):
        run = getattr(self, who)(*self.draw())
        # PyTorch's Adam puts epsilon elsewhere, JAX takes powers in float32: near, not the same.
        tolerance = 1e-4 if who in ("ranvier", "numpy") else 1e-2
        np.testing.assert_allclose([run(), run()], self.answers(), rtol=tolerance)
        return run

    def oracle(self):
        x, y = self.draw()
        run = self.numpy(x.astype(float), y, np.float64)
        return [run(), run()]

    def compiled(self, optimizer="adam"):
        hidden = [ranvier.layers.Dense(units, activation="relu") for units in self.widths[1:-1]]
        out = ranvier.layers.Dense(self.widths[-1], activation=self.last)
        model = ranvier.Sequential([ranvier.Input((self.widths[0],)), *hidden, out])
        loss = "mse" if self.last == "sigmoid" else "sparse_categorical_crossentropy"
        model.compile(optimizer=optimizer, loss=loss)
        model.set_weights(self.weights())
        return model

    def losses(self, model, x, y):
        options = {"batch_size": self.batch, "epochs": self.epochs, "shuffle": False, "verbose": 0}
        return lambda: model.fit(x, y, **options).history["loss"]

    def ranvier(self, x, y):
        return self.losses(self.compiled(), x, y)

    def numpy(self, x, y, dtype=np.float32):
        net = Net(self.weights(), self.last, dtype)
        return lambda: [net.epoch(x, y, self.batch) for _ in range(self.epochs)]

    def torch(self, x, y):
        torch, *_ = torch_of(gradients=True)
        return with_torch(torch, self.weights(), self.last, x, y, self.batch, self.epochs)

    def jax(self, x, y):
        import jax

        return with_jax(jax, self.weights(), self.last, x, y, self.batch, self.epochs)


class FitWide(Fit):
    """A dense net with so many weights that Adam takes a good part of a step. Ranvier changes each
    weight as soon as its gradient is complete, or `late`, all of them at the end: with equal bits.
    PyTorch's Adam is its fused one. The gradients are so small that the two places where epsilon
    is added would count; hence one that is next to nothing.
    """

    epsilon = 1e-12

    def __init__(self, layers, width, batch, steps):
        def data():
            x = np.random.default_rng(4).random((steps * batch, width), np.float32)
            return x, x

        super().__init__((width,) * (layers + 1), "sigmoid", data, batch, epochs=1)
        self.name = f"{layers} x Dense({width}), batch {batch}"

    def prepare(self, who):
        run = getattr(self, who)(*self.draw())
        tolerance = 1e-3 if who == "torch" else 0
        np.testing.assert_allclose([run(), run()], self.answers(), rtol=tolerance)
        return run

    def oracle(self):
        run = self.late(*self.draw())
        return [run(), run()]

    def ranvier(self, x, y, early=True):
        model = self.compiled(ranvier.optimizers.Adam(epsilon=self.epsilon))
        # No public switch: what is true here is false for a net with a NumpyLayer, and only there.
        assert model._early
        model._early = early
        return self.losses(model, x, y)

    def late(self, x, y):
        return self.ranvier(x, y, early=False)

    def torch(self, x, y):
        torch, *_ = torch_of(gradients=True)
        options = {"fused": True, "eps": self.epsilon}
        net = self.weights(), self.last, x, y
        return with_torch(torch, *net, self.batch, self.epochs, **options)


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


WIDE = FitWide(layers=6, width=2048, batch=64, steps=4)


@beside(
    Fit((10, 5, 5, 5, 10), "sigmoid", rows, batch=1, epochs=10),
    Fit((784, 64, 64, 784), "sigmoid", patches, batch=256, epochs=1),
    Fit((784, 64, 64, 10), "softmax", images, batch=32, epochs=1),
)
def test_fit(measure, work, who):
    measure(work, who)


@pytest.mark.parametrize("who", ["ranvier", "late", *({"torch"} & set(LIBRARIES))])
def test_adam_inside_backward(measure, who):
    measure(WIDE, who)
