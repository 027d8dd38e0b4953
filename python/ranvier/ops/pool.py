"""Pooling over windows of an image or a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ranvier import _core
from ranvier.ops.tensor import Tensor

Sizes = int | Sequence[int]  # one for all axes of the image, or one for each


def max_pool(
    x: Tensor,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    *,
    argmax: bool = False,
    out: Tensor | None = None,
) -> Any:
    """The largest of each window: y[n, i, j, c] = max over kh, kw of x[n, i s + kh, j s + kw, c].

    Args:
        x: (B, L, C) or (B, H, W, C), channels last.
        pool_size: the window, one number or one for each axis.
        strides: s, from one window to the next; None: pool_size.
        padding: "valid" (windows inside the image) or "same" (ceil(H / s) windows, of which what
            lies outside does not count).
        argmax: whether to return also where in its window each largest is, which
            `max_pool_backward` needs.
        out: where to write y; must not share memory with x.

    Returns:
        y, (B, OL, C) or (B, OH, OW, C), with OH = (H - KH) // s + 1 for "valid". NaN where the
        window holds one. With argmax (y, where): where is kh * KW + kw, the first of equal ones,
        uint8, or int32 for windows of more than 256 elements.

    Raises:
        ValueError: if the window is larger than the image, or an argument is none of the above.
    """
    return _core.max_pool(x, pool_size, strides, padding, argmax, out)


def max_pool_backward(
    dy: Tensor,
    x: Tensor,
    where: Tensor,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    *,
    y: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """dx of `max_pool`: each dy goes to the largest of its window.

    Args:
        dy: gradient of the output, of its shape.
        x, pool_size, strides, padding: as given to `max_pool`; of x only the shape is used.
        where: as `max_pool` returned it.
        y: the output, for layers: where x is an activation's output, dx is taken through that in
            the same pass, because y tells the slope.
        out: where to write dx; must not share memory with dy.

    Returns:
        dx, of x's shape.
    """
    return _core.max_pool_backward(dy, x, y, where, pool_size, strides, padding, out)


def average_pool(
    x: Tensor,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    *,
    out: Tensor | None = None,
) -> Tensor:
    """The mean of each window, of what lies inside the image; arguments as in `max_pool`."""
    return _core.average_pool(x, pool_size, strides, padding, out)


def average_pool_backward(
    dy: Tensor,
    x: Tensor,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    *,
    out: Tensor | None = None,
) -> Tensor:
    """dx of `average_pool`: each dy is shared out evenly among its window.

    Args:
        dy: gradient of the output, of its shape.
        x, pool_size, strides, padding: as given to `average_pool`; of x only the shape is used.
        out: where to write dx; must not share memory with dy.

    Returns:
        dx, of x's shape.
    """
    return _core.average_pool_backward(dy, x, pool_size, strides, padding, out)
