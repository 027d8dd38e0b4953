"""The convolutions of `ranvier.ops` against the float64 oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest

import reference
from cases import CONV_CASES, DTYPES, LAYOUTS, Output, afloat, assert_close, bad_outputs
from ranvier import _core, ops
from ranvier._core import Buffer

pytestmark = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])

NAMES = ("conv1d", "conv2d", "depthwise_conv1d", "depthwise_conv2d", "conv1d_transpose",
         "conv2d_transpose")  # fmt: skip


def normal(r, shape, dtype, scale=1.0):
    return afloat((scale * r.normal(size=shape)).astype(dtype))


def draw(name, x_shape, w_shape, dtype, *, seed=0, **options):
    """x, w, b and dy; sums of products stay near one."""
    r = np.random.default_rng([seed, *x_shape, *w_shape])
    depth = math.prod(w_shape[:-2]) * (
        1 if "depthwise" in name else w_shape[-1 if "transpose" in name else -2]
    )
    x, w = normal(r, x_shape, dtype), normal(r, w_shape, dtype, 1 / np.sqrt(depth))
    y_shape = getattr(reference, name)(x, w, **options).shape
    return x, w, normal(r, y_shape[-1], dtype), normal(r, y_shape, dtype)


def terms_of(name, x, w, dy):
    """How many products are summed in y, dx, dw, db, at most."""
    taps, pixels = math.prod(w.shape[:-2]), math.prod(dy.shape[:-1])
    if "transpose" in name:
        return taps * w.shape[-1], taps * w.shape[-2], math.prod(x.shape[:-1]), pixels
    if "depthwise" in name:
        return taps, taps * w.shape[-1], pixels, pixels
    return taps * w.shape[-2], taps * w.shape[-1], pixels, pixels


def check(name, x, w, b, dy, dtype, **options):
    terms, *back = terms_of(name, x, w, dy)
    expected = getattr(reference, name)(x, w, b, **options)
    y = getattr(ops, name)(x, w, b, **options)
    assert_close(y, expected, "product", dtype=dtype, terms=terms)
    got = getattr(ops, name + "_backward")(dy, x, y, w, b, **options)
    expected = getattr(reference, name + "_backward")(dy, x, y, w, b, **options)
    for g, e, count in zip(got, expected, back, strict=True):
        if e is None:
            assert g is None
        else:
            assert_close(g, e, "product", dtype=dtype, terms=count)


@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_shapes(case, dtype):
    x_shape, w_shape, options = case
    x, w, b, dy = draw("conv2d", x_shape, w_shape, dtype, **options)
    check("conv2d", x, w, b, dy, dtype, **options)
    check("conv2d", x, w, None, dy, dtype, activation="relu", **options)


def random_case(name, r):
    """Shapes and options that fit together."""
    axes = 1 if "1d" in name else 2
    kernel = r.integers(1, 6, axes)
    strides, dilation = r.integers(1, 4, axes), r.integers(1, 3, axes)
    pads = [tuple(map(int, r.integers(0, 4, 2))) for _ in range(axes)]
    padding = ["valid", "same", pads[0] if axes == 1 else tuple(pads)][r.integers(3)]
    span = (kernel - 1) * dilation + 1
    size = span + r.integers(0, 12, axes)
    channels, filters = (int(r.choice([1, 2, 3, 5, 16, 17, 33])) for _ in range(2))

    def option(values):
        return int(values[0]) if axes == 1 else tuple(map(int, values))

    options = {"strides": option(strides), "padding": padding, "dilation": option(dilation)}
    w_shape = (*map(int, kernel), channels, filters)
    if "depthwise" in name:
        w_shape = (*map(int, kernel), channels, int(r.integers(1, 4)))
    elif "transpose" in name:
        w_shape = (*map(int, kernel), filters, channels)
        size = r.integers(4, 9, axes)
        if not isinstance(padding, str):  # not more than there is
            options["padding"] = "same"
        if r.integers(2):
            options["output_padding"] = option([r.integers(0, s) for s in strides])
    elif r.integers(2):
        options["groups"] = int(r.integers(2, 4))
        channels *= options["groups"]
        w_shape = (*w_shape[:-1], filters * options["groups"])
    return (int(r.integers(1, 4)), *map(int, size), channels), w_shape, options


@pytest.mark.parametrize("name", NAMES)
def test_random_configurations(name, dtype):
    r = np.random.default_rng(11)
    for i in range(30):
        x_shape, w_shape, options = random_case(name, r)
        x, w, b, dy = draw(name, x_shape, w_shape, dtype, seed=i, **options)
        try:
            check(name, x, w, b, dy, dtype, activation=["linear", "tanh"][i % 2], **options)
        except AssertionError as error:
            raise AssertionError(f"{name} {x_shape} {w_shape} {options}") from error


@pytest.mark.parametrize("past", [0, 16, 56])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"),
    [
        ((2, 9, 7, 320), (3, 3, 320, 1), {"padding": "same"}),
        ((2, 6, 17, 272), (3, 3, 272, 1), {"padding": ((2, 1), (0, 2)), "activation": "tanh"}),
        ((3, 1, 2, 257), (3, 3, 257, 1), {"padding": ((3, 2), (2, 3)), "activation": "relu"}),
        ((1, 11, 9, 272), (5, 4, 272, 2), {"padding": "same"}),
        ((1, 9, 9, 304), (3, 3, 304, 1), {"padding": "same", "strides": 2, "dilation": (1, 2)}),
    ],
    ids=str,
)
def test_depthwise_of_many_channels(x_shape, w_shape, options, past, dtype):
    """Wherever the arrays begin: so many bytes past a cache line."""
    name = "depthwise_conv2d"
    x, w, b, dy = draw(name, x_shape, w_shape, dtype, **options)

    def placed(a):
        raw = np.empty(a.nbytes + 128, np.uint8)
        begin = -raw.ctypes.data % 64 + past
        there = raw[begin : begin + a.nbytes].view(a.dtype).reshape(a.shape)
        there[...] = a
        return there

    check(name, placed(x), w, b, placed(dy), dtype, **options)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"),
    [
        ((2, 4, 4, 3), (4, 4, 5, 3), {"strides": 2, "padding": "same"}),
        ((1, 3, 5, 2), (3, 2, 3, 2), {"strides": (2, 3), "padding": ((1, 0), (0, 1))}),
        ((2, 3, 3, 17), (3, 3, 33, 17), {"strides": 2, "padding": "same", "output_padding": 1}),
        ((1, 5, 4, 3), (3, 3, 2, 3), {"padding": "same", "dilation": 2}),
        ((1, 2, 2, 3), (1, 1, 2, 3), {"strides": 3}),  # most of y is read from nothing
        ((1, 3, 3, 2), (2, 2, 2, 2), {"strides": 2, "padding": ((0, 1), (1, 0))}),
    ],
    ids=str,
)
def test_transposed(x_shape, w_shape, options, dtype):
    x, w, b, dy = draw("conv2d_transpose", x_shape, w_shape, dtype, **options)
    check("conv2d_transpose", x, w, b, dy, dtype, activation="leaky_relu", **options)


def test_transposed_is_the_input_gradient(dtype):
    x, w, _, dy = draw("conv2d", (2, 7, 8, 5), (3, 3, 5, 6), dtype, strides=2, padding="same")
    dx = ops.conv2d_backward(dy, x, None, w, strides=2, padding="same")[0]
    back = ops.conv2d_transpose(dy, w, strides=2, padding=((1, 1), (0, 1)))
    np.testing.assert_array_equal(back, dx)


@pytest.mark.parametrize("alpha", [None, 0.35])
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_every_activation(activation, alpha, dtype):
    options = {"padding": "same", "activation": activation, "alpha": alpha}
    for name, shapes in [
        ("conv2d", ((2, 5, 6, 3), (3, 3, 3, 7))),
        ("depthwise_conv1d", ((2, 9, 5), (3, 5, 2))),
        ("conv2d_transpose", ((1, 3, 4, 3), (2, 3, 7, 3))),
    ]:
        x, w, b, dy = draw(name, *shapes, dtype, padding="same")
        check(name, x, w, b, dy, dtype, **options)
        check(name, x, w, None, dy, dtype, **options)


def test_no_images(dtype):
    x, w, b = np.zeros((0, 5, 5, 2), dtype), np.ones((3, 3, 2, 4), dtype), np.ones(4, dtype)
    y = ops.conv2d(x, w, b, padding="same")
    assert y.shape == (0, 5, 5, 4)
    outs = [np.full(s, 99, dtype) for s in [(0, 5, 5, 2), (3, 3, 2, 4), (4,)]]
    ops.conv2d_backward(y, x, y, w, b, padding="same", out=tuple(outs))
    np.testing.assert_array_equal(outs[1], 0.0)
    np.testing.assert_array_equal(outs[2], 0.0)


def test_pixels_that_nothing_reads_have_no_gradient(dtype):
    x, w = np.ones((1, 6, 6, 2), dtype), np.ones((1, 1, 2, 3), dtype)
    dx = np.full(x.shape, 99, dtype)
    dy = np.ones((1, 2, 2, 3), dtype)
    ops.conv2d_backward(dy, x, None, w, strides=3, out=(dx, None, None))
    expected = np.zeros_like(x)
    expected[:, ::3, ::3] = 3
    np.testing.assert_array_equal(dx, expected)


@pytest.mark.parametrize("name", NAMES)
def test_out(name, dtype):
    x_shape, w_shape = ((2, 9, 5), (3, 5, 5)) if "1d" in name else ((2, 5, 6, 5), (3, 2, 5, 5))
    x, w, b, dy = draw(name, x_shape, w_shape, dtype, strides=2)
    y = getattr(ops, name)(x, w, b, strides=2, activation="gelu")
    out = Output(y.shape, dtype)
    got = getattr(ops, name)(x, w, b, strides=2, activation="gelu", out=out.array)
    assert np.shares_memory(got, out.array)
    out.assert_intact()
    np.testing.assert_array_equal(got, y)
    backward = getattr(ops, name + "_backward")
    expected = backward(dy, x, y, w, b, strides=2, activation="gelu")
    outs = [Output(a.shape, dtype) for a in (x, w, b)]
    got = backward(dy, x, y, w, b, strides=2, activation="gelu", out=tuple(o.array for o in outs))
    for o, g, e in zip(outs, got, expected, strict=True):
        assert np.shares_memory(g, o.array)
        o.assert_intact()
        np.testing.assert_array_equal(g, e)


@pytest.mark.parametrize(
    ("name", "x_shape", "w_shape", "options"),
    [
        ("conv2d", (1, 300, 300, 4), (1, 1, 4, 48), {}),
        ("conv2d", (1, 300, 300, 4), (1, 1, 2, 48), {"groups": 2}),
        ("depthwise_conv2d", (1, 94, 94, 256), (3, 3, 256, 1), {"padding": "same"}),
    ],
    ids=["whole", "groups", "depthwise"],
)
def test_large_results_go_around_the_caches(name, x_shape, w_shape, options, dtype):
    """From 8 or 16 MB on, where a line of the cache is a vector and every pixel begins with one."""
    x, w, b, _ = draw(name, x_shape, w_shape, dtype, **options)
    options = {**options, "activation": "relu"}
    op = getattr(ops, name)
    expected = getattr(reference, name)(x, w, b, **options)
    sea = np.full(expected.size + 64, 77, dtype)
    line = 64 // sea.itemsize
    start = -sea.ctypes.data // sea.itemsize % line + line
    out = sea[start : start + expected.size].reshape(expected.shape)
    op(x, w, b, **options, out=out)
    assert_close(out, expected, "product", dtype=dtype, terms=terms_of(name, x, w, out)[0])
    other = Output(expected.shape, dtype).array  # not aligned
    op(x, w, b, **options, out=other)
    np.testing.assert_array_equal(out, other)
    assert set(sea[:start]) == set(sea[start + expected.size :]) == {77}


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize(
    "options",
    [{}, {"strides": (2, 1), "padding": "same"}, {"dilation": 2}, {"groups": 3}],
    ids=str,
)
def test_max_pool_inside(options, activation, dtype):
    groups = options.get("groups", 1)
    for x_shape in [(2, 9, 10, 6), (1, 6, 7, 6)]:
        x, w, b, _ = draw("conv2d", x_shape, (3, 2, 6 // groups, 9), dtype, **options)
        options = {**options, "activation": activation}
        whole = reference.conv2d(x, w, b, **options)
        expected = reference.max_pool(whole, 2)
        out = Output(expected.shape, dtype)
        y, where = ops.conv2d_max_pool(x, w, b, **options, out=out.array)
        assert np.shares_memory(y, out.array)
        out.assert_intact()
        assert_close(y, expected, "product", dtype=dtype, terms=w[..., 0].size)
        assert where.dtype == np.uint8
        dy = normal(np.random.default_rng(1), y.shape, dtype)
        through = reference.max_pool_backward(dy, whole, None, 2)
        expected = reference.conv2d_backward(through, x, whole, w, b, **options)
        outs = [Output(a.shape, dtype) for a in (x, w, b)]
        got = ops.conv2d_max_pool_backward(
            dy, x, y, where, w, b, **options, out=tuple(o.array for o in outs)
        )
        back = terms_of("conv2d", x, w, whole)[1:]
        for o, g, e, terms in zip(outs, got, expected, back, strict=True):
            assert np.shares_memory(g, o.array)
            o.assert_intact()
            assert_close(g, e, "product", dtype=dtype, terms=terms)


def test_max_pool_inside_refuses(dtype):
    x, w, b, _ = draw("conv2d", (2, 6, 6, 3), (3, 3, 3, 4), dtype)
    y, where = ops.conv2d_max_pool(x, w, b)

    def backward(dy=y, where=where, **options):
        return ops.conv2d_max_pool_backward(dy, x, y, where, w, b, **options)

    for call, text in [
        (lambda: ops.conv2d_max_pool(x, w, activation="tanh"), "must be 'linear' or 'relu'"),
        (lambda: ops.conv2d_max_pool(x[:, :3], w), r"smaller than a window of 2x2: it is \(2, 1"),
        (lambda: ops.conv2d_max_pool(x, w, out=x), "out"),
        (lambda: backward(activation="tanh"), "must be 'linear' or 'relu'"),
        (lambda: backward(dy=x), "dy has shape"),
        (lambda: backward(where=where[:1]), "where has shape"),
        (lambda: backward(out=(where.view(), None, None)), "out"),
    ]:
        with pytest.raises(ValueError, match=r"\[conv2d_max_pool(_backward)?\].*" + text):
            call()
    with pytest.raises(TypeError, match=r"where must be the uint8 that conv2d_max_pool returned"):
        backward(where=y)
    with pytest.raises(TypeError, match=r"where must be what conv2d_max_pool returned"):
        backward(where=None)


def test_bad_out_is_refused_and_left_alone(dtype):
    x, w, b, dy = draw("conv2d", (2, 4, 4, 3), (3, 3, 3, 5), dtype)
    for why, bad in bad_outputs((2, 2, 2, 5), dtype):
        before = bad.tobytes()
        with pytest.raises(ValueError, match=r"\[conv2d\].*out"):
            ops.conv2d(x, w, b, out=bad)
        assert bad.tobytes() == before, why
    for position, shape in enumerate([x.shape, w.shape]):
        for _, bad in bad_outputs(shape, dtype):
            out = [None, None, None]
            out[position] = bad
            with pytest.raises(ValueError, match=r"\[conv2d_backward\]"):
                ops.conv2d_backward(dy, x, None, w, b, out=tuple(out))
    with pytest.raises(ValueError, match=r"\[conv2d\].*shares memory with x"):
        ops.conv2d(x, np.ones((1, 1, 3, 3), dtype), out=x)
    with pytest.raises(ValueError, match=r"\[conv2d_backward\].*shares memory"):
        ops.conv2d_backward(dy, x, None, w, out=(x, None, None))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    """Another memory layout of any argument changes no bit of the result."""
    x, w, b, dy = draw("conv2d", (3, 5, 7, 6), (3, 3, 6, 17), dtype, padding="same")
    other = LAYOUTS[layout]
    y = ops.conv2d(x, w, b, padding="same", activation="tanh")
    got = ops.conv2d(other(x), other(w), other(b), padding="same", activation="tanh")
    np.testing.assert_array_equal(got, y)
    options = {"padding": "same", "activation": "tanh"}
    expected = ops.conv2d_backward(dy, x, y, w, b, **options)
    got = ops.conv2d_backward(other(dy), other(x), other(y), other(w), other(b), **options)
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(g, e)


def test_a_bad_number_is_seen_by_its_neighbours_only(dtype):
    x, w, b, _ = draw("conv2d", (2, 9, 9, 3), (3, 3, 3, 5), dtype, padding="same")
    clean = ops.conv2d(x, w, b, padding="same")
    x[1, 4, 4, 1] = np.nan
    y = ops.conv2d(x, w, b, padding="same")
    reads = np.zeros((2, 9, 9), bool)
    reads[1, 3:6, 3:6] = True
    assert np.isnan(y[reads]).all()
    np.testing.assert_array_equal(y[~reads], clean[~reads])


def test_a_bad_weight_does_not_meet_the_zeros_outside(dtype):
    """The taps outside the image are left out: no 0 * inf."""
    x, w = np.ones((1, 5, 5, 2), dtype), np.ones((3, 3, 2, 4), dtype)
    w[0, 0] = np.inf
    y = ops.conv2d(x, w, padding="same")
    np.testing.assert_array_equal(y[0, 0, 0], 8.0)
    assert np.isinf(y[0, 1:, 1:]).all()


@pytest.mark.parametrize("x_shape", [(3, 31, 33, 19), (20, 9, 9, 12)], ids=str)
def test_same_bits_for_any_number_of_threads(x_shape, dtype):
    x, w, b, dy = draw("conv2d", x_shape, (3, 3, x_shape[3], 37), dtype, padding="same")
    threads, results = _core.threads(), []
    try:
        for count in (1, 2, 3, 7):
            _core.set_threads(count)
            y = ops.conv2d(x, w, b, padding="same", activation="relu")
            back = ops.conv2d_backward(dy, x, y, w, b, padding="same", activation="relu")
            results.append((y, *back))
    finally:
        _core.set_threads(threads)
    for other in results[1:]:
        for a, e in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(a, e)


# ---- in a layer -------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "linear"])
@pytest.mark.parametrize(
    ("name", "x_shape", "w_shape", "options"),
    [
        ("conv2d", (3, 7, 9, 33), (3, 3, 33, 20), {"strides": 2, "padding": "same"}),
        ("conv2d", (3, 5, 5, 70), (1, 1, 70, 35), {}),
        ("conv2d", (1, 8, 7, 36), (3, 3, 18, 34), {"groups": 2}),
        ("conv2d", (2, 9, 37, 3), (4, 5, 3, 7), {"padding": "same", "strides": (2, 3)}),
        ("conv2d", (2, 9, 37, 1), (3, 3, 1, 7), {"padding": "same"}),
        ("conv1d", (2, 30, 9), (5, 9, 4), {"dilation": 2}),
        ("conv2d_transpose", (2, 5, 6, 37), (4, 4, 19, 37), {"strides": 2, "padding": "same"}),
        ("depthwise_conv2d", (2, 9, 8, 17), (3, 3, 17, 2), {}),
    ],
    ids=str,
)
def test_backward_goes_through_the_activation_below(
    name, x_shape, w_shape, options, activation, dtype
):
    """The same bits as one pass after the other."""
    x, w, _, dy = draw(name, x_shape, w_shape, dtype, **options)
    backward = getattr(ops, name + "_backward")
    below = ops.activation(Buffer.from_array(x), activation)
    f = below.numpy()
    apart = backward(dy, f, None, w, **options)[0]
    expected = ops.activation_backward(apart, x, f, activation)
    dx = backward(Buffer.from_array(dy), below, None, Buffer.from_array(w), **options)
    found = ops.activation_backward(dx, Buffer.from_array(x), below, activation)
    np.testing.assert_array_equal(found.view(), expected)
    if activation in ("relu", "tanh") and "depthwise" not in name:  # it was done before
        np.testing.assert_array_equal(dx.view(), expected)


@pytest.mark.parametrize("trained", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_several_calls_add_up(name, trained, dtype):
    """Of kernel and bias, where each is trained: many pixels in parts, few at once."""
    for size in (6, 70):
        shapes = ((3, size, 9), (3, 5, 9)) if "1d" in name else ((2, size, size, 9), (3, 3, 5, 9))
        if "transpose" not in name:
            shapes = (shapes[0], (*shapes[1][:-2], 9, 5))
        x, w, b, dy = draw(name, *shapes, dtype)
        variables = [Buffer.from_array(a) for a in (w, b)]
        for v, wanted in zip(variables, trained, strict=True):
            v.gradient = Buffer(v.shape, v.dtype) if wanted else None
        backward = getattr(ops, name + "_backward")
        for scale in (1, 2):
            dy_ = Buffer.from_array(dtype(scale) * dy)
            backward(dy_, Buffer.from_array(x), None, *variables)
        expected = getattr(reference, name + "_backward")(3 * dy, x, None, w, b)[1:]
        pixels = 2 * max(math.prod(x.shape[:-1]), math.prod(dy.shape[:-1]))
        for v, e in zip(variables, expected, strict=True):
            if v.gradient is not None:
                assert_close(v.gradient.numpy(), e, "product", dtype=dtype, terms=pixels)


def test_inputs_are_not_changed(dtype):
    x, w, b, dy = draw("conv2d", (2, 5, 5, 3), (3, 3, 3, 4), dtype)
    before = [a.copy() for a in (x, w, b, dy)]
    y = ops.conv2d(x, w, b, activation="softmax")
    ops.conv2d_backward(dy, x, y, w, b, activation="softmax")
    for a, e in zip((x, w, b, dy), before, strict=True):
        np.testing.assert_array_equal(a, e)


def test_shape_errors(dtype):
    def zeros(*shape):
        return np.zeros(shape, dtype)

    image, kernel = zeros(2, 8, 8, 3), zeros(3, 3, 3, 4)
    text = r"\[conv2d\] x has 4 channels but the kernel is made for 3: x is \(2, 8, 8, 4\), kernel"
    with pytest.raises(ValueError, match=text):
        ops.conv2d(zeros(2, 8, 8, 4), kernel)
    for text, x, w, options in [
        ("4 dimensions", zeros(8, 8, 3), kernel, {}),
        ("4 dimensions", image, zeros(3, 3, 3), {}),
        ("larger than the image", zeros(2, 2, 8, 3), kernel, {}),
        ("larger than the image", zeros(2, 5, 8, 3), kernel, {"dilation": 4}),
        ("larger than the image", zeros(2, 0, 8, 3), kernel, {"padding": "same"}),
        ("no elements", image, zeros(3, 0, 3, 4), {}),
        ("3 groups", zeros(2, 8, 8, 9), kernel, {"groups": 3}),
        ("2 groups", image, kernel, {"groups": 2}),
        ("groups must be", image, kernel, {"groups": 0}),
        ("groups must be", image, kernel, {"groups": 1.0}),
        ("strides must be", image, kernel, {"strides": 0}),
        ("strides must be", image, kernel, {"strides": (1, 2, 3)}),
        ("strides must be", image, kernel, {"strides": True}),
        ("strides must be", image, kernel, {"strides": 2**40}),
        ("dilation must be", image, kernel, {"dilation": (1, -1)}),
        ("dilation must be", image, kernel, {"dilation": "2"}),
        ("padding must be", image, kernel, {"padding": "full"}),
        ("padding must be", image, kernel, {"padding": (1, 1)}),
        ("padding must be", image, kernel, {"padding": ((1, 1), (1, -1))}),
        ("unknown activation", image, kernel, {"activation": "swoosh"}),
    ]:
        with pytest.raises(ValueError, match=r"\[conv2d\].*" + text):
            ops.conv2d(x, w, **options)
    with pytest.raises(ValueError, match=r"\[conv2d\].*one value for each of the 4 filters"):
        ops.conv2d(image, kernel, zeros(3))
    with pytest.raises(ValueError, match=r"\[conv2d_backward\] dy has shape"):
        ops.conv2d_backward(zeros(2, 8, 8, 4), image, None, kernel)
    with pytest.raises(ValueError, match=r"\[conv2d_backward\] y, the forward pass's output"):
        ops.conv2d_backward(zeros(2, 6, 6, 4), image, None, kernel, activation="relu")
    with pytest.raises(ValueError, match=r"\[conv1d\] x must have 3 dimensions"):
        ops.conv1d(image, zeros(3, 3, 4))
    with pytest.raises(ValueError, match=r"\[depthwise_conv2d\] x has 3 channels"):
        ops.depthwise_conv2d(image, zeros(3, 3, 2, 1))
    with pytest.raises(ValueError, match=r"\[conv2d_transpose\] x has 3 channels"):
        ops.conv2d_transpose(image, zeros(3, 3, 3, 4))
    with pytest.raises(ValueError, match=r"\[conv2d_transpose\] the padding leaves nothing"):
        ops.conv2d_transpose(image, zeros(3, 3, 4, 3), padding=((5, 5), (0, 0)))
    with pytest.raises(ValueError, match=r"\[conv2d_transpose\] output_padding must be"):
        ops.conv2d_transpose(image, zeros(3, 3, 4, 3), output_padding=-1)


def test_type_errors(dtype):
    other = np.float64 if dtype == np.float32 else np.float32
    x, w, b, dy = draw("conv2d", (2, 5, 5, 3), (3, 3, 3, 4), dtype)
    for x_, w_, b_ in [
        (x.astype(other), w, b),
        (x, w.astype(other), b),
        (x, w, b.astype(other)),
        (x.astype(np.int64), w, b),
        (x.astype(np.float16), w, b),
    ]:
        with pytest.raises(TypeError, match=r"\[conv2d\]"):
            ops.conv2d(x_, w_, b_)
    with pytest.raises(TypeError, match=r"\[conv2d_backward\]"):
        ops.conv2d_backward(dy.astype(other), x, None, w, b)
