"""fit, evaluate, predict and the batch methods: against NumPy, and against one another.

Callbacks are in test_epochs, data of every kind in test_feed, errors in test_errors; losses and
metrics have files of their own.
"""

from __future__ import annotations

import numpy as np
import pytest

import ranvier
import reference
from nets import bits, draw, labels, mlp
from ranvier import Input, Model, Sequential, callbacks, layers, optimizers, training, utils
from ranvier.layers.base import clear_names


class Seen(layers.NumpyLayer):
    """Passes its input on, and keeps the first column of each batch of each kind."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.forget()

    def forget(self):
        self.rows = {True: [], False: []}

    def forward(self, x, *, training=False):
        self.rows[training].append(x[:, 0].copy())
        return x, lambda dy: dy


def seeing(columns=1):
    seen = Seen()
    model = Sequential([Input((columns,)), seen, layers.Dense(1)])
    model.compile("sgd", "mse")
    seen.forget()
    return model, seen


# --- against NumPy --------------------------------------------------------------------------------


class NumpyMLP:
    """relu, tanh, softmax and cross-entropy with their gradients, and the optimizers."""

    activations = ("relu", "tanh", "softmax")

    def __init__(self, weights, optimizer):
        self.weights = [w.copy() for w in weights]
        self.optimizer = optimizer
        self.m = [np.zeros_like(w) for w in weights]
        self.v = [np.zeros_like(w) for w in weights]
        self.steps = 0

    def step(self, x, one_hot):
        outputs = [x]
        for i, name in enumerate(self.activations):
            w, b = self.weights[2 * i : 2 * i + 2]
            outputs.append(reference.activation(outputs[-1] @ w + b, name))
        p = outputs[-1]
        loss = -np.mean(np.sum(one_hot * np.log(p), axis=1))
        dz = (p - one_hot) / len(x)
        gradients = []
        for i in (2, 1, 0):
            gradients = [outputs[i].T @ dz, dz.sum(0), *gradients]
            dh = dz @ self.weights[2 * i].T
            h = outputs[i]
            dz = dh * (1 - h**2 if i == 2 else (h > 0))
        self.steps += 1
        for i, g in enumerate(gradients):
            self.update(i, g)
        return loss

    def update(self, i, g):
        name, options = self.optimizer
        p, m, v = self.weights[i], self.m[i], self.v[i]
        if name == "SGD":
            self.weights[i], self.m[i] = reference.sgd(p, g, velocity=m, **options)
        elif name == "RMSprop":
            self.weights[i], self.v[i], self.m[i] = reference.rmsprop(
                p, g, v, velocity=m, **options
            )
        else:
            self.weights[i], self.m[i], self.v[i] = reference.adam(
                p, g, m, v, step=self.steps, **options
            )


OPTIMIZERS = {
    "sgd": ("SGD", {"learning_rate": 0.1}),
    "momentum": ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    "nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    "rmsprop": ("RMSprop", {"learning_rate": 0.01, "rho": 0.8}),
    "rmsprop_momentum": ("RMSprop", {"learning_rate": 0.01, "momentum": 0.5}),
    "adam": ("Adam", {"learning_rate": 0.01}),
}


@pytest.mark.parametrize("sparse", [False, True], ids=["one_hot", "labels"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_twenty_steps_against_numpy(optimizer, sparse):
    """Two epochs of fit and a few single batches: each loss, and in the end each weight."""
    rows, batch_size = 123, 16  # seven full batches and a ragged one
    name, options = optimizer
    model = Sequential(
        [
            Input((5,), dtype="float64"),
            layers.Dense(7, activation="relu", bias_initializer="normal", dtype="float64"),
            layers.Dense(17, activation="tanh", dtype="float64"),
            layers.Dense(3, activation="softmax", dtype="float64"),
        ]
    )
    model.compile(
        getattr(optimizers, name)(**options),
        "sparse_categorical_crossentropy" if sparse else "categorical_crossentropy",
    )
    x, c = draw(rows, 5), labels(rows)
    one_hot = np.eye(3)[c]
    y = c if sparse else one_hot
    oracle = NumpyMLP(model.get_weights(), optimizer)
    initial = model.get_weights()
    for start in (0, 16, 107, 3):
        batch = slice(start, start + batch_size)
        value = model.train_on_batch(x[batch], y[batch])
        assert value == pytest.approx(oracle.step(x[batch], one_hot[batch]), rel=1e-10)
    history = model.fit(x, y, batch_size=batch_size, epochs=2, shuffle=False, verbose=0).history
    for epoch in range(2):
        total = 0.0
        for start in range(0, rows, batch_size):
            batch = slice(start, min(start + batch_size, rows))
            total += oracle.step(x[batch], one_hot[batch]) * len(x[batch])
        assert history["loss"][epoch] == pytest.approx(total / rows, rel=1e-10)
    assert oracle.steps == 20 == model.optimizer.iterations
    for found, expected, first in zip(model.get_weights(), oracle.weights, initial, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
        assert np.abs(found - first).max() > 1e-3


def test_float32_follows_float64():
    model, double = mlp(optimizer="adam"), mlp("float64", optimizer="adam")
    x, y = draw(50, 3), draw(50, 2)
    losses = [
        m.fit(x, y, epochs=5, batch_size=8, shuffle=False, verbose=0).history["loss"]
        for m in (model, double)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4, 5, 10, 11, 100])
def test_fit_is_train_on_batch_again_and_again(batch_size):
    x, y = draw(10, 3), draw(10, 2)
    model, twin = (mlp(optimizer="adam", metrics=["mae"]) for _ in range(2))
    history = model.fit(x, y, batch_size=batch_size, epochs=3, shuffle=False, verbose=0).history
    for epoch in range(3):
        totals = np.zeros(2)
        for start in range(0, 10, batch_size):
            part = slice(start, start + batch_size)
            totals += np.multiply(twin.train_on_batch(x[part], y[part]), len(x[part]))
        np.testing.assert_allclose(
            [history["loss"][epoch], history["mae"][epoch]], totals / 10, rtol=1e-6
        )
    assert bits(model) == bits(twin)


def test_calls_of_different_sizes_take_turns():
    """Recorded steps of one size do not disturb those of another."""
    model, twin = mlp(optimizer="adam"), mlp(optimizer="adam")
    x, y = draw(40, 3), draw(40, 2)
    for i, size in enumerate([4, 7, 4, 1, 7, 4, 1, 40, 4]):
        part = slice(i, i + size)
        model.train_on_batch(x[part], y[part])
        model.predict(x[:size])
        model.evaluate(x[:size], y[:size], verbose=0)
        fresh = mlp()
        fresh.set_weights(twin.get_weights())
        np.testing.assert_array_equal(fresh.predict(x), twin.predict(x))
        twin.fit(x[part], y[part], batch_size=64, verbose=0, shuffle=False)
        assert bits(model) == bits(twin)


def test_fitting_goes_on_where_it_stopped():
    x, y = draw(10, 3), draw(10, 2)
    for optimizer in ("adam", optimizers.SGD(0.1, momentum=0.9), "rmsprop"):
        kind = optimizers.serialize(optimizers.get(optimizer))
        one, two = mlp(optimizer=optimizers.get(kind)), mlp(optimizer=optimizers.get(kind))
        first = one.fit(x, y, epochs=4, batch_size=4, shuffle=False, verbose=0)
        second = [two.fit(x, y, batch_size=4, shuffle=False, verbose=0) for _ in range(4)]
        assert bits(one) == bits(two)
        assert first.history["loss"] == [h.history["loss"][0] for h in second]
        assert one.optimizer.iterations == 12


def test_predict():
    x = draw(11, 3)
    model = mlp()
    expected = reference.dense(
        reference.dense(x, *model.get_weights()[:2], activation="tanh"), *model.get_weights()[2:]
    )
    whole = model.predict(x)
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-6)
    assert whole.dtype == np.float32 and whole.shape == (11, 2)
    for batch_size in (1, 4, 11, 1000):
        np.testing.assert_allclose(model.predict(x, batch_size=batch_size), whole, rtol=1e-6)
    kept = whole.copy()
    for other in (model.predict(2 * x), model(x), model.predict_on_batch(x)):
        other[:] = 7
    np.testing.assert_array_equal(whole, kept)  # results are the user's own
    np.testing.assert_array_equal(model.predict(x), whole)
    for rows in (1, 5):
        np.testing.assert_allclose(model.predict_on_batch(x[:rows]), whole[:rows], rtol=1e-6)
        np.testing.assert_allclose(model(x[:rows]), whole[:rows], rtol=1e-6)


def test_evaluate_changes_nothing():
    model = mlp(optimizer="adam", metrics=["mae"])
    x, y = draw(10, 3), draw(10, 2)
    model.fit(x, y, verbose=0)
    before = bits(model)
    values = model.evaluate(x, y, verbose=0)
    assert values == model.evaluate(x, y, verbose=0) == model.test_on_batch(x, y)
    assert model.evaluate(x, y, verbose=0, return_dict=True) == dict(
        zip(["loss", "mae"], values, strict=True)
    )
    assert bits(model) == before and model.optimizer.iterations == 1
    assert all(type(v) is float for v in values)
    assert type(mlp().evaluate(x, y, verbose=0)) is float


def test_values_on_batches():
    model = mlp(optimizer=optimizers.SGD(0.1), metrics=["mae"])
    x, y = draw(6, 3), draw(6, 2)
    expected = model.evaluate(x, y, verbose=0)
    assert model.test_on_batch(x, y) == expected
    # computed before the step, and of this batch alone
    assert model.train_on_batch(x, y) == expected
    second = model.train_on_batch(x, y, return_dict=True)
    assert list(second) == ["loss", "mae"] and second["loss"] < expected[0]
    assert type(mlp().train_on_batch(x, y)) is float


# --- order of the rows ----------------------------------------------------------------------------


def test_shuffle_takes_every_row_once_in_a_new_order():
    model, seen = seeing()
    x = np.arange(23.0)[:, None]
    model.fit(x, x, batch_size=5, epochs=3, verbose=0)
    orders = np.concatenate(seen.rows[True]).reshape(3, 23)
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(23))
        assert (order != np.arange(23)).any()
    assert (orders[0] != orders[1]).any() and (orders[1] != orders[2]).any()
    assert [len(r) for r in seen.rows[True]] == [5, 5, 5, 5, 3] * 3
    seen.forget()
    model.fit(x, x, batch_size=5, epochs=2, verbose=0, shuffle=False)
    np.testing.assert_array_equal(np.concatenate(seen.rows[True]), np.tile(np.arange(23), 2))
    seen.forget()
    model.evaluate(x, x, batch_size=5, verbose=0)
    model.predict(x, batch_size=5)
    np.testing.assert_array_equal(np.concatenate(seen.rows[False]), np.tile(np.arange(23), 2))


def test_x_and_y_are_shuffled_together():
    x = draw(64, 3)
    model = mlp(optimizer=optimizers.SGD(0.05))
    target = x @ draw(3, 2, seed=4)
    first = model.evaluate(x, target, verbose=0)
    model.fit(x, target, epochs=60, batch_size=8, verbose=0)
    assert model.evaluate(x, target, verbose=0) < 0.05 * first


def test_the_seed_decides():
    def run(seed):
        utils.set_random_seed(seed)
        model = Sequential([Input((3,)), layers.Dense(8, activation="relu"), layers.Dropout(0.5)])
        model.add(layers.Dense(2))
        model.compile("adam", "mse")
        x, y = draw(30, 3), draw(30, 2)
        return model.fit(x, y, batch_size=7, epochs=3, verbose=0).history, bits(model)

    first, other = run(7), run(8)
    assert run(7) == first
    assert other[0] != first[0] and other[1] != first[1]


def test_the_global_numpy_stream_is_not_used():
    def run():
        utils.set_random_seed(5)
        model = mlp()
        np.random.random(17)  # noqa: NPY002
        model.fit(draw(30, 3), draw(30, 2), batch_size=7, epochs=2, verbose=0)
        return bits(model)

    def run_without():
        utils.set_random_seed(5)
        model = mlp()
        model.fit(draw(30, 3), draw(30, 2), batch_size=7, epochs=2, verbose=0)
        return bits(model)

    assert run() == run_without()


def test_dropout_repeats_with_its_seed():
    """Its masks change from step to step, and are the same in the next run of the same seed."""

    def run(seed, epochs):
        model = Sequential(
            [
                Input((4,)),
                layers.Dropout(0.5, seed=seed),
                layers.Dense(1, kernel_initializer="ones"),
            ]
        )
        model.compile(optimizers.SGD(0.0), "mse")
        x = np.ones((64, 4))
        history = model.fit(x, x[:, :1], epochs=epochs, batch_size=16, shuffle=False, verbose=0)
        assert model.evaluate(x, x[:, :1], verbose=0) == pytest.approx(9)
        return history.history["loss"]

    first = run(1, 3)
    assert len(set(first)) == 3
    assert run(1, 3) == first and run(1, 1) == first[:1]
    assert run(2, 3) != first


# --- validation -----------------------------------------------------------------------------------


def test_validation_split_takes_the_last_rows_before_the_shuffle():
    model, seen = seeing()
    x = np.arange(20.0)[:, None]
    history = model.fit(x, x, batch_size=4, epochs=2, validation_split=0.25, verbose=0)
    for epoch in range(2):
        trained = np.concatenate(seen.rows[True][4 * epoch : 4 * epoch + 4])
        np.testing.assert_array_equal(np.sort(trained), np.arange(15))
        validated = np.concatenate(seen.rows[False][2 * epoch : 2 * epoch + 2])
        np.testing.assert_array_equal(validated, np.arange(15, 20))
    assert list(history.history) == ["loss", "val_loss"]
    assert history.params["steps"] == 4


def test_validation_split_is_fit_on_slices():
    x, y = draw(20, 3), draw(20, 2)
    model, twin = mlp(metrics=["mae"]), mlp(metrics=["mae"])
    split = model.fit(x, y, validation_split=0.3, epochs=2, verbose=0, shuffle=False)
    given = twin.fit(
        x[:14], y[:14], validation_data=(x[14:], y[14:]), epochs=2, verbose=0, shuffle=False
    )
    assert split.history == given.history and bits(model) == bits(twin)
    assert list(split.history) == ["loss", "mae", "val_loss", "val_mae"]


def test_validation_values_are_those_of_evaluate_after_the_epoch():
    x, y, vx, vy = draw(20, 3), draw(20, 2), draw(9, 3, seed=1), draw(9, 2, seed=1)
    model = mlp(metrics=["mae"])
    found = []
    note = callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: found.append(
            model.evaluate(vx, vy, batch_size=4, verbose=0)
        )
    )
    # validated in batches of the training's size, so the same sums
    history = model.fit(
        x, y, batch_size=4, epochs=3, validation_data=[vx, vy], verbose=0, callbacks=[note]
    ).history
    assert [list(v) for v in zip(history["val_loss"], history["val_mae"], strict=True)] == found


def test_validation_does_not_change_the_training():
    x, y = draw(20, 3), draw(20, 2)
    results = []
    for options in ({}, {"validation_data": (draw(7, 3), draw(7, 2))}):
        utils.set_random_seed(3)
        model = mlp(optimizer="adam")
        history = model.fit(x, y, batch_size=6, epochs=3, verbose=0, **options).history
        results.append((history["loss"], bits(model)))
    assert results[0] == results[1]


# --- several outputs ------------------------------------------------------------------------------


def two_outputs(**compiled):
    x = Input((3,), dtype="float64")
    h = layers.Dense(4, activation="tanh", dtype="float64", name="h")(x)
    model = Model(
        x,
        [
            layers.Dense(2, dtype="float64", name="a")(h),
            layers.Dense(1, dtype="float64", name="b")(h),
        ],
    )
    model.set_weights([0.5 * draw(*w.shape) for w in model.get_weights()])
    model.compile(optimizers.SGD(0.1), **compiled)
    return model


@pytest.mark.parametrize("weights", [None, [0.5, 3.0], {"a": 0.5, "b": 3.0}, {"b": 0.25}])
def test_losses_of_several_outputs(weights):
    model = two_outputs(loss=["mse", "mae"], loss_weights=weights)
    x, y = draw(10, 3), [draw(10, 2), draw(10, 1)]
    p, q = model.predict(x)
    a, b = np.mean((p - y[0]) ** 2), np.mean(abs(q - y[1]))
    wa, wb = {
        type(None): lambda: (1, 1),
        list: lambda: weights,
        dict: lambda: (weights.get("a", 1), weights.get("b", 1)),
    }[type(weights)]()
    for targets in (y, tuple(y), {"b": y[1], "a": y[0]}):
        logs = model.evaluate(x, targets, batch_size=3, verbose=0, return_dict=True)
        assert list(logs) == ["loss", "a_loss", "b_loss"]
        np.testing.assert_allclose(list(logs.values()), [wa * a + wb * b, a, b], rtol=1e-12)
    history = model.fit(x, y, epochs=2, batch_size=4, verbose=0, validation_split=0.2).history
    assert list(history) == ["loss", "a_loss", "b_loss", "val_loss", "val_a_loss", "val_b_loss"]


def test_gradients_of_several_losses_against_numpy():
    model = two_outputs(loss={"a": "mse", "b": "mse"}, loss_weights=[0.5, 3.0])
    x, y = draw(10, 3), [draw(10, 2), draw(10, 1)]
    w, c, wa, ca, wb, cb = model.get_weights()
    for _ in range(6):
        h = np.tanh(x @ w + c)
        da = 0.5 * 2 * (h @ wa + ca - y[0]) / 20
        db = 3.0 * 2 * (h @ wb + cb - y[1]) / 10
        dh = (da @ wa.T + db @ wb.T) * (1 - h**2)
        wa, ca, wb, cb = (
            wa - 0.1 * h.T @ da, ca - 0.1 * da.sum(0), wb - 0.1 * h.T @ db, cb - 0.1 * db.sum(0),
        )  # fmt: skip
        w, c = w - 0.1 * x.T @ dh, c - 0.1 * dh.sum(0)
    model.fit(x, y, epochs=6, batch_size=16, shuffle=False, verbose=0)
    for found, expected in zip(model.get_weights(), (w, c, wa, ca, wb, cb), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_an_output_without_a_loss():
    model = two_outputs(loss={"a": "mse"}, metrics={"b": "mae"})
    x, y = draw(10, 3), [draw(10, 2), draw(10, 1)]
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    assert list(logs) == ["loss", "a_loss", "b_mae"] and logs["loss"] == logs["a_loss"]
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    moved = [(a != b).any() for a, b in zip(before, model.get_weights(), strict=True)]
    assert moved == [True, True, True, True, False, False]


# --- threads, recording ---------------------------------------------------------------------------


def wide(seed=2):
    utils.set_random_seed(seed)
    model = Sequential(
        [
            Input((512,)),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(512, activation="gelu", kernel_regularizer="l2"),
            layers.Dense(64, activation="softmax", activity_regularizer="l1"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_any_number_of_threads_gives_the_same_bits(threads):
    x, y = draw(600, 512).astype(np.float32), labels(600, 64)
    found = []
    for count in (1, 2, 3):
        threads(count)
        assert ranvier.num_threads() == count
        model = wide()
        history = model.fit(x, y, batch_size=256, epochs=2, verbose=0).history
        evaluated = model.evaluate(x, y, batch_size=256, verbose=0)
        found.append((history, bits(model), evaluated, model.predict(x, batch_size=256).tobytes()))
    assert found[0] == found[1] == found[2]


def test_threads_can_change_between_runs(threads):
    x, y = draw(256, 512).astype(np.float32), labels(256, 64)
    found = []
    for counts in ((1, 1, 1), (2, 3, 1)):
        model = wide()
        for count in counts:
            threads(count)
            model.fit(x, y, batch_size=128, verbose=0)
        found.append(bits(model))
    assert found[0] == found[1]


def test_recorded_steps_give_the_bits_of_composed_ones(monkeypatch):
    x, y = draw(30, 3), [draw(30, 2), draw(30, 1)]

    def run():
        utils.set_random_seed(9)
        clear_names()
        a = Input((3,))
        h = layers.Dense(8, activation="gelu", activity_regularizer="l1")(Seen()(a))
        norm = layers.Normalization()
        norm.adapt(draw(9, 8))
        h = layers.Dropout(0.3)(norm(h))
        model = Model(a, [layers.Dense(2)(h), layers.Dense(1, kernel_regularizer="l2")(h)])
        model.compile("adam", "mse", metrics=[["mae"], ["mae"]], loss_weights=[2.0, 0.5])
        history = model.fit(x, y, batch_size=7, epochs=3, verbose=0, validation_split=0.3).history
        values = model.evaluate(x, y, batch_size=7, verbose=0)
        return history, values, bits(model), [p.tobytes() for p in model.predict(x, batch_size=7)]

    recorded = run()
    monkeypatch.setattr(training, "_REPLAY", False)
    assert run() == recorded


def test_compiling_again_begins_anew():
    x, y = draw(10, 3), draw(10, 2)
    model = mlp(optimizer="adam")
    start = model.get_weights()
    model.fit(x, y, verbose=0, shuffle=False, epochs=3)
    first = bits(model)
    model.set_weights(start)
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0, shuffle=False, epochs=3)
    assert bits(model) == first and model.optimizer.iterations == 3
    model.compile("sgd", "mae", metrics=["mse"])
    assert list(model.fit(x, y, verbose=0).history) == ["loss", "mse"]


def test_no_batch_size_is_keras_s_default_and_predictions_do_not_depend_on_it():
    x, y = draw(70, 3), draw(70, 2)
    results = []
    for size in (32, None):
        model = Sequential([Input((3,)), layers.Dense(4, "tanh"), layers.Dense(2)])
        model.set_weights([np.full(w.shape, 0.1 + i) for i, w in enumerate(model.get_weights())])
        model.compile("adam", "mse")
        history = model.fit(x, y, batch_size=size, shuffle=False, verbose=0).history
        results.append((history, model.evaluate(x, y, batch_size=size, verbose=0)))
        np.testing.assert_array_equal(model.predict(x), model.predict(x, batch_size=9))
    assert results[0] == results[1]
