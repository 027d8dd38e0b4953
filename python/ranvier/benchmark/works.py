"""Works: what is measured, and how Ranvier and NumPy do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ranvier import ops

__all__ = ["QUICK", "WORKS", "Work", "normal"]

Run = Callable[[], Any]


class Work:
    """One piece of work.

    Subclasses set what is below, and have `draw` and a method for each library (`ranvier`,
    `numpy`) that is given the arrays and returns a function: it does the work once and returns its
    results, an array or several.

    Attributes:
        name: of the work, in tables.
        flop: additions and multiplications in it; 0: not what limits it.
        bytes: read and written by it, each once; 0: not what limits it.
        memory: bytes of the arrays that it reads and writes.
        dtype: it is done in.
        terms: how many are added up for one result.
        steps: of the work in one run; times are of one step.
    """

    name: str
    flop: int = 0
    bytes: int = 0
    memory: int = 0
    dtype: Any = np.float32
    terms: int = 1
    steps: int = 1

    def draw(self) -> tuple[Any, ...]:
        """The arrays to work on, the same in each call."""
        raise NotImplementedError

    def answers(self) -> Any:
        """The right results."""
        return self._who("numpy")(*self.draw())()

    def _who(self, who: str) -> Callable[..., Run]:
        return getattr(self, who)

    def check(self, results: Any) -> None:
        """Raise AssertionError unless the results are right, up to rounding."""
        allowed = 32 * np.sqrt(self.terms) * np.finfo(self.dtype).eps
        for result, answer in zip(_arrays(results), _arrays(self.answers()), strict=True):
            assert result.shape == answer.shape, f"{result.shape} instead of {answer.shape}"
            error = np.abs(result - answer).max(initial=0) / max(1e-30, np.abs(answer).max())
            assert error <= allowed, f"off by {error:.2g}, relative to the largest"

    def prepare(self, who: str) -> Run:
        """The function with which `who` does the work, after its first answer was checked.

        Raises:
            AssertionError: if the answer is wrong.
        """
        run: Run = self._who(who)(*self.draw())
        try:
            self.check(run())
        except AssertionError as error:
            raise AssertionError(f"[bench] {self.name}: wrong answer of {who}: {error}") from None
        return run


def _arrays(results: Any) -> list[np.ndarray]:
    return [np.asarray(r) for r in (results if isinstance(results, tuple) else (results,))]


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    """Normal numbers; beyond a million they repeat."""
    size = int(np.prod(shape))
    some = np.random.default_rng(seed).standard_normal(min(size, 1 << 20), np.dtype(dtype))
    return np.resize(some, shape)


class Product(Work):
    """y = x w."""

    def __init__(self, m: int, k: int, n: int, dtype: Any = np.float32) -> None:
        self.shape, self.dtype = (m, k, n), dtype
        self.name = f"product {m}x{k}x{n}" + (" float64" if dtype == np.float64 else "")
        self.flop, self.terms = 2 * m * k * n, k

    def draw(self) -> tuple[Any, ...]:
        m, k, n = self.shape
        return normal(m, k, dtype=self.dtype), normal(k, n, dtype=self.dtype, seed=1)

    def ranvier(self, x: Any, w: Any) -> Run:
        y = np.empty((len(x), w.shape[1]), x.dtype)
        return lambda: ops.dense(x, w, out=y)

    def numpy(self, x: Any, w: Any) -> Run:
        y = np.empty((len(x), w.shape[1]), x.dtype)
        return lambda: np.matmul(x, w, out=y)


class ProductBackward(Product):
    """dx = dy w^T and dw = x^T dy."""

    def __init__(self, m: int, k: int, n: int, dtype: Any = np.float32) -> None:
        super().__init__(m, k, n, dtype)
        self.name = self.name.replace("product", "product backward")
        self.flop, self.terms = 4 * m * k * n, max(m, n)

    def draw(self) -> tuple[Any, ...]:
        m, _, n = self.shape
        return *super().draw(), normal(m, n, dtype=self.dtype, seed=2)

    def ranvier(self, x: Any, w: Any, dy: Any) -> Run:  # type: ignore[override]
        out = (np.empty_like(x), np.empty_like(w), None)
        return lambda: ops.dense_backward(dy, x, None, w, out=out)[:2]

    def numpy(self, x: Any, w: Any, dy: Any) -> Run:  # type: ignore[override]
        dx, dw = np.empty_like(x), np.empty_like(w)
        return lambda: (np.matmul(dy, w.T, out=dx), np.matmul(x.T, dy, out=dw))


class Dense(Product):
    """y = relu(x w + b)."""

    def __init__(self, m: int, k: int, n: int, dtype: Any = np.float32) -> None:
        super().__init__(m, k, n, dtype)
        self.name = self.name.replace("product", "dense") + ", relu"

    def draw(self) -> tuple[Any, ...]:
        return *super().draw(), normal(self.shape[2], dtype=self.dtype, seed=2)

    def ranvier(self, x: Any, w: Any, b: Any) -> Run:  # type: ignore[override]
        y = np.empty((len(x), w.shape[1]), x.dtype)
        return lambda: ops.dense(x, w, b, activation="relu", out=y)

    def numpy(self, x: Any, w: Any, b: Any) -> Run:  # type: ignore[override]
        y = np.empty((len(x), w.shape[1]), x.dtype)

        def run() -> np.ndarray:
            np.matmul(x, w, out=y)
            np.add(y, b, out=y)
            return np.maximum(y, 0, out=y)

        return run


def _sigmoid(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1
    return np.reciprocal(out, out=out)


def _erf(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """NumPy has no erf: Abramowitz and Stegun, formula 7.1.26, good to 1.5e-7."""
    z = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * z)
    p = np.float32(1.061405429)
    for a in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        p = p * t + np.float32(a)
    return np.copysign(1 - p * t * np.exp(-z * z), x, out=out)


def _gelu(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    erf = _erf(x * np.float32(1 / np.sqrt(2)), out)
    return np.multiply(np.float32(0.5) * x, 1 + erf, out=out)


class Elementwise(Work):
    """y = f(x), f one of FUNCTIONS."""

    # name -> Ranvier's function (x, out) and NumPy's
    FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "relu": (
            lambda x, out: ops.activation(x, "relu", out=out),
            lambda x, out: np.maximum(x, 0, out=out),
        ),
        "exp": (lambda x, out: ops.exp(x, out=out), np.exp),
        "log": (lambda x, out: ops.log(x, out=out), np.log),
        "sin": (lambda x, out: ops.sin(x, out=out), np.sin),
        "erf": (lambda x, out: ops.erf(x, out=out), _erf),
        "tanh": (lambda x, out: ops.activation(x, "tanh", out=out), np.tanh),
        "sigmoid": (lambda x, out: ops.activation(x, "sigmoid", out=out), _sigmoid),
        "gelu": (lambda x, out: ops.activation(x, "gelu", out=out), _gelu),
    }

    def __init__(self, function: str, size: int) -> None:
        self.function, self.size = function, size
        self.name = f"{function} of {_short(size)}"
        self.bytes = self.memory = 2 * 4 * size

    def draw(self) -> tuple[Any, ...]:
        x = normal(self.size)
        return (np.abs(x) + np.float32(1e-3) if self.function == "log" else x,)

    def ranvier(self, x: Any) -> Run:
        function, y = self.FUNCTIONS[self.function][0], np.empty_like(x)
        return lambda: function(x, out=y)

    def numpy(self, x: Any) -> Run:
        function, y = self.FUNCTIONS[self.function][1], np.empty_like(x)
        return lambda: function(x, out=y)


class Crossentropy(Work):
    """Softmax, sparse cross-entropy and its gradient."""

    def __init__(self, rows: int, columns: int) -> None:
        self.shape = (rows, columns)
        self.name = f"softmax, cross-entropy {rows}x{columns}"
        self.bytes = self.memory = 2 * 4 * rows * columns
        self.terms = columns

    def draw(self) -> tuple[Any, ...]:
        rows, columns = self.shape
        labels = np.random.default_rng(1).integers(0, columns, rows)
        return labels, normal(rows, columns)

    def ranvier(self, labels: Any, logits: Any) -> Run:
        return lambda: ops.sparse_categorical_crossentropy(
            labels, logits, from_logits=True, gradient=True
        )

    def numpy(self, labels: Any, logits: Any) -> Run:
        rows = np.arange(len(labels))

        def run() -> tuple[float, np.ndarray]:
            z = logits - logits.max(axis=1, keepdims=True)
            e = np.exp(z)
            total = e.sum(axis=1, keepdims=True)
            loss = np.mean(np.log(total[:, 0]) - z[rows, labels])
            e /= total
            e[rows, labels] -= 1
            e /= len(labels)
            return float(loss), e

        return run


class Adam(Work):
    """A step of Adam; the answer is of the first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.name = f"Adam, {_short(size)} parameters"
        self.bytes = 7 * 4 * size  # reads p, g, m, v; writes p, m, v
        self.memory = 4 * 4 * size

    def draw(self) -> tuple[Any, ...]:
        p, g, m, v = (normal(self.size, seed=i) for i in range(4))
        return p, g, m, np.abs(v, out=v)

    def ranvier(self, p: Any, g: Any, m: Any, v: Any) -> Run:
        def run() -> tuple[np.ndarray, ...]:
            ops.adam(p, g, m, v, step=3)
            return p, m, v

        return run

    def numpy(self, p: Any, g: Any, m: Any, v: Any) -> Run:
        rate = np.float32(0.001 * np.sqrt(1 - 0.999**3) / (1 - 0.9**3))

        def run() -> tuple[np.ndarray, ...]:
            np.add(m, np.float32(1 - 0.9) * (g - m), out=m)
            np.add(v, np.float32(1 - 0.999) * (g * g - v), out=v)
            np.subtract(p, rate * m / (np.sqrt(v) + np.float32(1e-7)), out=p)
            return p, m, v

        return run


class Dropout(Work):
    """y = x / (1 - rate) where kept, else 0. Each library draws in its own way."""

    rate = 0.25

    def __init__(self, size: int) -> None:
        self.size = size
        self.name = f"dropout of {_short(size)}"
        self.bytes = self.memory = 2 * 4 * size

    def draw(self) -> tuple[Any, ...]:
        return (normal(self.size),)

    def check(self, results: Any) -> None:
        x, y = self.draw()[0], np.asarray(results)
        kept = y != 0
        np.testing.assert_allclose(y[kept], x[kept] / (1 - self.rate), rtol=1e-6)
        spread = np.sqrt(self.rate * (1 - self.rate) / self.size)
        assert abs(1 - self.rate - kept.mean()) < 6 * spread, f"kept {kept.mean():.4f}"

    def ranvier(self, x: Any) -> Run:
        y = np.empty_like(x)
        return lambda: ops.dropout(x, self.rate, seed=1, out=y)

    def numpy(self, x: Any) -> Run:
        r, y, drawn = np.random.default_rng(1), np.empty_like(x), np.empty_like(x)

        def run() -> np.ndarray:
            r.random(out=drawn, dtype=np.float32)
            np.multiply(x, drawn >= self.rate, out=y)
            return np.divide(y, np.float32(1 - self.rate), out=y)

        return run


class Gather(Work):
    """Some rows of bytes, as float32."""

    def __init__(self, rows: int, columns: int) -> None:
        self.shape = (rows, columns)
        self.name = f"gather {rows} rows of {columns} bytes"
        self.bytes = self.memory = 5 * rows * columns

    def draw(self) -> tuple[Any, ...]:
        r, (rows, columns) = np.random.default_rng(2), self.shape
        return r.integers(0, 256, (20_000, columns), np.uint8), r.integers(0, 20_000, rows)

    def ranvier(self, source: Any, indices: Any) -> Run:
        y = np.empty((len(indices), source.shape[1]), np.float32)
        return lambda: ops.gather(source, indices, out=y)

    def numpy(self, source: Any, indices: Any) -> Run:
        y = np.empty((len(indices), source.shape[1]), np.float32)

        def run() -> np.ndarray:
            y[...] = source[indices]
            return y

        return run


def _short(size: int) -> str:
    for unit, letter in ((1_000_000, "M"), (1000, "K")):
        if size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


# What the command measures.
WORKS: tuple[Work, ...] = (
    Dense(1, 784, 64),
    Dense(32, 784, 64),
    Dense(256, 784, 64),
    ProductBackward(256, 784, 64),
    Product(1024, 1024, 1024),
    Product(1024, 1024, 1024, np.float64),
    Elementwise("exp", 1_000_000),
    Elementwise("tanh", 1_000_000),
    Elementwise("gelu", 1_000_000),
    Crossentropy(4096, 1000),
    Dropout(4_000_000),
    Adam(4_000_000),
    Gather(32, 784),
)

# The same kinds, small.
QUICK: tuple[Work, ...] = (
    Dense(1, 10, 5),
    Dense(32, 64, 64),
    ProductBackward(32, 64, 64),
    Product(64, 64, 64),
    Product(64, 64, 64, np.float64),
    Elementwise("exp", 8192),
    Elementwise("tanh", 8192),
    Elementwise("gelu", 8192),
    Crossentropy(32, 100),
    Dropout(8192),
    Adam(8192),
    Gather(32, 64),
)
