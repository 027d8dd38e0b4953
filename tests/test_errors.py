"""What compile, fit, evaluate and predict refuse, with which words, and that a refused call changes
nothing."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from nets import draw, refused, state
from ranvier import Input, Model, Sequential, callbacks, layers, optimizers

X, Y, C = draw(8, 3), draw(8, 2), np.arange(8) % 2


def net(loss="mse", metrics=None):
    """3-4-2 with a softmax if the loss is a cross-entropy; always the same weights."""
    last = "softmax" if "categorical" in loss else "linear"
    model = Sequential(
        [Input((3,)), layers.Dense(4, activation="tanh"), layers.Dense(2, activation=last)],
        name="net",
    )
    model.set_weights([0.5 * draw(*w.shape) for w in model.get_weights()])
    model.compile("adam", loss, metrics)
    return model


# --- data -----------------------------------------------------------------------------------------


def a_generator():
    yield X


def object_rows():
    return np.array([[1, 2, "a"], [3, 4, None]], dtype=object)


BAD_X = {
    "rank_1": (draw(8), ValueError, r"x has shape \(8,\) but net needs \(None, 3\)$"),
    "one_row": (draw(3), ValueError, r"x has shape \(3,\) but .*: for one row use x\[None\]"),
    "rank_3": (draw(8, 3, 1), ValueError, r"x has shape \(8, 3, 1\) but net needs \(None, 3\)"),
    "too_wide": (draw(8, 4), ValueError, r"x has shape \(8, 4\) but net needs \(None, 3\)"),
    "too_narrow": (draw(8, 1), ValueError, r"x has shape \(8, 1\) but net needs \(None, 3\)"),
    "two_inputs": ((X, X), ValueError, r"net has inputs \['.*'\] but 2 arrays were given: merge"),
    "empty": (draw(0, 3), ValueError, r"x is empty: it has shape \(0, 3\); at least one row"),
    "number": (3.0, ValueError, "x must have rows; received a single number"),
    "list_of_inputs": ([X, draw(7, 2)], ValueError, "but 2 arrays were given: merge them into one"),
    "nothing": (None, TypeError, "x is None: give an array"),
    "list_of_nothing": ([None, None], TypeError, "x is None: give an array"),
    "strings": (np.full((8, 3), "a"), TypeError, r"x has dtype <U1; use numbers \(bool, integer"),
    "objects": (object_rows(), TypeError, "x has dtype object; use numbers"),
    "complex": (X + 1j, TypeError, "x has dtype complex128; use numbers"),
    "dates": (np.full((8, 3), "2020", "M8[s]"), TypeError, r"x has dtype datetime64\[s\]"),
    "long_double": (X.astype(np.longdouble), TypeError, "x has dtype (float128|longdouble)"),
    "ragged": ([[1.0, 2, 3], [1.0]], ValueError, "rectangular array|different numbers of rows"),
    "generator": (a_generator(), TypeError, "x is a generator; give arrays"),
    "iterator": (iter([X]), TypeError, "x is a generator; give arrays"),
    "wrong_keys": ({"pixels": X}, ValueError, r"x has keys \['pixels'\] but the inputs are \['inp"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_X)
def test_bad_x(name):
    x, error, text = BAD_X[name]
    if name == "long_double" and np.dtype(np.longdouble).itemsize == 8:
        x = X.astype(complex)
        text = "x has dtype complex"
    model = net()
    for what, call in {
        "fit": lambda: model.fit(x, Y, verbose=0),
        "evaluate": lambda: model.evaluate(x, Y, verbose=0),
        "predict": lambda: model.predict(x),
        "train_on_batch": lambda: model.train_on_batch(x, Y),
        "test_on_batch": lambda: model.test_on_batch(x, Y),
        "predict_on_batch": lambda: model.predict_on_batch(x),
        "fit, validation_data": lambda: model.fit(X, Y, validation_data=(x, Y), verbose=0),
    }.items():
        refused(model, call, error, rf"^\[{what}\] .*{text}")


BAD_Y = {
    "missing": (None, ValueError, "y is missing: net was compiled with a loss"),
    "fewer_rows": (draw(7, 2), ValueError, "x has 8 rows but y has 7: they must be the same"),
    "more_rows": (draw(9, 2), ValueError, "x has 8 rows but y has 9"),
    "number": (1.0, ValueError, "x has 8 rows but y has none"),
    "column": (draw(8, 1), ValueError, r"y_true has shape \(8, 1\) but y_pred has .*\(None, 2\)"),
    "vector": (draw(8), ValueError, r"y_true has shape \(8,\) but y_pred has shape \(None, 2\)"),
    "wide": (draw(8, 768), ValueError, r"\(8, 768\).* as many outputs as y has columns"),
    "rank_3": (draw(8, 2, 2), ValueError, r"y_true has shape \(8, 2, 2\) but y_pred has"),
    "two": ([Y, Y], ValueError, "x has 8 rows but y has 2|arrays of y were given"),
    "strings": (np.full((8, 2), "a"), TypeError, "y has dtype <U1; use numbers"),
    "objects": (np.full((8, 2), None), TypeError, "y has dtype object; use numbers"),
    "generator": (a_generator(), TypeError, "y is a generator; give arrays"),
    "keys": ({"other": Y}, ValueError, r"y has keys \['other'\] but the outputs are \['dense"),
}


@pytest.mark.parametrize("name", BAD_Y)
def test_bad_y(name):
    y, error, text = BAD_Y[name]
    model = net()
    for call in (
        lambda: model.fit(X, y, verbose=0),
        lambda: model.evaluate(X, y, verbose=0),
        lambda: model.train_on_batch(X, y),
        lambda: model.test_on_batch(X, y),
        lambda: model.fit(X, Y, validation_data=(X, y), verbose=0),
    ):
        refused(model, call, error, text)


BAD_LABELS = {
    "too_large": (
        [0, 1, 2, 0, 0, 0, 0, 0],
        r"label 2 is out of range: the model has 2 outputs, so ",
    ),
    "negative": ([0, 1, -1, 0, 0, 0, 0, 0], r"label -1 is out of range: .*from 0 to 1"),
    "huge": ([0, 1, 2**40, 0, 0, 0, 0, 0], f"label {2**40} is out of range"),
    "fraction": ([0, 1, 0.5, 0, 0, 0, 0, 0], "labels must be whole numbers; y has dtype float64"),
    "nan": ([0, 1, np.nan, 0, 0, 0, 0, 0], "labels must be whole numbers"),
    "infinite": ([0, 1, np.inf, 0, 0, 0, 0, 0], "label inf is out of range"),
    "one_hot": (np.eye(2)[C], "one-hot targets go with categorical_crossentropy"),
    "three_columns": (np.eye(3)[C], r"labels need shape \(None,\), or \(None, 1\)"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_bad_labels(name):
    y, text = BAD_LABELS[name]
    model = net("sparse_categorical_crossentropy")
    for call in (
        lambda: model.fit(X, np.array(y), verbose=0),
        lambda: model.train_on_batch(X, np.array(y)),
        lambda: model.evaluate(X, np.array(y), verbose=0),
        lambda: model.fit(X, C, validation_data=(X, np.array(y)), verbose=0),
    ):
        refused(model, call, ValueError, r"\[sparse_categorical_crossentropy\] .*" + text)


def test_labels_where_one_hot_targets_belong():
    model = net("categorical_crossentropy")
    refused(
        model, lambda: model.fit(X, C, verbose=0), ValueError,
        r"\[categorical_crossentropy\] .*integer labels go with sparse_categorical_crossentropy",
    )  # fmt: skip


def test_what_is_aligned_and_what_never_is():
    """(n,) meets (n, 1); (n, 1) meets neither (n, 10) nor (n, 768)."""
    x = draw(10, 4)
    for units in (1, 10, 768):
        model = Sequential([Input((4,)), layers.Dense(units)])
        model.compile("sgd", "mse")
        for y in (draw(10), draw(10, 1)):
            if units == 1:
                expected = np.mean((model.predict(x) - y.reshape(10, 1)) ** 2)
                assert model.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-5)
            else:
                text = rf"y_true has shape \(10,.* but y_pred has shape \(None, {units}\)"
                refused(model, lambda y=y, m=model: m.fit(x, y, verbose=0), ValueError, text)
                refused(model, lambda y=y, m=model: m.train_on_batch(x, y), ValueError, text)


def test_a_model_goes_on_after_a_refused_call_as_if_nothing_had_been():
    model, twin = net(), net()
    for i in range(3):
        model.fit(X, Y, batch_size=3, verbose=0, shuffle=False)
        twin.fit(X, Y, batch_size=3, verbose=0, shuffle=False)
        for x, y in ((draw(8, 4), Y), (X, draw(8, 768)), (X, None), (draw(0, 3), draw(0, 2))):
            refused(model, lambda x=x, y=y: model.fit(x, y, verbose=0), ValueError, r"^\[")
        assert state(model) == state(twin), i


def test_a_refused_y_does_not_decide_the_accuracy():
    model = net("sparse_categorical_crossentropy", ["accuracy"])
    refused(model, lambda: model.fit(X, np.eye(2)[C], verbose=0), ValueError, "one-hot")
    accuracy = model.evaluate(X, C, verbose=0)[1]
    assert accuracy == np.mean(model.predict(X).argmax(1) == C)


def test_a_metric_that_y_does_not_fit_is_named():
    model = net("categorical_crossentropy", ["sparse_categorical_accuracy"])
    refused(
        model, lambda: model.fit(X, np.eye(2)[C], verbose=0), ValueError,
        r"\[sparse_categorical_accuracy\] y_true has shape \(8, 2\)",
    )  # fmt: skip


# --- several inputs and outputs -------------------------------------------------------------------


class Add(layers.NumpyLayer):
    def forward(self, x, *, training=False):
        return x[0] + x[1], lambda dy: [dy, dy]


def pair():
    a, b = Input((3,), name="a"), Input((3,), name="b")
    h = Add()([a, b])
    model = Model([a, b], [layers.Dense(2, name="p")(h), layers.Dense(1, name="q")(h)], name="pair")
    model.compile("adam", "mse")
    return model


Q = draw(8, 1)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (X, r"pair has inputs \['a', 'b'\] but 1 array was given: give a list or dict of 2"),
        ([X], "but 1 array was given: give a list or dict of 2"),
        ((X, X, X), r"pair has inputs \['a', 'b'\] but 3 arrays were given: give a list or dict"),
        ([X, Y, Y], "but 3 arrays were given"),
        ([X, draw(7, 3)], r"the inputs have different numbers of rows: \[8, 7\]"),
        ([X, draw(8, 2)], r"x\[1\], for input 'b', has shape \(8, 2\) but pair needs \(None, 3\)"),
        ({"a": X}, r"x has keys \['a'\] but the inputs are \['a', 'b'\]"),
        ({"a": X, "b": X, "c": X}, r"x has keys \['a', 'b', 'c'\] but the inputs are"),
    ],
)
def test_bad_inputs_of_several(x, text):
    model = pair()
    refused(model, lambda: model.fit(x, [Y, Q], verbose=0), ValueError, text)
    refused(model, lambda: model.predict(x), ValueError, text)
    if not isinstance(x, dict):
        refused(model, lambda: model(x), ValueError, r"^\[pair\] .*" + text)


@pytest.mark.parametrize(
    ("y", "text"),
    [
        (Y, "outputs|rows"),
        ([Y], r"pair has outputs \['p', 'q'\] but 1 arrays of y were given"),
        ([Y, Q, Q], r"pair has outputs \['p', 'q'\] but 3 arrays of y were given"),
        ([Q, Y], r"y_true has shape \(8, 1\) but y_pred has shape \(None, 2\)"),
        ([Y, draw(7, 1)], "x has 8 rows but y has 7"),
        ({"p": Y}, r"y has keys \['p'\] but the outputs are \['p', 'q'\]"),
    ],
)
def test_bad_targets_of_several(y, text):
    model = pair()
    refused(model, lambda: model.fit([X, X], y, verbose=0), ValueError, text)


def test_calling_with_wrong_inputs():
    model = pair()
    with pytest.raises(
        ValueError, match=r"\[pair\] received inputs \['a'\] but the model has \['a',"
    ):
        model({"a": X})
    with pytest.raises(
        ValueError, match=r"\[pair\] the model's input needs shape \[\(None, 3\), .*"
    ):
        model([Input((3,)), Input((4,))])
    with pytest.raises(ValueError, match=r"\[net\] the model's input needs shape \(None, 3\) but "):
        net()(Input((4,)))
    for training in (False, True):
        with pytest.raises(ValueError, match=r"^\[net\] x has shape \(8, 4\) but net needs"):
            net()(draw(8, 4), training=training)


class Inner(Model):
    def __init__(self):
        super().__init__(name="net")
        self.hidden, self.out = layers.Dense(4), layers.Dense(2, name="out")

    def call(self, x):
        return self.out(self.hidden(x))


UNBUILT = {
    "sequential": lambda: Sequential([layers.Dense(4), layers.Dense(2)], name="net"),
    "subclassed": Inner,
}


@pytest.mark.parametrize("name", ["built", *UNBUILT])
def test_lists_to_a_model_of_one_input(name):
    """A list of one array is that array, as in Keras; one of rows is an array of them."""
    rows = X.tolist()

    def calls(model, x, n):
        yield lambda: model(x)
        yield lambda: model(x, training=True)
        yield lambda: model.predict(x)
        yield lambda: model.evaluate(x, Y[:n], verbose=0)
        yield lambda: model.fit(x, Y[:n], verbose=0)

    def made():
        model = UNBUILT.get(name, net)()
        model.compile("sgd", "mse")
        return model

    for x, array in [([X], X), ((X,), X), (rows, X), (rows[:1], X[:1]), ([rows], X)]:
        for i in range(5):
            model = made()
            list(calls(model, x, len(array)))[i]()
            np.testing.assert_array_equal(model(x), model(array))
            assert model.inputs[0].shape == (None, 3)
    with pytest.raises(ValueError, match=r"^\[net\] .*inputs"):
        made()({"pixels": X})
    for x in ([X, X], (X, Y), [X, X, X], [X, X[:5]]):
        model = made()
        for call in calls(model, x, 8):
            with pytest.raises(ValueError, match=r"2 arrays|3 arrays|list of [23]|numbers of rows"):
                call()
            assert model.built == (name == "built")
        assert model.predict(X).shape == (8, 2)  # nothing was left behind


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "4"])
def test_bad_batch_size(bad):
    model = net()
    for what, call in {
        "fit": lambda: model.fit(X, Y, batch_size=bad, verbose=0),
        "evaluate": lambda: model.evaluate(X, Y, batch_size=bad, verbose=0),
        "predict": lambda: model.predict(X, batch_size=bad),
    }.items():
        refused(
            model, call, ValueError, rf"\[{what}\] batch_size must be a positive integer; received"
        )


@pytest.mark.parametrize(
    ("split", "text"),
    [
        (1.0, r"\[fit\] validation_split must be from 0 to below 1; received 1.0"),
        (-0.1, r"validation_split must be from 0 to below 1; received -0.1"),
        (0.99, r"validation_split=0.99 leaves 0 of 8 rows to train on: both parts need at least"),
        (1e-20, r"leaves 8 of 8 rows to train on"),
    ],
)
def test_bad_validation_split(split, text):
    model = net()
    refused(model, lambda: model.fit(X, Y, validation_split=split, verbose=0), ValueError, text)


@pytest.mark.parametrize("bad", [X, (X,), (X, Y, Y), 5])
def test_bad_validation_data(bad):
    model = net()
    refused(
        model, lambda: model.fit(X, Y, validation_data=bad, verbose=0), ValueError,
        r"\[fit\] validation_data must be a pair \(x, y\)",
    )  # fmt: skip


def test_bad_callbacks_and_verbosity():
    model = net()
    for bad in (5, [callbacks.History], lambda: None):
        refused(
            model, lambda bad=bad: model.fit(X, Y, callbacks=bad, verbose=0), TypeError,
            r"\[callbacks\] expected Callback objects; received",
        )  # fmt: skip
    refused(
        model, lambda: model.fit(X, Y, verbose=5), ValueError, r'verbose must be 0, 1, 2 or "auto"'
    )


# --- compile --------------------------------------------------------------------------------------


def test_training_before_compile():
    model = Sequential([Input((3,)), layers.Dense(2)], name="raw")
    before = model.get_weights()
    for what, call in {
        "fit": lambda: model.fit(X, Y, verbose=0),
        "evaluate": lambda: model.evaluate(X, Y, verbose=0),
        "train_on_batch": lambda: model.train_on_batch(X, Y),
        "test_on_batch": lambda: model.test_on_batch(X, Y),
    }.items():
        with pytest.raises(RuntimeError, match=rf"\[{what}\] raw is not compiled: call compile\("):
            call()
    assert model.predict(X).shape == (8, 2)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_compile_without_a_loss():
    model = net()
    model.compile("sgd")
    for call in (
        lambda: model.fit(X, Y, verbose=0),
        lambda: model.evaluate(X, Y, verbose=0),
        lambda: model.train_on_batch(X, Y),
    ):
        refused(model, call, ValueError, "net was compiled without a loss: give compile one")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"optimizer": "sdg"}, r"\[optimizer\] unknown optimizer 'sdg'; known are adam, .*sgd"),
        (
            {"optimizer": 0.01},
            r"\[optimizer\] expected a name, a config .* or an object of Optimizer",
        ),
        ({"loss": "msee"}, r"\[loss\] unknown loss 'msee'; known are .*A class of your own"),
        (
            {"loss": lambda t, p: 0},
            r"\[loss\] expected a name, a config .* or an object of Loss; received <funct",
        ),
        (
            {"loss": ["mse", "mae"]},
            r"\[compile\] loss has 2 items but the model has outputs \['den",
        ),
        ({"loss": {"q": "mse"}}, r"\[compile\] loss has keys \['q'\] but the outputs are \['dense"),
        ({"loss": "mse", "loss_weights": [1, 2]}, "loss_weights has 2 items but the model has"),
        ({"loss": "mse", "metrics": {"q": "mse"}}, r"\[compile\] metrics has keys \['q'\]"),
    ],
)
def test_bad_arguments_of_compile(arguments, text):
    model = Sequential([Input((3,)), layers.Dense(2)])
    with pytest.raises(ValueError, match=text):
        model.compile(**{"optimizer": "sgd", **arguments})


def test_an_unknown_metric():
    with pytest.raises(ValueError, match=r"\[metric\] unknown metric 'accurracy'; known are"):
        net().compile("sgd", "mse", metrics=["mse", "accurracy"])


@pytest.mark.parametrize(
    "arguments", [{"loss": "mse", "metrics": ["bogus"]}, {"loss": "bogus"}], ids=["metric", "loss"]
)
def test_compile_refuses_unknown_names_at_once(arguments):
    model = Sequential([layers.Dense(2)])
    with pytest.raises(ValueError, match="bogus"):
        model.compile("sgd", **arguments)


@pytest.mark.parametrize("loss", [[None, None], {}], ids=["list", "dict"])
def test_no_loss_for_any_output(loss):
    with pytest.raises(ValueError, match=r"\[compile\] no output has a loss"):
        pair().compile("sgd", loss)


# --- losses that are not finite -------------------------------------------------------------------


def spoilt(*rows, value=np.nan):
    x = X.copy()
    x[list(rows)] = value
    return x


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_reported_with_its_batch(value):
    model = net()
    model.compile(optimizers.SGD(0.0), "mse")
    x, y = (spoilt(5), Y) if np.isnan(value) else (X, np.where(X[:, :2] == X[5, :2], value, Y))
    text = (
        r"the loss is not finite from batch 3 on: look for bad values in the data \(np.isfinite\)"
    )
    with pytest.warns(RuntimeWarning, match=r"\[evaluate\] " + text):
        assert not np.isfinite(model.evaluate(x, y, batch_size=2, verbose=0))
    with pytest.warns(
        RuntimeWarning, match=r"\[fit\] the loss is not finite from batch 3 of epoch 1"
    ):
        model.fit(x, y, batch_size=2, verbose=0, shuffle=False)
    with pytest.warns(RuntimeWarning, match=r"\[train_on_batch\] .* from batch 1 on"):
        model.train_on_batch(x, y)
    with pytest.warns(RuntimeWarning, match=r"\[test_on_batch\] .* from batch 1 on"):
        model.test_on_batch(x, y)


def test_a_loss_that_runs_away_is_reported_in_its_epoch():
    model = net()
    model.compile(optimizers.SGD(1e4), "mse")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        history = model.fit(X, 1e3 * Y, epochs=9, batch_size=4, verbose=0).history["loss"]
    finite = np.isfinite(history)
    assert finite[0] and not finite[-1]
    epochs = [f"of epoch {i + 1} on" for i in np.flatnonzero(~finite)]
    assert len(found) == len(epochs)
    for warning, epoch in zip(found, epochs, strict=True):
        assert epoch in str(warning.message) and warning.category is RuntimeWarning


def test_finite_losses_are_not_reported():
    model = net()
    model.fit(X, Y, verbose=0, validation_split=0.25)  # a warning would be an error here
    model.evaluate(X, Y, verbose=0)


@pytest.mark.parametrize("what", ["fit", "train_on_batch", "test_on_batch"])
def test_the_warning_points_to_the_call(what):
    model = net()
    with pytest.warns(RuntimeWarning) as found:
        getattr(model, what)(spoilt(0), Y, **({"verbose": 0} if what == "fit" else {}))
    assert found[0].filename == __file__


def test_no_inputs_at_all():
    model = net()
    refused(model, lambda: model.predict(()), ValueError, r"\[predict\]")
