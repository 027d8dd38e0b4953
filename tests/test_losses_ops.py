"""The losses of `ranvier.ops` and their gradients against the float64 oracle."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from cases import DTYPES, LAYOUTS, ROW_SHAPES, afloat, assert_close
from ranvier import ops

pytestmark = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])

# (name, options) of every loss whose y_true has the shape and dtype of y_pred
LOSSES = [
    ("mean_squared_error", {}),
    ("mean_absolute_error", {}),
    ("binary_crossentropy", {}),
    ("binary_crossentropy", {"from_logits": True}),
    ("categorical_crossentropy", {}),
    ("categorical_crossentropy", {"from_logits": True}),
]
every_loss = pytest.mark.parametrize(
    ("name", "options"), LOSSES, ids=[n + ("_logits" if o else "") for n, o in LOSSES]
)
every_shape = pytest.mark.parametrize("shape", [s for s in ROW_SHAPES if s[0]], ids=str)
LABEL_DTYPES = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


def draw(name, shape, dtype, *, from_logits=False, seed=0):
    """(y_true, y_pred) as the loss expects them; probabilities away from the clip."""
    r = np.random.default_rng([seed, *shape])
    if name.startswith("mean"):
        y_true, y_pred = r.normal(size=(2, *shape))
    else:
        y_true, y_pred = r.uniform(0.02, 0.98, (2, *shape))
        if name == "categorical_crossentropy":
            y_true /= y_true.sum(axis=-1, keepdims=True)
        if from_logits:
            y_pred = r.normal(0, 3, shape)
    return afloat(y_true.astype(dtype)), afloat(y_pred.astype(dtype))


def check(name, y_true, y_pred, dtype, **options):
    """The value alone, the value beside the gradient, and the gradient."""
    op, oracle = getattr(ops, name), getattr(reference, name)
    expected, expected_gradient = oracle(y_true, y_pred, gradient=True, **options)
    value, gradient = op(y_true, y_pred, gradient=True, **options)
    assert type(value) is float
    assert op(y_true, y_pred, **options) == value
    terms = max(y_pred.size, 1)
    assert_close(dtype(value), expected, "reduction", dtype=dtype, terms=terms)
    assert_close(gradient, expected_gradient, "reduction", dtype=dtype, terms=y_pred.shape[-1])


@every_shape
@every_loss
def test_shapes(name, options, shape, dtype):
    y_true, y_pred = draw(name, shape, dtype, **options)
    check(name, y_true, y_pred, dtype, **options)


@pytest.mark.parametrize("from_logits", [False, True])
@every_shape
def test_sparse_shapes(shape, from_logits, dtype):
    _, y_pred = draw("categorical_crossentropy", shape, dtype, from_logits=from_logits)
    labels = np.random.default_rng(1).integers(0, shape[-1], shape[:-1])
    check("sparse_categorical_crossentropy", labels, y_pred, dtype, from_logits=from_logits)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 5), (1, 2, 2, 3)], ids=str)
@every_loss
def test_ranks(name, options, shape, dtype):
    check(name, *draw(name, shape, dtype, **options), dtype, **options)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 5)], ids=str)
def test_sparse_ranks(shape, dtype):
    _, y_pred = draw("categorical_crossentropy", shape, dtype)
    labels = np.random.default_rng(2).integers(0, shape[-1], shape[:-1])
    check("sparse_categorical_crossentropy", np.asarray(labels), y_pred, dtype)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5), (3, 0), (0,)], ids=str)
@every_loss
def test_empty_batch_is_refused(name, options, shape, dtype):
    """The mean over no rows is no number: an error, never a NaN."""
    empty = np.zeros(shape, dtype)
    for gradient in (False, True):
        with pytest.raises(ValueError, match=rf"\[{name}\].*empty"):
            getattr(ops, name)(empty, empty, gradient=gradient, **options)


@pytest.mark.parametrize("from_logits", [False, True])
def test_sparse_empty_batch_is_refused(from_logits, dtype):
    for classes in (0, 5):
        with pytest.raises(ValueError, match=r"\[sparse_categorical_crossentropy\].*empty"):
            ops.sparse_categorical_crossentropy(
                np.zeros(0, np.int64), np.zeros((0, classes), dtype), from_logits=from_logits
            )


def test_many_rows_sum_without_drift(dtype):
    """A mean over a million equal entries: a running float32 sum is wrong by 2e-5 and more."""
    y_pred = np.full((1 << 16, 16), 0.1, dtype)
    value = ops.mean_squared_error(np.zeros_like(y_pred), y_pred)
    assert value == pytest.approx(float(dtype(0.1)) ** 2, rel=16 * float(np.finfo(dtype).eps))


def test_mean_absolute_error_has_no_gradient_at_zero(dtype):
    y = np.array([[1.0, -2.0, 0.0] * 7], dtype)
    value, gradient = ops.mean_absolute_error(y, y, gradient=True)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


def test_labels_that_do_not_sum_to_one(dtype):
    r = np.random.default_rng(3)
    y_true = r.uniform(0, 1, (5, 19)).astype(dtype)
    y_pred = r.normal(0, 2, (5, 19)).astype(dtype)
    check("categorical_crossentropy", y_true, y_pred, dtype, from_logits=True)
    check("categorical_crossentropy", y_true, np.abs(y_pred) + dtype(0.1), dtype)


def test_binary_probabilities_are_clipped(dtype):
    """0 and 1 give the loss of the clip and no gradient; in float32 1 - 1e-7 is 1 - 2^-23."""
    y_pred = np.array([[0.0, 1.0, 0.0, 1.0, 0.25]], dtype)
    y_true = np.array([[1.0, 0.0, 0.0, 1.0, 1.0]], dtype)
    check("binary_crossentropy", y_true, y_pred, dtype)
    _, gradient = ops.binary_crossentropy(y_true, y_pred, gradient=True)
    np.testing.assert_array_equal(gradient[0, :4], 0.0)
    assert gradient[0, 4] == pytest.approx(-4 / 5)


def test_categorical_probabilities_are_normalised_then_clipped(dtype):
    y_true = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype)
    y_pred = np.array([[0, 2, 2], [3, 3, 6], [0, 0, 5]], dtype)
    labels = np.array([0, 1, 2])
    expected, expected_gradient = reference.categorical_crossentropy(y_true, y_pred, gradient=True)
    for value, gradient in (
        ops.categorical_crossentropy(y_true, y_pred, gradient=True),
        ops.sparse_categorical_crossentropy(labels, y_pred, gradient=True),
    ):
        assert value == pytest.approx(expected, rel=1e-6)
        assert_close(gradient, expected_gradient, "reduction", dtype=dtype, terms=3)
        np.testing.assert_array_equal(gradient[[0, 2]], 0.0)


def test_log_of_a_tiny_probability(dtype):
    """Just inside the clip the logarithm keeps its digits."""
    y_pred = np.array([[2e-7, 1 - 2e-7]], dtype)
    y_true = np.array([[1.0, 0.0]], dtype)
    check("categorical_crossentropy", y_true, y_pred, dtype)
    value = ops.binary_crossentropy(y_true[:, :1], y_pred[:, :1])
    assert value == pytest.approx(-np.log(float(y_pred[0, 0])), rel=1e-6)


@pytest.mark.parametrize("size", [1, 17])
def test_binary_crossentropy_of_large_logits(size, dtype):
    for logit in (1e4, -1e4, 1e30, -1e30):
        for label in (0.0, 1.0):
            y_true, y_pred = np.full((2, size), label, dtype), np.full((2, size), logit, dtype)
            check("binary_crossentropy", y_true, y_pred, dtype, from_logits=True)


def test_binary_crossentropy_of_sure_logits_keeps_digits(dtype):
    """log1p(exp(-60)) is about 8.8e-27, not 0."""
    value = ops.binary_crossentropy(
        np.ones((1, 19), dtype), np.full((1, 19), 60, dtype), from_logits=True
    )
    assert value == pytest.approx(np.exp(-60), rel=1e-5)


def test_categorical_crossentropy_of_large_logits(dtype):
    y_pred = np.zeros((4, 19), dtype)
    y_pred[0, 5], y_pred[1, 18], y_pred[2] = 1e4, -1e4, np.linspace(-1e4, 1e4, 19)
    for label in (5, 18):
        labels = np.full(4, label)
        y_true = np.eye(19, dtype=dtype)[labels]
        check("categorical_crossentropy", y_true, y_pred, dtype, from_logits=True)
        check("sparse_categorical_crossentropy", labels, y_pred, dtype, from_logits=True)


@pytest.mark.parametrize("from_logits", [False, True])
def test_sparse_agrees_with_categorical(from_logits, dtype):
    _, y_pred = draw("categorical_crossentropy", (13, 31), dtype, from_logits=from_logits)
    labels = np.random.default_rng(4).integers(0, 31, 13)
    dense, dense_gradient = ops.categorical_crossentropy(
        np.eye(31, dtype=dtype)[labels], y_pred, from_logits=from_logits, gradient=True
    )
    sparse, sparse_gradient = ops.sparse_categorical_crossentropy(
        labels, y_pred, from_logits=from_logits, gradient=True
    )
    assert_close(dtype(sparse), dense, "reduction", dtype=dtype, terms=31)
    assert_close(sparse_gradient, dense_gradient, "reduction", dtype=dtype, terms=31)


@every_loss
def test_nan_is_reported(name, options, dtype):
    y_true, y_pred = draw(name, (3, 17), dtype, **options)
    y_pred[1, 16] = np.nan
    assert np.isnan(getattr(ops, name)(y_true, y_pred, **options))


@pytest.mark.parametrize("from_logits", [False, True])
def test_sparse_nan_is_reported(from_logits, dtype):
    y_pred = np.full((3, 17), 0.5, dtype)
    y_pred[1, 16] = np.nan
    labels = np.array([1, 2, 3])
    value = ops.sparse_categorical_crossentropy(labels, y_pred, from_logits=from_logits)
    assert np.isnan(value)


@pytest.mark.parametrize("layout", LAYOUTS)
@every_loss
def test_layouts(name, options, layout, dtype):
    y_true, y_pred = draw(name, (7, 19), dtype, **options)
    other, op = LAYOUTS[layout], getattr(ops, name)
    value, gradient = op(y_true, y_pred, gradient=True, **options)
    got, got_gradient = op(other(y_true), other(y_pred), gradient=True, **options)
    assert got == value
    assert got_gradient.flags.c_contiguous
    np.testing.assert_array_equal(got_gradient, gradient)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_label_layouts(layout, dtype):
    _, y_pred = draw("categorical_crossentropy", (7, 19), dtype)
    labels = np.arange(7, dtype=np.int32) * 2
    expected = ops.sparse_categorical_crossentropy(labels, y_pred)
    assert ops.sparse_categorical_crossentropy(LAYOUTS[layout](labels), y_pred) == expected


@pytest.mark.parametrize("label_dtype", LABEL_DTYPES)
def test_label_dtypes(label_dtype, dtype):
    _, y_pred = draw("categorical_crossentropy", (7, 19), dtype)
    labels = np.array([0, 18, 3, 3, 9, 17, 1])
    expected = ops.sparse_categorical_crossentropy(labels, y_pred)
    assert ops.sparse_categorical_crossentropy(labels.astype(label_dtype), y_pred) == expected


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("label", [-1, 5, 1234, 2**40, -(2**40)])
def test_label_out_of_range(label, from_logits, dtype):
    y_pred = np.full((3, 5), 0.2, dtype)
    labels = np.array([0, 4, label])
    with pytest.raises(ValueError, match=rf"\[sparse_categorical_crossentropy\].*{label}\b"):
        ops.sparse_categorical_crossentropy(labels, y_pred, from_logits=from_logits, gradient=True)


def test_unsigned_label_out_of_range(dtype):
    """Refused by its own name, not read as -1."""
    labels = np.array([2**64 - 1], np.uint64)
    with pytest.raises(ValueError, match=rf"\[sparse_categorical_crossentropy\].*{2**64 - 1}"):
        ops.sparse_categorical_crossentropy(labels, np.full((1, 5), 0.2, dtype))


@every_loss
def test_shape_errors(name, options, dtype):
    def zeros(*shape):
        return np.zeros(shape, dtype)

    for y_true, y_pred in [
        (zeros(3, 4), zeros(3, 5)),
        (zeros(4, 5), zeros(3, 5)),
        (zeros(10, 1), zeros(10, 768)),
        (zeros(1, 5), zeros(3, 5)),
        (zeros(5), zeros(3, 5)),
        (zeros(3, 5, 1), zeros(3, 5)),
    ]:
        with pytest.raises(ValueError, match=rf"\[{name}\]"):
            getattr(ops, name)(y_true, y_pred, **options)


def test_sparse_shape_errors(dtype):
    y_pred = np.full((3, 5), 0.2, dtype)
    for labels in (np.zeros(4, int), np.zeros(2, int), np.zeros((3, 5), int), np.array(0)):
        with pytest.raises(ValueError, match=r"\[sparse_categorical_crossentropy\]"):
            ops.sparse_categorical_crossentropy(labels, y_pred)


@every_loss
def test_type_errors(name, options, dtype):
    other = np.float64 if dtype == np.float32 else np.float32
    y_true, y_pred = draw(name, (3, 5), dtype, **options)
    op = getattr(ops, name)
    for t, p in [
        (y_true.astype(other), y_pred),
        (y_true, y_pred.astype(other)),
        (y_true.astype(np.int64), y_pred.astype(np.int64)),
    ]:
        with pytest.raises(TypeError, match=rf"\[{name}\]"):
            op(t, p, **options)


@every_loss
def test_half_floats_are_refused(name, options, dtype):
    y_true, y_pred = draw(name, (3, 5), dtype, **options)
    half = np.float16
    for t, p in [(y_true.astype(half), y_pred.astype(half)), (y_true, y_pred.astype(half))]:
        with pytest.raises(TypeError, match=rf"\[{name}\].*float16"):
            getattr(ops, name)(t, p, **options)


def test_labels_must_be_integers(dtype):
    y_pred = np.full((3, 5), 0.2, dtype)
    for labels in (np.zeros(3, dtype), np.zeros(3, complex)):
        with pytest.raises(TypeError, match=r"\[sparse_categorical_crossentropy\]"):
            ops.sparse_categorical_crossentropy(labels, y_pred)


@every_loss
def test_inputs_are_not_changed(name, options, dtype):
    y_true, y_pred = draw(name, (7, 19), dtype, **options)
    before = y_true.copy(), y_pred.copy()
    getattr(ops, name)(y_true, y_pred, gradient=True, **options)
    np.testing.assert_array_equal(y_true, before[0])
    np.testing.assert_array_equal(y_pred, before[1])
