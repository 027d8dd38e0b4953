"""Normalization by batch: the ops against the float64 oracle, the layer, and nets that use it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import reference
from cases import DTYPES, LAYOUTS, Output, afloat, assert_close, bad_outputs, tolerance
from ranvier import (
    Input,
    Model,
    Sequential,
    check_gradients,
    config,
    layers,
    ops,
    regularizers,
    training,
)

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
every_activation = pytest.mark.parametrize("activation", ["linear", "relu"])

SHAPES = (
    (1, 1), (2, 1), (3, 5), (64, 1), (32, 3), (17, 16), (33, 31), (16, 65), (5, 130), (3, 4, 7),
    (2, 5, 6, 33), (700, 64), (2, 40, 41, 24), (1100, 300),
)  # fmt: skip


def draw(*shape, dtype=np.float32, seed=0):
    return afloat(np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(dtype))


def parameters(channels, dtype, seed=0):
    """gamma, beta, mean, variance"""
    r = np.random.default_rng([seed, channels])
    gamma, variance = r.uniform(0.5, 1.5, (2, channels))
    beta, mean = r.normal(size=(2, channels))
    return [afloat(a.astype(dtype)) for a in (gamma, beta, mean, variance)]


@pytest.fixture
def float64():
    config.set_floatx("float64")


# --- the ops --------------------------------------------------------------------------------------


@every_dtype
@every_activation
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_normalization(shape, given, activation, dtype):
    x = draw(*shape, dtype=dtype) * dtype(2) + dtype(3)
    gamma, beta, mean, variance = parameters(shape[-1], dtype)
    call = {"activation": activation}
    if given:
        call |= {"mean": mean, "variance": variance}
    out = Output(shape, dtype)
    y, statistics = ops.batch_normalization(x, gamma, beta, **call, out=out.array)
    out.assert_intact()
    expected = reference.batch_normalization(x, gamma, beta, **call)
    assert_close(y, expected, "reduction", dtype=dtype, terms=4)
    over, n = tuple(range(x.ndim - 1)), x.size // shape[-1]
    if not given:
        wide = x.astype(np.float64)
        assert_close(statistics[0], wide.mean(axis=over), "reduction", dtype=dtype)
        assert_close(statistics[1], wide.var(axis=over), "reduction", dtype=dtype)

    # near the kink rounding decides about the slope: there are no gradients
    linear = reference.batch_normalization(x, gamma, beta, **{**call, "activation": "linear"})
    dy = np.where(np.abs(linear) > 1e-4, draw(*shape, dtype=dtype, seed=1), 0).astype(dtype)
    outs = [Output(s, dtype) for s in (shape, gamma.shape, beta.shape)]
    got = ops.batch_normalization_backward(
        dy, x, statistics, gamma, beta, given=given, activation=activation,
        out=tuple(o.array for o in outs),
    )  # fmt: skip
    expected = reference.batch_normalization_backward(dy, x, gamma, beta, **call)
    sums = float(np.abs(dy).sum(axis=over).max(initial=0))
    sizes = (float(np.abs(statistics[3]).max() * np.abs(dy).max()), sums, sums)
    relative = tolerance("reduction", dtype, 4 * n)
    for o, g, e, size in zip(outs, got, expected, sizes, strict=True):
        o.assert_intact()
        np.testing.assert_array_equal(o.array, g)
        # what cancels is measured against what was added up
        np.testing.assert_allclose(g, e, rtol=relative, atol=relative * max(size, 1e-6))


@every_dtype
def test_without_gamma_and_beta(dtype):
    x, dy = draw(9, 5, dtype=dtype), draw(9, 5, dtype=dtype, seed=1)
    gamma, beta = parameters(5, dtype)[:2]
    for g, b in ((None, beta), (gamma, None), (None, None)):
        y, statistics = ops.batch_normalization(x, g, b)
        assert_close(y, reference.batch_normalization(x, g, b), "reduction", dtype=dtype)
        got = ops.batch_normalization_backward(dy, x, statistics, g, b)
        expected = reference.batch_normalization_backward(dy, x, g, b)
        for found, e in zip(got, expected, strict=True):
            assert (found is None) == (e is None)
            if e is not None:
                assert_close(found, e, "reduction", dtype=dtype, terms=16 * 9)


@pytest.mark.parametrize("shape", [(5000, 3), (40, 30, 10, 64)], ids=str)
def test_the_variance_of_numbers_far_from_zero(shape):
    """Sums of squares in float32 would lose it: the mean is 1000 times the deviation."""
    x = (draw(*shape) + np.float32(1000)).astype(np.float32)
    _, statistics = ops.batch_normalization(x)
    over = tuple(range(x.ndim - 1))
    np.testing.assert_allclose(statistics[0], x.mean(axis=over, dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(statistics[1], x.var(axis=over, dtype=np.float64), rtol=2e-6)


def test_a_constant_channel_gives_beta():
    y, statistics = ops.batch_normalization(np.full((50, 7), 0.1), None, np.arange(7.0))
    np.testing.assert_allclose(y, np.broadcast_to(np.arange(7.0), (50, 7)), atol=1e-12)
    np.testing.assert_allclose(statistics[1], 0, atol=1e-30)


@every_dtype
def test_nan_stays_in_its_channel(dtype):
    x = draw(20, 5, dtype=dtype)
    x[3, 2] = np.nan
    for activation in ("linear", "relu"):
        y, _ = ops.batch_normalization(x, activation=activation)
        assert np.isnan(y[:, 2]).all()
        assert not np.isnan(np.delete(y, 2, axis=1)).any()


@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    x, dy = draw(6, 4, 5, dtype=dtype), draw(6, 4, 5, dtype=dtype, seed=1)
    y, statistics = ops.batch_normalization(x)
    found, _ = ops.batch_normalization(LAYOUTS[layout](x))
    np.testing.assert_array_equal(found, y)
    expected = ops.batch_normalization_backward(dy, x, statistics)[0]
    given = (LAYOUTS[layout](a) for a in (dy, x, statistics))
    np.testing.assert_array_equal(ops.batch_normalization_backward(*given)[0], expected)


def test_dx_may_take_the_place_of_dy():
    x, dy = draw(40, 5), draw(40, 5, seed=1)
    _, statistics = ops.batch_normalization(x)
    expected = ops.batch_normalization_backward(dy, x, statistics)[0]
    got = ops.batch_normalization_backward(dy, x, statistics, out=(dy, None, None))[0]
    assert got is dy
    np.testing.assert_array_equal(dy, expected)


@every_dtype
def test_moving_average(dtype):
    moving, value = draw(37, dtype=dtype), draw(37, dtype=dtype, seed=1)
    expected = moving.astype(float) * 0.9 + value.astype(float) * 0.1
    ops.moving_average(moving, value, 0.9)
    np.testing.assert_allclose(moving, expected, rtol=1e-5 if dtype == np.float32 else 1e-12)
    with pytest.raises(ValueError, match=r"\[moving_average\] momentum must be from 0 to 1"):
        ops.moving_average(moving, value, 1.5)
    with pytest.raises(ValueError, match=r"\[moving_average\] moving has shape"):
        ops.moving_average(moving[:3], value)


def test_bad_arguments_are_refused():
    x, four = draw(3, 5), np.ones(4, np.float32)
    five = np.ones(5, np.float32)
    name = r"\[batch_normalization\]"
    for key in ("gamma", "beta", "mean", "variance"):
        with pytest.raises(ValueError, match=rf"{name} {key} must have one value for each channel"):
            ops.batch_normalization(x, **{"mean": five, "variance": five, key: four})
    with pytest.raises(ValueError, match="mean and variance must be given together"):
        ops.batch_normalization(x, mean=five)
    with pytest.raises(ValueError, match="epsilon must be above 0"):
        ops.batch_normalization(x, epsilon=0.0)
    with pytest.raises(ValueError, match="activation must be 'linear' or 'relu'; received 'tanh'"):
        ops.batch_normalization(x, activation="tanh")
    with pytest.raises(ValueError, match="an empty batch has no mean and variance"):
        ops.batch_normalization(draw(0, 5))
    y, _ = ops.batch_normalization(draw(0, 5), mean=five, variance=five)
    assert y.shape == (0, 5)
    with pytest.raises(ValueError, match=r"x must be \(rows, ..., channels\)"):
        ops.batch_normalization(four)
    with pytest.raises(TypeError, match="gamma has dtype float64"):
        ops.batch_normalization(x, np.ones(5))
    with pytest.raises(ValueError, match="out shares memory with an input"):
        ops.batch_normalization(x, out=x)
    for _, bad in bad_outputs((3, 5), np.float32):
        before = bad.tobytes()
        with pytest.raises(ValueError, match=rf"{name} out"):
            ops.batch_normalization(x, out=bad)
        assert bad.tobytes() == before
    _, statistics = ops.batch_normalization(x)
    with pytest.raises(ValueError, match=r"dy has shape \(2, 5\)"):
        ops.batch_normalization_backward(x[:2], x, statistics)
    with pytest.raises(ValueError, match=r"statistics has shape \(4, 5\)"):
        ops.batch_normalization_backward(x, x, statistics[:4])
    with pytest.raises(ValueError, match=r"out must be a tuple \(dx, dgamma, dbeta\)"):
        ops.batch_normalization_backward(x, x, statistics, out=(None,))


# --- the layer ------------------------------------------------------------------------------------


def test_the_layer_in_training_and_after():
    x = draw(40, 3) * np.float32(2) + np.float32(1)
    layer = layers.BatchNormalization(momentum=0.8)
    y = layer(x, training=True)
    expected = reference.batch_normalization(x, np.ones(3), np.zeros(3))
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.2 * x.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.8 + 0.2 * x.var(0), rtol=1e-5)
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    y = layer(x)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-3), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), mean)
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), y)  # inference
    np.testing.assert_array_equal(layer.moving_mean.numpy(), mean)


def test_weights_in_keras_s_order():
    layer = layers.BatchNormalization()
    layer(draw(4, 3))
    assert [v.name for v in layer.weights] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [v.name for v in layer.trainable_weights] == ["gamma", "beta"]
    layer.set_weights([np.full(3, i) for i in range(1, 5)])
    np.testing.assert_array_equal(layer.moving_variance.numpy(), 4)
    model = Sequential([Input((3,)), layers.BatchNormalization(), layers.Dense(2)])
    said = []
    model.summary(print_fn=said.append)
    text = "\n".join(said)
    assert "Trainable params: 14" in text
    assert "Non-trainable params: 6" in text
    plain = layers.BatchNormalization(center=False, scale=False)
    plain(draw(4, 3))
    assert [v.name for v in plain.weights] == ["moving_mean", "moving_variance"]


@pytest.mark.parametrize("shape", [(6, 3), (6, 5, 3), (4, 5, 6, 3)], ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}, {"axis": 1}], ids=str)
def test_gradients(shape, training, options, float64):
    layer = layers.BatchNormalization(**options)
    layer.ensure_built((None, *shape[1:]))
    layer.set_weights([parameters(w.size, np.float64, i)[0] for i, w in enumerate(layer.weights)])
    check_gradients(layer, draw(*shape), training=training)


@pytest.mark.parametrize("axis", [1, 2, -2, 3])
def test_axes(axis):
    x = draw(4, 5, 6, 3)
    layer = layers.BatchNormalization(axis)
    y = layer(x, training=True)
    turned = np.moveaxis(x, axis, -1)
    expected = reference.batch_normalization(turned)
    np.testing.assert_allclose(np.moveaxis(y, axis, -1), expected, atol=1e-5)
    assert layer.moving_mean.shape == (x.shape[axis],)


def test_config_round_trip():
    layer = layers.BatchNormalization(
        1, 0.9, 1e-5, scale=False, beta_initializer="ones", beta_regularizer="l2"
    )
    text = json.dumps(layers.serialize(layer))
    again = layers.deserialize(json.loads(text))
    assert json.dumps(layers.serialize(again)) == text
    x = draw(3, 4, 5)
    np.testing.assert_array_equal(again(x, training=True), layer(x, training=True))


def test_bad_layers_are_refused():
    for key, bad in (("momentum", 1.5), ("epsilon", 0.0), ("axis", None), ("axis", 1.0)):
        with pytest.raises(ValueError, match=rf"\[BatchNormalization\] {key} must be"):
            layers.BatchNormalization(**{key: bad})
    for axis, shape in ((0, (3,)), (2, (3,)), (-3, (3,)), (1, (None, 3))):
        with pytest.raises(ValueError, match="with a known number of channels on axis"):
            layers.BatchNormalization(axis)(Input(shape))


# --- nets -----------------------------------------------------------------------------------------


def net(relu="relu", batch_norm=None):
    """Two that a relu follows, one that none does, one whose output has two readers."""
    make = batch_norm or layers.BatchNormalization
    x = Input((6, 5, 3))
    h = layers.Dense(8, use_bias=False)(x)
    h = layers.Activation(relu)(make()(h))
    h = layers.ReLU()(make(momentum=0.9)(layers.Dense(4, use_bias=False)(h)))
    b = make()(layers.Dense(4, use_bias=False)(h))
    h = layers.add([b, layers.Activation(relu)(b)])
    return Model(x, make(1)(layers.GlobalAveragePooling2D()(h)))


def trained(model, epochs=3):
    x, y = draw(20, 6, 5, 3), draw(20, 4, seed=2)
    model.set_weights([np.abs(draw(*w.shape, seed=3)) for w in model.get_weights()])
    model.compile("adam", "mse")
    history = model.fit(x, y, batch_size=6, epochs=epochs, verbose=0, shuffle=False)
    return history.history["loss"], *model.get_weights(), model.predict(x)


def test_a_net_trains_the_same_recorded_or_not(monkeypatch):
    found = []
    for replay in (True, False):
        monkeypatch.setattr(training, "_REPLAY", replay)
        found.append(trained(net()))
    assert found[0][0][-1] < found[0][0][0]
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


class Apart(layers.BatchNormalization):
    """Leaves the relu to its own layer."""

    def fuses(self, readers, x, way_back):
        return 0


def test_with_a_relu_at_once_the_values_are_the_same():
    fused = [unit for unit, *_ in net().graph(True)._plan if len(unit.layers) > 1]
    assert len(fused) == 3
    apart = net(batch_norm=Apart)
    assert not [unit for unit, *_ in apart.graph(True)._plan if len(unit.layers) > 1]
    (*ours, p), (*theirs, q) = trained(net()), trained(apart)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(p, q, rtol=1e-4, atol=1e-5)  # predictions: other weights


def test_a_regularizer_set_later_parts_the_two():
    model = net()
    norm = next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
    plain = trained(model, 1)[0][0]
    norm.activity_regularizer = regularizers.L2(0.01)
    assert trained(model, 1)[0][0] > plain + 1e-4


def test_gradients_of_a_net(float64):
    model = net(relu="tanh")
    x = draw(4, 6, 5, 3)
    check_gradients(model, x, training=True)
    check_gradients(model, x)


def test_gradients_through_a_relu(float64):
    model = Sequential(
        [
            Input((5, 3)),
            layers.Dense(4, use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
        ]
    )
    assert len(model.graph(True)._plan) == 1
    check_gradients(model, draw(6, 5, 3), training=True)


def test_frozen_layers_follow_nothing():
    model = net()
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    before = model.get_weights()
    names = [v.path for v in model.weights]
    model.compile("sgd", "mse")
    model.fit(draw(8, 6, 5, 3), draw(8, 4), verbose=0)
    changed = [n for n, a, b in zip(names, before, model.get_weights(), strict=True)
               if not np.array_equal(a, b)]  # fmt: skip
    assert changed
    assert all("dense" in name for name in changed)


class Breaks(layers.Layer):
    """Raises in backward."""

    def forward(self, x, *, training=False):
        def backward(dy):
            raise RuntimeError("broken")

        return ops.affine(x, 1.0), backward


@pytest.mark.parametrize("replay", [True, False])
def test_a_step_that_fails_leaves_the_moving_statistics(replay, monkeypatch):
    monkeypatch.setattr(training, "_REPLAY", replay)
    model = Sequential([Input((3,)), layers.Dense(3), Breaks(), layers.BatchNormalization()])
    model.compile("sgd", "mse")
    before = model.get_weights()
    with pytest.raises(RuntimeError, match="broken"):
        model.fit(draw(8, 3), draw(8, 3), verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- in the weights of the layer before -----------------------------------------------------------

FOLDING = {
    "conv2d": (lambda: layers.Conv2D(8, 3, padding="same"), (9, 8, 6)),
    "no bias": (lambda: layers.Conv2D(8, 3, strides=2, use_bias=False), (9, 8, 6)),
    "winograd": (lambda: layers.Conv2D(32, 3, padding="same"), (24, 24, 32)),
    "groups": (lambda: layers.Conv2D(8, 3, groups=2), (9, 8, 6)),
    "first": (lambda: layers.Conv2D(8, 3, data_format="channels_first"), (6, 9, 8)),
    "conv1d": (lambda: layers.Conv1D(8, 3, padding="causal"), (30, 6)),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (9, 8, 6)),
    "dense": (lambda: layers.Dense(7), (5, 6)),
}


@pytest.fixture
def folds(monkeypatch):
    """The layers that were folded, one for each time."""
    found, fold = [], layers.BatchNormalization.fold

    def noted(self, *args):
        found.append(self)
        return fold(self, *args)

    monkeypatch.setattr(layers.BatchNormalization, "fold", noted)
    return found


def set_norms(model):
    for layer in model.flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([np.abs(draw(*w.shape, seed=4)) + 0.3 for w in layer.get_weights()])


def one_by_one(model, x):
    """What the layers give, each for itself."""
    for layer in model.layers:
        x = x if isinstance(layer, layers.InputLayer) else layer(x)
    return x


@every_dtype
@pytest.mark.parametrize("relu", ["none", "relu", "tanh"])
@pytest.mark.parametrize("case", FOLDING)
def test_predict_folds_it_into_the_weights_before(case, relu, dtype, folds):
    config.set_floatx(np.dtype(dtype).name)
    make, shape = FOLDING[case]
    axis = 1 if case == "first" else -1
    after = {"none": [], "relu": [layers.ReLU()], "tanh": [layers.Activation("tanh")]}[relu]
    model = Sequential([Input(shape), make(), layers.BatchNormalization(axis), *after])
    set_norms(model)
    x = draw(16, *shape, dtype=dtype)
    expected = one_by_one(model, x)
    assert not folds
    near = {"rtol": 1e-4, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, **near)
    assert len(folds) == 1
    np.testing.assert_allclose(model(x), expected, **near)
    assert len(model.graph(False)._plan) == (2 if relu == "tanh" else 1)


def test_folded_weights_follow_training(folds):
    """They are made anew in each recorded step, from what the weights are by then."""
    norm = layers.BatchNormalization(momentum=0.5)
    model = Sequential(
        [
            Input((9, 8, 6)),
            layers.Conv2D(8, 3),
            norm,
            layers.Activation("relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )
    model.compile("adam", "mse")
    x, y = draw(20, 9, 8, 6), draw(20, 4, seed=2)
    seen = []
    for trainable in (True, True, False):
        norm.trainable = trainable
        model.compile("adam", "mse")
        model.fit(x, y, batch_size=10, epochs=2, verbose=0)
        expected = one_by_one(model, x)
        seen.append(model.predict(x, verbose=0))
        np.testing.assert_allclose(seen[-1], expected, rtol=1e-4, atol=1e-5)
        loss = model.evaluate(x, y, verbose=0)
        assert loss == pytest.approx(float(np.mean((expected - y) ** 2)), rel=1e-4)
        assert folds
    assert np.abs(seen[0] - seen[1]).max() > 1e-3
    model.set_weights([2 * w for w in model.get_weights()])
    np.testing.assert_allclose(
        model.predict(x, verbose=0), one_by_one(model, x), rtol=1e-4, atol=1e-4
    )


class OwnDense(layers.Dense):
    def forward(self, x, *, training=False):
        y, back = super().forward(x, training=training)
        return ops.affine(y, 2.0), lambda dy: back(ops.affine_backward(dy, 2.0))


class OwnNorm(layers.BatchNormalization):
    def forward(self, x, *, training=False):
        y, back = super().forward(x, training=training)
        return ops.affine(y, 2.0), lambda dy: back(ops.affine_backward(dy, 2.0))


@pytest.mark.parametrize(
    "stack",
    [
        [layers.Conv2D(8, 3, activation="relu"), layers.BatchNormalization()],
        [layers.Conv2D(8, 3, activity_regularizer="l2"), layers.BatchNormalization()],
        [layers.Conv2D(8, 3), layers.BatchNormalization(activity_regularizer="l2")],
        [layers.Conv2D(8, 3), layers.BatchNormalization(1)],
        [layers.Conv2D(8, 3), layers.BatchNormalization(dtype="float64")],
        [layers.Conv2DTranspose(8, 3), layers.BatchNormalization()],
        [layers.Flatten(), layers.Dense(50), layers.BatchNormalization()],  # for few rows
        [OwnDense(8), layers.BatchNormalization()],
        [layers.Dense(8), OwnNorm(), layers.ReLU()],
    ],
    ids=lambda stack: type(stack[-2]).__name__,
)
def test_what_is_not_folded(stack, folds):
    model = Sequential([Input((9, 8, 6)), *(type(s).from_config(s.get_config()) for s in stack)])
    set_norms(model)
    x = draw(16, 9, 8, 6)
    expected = one_by_one(model, x)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-5)
    assert not folds


def test_an_output_with_another_reader_is_not_folded(folds):
    x = Input((9, 8, 6))
    h = layers.Conv2D(8, 3)(x)
    model = Model(x, layers.add([h, layers.BatchNormalization()(h)]))
    set_norms(model)
    model.predict(draw(16, 9, 8, 6), verbose=0)
    assert not folds


def test_a_model_inside_another_folds_and_keeps_its_gradients(folds, float64):
    inner = Sequential([Input((5, 3)), layers.Dense(4), layers.BatchNormalization()])
    model = Sequential([Input((5, 3)), inner, layers.ReLU(), layers.Dense(2)])
    set_norms(model)
    x = draw(6, 5, 3, dtype=np.float64)
    expected = one_by_one(model, x)
    before = len(folds)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-11)
    assert len(folds) == before + 1
    check_gradients(model, x)
    check_gradients(model, x, training=True)
    assert len(folds) == before + 1
