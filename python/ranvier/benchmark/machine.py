"""The machine and its limits, and how long a call takes.

Limits are measured in the same run: `Machine.peak`, multiply-adds that touch no memory, and
`Machine.bandwidth`, a += s b over as many bytes as the work moves. Both run on the kernels' tier
and threads, and every byte that is counted is read or written.
"""

from __future__ import annotations

import math
import platform
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np

from ranvier import _core
from ranvier.benchmark.works import Run, Work

__all__ = ["SETTLE", "Machine", "ratio_of", "rounds_of", "seconds_of"]

# Threads that have just worked look out for more before they sleep: those of another library would
# take processors from the one that is timed.
SETTLE = 0.05


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

    @property
    def numpy(self) -> str:
        """NumPy's version and, where threadpoolctl tells, the kernels that its products chose."""
        try:
            from threadpoolctl import threadpool_info
        except ImportError:
            return f"NumPy {np.__version__}"
        # Another package may have brought a library of its own.
        found = [lib for lib in threadpool_info() if "architecture" in lib]
        found.sort(key=lambda lib: "numpy" not in lib["filepath"])
        kernels = [f" ({lib['internal_api']}: {lib['architecture']})" for lib in found]
        return f"NumPy {np.__version__}{''.join(kernels[:1])}"

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
            f"{self.numpy}",
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


def ratio_of(run: Run, other: Run, budget: float) -> float:
    """How many times as long as `other` a call of `run` takes: the median of rounds in turn.

    Args:
        run: what is compared.
        other: with what.
        budget: seconds for the rounds of both.
    """
    pair = [(f, rounds_of(f, budget / 4)[0]) for f in (run, other)]

    def round_of(f: Run, calls: int) -> float:
        sleep(SETTLE)
        _timed(f, calls)  # threads wake up, caches forget the other
        return _timed(f, calls) / calls

    ratios: list[float] = []
    end = perf_counter() + budget
    while len(ratios) < 5 or (perf_counter() < end and len(ratios) < 40):
        took = [round_of(*who) for who in pair]
        ratios.append(took[0] / took[1])
    return statistics.median(ratios)


def _timed(run: Run, calls: int) -> float:
    begin = perf_counter()
    for _ in range(calls):
        run()
    return perf_counter() - begin
