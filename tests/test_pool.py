"""Pooling: the ops against the float64 oracle, the layers beside NumPy, and nets that pool."""

from __future__ import annotations

import json

import numpy as np
import pytest

import reference
from cases import DTYPES, LAYOUTS, POOL_CASES, Output, afloat, assert_close, bad_outputs
from ranvier import Input, Model, Sequential, check_gradients, config, layers, ops, training
from ranvier._core import Buffer

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
every_case = pytest.mark.parametrize(("shape", "pool", "strides", "padding"), POOL_CASES, ids=str)


def draw(*shape, dtype=np.float32, seed=0):
    return afloat(np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(dtype))


def terms_of(shape, pool):
    return int(np.prod(pool)) ** (1 if isinstance(pool, tuple) else len(shape) - 2)


# --- the ops --------------------------------------------------------------------------------------


@every_dtype
@every_case
def test_max_pool(shape, pool, strides, padding, dtype):
    window = (pool, strides, padding)
    x = draw(*shape, dtype=dtype)
    expected = reference.max_pool(x, *window)
    out = Output(expected.shape, dtype)
    y, where = ops.max_pool(x, *window, argmax=True, out=out.array)
    out.assert_intact()
    assert_close(y, expected, "copy", dtype=dtype)
    assert where.dtype == (np.int32 if terms_of(shape, pool) > 256 else np.uint8)
    np.testing.assert_array_equal(ops.max_pool(x, *window), y)
    dy = draw(*y.shape, dtype=dtype, seed=1)
    out = Output(shape, dtype)
    dx = ops.max_pool_backward(dy, x, where, *window, out=out.array)
    out.assert_intact()
    expected = reference.max_pool_backward(dy, x, None, *window)
    assert_close(dx, expected, "reduction", dtype=dtype, terms=terms_of(shape, pool))


@every_dtype
@every_case
def test_average_pool(shape, pool, strides, padding, dtype):
    window, terms = (pool, strides, padding), terms_of(shape, pool)
    x = draw(*shape, dtype=dtype)
    expected = reference.average_pool(x, *window)
    out = Output(expected.shape, dtype)
    y = ops.average_pool(x, *window, out=out.array)
    out.assert_intact()
    assert_close(y, expected, "reduction", dtype=dtype, terms=terms)
    dy = draw(*y.shape, dtype=dtype, seed=1)
    out = Output(shape, dtype)
    dx = ops.average_pool_backward(dy, x, *window, out=out.array)
    out.assert_intact()
    expected = reference.average_pool_backward(dy, x, *window)
    assert_close(dx, expected, "reduction", dtype=dtype, terms=terms)


@every_dtype
def test_the_mean_of_a_large_image_is_exact_to_a_few_bits(dtype):
    x = np.full((1, 1000, 1000, 1), 0.1, dtype)
    y = ops.average_pool(x, 1000)
    np.testing.assert_allclose(y, x[:, :1, :1], rtol=64 * np.finfo(dtype).eps)


@every_dtype
def test_of_equal_ones_the_first_is_the_largest(dtype):
    x = np.zeros((1, 3, 3, 5), dtype)
    x[0, 1, 2] = x[0, 2, 1] = 1
    y, where = ops.max_pool(x, 3, argmax=True)
    np.testing.assert_array_equal(y, 1)
    np.testing.assert_array_equal(where, 5)
    y, where = ops.max_pool(x, 2, 1, "same", argmax=True)
    assert where[0, 0, 0, 0] == 0  # all are zero
    y, where = ops.max_pool(x[:, :2, :2], 2, argmax=True)
    assert y[0, 0, 0, 0] == where[0, 0, 0, 0] == 0
    low = np.full((1, 2, 2, 1), -np.inf, dtype)
    assert ops.max_pool(low, 2)[0, 0, 0, 0] == -np.inf


@every_dtype
@pytest.mark.parametrize(("size", "at"), [(2, 0), (2, 2), (2, 3), (3, 0), (3, 1), (3, 4), (3, 8)])
def test_a_window_with_a_nan_is_nan(size, at, dtype):
    x = draw(1, size, size, 19, dtype=dtype)
    x.reshape(-1, 19)[at, ::2] = np.nan
    for op in (ops.max_pool, ops.average_pool):
        y = op(x, size)[0, 0, 0]
        np.testing.assert_array_equal(np.isnan(y), np.arange(19) % 2 == 0)
    y, where = ops.max_pool(x, size, argmax=True)
    dx = ops.max_pool_backward(np.ones_like(y), x, where, size).reshape(-1, 19)
    np.testing.assert_array_equal(dx[at, ::2], 1)
    np.testing.assert_array_equal(dx.sum(axis=0), 1)


@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    x = draw(4, 6, 7, 5, dtype=dtype)
    other = LAYOUTS[layout](x)
    y, where = ops.max_pool(x, 2, argmax=True)
    np.testing.assert_array_equal(ops.max_pool(other, 2), y)
    np.testing.assert_array_equal(ops.average_pool(other, 2), ops.average_pool(x, 2))
    dy = draw(*y.shape, dtype=dtype, seed=1)
    given = LAYOUTS[layout](dy), x, LAYOUTS[layout](where)
    expected = ops.max_pool_backward(dy, x, where, 2)
    np.testing.assert_array_equal(ops.max_pool_backward(*given, 2), expected)
    expected = ops.average_pool_backward(dy, x, 2)
    np.testing.assert_array_equal(ops.average_pool_backward(given[0], x, 2), expected)


def test_bad_arguments_are_refused():
    x = draw(2, 5, 4, 3)
    for op in (ops.max_pool, ops.average_pool):
        name = op.__name__
        with pytest.raises(ValueError, match=rf"\[{name}\] x must be \(batch, length, channels\)"):
            op(draw(3, 4), 2)
        for bad in (0, -1, 2.0, True, (2, 2, 2), (2, 0), "2", 2**40, None):
            with pytest.raises(ValueError, match=rf"\[{name}\] pool_size must be an integer"):
                op(x, bad)
        with pytest.raises(ValueError, match=rf"\[{name}\] strides must be an integer of at least"):
            op(x, 2, 0)
        for bad in ("SAME", None, 1):
            with pytest.raises(ValueError, match=r"padding must be 'valid' or 'same'; received"):
                op(x, 2, 2, bad)
        with pytest.raises(ValueError, match=r"the window is larger than the image: x is \(2, 5,"):
            op(x, 5)
        with pytest.raises(ValueError, match="the window is larger than the image"):
            op(draw(2, 0, 4, 3), 2, 2, "same")
        with pytest.raises(ValueError, match="the window is too large"):
            op(x, 2**20, 1, "same")
        with pytest.raises(TypeError, match="x has dtype int64"):
            op(np.ones((1, 2, 2, 1), np.int64), 2)
        for _, bad in bad_outputs((2, 2, 2, 3), np.float32):
            before = bad.tobytes()
            with pytest.raises(ValueError, match=rf"\[{name}\] out"):
                op(x, 2, out=bad)
            assert bad.tobytes() == before
        with pytest.raises(ValueError, match="out shares memory with x"):
            op(x, 1, out=x)


def test_bad_gradients_are_refused():
    x = draw(2, 5, 4, 3)
    y, where = ops.max_pool(x, 2, argmax=True)
    with pytest.raises(ValueError, match=r"dy has shape \(2, 5, 4, 3\) but the output has"):
        ops.max_pool_backward(x, x, where, 2)
    with pytest.raises(ValueError, match=r"where has shape \(2, 1, 2, 3\)"):
        ops.max_pool_backward(y, x, where[:, :1], 2)
    with pytest.raises(TypeError, match="where must be the uint8 that max_pool returned; it is"):
        ops.max_pool_backward(y, x, where.astype(np.int32), 2)
    with pytest.raises(TypeError, match="argmax=True"):
        ops.max_pool_backward(y, x, None, 2)
    with pytest.raises(ValueError, match=r"\[average_pool_backward\] dy has shape"):
        ops.average_pool_backward(x, x, 2)
    with pytest.raises(TypeError, match="dy has dtype float64"):
        ops.average_pool_backward(y.astype(np.float64), x, 2)
    with pytest.raises(ValueError, match="out shares memory with dy"):
        ops.average_pool_backward(x, x, 1, out=x)


# --- the layers -----------------------------------------------------------------------------------

POOLS = [
    (layers.MaxPooling1D, ops.max_pool, 1),
    (layers.MaxPooling2D, ops.max_pool, 2),
    (layers.AveragePooling1D, ops.average_pool, 1),
    (layers.AveragePooling2D, ops.average_pool, 2),
]
GLOBALS = [
    (layers.GlobalMaxPooling1D, np.max, 1),
    (layers.GlobalMaxPooling2D, np.max, 2),
    (layers.GlobalAveragePooling1D, np.mean, 1),
    (layers.GlobalAveragePooling2D, np.mean, 2),
]
WINDOWS = [(2, None, "valid"), (3, 2, "same"), (3, 1, "valid")]


@pytest.fixture
def float64():
    config.set_floatx("float64")


def first(x):
    """Channels first."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


@pytest.mark.parametrize(("kind", "op", "axes"), POOLS)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_layers(kind, op, axes, window):
    x = draw(2, *(7, 6)[:axes], 5)
    layer = kind(*window)
    y = layer(x)
    np.testing.assert_array_equal(y, op(x, *window))
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *y.shape[1:])
    other = kind(*window, data_format="channels_first")
    np.testing.assert_array_equal(other(first(x)), first(y))
    assert other.compute_output_shape((None, *first(x).shape[1:])) == (None, *first(y).shape[1:])
    unknown = layer.compute_output_shape((None, *[None] * axes, 5))
    assert unknown == (None, *[None] * axes, 5)


@pytest.mark.parametrize(("kind", "rule", "axes"), GLOBALS)
@pytest.mark.parametrize("keepdims", [False, True])
def test_global_layers(kind, rule, axes, keepdims):
    x = draw(2, *(7, 6)[:axes], 5)
    over = tuple(range(1, axes + 1))
    layer = kind(keepdims=keepdims)
    y = layer(x)
    np.testing.assert_allclose(y, rule(x, axis=over, keepdims=keepdims), rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *y.shape[1:])
    assert layer.compute_output_shape((None, *[None] * axes, 5)) == (None, *y.shape[1:])
    other = kind(keepdims=keepdims, data_format="channels_first")
    z = other(first(x))
    np.testing.assert_array_equal(z, first(y) if keepdims else y)
    assert other.compute_output_shape((None, *first(x).shape[1:])) == (None, *z.shape[1:])


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("kind", "op", "axes"), POOLS)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_gradients(kind, op, axes, window, data_format, float64):
    check_gradients(kind(*window, data_format=data_format), draw(2, *(5, 6)[:axes], 4))


@pytest.mark.parametrize("options", [{}, {"keepdims": True, "data_format": "channels_first"}])
@pytest.mark.parametrize(("kind", "rule", "axes"), GLOBALS)
def test_global_gradients(kind, rule, axes, options, float64):
    check_gradients(kind(**options), draw(2, *(5, 6)[:axes], 4))


def test_keras_s_other_names():
    for a, b in (
        ("MaxPool", "MaxPooling"),
        ("AvgPool", "AveragePooling"),
        ("GlobalMaxPool", "GlobalMaxPooling"),
        ("GlobalAvgPool", "GlobalAveragePooling"),
    ):
        for axes in ("1D", "2D"):
            assert getattr(layers, a + axes) is getattr(layers, b + axes)


@pytest.mark.parametrize(
    "layer",
    [
        layers.MaxPooling1D(3, 2, "same"),
        layers.MaxPooling2D((3, 2), 1, data_format="channels_first"),
        layers.AveragePooling1D(),
        layers.AveragePooling2D(2, (1, 2)),
        layers.GlobalMaxPooling1D(),
        layers.GlobalMaxPooling2D("channels_first"),
        layers.GlobalAveragePooling1D(keepdims=True),
        layers.GlobalAveragePooling2D(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    axes = layer.rank
    text = json.dumps(layers.serialize(layer))
    again = layers.deserialize(json.loads(text))
    assert json.dumps(layers.serialize(again)) == text
    x = draw(2, *(6, 7)[:axes], 5)
    np.testing.assert_array_equal(again(x), layer(x))


def test_bad_layers_are_refused():
    for bad in (0, 1.5, (2, 2, 2), "2", (2, -1), True):
        with pytest.raises(ValueError, match=r"\[MaxPooling2D\] pool_size must be an integer of"):
            layers.MaxPooling2D(bad)
    with pytest.raises(ValueError, match=r"\[AveragePooling1D\] strides must be an integer"):
        layers.AveragePooling1D(2, 0)
    with pytest.raises(ValueError, match="padding must be one of valid, same; received 'causal'"):
        layers.MaxPooling1D(padding="causal")
    with pytest.raises(ValueError, match="data_format must be one of channels_last, c"):
        layers.GlobalMaxPooling2D("NHWC")
    with pytest.raises(ValueError, match=r"MaxPooling2D needs inputs of 4 axes \(rows, \*ax"):
        layers.MaxPooling2D()(draw(2, 5, 3))
    with pytest.raises(ValueError, match=r"needs inputs of 3 axes \(rows, channels, \*axes\)"):
        layers.GlobalMaxPooling1D("channels_first")(draw(2, 5))
    with pytest.raises(ValueError, match="larger than the image"):
        layers.MaxPooling2D(4)(draw(2, 3, 5, 1))
    with pytest.raises(ValueError, match="larger than the image"):
        layers.MaxPooling2D(4, data_format="channels_first")(Input((8, 3, 5)))
    with pytest.raises(ValueError, match="the image has no pixels"):
        layers.GlobalMaxPooling2D()(Input((0, 5, 1)))


# --- through the activation below -----------------------------------------------------------------

ACTIVATIONS = {
    "relu": None, "leaky_relu": 0.3, "elu": 0.7, "sigmoid": None, "tanh": None, "selu": None,
    "softplus": None, "exponential": None, "hard_sigmoid": None, "cap": 0.4, "linear": None,
    "gelu": None, "silu": None,
}  # fmt: skip


@every_dtype
@pytest.mark.parametrize("shape", [(2, 7, 6, 16), (2, 9, 8, 21), (3, 6, 8, 21), (1, 1024, 256, 32)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backward_goes_through_the_activation_below(activation, shape, dtype):
    """The same bits as one pass after the other; the last shape is one that no cache holds."""
    large = np.prod(shape) > 1 << 20
    if large and (activation != "relu" or dtype != np.float32):
        return
    x, alpha = draw(*shape, dtype=dtype), ACTIVATIONS[activation]
    f = ops.activation(x, activation, alpha=alpha)
    below = ops.activation(Buffer.from_array(x), activation, alpha=alpha)
    window = (3, 2, "same") if shape[1] % 2 else (2, 2, "valid")
    for kind in ("max", "average"):
        if kind == "max":
            y, where = ops.max_pool(f, *window, argmax=True)
            dy = draw(*y.shape, dtype=dtype, seed=1)
            apart = ops.max_pool_backward(dy, f, where, *window)
            given = [Buffer.from_array(a) for a in (dy, where, y)]
            dx = ops.max_pool_backward(given[0], below, given[1], *window, y=given[2])
        else:
            dy = draw(*ops.average_pool(f, *window).shape, dtype=dtype, seed=1)
            apart = ops.average_pool_backward(dy, f, *window)
            dx = ops.average_pool_backward(Buffer.from_array(dy), below, *window)
        expected = ops.activation_backward(apart, x, f, activation, alpha=alpha)
        z = Buffer.from_array(x)
        found = ops.activation_backward(dx, z, below, activation, alpha=alpha)
        np.testing.assert_array_equal(found.view(), expected)
        if activation not in ("linear", "gelu", "silu"):  # y tells the slope: it was done before
            np.testing.assert_array_equal(dx.view(), expected)


@pytest.mark.parametrize("large", [False, True])
def test_threads_part_between_the_rows_of_a_window(large, threads):
    """Three of them, an even number of rows each of which has two parts."""
    shape = (1, 1024, 256, 32) if large else (5, 10, 256, 40)  # large: written around the caches
    x = draw(*shape)
    threads(1)
    y, where = ops.max_pool(x, 2, argmax=True)
    dy = draw(*y.shape, seed=1)
    here = Buffer.from_array(x)
    threads(3)
    dx = ops.max_pool_backward(Buffer.from_array(dy), here, Buffer.from_array(where), 2).view()
    np.testing.assert_array_equal(dx, reference.max_pool_backward(dy, x, None, 2))


@pytest.mark.parametrize("activation", ["relu", "tanh", "leaky_relu", "gelu", "softmax"])
def test_gradients_of_what_is_pooled_and_read_elsewhere(float64, activation):
    """One reader brings the gradient of what went into the activation, the other of its output."""
    x = Input((6, 6, 2))
    h = layers.Conv2D(4, 3, activation=activation, activity_regularizer="l2")(x)
    parts = [
        layers.MaxPooling2D(2, 1)(h),
        layers.AveragePooling2D(3, 1, "same")(layers.Conv2D(4, 2)(h)),
        layers.MaxPooling2D(2, 1)(layers.Activation("elu")(layers.Dense(4, activation="tanh")(h))),
        layers.AveragePooling2D(2, 1)(layers.ReLU(max_value=0.3, negative_slope=0.2)(h)),
    ]
    tall = [layers.Flatten()(p) for p in parts]
    check_gradients(Model(x, layers.Concatenate()([*tall, layers.GlobalMaxPooling2D()(h)])),
                    draw(3, 6, 6, 2))  # fmt: skip


# --- nets -----------------------------------------------------------------------------------------


def pooling_net():
    """Every kind, above a layer that learns, so that gradients go through all of them."""
    return Sequential(
        [
            Input((9, 8, 3)),
            layers.Dense(6, activation="tanh"),
            layers.MaxPooling2D(),
            layers.AveragePooling2D(2, 1, "same"),
            layers.MaxPooling2D(3, 1, "same", data_format="channels_first"),
            layers.Dense(4),
            layers.Reshape((16, 4)),
            layers.AveragePooling1D(),
            layers.GlobalAveragePooling1D(),
        ]
    )


def test_a_net_trains_the_same_recorded_or_not(monkeypatch):
    x, y = draw(20, 9, 8, 3), draw(20, 4, seed=2)
    found = []
    for replay in (True, False):
        monkeypatch.setattr(training, "_REPLAY", replay)
        model = pooling_net()
        model.set_weights([draw(*w.shape, seed=3) / 3 for w in model.get_weights()])
        model.compile("adam", "mse")
        losses = model.fit(x, y, batch_size=6, epochs=3, verbose=0, shuffle=False).history["loss"]
        found.append((losses, *model.get_weights(), model.predict(x)))
        assert losses[-1] < losses[0]
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradients_of_a_net(float64):
    check_gradients(pooling_net(), draw(2, 9, 8, 3))
