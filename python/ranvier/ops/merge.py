"""Several inputs to one output."""

from __future__ import annotations

from collections.abc import Sequence

from ranvier import _core
from ranvier.ops.tensor import Tensor


def merge(a: Tensor, b: Tensor, how: str, *, out: Tensor | None = None) -> Tensor:
    """y = a + b, a - b, a b, max(a, b) or min(a, b), element by element.

    Args:
        a, b: of one number of dimensions, and equal but for axes of size 1, which are repeated.
        how: "add", "subtract", "multiply", "maximum" or "minimum"; the last two give NaN where one
            is NaN.
        out: where to write y; may be an input of y's shape.

    Returns:
        y, of the shape that both are repeated to.
    """
    return _core.merge(a, b, how, out)


def merge_backward(
    dy: Tensor,
    a: Tensor,
    b: Tensor,
    how: str,
    *,
    out: tuple[Tensor | None, Tensor | None] | None = None,
) -> tuple[Tensor, Tensor]:
    """The gradients of `merge`; where a and b are equal, a has all of a maximum's or minimum's.

    Args:
        dy: gradient of the output.
        a, b, how: as given to `merge`.
        out: None, or (da, db) to write to, each an array or None.

    Returns:
        (da, db), of the shapes of a and b: summed over the axes that were repeated.
    """
    return _core.merge_backward(dy, a, b, how, out)


def concatenate(xs: Sequence[Tensor], axis: int = -1, *, out: Tensor | None = None) -> Tensor:
    """Arrays one behind the other along an axis.

    Args:
        xs: one or more, of equal shapes but for that axis.
        axis: from -rank to rank - 1.
        out: where to write the result; must not share memory with an input.

    Returns:
        All of them in one.
    """
    return _core.concatenate(xs, axis, out)


def concatenate_backward(dy: Tensor, xs: Sequence[Tensor], axis: int = -1) -> list[Tensor]:
    """The parts of dy that belong to each of xs.

    Args:
        dy: gradient of the output.
        xs, axis: as given to `concatenate`.

    Returns:
        A list of gradients, of the shapes of xs.
    """
    return _core.concatenate_backward(dy, xs, axis)


def dot(
    a: Tensor, b: Tensor, axes: int | tuple[int, int] = -1, *, out: Tensor | None = None
) -> Tensor:
    """For each sample the sum of products along one axis of a and one of b.

    Args:
        a: (samples, ...), at least two dimensions.
        b: (samples, ...), at least two dimensions.
        axes: (axis of a, axis of b), or one number for both: equally long, and each the first or
            the last after the samples.
        out: where to write the result; must not share memory with an input.

    Returns:
        (samples, a's other axes ..., b's other axes ...); (samples, 1) if there are none.
    """
    return _core.dot(a, b, *_pair(axes), out)


def dot_backward(
    dy: Tensor, a: Tensor, b: Tensor, axes: int | tuple[int, int] = -1
) -> tuple[Tensor, Tensor]:
    """The gradients of `dot`.

    Args:
        dy: gradient of the output.
        a, b, axes: as given to `dot`.

    Returns:
        (da, db), of the shapes of a and b.
    """
    return _core.dot_backward(dy, a, b, *_pair(axes))


def _pair(axes: int | tuple[int, int]) -> tuple[int, int]:
    return (axes, axes) if isinstance(axes, int) else axes
