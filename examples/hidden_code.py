"""An autoencoder with one hidden code, on handwritten digits of 8x8 pixels.

    h = s(W x + b)            the code, smaller than the image; s is the sigmoid
    x' = V h + c              the reconstruction, linear
    loss = ||x - x'||^2 + strength * R

R is the L1 or L2 penalty on the weights, which keeps them small, or on the code, which keeps most
of its units silent. Gradient descent, RMSprop and Adam start from the same weights: random ones
(uniform or normal), or those of another model, trained before without R.

    python examples/hidden_code.py --penalty l1-code --plot digits.png
"""

from __future__ import annotations

import argparse

import numpy as np

import ranvier as keras
from ranvier import initializers, layers, regularizers

RATES = {"SGD": 0.01, "RMSprop": 0.002, "Adam": 0.002}
PENALTIES = {"none": None, "l1": regularizers.L1, "l2": regularizers.L2}
STARTS = {
    "uniform": initializers.RandomUniform(-0.1, 0.1),
    "normal": initializers.RandomNormal(stddev=0.1),
}


def make_model(normalise, units: int, start: str, penalty: str, strength: float) -> keras.Model:
    norm, _, what = penalty.partition("-")
    r = PENALTIES[norm](strength) if what else None
    options = {
        "kernel_initializer": STARTS.get(start, "glorot_uniform"),
        "kernel_regularizer": r if what == "weights" else None,
    }
    code = {"name": "code", "activity_regularizer": r if what == "code" else None}
    x = keras.Input(shape=(64,))
    h = layers.Dense(units, activation="sigmoid", **options, **code)(normalise(x))
    return keras.Model(x, layers.Dense(64, **options)(h))


def train(model, optimizer: str, x, target, validation, epochs: int) -> dict[str, list[float]]:
    made = getattr(keras.optimizers, optimizer)(learning_rate=RATES[optimizer])
    # "mse" is a mean over the 64 columns too: 64 times that is ||x - x'||^2, averaged over rows.
    model.compile(optimizer=made, loss="mse", loss_weights=[64.0])
    options = {"batch_size": 32, "shuffle": True, "validation_data": validation, "verbose": 0}
    return model.fit(x, target, epochs=epochs, **options).history


def mean_distance(target: np.ndarray, reconstruction: np.ndarray) -> float:
    """The mean of ||x - x'|| over the rows."""
    return float(np.linalg.norm(target - reconstruction, axis=1).mean())


def plot(path: str, originals: np.ndarray, reconstructions: np.ndarray, columns: int = 10) -> None:
    """Originals above, reconstructions below; (rows, 64) each."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit('--plot needs matplotlib: pip install "ranvier[plot]"') from None
    figure = Figure(figsize=(columns, 2.2), layout="constrained")
    for row, images in zip(figure.subplots(2, columns), (originals, reconstructions), strict=True):
        for axes, image in zip(row, images[:columns], strict=True):
            axes.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
            axes.set_axis_off()
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="One hidden code, three optimizers, on digits.")
    add = parser.add_argument
    penalties = ["none", "l1-weights", "l2-weights", "l1-code", "l2-code"]
    add("--penalty", choices=penalties, default="l1-code", help="R (default: %(default)s)")
    add("--strength", type=float, help="of R (default: 0.5 for the code, 0.01 for the weights)")
    add(
        "--start", choices=[*STARTS, "another"], default="uniform",
        help="the first weights; another: of a model trained without R (default: %(default)s)",
    )  # fmt: skip
    add("--units", type=int, default=24, help="of the code (default: %(default)s)")
    add("--epochs", type=int, default=100, help="default: %(default)s")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--plot", metavar="FILE", help="draw digits, and below what came back of them")
    add("--quick", action="store_true", help="10 epochs only")
    options = parser.parse_args(argv)
    epochs = 10 if options.quick else options.epochs
    strength = options.strength
    if strength is None:
        strength = 0.5 if options.penalty.endswith("code") else 0.01

    keras.utils.set_random_seed(options.seed)
    (x_train, _), (x_test, _) = keras.datasets.digits.load_data()
    x_train, x_test = x_train.reshape(-1, 64), x_test.reshape(-1, 64)
    normalise = layers.Normalization(axis=None)  # one mean and one deviation for all pixels
    normalise.adapt(x_train)
    target, validation = normalise(x_train), (x_test, normalise(x_test))

    first = make_model(normalise, options.units, options.start, "none", 0)
    if options.start == "another":
        train(first, "Adam", x_train, target, validation, epochs)
    mean_digit = np.broadcast_to(target.mean(axis=0), validation[1].shape)
    penalty = "none" if options.penalty == "none" else f"{strength} * {options.penalty}"
    print(f"penalty: {penalty}; {epochs} epochs on {len(x_train)} digits")
    print(f"held-out digits lie {mean_distance(validation[1], mean_digit):.2f} from the mean digit")
    print("                loss              held out: loss   distance   code above 0.1")
    for name in RATES:
        model = make_model(normalise, options.units, options.start, options.penalty, strength)
        model.set_weights(first.get_weights())
        logs = train(model, name, x_train, target, validation, epochs)
        reconstruction = model.predict(x_test)
        code = keras.Model(model.input, model.get_layer("code").output).predict(x_test)
        print(
            f"{name:8s} {logs['loss'][0]:8.3f} -> {logs['loss'][-1]:7.3f}"
            f"{logs['val_loss'][-1]:19.3f}{mean_distance(validation[1], reconstruction):11.3f}"
            f"{np.mean(code > 0.1):15.0%}"
        )
    if options.plot:
        mean, variance = normalise.get_weights()
        undo = layers.Normalization(axis=None, mean=mean, variance=variance, invert=True)
        plot(options.plot, x_test, undo(reconstruction))
        print(f"what Adam's model made of the first held-out digits is drawn in {options.plot}")


if __name__ == "__main__":
    main()
