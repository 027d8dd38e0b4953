"""Convolutions by Winograd's method: against the float64 oracle, their bits, and when they run."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest

import ranvier
import reference
from cases import DTYPES, Output, afloat, assert_close
from ranvier import _core, check_gradients, config, layers, ops, training
from ranvier._core import Buffer
from test_tiers import CHECK, run

f32, f64 = DTYPES
both_kernels = pytest.mark.parametrize("taps", [3, 5])


@pytest.fixture
def always():
    _core.set_winograd("always")  # conftest.py takes it back


def draw(x_shape, filters, dtype, padding, seed=0, taps=3):
    r = np.random.default_rng([seed, *x_shape, filters])
    channels = x_shape[-1]
    x = afloat(r.normal(size=x_shape).astype(dtype))
    w = r.normal(0, 1 / taps / np.sqrt(channels), (taps, taps, channels, filters))
    b = afloat(r.normal(size=filters).astype(dtype))
    shape = reference.conv2d(np.zeros(x_shape), w, padding=padding).shape
    return x, afloat(w.astype(dtype)), b, afloat(r.normal(size=shape).astype(dtype))


def check(x, w, b, dy, dtype, **options):
    """Forward and backward, within the error that a sum of all the products may have."""
    y = ops.conv2d(x, w, b, **options)
    filters = w.shape[3]
    kernel = w.size // filters
    pixels = max(dy.size // filters, 36)  # of few, dw is a sum of a tile's products all the same
    expected = reference.conv2d(x, w, b, **options)
    assert_close(y, expected, "product", dtype=dtype, terms=kernel)
    got = ops.conv2d_backward(dy, x, y, w, b, **options)
    expected = reference.conv2d_backward(dy, x, y, w, b, **options)
    for g, e, terms in zip(got, expected, (w[:, :, 0].size, pixels, pixels), strict=True):
        if e is not None:
            assert_close(g, e, "product", dtype=dtype, terms=terms)


PADDINGS = ("valid", "same", ((2, 2), (2, 2)), ((0, 1), (2, 0)), ((3, 5), (4, 3)))


@both_kernels
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_among_neighbours(always, taps, bad):
    x, w, _, _ = draw((1, 20, 20, 8), 8, f32, "same", taps=taps)
    x[0, 9, 10, 3] = bad
    y = ops.conv2d(x, w, padding="same")
    reached = np.argwhere(~np.isfinite(y).all(axis=-1))[:, 1:]
    reach, tile = taps // 2, {3: 4, 5: 2}[taps]
    assert len(reached) >= taps**2
    assert (np.abs(reached - [9, 10]) <= reach + tile - 1).all()


@both_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 17, 32, 33, 70])
def test_channels_and_filters(always, channels, dtype, taps):
    for filters in (1, 3, 17, 32, 33, 70):
        x, w, b, dy = draw((1, 5, 6, channels), filters, dtype, "same", taps=taps)
        check(x, w, b, dy, dtype, padding="same", activation="relu")


@both_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", PADDINGS, ids=str)
def test_sizes_and_paddings(always, padding, dtype, taps):
    """Every remainder of tiles of 4x4, borders on every side, and images smaller than a patch."""
    sizes = [(3, 3), (4, 5), (6, 3), (7, 8), (9, 4), (10, 14), (13, 11)]
    for seed, (height, width) in enumerate(sizes):
        more = taps - 3  # as many outputs of either kernel
        x, w, b, dy = draw((2, height + more, width + more, 5), 4, dtype, padding, seed, taps)
        check(x, w, b, dy, dtype, padding=padding)
        check(x, w, None, dy, dtype, padding=padding, activation="tanh")


@both_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("height", range(1, 9))
def test_each_kind_of_tile(always, height, dtype, taps):
    """Whole ones, those of two or one outputs at the right, at the bottom, and at the corner."""
    for width in range(1, 10):
        x, w, b, dy = draw((2, height, width, 3), 5, dtype, "same", taps=taps)
        check(x, w, b, dy, dtype, padding="same", activation="relu")


@both_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(3, 51, 40), (3, 50, 41), (40, 10, 9), (200, 2, 2)], ids=str)
def test_many_tiles(always, size, dtype, taps):
    """Groups of one kind of tiles and of several; runs of them with sums of their own."""
    x, w, b, dy = draw((*size, 19), 35, dtype, "same", taps=taps)
    check(x, w, b, dy, dtype, padding="same", activation="relu")


@both_kernels
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_activations(always, activation, taps):
    x, w, b, dy = draw((2, 6, 9, 8), 21, f32, "valid", taps=taps)
    check(x, w, b, dy, f32, activation=activation)


@both_kernels
def test_large_results_go_around_the_caches(always, taps):
    """From 16 MB on, where a line of the cache is a vector."""
    x, w, b, dy = draw((1, 365, 364, 2), 32, f32, "valid", taps=taps)
    b, dy = np.maximum(b, 0), np.sign(dy)  # neither much nor little of it through relu
    expected = reference.conv2d(x, w, b, activation="relu")
    sea = np.full(expected.size + 64, 77, f32)
    start = -sea.ctypes.data // 4 % 16 + 16  # at a multiple of 64 bytes
    out = sea[start : start + expected.size].reshape(expected.shape)
    ops.conv2d(x, w, b, activation="relu", out=out)
    assert_close(out, expected, "product", dtype=f32, terms=w[..., 0].size)
    other = ops.conv2d(x, w, b, activation="relu", out=Output(expected.shape, f32).array)
    np.testing.assert_array_equal(out, other)  # that one is not aligned
    assert set(sea[:start]) == set(sea[start + expected.size :]) == {77}


@both_kernels
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_images(always, dtype, taps):
    x, w, b = np.zeros((0, 5, 5, 2), dtype), np.ones((taps, taps, 2, 4), dtype), np.ones(4, dtype)
    y = ops.conv2d(x, w, b, padding="same")
    assert y.shape == (0, 5, 5, 4)
    dx, dw, db = ops.conv2d_backward(y, x, y, w, b, padding="same")
    assert dx.shape == x.shape
    np.testing.assert_array_equal(dw, np.zeros(w.shape))
    np.testing.assert_array_equal(db, np.zeros(4))


@both_kernels
@pytest.mark.parametrize("dtype", DTYPES)
def test_transposed_convolution(always, dtype, taps):
    r = np.random.default_rng(0)
    x = r.normal(size=(2, 7, 6, 9)).astype(dtype)
    w, b = (r.normal(size=s).astype(dtype) for s in [(taps, taps, 5, 9), 5])
    for padding in ("same", "valid"):
        expected = reference.conv2d_transpose(x, w, b, padding=padding, activation="elu")
        y = ops.conv2d_transpose(x, w, b, padding=padding, activation="elu")
        assert_close(y, expected, "product", dtype=dtype, terms=9 * taps**2)
        dy = r.normal(size=y.shape).astype(dtype)
        options = {"padding": padding, "activation": "elu"}
        got = ops.conv2d_transpose_backward(dy, x, y, w, b, **options)
        expected = reference.conv2d_transpose_backward(dy, x, y, w, b, **options)
        for g, e in zip(got, expected, strict=True):
            assert_close(g, e, "product", dtype=dtype, terms=dy.size // 5)


# ---- with the pooling of its output ------------------------------------------------------------

POOLED = {"never": [(9, 8)], "always": [(2, 3), (4, 5), (5, 6), (6, 7), (9, 4), (13, 15), (28, 14)]}


@both_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize("use", POOLED)
def test_pooling_inside_gives_the_same_bits(use, padding, dtype, taps):
    """Of every kind of tile, with windows cut by the image's end and by its beginning."""
    _core.set_winograd(use)
    for height, width in POOLED[use]:
        for channels, filters in [(3, 5), (32, 35)]:
            more = 0 if padding == "same" else taps - 1
            shape = (2, height + more, width + more, channels)
            x, w, b, _ = draw(shape, filters, dtype, padding, taps=taps)
            options = {"padding": padding, "activation": ("linear", "relu")[height % 2]}
            whole = ops.conv2d(x, w, b, **options)
            expected, places = ops.max_pool(whole, 2, argmax=True)
            y, where = ops.conv2d_max_pool(x, w, b, **options)
            np.testing.assert_array_equal(y, expected)
            np.testing.assert_array_equal(where, places)
            dy = np.random.default_rng(7).normal(size=y.shape).astype(dtype)
            through = ops.max_pool_backward(dy, whole, where, 2)
            expected = ops.conv2d_backward(through, x, whole, w, b, **options)
            got = ops.conv2d_max_pool_backward(dy, x, y, where, w, b, **options)
            for g, e in zip(got, expected, strict=True):
                np.testing.assert_array_equal(g, e)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pooling_inside_of_equal_ones_and_of_nans(always, dtype):
    x, w, b, _ = draw((1, 8, 8, 3), 37, dtype, "same")
    x[0, 3, 5] = np.nan
    w[..., 1] = 0  # all are b
    expected, places = ops.max_pool(ops.conv2d(x, w, b, padding="same"), 2, argmax=True)
    y, where = ops.conv2d_max_pool(x, w, b, padding="same")
    assert np.isnan(y).any()
    assert not np.isnan(y).all()
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(where, places)
    assert set(where[0, 3, :, 1]) == {0}


def test_pooling_inside_pays_where_the_convolution_does():
    x, w, b, _ = draw((4, 28, 28, 32), 64, f32, "same")
    found = {}
    for use in ("never", "auto", "always"):
        _core.set_winograd(use)
        found[use] = ops.conv2d_max_pool(x, w, b, padding="same")[0]
    assert np.array_equal(found["auto"], found["always"])
    assert not np.array_equal(found["auto"], found["never"])


# ---- in a layer -------------------------------------------------------------------------------


@both_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "gelu", "linear"])
@pytest.mark.parametrize(
    ("x_shape", "filters"), [((2, 9, 11, 33), 5), ((2, 8, 8, 32), 7), ((1, 363, 362, 32), 2)]
)
def test_backward_goes_through_the_activation_below(
    always, x_shape, filters, activation, dtype, taps
):
    """The same bits as one pass after the other; the last result goes around the caches."""
    large = np.prod(x_shape) > 1 << 20
    if large and (activation != "relu" or dtype != f32):
        return
    x, w, _, dy = draw(x_shape, filters, dtype, "same", taps=taps)
    options = {"padding": "same"}
    below = ops.activation(Buffer.from_array(x), activation, alpha=0.3)
    f = below.numpy()
    apart = ops.conv2d_backward(dy, f, None, w, **options)[0]
    expected = ops.activation_backward(apart, x, f, activation, alpha=0.3)
    dx = ops.conv2d_backward(Buffer.from_array(dy), below, None, Buffer.from_array(w), **options)
    found = ops.activation_backward(dx, Buffer.from_array(x), below, activation, alpha=0.3)
    np.testing.assert_array_equal(found.view(), expected)
    if activation in ("relu", "leaky_relu", "tanh"):  # y tells the slope: it was done before
        np.testing.assert_array_equal(dx.view(), expected)


@both_kernels
def test_transposed_backward_goes_through_the_activation_below(always, taps):
    x, w, _, dy = draw((2, 9, 11, 33), 33, f32, "same", taps=taps)
    below = ops.activation(Buffer.from_array(x), "relu")
    apart = ops.conv2d_transpose_backward(dy, below.numpy(), None, w, padding="same")[0]
    expected = ops.activation_backward(apart, x, below.numpy(), "relu")
    dx = ops.conv2d_transpose_backward(
        Buffer.from_array(dy), below, None, Buffer.from_array(w), padding="same"
    )
    np.testing.assert_array_equal(dx.view(), expected)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_gradients_of_a_shared_layer(always, activation):
    """Kernel and bias gather the gradients of two calls, and their input those of two readers."""
    config.set_floatx("float64")
    shared = layers.Conv2D(5, 3, padding="same", activation=activation)
    turned = layers.Conv2DTranspose(4, 5, padding="same", activation=activation)
    x = ranvier.Input((6, 7, 3))
    first = layers.Conv2D(3, 3, padding="same", activation=activation)(x)
    h = layers.Add()([shared(first), shared(x)])
    y = layers.Concatenate()([turned(h), turned(layers.ReLU()(h)), shared(first)])
    data = np.random.default_rng(3).normal(size=(2, 6, 7, 3))
    error = check_gradients(ranvier.Model(x, y), data)
    assert max(error.values()) < 1e-6


@pytest.mark.parametrize("trainable", [True, False])
def test_a_net_trains_the_same_recorded_or_not(always, monkeypatch, trainable):
    r = np.random.default_rng(5)
    x, y = r.normal(size=(8, 14, 14, 3)).astype(f32), r.integers(0, 4, 8)
    found = []
    for replay in (True, False):
        monkeypatch.setattr(training, "_REPLAY", replay)
        ranvier.utils.set_random_seed(9)
        shared = layers.Conv2D(33, 3, padding="same", activation="relu")
        image = ranvier.Input((14, 14, 3))
        first = layers.Conv2D(33, 5, activation="relu", trainable=trainable)
        h = shared(layers.MaxPooling2D()(shared(first(image))))
        model = ranvier.Model(image, layers.Dense(4, "softmax")(layers.Flatten()(h)))
        model.compile("adam", "sparse_categorical_crossentropy")
        losses = model.fit(x, y, batch_size=4, epochs=3, verbose=0).history["loss"]
        found.append([losses, *model.get_weights()])
    for recorded, composed in zip(*found, strict=True):
        np.testing.assert_array_equal(recorded, composed)


def bits():
    """The bits of all passes, over shapes that are cut in every way."""
    digest = hashlib.sha256()
    for x_shape, filters in [
        ((2, 9, 7, 5), 3),
        ((3, 21, 22, 33), 70),
        ((1, 40, 41, 70), 33),
        ((9, 14, 14, 16), 32),
        ((1, 10, 9, 20), 200),
        ((1, 10, 9, 20), 48),
        ((1, 10, 9, 40), 20),
    ]:
        for dtype, taps in itertools.product(DTYPES, (3, 5)):
            x, w, b, dy = draw(x_shape, filters, dtype, "same", taps=taps)
            y = ops.conv2d(x, w, b, padding="same", activation="relu")
            for a in (y, *ops.conv2d_backward(dy, x, y, w, b, padding="same", activation="relu")):
                digest.update(a)
            y, where = ops.conv2d_max_pool(x, w, b, padding="same")
            for a in (
                y, where, *ops.conv2d_max_pool_backward(y, x, None, where, w, b, padding="same")
            ):  # fmt: skip
                digest.update(a)
    return digest.hexdigest()


def test_any_number_of_threads_gives_the_same_bits(always):
    threads = _core.threads()
    try:
        found = set()
        for count in range(1, 8):
            _core.set_threads(count)
            found.add(bits())
    finally:
        _core.set_threads(threads)
    assert len(found) == 1


@both_kernels
@pytest.mark.parametrize(
    ("height", "channels", "filters"),
    [(8, 16, 64), (8, 48, 32), (100, 16, 16)],
    ids=["by filters", "by channels", "by runs of tiles"],
)
def test_a_kernel_gradient_is_cut_for_two_threads(always, taps, height, channels, filters):
    shapes = [(1, height, 8, channels), (taps, taps, channels, filters), (1, height, 8, filters)]
    x, w, dy = (_core.Buffer(shape, "float32") for shape in shapes)
    x.constant = True
    w.gradient = _core.Buffer(w.shape, "float32")
    program = _core.Program(_core.Pool())
    program.begin()
    ops.conv2d_backward(dy, x, None, w, None, padding="same")
    program.end()
    threads = _core.threads()
    _core.set_threads(2)
    program.run(10, 60.0)
    _core.set_threads(threads)
    (_, chunks, *_), _ = program.plan
    assert chunks == 2


def test_tiers_with_fused_multiply_add_give_the_same_bits():
    tiers = [t for t in _core.supported_isas() if t in ("avx2", "avx512")]
    if len(tiers) < 2:
        pytest.skip("needs a CPU with AVX-512")
    code = (
        "import test_winograd; from ranvier import _core; _core.set_winograd('always'); "
        "print(_core.kernel_isa(), test_winograd.bits())"
    )
    reports = []
    for tier in tiers:
        done = run(tier, "-c", f"import sys; sys.path.insert(0, {str(CHECK.parent)!r}); {code}")
        assert done.returncode == 0, done.stderr
        reports.append(done.stdout.split())
    assert [isa for isa, _ in reports] == tiers
    assert reports[0][1] == reports[1][1]


# ---- when it runs ----------------------------------------------------------------------------


def same_as(use, x, w, **options):
    """Whether the default's bits are those of this use."""
    default = ops.conv2d(x, w, **options)
    _core.set_winograd(use)
    forced = ops.conv2d(x, w, **options)
    _core.set_winograd("auto")
    return bool(np.array_equal(default, forced))


@pytest.mark.parametrize(
    ("x_shape", "filters", "taps", "runs"),
    [
        ((4, 28, 28, 32), 64, 3, True),
        ((8, 14, 14, 64), 128, 3, True),
        ((4, 28, 28, 16), 24, 3, True),
        ((4, 28, 28, 15), 64, 3, False),  # thin
        ((4, 28, 28, 64), 8, 3, False),
        ((8, 7, 7, 64), 64, 3, True),
        ((1, 5, 5, 64), 64, 3, False),  # few tiles for a kernel
        ((1, 7, 7, 512), 512, 3, False),  # its transform is larger than the caches
        ((4, 28, 28, 32), 64, 5, True),
        ((1, 14, 14, 64), 64, 5, True),
        ((4, 28, 28, 15), 64, 5, False),
        ((4, 28, 28, 64), 8, 5, False),
        ((8, 5, 5, 48), 16, 5, False),  # half of what the tiles compute is not there
        ((1, 7, 7, 512), 512, 5, False),
    ],
)
def test_where_it_pays(x_shape, filters, taps, runs):
    x, w, _, _ = draw(x_shape, filters, f32, "same", taps=taps)
    assert same_as("always", x, w, padding="same") == runs
    assert same_as("never", x, w, padding="same") != runs


def test_never_in_float64_unless_asked():
    x, w, _, _ = draw((4, 28, 28, 32), 64, f64, "same")
    assert same_as("never", x, w, padding="same")
    assert not same_as("always", x, w, padding="same")


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ((3, 3), {"strides": 2}),
        ((5, 5), {"dilation": 2}),
        ((3, 2), {}),
        ((3, 5), {}),
        ((4, 4), {}),
        ((7, 7), {}),
    ],
)
def test_only_plain_kernels_of_3x3_and_5x5(always, kernel, options):
    r = np.random.default_rng(0)
    x, w = r.normal(size=(1, 16, 16, 32)), r.normal(size=(*kernel, 32, 32))
    y = ops.conv2d(x, w, **options)
    assert_close(y, reference.conv2d(x, w, **options), "product", terms=w[..., 0].size)


@both_kernels
def test_set_precision(taps):
    x, w, _, _ = draw((4, 28, 28, 32), 64, f32, "same", taps=taps)
    assert ranvier.precision() == "fast"
    fast = ops.conv2d(x, w)
    ranvier.set_precision("highest")
    assert ranvier.precision() == "highest"
    assert _core.winograd() == "never"
    highest = ops.conv2d(x, w)
    assert not np.array_equal(fast, highest)
    exact = reference.conv2d(x, w)
    errors = [np.abs(y - exact).mean() for y in (fast, highest)]
    assert errors[1] < errors[0] < 4 * errors[1]
    ranvier.set_precision("fast")
    np.testing.assert_array_equal(ops.conv2d(x, w), fast)


@pytest.mark.parametrize("value", ["high", "Fast", None, 1])
def test_set_precision_refuses(value):
    with pytest.raises(ValueError, match=r'\[set_precision\] value must be "fast" or "highest"'):
        config.set_precision(value)
    assert config.precision() == "fast"


def test_set_winograd_refuses():
    with pytest.raises(ValueError, match=r"\[set_winograd\].*'always'; received 'yes'"):
        _core.set_winograd("yes")
    assert _core.winograd() == "auto"


class Conv(layers.Layer):
    """Just enough of a layer to be recorded."""

    kernel = (3, 3)

    def build(self, input_shape):
        self.w = self.add_weight((*self.kernel, input_shape[-1], 32), name="w")

    def forward(self, x, *, training=False):
        y = ops.conv2d(x, self.w, padding="same")

        def backward(dy):
            return ops.conv2d_backward(dy, x, y, self.w, padding="same")

        return y, backward


def test_recorded_steps_follow_the_precision():
    """A recorded step is not repeated at another precision, in predict, call and fit."""
    r = np.random.default_rng(0)
    x = r.normal(size=(4, 16, 16, 32)).astype(f32)
    y = r.normal(size=(4, 16, 16, 32)).astype(f32)

    def model():
        ranvier.utils.set_random_seed(3)
        m = ranvier.Sequential([Conv(), Conv()])
        m.compile("sgd", "mean_squared_error")
        return m

    def all_ways(m):
        return m.predict(x, verbose=0), m(x), m(x), m.train_on_batch(x, y)

    seen = {}
    for precision in ("fast", "highest"):
        ranvier.set_precision(precision)
        seen[precision] = all_ways(model())
    for a, b in zip(seen["fast"][:3], seen["highest"][:3], strict=True):
        assert not np.array_equal(a, b)

    for first, second in [("fast", "highest"), ("highest", "fast")]:
        m = model()
        ranvier.set_precision(first)
        m.build((None, 16, 16, 32))
        before = m.get_weights()
        all_ways(m)
        m.set_weights(before)
        ranvier.set_precision(second)
        for got, expected in zip(all_ways(m), seen[second], strict=True):
            np.testing.assert_array_equal(got, expected)


@both_kernels
def test_gradients_in_float64(always, taps):
    layer = Conv(dtype="float64")
    layer.kernel = (taps, taps)
    error = ranvier.check_gradients(layer, np.random.default_rng(0).normal(size=(2, 6, 5, 7)))
    assert max(error.values()) < 1e-6
