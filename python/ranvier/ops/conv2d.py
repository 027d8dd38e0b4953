"""Convolutions of images and of sequences: plain, depthwise and transposed."""

from __future__ import annotations

from typing import Any

from ranvier import _core
from ranvier.ops.tensor import Gradients, Tensor

Steps = int | tuple[int, int]  # one for both axes, or (height, width)
# "valid", "same", (left, right) or ((top, bottom), (left, right))
Padding = str | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]


def conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    groups: int = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """y = f(x * w + b), a cross-correlation over the image, as in Keras and PyTorch:

    y[n, i, j, f] = sum over kh, kw, c of x[n, i s - p + kh d, j s - p + kw d, c] w[kh, kw, c, f],
    with stride s, dilation d, p zeros before the image. Then b is added, and f applied.

    Args:
        x: (B, H, W, C), channels last.
        w: (KH, KW, C / groups, F).
        b: (F,), or None for no bias.
        strides: s, one or (height, width).
        padding: "valid" (no zeros), "same" (ceil(H / s) outputs; of an odd number of zeros the
            larger half stands at bottom and right) or ((top, bottom), (left, right)).
        dilation: d, one or (height, width).
        groups: in how many groups channels and filters fall; a group's filters see its channels.
        activation, alpha: f, as in `dense`; softmax is over the filters.
        out: where to write y; must not share memory with an input.

    Returns:
        y, (B, OH, OW, F) with OH = (H + top + bottom - (KH - 1) d - 1) // s + 1.
    """
    return _core.conv2d(x, w, b, strides, padding, dilation, groups, None, activation, alpha, out)


def conv2d_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    groups: int = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Gradients = None,
) -> Tensor:
    """The three gradients of `conv2d`, with dz = dy f'(x * w + b):

    dx[n, i s - p + kh d, j s - p + kw d, c] += dz[n, i, j, f] w[kh, kw, c, f],
    dw[kh, kw, c, f] += dz[n, i, j, f] x[n, i s - p + kh d, j s - p + kw d, c],
    db = the sum of dz over all pixels.

    Args:
        dy: (B, OH, OW, F), gradient of the output.
        x, w, b, strides, padding, dilation, groups, activation, alpha: as given to `conv2d`.
        y: (B, OH, OW, F), what `conv2d` returned; not read for linear.
        out: None, or (dx, dw, db) to write to, each an array or None.

    Returns:
        (dx, dw, db), db None where there is no bias. In a layer, where w and b are its variables:
        dx alone, or None where nobody wants it; dw and db are added to the variables' gradients.
    """
    return _core.conv2d_backward(
        dy, x, y, w, b, strides, padding, dilation, groups, None, activation, alpha, out
    )


def conv2d_max_pool(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    groups: int = 1,
    activation: str = "linear",
    out: Tensor | None = None,
) -> tuple[Tensor, Any]:
    """`max_pool(conv2d(x, w, b, ...), 2, argmax=True)`, the same bits, in one pass where `conv2d`
    goes by tiles: what is pooled is never written.

    Args:
        x, w, b, strides, padding, dilation, groups: as in `conv2d`.
        activation: "linear" or "relu".
        out: where to write y; must not share memory with an input.

    Returns:
        (y, where): y (B, OH // 2, OW // 2, F) and, of its shape, where in its window of 2x2 each
        largest is, which `conv2d_max_pool_backward` needs. In a layer, where is None if nobody
        wants a gradient of y.
    """
    return _core.conv2d_max_pool(x, w, b, strides, padding, dilation, groups, activation, out)


def conv2d_max_pool_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    where: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    groups: int = 1,
    activation: str = "linear",
    out: Gradients = None,
) -> Tensor:
    """The gradients of `conv2d_max_pool`, as `conv2d_backward` gives those of `conv2d`.

    Args:
        dy: (B, OH // 2, OW // 2, F), gradient of the output.
        y, where: what `conv2d_max_pool` returned; y is not read for linear.
        x, w, b, strides, padding, dilation, groups, activation: as given to `conv2d_max_pool`.
        out: as in `conv2d_backward`.

    Returns:
        As `conv2d_backward`.
    """
    return _core.conv2d_max_pool_backward(
        dy, x, y, where, w, b, strides, padding, dilation, groups, activation, out
    )


def conv1d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
    groups: int = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`conv2d` in one dimension.

    Args:
        x: (B, L, C).
        w: (K, C / groups, F).
        padding: "valid", "same" or (left, right); (K - 1) d zeros at the left make it causal.
        b, strides, dilation, groups, activation, alpha, out: as in `conv2d`.

    Returns:
        y, (B, OL, F).
    """
    return _core.conv1d(x, w, b, strides, padding, dilation, groups, None, activation, alpha, out)


def conv1d_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
    groups: int = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Gradients = None,
) -> Tensor:
    """The gradients of `conv1d`, as `conv2d_backward` gives those of `conv2d`."""
    return _core.conv1d_backward(
        dy, x, y, w, b, strides, padding, dilation, groups, None, activation, alpha, out
    )


def depthwise_conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`conv2d` of each channel by itself: filter c M + m sees channel c only.

    Args:
        x: (B, H, W, C).
        w: (KH, KW, C, M), M filters for each channel.
        b: (C M,), or None for no bias.
        strides, padding, dilation, activation, alpha, out: as in `conv2d`.

    Returns:
        y, (B, OH, OW, C M).
    """
    return _core.depthwise_conv2d(
        x, w, b, strides, padding, dilation, 1, None, activation, alpha, out
    )


def depthwise_conv2d_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Gradients = None,
) -> Tensor:
    """The gradients of `depthwise_conv2d`, as `conv2d_backward` gives those of `conv2d`."""
    return _core.depthwise_conv2d_backward(
        dy, x, y, w, b, strides, padding, dilation, 1, None, activation, alpha, out
    )


def depthwise_conv1d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`depthwise_conv2d` in one dimension: x (B, L, C), w (K, C, M), y (B, OL, C M)."""
    return _core.depthwise_conv1d(
        x, w, b, strides, padding, dilation, 1, None, activation, alpha, out
    )


def depthwise_conv1d_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
    activation: str = "linear",
    alpha: float | None = None,
    out: Gradients = None,
) -> Tensor:
    """The gradients of `depthwise_conv1d`, as `conv2d_backward` gives those of `conv2d`."""
    return _core.depthwise_conv1d_backward(
        dy, x, y, w, b, strides, padding, dilation, 1, None, activation, alpha, out
    )


def conv2d_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    output_padding: Steps | None = None,
    activation: str = "linear",
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The transposed convolution: the gradient with respect to its input of the `conv2d` that has
    these strides, padding and dilation, as a forward pass.

    y[n, i s - p + kh d, j s - p + kw d, f] = sum over i, j, c of x[n, i, j, c] w[kh, kw, f, c].
    Then b is added, and the activation applied.

    Args:
        x: (B, H, W, C), channels last.
        w: (KH, KW, F, C): filters before channels, as in Keras.
        b: (F,), or None for no bias.
        strides, dilation: one or (height, width).
        padding: "valid", "same" (H s rows) or ((top, bottom), (left, right)), what is cut off.
        output_padding: rows and columns added at bottom and right, one or (height, width); with
            "same" the result then has (H - 1) s + K - 2 (K // 2) + output_padding rows, where
            K = (KH - 1) d + 1. None: as many as Keras makes by itself.
        activation, alpha, out: as in `conv2d`.

    Returns:
        y, (B, OH, OW, F); "valid": OH = H s + max(K - s, 0).
    """
    return _core.conv2d_transpose(
        x, w, b, strides, padding, dilation, 1, output_padding, activation, alpha, out
    )


def conv2d_transpose_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Steps = 1,
    padding: Padding = "valid",
    dilation: Steps = 1,
    output_padding: Steps | None = None,
    activation: str = "linear",
    alpha: float | None = None,
    out: Gradients = None,
) -> Tensor:
    """The gradients of `conv2d_transpose`, as `conv2d_backward` gives those of `conv2d`."""
    return _core.conv2d_transpose_backward(
        dy, x, y, w, b, strides, padding, dilation, 1, output_padding, activation, alpha, out
    )


def conv1d_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
    output_padding: int | None = None,
    activation: str = "linear",
    alpha: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`conv2d_transpose` in one dimension: x (B, L, C), w (K, F, C), y (B, OL, F)."""
    return _core.conv1d_transpose(
        x, w, b, strides, padding, dilation, 1, output_padding, activation, alpha, out
    )


def conv1d_transpose_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
    output_padding: int | None = None,
    activation: str = "linear",
    alpha: float | None = None,
    out: Gradients = None,
) -> Tensor:
    """The gradients of `conv1d_transpose`, as `conv2d_backward` gives those of `conv2d`."""
    return _core.conv1d_transpose_backward(
        dy, x, y, w, b, strides, padding, dilation, 1, output_padding, activation, alpha, out
    )
