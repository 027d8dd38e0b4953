"""`ops.transpose` beside NumPy's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cases import DTYPES, LAYOUTS, Output, afloat, bad_outputs
from ranvier import ops

pytestmark = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])


def draw(shape, dtype):
    return afloat(np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype))


@pytest.mark.parametrize(
    "shape", [(5, 0, 3), (1, 1), (7,), (), (33, 65), (2, 3, 35), (4, 1, 67, 3), (3, 2, 5, 2, 4)]
)
def test_every_order(shape, dtype):
    x = draw(shape, dtype)
    for axes in itertools.permutations(range(len(shape))):
        y = ops.transpose(x, axes)
        assert y.flags.c_contiguous and y.dtype == dtype
        np.testing.assert_array_equal(y, x.transpose(axes))
        out = Output(y.shape, dtype)
        assert np.shares_memory(ops.transpose(x, axes, out=out.array), out.array) or not y.size
        out.assert_intact()
        np.testing.assert_array_equal(out.array, y)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    x = draw((6, 5), dtype)
    np.testing.assert_array_equal(ops.transpose(LAYOUTS[layout](x), (-1, 0)), x.T)


@pytest.mark.parametrize("shape", [(7,), (33, 70), (4, 1, 67), (2, 9, 20, 3)], ids=str)
def test_views_are_read_in_order(shape, dtype):
    """Every order of the axes, in steps forwards and backwards, of one element repeated."""
    whole = draw([3 * n + 1 for n in shape], dtype)
    identity = range(len(shape))
    for axes in itertools.permutations(identity):
        for steps in itertools.product((1, 3, -2), repeat=len(shape)):
            part = whole[tuple(slice(None, None, step) for step in steps)]
            part = part[tuple(slice(n) for n in shape)].transpose(axes)
            np.testing.assert_array_equal(ops.transpose(part, identity), part)
        for d in identity:
            repeated = np.broadcast_to(whole.take([1], d), whole.shape).transpose(axes)
            np.testing.assert_array_equal(ops.transpose(repeated, identity), repeated)


def test_many_axes(dtype):
    """As many as the kernel walks, and more, of a view."""
    for axes in (8, 9):
        x = draw((3, *(2,) * (axes - 1)), dtype)[::2]
        reverse = range(axes)[::-1]
        np.testing.assert_array_equal(ops.transpose(x, range(axes)), x)
        np.testing.assert_array_equal(ops.activation(x.transpose(reverse), "linear"), x.T)


@pytest.mark.parametrize("shape", [(1024, 1024), (300, 1029), (16, 5000)], ids=str)
def test_turned_squares(shape, dtype, threads):
    x = draw(shape, dtype)
    for count in (1, 2, 3):
        threads(count)
        out = Output(shape[::-1], dtype)
        ops.transpose(x, (1, 0), out=out.array)
        out.assert_intact()
        np.testing.assert_array_equal(out.array, x.T)
        np.testing.assert_array_equal(ops.transpose(x.T, (0, 1)), x.T)


def test_large(dtype):
    x = draw((8, 64, 301), dtype)
    np.testing.assert_array_equal(ops.transpose(x, (0, 2, 1)), x.transpose(0, 2, 1))


def test_bad_arguments(dtype):
    x = draw((2, 3), dtype)
    for axes in [(0,), (0, 0), (0, 2), (0, 1, 2), (-3, 0)]:
        with pytest.raises(ValueError, match=r"\[transpose\] axes must name each axis of x once"):
            ops.transpose(x, axes)
    with pytest.raises(ValueError, match="out shares memory with x"):
        ops.transpose(x, (0, 1), out=x)
    with pytest.raises(TypeError, match="x has dtype int64"):
        ops.transpose(np.zeros((2, 3), np.int64), (1, 0))
    for _, bad in bad_outputs((3, 2), dtype):
        with pytest.raises(ValueError, match=r"\[transpose\].*out"):
            ops.transpose(x, (1, 0), out=bad)
