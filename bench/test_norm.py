"""Batch normalization with relu beside PyTorch, on activations of an image net. Every benchmark
also asserts its answer."""

from __future__ import annotations

import numpy as np
import pytest

from ranvier import ops
from ranvier._core import Buffer

SHAPE = (32, 112, 112, 64)
GROUP = f"batch normalization and relu, forward and backward, {SHAPE}"


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def test_ranvier(benchmark):
    benchmark.group = GROUP
    x, dy = Buffer.from_array(normal(*SHAPE)), Buffer.from_array(normal(*SHAPE))
    y, dx = Buffer(SHAPE, "float32"), Buffer(SHAPE, "float32")

    def run():
        _, statistics = ops.batch_normalization(x, activation="relu", out=y)
        ops.batch_normalization_backward(dy, x, statistics, activation="relu", out=(dx, None, None))

    benchmark(run)
    z = x.view()[:, ::7, ::7]
    over = (0, 1, 2)
    mean, variance = x.view().mean(over, np.float64), x.view().var(over, dtype=np.float64)
    expected = np.maximum((z - mean) / np.sqrt(variance + 1e-3), 0)
    np.testing.assert_allclose(y.view()[:, ::7, ::7], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dx.view().mean(over, np.float64), 0, atol=1e-6)


@pytest.mark.parametrize("order", ["contiguous_format", "channels_last"])
def test_pytorch(benchmark, order):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    benchmark.group = GROUP
    x = torch.tensor(normal(*SHAPE)).permute(0, 3, 1, 2)
    x = x.contiguous(memory_format=getattr(torch, order)).requires_grad_()
    norm = torch.nn.BatchNorm2d(SHAPE[3], eps=1e-3)
    dy = torch.randn_like(x)

    def run():
        x.grad = None
        torch.relu(norm(x)).backward(dy)

    benchmark(run)
    np.testing.assert_allclose(x.grad.mean(dim=(0, 2, 3)).numpy(), 0, atol=1e-6)
