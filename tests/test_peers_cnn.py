"""Convolutional nets beside Keras 3: from equal weights and the same batches, the same losses.

The nets are made by one function for both, since their names are the same. Keras runs on the
backend of KERAS_BACKEND, JAX unless it is set. `pytest -m peers -rP` shows the largest deviations.

Relus and max pooling have kinks, and these nets meet 300,000 of them in a step: now and then two
libraries, whose sums differ in the last bits, are on different sides of one. One pixel is then
missing from a sum of gradients of both signs, which changes it by about 1 / sqrt(300,000); hence
the weights differ, and more kinks. That settles where losses differ by the square of what a step
changes in them: with Keras's usual learning rates at some percent after 50 steps, also for Ranvier
beside itself in float64. The rates here are so small that it stays below the tolerances, and noise
keeps large areas of equal pixels, which would cross a kink together, out of the images.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

import ranvier

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's own
]

STEPS, BATCH = 50, 32
TOLERANCE = {"fast": 1e-3, "highest": 1e-4}  # relative, of every step's loss
RATES = {("plain", "SGD"): 5e-4, ("normalized", "SGD"): 2e-5,
         ("plain", "Adam"): 1e-4, ("normalized", "Adam"): 3e-5}  # fmt: skip


@functools.cache
def digits():
    """Some embedded digits, standardised, on 24x24 pixels with smooth passages and noise."""
    (x, y), _ = ranvier.datasets.digits.load_data()
    x, y = ((x - x.mean()) / x.std()).astype(np.float32)[: 5 * BATCH, ..., None], y[: 5 * BATCH]
    x = ranvier.layers.Resizing(24, 24)(x)
    return x + np.random.default_rng(5).normal(0, 0.3, x.shape).astype(np.float32), y.astype(int)


def net(library, kind, optimizer):
    """Its second and third convolution are Winograd's where that is allowed."""
    layers = library.layers

    def convolution(filters):
        if kind == "plain":
            return [layers.Conv2D(filters, 3, padding="same", activation="relu")]
        convolve = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        return [convolve, layers.BatchNormalization(), layers.Activation("relu")]

    model = library.Sequential(
        [
            library.Input((24, 24, 1)),
            *convolution(16),
            *convolution(32),
            layers.MaxPooling2D(),
            *convolution(48),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    rule = getattr(library.optimizers, optimizer)(learning_rate=RATES[kind, optimizer], **options)
    model.compile(rule, "sparse_categorical_crossentropy")
    r = np.random.default_rng(3)
    model.set_weights([start(r, w.name, tuple(w.shape)) for w in model.weights])
    return model


def start(r, name, shape):
    """Kernels as Glorot and Bengio (2010) start them; of the others no two are equal."""
    if name == "kernel":
        window = np.prod(shape[:-2])
        return r.normal(0, np.sqrt(2 / (window * (shape[-2] + shape[-1]))), shape)
    low = 0.9 if name in ("gamma", "moving_variance") else -0.1
    return r.uniform(low, low + 0.2, shape)


def trained(library, kind, optimizer):
    """(losses of every step, weights after the last, what is predicted with these)"""
    model = net(library, kind, optimizer)
    x, y = digits()
    losses = []
    for step in range(STEPS):
        rows = np.arange(step * BATCH, (step + 1) * BATCH) % len(x)
        losses.append(float(model.train_on_batch(x[rows], y[rows])))
    return np.array(losses), model.get_weights(), model.predict(x, verbose=0)


@functools.cache
def trained_by_keras(kind, optimizer):
    import keras

    return trained(keras, kind, optimizer)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize(("kind", "optimizer"), RATES)
def test_training_follows_keras(keras, kind, optimizer, precision):
    ranvier.set_precision(precision)
    ours, weights, predicted = trained(ranvier, kind, optimizer)
    theirs, their_weights, expected = trained_by_keras(kind, optimizer)
    tolerance = TOLERANCE[precision]
    deviation = np.abs(ours / theirs - 1)
    apart = np.abs(predicted - expected).max()
    print(f"loss {theirs[0]:.3f} to {theirs[-1]:.3f}, largest relative deviation "
          f"{deviation.max():.1e}, of the predictions {apart:.1e}")  # fmt: skip
    assert theirs[-5:].mean() < 0.97 * theirs[:5].mean()  # it has learnt something
    assert deviation.max() <= tolerance, f"first at step {np.argmax(deviation > tolerance)}"
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=tolerance)
    for mine, other in zip(weights, their_weights, strict=True):
        other = np.asarray(other)
        np.testing.assert_allclose(mine, other, rtol=0, atol=10 * tolerance * np.abs(other).max())


def test_precision_decides_how_these_nets_are_computed():
    found = []
    for precision in TOLERANCE:
        ranvier.set_precision(precision)
        found.append(net(ranvier, "plain", "SGD").predict(digits()[0], verbose=0))
    assert not np.array_equal(*found)
    np.testing.assert_allclose(*found, rtol=0, atol=1e-5)
