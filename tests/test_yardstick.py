"""The yardsticks of benchmarks do the arithmetic that they are counted for."""

from __future__ import annotations

import numpy as np
import pytest

from cases import DTYPES, LAYOUTS, SIZES, Output, afloat, assert_close, bad_outputs
from ranvier import _core

pytestmark = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])


def chained(steps, start, factor, offset):
    """x = x * factor + offset, in float64; of chains around `start` the mean does the same."""
    x = np.float64(start)
    for _ in range(steps):
        x = x * factor + offset
    return x


@pytest.mark.parametrize("chunks", [1, 2, 3, 7])
@pytest.mark.parametrize("steps", [0, 1, 2, 31])
def test_peak(steps, chunks, dtype):
    out = Output((chunks,), dtype)
    flops = _core.peak(out.array, steps, 0.75, 0.9, 0.25)
    out.assert_intact()
    expected = np.full(chunks, chained(steps, 0.75, dtype(0.9), 0.25))
    assert_close(out.array, expected, "reduction", dtype=dtype, terms=16)
    assert flops == steps * _core.peak(np.empty(chunks, dtype), 1, 0, 0, 0)


def test_peak_counts_two_flops_a_lane_of_a_chain(dtype):
    """Of 14 or 24 chains of vectors of 16, 32 or 64 bytes."""
    lanes = {"avx512": 64, "avx2": 32}.get(_core.isa(), 16) // np.dtype(dtype).itemsize
    assert _core.peak(np.empty(3, dtype), 5, 0, 0, 0) / (3 * 5 * 2 * lanes) in (14, 24)


def test_peak_of_nothing(dtype):
    assert _core.peak(np.empty(0, dtype), 5, 0, 0, 0) == 0


@pytest.mark.parametrize("n", [*SIZES, 20_011])
@pytest.mark.parametrize("passes", [1, 3])
def test_triad(passes, n, dtype):
    r = np.random.default_rng(n)
    a, b = (afloat(r.normal(size=n).astype(dtype)) for _ in range(2))
    before = a.copy()
    out = Output((n,), dtype)
    assert np.shares_memory(_core.triad(a, b, 0.5, passes, out.array), out.array) or n == 0
    out.assert_intact()
    a64, b64 = a.astype(float), b.astype(float)
    np.testing.assert_allclose(out.array, a64 + 0.5 * b64, rtol=4 * np.finfo(dtype).eps, atol=1e-6)
    np.testing.assert_array_equal(a, before)
    _core.triad(a, b, 0.5, passes, a)  # in place, the passes add up
    np.testing.assert_allclose(a, a64 + passes * 0.5 * b64, atol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    r = np.random.default_rng(1)
    a, b = r.normal(size=(2, 7, 33)).astype(dtype)
    other = LAYOUTS[layout]
    np.testing.assert_array_equal(
        _core.triad(other(a), other(b), 2.0, 1, None), _core.triad(a, b, 2.0, 1, None)
    )


def test_what_does_not_fit_is_refused(dtype):
    a, b = np.zeros((3, 5), dtype), np.ones((3, 5), dtype)
    for why, bad in bad_outputs((3, 5), dtype):
        before = bad.tobytes()
        with pytest.raises(ValueError, match=r"\[triad\].*out"):
            _core.triad(a, b, 1.0, 1, bad)
        assert bad.tobytes() == before, why
    with pytest.raises(ValueError, match=r"\[triad\] b .*\(3, 4\).*\(3, 5\)"):
        _core.triad(a, b[:, :4].copy(), 1.0, 1, None)
    with pytest.raises(TypeError, match=r"\[triad\]"):
        _core.triad(a, b.astype(np.int64), 1.0, 1, None)
    with pytest.raises(ValueError, match=r"\[triad\] passes must be at least 1; received 0"):
        _core.triad(a, b, 1.0, 0, a)
    with pytest.raises(ValueError, match=r"\[triad\].*shares memory"):
        _core.triad(a, b, 1.0, 1, b)
    line = np.zeros(20, dtype)
    with pytest.raises(ValueError, match=r"\[triad\].*shares memory"):
        _core.triad(line[:10], np.ones(10, dtype), 1.0, 1, line[5:15])
    y = np.zeros(2, dtype)
    with pytest.raises(ValueError, match=r"\[peak\] steps must not be negative; received -1"):
        _core.peak(y, -1, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"\[peak\]"):
        _core.peak(np.zeros(4, dtype)[::2], 1, 1.0, 1.0, 1.0)
    with pytest.raises(TypeError, match=r"\[peak\]"):
        _core.peak(np.zeros(2, np.int32), 1, 1.0, 1.0, 1.0)
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_array_equal(a, 0)
    np.testing.assert_array_equal(b, 1)
