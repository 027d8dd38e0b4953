"""Layers that merge several inputs into one."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from ranvier import _core, ops
from ranvier._core import Buffer
from ranvier.layers.base import Layer, Shape

__all__ = [
    "Add",
    "Average",
    "Concatenate",
    "Dot",
    "Maximum",
    "Minimum",
    "Multiply",
    "Subtract",
    "add",
    "average",
    "concatenate",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "subtract",
]


class _Merge(Layer):
    """Checks a list of inputs; what is done with them is `forward`."""

    count = 0  # of inputs; 0: one or more

    def check_input(self, input_shape: Any) -> None:
        kind = type(self).__name__
        if not isinstance(input_shape, list) or not input_shape:
            raise ValueError(
                f"[{self.name}] {kind} must be called on a list of inputs; received {input_shape}"
            )
        if self.count and len(input_shape) != self.count:
            raise ValueError(
                f"[{self.name}] {kind} needs exactly {self.count} inputs; received "
                f"{len(input_shape)}: {input_shape}"
            )
        if any(len(shape) < 2 for shape in input_shape):
            raise ValueError(f"[{self.name}] inputs need 2 axes or more: {input_shape}")
        self.compute_output_shape(input_shape)

    def check_rows(self, xs: Sequence[Buffer]) -> None:
        if any(x.shape[0] != xs[0].shape[0] for x in xs):
            raise ValueError(
                f"[{self.name}] the inputs must have equally many rows: {[x.shape for x in xs]}"
            )


class _Elementwise(_Merge):
    """Folds the inputs one by one: y = f(f(x0, x1), x2), ...

    Inputs have equal shapes, but for axes of size 1, which are repeated; one with fewer axes is
    given axes of size 1 behind the rows, as in Keras.
    """

    how = "add"

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        return functools.reduce(self._merged, _aligned(input_shape))

    def _merged(self, a: Shape, b: Shape) -> Shape:
        if any(
            1 not in (d, e) and None not in (d, e) and d != e for d, e in zip(a, b, strict=True)
        ):
            raise ValueError(
                f"[{self.name}] {type(self).__name__} needs inputs of equal shapes, but for axes of"
                f" size 1: received {a} and {b}"
            )
        return tuple(e if d == 1 else d if e == 1 else d and e for d, e in zip(a, b, strict=True))

    def forward(self, xs, *, training=False):
        self.check_rows(xs)
        shapes = _aligned([x.shape for x in xs])
        y, *rest = [x.reshape(shape) for x, shape in zip(xs, shapes, strict=True)]
        folds = []
        for x in rest:
            folds.append((y, x))
            y = ops.merge(y, x, self.how)

        def backward(dy):
            dxs = []
            for a, b in reversed(folds):
                # None: the inputs that are left are all constant
                dy, db = (None, None) if dy is None else ops.merge_backward(dy, a, b, self.how)
                dxs.append(db)
            dxs = [dy, *reversed(dxs)]
            return [None if d is None else d.reshape(x.shape) for d, x in zip(dxs, xs, strict=True)]

        return y, backward


class Add(_Elementwise):
    """y = x0 + x1 + ...

    Called on a list of inputs of equal shapes; axes of size 1 are repeated.
    """


class Subtract(_Elementwise):
    """y = x0 - x1.

    Called on a list of two inputs of equal shapes; axes of size 1 are repeated.
    """

    count, how = 2, "subtract"


class Multiply(_Elementwise):
    """y = x0 x1 ..., element by element.

    Called on a list of inputs of equal shapes; axes of size 1 are repeated.
    """

    how = "multiply"


class Average(_Elementwise):
    """y = (x0 + x1 + ...) / how many.

    Called on a list of inputs of equal shapes; axes of size 1 are repeated.
    """

    def forward(self, xs, *, training=False):
        total, through_sum = super().forward(xs, training=training)
        share = 1 / len(xs)

        def backward(dy):
            return through_sum(ops.affine_backward(dy, share))

        return ops.affine(total, share), backward


class Maximum(_Elementwise):
    """y = max(x0, x1, ...), element by element; of equal ones the first has the gradient.

    Called on a list of inputs of equal shapes; axes of size 1 are repeated.
    """

    how = "maximum"


class Minimum(_Elementwise):
    """y = min(x0, x1, ...), element by element; of equal ones the first has the gradient.

    Called on a list of inputs of equal shapes; axes of size 1 are repeated.
    """

    how = "minimum"


class Concatenate(_Merge):
    """The inputs one behind the other along an axis.

    Args:
        axis: any but that of the rows.

    Called on a list of inputs of equal shapes but for that axis.
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(axis, int) or axis == 0:
            raise ValueError(
                "[Concatenate] axis must be an integer, and not 0, the axis of the rows (arrays "
                f"are joined along it by np.concatenate); received {axis!r}"
            )
        self.axis = axis

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        first, axis = input_shape[0], self.axis
        if not -len(first) < axis < len(first):
            raise ValueError(
                f"[{self.name}] Concatenate's axis must be behind the rows, which are axis 0: axis="
                f"{axis} of {input_shape}"
            )
        fits = True
        parts: list[Any] = []
        for shape in input_shape:
            fits = fits and len(shape) == len(first)
            if fits:
                parts.append(shape[axis])
                here = axis % len(first)
                fits = all(
                    i == here or None in (d, e) or d == e
                    for i, (d, e) in enumerate(zip(shape, first, strict=True))
                )
        if not fits:
            raise ValueError(
                f"[{self.name}] Concatenate needs inputs of equal shapes but for axis {axis}: "
                f"received {input_shape}"
            )
        out = list(first)
        out[axis] = None if None in parts else sum(parts)
        return tuple(out)

    def forward(self, xs, *, training=False):
        self.check_rows(xs)

        def backward(dy):
            return ops.concatenate_backward(dy, xs, self.axis)

        return ops.concatenate(xs, self.axis), backward

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}


class Dot(_Merge):
    """For each row the sum of products along one axis of each of two inputs.

    Args:
        axes: (axis of the first, axis of the second), or one number for both; any but the rows.
        normalize: scale the inputs to length 1 along these axes before: y is the cosine.

    Called on a list of two inputs. Output (rows, the first's other axes, the second's other axes),
    or (rows, 1) if there are none.
    """

    count = 2

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        given = (axes, axes) if isinstance(axes, int) else axes
        if not isinstance(given, (list, tuple)):
            raise TypeError(f"[Dot] axes must be an integer or two of them; received {axes!r}")
        if len(given) != 2 or not all(isinstance(a, int) for a in given):
            raise ValueError(f"[Dot] axes must be an integer or two of them; received {axes!r}")
        self.axes = axes if isinstance(axes, int) else tuple(axes)
        self.normalize = bool(normalize)

    def _axes(self, shapes: Sequence[Shape]) -> tuple[int, int]:
        """Counted from the front."""
        given = (self.axes,) * 2 if isinstance(self.axes, int) else self.axes
        a, b = (axis + len(s) * (axis < 0) for axis, s in zip(given, shapes, strict=True))
        return a, b

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        (i, j), (a, b) = self._axes(input_shape), input_shape
        for axis, shape in ((i, a), (j, b)):
            if not 1 <= axis < len(shape):
                raise ValueError(
                    f"[{self.name}] Dot's axes must be behind the rows, which are axis 0: axes="
                    f"{self.axes} of {input_shape}"
                )
        if None not in (a[i], b[j]) and a[i] != b[j]:
            raise ValueError(
                f"[{self.name}] Dot needs axes of equal size: axis {i} of {a} and axis {j} of {b}"
            )
        out = [d for s, axis in ((a, i), (b, j)) for k, d in enumerate(s) if k not in (0, axis)]
        return (a[0], *(out or [1]))

    def forward(self, xs, *, training=False):
        self.check_rows(xs)
        turned = map(_turned, xs, self._axes([x.shape for x in xs]))
        (a, i, turn_a), (b, j, turn_b) = turned
        unit = _unit if self.normalize else _as_it_is
        a, back_a = unit(a, i)
        b, back_b = unit(b, j)

        def backward(dy):
            da, db = ops.dot_backward(dy, a, b, (i, j))
            return [
                None if da is None else turn_a(back_a(da)),
                None if db is None else turn_b(back_b(db)),
            ]

        return ops.dot(a, b, (i, j)), backward

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axes": self.axes, "normalize": self.normalize}


def _turned(x: Buffer, axis: int):
    """(x, axis, backward), with the axis where `ops.dot` takes it: behind the rows, or last."""
    if axis in (1, x.ndim - 1):
        return x, axis, lambda dy: dy
    order = [*(d for d in range(x.ndim) if d != axis), axis]
    back = [order.index(d) for d in range(x.ndim)]
    return ops.transpose(x, order), x.ndim - 1, lambda dy: ops.transpose(dy, back)


def _as_it_is(x: Buffer, axis: int):
    return x, lambda dy: dy


def _unit(x: Buffer, axis: int):
    """y = x / |x|, with lengths below 1e-7 counted as 1e-7; dx = (dy - y sum(y dy)) / |x|."""
    shape = [1 if d == axis else n for d, n in enumerate(x.shape)]
    squares = _core.sum_over(ops.merge(x, x, "multiply"), shape)
    lengths = squares.reshape((squares.size,))
    zero = Buffer(lengths.shape, x.dtype)
    scale = _core.normalization(zero, lengths, lengths.size, False)[0].reshape(shape)
    y = ops.merge(x, scale, "multiply")
    y.constant = x.constant

    def backward(dy):
        along = _core.sum_over(ops.merge(y, dy, "multiply"), shape)
        across = ops.merge(dy, ops.merge(y, along, "multiply"), "subtract")
        return ops.merge(across, scale, "multiply")

    return y, backward


def _aligned(shapes: Sequence[Shape]) -> list[Any]:
    """With axes of size 1 behind the rows, so that all have equally many."""
    rank = max(map(len, shapes))
    return [(shape[0], *[1] * (rank - len(shape)), *shape[1:]) for shape in shapes]


# --- as functions of tensors: add([a, b]) is Add()([a, b]) ----------------------------------------


def add(inputs: Any, **kwargs: Any) -> Any:
    """`Add`, called on a list of inputs."""
    return Add(**kwargs)(inputs)


def subtract(inputs: Any, **kwargs: Any) -> Any:
    """`Subtract`, called on a list of two inputs."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Any, **kwargs: Any) -> Any:
    """`Multiply`, called on a list of inputs."""
    return Multiply(**kwargs)(inputs)


def average(inputs: Any, **kwargs: Any) -> Any:
    """`Average`, called on a list of inputs."""
    return Average(**kwargs)(inputs)


def maximum(inputs: Any, **kwargs: Any) -> Any:
    """`Maximum`, called on a list of inputs."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Any, **kwargs: Any) -> Any:
    """`Minimum`, called on a list of inputs."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: Any, axis: int = -1, **kwargs: Any) -> Any:
    """`Concatenate`, called on a list of inputs."""
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs: Any, axes: int | Sequence[int] = -1, **kwargs: Any) -> Any:
    """`Dot`, called on a list of two inputs."""
    return Dot(axes=axes, **kwargs)(inputs)
