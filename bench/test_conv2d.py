"""Convolutions beside PyTorch, in the faster of its two layouts for each case.

Every benchmark also asserts its answer: some outputs chosen at random, summed by hand in float64.
"""

from __future__ import annotations

import numpy as np
import pytest

import ranvier
from ranvier import _core, ops

# batch, height, width, channels, filters, kernel, stride, pad, groups
CASES = {
    "3x3, 32x28x28x1->32": (32, 28, 28, 1, 32, 3, 1, 1, 1),
    "3x3, 32x28x28x32->64": (32, 28, 28, 32, 64, 3, 1, 1, 1),
    "3x3, 32x14x14x64->128": (32, 14, 14, 64, 128, 3, 1, 1, 1),
    "3x3, 8x224x224x3->32": (8, 224, 224, 3, 32, 3, 1, 1, 1),
    "3x3, 8x224x224x32->64": (8, 224, 224, 32, 64, 3, 1, 1, 1),
    "3x3, 8x112x112x64->128": (8, 112, 112, 64, 128, 3, 1, 1, 1),
    "3x3, 8x56x56x128->256": (8, 56, 56, 128, 256, 3, 1, 1, 1),
    "1x1, 8x56x56x256->64": (8, 56, 56, 256, 64, 1, 1, 0, 1),
    "1x1, 8x56x56x64->256": (8, 56, 56, 64, 256, 1, 1, 0, 1),
    "1x1, 8x14x14x1024->256": (8, 14, 14, 1024, 256, 1, 1, 0, 1),
    "3x3 stride 2, 8x56x56x64->128": (8, 56, 56, 64, 128, 3, 2, 1, 1),
    "5x5, 8x28x28x32->64": (8, 28, 28, 32, 64, 5, 1, 2, 1),
    "7x7 stride 2, 8x224x224x3->64": (8, 224, 224, 3, 64, 7, 2, 3, 1),
    "depthwise, 8x112x112x32": (8, 112, 112, 32, 32, 3, 1, 1, 32),
    "depthwise, 8x56x56x128": (8, 56, 56, 128, 128, 3, 1, 1, 128),
    "depthwise, 8x14x14x512": (8, 14, 14, 512, 512, 3, 1, 1, 512),
    "depthwise stride 2, 8x14x14x512": (8, 14, 14, 512, 512, 3, 2, 1, 512),
}
# by Winograd's way in the precision "fast", here by the direct one
HIGHEST = {
    f"{name}, highest precision": CASES[name]
    for name in (
        "3x3, 32x28x28x32->64",
        "3x3, 32x14x14x64->128",
        "3x3, 8x112x112x64->128",
        "3x3, 8x56x56x128->256",
        "5x5, 8x28x28x32->64",
    )
}


class Case:
    def __init__(self, name):
        of_name = (CASES | HIGHEST)[name]
        self.batch, height, width, channels, filters, k, stride, pad, groups = of_name
        r = np.random.default_rng(0)
        self.x = r.normal(size=(self.batch, height, width, channels)).astype(np.float32)
        self.w = r.normal(size=(k, k, channels // groups, filters)).astype(np.float32)
        self.w /= np.float32(k * np.sqrt(channels // groups))
        self.b = r.normal(size=filters).astype(np.float32)
        self.k, self.stride, self.pad, self.groups = k, stride, pad, groups
        rows = [(n + 2 * pad - k) // stride + 1 for n in (height, width)]
        self.dy = r.normal(size=(self.batch, *rows, filters)).astype(np.float32)
        self.options = {"strides": stride, "padding": ((pad, pad), (pad, pad)), "groups": groups}
        self.flop = 2 * self.dy.size * k * k * channels // groups

    def padded(self):
        ends = (self.pad, self.pad)
        return np.pad(self.x, ((0, 0), ends, ends, (0, 0))).astype(np.float64)

    def assert_forward(self, y):
        x, r = self.padded(), np.random.default_rng(1)
        width, per_group = self.w.shape[2], self.w.shape[3] // self.groups
        for _ in range(50):
            n, i, j, f = (int(r.integers(s)) for s in self.dy.shape)
            c = f // per_group * width
            top, left = i * self.stride, j * self.stride
            read = x[n, top : top + self.k, left : left + self.k, c : c + width]
            expected = (read * self.w[..., f]).sum() + self.b[f]
            assert y[n, i, j, f] == pytest.approx(expected, rel=1e-4, abs=1e-4)

    def assert_backward(self, dx, dw, db):
        """<dx, a> for a random a is <dy, the convolution of a>; of dw some elements."""
        np.testing.assert_allclose(db, self.dy.sum(axis=(0, 1, 2), dtype=np.float64), rtol=1e-3,
                                   atol=1e-2)  # fmt: skip
        x, r = self.padded(), np.random.default_rng(2)
        rows, columns = (self.stride * (n - 1) + 1 for n in self.dy.shape[1:3])
        per_group = self.w.shape[3] // self.groups
        for _ in range(10):
            kh, kw, c, f = (int(r.integers(s)) for s in self.w.shape)
            read = x[..., f // per_group * self.w.shape[2] + c]
            read = read[:, kh : kh + rows : self.stride, kw : kw + columns : self.stride]
            expected = (read * self.dy[..., f]).sum()
            scale = np.sqrt(self.dy[..., f].size)
            assert dw[kh, kw, c, f] == pytest.approx(expected, abs=1e-3 * scale)
        a = r.normal(size=self.x.shape).astype(np.float32)
        there = np.vdot(self.dy.astype(np.float64), ops.conv2d(a, self.w, **self.options))
        here = np.vdot(dx.astype(np.float64), a)
        assert here == pytest.approx(there, abs=1e-4 * np.sqrt(self.flop))


@pytest.fixture
def case(name):
    before = ranvier.precision()
    ranvier.set_precision("highest" if name in HIGHEST else "fast")
    yield Case(name)
    ranvier.set_precision(before)


def result_like(a):
    """Where results of the ops are if none is given: on a cache line. PyTorch's are too."""
    return _core.Buffer(a.shape, "float32").view()


def ranvier_forward(case):
    y = result_like(case.dy)
    return lambda: ops.conv2d(case.x, case.w, case.b, **case.options, out=y)


def ranvier_backward(case):
    outs = tuple(result_like(a) for a in (case.x, case.w, case.b))
    return lambda: ops.conv2d_backward(
        case.dy, case.x, None, case.w, case.b, **case.options, out=outs
    )


def torch_tensors(torch, case, layout):
    """x, w, b, dy as PyTorch has them: channels second, in that memory layout."""
    memory = {"first": torch.contiguous_format, "last": torch.channels_last}[layout]
    x, dy = (torch.from_numpy(a).permute(0, 3, 1, 2) for a in (case.x, case.dy))
    w = torch.from_numpy(case.w).permute(3, 2, 0, 1)
    return (*(t.contiguous(memory_format=memory) for t in (x, w)), torch.from_numpy(case.b),
            dy.contiguous(memory_format=memory))  # fmt: skip


def torch_forward(layout):
    def function(case):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        x, w, b, _ = torch_tensors(torch, case, layout)

        def run():
            with torch.no_grad():
                y = torch.nn.functional.conv2d(x, w, b, case.stride, case.pad, 1, case.groups)
            return y.permute(0, 2, 3, 1)

        return run

    return function


def torch_backward(layout):
    def function(case):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        x, w, b, dy = torch_tensors(torch, case, layout)
        two = [case.stride] * 2, [case.pad] * 2

        def run():
            dx, dw, db = torch.ops.aten.convolution_backward(
                dy, x, w, [len(b)], *two, [1, 1], False, [0, 0], case.groups, [True] * 3
            )
            return dx.permute(0, 2, 3, 1), dw.permute(2, 3, 1, 0), db

        return run

    return function


IDS = ["ranvier", "torch", "torch_channels_last"]


@pytest.mark.parametrize(
    "function", [ranvier_forward, torch_forward("first"), torch_forward("last")], ids=IDS
)
@pytest.mark.parametrize("name", CASES | HIGHEST)
def test_forward(benchmark, name, case, function):
    benchmark.group = f"convolution {name}"
    benchmark.extra_info["flop"] = case.flop
    case.assert_forward(np.asarray(benchmark(function(case))))


@pytest.mark.parametrize(
    "function", [ranvier_backward, torch_backward("first"), torch_backward("last")], ids=IDS
)
@pytest.mark.parametrize("name", CASES | HIGHEST)
def test_backward(benchmark, name, case, function):
    benchmark.group = f"convolution {name}, all gradients"
    benchmark.extra_info["flop"] = 2 * case.flop
    case.assert_backward(*(np.asarray(a) for a in benchmark(function(case))))


# batch, height, width, channels, filters; kernels of 4x4 and a stride of 2 double the image
TRANSPOSED = {
    "transposed, 32x8x8x256->128": (32, 8, 8, 256, 128),
    "transposed, 32x16x16x128->64": (32, 16, 16, 128, 64),
    "transposed, 32x32x32x64->3": (32, 32, 32, 64, 3),
}


class TransposedCase:
    def __init__(self, name):
        batch, height, width, channels, filters = TRANSPOSED[name]
        r = np.random.default_rng(0)
        self.x = r.normal(size=(batch, height, width, channels)).astype(np.float32)
        self.w = r.normal(size=(4, 4, filters, channels)).astype(np.float32)
        self.w /= np.float32(2 * np.sqrt(channels))
        self.b = r.normal(size=filters).astype(np.float32)
        self.dy = r.normal(size=(batch, 2 * height, 2 * width, filters)).astype(np.float32)
        self.flop = 2 * self.x.size * 16 * filters

    def assert_right(self, y, dx, dw, db):
        """Some elements of each, summed by hand in float64."""
        np.testing.assert_allclose(db, self.dy.sum(axis=(0, 1, 2), dtype=np.float64), rtol=1e-3,
                                   atol=1e-2)  # fmt: skip
        ends, r = ((0, 0), (1, 1), (1, 1), (0, 0)), np.random.default_rng(1)
        x, dy = np.pad(self.x, ends).astype(np.float64), np.pad(self.dy, ends).astype(np.float64)
        for _ in range(20):
            n, i, j, f = (int(r.integers(s)) for s in y.shape)
            taps = [(kh, kw) for kh in range(4) for kw in range(4)
                    if (i + 1 - kh) % 2 == 0 and (j + 1 - kw) % 2 == 0]  # fmt: skip
            expected = self.b[f] + sum(
                x[n, (i + 3 - kh) // 2, (j + 3 - kw) // 2] @ self.w[kh, kw, f] for kh, kw in taps
            )
            assert y[n, i, j, f] == pytest.approx(expected, rel=1e-4, abs=1e-4)
            n, i, j, c = (int(r.integers(s)) for s in self.x.shape)
            expected = (dy[n, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] * self.w[..., c]).sum()
            assert dx[n, i, j, c] == pytest.approx(expected, rel=1e-4, abs=1e-3)
            kh, kw, f, c = (int(r.integers(s)) for s in self.w.shape)
            sizes = zip((kh, kw), self.x.shape[1:3], strict=True)
            rows, columns = (slice(k, k + 2 * n, 2) for k, n in sizes)
            expected = (dy[:, rows, columns, f] * self.x[..., c]).sum()
            scale = np.sqrt(self.x[..., c].size)
            assert dw[kh, kw, f, c] == pytest.approx(expected, abs=1e-3 * scale)


def ranvier_transposed(case):
    options = {"strides": 2, "padding": ((1, 1), (1, 1))}
    y, outs = result_like(case.dy), tuple(result_like(a) for a in (case.x, case.w, case.b))
    return (
        lambda: ops.conv2d_transpose(case.x, case.w, case.b, **options, out=y),
        lambda: ops.conv2d_transpose_backward(
            case.dy, case.x, None, case.w, case.b, **options, out=outs
        ),
    )


def torch_transposed(layout):
    def functions(case):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        x, w, b, dy = torch_tensors(torch, case, layout)

        def forward():
            with torch.no_grad():
                y = torch.nn.functional.conv_transpose2d(x, w, b, 2, 1)
            return y.permute(0, 2, 3, 1)

        def backward():
            dx, dw, db = torch.ops.aten.convolution_backward(
                dy, x, w, [len(b)], [2, 2], [1, 1], [1, 1], True, [0, 0], 1, [True] * 3
            )
            return dx.permute(0, 2, 3, 1), dw.permute(2, 3, 1, 0), db

        return forward, backward

    return functions


@pytest.mark.parametrize(
    "functions",
    [ranvier_transposed, torch_transposed("first"), torch_transposed("last")],
    ids=IDS,
)
@pytest.mark.parametrize("back", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed(benchmark, name, back, functions):
    benchmark.group = f"convolution {name}{', all gradients' if back else ''}"
    case = TransposedCase(name)
    benchmark.extra_info["flop"] = (1 + back) * case.flop
    forward, backward = functions(case)
    case.assert_right(np.asarray(forward()), *(np.asarray(a) for a in backward()))
    benchmark(backward if back else forward)
