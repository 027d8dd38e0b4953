"""`ops.dense` and `ops.dense_backward` against the float64 oracle."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from cases import DENSE_SHAPES, DTYPES, LAYOUTS, Output, afloat, assert_close, bad_outputs
from ranvier import ops
from ranvier._core import Buffer

pytestmark = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])


def draw(m, k, n, dtype, *, seed=0):
    """x (m, k), w (k, n), b (n,), dy (m, n): sums of k products stay near one."""
    r = np.random.default_rng([seed, m, k, n])
    return (
        afloat(r.normal(size=(m, k)).astype(dtype)),
        afloat((r.normal(size=(k, n)) / np.sqrt(max(k, 1))).astype(dtype)),
        afloat(r.normal(size=n).astype(dtype)),
        afloat(r.normal(size=(m, n)).astype(dtype)),
    )


def check_backward(got, expected, x, w, dtype):
    rows, n = int(np.prod(x.shape[:-1])), w.shape[1]
    assert_close(got[0], expected[0], "product", dtype=dtype, terms=n)
    assert_close(got[1], expected[1], "product", dtype=dtype, terms=rows)
    if expected[2] is None:
        assert got[2] is None
    else:
        assert_close(got[2], expected[2], "product", dtype=dtype, terms=rows)


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("shape", DENSE_SHAPES, ids=str)
def test_shapes(shape, bias, activation, dtype):
    x, w, b, dy = draw(*shape, dtype)
    b = b if bias else None
    y = ops.dense(x, w, b, activation=activation)
    assert_close(
        y, reference.dense(x, w, b, activation=activation), "product", dtype=dtype, terms=shape[1]
    )
    got = ops.dense_backward(dy, x, y, w, b, activation=activation)
    check_backward(
        got, reference.dense_backward(dy, x, y, w, b, activation=activation), x, w, dtype
    )


@pytest.mark.parametrize(
    "shape",
    [(300, 2053, 400), (300, 4200, 400), (4090, 350, 400), (300, 1303, 400)]
    + [(700, 1024, 300), (701, 1000, 300), (70, 1024, 50)]  # rows of x in one cache set, or not
    + [(rows, 31, 20001) for rows in (1, 2, 4, 7)],  # tiles of eight vectors, of four, of three
    ids=str,
)
def test_long_sums_go_in_runs(shape, dtype):
    """And each later run goes on from what the result holds."""
    x, w, b, dy = draw(*shape, dtype)
    y = ops.dense(x, w, b, activation="relu")
    expected = reference.dense(x, w, b, activation="relu")
    assert_close(y, expected, "product", dtype=dtype, terms=shape[1])
    got = ops.dense_backward(dy, x, y, w, b, activation="relu")
    expected = reference.dense_backward(dy, x, y, w, b, activation="relu")
    check_backward(got, expected, x, w, dtype)


@pytest.mark.parametrize("kernel", [(523, 300), (700, 403), (261, 2048), (1501, 1409)], ids=str)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 8, 12, 13, 16, 24, 31, 41, 48, 64, 65])
def test_few_rows_through_a_large_kernel(rows, kernel, dtype):
    """They read it by its rows, in strips, by tiles of three vectors, or one of them copies it for
    the others; their dx is computed the other way round or by dots, and their dw row by row."""
    x, w, b, dy = draw(rows, *kernel, dtype)
    out = Output((rows, kernel[1]), dtype)
    y = ops.dense(x, w, b, activation="relu", out=out.array)
    out.assert_intact()
    expected = reference.dense(x, w, b, activation="relu")
    assert_close(y, expected, "product", dtype=dtype, terms=kernel[0])
    got = ops.dense_backward(dy, x, y, w, b, activation="relu")
    expected = reference.dense_backward(dy, x, y, w, b, activation="relu")
    check_backward(got, expected, x, w, dtype)


@pytest.mark.parametrize("kernel", [(261, 2048), (1501, 1409)], ids=str)
@pytest.mark.parametrize("activation", ["linear", "relu", "gelu"])
def test_few_rows_have_the_bits_of_any_batch(activation, kernel, dtype, threads):
    x, w, b, _ = draw(70, *kernel, dtype)
    whole = ops.dense(x, w, b, activation=activation)
    for count in (1, 2, 3, 7):
        threads(count)
        for rows in (1, 2, 3, 4, 5, 7, 8, 9, 17, 33, 49):
            y = ops.dense(x[:rows], w, b, activation=activation)
            np.testing.assert_array_equal(y, whole[:rows])


def test_rows_through_a_kernel_larger_than_caches(dtype, threads):
    x, w, b, _ = draw(40, 1801, 3607, dtype)
    whole = ops.dense(x, w, b, activation="relu")
    expected = reference.dense(x, w, b, activation="relu")
    assert_close(whole, expected, "product", dtype=dtype, terms=1801)
    for count in (1, 2, 3):
        threads(count)
        for rows in (1, 4, 8, 9, 11, 14, 15):
            y = Output((rows, 3607), dtype)
            ops.dense(x[:rows], w, b, activation="relu", out=y.array)
            y.assert_intact()
            np.testing.assert_array_equal(y.array, whole[:rows])


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7])
def test_few_rows_by_every_width(rows, dtype):
    """Tiles of 1 to 16 vectors, the last of them whole or not."""
    for outputs in (*range(1, 301, 11), 128, 256):
        x, w, b, _ = draw(rows, 37, outputs, dtype)
        y = Output((rows, outputs), dtype)
        ops.dense(x, w, b, activation="relu", out=y.array)
        y.assert_intact()
        expected = reference.dense(x, w, b, activation="relu")
        assert_close(y.array, expected, "product", dtype=dtype, terms=37)


@pytest.mark.parametrize("outputs", [1, 7, 31, 33, 64, 130])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 12, 13])
def test_few_rows(rows, outputs, dtype):
    """Ends of rows and of columns that fill no vector, and every number of rows left over."""
    for inputs in (1201, 1202, 1203, 1216):
        x, w, b, dy = draw(rows, inputs, outputs, dtype)
        shapes = [(rows, inputs), (inputs, outputs), (outputs,)]
        outs = [Output(s, dtype) for s in shapes]
        got = ops.dense_backward(dy, x, None, w, b, out=tuple(o.array for o in outs))
        for o in outs:
            o.assert_intact()
        check_backward(got, reference.dense_backward(dy, x, None, w, b), x, w, dtype)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("rows", [6, 8, 13, 16, 17, 31, 32, 33, 48, 64, 65, 150])
def test_an_input_gradient_has_the_same_bits_in_every_batch(rows, activation, dtype):
    """Whether the kernel is turned over for it, or the batch; and through the activation below."""
    x, w, _, dy = draw(200, 1003, 67, dtype)
    whole = ops.dense_backward(dy, x, None, w)[0]
    np.testing.assert_array_equal(ops.dense_backward(dy[:rows], x[:rows], None, w)[0], whole[:rows])
    below = ops.activation(Buffer.from_array(x[:rows]), activation)
    dx = ops.dense_backward(Buffer.from_array(dy[:rows]), below, None, Buffer.from_array(w))
    through = ops.activation_backward(dx, Buffer.from_array(x[:rows]), below, activation)
    expected = ops.activation_backward(whole[:rows], x[:rows], below.numpy(), activation)
    np.testing.assert_array_equal(through.view(), expected)


@pytest.mark.parametrize("activation", ["linear", "relu", "gelu"])
@pytest.mark.parametrize("shape", [(4096, 37, 21), (4101, 1, 1), (9001, 17, 40)], ids=str)
def test_many_rows_through_a_small_kernel(shape, activation, dtype):
    """They go as a convolution of one pixel does."""
    x, w, b, dy = draw(*shape, dtype)
    y = ops.dense(x, w, b, activation=activation)
    expected = reference.dense(x, w, b, activation=activation)
    assert_close(y, expected, "product", dtype=dtype, terms=shape[1])
    got = ops.dense_backward(dy, x, y, w, b, activation=activation)
    expected = reference.dense_backward(dy, x, y, w, b, activation=activation)
    check_backward(got, expected, x, w, dtype)


@pytest.mark.parametrize("alpha", [None, 0.35])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 17, 13), (33, 31, 65)], ids=str)
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_every_activation(activation, shape, alpha, dtype):
    x, w, b, dy = draw(*shape, dtype, seed=1)
    options = {"activation": activation, "alpha": alpha}
    y = ops.dense(x, w, b, **options)
    assert_close(y, reference.dense(x, w, b, **options), "product", dtype=dtype, terms=shape[1])
    got = ops.dense_backward(dy, x, y, w, b, **options)
    check_backward(got, reference.dense_backward(dy, x, y, w, b, **options), x, w, dtype)
    y = ops.dense(x, w, **options)
    got = ops.dense_backward(dy, x, y, w, **options)
    check_backward(got, reference.dense_backward(dy, x, y, w, **options), x, w, dtype)


@pytest.mark.parametrize("activation", ["relu", "gelu", "softmax"])
@pytest.mark.parametrize("lead", [(2, 3), (1, 1, 5), (0, 4), (3, 0)], ids=str)
def test_leading_axes(lead, activation, dtype):
    r = np.random.default_rng(2)
    x, dy = r.normal(size=(*lead, 7)).astype(dtype), r.normal(size=(*lead, 5)).astype(dtype)
    w, b = r.normal(size=(7, 5)).astype(dtype), r.normal(size=5).astype(dtype)
    y = ops.dense(x, w, b, activation=activation)
    assert_close(
        y, reference.dense(x, w, b, activation=activation), "product", dtype=dtype, terms=7
    )
    got = ops.dense_backward(dy, x, y, w, b, activation=activation)
    check_backward(
        got, reference.dense_backward(dy, x, y, w, b, activation=activation), x, w, dtype
    )


def test_empty_sums_are_zero_not_leftovers(dtype):
    """No rows: dw and db are sums of nothing. No columns: y is the activated bias."""
    b = np.array([1.0, -2.0, 3.0], dtype)
    w = np.ones((5, 3), dtype)
    dx, dw, db = (np.full(s, 99, dtype) for s in [(0, 5), (5, 3), (3,)])
    empty = np.zeros((0, 3), dtype)
    ops.dense_backward(empty, np.zeros((0, 5), dtype), empty, w, b, out=(dx, dw, db))
    np.testing.assert_array_equal(dw, 0.0)
    np.testing.assert_array_equal(db, 0.0)
    y = ops.dense(np.zeros((2, 0), dtype), np.zeros((0, 3), dtype), b, activation="relu")
    np.testing.assert_array_equal(y, [[1, 0, 3], [1, 0, 3]])
    dx = np.full((2, 5), 99, dtype)
    none = np.zeros((2, 0), dtype)
    ops.dense_backward(
        none, np.ones((2, 5), dtype), none, np.zeros((5, 0), dtype), out=(dx, None, None)
    )
    np.testing.assert_array_equal(dx, 0.0)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 17, 13), (17, 33, 65)], ids=str)
@pytest.mark.parametrize("activation", ["linear", "relu", "gelu", "softmax"])
def test_out(activation, shape, dtype):
    m, k, n = shape
    x, w, b, dy = draw(*shape, dtype, seed=3)
    out = Output((m, n), dtype)
    y = ops.dense(x, w, b, activation=activation, out=out.array)
    assert np.shares_memory(y, out.array)
    out.assert_intact()
    np.testing.assert_array_equal(y, ops.dense(x, w, b, activation=activation))

    outs = [Output(s, dtype) for s in [(m, k), (k, n), (n,)]]
    expected = ops.dense_backward(dy, x, y, w, b, activation=activation)
    got = ops.dense_backward(
        dy, x, y, w, b, activation=activation, out=tuple(o.array for o in outs)
    )
    for o, g, e in zip(outs, got, expected, strict=True):
        assert np.shares_memory(g, o.array)
        o.assert_intact()
        np.testing.assert_array_equal(g, e)


def test_large_results_begin_on_a_cache_line_in_memory_used_before(dtype):
    x, w, _, _ = draw(64, 32, 128, dtype)
    held = [ops.dense(x, w) for _ in range(3)]
    assert all(y.ctypes.data % 64 == 0 and y.flags.writeable for y in held)
    expected = held[0].copy()
    for i, a in enumerate(held):
        a += i
        assert not any(np.shares_memory(a, b) for b in held[:i])
    view, address = held.pop()[3:], held[0].ctypes.data
    del held[0]
    y = ops.dense(x, w)
    assert y.ctypes.data == address
    np.testing.assert_array_equal(y, expected)
    del y
    np.testing.assert_array_equal(view, expected[3:] + 2)  # its memory lives as long as it does


def test_out_of_backward_may_be_given_in_part(dtype):
    x, w, b, dy = draw(5, 7, 3, dtype)
    y = ops.dense(x, w, b)
    expected = ops.dense_backward(dy, x, y, w, b)
    dw = np.full((7, 3), 99, dtype)
    got = ops.dense_backward(dy, x, y, w, b, out=(None, dw, None))
    assert np.shares_memory(got[1], dw)
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(g, e)


def test_bad_out_is_refused_and_left_alone(dtype):
    x, w, b, dy = draw(4, 5, 3, dtype)
    y = ops.dense(x, w, b)
    for why, bad in bad_outputs((4, 3), dtype):
        before = bad.tobytes()
        with pytest.raises(ValueError, match=r"\[dense\].*out"):
            ops.dense(x, w, b, out=bad)
        assert bad.tobytes() == before, why
    for position, shape in enumerate([(4, 5), (5, 3)]):
        for _, bad in bad_outputs(shape, dtype):
            out = [None, None, None]
            out[position] = bad
            with pytest.raises(ValueError, match=r"\[dense_backward\]"):
                ops.dense_backward(dy, x, y, w, b, out=tuple(out))
    with pytest.raises(ValueError, match=r"\[dense_backward\]"):
        ops.dense_backward(dy, x, y, w, b, out=(None, None, np.zeros(4, dtype)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    """Another memory layout of any argument changes no bit of the result."""
    x, w, b, dy = draw(7, 13, 17, dtype, seed=4)
    other = LAYOUTS[layout]
    y = ops.dense(x, w, b, activation="gelu")
    np.testing.assert_array_equal(ops.dense(other(x), other(w), other(b), activation="gelu"), y)
    expected = ops.dense_backward(dy, x, y, w, b, activation="gelu")
    got = ops.dense_backward(other(dy), other(x), other(y), other(w), other(b), activation="gelu")
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == dtype
        np.testing.assert_array_equal(g, e)


def within(a, down=1, across=1, gap=0):
    """a's values in an array of NaN: each down-th row and across-th column, then `gap` columns."""
    rows, columns = a.shape[0] * down, a.shape[1] * across
    wide = afloat(np.full((rows, columns + gap), np.nan, a.dtype))
    wide[::down, :columns:across] = a
    return wide[::down, :columns:across]


VIEWS = {
    "transposed": lambda a: within(a.T).T,
    "columns": lambda a: within(a, gap=3),
    "rows": lambda a: within(a, down=2),
    "both": lambda a: within(a, down=3, across=2),
    "transposed columns": lambda a: within(a.T, gap=5).T,
}


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (1, 300, 301), (3, 300, 301), (5, 70, 90), (200, 9, 70), (150, 130, 37)]  # small
    + [(16, 300, 301), (33, 500, 400), (31, 1500, 700), (8, 700, 400)]  # few rows
    + [(400, 1100, 600), (700, 310, 300), (300, 2100, 400)],  # blocked, packed, in runs of k
    ids=str,
)
def test_views_are_read_where_they_lie(shape, view, activation, dtype, threads):
    x, w, b, dy = draw(*shape, dtype)
    y = ops.dense(x, w, b, activation=activation)
    gradients = ops.dense_backward(dy, x, y, w, b, activation=activation)
    x_view, w_view = VIEWS[view](x), VIEWS[view](w)

    def same(actual, expected, terms):  # dots, of a few rows, have an order of their own
        if shape[0] <= 4:
            return assert_close(actual, expected, "product", dtype=dtype, terms=terms)
        return np.testing.assert_array_equal(actual, expected)

    bits = []
    for count in (1, 2, 3):
        threads(count)
        for a, c in ((x_view, w), (x, w_view), (x_view, w_view)):
            out = Output(y.shape, dtype)
            ops.dense(a, c, b, activation=activation, out=out.array)
            out.assert_intact()
            same(out.array, y, shape[1])
            dx, dw, db = ops.dense_backward(dy, a, y, c, b, activation=activation)
            same(dx, gradients[0], shape[2])
            same(dw, gradients[1], shape[0])
            same(db, gradients[2], shape[0])
            bits.append([g.tobytes() for g in (out.array, dx, dw, db)])
    assert bits[:3] == bits[3:6] == bits[6:]


def test_views_of_many_rows(dtype):
    x, w, b, dy = draw(4100, 20, 33, dtype)
    for view in VIEWS.values():
        y = ops.dense(view(x), view(w), b, activation="gelu")
        expected = reference.dense(x, w, b, activation="gelu")
        assert_close(y, expected, "product", dtype=dtype, terms=20)
        got = ops.dense_backward(dy, view(x), y, view(w), b, activation="gelu")
        expected = reference.dense_backward(dy, x, y, w, b, activation="gelu")
        check_backward(got, expected, x, w, dtype)


def test_windows_and_repeated_rows(dtype):
    """Views whose elements are read several times."""
    r = np.random.default_rng(10)
    signal, w = r.normal(size=90).astype(dtype), r.normal(size=(20, 35)).astype(dtype)
    windows = np.lib.stride_tricks.sliding_window_view(signal, 20)
    np.testing.assert_array_equal(ops.dense(windows, w), ops.dense(windows.copy(), w))
    taps = np.lib.stride_tricks.sliding_window_view(signal[:54], 35)
    np.testing.assert_array_equal(ops.dense(w.T, taps), ops.dense(w.T, taps.copy()))
    for row in (np.broadcast_to(signal[:20], (9, 20)), np.broadcast_to(signal[:9, None], (9, 20))):
        np.testing.assert_array_equal(ops.dense(row, w), ops.dense(row.copy(), w))


def test_out_amid_a_view_is_refused(dtype):
    x, w, b, _ = draw(6, 6, 6, dtype)
    before = x.copy()
    for call in (lambda: ops.dense(x.T, w, b, out=x), lambda: ops.dense(w, x.T, b, out=x)):
        with pytest.raises(ValueError, match=r"\[dense\].*shares memory"):
            call()
    np.testing.assert_array_equal(x, before)


def test_layouts_with_leading_axes(dtype):
    r = np.random.default_rng(5)
    x, w = r.normal(size=(3, 4, 6)).astype(dtype), r.normal(size=(6, 5)).astype(dtype)
    expected = ops.dense(x, w)
    np.testing.assert_array_equal(ops.dense(x.transpose(1, 0, 2), w), expected.transpose(1, 0, 2))
    np.testing.assert_array_equal(ops.dense(x[:, ::-2], w), expected[:, ::-2])
    np.testing.assert_array_equal(
        ops.dense(np.broadcast_to(x[:1], (3, 4, 6)), w), np.broadcast_to(expected[:1], (3, 4, 5))
    )


def test_inputs_are_not_changed(dtype):
    x, w, b, dy = draw(5, 7, 3, dtype)
    before = [a.copy() for a in (x, w, b, dy)]
    y = ops.dense(x, w, b, activation="softmax")
    y_before = y.copy()
    ops.dense_backward(dy, x, y, w, b, activation="softmax")
    for a, e in zip((x, w, b, dy, y), (*before, y_before), strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_number_stays_in_its_row(bad, dtype):
    x, w, b, _ = draw(9, 7, 19, dtype, seed=6)
    clean = ops.dense(x, w, b)
    x[4, 3] = bad
    y = ops.dense(x, w, b)
    rows = np.arange(9) != 4
    np.testing.assert_array_equal(y[rows], clean[rows])
    np.testing.assert_array_equal(y[4], np.copysign(bad, w[3] * np.sign(bad)))


def test_a_bad_weight_stays_in_its_column(dtype):
    x, w, b, _ = draw(9, 7, 19, dtype, seed=7)
    clean = ops.dense(x, w, b, activation="tanh")
    w[3, 11] = np.nan
    y = ops.dense(x, w, b, activation="tanh")
    columns = np.arange(19) != 11
    np.testing.assert_array_equal(y[:, columns], clean[:, columns])
    assert np.isnan(y[:, 11]).all()


def test_large_magnitudes(dtype):
    """Softmax of logits of +-1e4 and sigmoid of +-1e4: exact ends, no NaN, finite gradients."""
    x = np.array([[1.0, 0.0], [0.0, 1.0]], dtype)
    w = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype)
    y = ops.dense(x, w, activation="softmax")
    np.testing.assert_array_equal(y, [[1, 0, 0], [0, 0.5, 0.5]])
    np.testing.assert_array_equal(ops.dense(x, w[:, :2], activation="sigmoid"), np.eye(2))
    for name in reference.ACTIVATIONS:
        if name == "exponential":
            continue
        y = ops.dense(x, w, activation=name)
        for gradient in ops.dense_backward(np.ones_like(y), x, y, w, activation=name)[:2]:
            assert np.isfinite(gradient).all(), name


@pytest.mark.parametrize("activation", ["relu", "gelu", "softmax"])
def test_out_that_overlaps_an_input_is_refused(activation, dtype):
    """y is written while x is still read: in place cannot work."""
    x, w, b, dy = draw(5, 5, 5, dtype)
    for out in (x, w):
        before = out.copy()
        with pytest.raises(ValueError, match=r"\[dense\].*shares memory"):
            ops.dense(x, w, b, activation=activation, out=out)
        np.testing.assert_array_equal(out, before)
    y = ops.dense(x, w, b, activation=activation)
    for out in [(x, None, None), (w, None, None), (None, x, None), (None, w, None)]:
        with pytest.raises(ValueError, match=r"\[dense_backward\].*shares memory"):
            ops.dense_backward(dy, x, y, w, b, activation=activation, out=out)


def test_same_call_same_bits(dtype):
    x, w, b, dy = draw(33, 301, 65, dtype, seed=8)
    first = ops.dense(x, w, b, activation="gelu")
    backward = ops.dense_backward(dy, x, first, w, b, activation="gelu")
    for _ in range(3):
        np.testing.assert_array_equal(ops.dense(x, w, b, activation="gelu"), first)
        again = ops.dense_backward(dy, x, first, w, b, activation="gelu")
        for g, e in zip(again, backward, strict=True):
            np.testing.assert_array_equal(g, e)


def test_a_row_does_not_depend_on_its_batch(dtype):
    """Predicting one row or many gives the same values up to rounding."""
    x, w, b, _ = draw(32, 100, 33, dtype, seed=9)
    whole = ops.dense(x, w, b)
    rows = np.concatenate([ops.dense(x[i : i + 1], w, b) for i in range(32)])
    assert_close(rows, whole, "product", dtype=dtype, terms=100)


def test_shape_errors(dtype):
    def zeros(*shape):
        return np.zeros(shape, dtype)

    text = (
        r"\[dense\] x has 12 columns but the kernel has 10 rows: "
        r"x is \(32, 12\), kernel is \(10, 5\)"
    )
    with pytest.raises(ValueError, match=text):
        ops.dense(zeros(32, 12), zeros(10, 5))
    for x, w, b in [
        (zeros(12), zeros(12, 5), None),  # x of rank 1
        (zeros(3, 12), zeros(12), None),  # w of rank 1
        (zeros(3, 12), zeros(1, 12, 5), None),
        (zeros(3, 12), zeros(12, 5), zeros(4)),  # b too short
        (zeros(3, 12), zeros(12, 5), zeros(1)),  # no silent broadcast
        (zeros(3, 12), zeros(12, 5), zeros(1, 5)),
    ]:
        with pytest.raises(ValueError, match=r"\[dense\]"):
            ops.dense(x, w, b)
    x, w, b, y = zeros(3, 12), zeros(12, 5), zeros(5), zeros(3, 5)
    for dy_, x_, y_, w_, b_ in [
        (zeros(3, 4), x, y, w, b),
        (zeros(2, 5), x, y, w, b),
        (y, zeros(4, 12), y, w, b),
        (y, x, zeros(3, 6), w, b),
        (y, x, y, zeros(11, 5), b),
        (y, x, y, w, zeros(6)),
        (zeros(1, 5), x, zeros(1, 5), w, b),
    ]:
        with pytest.raises(ValueError, match=r"\[dense_backward\]"):
            ops.dense_backward(dy_, x_, y_, w_, b_, activation="tanh")


def test_type_errors(dtype):
    other = np.float64 if dtype == np.float32 else np.float32
    x, w, b, dy = draw(2, 3, 4, dtype)
    for x_, w_, b_ in [
        (x.astype(other), w, b),
        (x, w.astype(other), b),
        (x, w, b.astype(other)),
        (x.astype(np.int64), w, b),
        (x.astype(complex), w, b),
        (x.astype(object), w, b),
    ]:
        with pytest.raises(TypeError, match=r"\[dense\]"):
            ops.dense(x_, w_, b_)
    with pytest.raises(TypeError, match=r"\[dense_backward\]"):
        ops.dense_backward(dy.astype(other), x, dy, w, b)
    with pytest.raises(TypeError, match=r"\[dense_backward\]"):
        ops.dense_backward(dy, x, dy.astype(other), w, b, activation="tanh")


def test_half_floats_are_refused(dtype):
    """Not converted in silence: neither alone nor beside another float type."""
    x, w, b, _ = draw(2, 3, 4, dtype)
    half = np.float16
    for arguments in [
        (x.astype(half), w, b),
        (x.astype(half), w.astype(half)),
        (x, w.astype(half)),
    ]:
        with pytest.raises(TypeError, match=r"\[dense\].*float16"):
            ops.dense(*arguments)


def test_unknown_activation(dtype):
    x, w, _, _ = draw(2, 3, 4, dtype)
    with pytest.raises(ValueError, match=r"\[dense\].*swoosh"):
        ops.dense(x, w, activation="swoosh")
