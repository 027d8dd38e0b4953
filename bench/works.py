"""The works of `ranvier.benchmark` for the peers that are installed, checked by the tests' oracles.

A new family: a subclass of `Work` with `draw`, `answers`, and a method for each library, which is
given the arrays and returns the function that does the work. A new case: a line in a table of
`test_ops.py`. Peers run as they do in use: with `out=` where they have it, compiled where they
compile, on as many threads as Ranvier, and without recording gradients that nobody asks for.
"""

from __future__ import annotations

import functools
import math
from importlib.util import find_spec

import numpy as np
import pytest

import ranvier
import reference
from ranvier import benchmark, ops
from ranvier.benchmark.works import normal

PEERS = {"torch": "torch", "jax": "jax", "keras": "tensorflow"}  # each with what it needs
LIBRARIES = ("ranvier", "numpy", *(name for name, needs in PEERS.items() if find_spec(needs)))


def beside(*works):
    """Parametrize with each work and each library that is installed and does it."""
    cases = [
        pytest.param(work, who, id=f"{work.name}-{who}")
        for work in works
        for who in LIBRARIES
        if hasattr(work, who) and not (who == "jax" and work.dtype == np.float64)
    ]
    return pytest.mark.parametrize(("work", "who"), cases)


def torch_of(*arrays, gradients=False):
    """PyTorch, on our number of threads, and the arrays as its own."""
    import torch

    torch.set_num_threads(ranvier.num_threads())
    torch.set_grad_enabled(gradients)
    return torch, *map(torch.from_numpy, arrays)


def compiled(function, *arrays):
    """The function on JAX, compiled for these arrays; it waits for its results."""
    import jax

    function, arrays = jax.jit(function), [jax.numpy.asarray(a) for a in arrays]
    return lambda: jax.block_until_ready(function(*arrays))


def repeated(oracle, arrays, size):
    """The oracle of arrays that repeat after a million numbers."""
    answers = oracle(*(a[: 1 << 20] for a in arrays))
    return tuple(np.resize(a, size) for a in answers)


class Work(benchmark.Work):
    def oracle(self):
        """The right results, in float64."""
        raise NotImplementedError

    def answers(self):
        return _answers(self)


@functools.lru_cache(maxsize=1)
def _answers(work):
    return work.oracle()  # once for all libraries


class Product(Work, benchmark.Product):
    def oracle(self):
        return reference.linear(*self.draw())

    def torch(self, x, w):
        torch, x, w = torch_of(x, w)
        y = torch.empty(len(x), w.shape[1], dtype=x.dtype)
        return lambda: torch.mm(x, w, out=y)

    def jax(self, x, w):
        return compiled(lambda x, w: x @ w, x, w)


class ProductByView(Product):
    """y = x v^T: the second operand is a view."""

    def __init__(self, m, k, n):
        super().__init__(m, k, n)
        self.name += " by w.T"

    def draw(self):
        x, w = super().draw()
        return x, np.ascontiguousarray(w.T).T

    def jax(self, x, w):
        return compiled(lambda x, v: x @ v.T, x, w.T)


class Products(Product):
    """For each sample y = x v^T, as attention has it of queries and keys."""

    def __init__(self, samples, m, k, n):
        super().__init__(m, k, n)
        self.samples, self.flop = samples, samples * self.flop
        self.name = f"{samples} {self.name.replace('product', 'products')} by v.T"

    def draw(self):
        m, k, n = self.shape
        return normal(self.samples, m, k), normal(self.samples, n, k, seed=1)

    def oracle(self):
        return reference.dot(*self.draw(), axes=2)

    def ranvier(self, x, v):
        y = np.empty((self.samples, x.shape[1], v.shape[1]), x.dtype)
        return lambda: ops.dot(x, v, axes=2, out=y)

    def numpy(self, x, v):
        y = np.empty((self.samples, x.shape[1], v.shape[1]), x.dtype)
        return lambda: np.matmul(x, v.transpose(0, 2, 1), out=y)

    def torch(self, x, v):
        torch, x, v = torch_of(x, v)
        y = torch.empty(self.samples, x.shape[1], v.shape[1])
        return lambda: torch.bmm(x, v.transpose(1, 2), out=y)

    def jax(self, x, v):
        return compiled(lambda x, v: x @ v.transpose(0, 2, 1), x, v)


class ProductBackward(Work, benchmark.ProductBackward):
    def oracle(self):
        x, w, dy = self.draw()
        return reference.dense_backward(dy, x, None, w)[:2]

    def torch(self, x, w, dy):
        torch, x, w, dy = torch_of(x, w, dy)
        dx, dw = torch.empty_like(x), torch.empty_like(w)
        return lambda: (torch.mm(dy, w.t(), out=dx), torch.mm(x.t(), dy, out=dw))

    def jax(self, x, w, dy):
        return compiled(lambda x, w, dy: (dy @ w.T, x.T @ dy), x, w, dy)


class Dense(Work, benchmark.Dense):
    def oracle(self):
        return reference.dense(*self.draw(), activation="relu")

    def torch(self, x, w, b):
        torch, x, w, b = torch_of(x, w, b)
        y = torch.empty(len(x), w.shape[1], dtype=x.dtype)
        return lambda: torch.addmm(b, x, w, out=y).relu_()

    def jax(self, x, w, b):
        import jax

        return compiled(lambda x, w, b: jax.nn.relu(x @ w + b), x, w, b)


class Transpose(Work):
    """y = x with its axes in another order, in memory."""

    def __init__(self, shape, axes):
        self.shape, self.axes = shape, axes
        self.name = f"transpose {'x'.join(map(str, shape))} to {''.join(map(str, axes))}"
        self.memory = self.bytes = 8 * math.prod(shape)

    def draw(self):
        return (normal(*self.shape),)

    def oracle(self):
        return self.draw()[0].transpose(self.axes)

    def _like(self):
        return np.empty([self.shape[d] for d in self.axes], np.float32)

    def ranvier(self, x):
        y = self._like()
        return lambda: ops.transpose(x, self.axes, out=y)

    def numpy(self, x):
        y = self._like()

        def run():
            np.copyto(y, x.transpose(self.axes))
            return y

        return run

    def torch(self, x):
        _, x, y = torch_of(x, self._like())
        return lambda: y.copy_(x.permute(self.axes))

    def jax(self, x):
        return compiled(lambda x: x.transpose(self.axes) + 0, x)


class Elementwise(Work, benchmark.Elementwise):
    def oracle(self):
        def exact(x):
            if self.function in ("log", "sin"):
                return (getattr(np, self.function)(x.astype(np.float64)),)
            if self.function == "erf":
                return (np.vectorize(math.erf, otypes=[np.float64])(x),)
            name = {"exp": "exponential"}.get(self.function, self.function)
            return (reference.activation(x, name),)

        return repeated(exact, self.draw(), self.size)[0]

    def torch(self, x):
        torch, x = torch_of(x)
        y = torch.empty_like(x)
        if self.function == "gelu":
            return lambda: torch.nn.functional.gelu(x)  # has no out=
        if self.function == "relu":
            return lambda: torch.clamp_min(x, 0, out=y)
        function = getattr(torch, self.function)
        return lambda: function(x, out=y)

    def jax(self, x):
        import jax

        others = {
            "relu": jax.nn.relu,
            "sigmoid": jax.nn.sigmoid,
            "erf": jax.scipy.special.erf,
            "gelu": functools.partial(jax.nn.gelu, approximate=False),
        }
        return compiled(others.get(self.function) or getattr(jax.numpy, self.function), x)


class Crossentropy(Work, benchmark.Crossentropy):
    def oracle(self):
        return reference.sparse_categorical_crossentropy(
            *self.draw(), from_logits=True, gradient=True
        )

    def torch(self, labels, logits):
        torch, labels, logits = torch_of(labels, logits, gradients=True)
        logits.requires_grad_()

        def run():
            loss = torch.nn.functional.cross_entropy(logits, labels)
            return loss.detach(), *torch.autograd.grad(loss, logits)

        return run

    def jax(self, labels, logits):
        import jax

        def loss_of(logits, labels):
            logs = jax.nn.log_softmax(logits)
            return -jax.numpy.take_along_axis(logs, labels[:, None], 1).mean()

        return compiled(jax.value_and_grad(loss_of), logits, labels.astype(np.int32))


class Adam(Work, benchmark.Adam):
    def oracle(self):
        def step(p, g, m, v):
            return reference.adam(p, g, m, v, step=3)

        return repeated(step, self.draw(), self.size)

    def torch(self, p, g, m, v):
        torch, p, g, m, v = torch_of(p, g, m, v)
        parameter = torch.nn.Parameter(p)
        parameter.grad = g
        optimizer = torch.optim.Adam([parameter], lr=0.001, fused=True)
        optimizer.state[parameter] = {"step": torch.tensor(2.0), "exp_avg": m, "exp_avg_sq": v}

        def run():
            optimizer.step()
            return p, m, v

        return run

    def jax(self, p, g, m, v):
        import jax

        rate = 0.001 * np.sqrt(1 - 0.999**3) / (1 - 0.9**3)

        def step(p, g, m, v):
            m = m + (1 - 0.9) * (g - m)
            v = v + (1 - 0.999) * (g * g - v)
            return p - np.float32(rate) * m / (jax.numpy.sqrt(v) + 1e-7), m, v

        step = jax.jit(step, donate_argnums=(0, 2, 3))
        g, state = jax.numpy.array(g), [jax.numpy.array(a) for a in (p, m, v)]

        def run():
            state[:] = jax.block_until_ready(step(state[0], g, *state[1:]))
            return tuple(state)

        return run


class Dropout(Work, benchmark.Dropout):
    def torch(self, x):
        torch, x = torch_of(x)
        return lambda: torch.nn.functional.dropout(x, self.rate)

    def jax(self, x):
        import jax

        def drop(key, x):
            keep = jax.random.bernoulli(key, 1 - self.rate, x.shape)
            return jax.numpy.where(keep, x / (1 - self.rate), 0)

        return compiled(drop, jax.random.key(1), x)


class Gather(Work, benchmark.Gather):
    def oracle(self):
        source, indices = self.draw()
        return reference.gather(source, indices, dtype=np.float32)

    def torch(self, source, indices):
        torch, source, indices = torch_of(source, indices)
        return lambda: source[indices].to(torch.float32)

    def jax(self, source, indices):
        return compiled(lambda s, i: s[i].astype(np.float32), source, indices.astype(np.int32))
