"""Images made larger and smaller, and channels dropped: the layers beside NumPy."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cases import afloat
from ranvier import Input, Sequential, check_gradients, config, layers, training, utils
from ranvier._core import Buffer


def draw(*shape, dtype=np.float32, seed=0):
    return afloat(np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(dtype))


def first(x):
    """Channels first."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


@pytest.fixture
def float64():
    config.set_floatx("float64")


def padded(x, *ends):
    return np.pad(x, ((0, 0), *ends, (0, 0)))


# (class, options, expected)
CASES = [
    (layers.UpSampling1D, {}, lambda x: x.repeat(2, 1)),
    (layers.UpSampling1D, {"size": 3}, lambda x: x.repeat(3, 1)),
    (layers.UpSampling2D, {}, lambda x: x.repeat(2, 1).repeat(2, 2)),
    (layers.UpSampling2D, {"size": (1, 7)}, lambda x: x.repeat(7, 2)),
    (layers.UpSampling2D, {"size": [3, 5]}, lambda x: x.repeat(3, 1).repeat(5, 2)),
    (layers.ZeroPadding1D, {}, lambda x: padded(x, (1, 1))),
    (layers.ZeroPadding1D, {"padding": (0, 3)}, lambda x: padded(x, (0, 3))),
    (layers.ZeroPadding2D, {}, lambda x: padded(x, (1, 1), (1, 1))),
    (layers.ZeroPadding2D, {"padding": 2}, lambda x: padded(x, (2, 2), (2, 2))),
    (layers.ZeroPadding2D, {"padding": (0, 3)}, lambda x: padded(x, (0, 0), (3, 3))),
    (
        layers.ZeroPadding2D,
        {"padding": ((1, 2), (3, 0))},
        lambda x: padded(x, (1, 2), (3, 0)),
    ),
    (layers.Cropping1D, {}, lambda x: x[:, 1:-1]),
    (layers.Cropping1D, {"cropping": (2, 0)}, lambda x: x[:, 2:]),
    (layers.Cropping2D, {}, lambda x: x),
    (layers.Cropping2D, {"cropping": 1}, lambda x: x[:, 1:-1, 1:-1]),
    (layers.Cropping2D, {"cropping": (2, 0)}, lambda x: x[:, 2:-2]),
    (layers.Cropping2D, {"cropping": ((1, 2), (3, 0))}, lambda x: x[:, 1:-2, 3:]),
]
every_case = pytest.mark.parametrize(("kind", "options", "expected"), CASES)


def sample(kind, **options):
    return draw(2, *(6, 5)[: kind.rank], 3, **options)


@every_case
def test_values_shapes_and_config(kind, options, expected):
    x = sample(kind)
    layer = kind(**options)
    y = layer(x)
    np.testing.assert_array_equal(y, expected(x))
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *y.shape[1:])
    assert layer.compute_output_shape((None, *[None] * kind.rank, 3)) == (
        (None, *[None] * kind.rank, 3)
    )
    text = json.dumps(layers.serialize(layer))
    again = layers.deserialize(json.loads(text))
    assert json.dumps(layers.serialize(again)) == text
    np.testing.assert_array_equal(again(x), y)
    if kind is not layers.UpSampling1D:
        turned = kind(**options, data_format="channels_first")
        np.testing.assert_array_equal(turned(first(x)), first(y))


@every_case
def test_gradients(kind, options, expected, float64):
    check_gradients(kind(**options), sample(kind, dtype=np.float64))


def bilinear(x, times, axis):
    """One axis, pixel centres on pixel centres."""
    n = x.shape[axis]
    at = np.clip((np.arange(n * times) + 0.5) / times - 0.5, 0, n - 1)
    low = np.floor(at).astype(int)
    share = (at - low).reshape([-1 if d == axis else 1 for d in range(x.ndim)])
    high = np.minimum(low + 1, n - 1)
    return x.take(low, axis) * (1 - share) + x.take(high, axis) * share


@pytest.mark.parametrize("size", [(2, 2), (3, 1), (1, 4)])
def test_bilinear(size, float64):
    x = draw(2, 4, 5, 3, dtype=np.float64)
    layer = layers.UpSampling2D(size, interpolation="bilinear")
    expected = bilinear(bilinear(x, size[0], 1), size[1], 2)
    np.testing.assert_allclose(layer(x), expected, atol=1e-12)
    check_gradients(layer, x)


def test_bad_layers_are_refused():
    for bad in (0, 1.5, (1, 2, 3), "2"):
        with pytest.raises(ValueError, match=r"\[UpSampling2D\] size must be an integer"):
            layers.UpSampling2D(bad)
    with pytest.raises(ValueError, match="interpolation must be one of nearest, bilinear"):
        layers.UpSampling2D(interpolation="bicubic")
    for kind, name in ((layers.ZeroPadding2D, "padding"), (layers.Cropping2D, "cropping")):
        for bad in (-1, 1.5, (1, 2, 3), ((1, 2), (3,)), "1"):
            with pytest.raises(ValueError, match=rf"\[{kind.__name__}\] {name} must be an integer"):
                kind(bad)
    with pytest.raises(ValueError, match="Cropping2D leaves nothing of the input"):
        layers.Cropping2D(2)(draw(1, 4, 5, 1))
    with pytest.raises(ValueError, match="leaves nothing of the input"):
        layers.Cropping1D((2, 1))(Input((3, 5)))
    with pytest.raises(ValueError, match="needs inputs of 4 axes"):
        layers.ZeroPadding2D()(draw(1, 4, 5))


# --- SpatialDropout -------------------------------------------------------------------------------

DROPOUTS = [
    (layers.SpatialDropout1D, {}, (40, 6, 30), (1,)),
    (layers.SpatialDropout2D, {}, (40, 3, 4, 30), (1, 2)),
    (layers.SpatialDropout2D, {"data_format": "channels_first"}, (40, 30, 3, 4), (2, 3)),
]


@pytest.mark.parametrize(("kind", "options", "shape", "image"), DROPOUTS)
def test_spatial_dropout_drops_whole_channels(kind, options, shape, image):
    x = np.ones(shape, np.float32)
    layer = kind(0.3, seed=5, **options)
    np.testing.assert_array_equal(layer(x), x)
    y = layer(x, training=True)
    one = y.max(axis=image, keepdims=True)
    np.testing.assert_array_equal(y, np.broadcast_to(one, shape))
    assert set(np.unique(y)) == {0, np.float32(1 / 0.7)}
    assert 0.62 < (one > 0).mean() < 0.78  # of 1200
    assert not np.array_equal(layer(x, training=True), y)
    again = kind(0.3, seed=5, **options)
    np.testing.assert_array_equal(again(x, training=True), y)
    np.testing.assert_array_equal(kind(0.0, **options)(x, training=True), x)


@pytest.mark.parametrize(("kind", "options", "shape", "image"), DROPOUTS)
def test_spatial_dropout_s_gradient_and_config(kind, options, shape, image):
    layer = kind(0.3, seed=5, **options)
    x = Buffer.from_array(draw(*shape))
    y, backward = layer.run(x, True)
    dy = draw(*shape, seed=1)
    dx = backward(Buffer.from_array(dy)).numpy()
    kept = y.numpy() != 0
    np.testing.assert_allclose(dx, np.where(kept, dy / np.float32(0.7), 0), rtol=1e-6)
    text = json.dumps(layers.serialize(layer))
    assert json.dumps(layers.serialize(layers.deserialize(json.loads(text)))) == text


def test_bad_spatial_dropouts_are_refused():
    with pytest.raises(ValueError, match=r"\[SpatialDropout1D\] rate must be a number from 0"):
        layers.SpatialDropout1D(1.0)
    with pytest.raises(ValueError, match="data_format must be"):
        layers.SpatialDropout2D(0.5, "first")
    with pytest.raises(ValueError, match="SpatialDropout2D needs inputs of 4 axes"):
        layers.SpatialDropout2D(0.5)(draw(1, 4, 5))


# --- nets -----------------------------------------------------------------------------------------


def test_a_net_trains_the_same_recorded_or_not(monkeypatch):
    x, y = draw(20, 4, 5, 3), draw(20, 8, 10, 4, seed=2)
    found = []
    for replay in (True, False):
        monkeypatch.setattr(training, "_REPLAY", replay)
        utils.set_random_seed(3)
        model = Sequential(
            [
                Input((4, 5, 3)),
                layers.Dense(6),
                layers.SpatialDropout2D(0.3),
                layers.ZeroPadding2D(),
                layers.UpSampling2D(interpolation="bilinear"),
                layers.Cropping2D(2),
                layers.Dense(4),
            ]
        )
        model.compile("adam", "mse")
        losses = model.fit(x, y, batch_size=6, epochs=3, verbose=0).history["loss"]
        found.append((losses, *model.get_weights(), model.predict(x)))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
