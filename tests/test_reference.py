"""The oracles themselves: every backward agrees with central differences, and known values hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

import reference
from reference import central_difference

rng = np.random.default_rng


def assert_gradient(gradient, f, x):
    np.testing.assert_allclose(gradient, central_difference(f, x), rtol=1e-6, atol=1e-8)


def test_central_difference_of_a_cubic():
    x = np.array([[1.0, -2.0], [0.5, 3.0]])
    np.testing.assert_allclose(central_difference(lambda a: (a**3).sum(), x), 3 * x**2, rtol=1e-8)


@pytest.mark.parametrize("alpha", [None, 0.35])
@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_activation_backward(name, alpha):
    r = rng(1)
    x = r.normal(0, 2, (5, 7))
    dy = r.normal(size=x.shape)
    y = reference.activation(x, name, alpha=alpha)
    assert_gradient(
        reference.activation_backward(dy, x, y, name, alpha=alpha),
        lambda a: (dy * reference.activation(a, name, alpha=alpha)).sum(),
        x,
    )


def test_softmax_backward():
    r = rng(2)
    x, dy = r.normal(size=(2, 3, 5)), r.normal(size=(2, 3, 5))
    gradient = reference.softmax_backward(dy, reference.softmax(x))
    assert_gradient(gradient, lambda a: (dy * reference.softmax(a)).sum(), x)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
@pytest.mark.parametrize("lead", [(4,), (2, 3)])
def test_dense_backward(lead, activation, bias):
    r = rng(3)
    x, w = r.normal(size=(*lead, 5)), r.normal(size=(5, 3))
    b = r.normal(size=3) if bias else None
    dy = r.normal(size=(*lead, 3))

    def value(x, w, b):
        return (dy * reference.dense(x, w, b, activation=activation)).sum()

    y = reference.dense(x, w, b, activation=activation)
    dx, dw, db = reference.dense_backward(dy, x, y, w, b, activation=activation)
    assert_gradient(dx, lambda a: value(a, w, b), x)
    assert_gradient(dw, lambda a: value(x, a, b), w)
    if bias:
        assert_gradient(db, lambda a: value(x, w, a), b)
    else:
        assert db is None


@pytest.mark.parametrize(
    ("name", "x_shape", "w_shape", "options"),
    [
        ("conv2d", (2, 4, 5, 2), (3, 2, 2, 3), {"padding": "same", "strides": (2, 1)}),
        ("conv2d", (1, 5, 4, 4), (2, 2, 2, 6), {"groups": 2, "dilation": 2}),
        ("conv2d", (1, 3, 3, 2), (2, 2, 2, 2), {"padding": ((1, 0), (0, 2)), "strides": 2}),
        ("conv1d", (2, 6, 2), (3, 2, 3), {"padding": (2, 0), "activation": "softmax"}),
        ("depthwise_conv2d", (1, 4, 4, 3), (2, 2, 3, 2), {"activation": "tanh"}),
        ("depthwise_conv1d", (1, 5, 3), (2, 3, 2), {"strides": 2}),
        ("conv2d_transpose", (1, 3, 2, 2), (3, 3, 3, 2), {"strides": 2, "padding": "same"}),
        ("conv2d_transpose", (1, 2, 3, 2), (2, 3, 3, 2), {"strides": 3, "activation": "tanh"}),
        ("conv2d_transpose", (1, 2, 2, 1), (3, 3, 2, 1), {"strides": 2, "padding": "same",
                                                          "output_padding": 1}),
        ("conv1d_transpose", (2, 4, 2), (4, 3, 2), {"strides": 2, "padding": (1, 1)}),
    ],
)  # fmt: skip
def test_convolution_backward(name, x_shape, w_shape, options):
    r = rng(7)
    x, w = r.normal(size=x_shape), r.normal(size=w_shape)
    forward = getattr(reference, name)
    shape = forward(x, w, **options).shape
    b, dy = r.normal(size=shape[-1]), r.normal(size=shape)
    dx, dw, db = getattr(reference, name + "_backward")(dy, x, None, w, b, **options)
    assert_gradient(dx, lambda a: (dy * forward(a, w, b, **options)).sum(), x)
    assert_gradient(dw, lambda a: (dy * forward(x, a, b, **options)).sum(), w)
    assert_gradient(db, lambda a: (dy * forward(x, w, a, **options)).sum(), b)


def test_convolution_by_hand():
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    w = np.array([[1.0, 10.0], [100.0, 1000.0]]).reshape(2, 2, 1, 1)
    y = reference.conv2d(x, w)[0, :, :, 0]
    np.testing.assert_array_equal(y, [[4310, 5421], [7643, 8754]])
    y = reference.conv2d(x, w, padding="same")[0, :, :, 0]  # the zeros are at bottom and right
    np.testing.assert_array_equal(y[2], [76, 87, 8])
    y = reference.conv2d_transpose(x[:, :2, :2], w)[0, :, :, 0]
    np.testing.assert_array_equal(y, [[0, 1, 10], [3, 134, 1040], [300, 3400, 4000]])


@pytest.mark.parametrize("shape", [(7,), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mean_squared_error", {}),
        ("mean_absolute_error", {}),
        ("binary_crossentropy", {}),
        ("binary_crossentropy", {"from_logits": True}),
        ("categorical_crossentropy", {}),
        ("categorical_crossentropy", {"from_logits": True}),
    ],
)
def test_loss_gradients(name, options, shape):
    r = rng(4)
    loss = getattr(reference, name)
    y_true = r.uniform(0.05, 0.95, shape)  # rows that do not sum to one, on purpose
    y_pred = r.uniform(0.05, 0.95, shape)
    if options.get("from_logits"):
        y_pred = r.normal(0, 3, shape)
    value, gradient = loss(y_true, y_pred, gradient=True, **options)
    assert value == loss(y_true, y_pred, **options)
    assert_gradient(gradient, lambda a: loss(y_true, a, **options), y_pred)


@pytest.mark.parametrize("from_logits", [False, True])
def test_sparse_categorical_crossentropy_gradient(from_logits):
    r = rng(5)
    labels, y_pred = r.integers(0, 5, (3, 4)), r.uniform(0.05, 0.95, (3, 4, 5))
    loss = reference.sparse_categorical_crossentropy
    _, gradient = loss(labels, y_pred, from_logits=from_logits, gradient=True)
    assert_gradient(gradient, lambda a: loss(labels, a, from_logits=from_logits), y_pred)


def test_clipped_probabilities_pass_no_gradient():
    y_true, y_pred = np.array([[1.0, 0.0, 1.0]]), np.array([[1e-9, 0.4, 1.0]])
    _, gradient = reference.binary_crossentropy(y_true, y_pred, gradient=True)
    np.testing.assert_allclose(gradient, [[0.0, 1 / 0.6 / 3, 0.0]])
    loss, gradient = reference.categorical_crossentropy(
        np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]]), gradient=True
    )
    assert loss == pytest.approx(-math.log(1e-7))
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("relu", -1.5, 0.0),
        ("leaky_relu", -2.0, -0.4),
        ("sigmoid", math.log(3), 0.75),
        ("tanh", math.log(2), 0.6),
        ("elu", -math.log(2), -0.5),
        ("selu", 2.0, 2.1014019747109610),
        ("selu", -math.log(2), -0.5 * 1.7580993408473766),
        ("gelu", 1.0, 0.8413447460685429),
        ("gelu", -1.0, -0.15865525393145707),
        ("silu", math.log(3), 0.75 * math.log(3)),
        ("softplus", 0.0, math.log(2)),
        ("exponential", 1.0, math.e),
        ("hard_sigmoid", 1.5, 0.75),
        ("hard_sigmoid", -3.5, 0.0),
        ("linear", 2.5, 2.5),
    ],
)
def test_activation_values(name, x, y):
    assert reference.activation(x, name) == pytest.approx(y, rel=1e-9)


def test_softmax_values():
    x = np.log([[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]]) + [[1e4], [-1e4]]
    np.testing.assert_allclose(
        reference.softmax(x), [[1 / 8, 2 / 8, 5 / 8], [3 / 8, 3 / 8, 2 / 8]], rtol=1e-11
    )


def test_loss_values():
    t, p = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.5, 0.5], [0.8, 0.4]])
    assert reference.mean_squared_error(t, p) == pytest.approx((0.25 + 0.25 + 0.04 + 0.16) / 4)
    assert reference.mean_absolute_error(t, p) == pytest.approx(1.6 / 4)
    assert reference.binary_crossentropy(t, p) == pytest.approx(
        -(2 * math.log(0.5) + math.log(0.8) + math.log(0.6)) / 4
    )
    categorical = -(math.log(0.5) + math.log(0.8 / 1.2)) / 2
    assert reference.categorical_crossentropy(t, p) == pytest.approx(categorical)
    assert reference.sparse_categorical_crossentropy([1, 0], p) == pytest.approx(categorical)
    assert reference.categorical_crossentropy(t, np.log(p), from_logits=True) == pytest.approx(
        categorical
    )
    assert reference.binary_crossentropy(t, np.log(p / (1 - p)), from_logits=True) == pytest.approx(
        reference.binary_crossentropy(t, p)
    )


def test_mean_absolute_error_has_no_gradient_at_zero():
    _, gradient = reference.mean_absolute_error([[1.0, 2.0]], [[1.0, 3.0]], gradient=True)
    np.testing.assert_array_equal(gradient, [[0.0, 0.5]])


def test_sgd_values():
    p, v = reference.sgd(1.0, 2.0, learning_rate=0.1, momentum=0.5, velocity=0.4)
    assert (p, v) == (pytest.approx(1.0), pytest.approx(0.0))
    p, v = reference.sgd(1.0, 2.0, learning_rate=0.1, momentum=0.5, velocity=0.4, nesterov=True)
    assert (p, v) == (pytest.approx(0.8), pytest.approx(0.0))
    assert reference.sgd(1.0, 2.0, learning_rate=0.1)[0] == pytest.approx(0.8)


def test_rmsprop_values():
    p, v, velocity = reference.rmsprop(1.0, 2.0, 4.0, learning_rate=0.1, epsilon=0.0)
    assert (p, v, velocity) == (pytest.approx(0.9), pytest.approx(4.0), pytest.approx(0.1))
    p, _, velocity = reference.rmsprop(
        1.0, 2.0, 4.0, learning_rate=0.1, epsilon=0.0, momentum=0.5, velocity=0.4
    )
    assert (p, velocity) == (pytest.approx(0.7), pytest.approx(0.3))


def test_adam_values():
    # with epsilon 0 the first step is the learning rate times the sign of the gradient
    p, m, v = reference.adam([1.0, 1.0], [5.0, -0.01], [0.0, 0.0], [0.0, 0.0], step=1, epsilon=0.0)
    np.testing.assert_allclose(p, [0.999, 1.001], rtol=1e-12)
    np.testing.assert_allclose(m, [0.5, -0.001])
    np.testing.assert_allclose(v, [0.025, 1e-7])
    # a constant gradient keeps the step: bias correction makes up for the zero start
    p, _, _ = reference.adam(p, [5.0, -0.01], m, v, step=2, epsilon=0.0)
    np.testing.assert_allclose(p, [0.998, 1.002], rtol=1e-12)


def test_gather_converts_and_keeps_order():
    source = np.arange(6, dtype=np.uint8).reshape(3, 2)
    got = reference.gather(source, [2, 0, 2])
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [[4, 5], [0, 1], [4, 5]])
    assert reference.gather(source.astype(np.float64), [1]).dtype == np.float64
    assert reference.gather(source, [1], dtype=np.int32).dtype == np.int32


def test_dropout_backward():
    r = rng(6)
    x, dy, keep = r.normal(size=(4, 5)), r.normal(size=(4, 5)), r.random((4, 5)) < 0.6
    gradient = reference.dropout_backward(dy, 0.4, keep)
    assert_gradient(gradient, lambda a: (dy * reference.dropout(a, 0.4, keep)).sum(), x)


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("given", [False, True])
def test_batch_normalization_backward(given, activation):
    r = rng(11)
    x, dy = r.normal(size=(3, 4, 2)), r.normal(size=(3, 4, 2))
    gamma, beta = r.normal(size=2), r.normal(size=2)
    options = {"activation": activation}
    if given:
        options |= {"mean": r.normal(size=2), "variance": r.uniform(0.5, 2, 2)}

    def value(x, gamma, beta):
        return (dy * reference.batch_normalization(x, gamma, beta, **options)).sum()

    found = reference.batch_normalization_backward(dy, x, gamma, beta, **options)
    assert_gradient(found[0], lambda a: value(a, gamma, beta), x)
    assert_gradient(found[1], lambda a: value(x, a, beta), gamma)
    assert_gradient(found[2], lambda a: value(x, gamma, a), beta)


@pytest.mark.parametrize("scale", [1.7, np.array([0.5, -2.0, 3.0])])
def test_affine_backward(scale):
    r = rng(7)
    x, dy = r.normal(size=(4, 3)), r.normal(size=(4, 3))
    gradient = reference.affine_backward(dy, scale)
    assert_gradient(gradient, lambda a: (dy * reference.affine(a, scale, 0.3)).sum(), x)


@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((2, 1, 3), (1, 4, 1))], ids=str)
@pytest.mark.parametrize("how", reference.MERGES)
def test_merge_backward(how, shapes):
    r = rng(8)
    a, b = (r.normal(size=s) for s in shapes)
    dy = r.normal(size=reference.merge(a, b, how).shape)
    da, db = reference.merge_backward(dy, a, b, how)
    assert_gradient(da, lambda a: (dy * reference.merge(a, b, how)).sum(), a)
    assert_gradient(db, lambda b: (dy * reference.merge(a, b, how)).sum(), b)


@pytest.mark.parametrize(
    ("a_shape", "b_shape", "axes"),
    [((3, 4), (3, 4), 1), ((2, 3, 4), (2, 4, 5), (2, 1)), ((2, 3, 4), (2, 5, 3, 3), (1, -1))],
)
def test_dot_backward(a_shape, b_shape, axes):
    r = rng(9)
    a, b = r.normal(size=a_shape), r.normal(size=b_shape)
    dy = r.normal(size=reference.dot(a, b, axes).shape)
    da, db = reference.dot_backward(dy, a, b, axes)
    assert_gradient(da, lambda a: (dy * reference.dot(a, b, axes)).sum(), a)
    assert_gradient(db, lambda b: (dy * reference.dot(a, b, axes)).sum(), b)


@pytest.mark.parametrize("fill_mode", ["constant", "reflect"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_resample_backward(interpolation, fill_mode):
    r = rng(10)
    x, matrices = r.normal(size=(2, 3, 4, 2)), r.normal(size=(2, 6))
    how = {"interpolation": interpolation, "fill_mode": fill_mode}
    dy = r.normal(size=(2, 4, 3, 2))
    dx = reference.resample_backward(dy, matrices, x.shape, **how)
    assert_gradient(
        dx, lambda a: (dy * reference.resample(a, matrices, (4, 3), **how, fill_value=1)).sum(), x
    )


@pytest.mark.parametrize("kind", ["max_pool", "average_pool"])
@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((2, 5, 6, 2), (2, None, "valid")),
        ((1, 5, 4, 2), (3, 2, "same")),
        ((2, 7, 2), (3, 1, "same")),
    ],
)
def test_pool_backward(kind, shape, window):
    r = rng(10)
    x = r.normal(size=shape)
    forward, backward = getattr(reference, kind), getattr(reference, kind + "_backward")
    dy = r.normal(size=forward(x, *window).shape)
    given = (dy, x, None) if kind == "max_pool" else (dy, x)
    assert_gradient(backward(*given, *window), lambda a: (dy * forward(a, *window)).sum(), x)
