"""Losses as objects: values on arrays, alignment of y, names and configs, and what fit reports."""

from __future__ import annotations

import json

import numpy as np
import pytest

import reference
from cases import DTYPES
from ranvier import Input, Sequential, layers, losses
from ranvier._core import Buffer

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
RTOL = {np.float32: 2e-6, np.float64: 1e-13}

DENSE_TARGETS = [
    (losses.MeanSquaredError, {}),
    (losses.MeanAbsoluteError, {}),
    (losses.BinaryCrossentropy, {}),
    (losses.BinaryCrossentropy, {"from_logits": True}),
    (losses.CategoricalCrossentropy, {}),
    (losses.CategoricalCrossentropy, {"from_logits": True}),
]
LABELS = [
    (losses.SparseCategoricalCrossentropy, {}),
    (losses.SparseCategoricalCrossentropy, {"from_logits": True}),
]


def named(cases):
    return [cls.__name__ + ("_logits" if options else "") for cls, options in cases]


def share(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(0.05, 0.95, shape)


# --- values ---------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("shape", [(1, 1), (6, 4), (2, 3, 5)], ids=str)
@pytest.mark.parametrize(("cls", "options"), DENSE_TARGETS, ids=named(DENSE_TARGETS))
def test_value(cls, options, shape, dtype):
    loss = cls(**options)
    y_true, y_pred = share(*shape), share(*shape, seed=1).astype(dtype)
    value = loss(y_true, y_pred)
    assert type(value) is float
    expected = getattr(reference, loss.name)(y_true.astype(dtype), y_pred, **options)
    np.testing.assert_allclose(value, expected, rtol=RTOL[dtype])


@every_dtype
@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 5)], ids=str)
@pytest.mark.parametrize(("cls", "options"), LABELS, ids=named(LABELS))
def test_value_for_labels(cls, options, shape, dtype):
    loss = cls(**options)
    y_pred = share(*shape).astype(dtype)
    labels = np.random.default_rng(1).integers(0, shape[-1], shape[:-1])
    expected = reference.sparse_categorical_crossentropy(labels, y_pred, **options)
    for y_true in (labels, labels[..., None], labels.astype(np.uint8), labels.astype(np.float32)):
        np.testing.assert_allclose(loss(y_true, y_pred), expected, rtol=RTOL[dtype])
    other = losses.CategoricalCrossentropy(**options)
    one_hot = reference.one_hot(labels, shape[-1])
    np.testing.assert_allclose(other(one_hot, y_pred), expected, rtol=RTOL[dtype])


def test_known_values():
    """By hand, so that the oracle is not alone."""
    y, p = np.array([[0.0, 1.0]]), np.array([[0.25, 0.5]])
    assert losses.MeanSquaredError()(y, p) == pytest.approx((0.0625 + 0.25) / 2)
    assert losses.MeanAbsoluteError()(y, p) == pytest.approx(0.375)
    assert losses.BinaryCrossentropy()(y, p) == pytest.approx(-(np.log(0.75) + np.log(0.5)) / 2)
    # probabilities that do not sum to 1 are divided by their sum, as in Keras
    assert losses.CategoricalCrossentropy()(y, p) == pytest.approx(-np.log(0.5 / 0.75))
    assert losses.SparseCategoricalCrossentropy()([1], p) == pytest.approx(-np.log(0.5 / 0.75))


@every_dtype
def test_certain_and_wrong_is_clipped(dtype):
    p = np.array([[0.0, 1.0]], dtype)
    for loss, y in (
        (losses.BinaryCrossentropy(), [[1, 0]]),
        (losses.CategoricalCrossentropy(), [[1, 0]]),
        (losses.SparseCategoricalCrossentropy(), [0]),
    ):
        assert loss(y, p) == pytest.approx(-np.log(1e-7), rel=0.02)


@every_dtype
def test_large_logits_do_not_overflow(dtype):
    z = np.array([[1000.0, -1000.0]], dtype)
    assert losses.BinaryCrossentropy(from_logits=True)([[0, 1]], z) == 1000
    assert losses.BinaryCrossentropy(from_logits=True)([[1, 0]], z) == 0
    assert losses.CategoricalCrossentropy(from_logits=True)([[0, 1]], z) == 2000
    assert losses.SparseCategoricalCrossentropy(from_logits=True)([0], z) == 0


def test_integers_lists_and_mixed_types_are_taken():
    assert losses.MeanSquaredError()([1, 2], [3, 4]) == 4
    assert losses.MeanSquaredError()(np.array([True, False]), np.zeros(2)) == 0.5
    assert losses.MeanAbsoluteError()(np.zeros(2, np.float64), np.ones(2, np.float32)) == 1


# --- alignment ------------------------------------------------------------------------------------

ALIGNED = [
    ((5,), (5, 1), False, (5, 1)),
    ((5, 1), (5, 1), False, (5, 1)),
    ((5, 1), (5,), False, (5,)),
    ((5, 3), (None, 3), False, (5, 3)),
    ((5, 2), (None, 2, 1), False, (5, 2, 1)),
    ((5,), (5, 3), True, (5,)),
    ((5, 1), (5, 3), True, (5,)),
    ((5, 2), (None, 2, 7), True, (5, 2)),
    ((5, 2, 1), (None, 2, 7), True, (5, 2)),
]
MISFITS = [
    ((10, 1), (10, 768), False, r"\(10, 1\) .*\(10, 768\).*as many outputs as y has columns"),
    ((10, 768), (10, 1), False, "as many outputs"),
    ((10,), (10, 768), False, "as many outputs"),
    ((1, 5), (5, 5), False, "as many outputs"),
    ((5,), (1, 5), False, "as many outputs"),
    ((5, 1, 1), (5,), False, "as many outputs"),
    ((), (5,), False, "as many outputs"),
    ((10, 3), (10, 3), True, "one-hot targets go with categorical_crossentropy"),
    ((10, 2), (10, 3), True, r"labels need shape \(10,\), or \(10, 1\)"),
    ((9,), (10, 3), True, "labels need shape"),
]


@pytest.mark.parametrize(("y", "p", "labels", "expected"), ALIGNED)
def test_one_trailing_axis_is_aligned(y, p, labels, expected):
    assert losses.align("loss", y, p, labels) == expected


@pytest.mark.parametrize(("y", "p", "labels", "text"), MISFITS)
def test_nothing_is_ever_broadcast(y, p, labels, text):
    with pytest.raises(ValueError, match=r"\[some_loss\] y_true has shape .*" + text):
        losses.align("some_loss", y, p, labels)


def test_hint_for_labels_given_to_the_dense_form():
    with pytest.raises(ValueError, match="integer labels go with sparse_categorical_crossentropy"):
        losses.CategoricalCrossentropy()([0, 1], np.ones((2, 3)))


@pytest.mark.parametrize(("cls", "options"), DENSE_TARGETS, ids=named(DENSE_TARGETS))
def test_shapes_that_do_not_fit(cls, options):
    loss, p = cls(**options), share(10, 3)
    for y in (share(10, 1), share(10, 4), share(9, 3), share(3), share(1, 3)):
        with pytest.raises(ValueError, match=rf"\[{loss.name}\] y_true has shape .*\(10, 3\)"):
            loss(y, p)


@pytest.mark.parametrize("cls", [c for c, o in DENSE_TARGETS + LABELS if not o])
def test_an_empty_batch_is_refused(cls):
    loss = cls()
    y = np.zeros(0, int) if loss.labels else np.zeros((0, 3))
    with pytest.raises(ValueError, match=rf"\[{loss.name}\] the batch is empty"):
        loss(y, np.zeros((0, 3)))


@pytest.mark.parametrize("bad", [-1, 3, 2**31, -(2**40)])
def test_labels_out_of_range(bad):
    text = rf"\[sparse_categorical_crossentropy\] label {bad} .*out of range.*3 classes.*0 to 2"
    with pytest.raises(ValueError, match=text):
        losses.SparseCategoricalCrossentropy()(np.array([0, bad]), share(2, 3))


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf])
def test_labels_that_are_not_whole(bad):
    with pytest.raises(
        ValueError, match=r"\[sparse_categorical_crossentropy\] labels must be whole"
    ):
        losses.SparseCategoricalCrossentropy()(np.array([0, bad]), share(2, 3))


# --- names and configs ----------------------------------------------------------------------------

NAMES = {
    "mse": losses.MeanSquaredError,
    "mean_squared_error": losses.MeanSquaredError,
    "MeanSquaredError": losses.MeanSquaredError,
    "mae": losses.MeanAbsoluteError,
    "mean_absolute_error": losses.MeanAbsoluteError,
    "bce": losses.BinaryCrossentropy,
    "binary_crossentropy": losses.BinaryCrossentropy,
    "categorical_crossentropy": losses.CategoricalCrossentropy,
    "CategoricalCrossentropy": losses.CategoricalCrossentropy,
    "sparse_categorical_crossentropy": losses.SparseCategoricalCrossentropy,
}


@pytest.mark.parametrize("name", NAMES)
def test_get_by_name(name):
    loss = losses.get(name)
    assert type(loss) is NAMES[name]
    assert type(losses.get(NAMES[name])) is NAMES[name]
    assert losses.get(loss) is loss


@pytest.mark.parametrize("cls", dict.fromkeys(NAMES.values()))
def test_config_round_trip(cls):
    for loss in (cls(), cls(name="mine")):
        again = losses.deserialize(json.loads(json.dumps(losses.serialize(loss))))
        assert type(again) is cls and again.get_config() == loss.get_config()
    if "from_logits" in loss.get_config():
        assert losses.get(losses.serialize(cls(from_logits=True))).from_logits is True


def test_unknown_names():
    with pytest.raises(ValueError, match=r"\[loss\] unknown loss 'huber_'; known are .*mse"):
        losses.get("huber_")
    with pytest.raises(
        ValueError, match=r"\[loss\] expected a name, a config .* or an object of Loss; received 5"
    ):
        losses.get(5)
    with pytest.raises(ValueError, match="unknown loss 'Mine'"):
        losses.get({"class_name": "Mine", "config": {}})


# --- losses of one's own --------------------------------------------------------------------------


class ScaledError(losses.Loss):
    """Twice the mean squared error: by another loss and an op on its results."""

    def forward(self, y_true, y_pred, *, gradient=True):
        from ranvier import ops

        value, dy = losses.MeanSquaredError().forward(y_true, y_pred, gradient=gradient)
        return ops.affine(value, 2.0), None if dy is None else ops.affine(dy, 2.0)


def test_own_loss_in_training():
    def train(loss, rate):
        model = Sequential(
            [Input((3,)), layers.Dense(2, kernel_initializer="ones", dtype="float64")]
        )
        from ranvier import optimizers

        model.compile(optimizers.SGD(rate), loss)
        x = share(12, 3)
        history = model.fit(x, x[:, :2], batch_size=4, epochs=3, verbose=0, shuffle=False)
        return np.array(history.history["loss"]), model.get_weights()

    (mine, weights), (plain, expected) = train(ScaledError(), 0.1), train("mse", 0.2)
    np.testing.assert_allclose(mine, 2 * plain, rtol=1e-12)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    again = losses.get({"class_name": "ScaledError"}, {"ScaledError": ScaledError})
    assert type(again) is ScaledError


# --- in training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
def test_reported_crossentropy_is_that_of_the_predictions(sparse):
    """The fused form and the clipped form of the same loss agree where nothing is clipped."""
    model = Sequential([Input((4,)), layers.Dense(3, activation="softmax")])
    name = "sparse_categorical_crossentropy" if sparse else "categorical_crossentropy"
    model.compile("sgd", name)
    x, labels = share(20, 4), np.random.default_rng(0).integers(0, 3, 20)
    y = labels if sparse else reference.one_hot(labels, 3)
    p = model.predict(x)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(losses.get(name)(y, p), rel=1e-6)


def test_value_is_the_mean_over_rows_of_unequal_batches():
    model = Sequential([Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = share(11, 2), share(11, 1)
    expected = np.mean((model.predict(x) - y) ** 2)
    for batch_size in (1, 4, 10, 11, 64):
        value = model.evaluate(x, y, batch_size=batch_size, verbose=0)
        assert value == pytest.approx(expected, rel=1e-6)


def test_forward_on_buffers_gives_the_gradient_only_if_asked():
    y = Buffer.from_array(share(4, 2))
    p = Buffer.from_array(share(4, 2, seed=1))
    value, dy = losses.MeanSquaredError().forward(y, p, gradient=False)
    assert dy is None and value.shape == (1,)
    again, dy = losses.MeanSquaredError().forward(y, p)
    assert dy.shape == (4, 2) and again.numpy() == value.numpy()
