"""What the benchmarks share: how a work is measured, and the table in which all of them end."""

from __future__ import annotations

import sys
from pathlib import Path
from time import sleep

import pytest

from ranvier.benchmark import SETTLE, Machine, rate_text, ratio_of, rounds_of, time_text

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # oracles and tolerances

MACHINE = Machine()
results = []  # (work, who, seconds, share of the limit, times Ranvier), as they were measured


@pytest.fixture
def measure(benchmark, request):
    """measure(work, who): checks the answer, then times it; the table at the end shows the rest."""

    def measure(work, who):
        run = work.prepare(who)
        benchmark.group = work.name
        if not benchmark.enabled:  # --benchmark-disable: the answers only
            benchmark.pedantic(run)
            return
        sleep(SETTLE)
        budget = float(request.config.getoption("benchmark_max_time"))
        calls, rounds = rounds_of(run, budget)
        benchmark.pedantic(run, iterations=calls, rounds=rounds)
        seconds = benchmark.stats.stats.median / work.steps
        benchmark.extra_info["steps"] = work.steps
        share = ratio = None
        if work.flop or work.bytes:
            rate = (work.flop or work.bytes) / seconds
            # A peer's threads would still be busy when the limit's turn comes.
            ours = who == "ranvier"
            share = MACHINE.share(work, run, budget / 2) if ours else rate / MACHINE.limit(work)
            benchmark.extra_info["rate"] = rate
            benchmark.extra_info["share of the limit"] = share
        if who != "ranvier":
            ours = [t for w, name, t, *_ in results if (w, name) == (work, "ranvier")]
            if work.bytes:  # memory's rate changes from one median to the next
                ratio = ratio_of(run, work.prepare("ranvier"), budget)
            elif ours:  # not in turn: threads of a peer's product are awake for longer than we wait
                ratio = seconds / ours[0]
            benchmark.extra_info["x Ranvier"] = ratio
        results.append((work, who, seconds, share, ratio))

    return measure


def table():
    """The lines of the summary: a group for each work, and in it a line for each library."""
    yield from MACHINE.lines()
    yield f"{'':<38}{'':<9}{'median':>9}{'rate':>14}{'of peak':>9}{'x Ranvier':>11}"
    shown = None
    for work, who, seconds, part, times in results:
        line = f"{'' if work.name == shown else work.name:<38}{who:<9}{time_text(seconds):>9}"
        shown = work.name
        rate = share = ""
        if part is not None:
            unit = "FLOP/s" if work.flop else "B/s"
            rate = rate_text((work.flop or work.bytes) / seconds, unit)
            share = f"{part:.0%}"
        ratio = "" if times is None else f"{times:.2f}"
        yield f"{line}{rate:>14}{share:>9}{ratio:>11}".rstrip()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    if results:
        terminalreporter.section("medians beside this machine's limits")
        for line in table():
            terminalreporter.write_line(line)
