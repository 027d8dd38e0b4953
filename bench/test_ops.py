"""The kernels beside NumPy. Every benchmark also asserts its answer."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import reference
from cases import assert_close
from ranvier import ops


def beside(ours, theirs):
    """Parametrize with the two functions; each group of results shows them side by side."""
    return pytest.mark.parametrize("function", [ours, theirs], ids=["ranvier", "numpy"])


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


# ---- dense -----------------------------------------------------------------------------------


def ranvier_dense(x, w, b, out):
    return ops.dense(x, w, b, activation="relu", out=out)


def numpy_dense(x, w, b, out):
    np.matmul(x, w, out=out)
    out += b
    return np.maximum(out, 0, out=out)


@pytest.mark.parametrize("shape", ["1x10x5", "32x784x64", "256x784x64", "1024x1024x1024"])
@beside(ranvier_dense, numpy_dense)
def test_dense(benchmark, function, shape):
    benchmark.group = f"dense with bias and relu, {shape}"
    m, k, n = map(int, shape.split("x"))
    benchmark.extra_info["flop"] = 2 * m * k * n
    x, w, b = normal(m, k), normal(k, n) / np.float32(np.sqrt(k)), normal(n)
    y = benchmark(function, x, w, b, np.empty((m, n), np.float32))
    expected = reference.dense(x, w, b, activation="relu")
    assert_close(y, expected, "product", terms=k)


# ---- activations -----------------------------------------------------------------------------


def ranvier_activation(name, x, out):
    return ops.activation(x, name, out=out)


def numpy_activation(name, x, out):
    return NUMPY[name](x, out)


def numpy_sigmoid(x, out):
    np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1
    return np.reciprocal(out, out=out)


def numpy_gelu(x, out):
    """NumPy has no erf: Abramowitz and Stegun, formula 7.1.26, good to 1.5e-7."""
    z = np.abs(x) * np.float32(1 / np.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    p = np.float32(1.061405429)
    for a in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        p = p * t + np.float32(a)
    erf = np.copysign(1 - p * t * np.exp(-z * z), x)
    return np.multiply(np.float32(0.5) * x, 1 + erf, out=out)


NUMPY = {
    "relu": lambda x, out: np.maximum(x, 0, out=out),
    "tanh": lambda x, out: np.tanh(x, out=out),
    "sigmoid": numpy_sigmoid,
    "gelu": numpy_gelu,
}


@functools.cache
def expected_activation(name):
    return reference.activation(normal(1_000_000), name)


@pytest.mark.parametrize("name", NUMPY)
@beside(ranvier_activation, numpy_activation)
def test_activation(benchmark, function, name):
    benchmark.group = f"{name}, 1M"
    x = normal(1_000_000)
    y = benchmark(function, name, x, np.empty_like(x))
    np.testing.assert_allclose(y, expected_activation(name), rtol=2e-6, atol=2e-6)


# ---- softmax with cross-entropy --------------------------------------------------------------


def ranvier_crossentropy(labels, logits):
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True, gradient=True)


def numpy_crossentropy(labels, logits):
    rows = np.arange(len(labels))
    z = logits - logits.max(axis=1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) - z[rows, labels])
    e /= total
    e[rows, labels] -= 1
    e /= len(labels)
    return float(loss), e


@beside(ranvier_crossentropy, numpy_crossentropy)
def test_softmax_crossentropy(benchmark, function):
    benchmark.group = "softmax and cross-entropy with gradient, 4096x1000"
    logits, labels = normal(4096, 1000), np.random.default_rng(1).integers(0, 1000, 4096)
    loss, gradient = benchmark(function, labels, logits)
    expected = reference.sparse_categorical_crossentropy(
        labels, logits, from_logits=True, gradient=True
    )
    assert loss == pytest.approx(expected[0], rel=1e-6)
    assert_close(gradient, expected[1], "reduction", terms=1000)


# ---- Adam ------------------------------------------------------------------------------------


def ranvier_adam(p, g, m, v):
    ops.adam(p, g, m, v, step=3)


def numpy_adam(p, g, m, v):
    rate = np.float32(0.001 * np.sqrt(1 - 0.999**3) / (1 - 0.9**3))
    m += np.float32(1 - 0.9) * (g - m)
    v += np.float32(1 - 0.999) * (g * g - v)
    p -= rate * m / (np.sqrt(v) + np.float32(1e-7))


@beside(ranvier_adam, numpy_adam)
def test_adam(benchmark, function):
    benchmark.group = "Adam, 1M parameters"
    arrays = [normal(1_000_000), normal(1_000_001)[1:], normal(1_000_002)[2:]]
    arrays.append(np.abs(normal(1_000_003)[3:]))
    expected = reference.adam(*arrays, step=3)
    once = [a.copy() for a in arrays]
    function(*once)
    for actual, oracle in zip((once[0], *once[2:]), expected, strict=True):
        assert_close(actual, oracle, "elementwise")
    benchmark(function, *arrays)


# ---- gather ----------------------------------------------------------------------------------


def ranvier_gather(source, indices, out):
    return ops.gather(source, indices, out=out)


def numpy_gather(source, indices, out):
    out[...] = source[indices]
    return out


@beside(ranvier_gather, numpy_gather)
def test_gather(benchmark, function):
    benchmark.group = "gather 32 rows of 784 uint8 as float32"
    r = np.random.default_rng(2)
    source, indices = r.integers(0, 256, (60_000, 784), np.uint8), r.integers(0, 60_000, 32)
    y = benchmark(function, source, indices, np.empty((32, 784), np.float32))
    np.testing.assert_array_equal(y, source[indices].astype(np.float32))
