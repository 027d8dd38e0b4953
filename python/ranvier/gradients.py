"""check_gradients: every derivative of a layer or model against central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ranvier._core import Buffer
from ranvier.layers.base import Layer

__all__ = ["check_gradients"]


def check_gradients(
    layer: Layer,
    x: ArrayLike | list[ArrayLike],
    *,
    training: bool = False,
    step: float = 1e-5,
    tolerance: float = 1e-6,
    samples: int = 100,
    seed: int = 0,
) -> dict[str, float]:
    """Compare a layer's backward pass with central differences.

    The output is weighted by random numbers and summed; each derivative of that sum, by the inputs
    and by every trainable variable, is compared with (f(p + step) - f(p - step)) / (2 step). The
    layer must compute in float64: make it with dtype="float64", or after
    `config.set_floatx("float64")`. Keep x away from kinks, such as 0 for relu.

    Args:
        layer: a layer or model.
        x: (rows, ...), or a list of such for several inputs.
        training: as for the layer's call. Layers that draw random numbers must not depend on it.
        step: of the difference.
        tolerance: the largest relative error to accept.
        samples: how many elements of each array to try, chosen at random where it has more.
        seed: for the choice and the weights.

    Returns:
        The largest error beyond rounding, relative to the largest derivative, for "input" (or
        "input_0", ...) and each variable's path.

    Raises:
        AssertionError: if one is above the tolerance; it names all that are.
        ValueError: if the layer is not float64.
    """
    generator = np.random.default_rng(seed)
    many = isinstance(x, (list, tuple))
    given: Any = x if many else [x]
    arrays = [np.array(a, np.float64) for a in given]
    shapes = [(None, *a.shape[1:]) for a in arrays]
    layer.ensure_built(shapes if many else shapes[0])
    variables = layer.trainable_weights
    for dtype in [layer.input_dtype, *[v.dtype for v in variables]]:
        if dtype != "float64":
            raise ValueError(
                f"[check_gradients] {layer.name} computes in {dtype}; make it with dtype='float64'"
            )

    def forward() -> tuple[list[Buffer], Callable[[Any], Any], bool]:
        inputs = [Buffer.from_array(a) for a in arrays]
        y, backward = layer.run(inputs if many else inputs[0], training)
        several = isinstance(y, (list, tuple))
        return (list(y) if several else [y]), backward, several

    gradients = [Buffer(v.shape, v.dtype) for v in variables]
    for v, g in zip(variables, gradients, strict=True):
        v.gradient = g
    try:
        ys, backward, several = forward()
        weights = [generator.standard_normal(y.shape) for y in ys]
        dys = [Buffer.from_array(w) for w in weights]
        dx = backward(dys if several else dys[0])
        found = [g.numpy() for g in gradients]
    finally:
        for v in variables:
            v.gradient = None

    def value() -> float:
        return sum(float(np.vdot(w, y.view())) for w, y in zip(weights, forward()[0], strict=True))

    # What the sums may be off by, which counts where a derivative is 0: that of a bias before a
    # normalization.
    terms = sum(float(np.vdot(abs(w), abs(y.view()))) for w, y in zip(weights, ys, strict=True))
    rounding = 10 * np.finfo(np.float64).eps * terms / step

    errors: dict[str, float] = {}

    def compare(name: str, gradient: np.ndarray, read: Any, write: Callable[[Any], None]) -> None:
        original = np.array(read)
        if gradient.shape != original.shape:
            raise AssertionError(
                f"[check_gradients] {layer.name}: the gradient of {name} has shape "
                f"{gradient.shape} instead of {original.shape}"
            )
        picks: Any = np.arange(original.size)
        if original.size > samples:
            picks = generator.choice(original.size, samples, replace=False)
        worst, scale = 0.0, max(1e-8, np.abs(gradient).max(initial=0.0))
        for i in picks:
            sums = []
            for sign in (1, -1):
                changed = original.copy()
                changed.flat[i] += sign * step
                write(changed)
                sums.append(value())
            write(original)
            error = abs((sums[0] - sums[1]) / (2 * step) - gradient.flat[i])
            worst = max(worst, (error - rounding) / scale)
        errors[name] = float(worst)

    def write_input(i: int) -> Callable[[Any], None]:
        def write(changed: np.ndarray) -> None:
            arrays[i] = changed

        return write

    for i, d in enumerate(dx if many else [dx]):
        gradient = np.zeros(arrays[i].shape) if d is None else d.numpy()  # None: it does not depend
        compare(f"input_{i}" if many else "input", gradient, arrays[i], write_input(i))
    for v, gradient in zip(variables, found, strict=True):
        compare(v.path, gradient, v.numpy(), v.assign)
    wrong = {name: error for name, error in errors.items() if not error <= tolerance}
    if wrong:
        raise AssertionError(
            f"[check_gradients] {layer.name}: relative errors above {tolerance}: {wrong}"
        )
    return errors
