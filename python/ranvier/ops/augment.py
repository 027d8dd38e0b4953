"""Images resampled: turned, shifted, resized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ranvier import _core
from ranvier.ops.tensor import Tensor


def resample(
    x: Tensor,
    matrices: ArrayLike | Tensor,
    size: tuple[int, int] | None = None,
    *,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    out: Tensor | None = None,
) -> Tensor:
    """Images whose pixels come from elsewhere: turned, shifted, resized, ...

    Pixel (i, j) of y is x at (m0 i + m1 j + m2, m3 i + m4 j + m5).

    Args:
        x: (B, H, W, C).
        matrices: (B, 6) float64, m of each image, or (1, 6) for all.
        size: (height, width) of the result; None: as x.
        interpolation: "bilinear", of the four pixels around, or "nearest".
        fill_mode: what is beyond the edges: "constant" (fill_value), "nearest" (a a | a b c | c c),
            "reflect" (b a | a b c | c b) or "wrap" (b c | a b c | a b).
        fill_value: for "constant".
        out: where to write y; must not share memory with x.

    Returns:
        y, (B, height, width, C).
    """
    size = x.shape[1:3] if size is None else size
    return _core.resample(
        x, _matrices(matrices), size, interpolation, fill_mode, float(fill_value), out
    )


def resample_backward(
    dy: Tensor,
    matrices: ArrayLike | Tensor,
    shape: Sequence[int],
    *,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    out: Tensor | None = None,
) -> Tensor:
    """The gradient of `resample`: each dy goes back to the pixels that its y was mixed of.

    Args:
        dy: (B, height, width, C), gradient of the output.
        matrices, interpolation, fill_mode: as given to `resample`.
        shape: x's, (B, H, W, C).
        out: where to write dx.

    Returns:
        dx, of that shape.
    """
    return _core.resample_backward(dy, _matrices(matrices), shape, interpolation, fill_mode, out)


def _matrices(given: Any) -> Any:
    return given if isinstance(given, _core.Buffer) else np.asarray(given, np.float64)
