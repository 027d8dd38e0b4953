"""Data of every kind on their way into fit, evaluate and predict."""

from __future__ import annotations

import numpy as np
import pytest

from cases import LAYOUTS
from nets import bits, draw, labels, mlp
from ranvier import Input, Model, Sequential, layers, ops, optimizers, training, utils


def results(x, y, loss="mse"):
    """Everything that a model says about data."""
    utils.set_random_seed(1)
    model = mlp(loss=loss, optimizer="adam")
    history = model.fit(x, y, batch_size=4, epochs=2, verbose=0, validation_split=0.2).history
    return (
        history,
        bits(model),
        model.evaluate(x, y, batch_size=4, verbose=0),
        model.predict(x, batch_size=4).tobytes(),
        model.predict_on_batch(x).tobytes(),
        model(x).tobytes(),
        model.train_on_batch(x, y),
    )


def small_integers(*shape):
    return np.random.default_rng(3).integers(0, 3, shape)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    x, y = draw(21, 3).astype(np.float32), draw(21, 2).astype(np.float32)
    assert results(LAYOUTS[layout](x), LAYOUTS[layout](y)) == results(x, y)


@pytest.mark.parametrize("layout", ["strided", "byte_swapped", "negative_strides", "unaligned"])
@pytest.mark.parametrize("dtype", [np.int16, np.float64])
def test_layouts_of_other_types(layout, dtype):
    x, y = small_integers(21, 3).astype(np.float32), small_integers(21, 2).astype(np.float32)
    other = LAYOUTS[layout](x.astype(dtype)), LAYOUTS[layout](y.astype(dtype))
    assert results(*other) == results(x, y)


NUMBERS = [
    np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64,
    np.longlong, np.float16, np.float32, np.float64,
]  # fmt: skip


@pytest.mark.parametrize("dtype", NUMBERS)
def test_number_types(dtype):
    x, y = small_integers(21, 3), small_integers(21, 2)
    clean = results(x.astype(np.float32), y.astype(np.float32))
    assert results(x.astype(dtype), y.astype(dtype)) == clean


def test_booleans_and_lists():
    x, y = small_integers(21, 3) > 1, small_integers(21, 2) > 1
    clean = results(x.astype(np.float32), y.astype(np.float32))
    assert results(x, y) == clean
    assert mlp().predict(x.tolist()).tobytes() == mlp().predict(x).tobytes()
    assert mlp().evaluate(x, y.tolist(), verbose=0) == mlp().evaluate(x, y, verbose=0)


def test_memory_maps(tmp_path):
    x, y = draw(21, 3).astype(np.float32), draw(21, 2).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    for mode in ("r", "c"):
        mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode=mode) for name in "xy"]
        assert results(*mapped) == results(x, y)
    big_endian = np.memmap(tmp_path / "raw", ">f8", "w+", shape=(21, 3))
    big_endian[:] = x
    assert results(big_endian, y) == results(x, y)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), x)


@pytest.mark.parametrize("dtype", [d for d in NUMBERS if d is not np.float16])
def test_labels_of_every_type(dtype):
    x, c = draw(21, 3).astype(np.float32), labels(21, 2)
    clean = results(x, c, "sparse_categorical_crossentropy")
    assert results(x, c.astype(dtype), "sparse_categorical_crossentropy") == clean
    column = c.astype(dtype)[:, None]
    assert results(x, column, "sparse_categorical_crossentropy") == clean


@pytest.mark.parametrize("layout", ["read_only", "every_other_row", "negative_strides"])
@pytest.mark.parametrize("dense_first", [True, False])
@pytest.mark.parametrize("replay", [True, False])
def test_one_batch_for_readers_of_two_kinds(layout, dense_first, replay, monkeypatch):
    """A dense layer reads rows where the user has them; others are given a copy."""
    monkeypatch.setattr(training, "_REPLAY", replay)
    inputs = Input((4, 6))
    flat = layers.Flatten()(inputs)
    dense, tanh = layers.Dense(24), layers.Activation("tanh")
    first, second = (dense, tanh) if dense_first else (tanh, dense)
    branches = [first(flat), second(flat), layers.Dense(24)(flat)]
    model = Model(inputs, layers.Add()(branches))
    x = draw(50, 4, 6).astype(np.float32)
    kernel, bias, other_kernel, other_bias = model.get_weights()
    rows = x.reshape(50, 24)
    expected = np.tanh(rows) + rows @ (kernel + other_kernel) + bias + other_bias
    for _ in range(2):
        y = model.predict(LAYOUTS[layout](x), batch_size=8)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(model(LAYOUTS[layout](x)), y)


@pytest.mark.parametrize("layout", ["read_only", "every_other_row", "negative_strides"])
@pytest.mark.parametrize("kernel", [(261, 2048), (1501, 1409)], ids=str)
@pytest.mark.parametrize("batch", [3, 8, 20])
def test_a_large_kernel_reads_rows_where_they_are(layout, kernel, batch):
    model = Sequential([Input(kernel[:1]), layers.Dense(kernel[1], activation="relu")])
    x = draw(41, kernel[0]).astype(np.float32)
    w, b = model.get_weights()
    y = model.predict(LAYOUTS[layout](x), batch_size=batch)
    np.testing.assert_array_equal(y, ops.dense(x, w, b, activation="relu"))


def test_data_are_not_changed():
    x, y = draw(21, 3), draw(21, 2)
    kept = x.copy(), y.copy()
    results(x, y)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(y, kept[1])


def test_a_missing_last_axis_of_one():
    model = Sequential([Input((1,)), layers.Dense(1)])
    model.compile(optimizers.SGD(0.1), "mse")
    x = draw(9)
    twin = Sequential([Input((1,)), layers.Dense(1)])
    twin.set_weights(model.get_weights())
    twin.compile(optimizers.SGD(0.1), "mse")
    one = model.fit(x, 2 * x, batch_size=4, epochs=3, shuffle=False, verbose=0).history
    two = twin.fit(x[:, None], 2 * x[:, None], batch_size=4, epochs=3, shuffle=False, verbose=0)
    assert one == two.history and bits(model) == bits(twin)
    np.testing.assert_array_equal(model.predict(x), model.predict(x[:, None]))


def test_sequences():
    model = Sequential([Input((5, 3)), layers.Dense(4, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = draw(8, 5, 3), labels(40, 4).reshape(8, 5)
    p = model.predict(x)
    value, accuracy = model.evaluate(x, y, batch_size=3, verbose=0)
    picked = np.take_along_axis(p, y[..., None], -1)
    assert value == pytest.approx(-np.log(picked).mean(), rel=1e-5)
    assert accuracy == (p.argmax(-1) == y).mean()
    model.fit(x, y, verbose=0)
    assert model.evaluate(x, y[..., None], verbose=0)[0] < value


def test_lengths_that_only_the_data_tell():
    model = Sequential([Input((None, 3)), layers.Dense(2)])
    model.compile("sgd", "mse")
    for length in (2, 5, 2):
        x = draw(4, length, 3)
        assert model.predict(x, batch_size=3).shape == (4, length, 2)
        assert model(x).shape == (4, length, 2)
        model.fit(x, draw(4, length, 2), batch_size=3, verbose=0)
    assert model.optimizer.iterations == 6
