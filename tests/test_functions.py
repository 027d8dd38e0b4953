"""The functions of one number, in units in the last place (ulp), over the whole range.

The oracle is NumPy's long double, of 64 digits or more. Of float32, every argument was once
compared with float64, with AVX2 or AVX-512, whose bits are the same: all are within the same
bounds. Here a sample, every exponent, the places where formulas change, and the worst arguments
found.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from cases import DTYPES, SIZES, Output, bad_outputs
from ranvier import _core, activations, layers, ops

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
wide_double = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="long double is double here: no oracle"
)
BOUNDS = {np.float32: 2.0, np.float64: 4.0}  # ulp


# ---- the oracle: long double in, long double out ---------------------------------------------


def _erf_series(z):
    """2/sqrt(pi) sum of (-1)^k z^(2k+1) / (k! (2k+1)), for |z| < 2."""
    term, total = z.copy(), z.copy()
    for k in range(1, 60):
        term = -term * z * z / k
        total = total + term / (2 * k + 1)
    return total * 2 / np.sqrt(np.longdouble("3.14159265358979323846264338327950288"))


def _erfc_fraction(z):
    """e^(-z^2)/sqrt(pi) 1/(z + (1/2)/(z + (2/2)/(z + ...))), for z >= 2."""
    tail = z.copy()
    for k in range(120, 0, -1):
        tail = z + np.longdouble(k) / 2 / tail
    return np.exp(-z * z) / tail / np.sqrt(np.longdouble("3.14159265358979323846264338327950288"))


def erfc(x):
    z = np.abs(x)
    near, far = _erf_series(np.minimum(z, 2)), _erfc_fraction(np.maximum(z, 2))
    tail = np.where(z < 2, 1 - near, far)
    return np.where(x < 0, 2 - tail, tail)


def erf(x):
    z = np.abs(x)
    value = np.where(z < 2, _erf_series(np.minimum(z, 2)), 1 - _erfc_fraction(np.maximum(z, 2)))
    return np.copysign(value, x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def times(x, y):
    """x y, where y outweighs an infinite x."""
    return np.where(y == 0, np.longdouble(0), x * np.where(y == 0, np.longdouble(1), y))


def gelu(x):
    return times(x, erfc(-x / np.sqrt(np.longdouble(2))) / 2)


def gelu_tanh(x):
    rate = np.sqrt(8 / np.longdouble("3.14159265358979323846264338327950288"))
    return times(x, sigmoid(rate * (x + np.longdouble("0.044715") * x**3)))


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


FUNCTIONS = {
    "exp": (ops.exp, np.exp),
    "expm1": (ops.expm1, np.expm1),
    "log": (ops.log, np.log),
    "log1p": (ops.log1p, np.log1p),
    "sin": (ops.sin, np.sin),
    "cos": (ops.cos, np.cos),
    "erf": (ops.erf, erf),
    "tanh": (ops.tanh, np.tanh),
    "sigmoid": (ops.sigmoid, sigmoid),
    "softplus": (ops.softplus, softplus),
    "silu": (ops.silu, lambda x: times(x, sigmoid(x))),
    "gelu": (ops.gelu, gelu),
    "gelu_tanh": (lambda x, out=None: ops.gelu(x, approximate=True, out=out), gelu_tanh),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def arguments(dtype, count):
    """Bit patterns from everywhere, ordinary numbers, each exponent, and corners."""
    r = np.random.default_rng(11)
    integer = {np.float32: np.uint32, np.float64: np.uint64}[dtype]
    limits = np.finfo(dtype)
    patterns = r.integers(0, np.iinfo(integer).max, count, dtype=integer, endpoint=True)
    exponents = np.arange(limits.minexp, limits.maxexp)
    powers = np.ldexp(dtype(1), exponents).astype(dtype)
    powers = np.concatenate(
        [powers, np.nextafter(powers, dtype(0)), np.nextafter(powers, dtype(9))]
    )
    corners = [0.0, limits.tiny, limits.max, 0.41421356, 0.6, 0.625, 1.0, 14.5, 38.6, 88.72284]
    corners += [16.635532, 17.32868, 87.33655, 103.9721, 708.3964, 709.7828, 745.13, 36.7368]
    corners += [0.38330042, 0.027692523, 3.644721, 3.8892803, 4.7997546]  # worst
    corners += [0.8780492, 1.1099685, 5.1947203, 5.005465, 90.4827, 59.935703, 0.30053535]
    corners += [5.1937532, 5.1959953]
    corners += [4.62, 9.25]
    corners += [(k + 0.5) * 0.37 for k in range(15)] + [k / 8 for k in range(1, 40)]
    corners += [k * np.log(2) / 2 for k in range(1, 60)] + [k * np.pi / 4 for k in range(1, 60)]
    near = np.array(corners, dtype)
    for _ in range(3):
        near = np.concatenate([near, np.nextafter(near, dtype(0)), np.nextafter(near, dtype(1e9))])
    parts = [powers, near, r.normal(0, 1, count), r.uniform(-20, 20, count)]
    parts += [r.uniform(-110, 110, count // 2), r.uniform(-760, 720, count // 2)]
    signed = np.concatenate([np.asarray(p, dtype) for p in parts])
    x = np.concatenate([patterns.view(dtype), signed, -signed])
    return x[np.isfinite(x)]


def ulps(y, exact, dtype):
    """The error of y in units in the last place of the true value; 0 where y is rightly 0, inf."""
    limits = np.finfo(dtype)
    rounded = exact.astype(dtype)
    size = np.maximum(np.abs(exact), limits.tiny)
    unit = np.ldexp(np.longdouble(1), np.frexp(size)[1] - 1 - limits.nmant)
    error = np.abs(y.astype(np.longdouble) - exact) / unit
    error[(y == rounded) | (np.isnan(y) & np.isnan(exact))] = 0
    # A result below the smallest normal number is 0.
    error[(np.abs(exact) < limits.tiny * (1 + 4 * limits.eps)) & (y == 0)] = 0
    # One that rounds to infinity only just, or only just does not, may be either.
    edge = np.abs(exact) > np.longdouble(limits.max) * (1 - 4 * np.longdouble(limits.eps))
    error[edge & (np.abs(y) >= limits.max * (1 - 4 * limits.eps)) & (y * exact > 0)] = 0
    return error


@wide_double
@every_function
@every_dtype
def test_the_error_is_small_everywhere(name, dtype):
    ours, oracle = FUNCTIONS[name]
    x = arguments(dtype, 40_000 if dtype == np.float32 else 8_000)
    x = np.where(np.abs(x) < np.finfo(dtype).tiny, dtype(0), x)  # what it counts as
    with np.errstate(all="ignore"):
        exact = oracle(x.astype(np.longdouble))
        error = ulps(ours(x), exact, dtype)
    worst = np.nanargmax(error)
    assert not np.isnan(error).any(), f"{name}({x[np.isnan(error)][0]!r})"
    assert error[worst] <= BOUNDS[dtype], f"{error[worst]:.2f} ulp at {x[worst]!r}"


INF, NAN = np.inf, np.nan
ENDS = {  # at -inf, -0, 0, inf
    "exp": (0, 1, 1, INF),
    "expm1": (-1, -0.0, 0, INF),
    "log": (NAN, -INF, -INF, INF),
    "log1p": (NAN, -0.0, 0, INF),
    "sin": (NAN, -0.0, 0, NAN),
    "cos": (NAN, 1, 1, NAN),
    "erf": (-1, -0.0, 0, 1),
    "tanh": (-1, -0.0, 0, 1),
    "sigmoid": (0, 0.5, 0.5, 1),
    "softplus": (0, np.log(2), np.log(2), INF),
    "silu": (0, -0.0, 0, INF),
    "gelu": (0, -0.0, 0, INF),
    "gelu_tanh": (0, -0.0, 0, INF),
}


@every_function
@every_dtype
def test_ends_zeros_and_nan(name, dtype):
    """In a vector and in its tail, amid ordinary numbers."""
    ours = FUNCTIONS[name][0]
    for x, y in [*zip((-INF, -0.0, 0.0, INF), ENDS[name], strict=True), (NAN, NAN)]:
        a = np.full(131, 0.5, dtype)
        a[[3, 70, 130]] = x
        got = ours(a)
        np.testing.assert_array_equal(got[[3, 70, 130]], np.full(3, y, dtype))
        if y == 0 and x == 0:
            np.testing.assert_array_equal(np.signbit(got[[3, 70, 130]]), np.signbit(y))
        np.testing.assert_array_equal(got[:3], ours(np.full(3, 0.5, dtype)))


def test_log_of_what_is_below_its_domain():
    x = np.array([-1e-30, -0.5, -1.0, -1e30] * 5, np.float32)
    assert np.isnan(ops.log(x)).all()
    y = ops.log1p(x)
    assert np.isnan(y[3::4]).all() and (y[2::4] == -np.inf).all() and np.isfinite(y[:2]).all()


@every_function
@every_dtype
def test_denormals_count_as_zero(name, dtype):
    """As arguments (with their sign), and as results, on each tier."""
    ours = FUNCTIONS[name][0]
    small = np.finfo(dtype).smallest_subnormal * np.array([1, 3, 1000] * 7, dtype)
    for x, zero in ((small, 0.0), (-small, -0.0)):
        np.testing.assert_array_equal(ours(x), ours(np.full(21, zero, dtype)))


@pytest.mark.parametrize(
    ("name", "x32", "x64"),
    [
        ("exp", -90.0, -720.0),
        ("sigmoid", -90.0, -720.0),
        ("softplus", -90.0, -720.0),
        ("silu", -95.0, -730.0),
        ("gelu", -13.4, -38.0),
        ("gelu_tanh", -10.3, -21.8),
    ],
)
def test_denormal_results_are_zero(name, x32, x64):
    ours, oracle = FUNCTIONS[name]
    for dtype, x in ((np.float32, x32), (np.float64, x64)):
        exact = oracle(np.full(1, x, np.longdouble))[0]
        assert 0 < abs(exact) < np.finfo(dtype).tiny
        np.testing.assert_array_equal(ours(np.full(35, x, dtype)), 0)


def test_sine_of_huge_arguments():
    """Values of a 1000-digit pi: from 2^1023, and from the double nearest to a multiple of pi/2."""
    x = np.array([2.0**1023, 6381956970095103.0 * 2.0**797, 1e22] * 3)
    np.testing.assert_allclose(
        ops.sin(x), [0.5631277798508840, 1.0, -0.8522008497671888] * 3, rtol=4e-16
    )
    np.testing.assert_allclose(
        ops.cos(x),
        [-0.8263698346141479, -4.687165924254624e-19, 0.5232147853951389] * 3,
        rtol=1e-15,
    )


# ---- as ops ----------------------------------------------------------------------------------


@every_function
@every_dtype
def test_sizes_and_places(name, dtype):
    """Each element gives the same bits wherever it stands; nothing else is written."""
    ours = FUNCTIONS[name][0]
    x = np.abs(np.random.default_rng(3).normal(0, 2, 1009)).astype(dtype)
    one_by_one = np.array([ours(x[i : i + 1])[0] for i in range(200)])
    for size in SIZES:
        out = Output((size,), dtype)
        assert ours(x[:size], out=out.array) is out.array
        out.assert_intact()
        n = min(size, 200)
        np.testing.assert_array_equal(out.array[:n], one_by_one[:n])
    np.testing.assert_array_equal(ours(x.reshape(1, 1009)), ours(x)[None])
    again = x.copy()
    np.testing.assert_array_equal(ours(again, out=again), ours(x))


@pytest.mark.parametrize("offset", [0, 1, 5])
def test_results_that_are_written_past_the_caches(offset):
    """More than 32 MiB: streamed, from wherever the place is aligned."""
    size = (33 << 20) // 4 + 7
    x = np.tile(np.linspace(-9, 9, 4099, dtype=np.float32), size // 4099 + 1)[:size]
    sea = np.full(size + 16, 77, np.float32)
    out = sea[offset : offset + size]
    ops.tanh(x, out=out)
    y = ops.tanh(x[:4099])
    np.testing.assert_array_equal(
        out[: size // 4099 * 4099].reshape(-1, 4099), np.broadcast_to(y, (size // 4099, 4099))
    )
    np.testing.assert_array_equal(out[size // 4099 * 4099 :], y[: size % 4099])
    assert (sea[:offset] == 77).all() and (sea[offset + size :] == 77).all()


@pytest.mark.parametrize("name", ["exp", "erf", "gelu"])
@every_dtype
def test_errors(name, dtype):
    ours, op = FUNCTIONS[name][0], {"exp": "activation", "gelu": "activation"}.get(name, name)
    x = np.linspace(0, 1, 15, dtype=dtype).reshape(3, 5)
    for why, out in bad_outputs((3, 5), dtype):
        with pytest.raises((ValueError, TypeError), match=rf"\[{op}\] out"):
            ours(x, out=out)
            pytest.fail(why)
    for wrong in (np.int32, np.float16, np.complex64):
        with pytest.raises(TypeError, match=rf"\[{op}\] x"):
            ours(x.astype(wrong))
    flat = np.zeros(20, dtype)
    with pytest.raises(ValueError, match=rf"\[{op}\].*share"):
        ours(flat[:15], out=flat[5:])


def test_activations_of_the_same_name_give_the_same_bits():
    x = np.linspace(-20, 20, 1001, dtype=np.float32)
    for name in ("tanh", "sigmoid", "softplus", "silu", "gelu"):
        np.testing.assert_array_equal(getattr(ops, name)(x), ops.activation(x, name))
    np.testing.assert_array_equal(ops.exp(x), ops.activation(x, "exponential"))
    np.testing.assert_array_equal(ops.gelu(x, approximate=True), ops.activation(x, "gelu_tanh"))


def test_gelu_approximate_in_activations_and_layers():
    x = np.linspace(-4, 4, 12, dtype=np.float32).reshape(3, 4)
    y = activations.gelu(x, approximate=True)
    np.testing.assert_array_equal(y, activations.gelu_tanh(x))
    assert (y != activations.gelu(x)).any()
    np.testing.assert_allclose(y, activations.gelu(x), atol=1e-3)
    for form in ("gelu_tanh", activations.gelu_tanh, partial(activations.gelu, approximate=True)):
        layer = layers.Activation(form)
        np.testing.assert_array_equal(layer(x), y)
        assert layer.get_config()["activation"] == "gelu_tanh"
    assert activations.serialize(partial(activations.gelu, approximate=False)) == "gelu"
    with pytest.raises(ValueError, match="unknown activation"):
        activations.serialize(partial(activations.elu, alpha=0.5))


def test_unknown_functions_are_refused():
    with pytest.raises(ValueError, match=r"\[function\] unknown function 'sinh'"):
        _core.function(np.zeros(3), "sinh", None)
