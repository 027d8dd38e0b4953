"""`utils.image_dataset`: folders of pictures as arrays."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ranvier import Input, Sequential, layers, utils

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

COLOURS = {"blue": (10, 20, 240), "green": (10, 200, 30), "red": (220, 30, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """blue/0.png ...: of one colour and many sizes, some deeper, and what is no picture."""
    root = tmp_path_factory.mktemp("pictures")
    for n, (name, colour) in enumerate(COLOURS.items()):
        (root / name / "more").mkdir(parents=True)
        for i in range(4 + n):
            shade = tuple(c + i for c in colour)
            where = root / name / ("more" if i % 2 else "") / f"{i}.{'bmp' if i % 2 else 'png'}"
            Image.new("RGB", (6 + i, 5 + n), shade).save(where)
        (root / name / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    return root


def test_in_the_order_of_their_names(folder):
    x, y, names = utils.image_dataset(folder, image_size=(4, 7), shuffle=False)
    assert names == ["blue", "green", "red"]
    assert x.shape == (15, 4, 7, 3) and x.dtype == np.uint8
    assert y.dtype == np.int32
    assert y.tolist() == [0] * 4 + [1] * 5 + [2] * 6
    assert (x == x[:, :1, :1]).all()  # one colour each
    shades = x[:, 0, 0] - np.array([COLOURS[names[label]] for label in y])
    assert shades[:, 0].tolist() == [0, 2, 1, 3, 0, 2, 4, 1, 3, 0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("color_mode", ["grayscale", "rgb"])
def test_grey_of_16_bits(tmp_path, color_mode):
    grey = (np.arange(12, dtype=np.uint16) * 5900).reshape(3, 4)
    (tmp_path / "scans").mkdir()
    Image.fromarray(grey).save(tmp_path / "scans" / "a.png")
    header = b"P5 4 3 65535\n"
    (tmp_path / "scans" / "b.ppm").write_bytes(header + grey.astype(">u2").tobytes())
    x, _, _ = utils.image_dataset(tmp_path, color_mode=color_mode, image_size=(3, 4))
    np.testing.assert_array_equal(x, np.broadcast_to((grey >> 8)[..., None], x.shape))


def test_labels(folder):
    _, y, _ = utils.image_dataset(folder, label_mode="categorical", image_size=(2, 2), seed=1)
    assert y.shape == (15, 3) and y.dtype == np.float32
    assert y.sum(axis=0).tolist() == [4, 5, 6] and (y.sum(axis=1) == 1).all()
    x, y, names = utils.image_dataset(
        folder, label_mode="binary", class_names=["red", "blue"], image_size=(2, 2), shuffle=False
    )
    assert names == ["red", "blue"]
    assert y.tolist() == [[0.0]] * 6 + [[1.0]] * 4
    assert x[0, 0, 0].tolist() == list(COLOURS["red"])
    x, y, names = utils.image_dataset(folder, labels=None, image_size=(2, 2))
    assert len(x) == 15 and y is None and names == []
    given = np.arange(15) % 2
    _, y, names = utils.image_dataset(folder, labels=given, image_size=(2, 2), shuffle=False)
    np.testing.assert_array_equal(y, given)
    assert names == ["0", "1"]
    assert utils.image_dataset(folder, label_mode=None, image_size=(2, 2))[1] is None


def test_shuffled_by_the_seed_and_split(folder):
    options = {"image_size": (3, 3), "seed": 4}
    x, y, _ = utils.image_dataset(folder, **options)
    again, y_again, _ = utils.image_dataset(folder, **options)
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(y, y_again)
    assert y.tolist() != sorted(y)
    assert (utils.image_dataset(folder, image_size=(3, 3), seed=5)[1] != y).any()
    options["validation_split"] = 0.2
    train, val, names = utils.image_dataset(folder, **options, subset="both")
    assert names == ["blue", "green", "red"]
    np.testing.assert_array_equal(np.concatenate([train[0], val[0]]), x)
    np.testing.assert_array_equal(np.concatenate([train[1], val[1]]), y)
    assert len(val[0]) == 3
    np.testing.assert_array_equal(
        utils.image_dataset(folder, **options, subset="training")[0], train[0]
    )
    np.testing.assert_array_equal(
        utils.image_dataset(folder, **options, subset="validation")[1], val[1]
    )


@pytest.mark.parametrize(("mode", "channels"), [("rgb", 3), ("rgba", 4), ("grayscale", 1)])
def test_colours(folder, mode, channels):
    x, _, _ = utils.image_dataset(folder, color_mode=mode, image_size=(2, 3), shuffle=False)
    assert x.shape == (15, 2, 3, channels)
    if mode == "rgba":
        assert (x[..., 3] == 255).all()
    if mode == "grayscale":
        assert x[0, 0, 0, 0] == round(np.dot(COLOURS["blue"], [0.299, 0.587, 0.114]))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "area", "lanczos"])
def test_resized_or_cut_out(tmp_path, interpolation):
    (tmp_path / "a").mkdir()
    picture = np.zeros((4, 8), np.uint8)
    picture[:, 2:6] = 200
    Image.fromarray(picture).save(tmp_path / "a" / "x.png")
    options = {"image_size": (4, 4), "color_mode": "grayscale", "interpolation": interpolation}
    whole = utils.image_dataset(tmp_path, **options)[0][0, :, :, 0]
    assert whole[0, 1] > 150 > 50 > whole[0, 0]
    middle = utils.image_dataset(tmp_path, **options, crop_to_aspect_ratio=True)[0]
    np.testing.assert_array_equal(middle, 200)


def test_from_a_file_and_trained_on(folder, tmp_path):
    x, y, names = utils.image_dataset(folder, image_size=(6, 6), seed=1, memmap=tmp_path / "x.npy")
    assert isinstance(x, np.memmap)
    expected, _, _ = utils.image_dataset(folder, image_size=(6, 6), seed=1)
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected)
    model = Sequential(
        [
            Input((6, 6, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(len(names), activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, batch_size=5, epochs=40, verbose=0).history
    assert history["accuracy"][-1] == 1.0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"label_mode": "one-hot"}, "label_mode must be"),
        ({"label_mode": "binary"}, "'binary' needs two classes"),
        ({"labels": "names"}, "labels must be 'inferred'"),
        ({"labels": [1, 2]}, "one for each of 15 pictures"),
        ({"labels": [-1] * 15}, "whole numbers from 0"),
        ({"labels": [3] * 15, "class_names": ["a"]}, "label 3 has no name"),
        ({"color_mode": "cmyk"}, "color_mode must be one of rgb"),
        ({"interpolation": "cubic"}, "interpolation must be one of"),
        ({"image_size": 32}, "image_size must be"),
        ({"image_size": (0, 3)}, "image_size must be"),
        ({"validation_split": 0.2}, "must be given together"),
        ({"subset": "both"}, "must be given together"),
        ({"validation_split": 1.5, "subset": "both"}, "between 0 and 1"),
        ({"validation_split": 0.5, "subset": "test"}, "subset must be"),
        ({"validation_split": 0.01, "subset": "both"}, "nothing is left of 15 pictures"),
        ({"validation_split": 0.5, "subset": "both", "memmap": "x.npy"}, "memmap is one file"),
    ],
)
def test_bad_arguments(folder, options, why):
    with pytest.raises(ValueError, match=why):
        utils.image_dataset(folder, **options)


def test_bad_folders(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        utils.image_dataset(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no folder of class"):
        utils.image_dataset(folder, class_names=["blue", "yellow"])
    with pytest.raises(ValueError, match="there are no pictures"):
        utils.image_dataset(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with pytest.raises(ValueError, match=r"broken\.png' cannot be read"):
        utils.image_dataset(tmp_path)


def test_without_pillow_it_says_what_to_install(folder):
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from ranvier import utils\n"
        f"utils.image_dataset({str(folder)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert 'pip install "ranvier[images]"' in done.stderr
