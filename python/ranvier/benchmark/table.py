"""The table of what was measured: its rows, as text, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ranvier import _core
from ranvier.benchmark.machine import Machine, seconds_of
from ranvier.benchmark.works import Work

__all__ = ["HEADER", "Row", "draw_bars", "line_of", "rate_text", "rows_of", "save", "time_text"]


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
