"""`ops.activation`, `ops.softmax` and their backwards against the float64 oracle."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from cases import DTYPES, LAYOUTS, ROW_SHAPES, SIZES, Output, afloat, assert_close, bad_outputs
from ranvier import ops

pytestmark = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])

POINTWISE = [name for name in reference.ACTIVATIONS if name != "softmax"]


def normal(shape, dtype, *, seed=0, width=3.0):
    return afloat(np.random.default_rng(seed).normal(0, width, shape).astype(dtype))


def check(name, x, dtype, *, alpha=None, kind="transcendental", terms=1):
    dy = normal(x.shape, dtype, seed=1, width=1.0)
    y = ops.activation(x, name, alpha=alpha)
    assert_close(y, reference.activation(x, name, alpha=alpha), kind, dtype=dtype, terms=terms)
    dx = ops.activation_backward(dy, x, y, name, alpha=alpha)
    expected = reference.activation_backward(dy, x, y, name, alpha=alpha)
    assert_close(dx, expected, kind, dtype=dtype, terms=terms)


@pytest.mark.parametrize("alpha", [None, 0.35])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", POINTWISE)
def test_sizes(name, size, alpha, dtype):
    check(name, normal(size, dtype, seed=size), dtype, alpha=alpha)


@pytest.mark.parametrize("name", POINTWISE)
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 7), (4, 0), (1, 1, 1, 1)], ids=str)
def test_ranks(name, shape, dtype):
    check(name, normal(shape, dtype), dtype)


@pytest.mark.parametrize("name", POINTWISE)
def test_whole_range(name, dtype):
    """A sweep from -100 to 100: every branch of the approximations and both saturated ends."""
    x = np.linspace(-100, 80, 20011).astype(dtype)
    x = x[np.abs(np.abs(x) - 3) > 1e-3]  # the corners of hard_sigmoid have no derivative
    check(name, x[x != 0], dtype)


@pytest.mark.parametrize("name", ["tanh", "elu", "selu", "gelu", "silu", "relu", "leaky_relu"])
def test_small_arguments_keep_relative_accuracy(name, dtype):
    """Near zero these are about proportional to x: 1e-20 must not become 0 or lose digits."""
    x = np.geomspace(1e-30, 1e-2, 301)
    x = np.concatenate([-x, x]).astype(dtype)
    np.testing.assert_allclose(
        ops.activation(x, name),
        reference.activation(x, name),
        rtol=32 * np.finfo(dtype).eps,
        atol=0,
    )


@pytest.mark.parametrize("name", ["sigmoid", "exponential", "softplus"])
def test_far_left_keeps_relative_accuracy(name, dtype):
    """exp(-80) is 1.8e-35: small, but a normal float32, and -log of it must be 80."""
    x = np.linspace(-80, -10, 1001).astype(dtype)
    np.testing.assert_allclose(
        ops.activation(x, name),
        reference.activation(x, name),
        rtol=64 * np.finfo(dtype).eps,
        atol=0,
    )


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("linear", np.inf, np.inf),
        ("linear", -np.inf, -np.inf),
        ("relu", np.inf, np.inf),
        ("relu", -np.inf, 0),
        ("leaky_relu", np.inf, np.inf),
        ("leaky_relu", -np.inf, -np.inf),
        ("sigmoid", np.inf, 1),
        ("sigmoid", -np.inf, 0),
        ("sigmoid", 1e4, 1),
        ("sigmoid", -1e4, 0),
        ("tanh", np.inf, 1),
        ("tanh", -np.inf, -1),
        ("tanh", 1e30, 1),
        ("tanh", -1e30, -1),
        ("elu", np.inf, np.inf),
        ("elu", -np.inf, -1),
        ("elu", -1e4, -1),
        ("selu", np.inf, np.inf),
        ("selu", -1e4, -1.7580993408473766),
        ("gelu", 1e30, 1e30),
        ("gelu", -1e30, 0),
        ("silu", 1e30, 1e30),
        ("silu", -1e30, 0),
        ("softplus", np.inf, np.inf),
        ("softplus", -np.inf, 0),
        ("softplus", 1e4, 1e4),
        ("softplus", 1e30, 1e30),
        ("softplus", -1e4, 0),
        ("exponential", np.inf, np.inf),
        ("exponential", -np.inf, 0),
        ("exponential", 1e4, np.inf),
        ("exponential", -1e4, 0),
        ("exponential", 0, 1),
        ("hard_sigmoid", np.inf, 1),
        ("hard_sigmoid", -np.inf, 0),
        ("hard_sigmoid", 3, 1),
        ("hard_sigmoid", -3, 0),
    ],
)
def test_ends(name, x, y, dtype):
    """In a vector and in its tail, amid ordinary numbers."""
    a = np.full(37, 0.5, dtype)
    a[[3, 36]] = x
    got = ops.activation(a, name)
    assert_close(got[[3, 36]], np.full(2, y), "transcendental", dtype=dtype)
    np.testing.assert_array_equal(got[:3], got[4:7])


@pytest.mark.parametrize("name", POINTWISE)
def test_nan_stays_nan(name, dtype):
    x = np.full(37, 0.5, dtype)
    x[[3, 36]] = np.nan
    y = ops.activation(x, name)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))


@pytest.mark.parametrize("name", [n for n in POINTWISE if n != "exponential"])
def test_gradient_is_finite_far_out(name, dtype):
    x = np.array([1e4, -1e4, 1e30, -1e30] * 9 + [1e30], dtype)
    y = ops.activation(x, name)
    dx = ops.activation_backward(np.ones_like(x), x, y, name)
    assert_close(
        dx,
        reference.activation_backward(np.ones_like(x), x, y, name),
        "transcendental",
        dtype=dtype,
    )


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh", "elu", "selu", "linear", "gelu"])
def test_zero_goes_to_zero(name, dtype):
    x = np.array([0.0, -0.0] * 9 + [0.0], dtype)
    np.testing.assert_array_equal(ops.activation(x, name), 0.0)


def test_kinks_take_the_left_derivative(dtype):
    """At exactly zero relu passes nothing and leaky_relu passes its slope."""
    x, dy = np.zeros(19, dtype), np.ones(19, dtype)
    np.testing.assert_array_equal(ops.activation_backward(dy, x, x, "relu"), 0.0)
    got = ops.activation_backward(dy, x, x, "leaky_relu", alpha=0.25)
    np.testing.assert_array_equal(got, 0.25)


@pytest.mark.parametrize("shape", ROW_SHAPES, ids=str)
def test_softmax(shape, dtype):
    x, dy = normal(shape, dtype, seed=2), normal(shape, dtype, seed=3)
    y = ops.softmax(x)
    assert_close(y, reference.softmax(x), "reduction", dtype=dtype, terms=shape[-1])
    dx = ops.softmax_backward(dy, y)
    assert_close(dx, reference.softmax_backward(dy, y), "reduction", dtype=dtype, terms=shape[-1])
    np.testing.assert_array_equal(ops.activation(x, "softmax"), y)
    np.testing.assert_array_equal(ops.activation_backward(dy, x, y, "softmax"), dx)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 5), (2, 0, 5), (2, 3, 0)], ids=str)
def test_softmax_ranks(shape, dtype):
    x, dy = normal(shape, dtype), normal(shape, dtype, seed=1)
    y = ops.softmax(x)
    assert_close(y, reference.softmax(x), "reduction", dtype=dtype, terms=7)
    assert_close(
        ops.softmax_backward(dy, y),
        reference.softmax_backward(dy, y),
        "reduction",
        dtype=dtype,
        terms=7,
    )


def test_softmax_of_large_logits(dtype):
    x = np.zeros((4, 19), dtype)
    x[0, 5], x[1, 18], x[2] = 1e4, -1e4, np.linspace(-1e4, 1e4, 19)
    x[3] = np.finfo(dtype).max * np.linspace(-1, 1, 19).astype(dtype)
    y = ops.softmax(x)
    assert_close(y, reference.softmax(x), "reduction", dtype=dtype, terms=19)
    np.testing.assert_array_equal(y[0], np.eye(19)[5])
    assert y[1, 18] == 0
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=32 * np.finfo(dtype).eps)


def test_softmax_is_blind_to_a_shift(dtype):
    x = np.random.default_rng(4).integers(-8, 8, (5, 33)).astype(dtype)
    np.testing.assert_array_equal(ops.softmax(x + 1024), ops.softmax(x))


def test_softmax_of_minus_infinity_is_a_mask(dtype):
    x = normal((3, 19), dtype)
    keep = np.arange(19) % 3 != 1
    x[:, ~keep] = -np.inf
    y = ops.softmax(x)
    np.testing.assert_array_equal(y[:, ~keep], 0.0)
    expected = reference.softmax(x[:, keep])
    assert_close(y[:, keep], expected, "reduction", dtype=dtype, terms=19)


def test_softmax_nan_stays_in_its_row(dtype):
    x = normal((5, 19), dtype)
    clean = ops.softmax(x)
    x[2, 18] = np.nan
    y = ops.softmax(x)
    assert np.isnan(y[2]).all()
    rows = np.arange(5) != 2
    np.testing.assert_array_equal(y[rows], clean[rows])


@pytest.mark.parametrize("name", ["relu", "gelu", "softmax"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, name, dtype):
    x, dy = normal((7, 19), dtype), normal((7, 19), dtype, seed=1)
    other = LAYOUTS[layout]
    y = ops.activation(x, name)
    got = ops.activation(other(x), name)
    assert got.dtype == dtype
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, y)
    dx = ops.activation_backward(dy, x, y, name)
    np.testing.assert_array_equal(ops.activation_backward(other(dy), other(x), other(y), name), dx)
    if name == "softmax":
        np.testing.assert_array_equal(ops.softmax(other(x)), y)
        np.testing.assert_array_equal(ops.softmax_backward(other(dy), other(y)), dx)


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
@pytest.mark.parametrize("size", [1, 15, 16, 17, 33])
def test_out(name, size, dtype):
    x, dy = normal((2, size), dtype), normal((2, size), dtype, seed=1)
    out = Output((2, size), dtype)
    y = ops.activation(x, name, out=out.array)
    assert np.shares_memory(y, out.array)
    out.assert_intact()
    np.testing.assert_array_equal(y, ops.activation(x, name))
    out = Output((2, size), dtype)
    dx = ops.activation_backward(dy, x, y, name, out=out.array)
    assert np.shares_memory(dx, out.array)
    out.assert_intact()
    np.testing.assert_array_equal(dx, ops.activation_backward(dy, x, y, name))


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_in_place(name, dtype):
    """out= may be x itself, and dy itself on the way back."""
    x, dy = normal((5, 19), dtype), normal((5, 19), dtype, seed=1)
    y = ops.activation(x, name)
    dx = ops.activation_backward(dy, x, y, name)
    here = x.copy()
    ops.activation(here, name, out=here)
    np.testing.assert_array_equal(here, y)
    here = dy.copy()
    ops.activation_backward(here, x, y, name, out=here)
    np.testing.assert_array_equal(here, dx)


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_partial_overlap_is_refused(name, dtype):
    """An out= that begins within the input would overwrite what is yet to be read."""
    memory = normal(200, dtype)
    x, out = memory[:160].reshape(8, 20), memory[17:177].reshape(8, 20)
    y = ops.activation(x, name)
    before = memory.copy()
    with pytest.raises(ValueError, match="shares memory"):
        ops.activation(x, name, out=out)
    with pytest.raises(ValueError, match="shares memory"):
        ops.activation_backward(x, y, y, name, out=out)
    with pytest.raises(ValueError, match="shares memory"):
        ops.activation_backward(y, x, x, name, out=out)
    np.testing.assert_array_equal(memory, before)


@pytest.mark.parametrize("size", [1, 17])
def test_softmax_out(size, dtype):
    x, dy = normal((2, size), dtype), normal((2, size), dtype, seed=1)
    out = Output((2, size), dtype)
    y = ops.softmax(x, out=out.array)
    assert np.shares_memory(y, out.array)
    out.assert_intact()
    np.testing.assert_array_equal(y, ops.softmax(x))
    out = Output((2, size), dtype)
    dx = ops.softmax_backward(dy, y, out=out.array)
    assert np.shares_memory(dx, out.array)
    out.assert_intact()
    np.testing.assert_array_equal(dx, ops.softmax_backward(dy, y))


def test_bad_out_is_refused_and_left_alone(dtype):
    x = normal((4, 3), dtype)
    y = ops.softmax(x)
    for why, bad in bad_outputs((4, 3), dtype):
        before = bad.tobytes()
        with pytest.raises(ValueError, match=r"\[activation\].*out"):
            ops.activation(x, "relu", out=bad)
        with pytest.raises(ValueError, match=r"\[activation_backward\].*out"):
            ops.activation_backward(x, x, x, "relu", out=bad)
        with pytest.raises(ValueError, match="out"):
            ops.softmax(x, out=bad)
        with pytest.raises(ValueError, match="out"):
            ops.softmax_backward(x, y, out=bad)
        assert bad.tobytes() == before, why


def test_errors(dtype):
    other = np.float64 if dtype == np.float32 else np.float32
    x = normal((4, 3), dtype)
    with pytest.raises(ValueError, match=r"\[activation\].*swoosh"):
        ops.activation(x, "swoosh")
    with pytest.raises(ValueError, match=r"\[activation_backward\].*swoosh"):
        ops.activation_backward(x, x, x, "swoosh")
    with pytest.raises(ValueError, match=r"\[activation_backward\]"):
        ops.activation_backward(x[:3], x, x, "tanh")
    with pytest.raises(ValueError, match=r"\[activation_backward\]"):
        ops.activation_backward(x, x, x[:, :2], "tanh")
    with pytest.raises(TypeError, match=r"\[activation\]"):
        ops.activation(x.astype(np.int32), "relu")
    with pytest.raises(TypeError, match=r"\[activation_backward\]"):
        ops.activation_backward(x.astype(other), x, x, "relu")


def test_softmax_errors_name_softmax(dtype):
    """Not the shared function behind it: a reader looks for the name that was called."""
    other = np.float64 if dtype == np.float32 else np.float32
    x = normal((4, 3), dtype)
    with pytest.raises(TypeError, match=r"\[softmax\]"):
        ops.softmax(x.astype(np.int32))
    with pytest.raises(ValueError, match=r"\[softmax\].*out"):
        ops.softmax(x, out=x[:3])
    with pytest.raises(ValueError, match=r"\[softmax_backward\]"):
        ops.softmax_backward(x, x[:1])
    with pytest.raises(TypeError, match=r"\[softmax_backward\]"):
        ops.softmax_backward(x, x.astype(other))


def test_half_floats_are_refused(dtype):
    x = normal((4, 3), dtype)
    half = x.astype(np.float16)
    for call in (
        lambda: ops.activation(half, "relu"),
        lambda: ops.activation_backward(half, x, x, "relu"),
        lambda: ops.activation_backward(x, x, half, "relu"),
        lambda: ops.softmax(half),
    ):
        with pytest.raises(TypeError, match="float16"):
            call()
