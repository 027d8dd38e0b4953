"""What `python -m ranvier bench` measures: kernels beside NumPy and beside the machine's limits.

A `Work` is one piece of work with its arrays: how many flops it takes or bytes it moves, and a
method for each library that does it. No work is timed before its answer was compared with NumPy's.
`WORKS` is the table of what the command measures; a line more there is a line more in its output.

Limits are measured in the same run: `Machine.peak`, multiply-adds that touch no memory, and
`Machine.bandwidth`, a += s b over as many bytes as the work moves. Both run on the kernels' tier
and threads, and every byte that is counted is read or written.
"""

from __future__ import annotations

import json
import math
import platform
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np

from ranvier import _core, ops

__all__ = ["QUICK", "WORKS", "Machine", "Row", "Work", "draw_bars", "line_of", "rows_of", "save"]

Run = Callable[[], Any]


# ---- works ---------------------------------------------------------------------------------------


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


# ---- the machine ---------------------------------------------------------------------------------


class Machine:
    """This machine and its limits, each measured when it is first asked for.

    Processors change their clock, and what shares the machine takes of the memory, within seconds:
    `share` measures a limit anew, in turn with the work.

    Args:
        seconds: to measure each limit for.
    """

    def __init__(self, seconds: float = 0.15) -> None:
        self.seconds = seconds
        self._limits: dict[Any, float] = {}  # the latest rates

    def _limit(self, key: Any) -> float:
        if key not in self._limits:
            # For 0.1 s after NumPy's product, the peak is three quarters of itself.
            sleep(4 * SETTLE)
            rates: list[float] = []
            rate, end = _rounds(_yardstick(key)), perf_counter() + self.seconds
            while not rates or perf_counter() < end:
                rates.append(rate())
            self._limits[key] = statistics.median(rates)
        return self._limits[key]

    @property
    def cpu(self) -> str:
        """The processor's name."""
        try:
            text = Path("/proc/cpuinfo").read_text()
        except OSError:
            text = ""
        found = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
        return found[1].strip() if found else platform.processor() or platform.machine()

    def cache(self, level: int) -> int:
        """Bytes of one cache of this level; 0 where the system does not tell."""
        for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
            try:
                at, kind, size = (
                    (index / name).read_text().strip() for name in ("level", "type", "size")
                )
            except OSError:
                continue
            found = re.fullmatch(r"(\d+)([KM]?)", size)
            if at == str(level) and kind != "Instruction" and found:
                return int(found[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20}[found[2]]
        return 0

    def peak(self, dtype: Any = np.float32) -> float:
        """Flops a second of all threads: independent multiply-adds that touch no memory."""
        return self._limit(np.dtype(dtype))

    def bandwidth(self, size: int) -> float:
        """Bytes a second of all threads in a += s b over two arrays of `size` bytes in all.

        The size counts as the next power of two.
        """
        return self._limit(_stream(size))

    @property
    def in_cache(self) -> float:
        """Bandwidth in the second-level caches: half of each is used."""
        return self.bandwidth((self.cache(2) or 1 << 19) // 2 * _core.threads())

    @property
    def in_memory(self) -> float:
        """Bandwidth far beyond the last-level cache."""
        return self.bandwidth(min(max(1 << 28, 4 * self.cache(3)), 1 << 30))

    def limit(self, work: Work) -> float:
        """Flops or bytes a second: the latest rate of what limits this work."""
        return self._limit(_limit_of(work))

    def share(self, work: Work, run: Run, budget: float) -> float:
        """Which part of its limit a work reaches: medians of rounds in turn.

        Args:
            work: what is done.
            run: does it once.
            budget: seconds for the rounds of the work.
        """
        calls, rounds = rounds_of(run, budget)
        amount = calls * work.steps * (work.flop or work.bytes)
        limit, limits, rates = _rounds(_yardstick(_limit_of(work))), [], []
        for _ in range(rounds):
            limits.append(limit())
            rates.append(amount / _timed(run, calls))
        self._limits[_limit_of(work)] = statistics.median(limits)
        return statistics.median(rates) / statistics.median(limits)

    def lines(self) -> list[str]:
        """What it is, and its limits."""
        threads = _core.threads()
        return [
            f"{self.cpu}, {_core.kernel_isa()}, {threads} thread{'s' * (threads > 1)}; "
            f"NumPy {np.__version__}",
            f"peak {self.peak() / 1e9:.0f} GFLOP/s in float32, {self.peak(np.float64) / 1e9:.0f} "
            f"in float64; {self.in_cache / 1e9:.0f} GB/s in the caches, "
            f"{self.in_memory / 1e9:.0f} from memory",
        ]


def _stream(size: int) -> int:
    return 1 << max(13, (size - 1).bit_length())


def _limit_of(work: Work) -> Any:
    """What limits a work: the peak of a type, or the stream over so many bytes."""
    return np.dtype(work.dtype) if work.flop else _stream(work.memory)


def _yardstick(key: Any) -> Callable[[int], int]:
    """A function that works at this limit for n steps, and returns how much it did."""
    if isinstance(key, np.dtype):
        y = np.empty(_core.threads(), key)
        return lambda steps: _core.peak(y, steps, 1.0, 0.5, 1.0)
    a, b = np.zeros(key // 8, np.float32), np.full(key // 8, 1e-3, np.float32)

    def triad(passes: int) -> int:
        _core.triad(a, b, 1e-3, passes, a)
        return 3 * a.nbytes * passes  # reads a and b, writes a

    return triad


def _rounds(work: Callable[[int], int]) -> Callable[[], float]:
    """A function that does some steps of `work` and returns the rate at which it did them."""
    # So many that starting threads does not count: a thread that shares a processor with another at
    # first is late by milliseconds, whatever the work. Then twice the work takes hardly longer.
    steps, took, before = 1, 0.0, math.inf
    while took < max(2e-3, 1.5 * before):
        before = took or math.inf
        steps *= 2
        begin = perf_counter()
        work(steps)
        took = perf_counter() - begin

    def rate() -> float:
        begin = perf_counter()
        amount = work(steps)
        return amount / (perf_counter() - begin)

    return rate


# ---- timing --------------------------------------------------------------------------------------

# Threads that have just worked look out for more before they sleep: those of another library would
# take processors from the one that is timed.
SETTLE = 0.05


def seconds_of(run: Run, budget: float) -> float:
    """How long a call takes: the median of rounds."""
    sleep(SETTLE if budget > 0.01 else 0)
    calls, rounds = rounds_of(run, budget)
    return statistics.median(_timed(run, calls) / calls for _ in range(rounds))


def rounds_of(run: Run, budget: float) -> tuple[int, int]:
    """How many calls to time at once, and how often, to fill the budget; warms up as well."""
    end = perf_counter() + budget / 5
    while perf_counter() < end:  # threads may have to wake up first
        run()
    calls = 1
    while (took := _timed(run, calls)) < budget / 60:
        calls *= 2
    return calls, min(max(3, int(budget / took)), 60)


def _timed(run: Run, calls: int) -> float:
    begin = perf_counter()
    for _ in range(calls):
        run()
    return perf_counter() - begin


@dataclass
class Row:
    """What was measured of one work.

    Attributes:
        name: of the work.
        seconds: Ranvier's.
        numpy_seconds: NumPy's.
        rate: flops or bytes a second, Ranvier's.
        unit: of the rate, "FLOP/s" or "B/s".
        share: of the limit that was measured in turn with it, from 0 to 1.
    """

    name: str
    seconds: float
    numpy_seconds: float
    rate: float
    unit: str
    share: float

    @property
    def times(self) -> float:
        """How many times as fast as NumPy."""
        return self.numpy_seconds / self.seconds


def rows_of(works: Iterable[Work], machine: Machine, budget: float = 0.25) -> Iterator[Row]:
    """Measure works one after the other.

    Args:
        works: what to do.
        machine: what to compare with.
        budget: seconds to time each library for.

    Raises:
        AssertionError: if an answer is wrong.
    """
    for work in works:
        run = work.prepare("ranvier")
        ours, share = seconds_of(run, budget), machine.share(work, run, budget)
        theirs = seconds_of(work.prepare("numpy"), budget)
        amount, unit = (work.flop, "FLOP/s") if work.flop else (work.bytes, "B/s")
        yield Row(work.name, ours, theirs, amount / ours, unit, share)


# ---- what is shown -------------------------------------------------------------------------------

HEADER = f"{'':<35}{'Ranvier':>9}{'NumPy':>10}{'x NumPy':>9}{'rate':>13}{'of peak':>10}"


def time_text(seconds: float) -> str:
    """Three digits with a unit."""
    size, unit = 1e-6, "us"
    for larger, its_unit in ((1e-3, "ms"), (1.0, "s")):
        if seconds >= 0.9995 * larger:
            size, unit = larger, its_unit
    value = seconds / size
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f} {unit}"


def rate_text(rate: float, unit: str) -> str:
    """In giga: the unit is "FLOP/s" or "B/s"."""
    return f"{rate / 1e9:.{0 if rate >= 9.95e9 else 1}f} G{unit}"


def line_of(row: Row) -> str:
    """A row as a line below HEADER."""
    return (
        f"{row.name:<35}{time_text(row.seconds):>9}{time_text(row.numpy_seconds):>10}"
        f"{row.times:>9.1f}{rate_text(row.rate, row.unit):>13}{row.share:>9.0%}"
    ).replace("%", " %")


def save(file: str | Path, machine: Machine, rows: Sequence[Row]) -> None:
    """Write machine and rows as JSON: times in seconds, rates in flops and bytes a second."""
    content = {
        "cpu": machine.cpu,
        "isa": _core.kernel_isa(),
        "threads": _core.threads(),
        "numpy": np.__version__,
        "peak": {"float32": machine.peak(), "float64": machine.peak(np.float64)},
        "bandwidth": {"caches": machine.in_cache, "memory": machine.in_memory},
        "rows": [asdict(row) | {"times": row.times} for row in rows],
    }
    Path(file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def draw_bars(file: str | Path, machine: Machine, rows: Sequence[Row]) -> None:
    """Draw how many times as fast as NumPy, and which part of the limit, in an image file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.5 + 0.33 * len(rows)), layout="constrained")
    figure.suptitle("\n".join(machine.lines()), fontsize=9, color="0.4")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    names, times = [row.name for row in rows], [row.times for row in rows]
    # on a scale of ratios, bars grow from 1: to the right where Ranvier is faster
    colors = ["tab:blue" if t >= 1 else "tab:red" for t in times]
    bars = left.barh(names, [t - 1 for t in times], left=1, color=colors, height=0.7)
    left.bar_label(bars, [f" {row.times:.1f} x, {time_text(row.seconds)}" for row in rows])
    left.set(title="times as fast as NumPy", xscale="log")
    slowest, fastest = min(times), max(times)  # with room for the labels
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if t > slowest / 2]
    left.set_xticks(ticks, [f"{t:g}" for t in ticks])
    left.minorticks_off()
    left.set_xlim(slowest / 4 if slowest < 1 else 0.85, 4 * max(2, fastest))

    bars = right.barh(names, [100 * row.share for row in rows], color="tab:green", height=0.7)
    texts = [f" {row.share:.0%}, {rate_text(row.rate, row.unit)}" for row in rows]
    right.bar_label(bars, texts)
    right.set(title="% of what the machine can do", xticks=range(0, 101, 25))
    right.set_xlim(0, 100 * max(1.65, *(row.share + 0.65 for row in rows)))
    for axes in (left, right):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    left.axvline(1, color="0.3", linewidth=0.8)
    left.invert_yaxis()
    figure.savefig(file, dpi=150)
