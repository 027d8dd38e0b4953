"""Convolutions: x (B, H, W, C), w (KH, KW, C / groups, F)."""

from __future__ import annotations

import math

import numpy as np

from reference.activation import activation as activation_of
from reference.activation import activation_backward
from reference.tensor import f64


def _pair(value):
    return value if isinstance(value, tuple) else (value, value)


def conv_padding(shape, kernel, strides, padding, dilation):
    """((top, bottom), (left, right)); "same" as TensorFlow defines it."""
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding != "same":
        return padding
    ends = []
    for size, k, s, d in zip(shape, kernel, strides, dilation, strict=True):
        total = max((math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size, 0)
        ends.append((total // 2, total - total // 2))
    return tuple(ends)


def _windows(x, kernel, strides, pads, dilation):
    """(B, OH, OW, KH, KW, C): what each output reads of the padded image."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(1, 2))
    view = view[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]
    return view.transpose(0, 1, 2, 4, 5, 3)


def _grouped(a, groups):
    """The last axis as (groups, rest)."""
    return a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups)


def _conv_linear(x, w, b, strides, padding, dilation, groups):
    x, w = f64(x), f64(w)
    strides, dilation = _pair(strides), _pair(dilation)
    pads = conv_padding(x.shape[1:3], w.shape[:2], strides, padding, dilation)
    read = _grouped(_windows(x, w.shape[:2], strides, pads, dilation), groups)
    y = np.einsum("nijklgc,klcgf->nijgf", read, _grouped(w, groups), optimize=True)
    y = y.reshape(*y.shape[:3], w.shape[-1])
    return y if b is None else y + f64(b)


def conv2d(
    x, w, b=None, *, strides=1, padding="valid", dilation=1, groups=1, activation="linear",
    alpha=None,
):  # fmt: skip
    z = _conv_linear(x, w, b, strides, padding, dilation, groups)
    return activation_of(z, activation, alpha=alpha)


def _conv_input_gradient(dz, w, shape, strides, pads, dilation, groups):
    """Each dz goes back to where its window lay."""
    (top, bottom), (left, right) = pads
    count, height, width, channels = shape
    dx = np.zeros((count, height + top + bottom, width + left + right, channels))
    rows, columns = dz.shape[1:3]
    for kh, kw in np.ndindex(w.shape[:2]):
        back = np.einsum("nijgf,cgf->nijgc", _grouped(dz, groups), _grouped(w[kh, kw], groups))
        i, j = kh * dilation[0], kw * dilation[1]
        i_end, j_end = i + (rows - 1) * strides[0] + 1, j + (columns - 1) * strides[1] + 1
        dx[:, i : i_end : strides[0], j : j_end : strides[1]] += back.reshape(*dz.shape[:3], -1)
    return dx[:, top : top + height, left : left + width]


def conv2d_backward(
    dy, x, y, w, b=None, *, strides=1, padding="valid", dilation=1, groups=1, activation="linear",
    alpha=None,
):  # fmt: skip
    z = _conv_linear(x, w, b, strides, padding, dilation, groups)
    dz = activation_backward(dy, z, y, activation, alpha=alpha)
    x, w = f64(x), f64(w)
    strides, dilation = _pair(strides), _pair(dilation)
    pads = conv_padding(x.shape[1:3], w.shape[:2], strides, padding, dilation)
    dx = _conv_input_gradient(dz, w, x.shape, strides, pads, dilation, groups)
    read = _grouped(_windows(x, w.shape[:2], strides, pads, dilation), groups)
    dw = np.einsum("nijklgc,nijgf->klcgf", read, _grouped(dz, groups), optimize=True)
    return dx, dw.reshape(w.shape), None if b is None else dz.sum(axis=(0, 1, 2))


def _depthwise_kernel(w):
    return f64(w).reshape(*w.shape[:2], 1, -1)


def depthwise_conv2d(x, w, b=None, **options):
    return conv2d(x, _depthwise_kernel(w), b, groups=x.shape[-1], **options)


def depthwise_conv2d_backward(dy, x, y, w, b=None, **options):
    dx, dw, db = conv2d_backward(dy, x, y, _depthwise_kernel(w), b, groups=x.shape[-1], **options)
    return dx, dw.reshape(w.shape), db


def _transposed_axis(size, k, stride, padding, dilation, extra):
    """(outputs, (before, after)) of one axis: Keras's sizes, TensorFlow's place for the cut."""
    span = (k - 1) * dilation + 1
    whole = (size - 1) * stride + span
    if padding not in ("valid", "same"):
        return whole - sum(padding) + (extra or 0), (padding[0], padding[1] - (extra or 0))
    if extra is None:
        outputs = size * stride + (max(span - stride, 0) if padding == "valid" else 0)
    else:
        outputs = whole - (2 * (span // 2) if padding == "same" else 0) + extra
    before = max(whole - outputs, 0) // 2 if padding == "same" else 0
    return outputs, (before, whole - outputs - before)


def _transposed(x, w, strides, padding, dilation, output_padding):
    """y's shape; strides, pads (negative: added) and dilation of the convolution that reads y."""
    strides, dilation = _pair(strides), _pair(dilation)
    extra = _pair(output_padding)
    axes = [
        _transposed_axis(
            x.shape[1 + i], w.shape[i], strides[i],
            padding if isinstance(padding, str) else padding[i], dilation[i], extra[i],
        )
        for i in range(2)
    ]  # fmt: skip
    shape = (x.shape[0], axes[0][0], axes[1][0], w.shape[2])
    return shape, strides, (axes[0][1], axes[1][1]), dilation


def _transposed_linear(x, w, b, geometry):
    """The whole of what the inputs reach, then cut (or, where the cut is negative, extended)."""
    shape, strides, pads, dilation = geometry
    (top, bottom), (left, right) = pads
    added = ((0, 0), (0, max(-bottom, 0)), (0, max(-right, 0)), (0, 0))
    rows = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in
            zip(x.shape[1:3], strides, w.shape[:2], dilation, strict=True)]  # fmt: skip
    whole = (x.shape[0], *rows, shape[-1])
    y = _conv_input_gradient(f64(x), f64(w), whole, strides, ((0, 0), (0, 0)), dilation, 1)
    y = np.pad(y, added)[:, top : top + shape[1], left : left + shape[2]]
    return y if b is None else y + f64(b)


def conv2d_transpose(
    x, w, b=None, *, strides=1, padding="valid", dilation=1, output_padding=None,
    activation="linear", alpha=None,
):  # fmt: skip
    z = _transposed_linear(x, w, b, _transposed(x, w, strides, padding, dilation, output_padding))
    return activation_of(z, activation, alpha=alpha)


def conv2d_transpose_backward(
    dy, x, y, w, b=None, *, strides=1, padding="valid", dilation=1, output_padding=None,
    activation="linear", alpha=None,
):  # fmt: skip
    shape, strides, pads, dilation = _transposed(x, w, strides, padding, dilation, output_padding)
    z = _transposed_linear(x, w, b, (shape, strides, pads, dilation))
    dz = activation_backward(dy, z, y, activation, alpha=alpha)
    (top, bottom), (left, right) = pads
    kept = dz[:, : shape[1] + min(bottom, 0), : shape[2] + min(right, 0)]
    pads = ((top, max(bottom, 0)), (left, max(right, 0)))
    read = _windows(kept, w.shape[:2], strides, pads, dilation)  # (B, H, W, KH, KW, F)
    dx = np.einsum("nijklf,klfc->nijc", read, f64(w), optimize=True)
    dw = np.einsum("nijklf,nijc->klfc", read, f64(x), optimize=True)
    return dx, dw, None if b is None else dz.sum(axis=(0, 1, 2))


def _in_one_dimension(name):
    """The 1D form of a 2D oracle: height 1."""

    def up(a):
        return None if a is None else np.expand_dims(f64(a), 1)

    def options_of(options):
        for key in ("strides", "dilation"):
            options[key] = (1, options.get(key, 1))
        if not isinstance(options.get("padding", "valid"), str):
            options["padding"] = ((0, 0), options["padding"])
        if options.get("output_padding") is not None:
            options["output_padding"] = (0, options["output_padding"])
        return options

    def forward(x, w, b=None, **options):
        return globals()[name](up(x), f64(w)[None], b, **options_of(options))[:, 0]

    def backward(dy, x, y, w, b=None, **options):
        whole = globals()[name + "_backward"]
        dx, dw, db = whole(up(dy), up(x), None, f64(w)[None], b, **options_of(options))
        return dx[:, 0], dw[0], db

    return forward, backward


conv1d, conv1d_backward = _in_one_dimension("conv2d")
depthwise_conv1d, depthwise_conv1d_backward = _in_one_dimension("depthwise_conv2d")
conv1d_transpose, conv1d_transpose_backward = _in_one_dimension("conv2d_transpose")
