"""The axes in another order."""

from __future__ import annotations

from collections.abc import Sequence

from ranvier import _core
from ranvier.ops.tensor import Tensor


def transpose(x: Tensor, axes: Sequence[int], *, out: Tensor | None = None) -> Tensor:
    """The axes of x in another order: y's axis i is x's axis axes[i]. Its gradient goes back by
    the opposite order.

    Args:
        x: any shape.
        axes: each of x's axes once.
        out: where to write y; must not share memory with x.

    Returns:
        y, C-contiguous.
    """
    return _core.transpose(x, axes, out)
