"""Epochs and the callbacks that look in: hooks, stopping, errors in the middle."""

from __future__ import annotations

import numpy as np
import pytest

from nets import bits, draw, mlp
from ranvier import Input, Sequential, callbacks, layers, optimizers, utils


class Recorder(callbacks.Callback):
    """Notes every hook with its number and the names in its logs."""

    def __init__(self):
        super().__init__()
        self.calls = []


def _note(hook):
    def note(self, *args):
        *number, logs = args
        self.calls.append((hook, *number, *(logs or {})))

    return note


for _hook in [h for h in vars(callbacks.Callback) if h.startswith("on_")]:
    if _hook not in ("on_batch_begin", "on_batch_end"):
        setattr(Recorder, _hook, _note(_hook))


def test_hooks_of_fit():
    model, recorder = mlp(metrics=["mae"]), Recorder()
    x, y = draw(10, 3), draw(10, 2)
    history = model.fit(
        x, y, batch_size=6, epochs=5, initial_epoch=3, verbose=0, callbacks=[recorder],
        validation_data=(x[:3], y[:3]),
    )  # fmt: skip
    values, both = ("loss", "mae"), ("loss", "mae", "val_loss", "val_mae")
    epoch = [
        ("on_train_batch_begin", 0),
        ("on_train_batch_end", 0, *values),
        ("on_train_batch_begin", 1),
        ("on_train_batch_end", 1, *values),
        ("on_test_begin",),
        ("on_test_batch_begin", 0),
        ("on_test_batch_end", 0, *values),
        ("on_test_end", *values),
    ]
    expected = [("on_train_begin",)]
    for i in (3, 4):
        expected += [("on_epoch_begin", i), *epoch, ("on_epoch_end", i, *both)]
    assert recorder.calls == [*expected, ("on_train_end", *both)]
    assert recorder.model is model
    assert recorder.params == {"verbose": 0, "epochs": 5, "steps": 2}
    assert history.epoch == [3, 4]
    assert all(len(v) == 2 for v in history.history.values())
    assert model.history is history


def test_hooks_of_evaluate_and_predict():
    model, recorder = mlp(), Recorder()
    x, y = draw(10, 3), draw(10, 2)
    model.evaluate(x, y, batch_size=6, verbose=0, callbacks=[recorder])
    model.predict(x, batch_size=6, callbacks=recorder)
    assert recorder.calls == [
        ("on_test_begin",),
        ("on_test_batch_begin", 0),
        ("on_test_batch_end", 0, "loss"),
        ("on_test_batch_begin", 1),
        ("on_test_batch_end", 1, "loss"),
        ("on_test_end", "loss"),
        ("on_predict_begin",),
        ("on_predict_batch_begin", 0),
        ("on_predict_batch_end", 0),
        ("on_predict_batch_begin", 1),
        ("on_predict_batch_end", 1),
        ("on_predict_end",),
    ]


def test_values_after_each_batch_are_running_means():
    x, y = draw(10, 3), draw(10, 2)
    model, twin, found = mlp(), mlp(), []
    note = callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: found.append(logs["loss"])
    )
    history = model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[note])
    sizes = np.array([4, 4, 2])
    single = [twin.train_on_batch(x[i : i + 4], y[i : i + 4]) for i in (0, 4, 8)]
    np.testing.assert_allclose(found, np.cumsum(single * sizes) / np.cumsum(sizes), rtol=1e-6)
    assert history.history["loss"] == found[-1:]


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_train_batch_end", "on_test_batch_end"])
def test_looking_in_does_not_change_the_training(hook):
    x, y = draw(22, 3), draw(22, 2)
    results = []
    for given in ([], [callbacks.LambdaCallback(**{hook: lambda number, logs: None})]):
        utils.set_random_seed(4)
        model = mlp(optimizer="adam", metrics=["mae"])
        history = model.fit(
            x, y, batch_size=4, epochs=4, verbose=0, callbacks=given, validation_split=0.2
        )
        results.append((history.history, bits(model)))
    assert results[0] == results[1]


def test_predicting_and_evaluating_from_a_callback():
    x, y = draw(22, 3), draw(22, 2)
    results = []
    for nosy in (False, True):
        model = mlp(optimizer="adam")

        def look(number, logs, model=model, nosy=nosy):
            if nosy:
                model.predict(x[:5])
                model(x[:2])

        history = model.fit(
            x, y, batch_size=4, epochs=3, verbose=0, shuffle=False,
            callbacks=[callbacks.LambdaCallback(on_train_batch_end=look, on_epoch_end=look)],
        )  # fmt: skip
        results.append((history.history, bits(model)))
    assert results[0] == results[1]


def test_stopping_at_the_end_of_an_epoch():
    model = mlp()

    def stop(epoch, logs):
        model.stop_training = epoch == 1

    history = model.fit(
        draw(10, 3), draw(10, 2), epochs=9, verbose=0,
        callbacks=callbacks.LambdaCallback(on_epoch_end=stop),
    )  # fmt: skip
    assert history.epoch == [0, 1] and model.optimizer.iterations == 2
    assert model.fit(draw(10, 3), draw(10, 2), epochs=3, verbose=0).epoch == [0, 1, 2]


def test_stopping_in_the_middle_of_an_epoch():
    model, recorder = mlp(), Recorder()

    def stop(batch, logs):
        model.stop_training = batch == 2

    history = model.fit(
        draw(50, 3), draw(50, 2), epochs=9, batch_size=5, verbose=0,
        callbacks=[callbacks.LambdaCallback(on_train_batch_end=stop), recorder],
    )  # fmt: skip
    assert model.optimizer.iterations == 3 and history.epoch == [0]
    assert recorder.calls[-2:] == [("on_epoch_end", 0, "loss"), ("on_train_end", "loss")]


def test_the_learning_rate_can_change_between_epochs_and_batches():
    x, y = draw(12, 3), draw(12, 2)
    for hook in ("on_epoch_begin", "on_train_batch_begin"):
        model, twin = mlp(optimizer=optimizers.Adam()), mlp(optimizer=optimizers.Adam())

        def change(number, logs, model=model):
            model.optimizer.learning_rate = 0.01 / (1 + number)

        model.fit(
            x, y, batch_size=4, epochs=3, verbose=0, shuffle=False,
            callbacks=callbacks.LambdaCallback(**{hook: change}),
        )  # fmt: skip
        for epoch in range(3):
            for batch in range(3):
                twin.optimizer.learning_rate = 0.01 / (1 + (epoch if "epoch" in hook else batch))
                part = slice(4 * batch, 4 * batch + 4)
                twin.train_on_batch(x[part], y[part])
        assert bits(model) == bits(twin)


def test_no_epochs():
    model = mlp()
    before = bits(model)
    history = model.fit(draw(4, 3), draw(4, 2), epochs=2, initial_epoch=2, verbose=0)
    assert history.epoch == [] and history.history == {} and bits(model) == before


def test_an_error_in_the_middle_of_training_leaves_a_model_that_works():
    class Fails(layers.NumpyLayer):
        steps_left = 10**9

        def forward(self, x, *, training=False):
            if training:
                self.steps_left -= 1
                if self.steps_left < 0:
                    raise RuntimeError("enough")
            return x, lambda dy: dy

    fails = Fails()
    x, y = draw(20, 3), draw(20, 2)
    model, twin = mlp(), mlp()
    spoilt = Sequential([Input((3,)), fails, *model.layers])
    spoilt.compile("sgd", "mse")
    fails.steps_left = 3
    with pytest.raises(RuntimeError, match="enough"):
        spoilt.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False)
    for i in range(3):
        twin.train_on_batch(x[4 * i : 4 * i + 4], y[4 * i : 4 * i + 4])
    assert bits(model) == bits(twin)  # whole steps only
    fails.steps_left = 10**9
    spoilt.fit(x, y, batch_size=4, verbose=0, shuffle=False)
    twin.fit(x, y, batch_size=4, verbose=0, shuffle=False)
    assert bits(model) == bits(twin)
