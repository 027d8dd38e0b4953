"""Pictures through a convolutional net: windows of 3 x 3, pooling, then dense layers.

Two sizes of one net. The small one reads MNIST's digits, 28 x 28:

    conv 32, conv 64, pool, conv 128, pool, dense 128, dense 10

    python examples/cnn.py --data FOLDER --plot PICTURES

FOLDER holds the four MNIST files; without it RANVIER_DATA is looked at, then the cache, and what is
missing is downloaded (pip install "ranvier[datasets]").

The full one has 823 million parameters and needs about 14 GB of memory in batches of 32, and 0.15
MB for each picture:

    conv 32, conv 64, pool, conv 128, pool, conv 256, dense 1024, dense 1000 on 224 x 224 x 3

    python examples/cnn.py --size full --images FOLDER

FOLDER holds a folder of pictures for each class; without it patterns of colour are made up.
"""

from __future__ import annotations

import argparse
import os
import sys
from itertools import pairwise
from time import perf_counter
from typing import NamedTuple

import numpy as np

import ranvier as keras
from ranvier import layers


class Size(NamedTuple):
    """What a net is made for."""

    shape: tuple[int, int, int]  # of a picture
    last_window: int  # filters of a fourth convolution; 0: none
    units: int
    classes: int
    epochs: int
    learning_rate: float = 0.001


SMALL = Size((28, 28, 1), 0, 128, 10, epochs=5)
# Each unit of its dense layer adds up 800,000 numbers: steps of 0.001 in all of them throw it far.
FULL = Size((224, 224, 3), 256, 1024, 1000, epochs=1, learning_rate=1e-5)


def make_model(size: Size) -> keras.Model:
    def window(filters: int) -> layers.Layer:
        return layers.Conv2D(filters, 3, padding="same", activation="relu")

    model = keras.Sequential(
        [
            keras.Input(shape=size.shape),
            layers.Rescaling(1 / 255),
            window(32),
            window(64),
            layers.MaxPooling2D(2),
            window(128),
            layers.MaxPooling2D(2),
            *([window(size.last_window)] if size.last_window else []),
            layers.Flatten(),
            layers.Dense(size.units, activation="relu"),
            layers.Dense(size.classes, activation="softmax"),
        ]
    )
    adam = keras.optimizers.Adam(size.learning_rate)
    model.compile(optimizer=adam, loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def slowing(model: keras.Model, epochs: int) -> keras.callbacks.Callback:
    """The learning rate falls in a straight line from epoch to epoch: the last ones settle."""
    rate = model.optimizer.learning_rate

    def begin(epoch: int, logs: dict) -> None:
        model.optimizer.learning_rate = rate * (1 - epoch / epochs)

    return keras.callbacks.LambdaCallback(on_epoch_begin=begin)


# --- memory ---------------------------------------------------------------------------------------


def count_parameters(size: Size) -> int:
    """Of the net, without making it."""
    height, width, channels = size.shape
    filters = [channels, 32, 64, 128] + [size.last_window] * (size.last_window > 0)
    windows = sum(9 * a * b + b for a, b in pairwise(filters))
    flat = (height // 4) * (width // 4) * filters[-1]
    return windows + (flat + 1) * size.units + (size.units + 1) * size.classes


def bytes_needed(size: Size, batch: int, pictures: int) -> int:
    """Weights and Adam's two moments, what a step keeps of each picture on its way, and the
    pictures themselves with their one-hot rows."""
    height, width, channels = size.shape
    # In each place of a picture: after conv 32 and 64; after pooling 64, 128; again 128, 256, 256
    values = height * width * (32 + 64 + (64 + 128) / 4 + (128 + 2 * size.last_window) / 16)
    there_and_back = 2 * values * batch
    data = pictures * (height * width * channels + 4 * size.classes)
    step = 1.05 * 4 * (3 * count_parameters(size) + there_and_back)  # some is lost between
    return int(step + data)


# What a container may use at most: cgroups of version 2 and 1.
LIMITS = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]


def bytes_available() -> int | None:
    """What the system could give to a program now; None if it does not tell."""
    text = first_line("/proc/meminfo", "MemAvailable:")
    found = [1024 * int(text.split()[1])] if text else []
    found += [int(text) for text in map(first_line, LIMITS) if text.isdigit()]  # else "max"
    return min(found, default=None)


def first_line(path: str, beginning: str = "") -> str:
    """The first line of a file that begins so; "" if there is none."""
    try:
        with open(path) as file:
            return next((line.strip() for line in file if line.startswith(beginning)), "")
    except OSError:
        return ""


def check_memory(size: Size, batch: int, pictures: int) -> None:
    """Stop before the machine does."""
    needed, available = bytes_needed(size, batch, pictures), bytes_available()
    if available is not None and available < needed:
        raise SystemExit(
            f"this net needs about {needed / 1e9:.1f} GB of memory to train on {pictures} pictures "
            f"in batches of {batch}, and {available / 1e9:.1f} GB are available: close other "
            "programs, lower --batch-size, give fewer pictures, or take --size small"
        )


def peak_memory() -> float | None:
    """The most that this process has held so far, in GB."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


# --- pictures -------------------------------------------------------------------------------------


def count_pictures(options: argparse.Namespace) -> int:
    """How many will be held in memory, training and test together."""
    if options.size == "small":
        return 70_000
    if options.images:
        return sum(len(files) for _, _, files in os.walk(options.images))
    return options.rows + options.rows // 4


def digits(folder: str | None) -> tuple[tuple, tuple]:
    """MNIST: bytes (n, 28, 28, 1), and one-hot rows."""
    parts = keras.datasets.mnist.load_data(folder)
    train, test = ((x[..., None], keras.utils.to_categorical(y, 10)) for x, y in parts)
    return train, test


def patterns(size: Size, rows: int, seed: int) -> tuple[tuple, tuple]:
    """Made-up pictures: stripes whose colour, width and direction tell the class, and noise."""
    random = np.random.default_rng(seed)
    height, width, channels = size.shape
    labels = random.integers(0, size.classes, rows + rows // 4)
    across, down = np.meshgrid(np.arange(width) / width, np.arange(height) / height)
    x = np.empty((len(labels), height, width, channels), np.uint8)
    for picture, label in zip(x, labels, strict=True):
        angle, count = np.pi * (label % 8) / 8, 2 + label // 8 % 8
        stripes = np.sin(2 * np.pi * count * (np.cos(angle) * across + np.sin(angle) * down))
        colour = 60 + 20 * (label // 64 // 4 ** np.arange(channels) % 4)
        noise = random.normal(0, 10, picture.shape)
        picture[...] = np.clip(128 + colour * stripes[..., None] + noise, 0, 255)
    y = keras.utils.to_categorical(labels, size.classes)
    return (x[:rows], y[:rows]), (x[rows:], y[rows:])


def photographs(folder: str, size: Size, seed: int) -> tuple[tuple, tuple]:
    """Of a folder: a fifth is held out."""
    train, test, _ = keras.utils.image_dataset(
        folder, label_mode="categorical", image_size=size.shape[:2], crop_to_aspect_ratio=True,
        seed=seed, validation_split=0.2, subset="both",
    )  # fmt: skip
    return train, test


# --- what it has learned --------------------------------------------------------------------------


def confusion(truth: np.ndarray, guess: np.ndarray, classes: int) -> np.ndarray:
    """How many pictures of class i were taken for class j: (classes, classes)."""
    pairs = np.bincount(truth * classes + guess, minlength=classes * classes)
    return pairs.reshape(classes, classes)


def plot(folder: str, matrix: np.ndarray, filters: np.ndarray) -> None:
    """Draw the confusion matrix, and the first windows (3, 3, channels, filters)."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit('--plot needs matplotlib: pip install "ranvier[plot]"') from None
    os.makedirs(folder, exist_ok=True)
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    wrong = matrix * (1 - np.eye(len(matrix), dtype=int))
    axes.imshow(wrong, cmap="Reds")  # the right ones would drown the rest
    if len(matrix) <= 20:
        for (i, j), count in np.ndenumerate(matrix):
            dark = wrong[i, j] > 0.6 * wrong.max()
            colour = "white" if dark else "black"
            axes.text(j, i, str(count), ha="center", va="center", fontsize=8, color=colour)
        axes.set_xticks(range(len(matrix)))
        axes.set_yticks(range(len(matrix)))
    axes.set(xlabel="said", ylabel="true", title=f"{wrong.sum()} of {matrix.sum()} wrong")
    figure.savefig(os.path.join(folder, "confusion.png"), dpi=120)

    count = filters.shape[-1]
    columns = 8
    figure = Figure(figsize=(6, 0.8 * -(-count // columns)), layout="constrained")
    places = figure.subplots(-(-count // columns), columns, squeeze=False).ravel()
    largest = np.abs(filters).max()
    for k, place in enumerate(places):
        place.axis("off")
        if k >= count:
            continue
        window = filters[..., k]
        if window.shape[-1] == 3:  # colours
            place.imshow(0.5 + 0.5 * window / largest)
        else:
            place.imshow(window.mean(axis=-1), cmap="RdBu", vmin=-largest, vmax=largest)
    figure.savefig(os.path.join(folder, "filters.png"), dpi=120)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a convolutional net on pictures.")
    add = parser.add_argument
    add("--size", choices=["small", "full"], default="small", help="default: %(default)s")
    add("--epochs", type=int, help="default: 5 for small, 1 for full")
    add("--batch-size", type=int, default=32, help="default: %(default)s")
    add("--seed", type=int, default=0, help="of weights and row order (default: %(default)s)")
    add("--data", metavar="FOLDER", help="small: where the four MNIST files are")
    add("--images", metavar="FOLDER", help="full: a folder of pictures for each class")
    add("--rows", type=int, default=128, help="full: made-up pictures (default: %(default)s)")
    add("--plot", metavar="DIR", help="draw the confusion matrix and the first windows there")
    add("--quick", action="store_true", help="small: 1 epoch on 640 rows; full: 32 x 32, 8 classes")
    options = parser.parse_args(argv)
    size = SMALL if options.size == "small" else FULL
    if options.quick and size is FULL:
        size = Size((32, 32, 3), 16, 32, 8, epochs=1)
    epochs = options.epochs or (1 if options.quick else size.epochs)
    check_memory(size, options.batch_size, count_pictures(options))

    keras.utils.set_random_seed(options.seed)
    if options.size == "small":
        (x_train, y_train), (x_test, y_test) = digits(options.data)
        if options.quick:
            x_train, y_train = x_train[:640], y_train[:640]
    elif options.images:
        (x_train, y_train), (x_test, y_test) = photographs(options.images, size, options.seed)
    else:
        (x_train, y_train), (x_test, y_test) = patterns(size, options.rows, options.seed)
    size = size._replace(classes=y_train.shape[1])
    start = perf_counter()
    model = make_model(size)
    print(f"made in {perf_counter() - start:.1f} s")
    model.summary()

    start = perf_counter()
    model.fit(
        x_train, y_train, options.batch_size, epochs, validation_data=(x_test, y_test), verbose=1,
        callbacks=[slowing(model, epochs)],
    )  # fmt: skip
    seconds = perf_counter() - start
    loss, accuracy = model.evaluate(x_test, y_test, options.batch_size, verbose=0)
    truth = y_test.argmax(axis=1)
    matrix = confusion(
        truth, model.predict(x_test, options.batch_size).argmax(axis=1), size.classes
    )
    print(f"trained on {len(x_train)} pictures, {epochs} epochs, in {seconds:.1f} s")
    print(
        f"test loss {loss:.4f}, {matrix.sum() - matrix.trace()} of {len(truth)} test images wrong"
    )
    print(f"test accuracy {accuracy:.4f}")
    peak = peak_memory()
    if peak is not None:
        print(f"peak memory {peak:.2f} GB")
    if options.plot:
        first = next(layer for layer in model.layers if isinstance(layer, layers.Conv2D))
        plot(options.plot, matrix, first.kernel.numpy())
        print(f"confusion.png and filters.png are in {options.plot}")


if __name__ == "__main__":
    main()
