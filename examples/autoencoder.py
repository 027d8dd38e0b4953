"""An autoencoder, 10-5-5-5-10: ten columns go through a waist of five and should come out again.

The 100 rows look ten columns wide, but three hidden causes make them all, so five numbers are
enough to tell a row. Random rows without such causes would not pass through the waist.

    python examples/autoencoder.py
"""

from __future__ import annotations

import argparse

import numpy as np

import ranvier as keras
from ranvier import layers


def make_rows(rows: int = 100, columns: int = 10, causes: int = 3, seed: int = 0) -> np.ndarray:
    """(rows, columns), each column a smooth mixture of the same few causes, within 0 to 1."""
    random = np.random.default_rng(seed)
    hidden = random.standard_normal((rows, causes))
    mixing = random.standard_normal((causes, columns))
    return 1 / (1 + np.exp(-hidden @ mixing))


def make_model(columns: int = 10) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(shape=(columns,)),
            layers.Dense(5, activation="relu"),
            layers.Dense(5, activation="relu"),
            layers.Dense(5, activation="relu"),
            layers.Dense(columns, activation="sigmoid"),
        ]
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train an autoencoder 10-5-5-5-10 on 100 rows.")
    parser.add_argument("--epochs", type=int, default=100, help="default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=2,
        help="of the weights (default: %(default)s); relu neurons may fall silent for good, and so "
        "few of them are missed: other seeds end between 0.0004 and 0.06",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="10 epochs only")
    options = parser.parse_args(argv)
    epochs = 10 if options.quick else options.epochs

    keras.utils.set_random_seed(options.seed)
    x = make_rows()
    model = make_model()
    model.summary()
    model.compile(optimizer="adam", loss="mse")
    before = model.evaluate(x, x, verbose=0)
    model.fit(x, x, epochs=epochs, batch_size=1, verbose=0)
    y = model.predict(x)

    error = np.mean((x - y) ** 2)
    print(f"\nmean squared error over {len(x)} rows, {epochs} epochs of one row a step")
    print(f"  before training      {before:.5f}")
    print(f"  each column's mean   {x.var(axis=0).mean():.5f}  (the best without seeing the row)")
    print(f"  after training       {error:.5f}")
    np.set_printoptions(precision=2, suppress=True, floatmode="fixed", linewidth=100)
    print(f"\nthe first row     {x[0]}\nreconstructed as  {y[0]}")


if __name__ == "__main__":
    main()
