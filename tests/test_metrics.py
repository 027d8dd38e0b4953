"""Metrics against NumPy: alone, and as fit, evaluate and the batch methods report them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cases import DTYPES
from ranvier import Input, Model, Sequential, layers, metrics, optimizers

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])


def share(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(0, 1, shape)


def labels(*shape, classes=3, seed=0):
    return np.random.default_rng([seed, *shape]).integers(0, classes, shape)


# --- alone ----------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (2, 5, 4)], ids=str)
def test_errors(shape, dtype):
    y, p = share(*shape), share(*shape, seed=1).astype(dtype)
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(metrics.MeanSquaredError()(y, p), np.mean((p - y) ** 2), rtol=rtol)
    np.testing.assert_allclose(metrics.MeanAbsoluteError()(y, p), np.mean(abs(p - y)), rtol=rtol)


@every_dtype
@pytest.mark.parametrize("threshold", [0.5, 0.3, -0.1])
@pytest.mark.parametrize("columns", [1, 2, 31, 64])
def test_binary_accuracy(threshold, columns, dtype):
    p = share(51, columns).astype(dtype)
    p[0] = threshold  # not above it: counts as 0
    y = labels(51, columns, classes=2)
    expected = np.mean((p > dtype(threshold)) == y)
    assert metrics.BinaryAccuracy(threshold=threshold)(y, p) == expected


@every_dtype
@pytest.mark.parametrize(
    "shape", [(50, 3), (4, 6, 3), (9, 1), (40, 16), (40, 37), (7, 1000)], ids=str
)
def test_categorical_and_sparse_accuracy(shape, dtype):
    p = share(*shape).round(2).astype(dtype)  # equals: the first counts
    y = labels(*shape[:-1], classes=shape[-1])
    y[::2] = p.argmax(-1)[::2]
    expected = np.mean(p.argmax(-1) == y)
    assert metrics.SparseCategoricalAccuracy()(y, p) == expected
    assert metrics.SparseCategoricalAccuracy()(y[..., None].astype(float), p) == expected
    assert metrics.CategoricalAccuracy()(np.eye(shape[-1])[y], p) == expected


def test_the_first_of_equals_counts():
    p = np.array([[0.5, 0.5, 0.0]])
    assert metrics.SparseCategoricalAccuracy()([0], p) == 1
    assert metrics.SparseCategoricalAccuracy()([1], p) == 0


def test_batches_are_added_up_by_rows():
    y, p = labels(17), share(17, 3)
    metric = metrics.SparseCategoricalAccuracy()
    for part in np.split(np.arange(17), [2, 9, 16]):
        metric.update_state(y[part], p[part])
    assert metric.result() == np.mean(p.argmax(-1) == y)
    metric.reset_state()
    assert metric.result() == 0
    assert metric(y[:4], p[:4]) == np.mean(p[:4].argmax(-1) == y[:4])
    error = metrics.MeanSquaredError()
    for part in np.split(np.arange(17), [2, 9, 16]):
        error.update_state(np.eye(3)[y][part], p[part])
    np.testing.assert_allclose(error.result(), np.mean((np.eye(3)[y] - p) ** 2), rtol=1e-12)


def test_shapes_that_do_not_fit():
    for metric in (
        metrics.MeanSquaredError(),
        metrics.BinaryAccuracy(),
        metrics.CategoricalAccuracy(),
    ):
        with pytest.raises(ValueError, match=rf"\[{metric.name}\] y_true has shape \(5, 1\)"):
            metric(share(5, 1), share(5, 3))
        assert metric.result() == 0
    with pytest.raises(ValueError, match=r"\[sparse_categorical_accuracy\] .*one-hot"):
        metrics.SparseCategoricalAccuracy()(np.eye(3), share(3, 3))


# --- which accuracy is meant ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "p", "cls"),
    [
        ((8, 1), (None, 1), metrics.BinaryAccuracy),
        ((8,), (None, 1), metrics.BinaryAccuracy),
        ((8,), (None, 3), metrics.SparseCategoricalAccuracy),
        ((8, 1), (None, 3), metrics.SparseCategoricalAccuracy),
        ((8, 5), (None, 5, 3), metrics.SparseCategoricalAccuracy),
        ((8, 3), (None, 3), metrics.CategoricalAccuracy),
        ((8, 5, 3), (None, 5, 3), metrics.CategoricalAccuracy),
    ],
)
def test_accuracy_is_chosen_by_the_shapes(y, p, cls):
    metric = metrics.accuracy_for(y, p, "acc")
    assert type(metric) is cls and metric.name == "acc"


def test_accuracy_in_training():
    """The three kinds, for labels of shape (n,), (n, 1) and one-hot."""
    x = share(30, 4)
    y3, y2 = labels(30), labels(30, classes=2)
    for target, units, activation, loss in [
        (y2, 1, "sigmoid", "binary_crossentropy"),
        (y2[:, None], 1, "sigmoid", "binary_crossentropy"),
        (y3, 3, "softmax", "sparse_categorical_crossentropy"),
        (y3[:, None], 3, "softmax", "sparse_categorical_crossentropy"),
        (np.eye(3)[y3], 3, "softmax", "categorical_crossentropy"),
    ]:
        model = Sequential([Input((4,)), layers.Dense(units, activation=activation)])
        model.compile("sgd", loss, metrics=["accuracy"])
        p = model.predict(x)
        if units == 1:
            expected = np.mean((p[:, 0] > 0.5) == y2)
        else:
            expected = np.mean(p.argmax(1) == y3)
        logs = model.evaluate(x, target, batch_size=8, verbose=0, return_dict=True)
        assert list(logs) == ["loss", "accuracy"]
        assert logs["accuracy"] == pytest.approx(expected, abs=1e-12)


# --- in training ----------------------------------------------------------------------------------


@every_dtype
def test_metrics_beside_the_loss(dtype):
    model = Sequential([Input((4,), dtype=dtype), layers.Dense(2, dtype=dtype)])
    model.compile("sgd", "mae", metrics=["mse", metrics.MeanAbsoluteError(name="distance")])
    x, y = share(23, 4), share(23, 2)
    p = model.predict(x)
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    expected = [np.mean(abs(p - y)), np.mean((p - y) ** 2), np.mean(abs(p - y))]
    np.testing.assert_allclose(model.evaluate(x, y, batch_size=5, verbose=0), expected, rtol=rtol)
    np.testing.assert_allclose(model.test_on_batch(x, y), expected, rtol=rtol)
    logs = model.test_on_batch(x, y, return_dict=True)
    assert list(logs) == ["loss", "mse", "distance"]
    np.testing.assert_allclose(list(logs.values()), expected, rtol=rtol)
    # before the step, of this batch alone
    np.testing.assert_allclose(model.train_on_batch(x, y), expected, rtol=rtol)
    assert (model.predict(x) != p).any()


def test_metrics_of_an_epoch_begin_anew():
    model = Sequential([Input((4,)), layers.Dense(2)])
    model.compile(optimizers.SGD(0.0), "mse", metrics=["mae"])
    x, y = share(10, 4), share(10, 2)
    history = model.fit(
        x, y, epochs=3, batch_size=4, verbose=0, validation_data=(x[:3], y[:3] + 5), shuffle=False
    ).history
    assert list(history) == ["loss", "mae", "val_loss", "val_mae"]
    p = model.predict(x)
    for values, expected in [
        (history["loss"], np.mean((p - y) ** 2)),
        (history["mae"], np.mean(abs(p - y))),
        (history["val_mae"], np.mean(abs(p[:3] - y[:3] - 5))),
    ]:
        np.testing.assert_allclose(values, [expected] * 3, rtol=1e-5)


def test_metrics_by_output():
    x = Input((4,))
    model = Model(
        x, [layers.Dense(2, name="a")(x), layers.Dense(3, activation="softmax", name="b")(x)]
    )
    data, y, c = share(12, 4), share(12, 2), labels(12)
    model.compile(
        "sgd",
        {"a": "mse", "b": "sparse_categorical_crossentropy"},
        metrics={"a": "mae", "b": ["accuracy", "sparse_categorical_accuracy"]},
    )
    logs = model.evaluate(data, [y, c], verbose=0, return_dict=True)
    names = ["loss", "a_loss", "b_loss", "a_mae", "b_accuracy", "b_sparse_categorical_accuracy"]
    assert list(logs) == names
    p, q = model.predict(data)
    assert logs["a_mae"] == pytest.approx(np.mean(abs(p - y)), rel=1e-6)
    assert logs["b_accuracy"] == np.mean(q.argmax(1) == c) == logs[names[-1]]
    assert logs["loss"] == pytest.approx(logs["a_loss"] + logs["b_loss"], rel=1e-6)


# --- names and configs ----------------------------------------------------------------------------


def test_get():
    assert type(metrics.get("mse")) is metrics.MeanSquaredError
    assert metrics.get("mse").name == "mse"  # named as it was asked for
    assert metrics.get("mean_squared_error").name == "mean_squared_error"
    assert type(metrics.get("MeanAbsoluteError")) is metrics.MeanAbsoluteError
    assert type(metrics.get(metrics.CategoricalAccuracy)) is metrics.CategoricalAccuracy
    own = metrics.BinaryAccuracy(name="own")
    assert metrics.get(own) is own
    with pytest.raises(ValueError, match=r"\[metric\] unknown metric 'f2'; known are .*mae"):
        metrics.get("f2")
    with pytest.raises(
        ValueError, match=r"\[metric\] expected a name, a config .* or an object of Metric"
    ):
        metrics.get(3.5)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.MeanSquaredError(),
        metrics.MeanAbsoluteError("m"),
        metrics.BinaryAccuracy(threshold=0.25),
        metrics.CategoricalAccuracy(),
        metrics.SparseCategoricalAccuracy("s"),
    ],
    ids=lambda m: m.name,
)
def test_config_round_trip(metric):
    again = metrics.deserialize(json.loads(json.dumps(metrics.serialize(metric))))
    assert type(again) is type(metric) and again.get_config() == metric.get_config()
