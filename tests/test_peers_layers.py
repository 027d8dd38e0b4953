"""Convolutions and merging layers beside Keras 3: configurations at random, values and gradients.

Keras runs on the backend of KERAS_BACKEND (JAX unless it is set); its derivatives are that
backend's.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from ranvier import layers
from ranvier._core import Buffer

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import HealthCheck, assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore"),  # what a peer says
]
every = settings(
    max_examples=int(os.environ.get("RANVIER_EXAMPLES", "40")),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TOLERANCE = 2e-4  # of the largest value: float32 sums of some hundred products, in another order


def gradients_of_keras(keras, layer, xs, dy):
    """Of the sum of dy times the layer's output: by the inputs, then by its variables."""
    backend = keras.backend.backend()
    call = (lambda xs: layer(xs)) if len(xs) > 1 else (lambda xs: layer(xs[0]))
    if backend == "tensorflow":
        import tensorflow as tf

        xs = [tf.constant(x) for x in xs]
        with tf.GradientTape() as tape:
            tape.watch(xs)
            total = tf.reduce_sum(call(xs) * dy)
        variables = [v.value for v in layer.trainable_variables]
        return [np.asarray(g) for g in tape.gradient(total, [*xs, *variables])]
    if backend == "jax":
        import jax

        values = [v.value for v in layer.trainable_variables]

        def total(xs, values):
            y, _ = layer.stateless_call(values, [], xs if len(xs) > 1 else xs[0])
            return (y * dy).sum()

        by_xs, by_values = jax.grad(total, (0, 1))(xs, values)
        return [np.asarray(g) for g in [*by_xs, *by_values]]
    import torch

    xs = [torch.tensor(x, requires_grad=True) for x in xs]
    (call(xs) * torch.tensor(dy)).sum().backward()
    return [x.grad.numpy() for x in xs] + [v.value.grad.numpy() for v in layer.trainable_variables]


def gradients_of_ours(layer, xs, dy):
    buffers = [Buffer.from_array(x) for x in xs]
    for v in layer.trainable_weights:
        v.gradient = Buffer(v.shape, v.dtype)
    _, backward = layer.run(buffers if len(buffers) > 1 else buffers[0])
    dx = backward(Buffer.from_array(dy))
    found = [d.numpy() for d in (dx if len(buffers) > 1 else [dx])]
    found += [v.gradient.numpy() for v in layer.trainable_weights]
    for v in layer.trainable_weights:
        v.gradient = None
    return found


def assert_near(ours, theirs, what):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, what
    scale = max(np.abs(theirs).max(initial=0.0), 1e-3)
    deviation = np.abs(ours - theirs).max(initial=0.0) / scale
    assert deviation < TOLERANCE, (what, deviation)


def compare(keras, name, arguments, shapes):
    """The same layer with the same variables, on the same inputs."""
    ours, theirs = getattr(layers, name)(**arguments), getattr(keras.layers, name)(**arguments)
    r = np.random.default_rng(1)
    xs = [r.normal(size=s).astype(np.float32) for s in shapes]
    try:
        y = np.asarray(theirs(xs if len(xs) > 1 else xs[0]))
    except ValueError:  # what Keras refuses
        assume(False)
    assume(y.size)
    symbolic = [(None, *s[1:]) for s in shapes]
    ours.ensure_built(symbolic if len(xs) > 1 else symbolic[0])
    assert [v.shape for v in ours.weights] == [tuple(v.shape) for v in theirs.weights]
    weights = [r.normal(size=v.shape).astype(np.float32) / 3 for v in theirs.weights]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    y = np.asarray(theirs(xs if len(xs) > 1 else xs[0]))
    assert_near(ours(xs if len(xs) > 1 else xs[0]), y, "y")
    dy = r.normal(size=y.shape).astype(np.float32)
    found = gradients_of_ours(ours, xs, dy)
    for i, (a, b) in enumerate(zip(found, gradients_of_keras(keras, theirs, xs, dy), strict=True)):
        assert_near(a, b, f"gradient {i}")
    config = theirs.get_config()
    for key, value in ours.get_config().items():
        if isinstance(value, (int, str, tuple)) and key not in ("name", "dtype"):
            theirs_value = config[key]
            if isinstance(theirs_value, list):
                theirs_value = tuple(theirs_value)
            assert theirs_value == value, key


@st.composite
def convolutions(draw):
    rank = draw(st.sampled_from([1, 2]))
    name = draw(st.sampled_from(["Conv", "Conv", "Depthwise", "Separable", "Transpose"]))
    channels_first = draw(st.booleans()) and os.environ.get("KERAS_BACKEND") != "tensorflow"

    def per_axis(low, high):
        values = tuple(draw(st.integers(low, high)) for _ in range(rank))
        return values[0] if rank == 1 or draw(st.booleans()) else values

    arguments = {
        "kernel_size": per_axis(1, 4),
        "padding": draw(st.sampled_from(["valid", "same"])),
        "activation": draw(st.sampled_from(["linear", "relu", "tanh", "gelu"])),
        "use_bias": draw(st.booleans()),
        "data_format": "channels_first" if channels_first else "channels_last",
    }
    # Keras refuses strides and dilation together; depthwise strides that differ, on TensorFlow
    if draw(st.booleans()):
        arguments["strides"] = per_axis(1, 3)
        if name in ("Depthwise", "Separable") and rank == 2:
            arguments["strides"] = draw(st.integers(1, 3))
    else:
        arguments["dilation_rate"] = per_axis(1, 3)
    groups = draw(st.sampled_from([1, 1, 2, 3])) if name == "Conv" else 1
    channels = groups * draw(st.integers(1, 4))
    if name != "Depthwise":
        arguments["filters"] = groups * draw(st.integers(1, 20))
    if name == "Conv":
        arguments["groups"] = groups
        if rank == 1 and draw(st.booleans()):
            arguments["padding"] = "causal"
    if name in ("Depthwise", "Separable"):
        arguments["depth_multiplier"] = draw(st.integers(1, 3))
    kind = {"Conv": f"Conv{rank}D", "Transpose": f"Conv{rank}DTranspose"}
    axes = tuple(draw(st.integers(3, 10)) for _ in range(rank))
    rows = draw(st.integers(1, 3))
    shape = (rows, channels, *axes) if channels_first else (rows, *axes, channels)
    return kind.get(name, f"{name}Conv{rank}D"), arguments, shape


@every
@given(case=convolutions())
def test_convolutions(keras, case):
    name, arguments, shape = case
    compare(keras, name, arguments, [shape])


@st.composite
def merges(draw):
    name = draw(st.sampled_from(
        ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Dot"]
    ))  # fmt: skip
    shape = tuple(draw(st.integers(1, 5)) for _ in range(draw(st.integers(2, 4))))
    arguments = {}
    if name == "Concatenate":
        axis = draw(st.integers(1, len(shape) - 1))
        arguments["axis"] = axis if draw(st.booleans()) else axis - len(shape)
        sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
        return name, arguments, [(*shape[:axis], n, *shape[axis + 1 :]) for n in sizes]
    if name == "Dot":
        i = draw(st.integers(1, len(shape) - 1))
        other = [shape[0], *(draw(st.integers(1, 5)) for _ in range(draw(st.integers(1, 3))))]
        j = draw(st.integers(1, len(other) - 1))
        other[j] = shape[i]
        arguments = {"axes": (i, j), "normalize": draw(st.booleans())}
        return name, arguments, [shape, tuple(other)]
    # TensorFlow 2.21 adds (2, 2) and (2, 1) as if the second were b0 b1 b0 b1
    repeats = os.environ.get("KERAS_BACKEND") != "tensorflow"
    shapes = [
        (shape[0], *(draw(st.sampled_from([n, n, 1] if repeats else [n])) for n in shape[1:]))
        for _ in range(2 if name == "Subtract" else draw(st.integers(2, 4)))
    ]
    if repeats and draw(st.booleans()):  # fewer axes
        shapes[-1] = (shape[0], *shapes[-1][2:]) if len(shape) > 2 else shapes[-1]
    return name, arguments, shapes


@every
@given(case=merges())
def test_merges(keras, case):
    name, arguments, shapes = case
    if name == "Dot" and arguments["normalize"] and 1 in shapes[0][1:]:
        return  # the cosine of single numbers: no derivative to compare
    compare(keras, name, arguments, shapes)
