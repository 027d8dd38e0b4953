"""Pooling beside PyTorch, on activations of an image net. Each benchmark asserts its answer too."""

from __future__ import annotations

import numpy as np
import pytest

from ranvier import ops
from ranvier._core import Buffer

SHAPE = (32, 112, 112, 64)


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kind", ["max", "average"])
def test_pool_forward_and_backward(benchmark, kind):
    benchmark.group = f"{kind} pooling 2x2, forward and backward, {SHAPE}"
    x = normal(*SHAPE)
    y = np.empty((32, 56, 56, 64), np.float32)
    dy, dx = normal(*y.shape), Buffer(SHAPE, "float32")
    xb, yb, dyb = Buffer.from_array(x), Buffer(y.shape, "float32"), Buffer.from_array(dy)

    def run():
        if kind == "max":
            _, where = ops.max_pool(xb, 2, argmax=True, out=yb)
            ops.max_pool_backward(dyb, xb, where, 2, out=dx)
        else:
            ops.average_pool(xb, 2, out=yb)
            ops.average_pool_backward(dyb, xb, 2, out=dx)

    benchmark(run)
    windows = x.reshape(32, 56, 2, 56, 2, 64)
    expected = windows.max(axis=(2, 4)) if kind == "max" else windows.mean(axis=(2, 4))
    np.testing.assert_allclose(yb.view(), expected, rtol=1e-5, atol=1e-6)
    sums = dx.view().reshape(32, 56, 2, 56, 2, 64).sum(axis=(2, 4))
    np.testing.assert_allclose(sums, dy, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", ["contiguous_format", "channels_last"])
@pytest.mark.parametrize("kind", ["max", "average"])
def test_pytorch(benchmark, kind, order):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    benchmark.group = f"{kind} pooling 2x2, forward and backward, {SHAPE}"
    x = torch.tensor(normal(*SHAPE)).permute(0, 3, 1, 2)
    x = x.contiguous(memory_format=getattr(torch, order)).requires_grad_()
    pool = torch.nn.functional.max_pool2d if kind == "max" else torch.nn.functional.avg_pool2d
    dy = torch.randn_like(pool(x, 2))

    def run():
        x.grad = None
        pool(x, 2).backward(dy)

    benchmark(run)
    sums = torch.nn.functional.avg_pool2d(x.grad, 2) * 4
    np.testing.assert_allclose(sums.numpy(), dy.numpy(), rtol=1e-5, atol=1e-6)
