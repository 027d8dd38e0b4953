"""Convolutions beside PyTorch, in the faster of its two layouts for each case.

Every benchmark also asserts its answer: some outputs chosen at random, summed by hand in float64.
"""

from __future__ import annotations

import numpy as np
import pytest

from ranvier import ops

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


class Case:
    def __init__(self, name):
        self.batch, height, width, channels, filters, k, stride, pad, groups = CASES[name]
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


def ranvier_forward(case):
    y = np.empty_like(case.dy)
    return lambda: ops.conv2d(case.x, case.w, case.b, **case.options, out=y)


def ranvier_backward(case):
    outs = tuple(np.empty_like(a) for a in (case.x, case.w, case.b))
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
@pytest.mark.parametrize("name", CASES)
def test_forward(benchmark, name, function):
    benchmark.group = f"convolution {name}"
    case = Case(name)
    benchmark.extra_info["flop"] = case.flop
    case.assert_forward(np.asarray(benchmark(function(case))))


@pytest.mark.parametrize(
    "function", [ranvier_backward, torch_backward("first"), torch_backward("last")], ids=IDS
)
@pytest.mark.parametrize("name", CASES)
def test_backward(benchmark, name, function):
    benchmark.group = f"convolution {name}, all gradients"
    case = Case(name)
    benchmark.extra_info["flop"] = 2 * case.flop
    case.assert_backward(*(np.asarray(a) for a in benchmark(function(case))))
