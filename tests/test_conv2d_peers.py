"""The convolutions of `ranvier.ops` beside PyTorch and Keras, over random configurations.

Forward and all gradients. Keras runs on the backend of KERAS_BACKEND: jax (unless it is set) or
tensorflow.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import peers
import reference
from ranvier import ops

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import HealthCheck, assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's own
]

many = settings(
    max_examples=int(os.environ.get("RANVIER_EXAMPLES", "200")),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TOLERANCE = {np.float32: 1e-4, np.float64: 1e-12}  # of the largest value, for 1000 terms or fewer


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def configurations(draw, kinds=("plain", "grouped", "depthwise"), paddings=("valid", "same")):
    """x, w, dy's seed, and the options of `ops.conv2d` or `ops.conv2d_transpose`."""
    kind = draw(st.sampled_from(kinds))
    kernel = draw(pairs(1, 7) if draw(st.booleans()) else st.just((3, 3)))
    strides, dilation = draw(pairs(1, 3)), (1, 1)
    if draw(st.booleans()):  # Keras refuses both at once
        strides, dilation = (1, 1), draw(pairs(1, 3))
    padding = draw(st.sampled_from(paddings))
    if padding == "given":
        padding = (draw(pairs(0, 4)), draw(pairs(0, 4)))
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [n + draw(st.integers(0, 14)) for n in span]
    widths = st.sampled_from([1, 2, 3, 4, 8, 15, 16, 17, 31, 32, 33, 64])
    channels, filters, groups = draw(widths), draw(widths), 1
    if kind == "grouped":
        groups = draw(st.integers(2, 4))
        channels, filters = min(channels, 17) * groups, min(filters, 33) * groups
    elif kind == "depthwise":
        groups, filters = channels, channels * draw(st.integers(1, 3))
    w_shape = (*kernel, channels // groups, filters)
    if kind == "transposed":
        w_shape = (*kernel, filters, channels)
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    r = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = r.normal(size=(draw(st.integers(1, 3)), *size, channels)).astype(dtype)
    w = (r.normal(size=w_shape) / np.sqrt(np.prod(w_shape) / filters)).astype(dtype)
    b = r.normal(size=filters).astype(dtype)
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    if kind != "transposed":
        options["groups"] = groups
    return x, w, b, r, options


def assert_near(ours, theirs, terms, what):
    for name, a, e, count in zip(("y", "dx", "dw", "db"), ours, theirs, terms, strict=True):
        a, e = np.asarray(a), np.asarray(e)
        assert a.shape == e.shape, name
        error = np.abs(a - e).max() / max(np.abs(e).max(), 1e-30)
        assert error <= TOLERANCE[a.dtype.type] * max(1.0, np.sqrt(count / 1000)), (
            name,
            error,
            what,
        )


def ours_of(name, x, w, b, r, options):
    y = getattr(ops, name)(x, w, b, **options)
    dy = r.normal(size=y.shape).astype(x.dtype)
    back = getattr(ops, name + "_backward")(dy, x, y, w, b, **options)
    pixels = dy.size // dy.shape[-1]
    taps = w.shape[0] * w.shape[1]
    terms = (taps * x.shape[-1], taps * y.shape[-1], pixels + x.size // x.shape[-1], pixels)
    return dy, (y, *back), terms


# ---- PyTorch ---------------------------------------------------------------------------------


def torch_of(torch, forward, x, w, b, dy):
    """Results of forward(x, w, b), channels first inside, and its gradients."""
    x, w, b = (torch.from_numpy(a.copy()).requires_grad_() for a in (x, w, b))
    y = forward(x.permute(0, 3, 1, 2), w, b).permute(0, 2, 3, 1)
    back = torch.autograd.grad(y, (x, w, b), torch.from_numpy(dy))
    return [a.detach().numpy() for a in (y, *back)]


@many
@given(configurations(paddings=("valid", "same", "given")))
def test_beside_torch(configuration):
    torch = peers.torch()
    x, w, b, r, options = configuration
    dy, ours, terms = ours_of("conv2d", x, w, b, r, options)
    (top, bottom), (left, right) = reference.conv_padding(
        x.shape[1:3], w.shape[:2], options["strides"], options["padding"], options["dilation"]
    )

    def forward(x, w, b):
        x = torch.nn.functional.pad(x, (left, right, top, bottom))
        return torch.nn.functional.conv2d(
            x, w.permute(3, 2, 0, 1).contiguous(), b, options["strides"], 0, options["dilation"],
            options["groups"],
        )  # fmt: skip

    assert_near(ours, torch_of(torch, forward, x, w, b, dy), terms, (x.shape, w.shape, options))


@many
@given(configurations(kinds=("transposed",), paddings=("valid", "given")))
def test_transposed_beside_torch(configuration):
    """PyTorch has no "same" here; what it computes whole is cut to what the op keeps."""
    torch = peers.torch()
    x, w, b, r, options = configuration
    if options["padding"] != "valid":  # cut less than there is
        (top, bottom), (left, right) = options["padding"]
        whole = reference.conv2d_transpose(
            x, w, strides=options["strides"], dilation=options["dilation"], output_padding=0
        ).shape
        assume(top + bottom < whole[1] and left + right < whole[2])
    else:
        (top, bottom), (left, right) = (0, 0), (0, 0)
    dy, ours, terms = ours_of("conv2d_transpose", x, w, b, r, options)

    def forward(x, w, b):
        y = torch.nn.functional.conv_transpose2d(
            x,
            w.permute(3, 2, 0, 1).contiguous(),
            None,
            options["strides"],
            0,
            0,
            1,
            options["dilation"],
        )
        height, width = dy.shape[1:3]
        room = (0, max(width + left - y.shape[3], 0), 0, max(height + top - y.shape[2], 0))
        y = torch.nn.functional.pad(y, room)  # a stride longer than the kernel: rows of b alone
        return y[:, :, top : top + height, left : left + width] + b[:, None, None]

    assert_near(ours, torch_of(torch, forward, x, w, b, dy), terms, (x.shape, w.shape, options))


# ---- Keras -----------------------------------------------------------------------------------


def keras_of(forward, arrays, dy):
    """y and the gradients with respect to the arrays, by the backend's own derivatives."""
    library, keras = peers.keras_backend(), peers.keras()
    backend = keras.backend.backend()
    if backend not in ("jax", "tensorflow"):
        pytest.skip("Keras's derivatives are taken from jax or tensorflow")
    if backend == "jax":
        y, back = library.vjp(lambda *a: forward(keras.ops, *a), *arrays)
        return [np.asarray(a) for a in (y, *back(np.asarray(dy)))]
    tensors = [library.constant(a) for a in arrays]
    with library.GradientTape() as tape:
        tape.watch(tensors)
        y = forward(keras.ops, *tensors)
    return [a.numpy() for a in (y, *tape.gradient(y, tensors, library.constant(dy)))]


def single(configuration):
    """In float32: JAX has no other type unless told so. With equal strides: with others TensorFlow
    refuses depthwise convolutions, and others are wrong where the result is one column wide.
    """
    x, w, b, r, options = configuration
    options["strides"] = (options["strides"][0],) * 2
    return (*(a.astype(np.float32) for a in (x, w, b)), r, options)


@many
@given(configurations(kinds=("plain",)))
def test_beside_keras(configuration):
    x, w, b, r, options = single(configuration)
    dy, ours, terms = ours_of("conv2d", x, w, b, r, options)

    def forward(k, x, w, b):
        return b + k.conv(
            x, w, strides=options["strides"], padding=options["padding"],
            dilation_rate=options["dilation"], data_format="channels_last",
        )  # fmt: skip

    assert_near(ours, keras_of(forward, (x, w, b), dy), terms, (x.shape, w.shape, options))


@many
@given(configurations(kinds=("depthwise",)))
def test_depthwise_beside_keras(configuration):
    x, w, b, r, options = single(configuration)
    del options["groups"]
    w = w.reshape(*w.shape[:2], x.shape[-1], -1)
    dy, ours, terms = ours_of("depthwise_conv2d", x, w, b, r, options)

    def forward(k, x, w, b):
        return b + k.depthwise_conv(
            x, w, strides=options["strides"], padding=options["padding"],
            dilation_rate=options["dilation"], data_format="channels_last",
        )  # fmt: skip

    assert_near(ours, keras_of(forward, (x, w, b), dy), terms, (x.shape, w.shape, options))


@many
@given(configurations(kinds=("transposed",)))
def test_transposed_beside_keras(configuration):
    x, w, b, r, options = single(configuration)
    dy, ours, terms = ours_of("conv2d_transpose", x, w, b, r, options)

    def forward(k, x, w, b):
        return b + k.conv_transpose(
            x, w, strides=options["strides"], padding=options["padding"],
            dilation_rate=options["dilation"], data_format="channels_last",
        )  # fmt: skip

    assert_near(ours, keras_of(forward, (x, w, b), dy), terms, (x.shape, w.shape, options))
