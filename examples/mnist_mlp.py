"""Handwritten digits with a small dense net: 784-64-64-10 on MNIST, ten epochs.

The images go in as they are, bytes from 0 to 255: the first layer of the model scales them, so that
whoever uses the model later cannot scale them in another way.

    python examples/mnist_mlp.py --data FOLDER

FOLDER holds the four MNIST files. Without it RANVIER_DATA is looked at, then the cache, and what is
missing is downloaded (pip install "ranvier[datasets]").
"""

from __future__ import annotations

import argparse
from time import perf_counter

import numpy as np

import ranvier as keras
from ranvier import layers


def make_scaling(scale: str, x_train: np.ndarray) -> layers.Layer:
    """The layer that scales: to [0, 1], or to mean 0 and deviation 1 of the training set."""
    if scale == "255":
        return layers.Rescaling(1 / 255)
    standard = layers.Normalization(axis=None)  # one mean and one deviation for all pixels
    standard.adapt(x_train)
    return standard


def make_model(scaling: layers.Layer) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input(shape=(28, 28)),
            scaling,
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(0.001),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train 784-64-64-10 on MNIST.")
    add = parser.add_argument
    add("--scale", choices=["255", "standard"], default="255", help="default: %(default)s")
    add("--epochs", type=int, default=10, help="default: %(default)s")
    add("--seed", type=int, default=0, help="of weights and row order (default: %(default)s)")
    add("--data", metavar="FOLDER", help="where the four MNIST files are")
    add("--quick", action="store_true", help="1 epoch on the first 2000 rows")
    options = parser.parse_args(argv)

    (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data(options.data)
    epochs = options.epochs
    if options.quick:
        epochs, x_train, y_train = 1, x_train[:2000], y_train[:2000]

    keras.utils.set_random_seed(options.seed)
    model = make_model(make_scaling(options.scale, x_train))
    model.summary()
    start = perf_counter()
    model.fit(x_train, y_train, batch_size=32, epochs=epochs, verbose=1)
    seconds = perf_counter() - start
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)

    wrong = np.flatnonzero(model.predict(x_test).argmax(axis=1) != y_test)
    print(f"trained on {len(x_train)} images, {epochs} epochs, in {seconds:.1f} s")
    print(f"test loss {loss:.4f}, {len(wrong)} of {len(x_test)} test images wrong")
    print(f"test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
