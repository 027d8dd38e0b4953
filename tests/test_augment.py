"""Images at random: the op against the float64 oracle, what the layers do, and that it repeats."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from cases import DTYPES, Output, afloat, assert_close
from ranvier import Input, Sequential, check_gradients, config, layers, ops, utils
from ranvier import training as training_module

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
FILLS = ("constant", "nearest", "reflect", "wrap")


def draw(*shape, dtype=np.float32, seed=0):
    return afloat(np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(dtype))


def matrices(count, seed=0):
    """Near the identity, but far enough to reach beyond every edge."""
    r = np.random.default_rng([seed, count])
    return np.array([1, 0, 0, 0, 1, 0]) + r.normal(0, [0.4, 0.4, 3, 0.4, 0.4, 3], (count, 6))


# --- the op ---------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("fill_mode", FILLS)
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 5, 7, 3), (5, 7)),
        ((2, 9, 8, 37), (7, 9)),
        ((3, 4, 1, 1), (6, 5)),
        ((1, 1, 1, 2), (3, 3)),
        ((2, 9, 8, 17), (3, 4)),
    ],
    ids=str,
)
def test_resample(shape, size, interpolation, fill_mode, dtype):
    x, m = draw(*shape, dtype=dtype), matrices(shape[0])
    how = {"interpolation": interpolation, "fill_mode": fill_mode}
    out = Output((shape[0], *size, shape[3]), dtype)
    y = ops.resample(x, m, size, **how, fill_value=0.5, out=out.array)
    out.assert_intact()
    expected = reference.resample(x, m, size, **how, fill_value=0.5)
    assert_close(y, expected, "reduction", dtype=dtype, terms=4)
    np.testing.assert_array_equal(ops.resample(x, m, size, **how, fill_value=0.5), y)
    dy = draw(*y.shape, dtype=dtype, seed=1)
    out = Output(shape, dtype)
    dx = ops.resample_backward(dy, m, shape, **how, out=out.array)
    out.assert_intact()
    expected = reference.resample_backward(dy, m, shape, **how)
    assert_close(dx, expected, "reduction", dtype=dtype, terms=4 * size[0] * size[1])


@every_dtype
def test_the_identity_is_exact(dtype):
    x = draw(2, 4, 5, 3, dtype=dtype)
    for interpolation in ("bilinear", "nearest"):
        y = ops.resample(x, [[1, 0, 0, 0, 1, 0]], interpolation=interpolation)
        np.testing.assert_array_equal(y, x)


def test_places_that_are_no_numbers_are_beyond_the_edge():
    x = np.ones((1, 3, 3, 1), np.float32)
    for bad in (np.nan, np.inf, -np.inf, 1e300):
        y = ops.resample(x, [[1, 0, bad, 0, 1, 0]], fill_value=7)
        np.testing.assert_array_equal(y, 7)
        assert np.isfinite(ops.resample(x, [[1, 0, bad, 0, 1, 0]], fill_mode="wrap")).all()


def test_bad_arguments():
    x, one = draw(2, 3, 4, 1), np.array([[1.0, 0, 0, 0, 1, 0]])
    with pytest.raises(ValueError, match=r"\[resample\] x must have 4 dimensions"):
        ops.resample(x[0], one)
    with pytest.raises(ValueError, match=r"matrices must be \(images, 6\) or \(1, 6\)"):
        ops.resample(x, np.zeros((3, 6)))
    with pytest.raises(ValueError, match="fill_mode must be constant, nearest, reflect or wrap"):
        ops.resample(x, one, fill_mode="mirror")
    with pytest.raises(ValueError, match="interpolation must be bilinear or nearest"):
        ops.resample(x, one, interpolation="cubic")
    with pytest.raises(ValueError, match="size must be"):
        ops.resample(x, one, (0, 3))
    with pytest.raises(ValueError, match="images are empty"):
        ops.resample(np.zeros((2, 0, 4, 1)), one, (2, 2))
    with pytest.raises(ValueError, match=r"dy has shape \(2, 3, 4, 1\) but an image of x gives"):
        ops.resample_backward(x, one, (1, 3, 4, 1))
    with pytest.raises(ValueError, match="out shares memory with x"):
        ops.resample(x, one, out=x)


# --- layers ---------------------------------------------------------------------------------------

RANDOM = [
    ("RandomFlip", {}),
    ("RandomTranslation", {"height_factor": 0.3, "width_factor": (-0.2, 0.4)}),
    ("RandomRotation", {"factor": 0.2, "fill_mode": "constant", "fill_value": 2.0}),
    ("RandomZoom", {"height_factor": 0.4, "width_factor": None, "fill_mode": "wrap"}),
    ("RandomZoom", {"height_factor": 0.4, "width_factor": 0.1, "interpolation": "nearest"}),
    ("RandomCrop", {"height": 4, "width": 3}),
    ("RandomContrast", {"factor": 0.5, "value_range": (-9, 9)}),
    ("RandomBrightness", {"factor": 0.1, "value_range": (-9, 9)}),
]
FIXED = [
    ("CenterCrop", {"height": 4, "width": 3}),
    ("Resizing", {"height": 9, "width": 3}),
    ("Resizing", {"height": 2, "width": 10, "interpolation": "nearest"}),
]
every_random = pytest.mark.parametrize(("name", "arguments"), RANDOM)


@every_random
def test_random_only_in_training_and_by_the_seed(name, arguments):
    x = draw(6, 8, 7, 3)
    layer, again = (getattr(layers, name)(**arguments, seed=5) for _ in range(2))
    other = getattr(layers, name)(**arguments, seed=6)
    first, second = layer(x, training=True), layer(x, training=True)
    np.testing.assert_array_equal(again(x, training=True), first)
    np.testing.assert_array_equal(again(x, training=True), second)
    assert (first != second).any()
    assert (other(x, training=True) != first).any()
    assert len({image.tobytes() for image in first}) > 1  # each image by itself
    expected = x[:, 2:6, 2:5] if name == "RandomCrop" else x
    np.testing.assert_array_equal(layer(x), expected)


@pytest.mark.parametrize(("name", "arguments"), RANDOM + FIXED)
def test_configs_and_channels_first(name, arguments):
    if name.startswith("Random"):
        arguments = {**arguments, "seed": 3}
    layer = getattr(layers, name)(**arguments)
    found = layer.get_config()
    for key, value in arguments.items():
        assert found[key] == value
    again = layers.deserialize(layers.serialize(layer))
    assert again.get_config() == found
    x = draw(2, 8, 7, 3)
    y = layer(x, training=True)
    np.testing.assert_array_equal(again(x, training=True), y)
    assert layer.compute_output_shape((None, 8, 7, 3)) == (None, *y.shape[1:])
    first = getattr(layers, name)(**arguments, data_format="channels_first")
    turned = first(np.moveaxis(x, -1, 1), training=True)
    np.testing.assert_array_equal(turned, np.moveaxis(y, -1, 1))


def test_flip():
    x = draw(200, 3, 4, 2)
    for mode, kinds in [
        ("horizontal", [x, x[:, :, ::-1]]),
        ("vertical", [x, x[:, ::-1]]),
        ("horizontal_and_vertical", [x, x[:, ::-1], x[:, :, ::-1], x[:, ::-1, ::-1]]),
    ]:
        y = layers.RandomFlip(mode, seed=1)(x, training=True)
        found = [(y == kind).all(axis=(1, 2, 3)) for kind in kinds]
        assert np.sum(found, axis=0).tolist() == [1] * 200
        assert min(f.sum() for f in found) > 0.6 * 200 / len(kinds)


def test_translation_is_down_and_to_the_right():
    x = draw(1, 10, 10, 1)
    y = layers.RandomTranslation((0.2, 0.2), (0.3, 0.3), "constant", fill_value=5)(x, training=True)
    np.testing.assert_allclose(y[:, 2:, 3:], x[:, :-2, :-3], rtol=1e-5)
    assert (y[:, :2] == 5).all() and (y[:, :, :3] == 5).all()
    y = layers.RandomTranslation((-0.2, -0.2), 0.0, "wrap")(x, training=True)
    np.testing.assert_allclose(y, np.roll(x, -2, axis=1), rtol=1e-5)
    y = layers.RandomTranslation((0.2, 0.2), 0.0, "reflect")(x, training=True)
    np.testing.assert_allclose(y[0, :2], x[0, 1::-1], rtol=1e-5)


def test_rotation_is_against_the_clock():
    x = draw(1, 6, 6, 2)
    for quarters in (1, 2, 3, -1):
        layer = layers.RandomRotation((quarters / 4, quarters / 4))
        np.testing.assert_allclose(
            layer(x, training=True), np.rot90(x, quarters, axes=(1, 2)), rtol=1e-4, atol=1e-5
        )


def test_zoom_out_shows_more():
    x = draw(1, 8, 8, 1)
    y = layers.RandomZoom((1.0, 1.0), fill_mode="constant", fill_value=9)(x, training=True)
    assert (y[:, :2] == 9).all() and (y[:, -2:] == 9).all()
    assert (y[:, 2:6, 2:6] != 9).all()
    same = layers.RandomZoom((0.0, 0.0), (0.5, 0.5), "nearest")(x, training=True)
    middle = np.arange(8) * 1.5 - 1.75  # the columns seen
    for row, found in zip(x[0, :, :, 0], same[0, :, :, 0], strict=True):
        np.testing.assert_allclose(found, np.interp(middle, np.arange(8), row), rtol=1e-4)


def test_crops_lie_anywhere():
    x = np.arange(5 * 6, dtype=np.float32).reshape(1, 5, 6, 1).repeat(300, axis=0)
    y = layers.RandomCrop(3, 4, seed=2)(x, training=True)
    corners = y[:, 0, 0, 0]
    assert set(corners) == {6 * i + j for i in range(3) for j in range(3)}
    for image in y:
        i, j = divmod(int(image[0, 0, 0]), 6)
        np.testing.assert_array_equal(image, x[0, i : i + 3, j : j + 4])


def test_contrast_and_brightness():
    x = 120 + 10 * draw(50, 6, 5, 3)
    y = layers.RandomContrast(0.5, seed=1)(x, training=True)
    mean = x.mean(axis=(1, 2), keepdims=True)
    c = (y - mean).std(axis=(1, 2, 3)) / (x - mean).std(axis=(1, 2, 3))
    assert 0.5 < c.min() < 0.7 and 1.3 < c.max() < 1.5
    np.testing.assert_allclose(y, (x - mean) * c[:, None, None, None] + mean, rtol=1e-4)
    y = layers.RandomBrightness((0.1, 0.2), seed=1)(x, training=True)
    added = (y - x).reshape(50, -1)
    np.testing.assert_allclose(added, added[:, :1].repeat(90, axis=1), rtol=1e-3)
    assert 25.5 <= added.min() < 30 and 46 < added.max() <= 51
    y = layers.RandomBrightness(0.5, value_range=(110, 130))(x, training=True)
    assert y.min() == 110 and y.max() == 130


def test_resizing():
    x = draw(2, 4, 6, 1)
    y = layers.Resizing(2, 3)(x)
    np.testing.assert_allclose(
        y, x.reshape(2, 2, 2, 3, 2, 1).mean(axis=(2, 4)), rtol=1e-5, atol=1e-6
    )
    y = layers.Resizing(8, 12, "nearest")(x)
    np.testing.assert_array_equal(y, x.repeat(2, axis=1).repeat(2, axis=2))
    y = layers.CenterCrop(2, 3)(x)
    np.testing.assert_array_equal(y, x[:, 1:3, 1:4])
    assert layers.Resizing(2, 3)(Input((None, None, 3))).shape == (None, 2, 3, 3)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: layers.RandomFlip("diagonal"), "mode must be one of horizontal"),
        (lambda: layers.RandomTranslation(-0.1, 0.1), "height_factor must be a number >= 0"),
        (lambda: layers.RandomTranslation(0.1, (0.2, 0.1)), "width_factor must be"),
        (lambda: layers.RandomRotation("0.1"), "factor must be"),
        (lambda: layers.RandomRotation(0.1, fill_mode="mirror"), "fill_mode must be one of"),
        (lambda: layers.RandomZoom(0.1, interpolation="cubic"), "interpolation must be one of"),
        (lambda: layers.RandomZoom(0.1, seed=-1), "seed"),
        (lambda: layers.RandomContrast(2.0), "factor must be from 0"),
        (lambda: layers.RandomBrightness(0.1, (1, 0)), "value_range must be"),
        (lambda: layers.RandomCrop(0, 3), "height must be"),
        (lambda: layers.RandomCrop(9, 3)(draw(1, 8, 8, 1)), "smaller than what RandomCrop cuts"),
        (lambda: layers.CenterCrop(3, 9)(draw(1, 8, 8, 1)), "smaller than what CenterCrop cuts"),
        (lambda: layers.RandomFlip()(draw(8, 8, 1)), "needs inputs of 4 axes"),
    ],
)
def test_errors(make, why):
    with pytest.raises(ValueError, match=why):
        make()


# --- derivatives and training ---------------------------------------------------------------------


@pytest.mark.parametrize(("name", "arguments"), RANDOM + FIXED)
def test_gradients(name, arguments):
    config.set_floatx("float64")
    layer = getattr(layers, name)(**arguments, **({"seed": 1} if "Random" in name else {}))

    class Same(type(layer)):
        """The same draw at each call: differences need that."""

        def run_channels_last(self, x):
            self.random_state.assign(np.array([1, 0], np.uint64))
            return super().run_channels_last(x)

    if name.startswith("Random"):
        layer = Same(**arguments, seed=1)
    check_gradients(layer, draw(3, 8, 7, 2, dtype=np.float64), training=True)


def test_the_same_recorded_or_not(monkeypatch):
    x = draw(30, 8, 8, 2)
    y = (x.mean(axis=(1, 2, 3)) > 0).astype(np.float32)
    found = []
    for replay in (True, False):
        monkeypatch.setattr(training_module, "_REPLAY", replay)
        utils.set_random_seed(4)
        model = Sequential(
            [Input((8, 8, 2))]
            + [
                getattr(layers, name)(**arguments)
                for name, arguments in RANDOM
                if name != "RandomCrop"
            ]
            + [layers.RandomCrop(6, 5), layers.Flatten(), layers.Dense(1, activation="sigmoid")]
        )
        model.compile("adam", "binary_crossentropy")
        losses = model.fit(x, y, batch_size=8, epochs=3, verbose=0).history["loss"]
        found.append((losses, *model.get_weights(), model.predict(x, verbose=0)))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
