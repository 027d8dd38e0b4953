"""Pooling, batch normalization and layers that frame images, beside Keras and PyTorch, at random.

Keras runs on the backend of KERAS_BACKEND, JAX unless it is set.
"""

from __future__ import annotations

import numpy as np
import pytest

from ranvier import layers, ops

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's own
]
quickly = settings(max_examples=40, deadline=None, derandomize=True)


def draw(shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(np.float32)


def images(axes):
    return st.tuples(
        st.integers(1, 3), *[st.integers(4, 12)] * axes, st.sampled_from([1, 3, 8, 17])
    )


def beside(keras, name, options, x, tolerance=1e-5, **call):
    """The layer of both, of equal options, gives equal outputs and shapes."""
    ours, theirs = getattr(layers, name)(**options), getattr(keras.layers, name)(**options)
    y, expected = ours(x, **call), keras.ops.convert_to_numpy(theirs(x, **call))
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
    shape = (None, *x.shape[1:])
    assert tuple(ours.compute_output_shape(shape)) == tuple(theirs.compute_output_shape(shape))
    return ours, theirs


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("kind", ["Max", "Average"])
def test_pooling(keras, kind, axes):
    @quickly
    @given(
        images(axes),
        st.integers(1, 4),
        st.none() | st.integers(1, 4),
        st.sampled_from(["valid", "same"]),
    )
    def check(shape, pool, strides, padding):
        if kind == "Average" and keras.backend.backend() == "torch":
            padding = "valid"  # with "same" Keras counts the padding on PyTorch, not elsewhere
        options = {"pool_size": pool, "strides": strides, "padding": padding}
        beside(keras, f"{kind}Pooling{axes}D", options, draw(shape))

    check()


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize("keepdims", [False, True])
def test_global_pooling(keras, kind, axes, keepdims):
    x = draw((3, *(7, 5)[:axes], 6))
    beside(keras, f"Global{kind}Pooling{axes}D", {"keepdims": keepdims}, x)


def test_a_nan_in_a_window(keras):
    x = draw((1, 4, 4, 3))
    x[0, 1, 2, 0] = np.nan
    beside(keras, "AveragePooling2D", {"pool_size": 2}, x)
    if keras.backend.backend() != "tensorflow":  # whose largest passes over NaN on CPUs
        beside(keras, "MaxPooling2D", {}, x)


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling_s_gradient(torch, kind):
    @quickly
    @given(images(2), st.integers(1, 4), st.integers(1, 4))
    def check(shape, pool, stride):
        x = draw(shape)
        theirs = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
        z = getattr(torch.nn.functional, f"{kind}_pool2d")(theirs, pool, stride)
        dz = draw(tuple(z.shape), 1)
        z.backward(torch.tensor(dz))
        dy = np.ascontiguousarray(dz.transpose(0, 2, 3, 1))
        if kind == "max":
            y, where = ops.max_pool(x, pool, stride, argmax=True)
            dx = ops.max_pool_backward(dy, x, where, pool, stride)
        else:
            y = ops.average_pool(x, pool, stride)
            dx = ops.average_pool_backward(dy, x, pool, stride)
        np.testing.assert_allclose(y.transpose(0, 3, 1, 2), z.detach().numpy(), atol=1e-6)
        np.testing.assert_allclose(dx.transpose(0, 3, 1, 2), theirs.grad.numpy(), atol=1e-5)

    check()


def test_batch_normalization(keras):
    @quickly
    @given(
        st.integers(1, 3).flatmap(lambda n: st.tuples(*[st.integers(2, 7)] * (n + 1))),
        st.sampled_from([-1, 1]),
        st.booleans(),
        st.booleans(),
    )
    def check(shape, axis, center, scale):
        options = {"axis": axis, "center": center, "scale": scale, "momentum": 0.7}
        x = draw(shape) * 3 + 1
        ours, theirs = beside(keras, "BatchNormalization", options, x, 2e-4, training=True)
        for a, b in zip(ours.weights, theirs.weights, strict=True):
            assert a.name == b.name
            np.testing.assert_allclose(
                a.numpy(), keras.ops.convert_to_numpy(b), rtol=1e-4, atol=1e-5
            )
        np.testing.assert_allclose(
            ours(x), keras.ops.convert_to_numpy(theirs(x)), rtol=2e-4, atol=2e-4
        )

    check()


@pytest.mark.parametrize("training", [True, False])
def test_batch_normalization_s_gradient(torch, training):
    x, dy = draw((4, 5, 6, 3)) + 1, draw((4, 5, 6, 3), 1)
    norm = torch.nn.BatchNorm2d(3, eps=1e-3).train(training)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.5, -1.0]))
        norm.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
        norm.running_mean.copy_(torch.tensor([0.3, 0.8, 1.0]))
        norm.running_var.copy_(torch.tensor([0.9, 1.2, 1.4]))
    gamma, beta = norm.weight.detach().numpy().copy(), norm.bias.detach().numpy().copy()
    given_ = {} if training else {
        "mean": norm.running_mean.numpy().copy(), "variance": norm.running_var.numpy().copy()
    }  # fmt: skip
    theirs = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    torch.relu(norm(theirs)).backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    _, statistics = ops.batch_normalization(x, gamma, beta, **given_, activation="relu")
    dx, dgamma, dbeta = ops.batch_normalization_backward(
        dy, x, statistics, gamma, beta, given=not training, activation="relu"
    )
    np.testing.assert_allclose(dx.transpose(0, 3, 1, 2), theirs.grad.numpy(), atol=1e-5)
    np.testing.assert_allclose(dgamma, norm.weight.grad.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dbeta, norm.bias.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("UpSampling1D", {"size": 3}),
        ("UpSampling2D", {"size": (2, 3)}),
        ("UpSampling2D", {"size": (2, 3), "interpolation": "bilinear"}),
        ("ZeroPadding1D", {"padding": (1, 2)}),
        ("ZeroPadding2D", {"padding": (1, 2)}),
        ("ZeroPadding2D", {"padding": ((1, 2), (0, 3))}),
        ("Cropping1D", {}),
        ("Cropping2D", {"cropping": (1, 2)}),
        ("Cropping2D", {"cropping": ((1, 2), (0, 3))}),
        ("Permute", {"dims": (3, 1, 2)}),
    ],
)
def test_frames(keras, name, options):
    beside(keras, name, options, draw((2, 6, 7, 3) if name[-2:] != "1D" else (2, 6, 3)))
