"""Penalties on weights and on outputs: value, gradient, and what of them is divided by what."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cases import DTYPES
from nets import draw
from ranvier import Input, Model, Sequential, layers, optimizers, regularizers

KINDS = {
    "l1": regularizers.L1(0.3),
    "l2": regularizers.L2(0.7),
    "l1_l2": regularizers.L1L2(l1=0.2, l2=0.5),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
RTOL = {np.float32: 1e-5, np.float64: 1e-12}


def penalty(kind, a):
    a = np.asarray(a, np.float64)
    return kind.l1 * np.abs(a).sum() + kind.l2 * (a**2).sum()


def slope(kind, a):
    a = np.asarray(a, np.float64)
    return kind.l1 * np.sign(a) + 2 * kind.l2 * a


def pair(dtype=np.float64, **arguments):
    """Two models with the same weights, one without and one with the penalties."""
    models = []
    for extra in ({}, arguments):
        model = Sequential(
            [
                Input((3,), dtype=dtype),
                layers.Dense(4, bias_initializer="normal", dtype=dtype, **extra),
            ]
        )
        model.compile(optimizers.SGD(1.0), "mse")
        models.append(model)
    models[1].set_weights(models[0].get_weights())
    return models


def gradients(model, x, y):
    """What one step of rate 1 takes off the weights."""
    before = model.get_weights()
    model.train_on_batch(x, y)
    found = [a - b for a, b in zip(before, model.get_weights(), strict=True)]
    model.set_weights(before)
    return found


# --- alone ----------------------------------------------------------------------------------------


@every_kind
def test_value(kind):
    for a in (draw(3, 4), draw(2, 3, 4).astype(np.float32), np.zeros(2), [[1, -2]]):
        assert kind(a) == pytest.approx(penalty(kind, a), rel=1e-6)


@every_kind
@every_dtype
def test_a_weight_of_several_chunks(kind, dtype, threads):
    x, w = draw(2, 101).astype(dtype), draw(101, 130).astype(dtype)
    found = []
    for n in (1, 2, 7):
        threads(n)
        dense = layers.Dense(130, kernel_regularizer=kind, dtype=dtype)
        model = Sequential([Input((101,), dtype=dtype), dense])
        model.compile(optimizers.SGD(1.0), "mse")
        model.set_weights([w, np.zeros(130, dtype)])
        y = model.predict(x, verbose=0)  # so the loss is the penalty
        loss = model.train_on_batch(x, y)
        found.append([loss, *model.get_weights()])
    assert found[0][0] == pytest.approx(penalty(kind, w), rel=RTOL[dtype])
    np.testing.assert_allclose(found[0][1], w - slope(kind, w), rtol=0, atol=10 * RTOL[dtype])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_defaults_and_names():
    x = [1.0, -2.0]
    assert regularizers.L1()(x) == pytest.approx(0.03)
    assert regularizers.L2()(x) == pytest.approx(0.05)
    assert regularizers.L1L2()(x) == 0
    for name, cls in {
        "l1": regularizers.L1,
        "L2": regularizers.L2,
        "l2": regularizers.L2,
        "l1_l2": regularizers.L1L2,
        "l1l2": regularizers.L1L2,
        "L1L2": regularizers.L1L2,
    }.items():
        assert type(regularizers.get(name)) is cls
    assert regularizers.get(None) is None
    assert regularizers.get(KINDS["l1"]) is KINDS["l1"]


@every_kind
def test_config_round_trip(kind):
    config = json.loads(json.dumps(regularizers.serialize(kind)))
    again = regularizers.deserialize(config)
    assert type(again) is type(kind) and (again.l1, again.l2) == (kind.l1, kind.l2)
    assert regularizers.serialize(None) is None


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf, "much", None])
def test_bad_factors(bad):
    with pytest.raises(ValueError, match=r"\[L1\] l1 must be a number >= 0; received"):
        regularizers.L1(bad)
    with pytest.raises(ValueError, match=r"\[L1L2\] l2 must be a number >= 0; received"):
        regularizers.L1L2(l2=bad)


def test_unknown_names():
    with pytest.raises(
        ValueError, match=r"\[regularizer\] unknown regularizer 'l3'; known are l1,"
    ):
        layers.Dense(1, kernel_regularizer="l3")
    with pytest.raises(ValueError, match=r"\[regularizer\] expected a name, a config"):
        layers.Dense(1, activity_regularizer=0.01)


# --- on weights -----------------------------------------------------------------------------------


@every_dtype
@every_kind
@pytest.mark.parametrize("where", ["kernel", "bias"])
def test_penalty_on_a_weight(where, kind, dtype):
    plain, model = pair(dtype, **{f"{where}_regularizer": kind})
    place = ["kernel", "bias"].index(where)
    w = model.get_weights()[place]
    x, y = draw(6, 3), draw(6, 4)
    base, extra = plain.evaluate(x, y, verbose=0), penalty(kind, w)
    rtol = RTOL[dtype]
    # not divided by rows, and the same in each batch, so that the mean of batches has it once
    for batch_size in (1, 4, 32):
        loss = model.evaluate(x, y, batch_size=batch_size, verbose=0)
        np.testing.assert_allclose(loss, base + extra, rtol=rtol)
    np.testing.assert_allclose(model.test_on_batch(x, y), base + extra, rtol=rtol)
    np.testing.assert_allclose(model.train_on_batch(x, y), base + extra, rtol=rtol)
    model.set_weights(plain.get_weights())
    with_penalty, without = gradients(model, x, y), gradients(plain, x, y)
    expected = without[place] + slope(kind, w)
    np.testing.assert_allclose(with_penalty[place], expected, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(with_penalty[1 - place], without[1 - place], rtol=rtol, atol=rtol)


def test_slope_of_l1_at_zero_is_zero():
    model = Sequential(
        [Input((3,)), layers.Dense(4, kernel_initializer="zeros", kernel_regularizer="l1")]
    )
    model.compile(optimizers.SGD(1.0), "mse")
    model.train_on_batch(np.zeros((5, 3)), np.zeros((5, 4)))
    np.testing.assert_array_equal(model.get_weights()[0], 0)


def test_fit_reports_the_penalty_with_the_loss():
    _, model = pair(kernel_regularizer=KINDS["l2"])
    model.compile(optimizers.SGD(0.0), "mse", metrics=["mse"])
    x, y = draw(10, 3), draw(10, 4)
    logs = model.fit(
        x, y, batch_size=4, verbose=0, epochs=2, validation_data=(x[:3], y[:3])
    ).history
    extra = penalty(KINDS["l2"], model.get_weights()[0])
    np.testing.assert_allclose(np.subtract(logs["loss"], logs["mse"]), extra)
    np.testing.assert_allclose(np.subtract(logs["val_loss"], logs["val_mse"]), extra)


def test_a_shared_weight_is_penalised_once():
    x = Input((3,), dtype="float64")
    shared = layers.Dense(3, kernel_regularizer="l2", dtype="float64")
    once = Model(x, shared(x))
    twice = Model(x, shared(shared(x)))
    data = draw(4, 3)
    for model in (once, twice):
        model.compile("sgd", "mse")
        p = model.predict(data)
        assert model.evaluate(data, p, verbose=0) == pytest.approx(
            penalty(regularizers.L2(), shared.kernel)
        )


def test_penalties_inside_nested_models_and_composites():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__(dtype="float64")
            self.inner = layers.Dense(3, kernel_regularizer="l2", dtype="float64")

        def call(self, x):
            return self.inner(x)

    block = Block()
    model = Sequential([Input((3,), dtype="float64"), Sequential([block])])
    model.compile(optimizers.SGD(1.0), "mse")
    x = draw(4, 3)
    p = model.predict(x)
    w = block.inner.kernel.numpy()
    assert model.evaluate(x, p, verbose=0) == pytest.approx(penalty(regularizers.L2(), w))
    np.testing.assert_allclose(gradients(model, x, p)[0], slope(regularizers.L2(), w), rtol=1e-9)


def test_frozen_weights_are_not_penalised():
    model = Sequential([Input((3,)), layers.Dense(3, kernel_regularizer="l2", trainable=False)])
    model.compile("sgd", "mse")
    x = draw(4, 3)
    assert model.evaluate(x, model.predict(x), verbose=0) == 0


# --- on outputs -----------------------------------------------------------------------------------


@every_dtype
@every_kind
def test_penalty_on_the_output(kind, dtype):
    plain, model = pair(dtype, activity_regularizer=kind)
    x, y = draw(6, 3), draw(6, 4)
    p = plain.predict(x)
    rtol = RTOL[dtype]
    for value in (
        model.evaluate(x, y, verbose=0),
        model.test_on_batch(x, y),
        model.train_on_batch(x, y),
    ):
        np.testing.assert_allclose(
            value, plain.evaluate(x, y, verbose=0) + penalty(kind, p) / 6, rtol=rtol
        )
    model.set_weights(plain.get_weights())
    with_penalty, without = gradients(model, x, y), gradients(plain, x, y)
    dy = slope(kind, p) / 6
    np.testing.assert_allclose(with_penalty[0], without[0] + x.T @ dy, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(with_penalty[1], without[1] + dy.sum(0), rtol=rtol, atol=rtol)


@every_kind
def test_penalty_on_the_output_is_divided_by_the_rows_of_each_batch(kind):
    """So each row counts alike, whatever the batches."""
    plain, model = pair(activity_regularizer=kind)
    x, y = draw(7, 3), draw(7, 4)
    p = plain.predict(x)
    base = plain.evaluate(x, y, verbose=0)
    expected = base + sum(penalty(kind, p[i : i + 3]) for i in (0, 3, 6)) / 7
    assert model.evaluate(x, y, batch_size=3, verbose=0) == pytest.approx(expected)


def test_penalty_on_sequences_is_divided_by_the_batch_alone():
    model = Sequential(
        [
            Input((5, 3), dtype="float64"),
            layers.Dense(2, activity_regularizer="l1", dtype="float64"),
        ]
    )
    model.compile("sgd", "mse")
    x = draw(4, 5, 3)
    p = model.predict(x)
    assert model.evaluate(x, p, verbose=0) == pytest.approx(np.abs(p).sum() * 0.01 / 4)


@every_kind
def test_hidden_outputs_of_any_layer(kind):
    class Double(layers.NumpyLayer):
        def forward(self, x, *, training=False):
            return 2 * x, lambda dy: 2 * dy

    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = layers.Activation("tanh", dtype="float64")

        def call(self, x):
            return self.inner(x)

    for make in (
        lambda **k: layers.Activation("tanh", **k),
        lambda **k: layers.ReLU(**k),
        lambda **k: Double(**k),
        lambda **k: Block(**k),
        lambda **k: layers.Flatten(**k),
    ):
        layer = make(activity_regularizer=kind, dtype="float64")
        x = Input((3,), dtype="float64")
        code = layer(layers.Dense(4, dtype="float64", use_bias=False)(x))
        y = layers.Dense(2, kernel_initializer="zeros", dtype="float64", use_bias=False)(code)
        model, encoder = Model(x, y), Model(x, code)
        model.compile(optimizers.SGD(1.0), "mse")
        data = draw(5, 3)
        h = encoder.predict(data)
        loss = model.test_on_batch(data, np.zeros((5, 2)))
        assert loss == pytest.approx(penalty(kind, h) / 5)
        w = model.get_weights()[0]
        gradient = gradients(model, data, np.zeros((5, 2)))[0]
        i = (1, 2)
        values = []
        for step in (1e-6, -1e-6):
            changed = w.copy()
            changed[i] += step
            model.set_weights([changed, model.get_weights()[1]])
            values.append(model.test_on_batch(data, np.zeros((5, 2))))
        model.set_weights([w, model.get_weights()[1]])
        assert gradient[i] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


def test_each_use_of_a_shared_layer_is_penalised():
    x = Input((3,), dtype="float64")
    shared = layers.Dense(3, activity_regularizer="l2", dtype="float64")
    first = shared(x)
    model = Model(x, [shared(first), first])
    model.compile("sgd", "mse")
    data = draw(4, 3)
    p, q = model.predict(data)
    value = model.evaluate(data, [p, q], verbose=0)[0]
    assert value == pytest.approx(
        (penalty(regularizers.L2(), p) + penalty(regularizers.L2(), q)) / 4
    )


def test_loss_weights_leave_penalties_alone():
    model = Sequential(
        [
            Input((3,), dtype="float64"),
            layers.Dense(2, kernel_regularizer="l2", activity_regularizer="l1", dtype="float64"),
        ]
    )
    model.compile("sgd", "mse", loss_weights=[10.0])
    x, y = draw(4, 3), draw(4, 2)
    p = model.predict(x)
    expected = 10 * np.mean((p - y) ** 2) + penalty(regularizers.L2(), model.get_weights()[0])
    expected += 0.01 * np.abs(p).sum() / 4
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected)


def test_calling_and_predicting_know_no_penalties():
    plain, model = pair(activity_regularizer="l2", kernel_regularizer="l1")
    x = draw(4, 3)
    np.testing.assert_array_equal(model.predict(x), plain.predict(x))
    np.testing.assert_array_equal(model(x), plain(x))
    np.testing.assert_array_equal(model(x, training=True), plain(x, training=True))


def test_penalty_inside_a_nested_model_whose_output_has_no_loss():
    encoder = Sequential([Input((3,)), layers.Dense(2, activity_regularizer="l2")])
    x = Input((3,))
    model = Model(x, [layers.Dense(1)(x), encoder(x)])
    model.compile(optimizers.SGD(0.1), ["mse", None])
    before = encoder.get_weights()[0]
    data = draw(4, 3)
    model.fit(data, [np.zeros((4, 1)), np.zeros((4, 2))], verbose=0)
    assert (encoder.get_weights()[0] != before).all()


@pytest.mark.parametrize("where", ["kernel", "activity"])
def test_penalties_in_a_model_of_two_dtypes(where):
    model = Sequential(
        [
            Input((3,)),
            layers.Dense(4, **{f"{where}_regularizer": "l2"}),
            layers.Dense(2, dtype="float64", **{f"{where}_regularizer": "l2"}),
        ]
    )
    model.compile("sgd", "mse")
    x = draw(4, 3)
    assert model.evaluate(x, model.predict(x), verbose=0) > 0
