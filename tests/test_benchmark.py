"""`ranvier.benchmark` and `ranvier bench`. Nothing here depends on how fast anything is."""

from __future__ import annotations

import builtins
import json
import re
import subprocess
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import ranvier
from ranvier import _core, benchmark
from ranvier.__main__ import main
from ranvier.benchmark import Machine, Row, Work, table
from ranvier.benchmark import machine as limits

ROWS = [
    Row("product", 2e-3, 4e-3, 500e9, "FLOP/s", 0.9),
    Row("slower than NumPy", 3e-6, 1e-6, 2e9, "B/s", 0.02),
    Row("beyond the limit", 3e-6, 3e-4, 20e9, "B/s", 1.3),
]


class Clock:
    """Time that passes only where a run says so."""

    def __init__(self, monkeypatch):
        self.now, self.slept = 0.0, 0.0
        monkeypatch.setattr(limits, "perf_counter", lambda: self.now)
        monkeypatch.setattr(limits, "sleep", self.sleep)

    def sleep(self, seconds):
        self.slept += seconds

    def run(self, seconds):
        def run():
            self.now += seconds

        return run


def known(monkeypatch):
    """A machine whose limits are not measured but known."""
    machine = Machine()
    monkeypatch.setattr(Machine, "peak", lambda self, dtype=np.float32: 100e9 * 4 / dtype(0).nbytes)
    monkeypatch.setattr(Machine, "bandwidth", lambda self, size: 50e9 if size < 1e6 else 10e9)
    return machine


def yardsticks(monkeypatch, clock):
    """Limits that take the clock's time. -> what was asked for, a list that grows"""
    asked = []

    def yardstick(key):
        asked.append(key)
        rate = 10e9 if isinstance(key, int) else 400e9 / key.itemsize

        def work(steps):
            clock.now += 1e-6 * steps
            return 1e-6 * steps * rate

        return work

    monkeypatch.setattr(limits, "_yardstick", yardstick)
    return asked


# ---- works ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["ranvier", "numpy"])
@pytest.mark.parametrize("work", benchmark.QUICK, ids=lambda work: work.name)
def test_answers_are_right(work, who):
    run = work.prepare(who)
    run()  # again, as for timing
    assert (work.flop > 0) != (work.bytes > 0)
    assert (work.bytes > 0) == (work.memory > 0)


@pytest.mark.parametrize("work", benchmark.QUICK, ids=lambda work: work.name)
def test_a_wrong_answer_is_found(work):
    results = work.ranvier(*work.draw())()
    work.check(results)
    several = results if isinstance(results, tuple) else (results,)
    for i in range(len(several)):
        wrong = [np.array(r) for r in several]
        wrong[i].flat[wrong[i].size // 2] += 0.1
        with pytest.raises(AssertionError):
            work.check(tuple(wrong) if isinstance(results, tuple) else wrong[0])
        wrong[i].flat[wrong[i].size // 2] = np.nan
        with pytest.raises(AssertionError):
            work.check(tuple(wrong) if isinstance(results, tuple) else wrong[0])


def test_the_quick_works_are_of_the_same_kinds():
    assert {type(work) for work in benchmark.QUICK} == {type(work) for work in benchmark.WORKS}
    for works in (benchmark.QUICK, benchmark.WORKS):
        assert len({work.name for work in works}) == len(works)
        assert max(len(work.name) for work in works) < 35  # the column's width


def test_numbers_repeat_beyond_a_million():
    x = benchmark.normal(2, 3, 200_000)
    assert x.shape == (2, 3, 200_000)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x.ravel()[1 << 20 :], x.ravel()[: x.size - (1 << 20)])
    assert abs(x.mean()) < 0.01 > abs(x.std() - 1)
    assert benchmark.normal(5, dtype=np.float64).dtype == np.float64
    assert (benchmark.normal(5, seed=1) != benchmark.normal(5)).all()


def test_the_amount_of_work():
    assert benchmark.Product(3, 5, 7).flop == 2 * 3 * 5 * 7
    assert benchmark.ProductBackward(3, 5, 7).flop == 2 * 2 * 3 * 5 * 7
    assert benchmark.Elementwise("tanh", 10).bytes == 80
    adam = benchmark.Adam(10)
    assert (adam.bytes, adam.memory) == (7 * 40, 4 * 40)


# ---- the machine ---------------------------------------------------------------------------------


def test_limits_are_measured_once():
    machine = Machine(0.001)
    assert machine.peak() > 1e7
    assert machine.peak(np.float64) > 1e7
    assert machine.bandwidth(40_000) > 1e6
    machine.seconds = None  # measuring again would fail
    assert machine.peak(np.float32) == machine.peak("float32") != machine.peak(np.float64)
    assert machine.bandwidth(40_000) == machine.bandwidth(65_536)
    with pytest.raises(TypeError):
        machine.bandwidth(65_537)


def test_the_stream_moves_what_it_counts(monkeypatch):
    """Two arrays of the next power of two together, of which three passes go over memory."""
    calls = []

    def triad(a, b, scale, passes, out):
        assert out is a
        calls.append(a.nbytes + b.nbytes)

    monkeypatch.setattr(_core, "triad", triad)
    assert limits._yardstick(131_072)(5) == 5 * 3 * 65_536
    assert calls == [131_072]


@pytest.mark.parametrize(
    ("work", "seconds", "key", "share"),
    [
        (benchmark.Product(10, 100, 1000), 1e-4, np.dtype(np.float32), 0.2),
        (benchmark.Product(10, 100, 1000, np.float64), 1e-4, np.dtype(np.float64), 0.4),
        (benchmark.Elementwise("tanh", 1000), 1e-6, 8192, 0.8),
        (benchmark.Elementwise("tanh", 10**6), 1e-3, 1 << 23, 0.8),
    ],
)
def test_shares(work, seconds, key, share, monkeypatch):
    clock = Clock(monkeypatch)
    asked, machine = yardsticks(monkeypatch, clock), Machine()
    assert machine.share(work, clock.run(seconds), 0.1) == pytest.approx(share)
    assert asked == [key]
    assert machine.limit(work) == pytest.approx((work.flop or work.bytes) / seconds / share)
    assert asked == [key]  # not measured again


def test_a_work_of_several_steps(monkeypatch):
    clock = Clock(monkeypatch)
    yardsticks(monkeypatch, clock)
    work = benchmark.Product(10, 100, 1000)
    work.steps = 5
    assert Machine().share(work, clock.run(5e-4), 0.1) == pytest.approx(0.2)


def test_what_slows_the_machine_slows_both(monkeypatch):
    clock = Clock(monkeypatch)

    def run(seconds=1e-4):
        clock.now += seconds * (1 if clock.now < 0.15 else 3)

    def yardstick(steps):
        run(1e-6 * steps)
        return 1e-6 * steps * 100e9

    monkeypatch.setattr(limits, "_yardstick", lambda key: yardstick)
    share = Machine().share(benchmark.Product(10, 100, 1000), run, 0.2)
    assert share == pytest.approx(0.2, rel=1e-3)
    assert clock.now > 0.3  # it became slow halfway


def test_the_rate_of_a_round(monkeypatch):
    clock, seen = Clock(monkeypatch), []

    def work(steps):
        seen.append(steps)
        clock.now += steps * 1e-5
        return 3 * steps

    rate = limits._rounds(work)
    assert rate() == pytest.approx(3e5)
    assert max(seen) * 1e-5 >= 2e-3


def test_a_limit_is_the_median_of_rounds(monkeypatch):
    clock, calls = Clock(monkeypatch), []

    def work(steps):
        calls.append(steps)
        clock.now += steps * (1e-5 if len(calls) % 7 else 1e-4)  # now and then far slower
        return steps

    monkeypatch.setattr(limits, "_yardstick", lambda key: work)
    assert Machine(0.1).peak() == pytest.approx(1e5)
    assert clock.slept > 0


def test_threads_that_start_late_do_not_count(monkeypatch):
    """Each call takes 3 ms more than its work: so it must be a lot of work."""
    clock = Clock(monkeypatch)

    def work(steps):
        clock.now += 3e-3 + steps * 1e-6
        return steps

    assert limits._rounds(work)() > 0.5e6


def test_its_lines(monkeypatch):
    machine = known(monkeypatch)
    first, second = machine.lines()
    assert machine.cpu in first
    assert first.endswith(machine.numpy)
    assert _core.kernel_isa() in first
    assert f"{ranvier.num_threads()} thread" in first
    assert second == (
        "peak 100 GFLOP/s in float32, 50 in float64; "
        f"{machine.in_cache / 1e9:.0f} GB/s in the caches, 10 from memory"
    )


def test_numpy_is_named_with_the_kernels_of_its_products(monkeypatch):
    other = {"filepath": "/scipy.libs/b.so", "internal_api": "openblas", "architecture": "Zen"}
    own = {"filepath": "/numpy.libs/a.so", "internal_api": "openblas", "architecture": "Haswell"}
    threads = {"filepath": "/usr/lib/c.so", "internal_api": "openmp"}
    plain = f"NumPy {np.__version__}"

    def numpy(*libraries):
        module = types.SimpleNamespace(threadpool_info=lambda: list(libraries))
        monkeypatch.setitem(sys.modules, "threadpoolctl", module)
        return Machine().numpy

    assert numpy(threads, other, own) == f"{plain} (openblas: Haswell)"
    assert numpy(other) == f"{plain} (openblas: Zen)"
    assert numpy(threads) == plain
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert Machine().numpy == plain


@pytest.mark.skipif(sys.platform != "linux", reason="reads /sys and /proc")
def test_caches_are_found_where_the_system_tells():
    for size in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        level = int((size.parent / "level").read_text())
        assert Machine().cache(level) >= 1024
    assert Machine().cache(9) == 0


# ---- timing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1e-6, 3e-4, 0.02, 5.0])
@pytest.mark.parametrize("budget", [0.005, 0.25])
def test_the_time_of_a_call(seconds, budget, monkeypatch):
    clock = Clock(monkeypatch)
    assert benchmark.seconds_of(clock.run(seconds), budget) == pytest.approx(seconds)
    assert clock.now < max(3 * budget, 6 * seconds)
    assert clock.slept == (benchmark.SETTLE if budget > 0.01 else 0)


def test_rounds_fill_the_budget(monkeypatch):
    clock = Clock(monkeypatch)
    calls, rounds = benchmark.rounds_of(clock.run(1e-5), 0.6)
    assert calls == 1024  # the first power of two that takes a sixtieth
    assert rounds == 58


def test_ratio_of_a_machine_that_slows_down(monkeypatch):
    """Each round takes longer than the one before: neighbours are compared."""
    clock = Clock(monkeypatch)

    def slowing(seconds):
        def run():
            clock.now += seconds * (1 + clock.now)

        return run

    ratio = benchmark.ratio_of(slowing(0.01), slowing(0.02), 1.0)
    assert ratio == pytest.approx(0.5, rel=0.1)
    assert clock.slept >= 10 * benchmark.SETTLE


def test_rows(monkeypatch):
    clock, machine = Clock(monkeypatch), Machine()
    yardsticks(monkeypatch, clock)

    class Slow(Work):
        name, flop = "slow", 10**6

        def ranvier(self):
            return clock.run(2e-5)

        def numpy(self):
            return clock.run(6e-5)

        def draw(self):
            return ()

        def check(self, results):
            assert results is None

    (row,) = benchmark.rows_of([Slow()], machine, 0.01)
    assert (row.name, row.unit) == ("slow", "FLOP/s")
    assert row.seconds == pytest.approx(2e-5)
    assert row.numpy_seconds == pytest.approx(6e-5)
    assert row.times == pytest.approx(3)
    assert row.rate == pytest.approx(5e10)
    assert row.share == pytest.approx(0.5)


# ---- what is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.5e-7, "0.15 us"), (9.994e-6, "9.99 us"), (9.996e-6, "10.0 us"), (99.96e-6, "100 us"),
     (999e-6, "999 us"), (999.9e-6, "1.00 ms"), (0.0123, "12.3 ms"), (2.0, "2.00 s")],
)  # fmt: skip
def test_times_have_three_digits(seconds, text):
    assert benchmark.time_text(seconds) == text


def test_rates():
    assert benchmark.rate_text(9.94e9, "B/s") == "9.9 GB/s"
    assert benchmark.rate_text(9.96e9, "B/s") == "10 GB/s"
    assert benchmark.rate_text(512.4e9, "FLOP/s") == "512 GFLOP/s"


def test_a_line_fits_below_the_header():
    for row, told in zip(ROWS, ("2.0  500 GFLOP/s      90 %", "0.3", "130 %"), strict=True):
        line = benchmark.line_of(row)
        assert len(line) == len(benchmark.HEADER)
        assert told in line


def test_json(tmp_path, monkeypatch):
    machine, file = known(monkeypatch), tmp_path / "bench.json"
    benchmark.save(file, machine, ROWS)
    content = json.loads(file.read_text())
    assert content["isa"] == _core.kernel_isa()
    assert content["peak"] == {"float32": 100e9, "float64": 50e9}
    assert content["bandwidth"]["memory"] == 10e9
    assert [row["name"] for row in content["rows"]] == [row.name for row in ROWS]
    assert content["rows"][0] == {
        "name": "product", "seconds": 2e-3, "numpy_seconds": 4e-3, "rate": 500e9,
        "unit": "FLOP/s", "share": 0.9, "times": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[1:2]], ids=["all", "faster", "slower"])
def test_bars(rows, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    file = tmp_path / "bench.svg"
    with pytest.MonkeyPatch.context() as patch:
        import matplotlib

        patch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
        benchmark.draw_bars(file, known(monkeypatch), rows)
    text = file.read_text()
    for row in rows:
        assert f"{row.times:.1f} x, {benchmark.time_text(row.seconds)}" in text
        assert f"{row.share:.0%}, {benchmark.rate_text(row.rate, row.unit)}" in text


# ---- the command ---------------------------------------------------------------------------------


def test_the_command(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    plot, figures = tmp_path / "bench.png", tmp_path / "bench.json"
    assert main(["bench", "--quick", "--plot", str(plot), "--json", str(figures)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert _core.kernel_isa() in lines[0]
    limits = r"peak \d+ GFLOP/s in float32, \d+ in float64; \d+ GB/s in the caches, \d+ from memory"
    assert re.fullmatch(limits, lines[1])
    assert lines[2] == benchmark.HEADER
    table = lines[3:-2]
    for work, line in zip(benchmark.QUICK, table, strict=True):
        assert line.startswith(f"{work.name} ")
        assert re.search(r" [mu]?s +[\d.]+ [mu]?s +\d+\.\d +[\d.]+ G(FLOP|B)/s +\d+ %$", line), line
    assert lines[-2:] == [f"bars in {plot}", f"figures in {figures}"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    rows = json.loads(figures.read_text())["rows"]
    assert [row["name"] for row in rows] == [work.name for work in benchmark.QUICK]
    assert min(min(row["seconds"], row["share"], row["times"]) for row in rows) > 0


def failure(capsys, *arguments, code):
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--quick", *arguments])
    assert stop.value.code == code
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    return said


def test_a_wrong_answer_is_not_timed(monkeypatch, capsys):
    class Wrong(benchmark.Product):
        def ranvier(self, x, w):
            return lambda: np.ones((len(x), w.shape[1]), x.dtype)

    known(monkeypatch)
    monkeypatch.setattr(benchmark, "QUICK", (Wrong(3, 4, 5),))
    monkeypatch.setattr(table, "seconds_of", None)
    said = failure(capsys, code=1)
    told = "ranvier bench: error: [bench] product 3x4x5: wrong answer of ranvier: off by "
    assert said.err.startswith(told)


def test_files_that_cannot_be_written_stop_it_before_it_measures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "Machine", None)
    nowhere = tmp_path / "nowhere"
    for option, name in (("--plot", "bench.png"), ("--json", "bench.json")):
        said = failure(capsys, option, str(nowhere / name), code=2)
        assert f"{option} {nowhere / name}: there is no folder {nowhere}" in said.err
        assert said.out == ""
    assert "--plot" in failure(capsys, "--plot", str(tmp_path / "bench.xyz"), code=2).err


def test_a_folder_in_the_files_place_is_told(tmp_path, monkeypatch, capsys):
    known(monkeypatch)
    monkeypatch.setattr(benchmark, "QUICK", ())
    said = failure(capsys, "--json", str(tmp_path), code=1)
    assert said.err.startswith(f"ranvier bench: error: cannot write {tmp_path}: ")


def test_without_matplotlib_the_line_says_what_to_install(monkeypatch, capsys):
    real = builtins.__import__

    def without(name, *rest, **options):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    said = failure(capsys, "--plot", "bench.png", code=2)
    assert 'pip install "ranvier[plot]"' in said.err
    assert said.out == ""


def test_help(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    text = capsys.readouterr().out
    assert [word for word in ("--quick", "--plot", "--json") if word not in text] == []


# ---- bench/ --------------------------------------------------------------------------------------


@pytest.mark.skipif(not find_spec("pytest_benchmark"), reason="pytest-benchmark is not installed")
def test_the_folder_bench_finds_its_works():
    folder = Path(__file__).resolve().parents[1] / "bench"
    if not folder.is_dir():
        pytest.skip("not in the source tree")
    command = [sys.executable, "-m", "pytest", str(folder), "-q", "--benchmark-max-time=0.01"]
    command += ["-k", "numpy and (1x10x5 or gather)", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    for told in ("dense 1x10x5, relu", "gather 32 rows of 784 bytes", "of peak", "passed"):
        assert told in done.stdout
