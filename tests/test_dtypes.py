"""Models in float32, in float64, and in both."""

from __future__ import annotations

import numpy as np
import pytest

from nets import Add, dense, draw
from ranvier import Input, Model, Sequential, config, layers, optimizers

DTYPES = ["float32", "float64"]


def big_net():
    x = Input((3,))
    h = layers.Dense(4, activation="gelu")(layers.Rescaling(2.0)(x))
    norm = layers.Normalization()
    norm.adapt(draw(5, 4))
    y = layers.Softmax()(Add()([norm(h), layers.Dropout(0.3)(h), layers.LeakyReLU()(h)]))
    return Model(x, [y, layers.Dense(2, activity_regularizer="l2", kernel_regularizer="l1")(h)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_dtype_throughout(dtype):
    config.set_floatx(dtype)
    model = big_net()
    x, y = draw(6, 3), [np.eye(4)[[0, 1, 2, 3, 0, 1]], draw(6, 2)]
    assert {v.dtype for v in model.weights} == {dtype}
    assert {w.dtype.name for w in model.get_weights()} == {dtype}
    for p in (*model.predict(x), *model(x), *model(x, training=True)):
        assert p.dtype == dtype
    model.compile("adam", ["categorical_crossentropy", "mse"], metrics=[["accuracy"], ["mae"]])
    model.fit(x, y, verbose=0)
    assert {g.dtype for g in model.optimizer.gradients} == {dtype}
    assert {m.dtype.name for m in model.optimizer.get_weights()} == {dtype}


def test_float64_loses_nothing_on_the_way():
    config.set_floatx("float64")
    model = Sequential([Input((1,)), layers.Dense(1, kernel_initializer="ones")])
    x = np.array([[1 + 1e-12]])
    assert model.predict(x)[0, 0] == model(x)[0, 0] == 1 + 1e-12
    model.compile("sgd", "mae")
    assert model.evaluate(x, [[1.0]], verbose=0) == pytest.approx(1e-12, rel=1e-3)


def test_layers_of_both_dtypes_convert():
    model = Sequential(
        [
            Input((3,)),
            layers.Dense(4, activation="tanh", dtype="float64"),
            layers.Dense(4, activation="tanh"),
            layers.Dense(2, dtype="float64"),
        ]
    )
    assert [v.dtype for v in model.weights] == ["float64"] * 2 + ["float32"] * 2 + ["float64"] * 2
    x, y = draw(6, 3).astype(np.float32), draw(6, 2)
    p = model.predict(x)
    assert p.dtype == np.float64
    a, b, c = model.layers
    h = dense(dense(x, a, "tanh").astype(np.float32), b, "tanh").astype(np.float32)
    np.testing.assert_allclose(p, dense(h, c), rtol=1e-6, atol=1e-7)
    twin = Sequential([Input((3,)), *(layers.Dense(4, activation="tanh") for _ in range(2))])
    twin.add(layers.Dense(2))
    twin.set_weights(model.get_weights())
    for net in (model, twin):
        net.compile(optimizers.SGD(0.1), "mse")
        net.fit(x, y, epochs=5, batch_size=3, verbose=0, shuffle=False)
    for mixed, single in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(mixed, single, rtol=1e-4, atol=1e-6)


def test_nested_outputs_of_both_dtypes():
    x = Input((3,))
    inner = Model(x, [layers.Dense(2)(x), layers.Dense(2, dtype="float64")(x)])
    z = Input((3,))
    model = Model(z, inner(z))
    data = draw(50, 3)
    for a, b, dtype in zip(model.predict(data), inner.predict(data), DTYPES, strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b)


def test_outputs_of_both_dtypes_are_trained_together():
    x = Input((3,))
    model = Model(x, [layers.Dense(2)(x), layers.Dense(2, dtype="float64")(x)])
    model.compile("sgd", "mse")
    assert model.fit(draw(6, 3), [draw(6, 2), draw(6, 2)], verbose=0).history["loss"][0] > 0
