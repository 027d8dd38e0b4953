"""Layers of convolution: values beside the float64 oracle, derivatives, shapes, configs, nets."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from cases import DTYPES, assert_close
from ranvier import (
    Input,
    Model,
    Sequential,
    _core,
    check_gradients,
    config,
    initializers,
    layers,
    ops,
)
from ranvier import training as training_module

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])


def draw(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(dtype)


# (layer, its arguments, the oracle's name)
CASES = [
    ("Conv2D", dict(filters=5, kernel_size=3), "conv2d"),
    ("Conv2D", dict(filters=4, kernel_size=(3, 2), strides=(2, 1), padding="same"), "conv2d"),
    ("Conv2D", dict(filters=4, kernel_size=3, groups=2, dilation_rate=(1, 2)), "conv2d"),
    ("Conv2D", dict(filters=17, kernel_size=1, strides=2, use_bias=False), "conv2d"),
    ("Conv1D", dict(filters=5, kernel_size=3, padding="causal", dilation_rate=2), "conv1d"),
    ("Conv1D", dict(filters=6, kernel_size=2, padding="same", strides=3, groups=2), "conv1d"),
    ("DepthwiseConv2D", dict(kernel_size=3, depth_multiplier=2), "depthwise_conv2d"),
    ("DepthwiseConv2D", dict(kernel_size=2, strides=2, padding="same"), "depthwise_conv2d"),
    ("DepthwiseConv1D", dict(kernel_size=3, dilation_rate=2), "depthwise_conv1d"),
    ("Conv2DTranspose", dict(filters=3, kernel_size=4, strides=2, padding="same"), None),
    ("Conv2DTranspose", dict(filters=3, kernel_size=(2, 3), strides=(3, 2)), None),
    (
        "Conv2DTranspose",
        dict(filters=3, kernel_size=3, strides=2, padding="same", output_padding=(1, 0)),
        None,
    ),
    ("Conv1DTranspose", dict(filters=3, kernel_size=3, strides=2), None),
    ("SeparableConv2D", dict(filters=5, kernel_size=3, depth_multiplier=2, strides=2), None),
    ("SeparableConv1D", dict(filters=5, kernel_size=3, padding="same"), None),
]
every_case = pytest.mark.parametrize(
    ("name", "arguments", "op"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)


def expected(layer, x):
    """What the oracle makes of a layer's own arguments and variables."""
    rank = layer.rank
    one = (lambda v: v[0]) if rank == 1 else (lambda v: v)
    options = {
        "strides": one(layer.strides),
        "dilation": one(layer.dilation_rate),
        "padding": layer.padding,
    }
    if layer.padding == "causal":
        options["padding"] = ((layer.kernel_size[0] - 1) * layer.dilation_rate[0], 0)
    bias = None if layer.bias is None else layer.bias.numpy()
    kind = type(layer).__name__
    if kind.startswith("Separable"):
        h = getattr(reference, f"depthwise_conv{rank}d")(
            x, layer.depthwise_kernel.numpy(), **options
        )
        return getattr(reference, f"conv{rank}d")(
            h, layer.pointwise_kernel.numpy(), bias, activation=layer.activation
        )
    options["activation"] = layer.activation
    op = f"conv{rank}d"
    if kind.startswith("Depthwise"):
        op = f"depthwise_{op}"
    elif kind.endswith("Transpose"):
        op = f"{op}_transpose"
        options["output_padding"] = layer.output_padding and one(layer.output_padding)
    else:
        options["groups"] = layer.groups
    return getattr(reference, op)(x, layer.kernel.numpy(), bias, **options)


def image(layer, dtype=np.float32, rows=2, channels=4):
    return draw(rows, *(9, 8)[: layer.rank], channels, dtype=dtype)


@every_dtype
@every_case
@pytest.mark.parametrize("activation", [None, "tanh", "softmax"])
def test_values(name, arguments, op, activation, dtype):
    layer = getattr(layers, name)(
        **arguments, activation=activation, bias_initializer="normal", dtype=dtype
    )
    x = image(layer, dtype)
    y = layer(x)
    assert_close(y, expected(layer, x), "product", dtype=dtype, terms=100)
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *y.shape[1:])
    if activation == "softmax":
        np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-5)


@every_case
def test_channels_first_is_the_same_with_other_axes(name, arguments, op):
    last = getattr(layers, name)(**arguments, activation="relu")
    first = getattr(layers, name)(**arguments, activation="relu", data_format="channels_first")
    x = image(last)
    turned = np.moveaxis(x, -1, 1)
    y = last(x)
    first.ensure_built((None, *turned.shape[1:]))
    first.set_weights(last.get_weights())
    np.testing.assert_array_equal(first(turned), np.moveaxis(y, -1, 1))
    shape = first.compute_output_shape((None, *turned.shape[1:]))
    assert shape == (None, y.shape[-1], *y.shape[1:-1])


@pytest.fixture
def float64():
    config.set_floatx("float64")


@every_case
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_gradients(name, arguments, op, data_format, float64):
    layer = getattr(layers, name)(**arguments, activation="tanh", data_format=data_format)
    x = image(layer, np.float64)
    if data_format == "channels_first":
        x = np.moveaxis(x, -1, 1)
    errors = check_gradients(layer, x, samples=40)
    variables = 1 + layer.use_bias + name.startswith("Separable")
    assert len(errors) == 1 + variables


@every_case
def test_configs(name, arguments, op):
    layer = getattr(layers, name)(
        **arguments, activation="relu", bias_regularizer="l2", activity_regularizer="l1"
    )
    found = layer.get_config()
    for key, value in arguments.items():
        assert found[key] in (value, (value,) * layer.rank)
    assert found["activation"] == "relu"
    again = layers.deserialize(layers.serialize(layer))
    assert again.get_config() == found
    x = image(layer)
    layer(x)
    again(x)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), layer(x))


@pytest.mark.parametrize(
    ("name", "arguments", "shapes"),
    [
        ("Conv2D", dict(filters=6, kernel_size=3), {"kernel": (3, 3, 4, 6), "bias": (6,)}),
        ("Conv2D", dict(filters=6, kernel_size=3, groups=2), {"kernel": (3, 3, 2, 6)}),
        ("Conv1D", dict(filters=6, kernel_size=3), {"kernel": (3, 4, 6)}),
        ("Conv2DTranspose", dict(filters=6, kernel_size=(2, 3)), {"kernel": (2, 3, 6, 4)}),
        ("DepthwiseConv2D", dict(kernel_size=3, depth_multiplier=2), {"bias": (8,)}),
        (
            "SeparableConv2D",
            dict(filters=6, kernel_size=3, depth_multiplier=2),
            {"depthwise_kernel": (3, 3, 4, 2), "pointwise_kernel": (1, 1, 8, 6), "bias": (6,)},
        ),
    ],
)
def test_variables(name, arguments, shapes):
    layer = getattr(layers, name)(**arguments)
    layer(image(layer))
    found = {v.name: v.shape for v in layer.weights}
    assert shapes.items() <= found.items()
    assert all(v.path.startswith(layer.name) for v in layer.weights)


def test_glorot_fans_of_a_window():
    assert initializers.compute_fans((3, 5, 7, 11)) == (3 * 5 * 7, 3 * 5 * 11)
    layer = layers.Conv2D(64, 3)
    layer(draw(1, 5, 5, 32))
    limit = np.sqrt(6 / (9 * 32 + 9 * 64))
    kernel = layer.kernel.numpy()
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)


def test_other_names():
    assert layers.Convolution2D is layers.Conv2D
    assert layers.Convolution1D is layers.Conv1D
    assert layers.Convolution2DTranspose is layers.Conv2DTranspose
    assert layers.SeparableConvolution2D is layers.SeparableConv2D


def test_positional_arguments_stand_where_keras_has_them():
    conv = layers.Conv2D(8, (3, 2), (2, 1), "same", "channels_first", 1, 2, "relu", False)
    assert (conv.filters, conv.kernel_size, conv.strides, conv.padding) == (
        8,
        (3, 2),
        (2, 1),
        "same",
    )
    assert (conv.data_format, conv.groups, conv.activation) == ("channels_first", 2, "relu")
    assert not conv.use_bias
    back = layers.Conv2DTranspose(8, 3, 2, "same", 1, "channels_first", 1, "relu")
    assert (back.output_padding, back.data_format, back.activation) == (
        (1, 1), "channels_first", "relu"
    )  # fmt: skip
    depth = layers.DepthwiseConv2D(3, 2, "same", 2, "channels_first", 1, "relu")
    assert (depth.depth_multiplier, depth.activation) == (2, "relu")
    two = layers.SeparableConv2D(8, 3, 2, "same", "channels_first", 1, 2, "relu")
    assert (two.depth_multiplier, two.activation) == (2, "relu")


def test_images_of_unknown_size():
    x = Input((None, None, 3))
    y = layers.Conv2D(4, 3, padding="same")(x)
    assert y.shape == (None, None, None, 4)
    y = layers.Conv2DTranspose(2, 3, strides=2)(y)
    assert y.shape == (None, None, None, 2)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: layers.Conv2D(0, 3), r"\[Conv2D\] filters must be an integer of at least 1"),
        (lambda: layers.Conv2D(4, 0), "kernel_size must be an integer of at least 1"),
        (lambda: layers.Conv2D(4, (3, 3, 3)), "kernel_size must be .*, or a tuple of 2"),
        (lambda: layers.Conv2D(4, 2.5), "kernel_size must be an integer"),
        (lambda: layers.Conv2D(4, 3, strides=-1), "strides must be"),
        (lambda: layers.Conv2D(4, 3, dilation_rate=0), "dilation_rate must be"),
        (lambda: layers.Conv2D(4, 3, padding="causal"), "padding must be one of valid, same; "),
        (lambda: layers.Conv1D(4, 3, padding=1), "padding must be one of valid, same, causal"),
        (lambda: layers.Conv2D(4, 3, groups=3), "filters must be a multiple of groups"),
        (lambda: layers.Conv2D(4, 3, data_format="NHWC"), "data_format must be"),
        (lambda: layers.Conv2D(4, 3, activation="no"), "no"),
        (lambda: layers.Conv2D(4, 3)(draw(5, 6, 3)), "needs inputs of 4 axes"),
        (lambda: layers.Conv2D(4, 3)(Input((6, 6, None))), "known number of channels"),
        (lambda: layers.Conv2D(4, 3)(draw(5, 2, 6, 3)), "the window does not fit"),
        (lambda: layers.Conv2D(4, 3, groups=2)(draw(5, 6, 6, 3)), "channels must be a multiple"),
        (
            lambda: layers.Conv2DTranspose(4, 3, strides=2, output_padding=2),
            "must be below strides",
        ),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=0), "depth_multiplier must be"),
    ],
)
def test_errors(make, why):
    with pytest.raises(ValueError, match=why):
        make()


def test_another_number_of_channels_is_refused():
    layer = layers.Conv2D(4, 3)
    layer(draw(1, 5, 5, 3))
    with pytest.raises(ValueError, match="axis -1 must be 3"):
        layer(draw(1, 5, 5, 2))


# --- nets -----------------------------------------------------------------------------------------


def net():
    """A residual block, a branch that shrinks and grows again."""
    x = Input((8, 8, 2))
    h = layers.Conv2D(6, 3, padding="same", activation="relu", name="a")(x)
    small = layers.DepthwiseConv2D(3, strides=2, padding="same", name="b")(h)
    back = layers.Conv2DTranspose(6, 2, strides=2, activation="tanh", name="c")(small)
    h = layers.add([h, back, layers.SeparableConv2D(6, 3, padding="same", name="d")(h)])
    y = layers.Dense(3, activation="softmax", name="e")(layers.Flatten()(h))
    return Model(x, y)


def test_gradients_of_a_net(float64):
    check_gradients(net(), draw(3, 8, 8, 2, dtype=np.float64), samples=20)


def test_a_net_trains_the_same_recorded_or_not(monkeypatch):
    x, y = draw(40, 8, 8, 2), np.arange(40) % 3
    found = []
    for replay in (True, False):
        monkeypatch.setattr(training_module, "_REPLAY", replay)
        model = net()
        model.set_weights([draw(*w.shape, seed=3) / 4 for w in model.get_weights()])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        history = model.fit(x, y, batch_size=16, epochs=4, verbose=0, shuffle=False).history
        found.append((history["loss"], *model.get_weights()))
        assert history["loss"][-1] < history["loss"][0]
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


# --- with the pooling of the output ---------------------------------------------------------------


@pytest.fixture
def pools(monkeypatch):
    """The outputs of convolutions that pooled as well."""
    found, op = [], ops.conv2d_max_pool

    def noted(*args, **options):
        found.append(op(*args, **options))
        return found[-1]

    monkeypatch.setattr(ops, "conv2d_max_pool", noted)
    return found


class Apart(layers.Conv2D):
    def forward(self, x, *, training=False):
        return super().forward(x, training=training)


def pooling_net(kind, data_format="channels_last"):
    last = data_format == "channels_last"
    same = {"data_format": data_format}
    return Sequential(
        [
            Input((15, 17, 3) if last else (3, 15, 17)),
            kind(24, 3, activation="relu", **same),
            layers.MaxPooling2D(**same),  # of 13x15
            kind(33, 3, padding="same", **same),
            layers.MaxPooling2D(2, padding="same", **same) if last else layers.ReLU(),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


@pytest.mark.parametrize("use", ["always", "never"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_a_convolution_pools_its_output(data_format, use, pools, monkeypatch):
    """Training and predict give the same bits as one layer after the other."""
    _core.set_winograd(use)
    x = draw(20, *((15, 17, 3) if data_format == "channels_last" else (3, 15, 17)))
    y = np.arange(20) % 3
    found = []
    for kind, replay in [(Apart, True), (layers.Conv2D, True), (layers.Conv2D, False)]:
        monkeypatch.setattr(training_module, "_REPLAY", replay)
        model = pooling_net(kind, data_format)
        model.set_weights([draw(*w.shape, seed=3) / 4 for w in model.get_weights()])
        model.compile("adam", "sparse_categorical_crossentropy")
        history = model.fit(x, y, batch_size=8, epochs=3, verbose=0, shuffle=False).history
        assert all(where is not None for _, where in pools)
        before = len(pools)
        found.append((history["loss"], model.predict(x, verbose=0), *model.get_weights()))
        assert all(where is None for _, where in pools[before:])  # nobody asks for a gradient
        assert (before > 0) == (len(pools) > before) == (kind is layers.Conv2D)
        pools.clear()
    for apart, recorded, composed in zip(*found, strict=True):
        np.testing.assert_array_equal(recorded, apart)
        np.testing.assert_array_equal(composed, apart)


@pytest.mark.parametrize("use", ["always", "never"])
def test_gradients_of_a_convolution_that_pools(use, float64, pools):
    _core.set_winograd(use)
    check_gradients(pooling_net(layers.Conv2D), draw(2, 15, 17, 3, dtype=np.float64), samples=20)
    assert pools


def test_a_frozen_convolution_that_pools(pools):
    model = pooling_net(layers.Conv2D)
    model.layers[0].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.layers[0].get_weights()
    model.train_on_batch(draw(8, 15, 17, 3), np.arange(8) % 3)
    for a, b in zip(before, model.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [where is None for _, where in pools[:1]] == [True]


@pytest.mark.parametrize("relu", [True, False])
def test_predict_folds_a_normalization_and_pools(relu, pools):
    model = Sequential(
        [
            Input((8, 8, 3)),
            layers.Conv2D(5, 3, padding="same"),
            layers.BatchNormalization(),
            *([layers.ReLU()] if relu else []),
            layers.MaxPooling2D(),
        ]
    )
    model.set_weights([np.abs(draw(*w.shape, seed=4)) + 0.3 for w in model.get_weights()])
    x = expected = draw(4, 8, 8, 3)
    for layer in model.layers:
        expected = layer(expected)
    assert not pools
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-4)
    assert len(pools) == 1


@pytest.mark.parametrize(
    ("conv", "pool"),
    [
        ({"activation": "tanh"}, {}),
        ({"activity_regularizer": "l2"}, {}),
        ({}, {"activity_regularizer": "l2"}),
        ({}, {"dtype": "float64"}),
        ({}, {"pool_size": 3}),
        ({}, {"pool_size": (2, 1)}),
        ({}, {"strides": 1}),
        ({}, {"padding": "same"}),  # of 7x7
        ({"data_format": "channels_first"}, {}),
    ],
    ids=str,
)
def test_what_is_not_pooled_inside(conv, pool, pools):
    x = draw(2, 9, 9, 9)
    made = [layers.Conv2D(8, 3, **conv), layers.MaxPooling2D(**pool)]
    model = Sequential([Input(x.shape[1:]), *made, layers.Flatten(), layers.Dense(2)])
    model.compile("sgd", "mse")
    model.train_on_batch(x, draw(2, 2))
    expected = x
    for layer in model.layers:
        expected = layer(expected)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-5)
    assert not pools


def test_an_output_with_another_reader_is_not_pooled_inside(pools):
    x = Input((8, 8, 3))
    h = layers.Conv2D(5, 3, activation="relu")(x)
    small = layers.MaxPooling2D()(h)
    both = Model(x, [layers.GlobalAveragePooling2D()(h), layers.Flatten()(small)])
    seen = Model(x, [h, small])
    for model in (both, seen):
        model.predict(draw(4, 8, 8, 3), verbose=0)
    assert not pools


def test_summary_counts_parameters():
    model = Sequential(
        [
            Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.SeparableConv2D(64, 3, padding="same", use_bias=False),
            layers.DepthwiseConv2D(3, name="depthwise"),
        ]
    )
    text = []
    model.summary(print_fn=text.append)
    for words in [
        ("conv2d", "(None, 26, 26, 32)", "320"),
        ("separable_conv2d", "(None, 26, 26, 64)", "2,336"),
        ("depthwise", "(None, 24, 24, 64)", "640"),
    ]:
        assert any(all(w in line for w in words) for line in "\n".join(text).splitlines()), words
    assert model.count_params() == 320 + 9 * 32 + 32 * 64 + 9 * 64 + 64
