"""`ops.gather`, `ops.dropout` and `ops.affine` (and their backwards)."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from cases import (
    DTYPES,
    LAYOUTS,
    ROW_SHAPES,
    SIZES,
    Output,
    afloat,
    assert_close,
    bad_outputs,
)
from ranvier import ops

both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])

# ---- gather ---------------------------------------------------------------------------------

SOURCES = [
    np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64,
    np.float16, np.float32, np.float64,
]  # fmt: skip


def rows_of(dtype, shape, *, seed=0):
    """Values that any target can hold, up to the ends of the narrow integers."""
    r = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        return r.integers(max(info.min, -30000), min(info.max, 30000), shape, endpoint=True).astype(
            dtype
        )
    if dtype == np.bool_:
        return r.random(shape) < 0.5
    return r.integers(-2000, 2000, shape).astype(dtype)


@pytest.mark.parametrize("target", [None, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("source", SOURCES)
def test_gather_converts(source, target):
    a = rows_of(source, (11, 17))
    indices = np.array([10, 0, 3, 3, 7])
    got = ops.gather(a, indices, dtype=target)
    expected = reference.gather(a, indices, dtype=target)
    assert_close(got, expected, "copy", dtype=expected.dtype)


@pytest.mark.parametrize("columns", SIZES)
@pytest.mark.parametrize("source", [np.uint8, np.float32, np.int64])
def test_gather_widths(source, columns):
    a = afloat(rows_of(source, (5, columns)))
    indices = [4, 0, 2]
    expected = reference.gather(a, indices)
    got = ops.gather(a, np.array(indices))
    assert_close(got, expected, "copy", dtype=np.float32)
    out = Output(expected.shape, np.float32)
    assert np.shares_memory(ops.gather(a, np.array(indices), out=out.array), out.array) or (
        columns == 0
    )
    out.assert_intact()
    np.testing.assert_array_equal(out.array, expected)


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3), (5, 1, 1, 2), (5, 3, 0)], ids=str)
def test_gather_ranks(shape):
    a = rows_of(np.float64, shape)
    got = ops.gather(a, np.array([4, 4, 1]))
    assert_close(got, a[[4, 4, 1]], "copy", dtype=np.float64)


def test_gather_float16_is_exact():
    """Every one of the 65536 half floats, with denormals, infinities and NaN."""
    a = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(256, 256)
    with np.errstate(invalid="ignore"):  # AArch64 has NumPy warn of NaN that signal
        got = ops.gather(a, np.arange(256))
        np.testing.assert_array_equal(got, a.astype(np.float32))


def test_gather_rounds_as_numpy_does():
    wide = np.array([[2**24 + 1, 2**24 + 3, 2**53 + 1, -(2**62) - 1, 2**63 - 1]])
    got = ops.gather(wide, np.array([0]))
    np.testing.assert_array_equal(got, wide.astype(np.float32))
    got = ops.gather(wide, np.array([0]), dtype=np.float64)
    np.testing.assert_array_equal(got, wide.astype(np.float64))
    top = np.array([[2**64 - 1, 2**63, 2**63 + 1025]], np.uint64)
    np.testing.assert_array_equal(ops.gather(top, np.array([0])), top.astype(np.float32))
    got = ops.gather(top, np.array([0]), dtype=np.float64)
    np.testing.assert_array_equal(got, top.astype(np.float64))
    special = np.array([[1e300, -1e300, np.inf, -np.inf, np.nan, 1 + 2**-30, -0.0]])
    got = ops.gather(special, np.array([0]), dtype=np.float32)
    np.testing.assert_array_equal(
        got, np.array([[np.inf, -np.inf, np.inf, -np.inf, np.nan, 1, -0.0]], np.float32)
    )
    assert np.signbit(got[0, 6])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("source", [np.uint8, np.float16, np.float32, np.float64, np.int64])
def test_gather_layouts(source, layout):
    a = rows_of(source, (7, 19))
    indices = np.array([6, 1, 1, 0])
    got = ops.gather(LAYOUTS[layout](a), indices)
    assert_close(got, reference.gather(a, indices), "copy")


def test_gather_strided_rows_of_images():
    a = rows_of(np.uint8, (9, 5, 6, 3))
    for view in (a[::2], a[::-1], a[:, 1:4], a[:, :, ::-1], a[..., :1], a.transpose(1, 0, 2, 3)):
        indices = np.array([len(view) - 1, 0])
        got = ops.gather(view, indices)
        assert_close(got, reference.gather(view, indices), "copy", dtype=np.float32)


def test_gather_from_a_memmap(tmp_path):
    a = rows_of(np.uint8, (13, 28))
    a.tofile(tmp_path / "rows.bin")
    mapped = np.memmap(tmp_path / "rows.bin", np.uint8, mode="r", shape=a.shape)
    got = ops.gather(mapped, np.array([12, 5]))
    assert_close(got, a[[12, 5]].astype(np.float32), "copy", dtype=np.float32)


@pytest.mark.parametrize("shape", [(0, 3), (4, 3), (4,)], ids=str)
def test_gather_nothing(shape):
    got = ops.gather(np.zeros(shape), np.zeros(0, np.int64))
    assert got.shape == (0, *shape[1:])
    assert got.dtype == np.float64


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.int64, np.uint8, np.uint32, np.uint64])
def test_gather_index_dtypes(kind):
    a = rows_of(np.float32, (7, 3))
    np.testing.assert_array_equal(ops.gather(a, np.array([6, 0], kind)), a[[6, 0]])
    strided = np.array([6, 99, 0, 99, 1, 99], kind)[::2]
    np.testing.assert_array_equal(ops.gather(a, strided), a[[6, 0, 1]])
    swapped = np.array([6, 0], np.dtype(kind).newbyteorder("S"))
    np.testing.assert_array_equal(ops.gather(a, swapped), a[[6, 0]])


@pytest.mark.parametrize("index", [7, 8, 2**40, -1, -8, -(2**40)])
def test_gather_index_out_of_range(index):
    out = np.full((2, 3), 99, np.float32)
    with pytest.raises(IndexError, match=rf"\[gather\].*{index}\b"):
        ops.gather(rows_of(np.float32, (7, 3)), np.array([0, index]), out=out)
    np.testing.assert_array_equal(out, 99)


def test_gather_from_no_rows():
    with pytest.raises(IndexError, match=r"\[gather\]"):
        ops.gather(np.zeros((0, 3)), np.array([0]))
    with pytest.raises(IndexError, match=rf"\[gather\].*{2**64 - 1}"):
        ops.gather(np.zeros((3, 2)), np.array([2**64 - 1], np.uint64))


def test_gather_errors():
    a, indices = rows_of(np.float32, (7, 3)), np.array([1, 2])
    for bad in (np.array([0.0, 1.0]), np.array([1j])):
        with pytest.raises(TypeError, match=r"\[gather\]"):
            ops.gather(a, bad)
    for bad in (np.array([[0, 1]]), np.array(1)):
        with pytest.raises(ValueError, match=r"\[gather\]"):
            ops.gather(a, bad)
    for bad in (a.astype(complex), a.astype(object), a.astype("S4")):
        with pytest.raises(TypeError, match=r"\[gather\]"):
            ops.gather(bad, indices)
    with pytest.raises(ValueError, match=r"\[gather\]"):
        ops.gather(np.float32(3), indices)


@pytest.mark.parametrize("target", [np.int64, np.uint8, np.bool_, np.float16, complex])
def test_gather_to_another_dtype_is_refused(target):
    with pytest.raises(TypeError, match=r"\[gather\] dtype"):
        ops.gather(rows_of(np.float32, (3, 2)), np.array([0]), dtype=target)


def test_gather_does_not_take_a_mask_for_indices():
    """NumPy would select by a bool array; as integers its values would name rows 0 and 1."""
    with pytest.raises(TypeError, match=r"\[gather\]"):
        ops.gather(rows_of(np.float32, (3, 2)), np.array([True, False, True]))


@pytest.mark.parametrize("target", [np.float32, np.float64])
def test_gather_bad_out(target):
    a, indices = rows_of(np.uint8, (7, 3)), np.array([1, 2])
    for why, bad in bad_outputs((2, 3), target):
        before = bad.tobytes()
        with pytest.raises(ValueError, match=r"\[gather\].*out"):
            ops.gather(a, indices, dtype=target, out=bad)
        assert bad.tobytes() == before, why


# ---- dropout --------------------------------------------------------------------------------


def mask(size, rate, *, seed=1, counter=0, dtype=np.float32):
    """True where dropout keeps, found by dropping ones."""
    return ops.dropout(np.ones(size, dtype), rate, seed=seed, counter=counter) != 0


@both_dtypes
@pytest.mark.parametrize("size", SIZES)
def test_dropout_values(size, dtype):
    r = np.random.default_rng(size)
    x, dy = afloat(r.normal(size=size).astype(dtype)), afloat(r.normal(size=size).astype(dtype))
    keep = mask(size, 0.3, seed=5, counter=7)
    got = ops.dropout(x, 0.3, seed=5, counter=7)
    assert_close(got, reference.dropout(x, 0.3, keep), "elementwise", dtype=dtype)
    dx = ops.dropout_backward(dy, 0.3, seed=5, counter=7)
    assert_close(dx, reference.dropout_backward(dy, 0.3, keep), "elementwise", dtype=dtype)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_dropout_keeps_its_share(rate):
    n = 200_000
    kept = mask(n, rate, seed=42).sum()
    assert abs(kept - n * (1 - rate)) < 4 * np.sqrt(n * rate * (1 - rate))


def test_dropout_masks_look_independent():
    """Neighbours, lags of a generator's block, other counters and seeds: agreement is chance."""
    n, rate = 200_000, 0.4
    a = mask(n, rate, seed=3, counter=11)
    others = {f"lag {lag}": np.roll(a, lag) for lag in (1, 2, 4, 8, 16, 64)}
    others["counter"] = mask(n, rate, seed=3, counter=12)
    others["seed"] = mask(n, rate, seed=4, counter=11)
    chance = rate**2 + (1 - rate) ** 2
    for name, b in others.items():
        assert abs((a == b).sum() - n * chance) < 5 * np.sqrt(n * chance * (1 - chance)), name


def test_dropout_mask_is_fixed_by_seed_and_counter():
    a = mask(1000, 0.5, seed=3, counter=11)
    np.testing.assert_array_equal(mask(1000, 0.5, seed=3, counter=11), a)
    np.testing.assert_array_equal(mask(1000, 0.5, seed=3, counter=11, dtype=np.float64), a)
    np.testing.assert_array_equal(mask(1000, 0.5, seed=3), mask(1000, 0.5, seed=3, counter=0))
    for seed, counter in [(3, 12), (4, 11), (11, 3), (3 + 2**32, 11), (3, 11 + 2**32)]:
        assert (mask(1000, 0.5, seed=seed, counter=counter) != a).mean() > 0.4


@pytest.mark.parametrize("size", SIZES)
def test_dropout_mask_depends_on_the_flat_index_only(size):
    long = mask(1200, 0.5, seed=9)
    np.testing.assert_array_equal(mask(size, 0.5, seed=9), long[:size])
    for shape in [(30, 40), (2, 3, 200), (1200, 1), (1, 1200)]:
        got = ops.dropout(np.ones(shape, np.float32), 0.5, seed=9) != 0
        np.testing.assert_array_equal(got.reshape(-1), long)


@pytest.mark.parametrize("layout", LAYOUTS)
@both_dtypes
def test_dropout_layouts(layout, dtype):
    x = np.random.default_rng(1).normal(size=(7, 19)).astype(dtype)
    other = LAYOUTS[layout](x)
    np.testing.assert_array_equal(ops.dropout(other, 0.5, seed=1), ops.dropout(x, 0.5, seed=1))
    np.testing.assert_array_equal(
        ops.dropout_backward(other, 0.5, seed=1), ops.dropout_backward(x, 0.5, seed=1)
    )


@both_dtypes
def test_dropout_rate_zero_is_the_identity(dtype):
    x = np.random.default_rng(1).normal(size=(7, 19)).astype(dtype)
    np.testing.assert_array_equal(ops.dropout(x, 0, seed=1), x)
    np.testing.assert_array_equal(ops.dropout_backward(x, 0.0, seed=1), x)


@both_dtypes
def test_dropout_of_special_values(dtype):
    """What is dropped is 0 even if it was NaN; what is kept stays what it is."""
    for bad in (np.nan, np.inf, -np.inf):
        y = ops.dropout(np.full(100, bad, dtype), 0.5, seed=2)
        keep = mask(100, 0.5, seed=2)
        np.testing.assert_array_equal(y, np.where(keep, bad, 0.0))


@both_dtypes
def test_dropout_out(dtype):
    for size in (1, 15, 17, 33):
        x = np.random.default_rng(1).normal(size=size).astype(dtype)
        for op in (ops.dropout, ops.dropout_backward):
            out = Output((size,), dtype)
            got = op(x, 0.5, seed=1, counter=2, out=out.array)
            assert np.shares_memory(got, out.array)
            out.assert_intact()
            np.testing.assert_array_equal(got, op(x, 0.5, seed=1, counter=2))


@both_dtypes
def test_dropout_errors(dtype):
    x = np.ones((4, 3), dtype)
    for op in (ops.dropout, ops.dropout_backward):
        for rate in (-0.1, 1.0, 1.5, np.nan, np.inf):
            with pytest.raises(ValueError, match=r"\[dropout.*rate"):
                op(x, rate, seed=1)
        for why, bad in bad_outputs((4, 3), dtype):
            before = bad.tobytes()
            with pytest.raises(ValueError, match=r"\[dropout.*out"):
                op(x, 0.5, seed=1, out=bad)
            assert bad.tobytes() == before, why
        with pytest.raises(TypeError, match=r"\[dropout.*int32"):
            op(x.astype(np.int32), 0.5, seed=1)
        with pytest.raises(TypeError):
            op(x, 0.5)  # a mask without a seed could not be drawn again by the backward


def test_backward_errors_name_the_backward():
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"\[dropout_backward\]"):
        ops.dropout_backward(x, 1.5, seed=1)
    with pytest.raises(ValueError, match=r"\[affine_backward\]"):
        ops.affine_backward(x, np.ones(4, np.float32))


@both_dtypes
def test_dropout_in_place(dtype):
    x = np.random.default_rng(1).normal(size=(7, 19)).astype(dtype)
    expected = ops.dropout(x, 0.5, seed=1)
    ops.dropout(x, 0.5, seed=1, out=x)
    np.testing.assert_array_equal(x, expected)
    memory = np.ones(200, dtype)
    with pytest.raises(ValueError, match="shares memory"):
        ops.dropout(memory[:150], 0.5, seed=1, out=memory[17:167])


# ---- affine ---------------------------------------------------------------------------------


@both_dtypes
@pytest.mark.parametrize("per_column", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("shape", [*ROW_SHAPES, (7,), (2, 3, 5), (3, 0)], ids=str)
def test_affine(shape, per_column, dtype):
    r = np.random.default_rng(1)
    x, dy = (afloat(a.astype(dtype)) for a in r.normal(size=(2, *shape)))
    scale, offset = (
        afloat(r.normal(size=shape[-1]).astype(dtype)) if columns else float(dtype(r.normal()))
        for columns in per_column
    )
    y = ops.affine(x, scale, offset)
    assert_close(y, reference.affine(x, scale, offset), "elementwise", dtype=dtype)
    dx = ops.affine_backward(dy, scale)
    assert_close(dx, reference.affine_backward(dy, scale), "elementwise", dtype=dtype)


@both_dtypes
@pytest.mark.parametrize("layout", LAYOUTS)
def test_affine_layouts(layout, dtype):
    r = np.random.default_rng(2)
    x, scale, offset = (r.normal(size=s).astype(dtype) for s in [(7, 19), 19, 19])
    other = LAYOUTS[layout]
    np.testing.assert_array_equal(
        ops.affine(other(x), other(scale), other(offset)), ops.affine(x, scale, offset)
    )
    np.testing.assert_array_equal(
        ops.affine_backward(other(x), other(scale)), ops.affine_backward(x, scale)
    )


@both_dtypes
def test_affine_out(dtype):
    for size in (1, 15, 17, 33):
        x = np.random.default_rng(1).normal(size=(3, size)).astype(dtype)
        out = Output((3, size), dtype)
        got = ops.affine(x, 2.0, 1.0, out=out.array)
        assert np.shares_memory(got, out.array)
        out.assert_intact()
        np.testing.assert_array_equal(got, ops.affine(x, 2.0, 1.0))
    for why, bad in bad_outputs((4, 3), dtype):
        before = bad.tobytes()
        with pytest.raises(ValueError, match=r"\[affine\].*out"):
            ops.affine(np.ones((4, 3), dtype), 2.0, 1.0, out=bad)
        assert bad.tobytes() == before, why


@both_dtypes
def test_affine_special_values(dtype):
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0] * 7, dtype)
    np.testing.assert_array_equal(ops.affine(x, -2.0, 1.0), x * dtype(-2) + dtype(1))


@both_dtypes
def test_affine_errors(dtype):
    other = np.float64 if dtype == np.float32 else np.float32
    x = np.ones((4, 3), dtype)
    for bad in (np.ones(4, dtype), np.ones((4, 3), dtype)):
        with pytest.raises(ValueError, match=r"\[affine\]"):
            ops.affine(x, bad, 0.0)
        with pytest.raises(ValueError, match=r"\[affine\]"):
            ops.affine(x, 1.0, bad)
        with pytest.raises(ValueError, match=r"\[affine"):
            ops.affine_backward(x, bad)
    with pytest.raises(TypeError, match=r"\[affine\]"):
        ops.affine(x, np.ones(3, other), 0.0)
    with pytest.raises(TypeError, match=r"\[affine\]"):
        ops.affine(x, 1.0, np.ones(3, other))
    with pytest.raises(TypeError, match=r"\[affine"):
        ops.affine_backward(x, np.ones(3, other))
    with pytest.raises(TypeError, match=r"\[affine\].*int32"):
        ops.affine(x.astype(np.int32), 1.0, 0.0)


def test_half_floats_are_refused():
    """Gather converts them; dropout and affine do not in silence."""
    half = np.ones((4, 3), np.float16)
    for op in (ops.dropout, ops.dropout_backward):
        with pytest.raises(TypeError, match="float16"):
            op(half, 0.5, seed=1)
    with pytest.raises(TypeError, match="float16"):
        ops.affine(half, 1.0, 0.0)
    with pytest.raises(TypeError, match="float16"):
        ops.affine(np.ones((4, 3), np.float32), half[0], 0.0)


@both_dtypes
def test_affine_does_not_stretch_an_array_of_one(dtype):
    """A number serves every column; an array has one value for each."""
    x = np.ones((4, 3), dtype)
    for one in (np.ones(1, dtype), np.ones((1, 1), dtype)):
        with pytest.raises(ValueError, match=r"\[affine\]"):
            ops.affine(x, one, 0.0)
        with pytest.raises(ValueError, match=r"\[affine\]"):
            ops.affine(x, 1.0, one)


@both_dtypes
def test_affine_in_place(dtype):
    x = np.random.default_rng(1).normal(size=(7, 19)).astype(dtype)
    expected = ops.affine(x, 2.0, 1.0)
    ops.affine(x, 2.0, 1.0, out=x)
    np.testing.assert_array_equal(x, expected)
    memory = np.ones(200, dtype)
    with pytest.raises(ValueError, match="shares memory"):
        ops.affine(memory[:150], 2.0, 1.0, out=memory[17:167])
