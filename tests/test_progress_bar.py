"""The progress bar: what it prints, where lines can be rewritten and where they cannot, with and
without tqdm."""

from __future__ import annotations

import io
import math
import sys

import numpy as np
import pytest

from ranvier import callbacks
from ranvier.callbacks import ProgressBar


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Screen(io.StringIO):
    """A stdout that may be a terminal."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(callbacks, "perf_counter", made)
    return made


@pytest.fixture
def screen(monkeypatch):
    def make(terminal, tqdm=False, columns=100):
        made = Screen(terminal)
        monkeypatch.setattr(sys, "stdout", made)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", "24")
        if not tqdm:
            monkeypatch.setitem(sys.modules, "tqdm", None)
            monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        return made

    return make


def run_epochs(bar, clock, epochs=2, steps=64, seconds=1 / 64, logs=None):
    """Epochs of one second, in binary fractions that add up exactly."""
    bar.on_train_begin()
    for epoch in range(epochs):
        bar.on_epoch_begin(epoch)
        for step in range(1, steps + 1):
            clock.now += seconds
            bar.on_progress(step, {"loss": 1 / step})
        bar.on_test_begin()
        bar.on_test_end({"loss": 9.0})
        bar.on_epoch_end(epoch, logs)
    bar.on_train_end()


LOGS = {"loss": 0.123456, "accuracy": 0.93, "val_loss": 1.234567e-5}
SHOWN = "loss: 0.1235 - accuracy: 0.93 - val_loss: 1.235e-05"


@pytest.mark.parametrize("verbose", [1, 2, "auto"])
def test_one_line_an_epoch_where_nothing_can_be_rewritten(screen, clock, verbose):
    out = screen(terminal=False)
    bar = ProgressBar(steps=64, epochs=2, verbose=verbose)
    run_epochs(bar, clock, logs=LOGS)
    assert out.getvalue() == f"Epoch 1/2 - 1.0s - {SHOWN}\nEpoch 2/2 - 1.0s - {SHOWN}\n"
    assert not bar.live


@pytest.mark.parametrize("tqdm", [False, True])
def test_verbose_2_is_the_same_with_tqdm_and_on_a_terminal(screen, clock, tqdm):
    out = screen(terminal=True, tqdm=tqdm)
    run_epochs(ProgressBar(64, 2, 2), clock, epochs=1, steps=3, logs=LOGS)
    assert out.getvalue() == f"Epoch 1/2 - 47ms - {SHOWN}\n"


@pytest.mark.parametrize("tqdm", [False, True])
def test_verbose_0_is_silent(screen, clock, tqdm):
    out = screen(terminal=True, tqdm=tqdm)
    run_epochs(ProgressBar(64, 2, 0), clock, logs=LOGS)
    assert out.getvalue() == ""


def test_line_on_a_terminal_is_rewritten_ten_times_a_second(screen, clock):
    out = screen(terminal=True)
    bar = ProgressBar(64, 1)
    run_epochs(bar, clock, epochs=1, logs=LOGS)
    lines = out.getvalue().split("\r")
    assert lines[0] == ""
    assert len(lines) - 2 == 9  # every seventh step: 7/64 is the first to exceed 0.1 s
    assert lines[1] == ("Epoch 1/1:  10% 7/64 - 109ms - loss: 0.1429")
    assert lines[-1].rstrip(" \n") == f"Epoch 1/1 - 1.0s - {SHOWN}"
    assert out.getvalue().count("\n") == 1


def test_rewritten_line_leaves_nothing_behind(screen, clock):
    out = screen(terminal=True)
    bar = ProgressBar(10, 1)
    bar.on_epoch_begin(0)
    clock.now += 1
    bar.on_progress(5, {"loss": 0.12345, "a_long_name": 0.12345})
    long = len(out.getvalue().lstrip("\r"))
    clock.now += 1
    bar.on_progress(6, {})
    bar.on_epoch_end(0, {})
    _, _, shorter, last = out.getvalue().split("\r")
    assert len(shorter) == long and shorter.rstrip().endswith("60% 6/10 - 2.0s")
    assert last.rstrip() == "Epoch 1/1 - 2.0s"


def test_line_fits_a_narrow_terminal_but_the_last_is_whole(screen, clock):
    out = screen(terminal=True, columns=30)
    run_epochs(ProgressBar(64, 1), clock, epochs=1, logs=LOGS)
    *live, last = out.getvalue().split("\r")
    assert len(live) > 5 and max(map(len, live)) == 29
    assert SHOWN in last


@pytest.mark.parametrize("steps", [None, 10])
def test_broken_off_line_is_ended(screen, clock, steps):
    out = screen(terminal=True)
    bar = ProgressBar(steps, 1)
    bar.on_epoch_begin(0)
    clock.now += 1
    bar.on_progress(4)
    done = "4 steps" if steps is None else " 40% 4/10"
    assert out.getvalue() == f"\rEpoch 1/1: {done} - 1.0s"
    bar.close()
    bar.close()
    clock.now += 1
    bar.on_progress(5)
    assert out.getvalue() == f"\rEpoch 1/1: {done} - 1.0s\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_tqdm_bar(screen, clock, terminal):
    out = screen(terminal, tqdm=True)
    run_epochs(ProgressBar(64, 2), clock, logs=LOGS)
    first, second, end = out.getvalue().split("\n")
    assert end == ""
    assert first.startswith("\rEpoch 1/2:   0%|")
    drawn = first.split("\r")
    assert len(drawn) == 1 + 1 + 9 + 1  # nothing, the bar at 0 %, every seventh step, the end
    assert "7/64" in drawn[2] and drawn[2].endswith("loss: 0.1429]")
    last = second.split("\r")[-1]
    assert last.startswith("Epoch 2/2: 100%|")
    assert "64/64" in last
    assert last.endswith("loss: 0.1235, accuracy: 0.93, val_loss: 1.235e-05]")


def test_tqdm_last_line_is_whole_on_a_narrow_terminal(screen, clock):
    out = screen(terminal=True, tqdm=True, columns=60)
    run_epochs(ProgressBar(64, 1), clock, epochs=1, logs=LOGS)
    *live, last = out.getvalue().split("\r")
    assert len(live) > 5 and max(map(len, live)) <= 59
    assert last.endswith("val_loss: 1.235e-05]\n")


def test_tqdm_shows_all_steps_if_the_loop_never_looked_in(screen, clock):
    out = screen(terminal=False, tqdm=True)
    bar = ProgressBar(64, 1)
    bar.on_epoch_begin(0)
    assert bar.live
    bar.on_epoch_end(0, {"loss": 0.5})
    assert "100%" in out.getvalue() and "64/64" in out.getvalue()


def test_tqdm_without_known_steps(screen, clock):
    out = screen(terminal=False, tqdm=True)
    run_epochs(ProgressBar(None, 1), clock, epochs=1, steps=7, logs=LOGS)
    assert "7/7" in out.getvalue().split("\r")[-1]


def test_tqdm_broken_off_keeps_its_place(screen, clock):
    out = screen(terminal=False, tqdm=True)
    bar = ProgressBar(10, 1)
    bar.on_epoch_begin(0)
    clock.now += 1
    bar.on_progress(4)
    bar.close()
    bar.close()
    assert "4/10" in out.getvalue().split("\r")[-1]
    assert out.getvalue().count("\n") == 1 and "100%" not in out.getvalue()


def test_tqdm_starts_no_thread(screen, clock, monkeypatch):
    from tqdm import TMonitor, tqdm

    screen(terminal=True, tqdm=True)
    monkeypatch.setattr(tqdm, "monitor", None)
    monkeypatch.setattr(TMonitor, "start", lambda self: pytest.fail("a thread was started"))
    run_epochs(ProgressBar(5, 1), clock, epochs=1, steps=5)


def test_a_new_epoch_ends_a_bar_that_was_left_open(screen, clock):
    out = screen(terminal=False, tqdm=True)
    bar = ProgressBar(10, 2)
    bar.on_epoch_begin(0)
    bar.on_epoch_begin(1)
    bar.close()
    assert out.getvalue().count("\n") == 2


@pytest.mark.parametrize("label", ["evaluate", "predict"])
@pytest.mark.parametrize("tqdm", [False, True])
def test_label(screen, clock, label, tqdm):
    out = screen(terminal=False, tqdm=tqdm)
    bar = ProgressBar(8, label=label)
    hook = "test" if label == "evaluate" else "predict"
    getattr(bar, f"on_{hook}_begin")()
    clock.now += 2
    bar.on_progress(8, {"loss": 0.5})
    getattr(bar, f"on_{hook}_end")({"loss": 0.25} if label == "evaluate" else {})
    text = out.getvalue()
    if tqdm:
        assert f"{label}: 100%|" in text and "8/8" in text
    else:
        assert text == ("evaluate - 2.0s - loss: 0.25\n" if hook == "test" else "predict - 2.0s\n")
    if hook == "test":
        assert "loss: 0.25" in text


def test_labelled_bar_leaves_epochs_alone(screen, clock):
    out = screen(terminal=False)
    bar = ProgressBar(8, label="evaluate")
    bar.on_epoch_begin(0)
    bar.on_epoch_end(0, {"loss": 0.5})
    assert out.getvalue() == ""


def test_throttled_call_draws_nothing(screen, clock, monkeypatch):
    screen(terminal=True)
    bar = ProgressBar(1024, 1)
    drawn = []
    monkeypatch.setattr(bar, "_draw", lambda logs: drawn.append(clock.now))
    bar.on_progress(1)  # before any epoch
    bar.on_epoch_begin(0)
    for step in range(1024):
        clock.now += 1 / 1024
        bar.on_progress(step)
    np.testing.assert_array_equal(np.diff(drawn), 103 / 1024)  # the first step beyond 0.1 s
    assert len(drawn) == 9


def test_params_of_the_run(screen):
    bar = ProgressBar()
    bar.set_params({"steps": 7, "epochs": 3, "verbose": 2})
    assert (bar.steps, bar.epochs, bar.verbose) == (7, 3, 2)
    bar.set_params({"steps": None, "verbose": "auto"})
    assert (bar.steps, bar.epochs, bar.verbose) == (7, 3, 1)


@pytest.mark.parametrize("verbose", [3, -1, "yes", None])
def test_verbose_is_checked(verbose):
    with pytest.raises(ValueError, match=r"verbose must be 0, 1, 2"):
        ProgressBar(verbose=verbose)


def test_no_stdout(monkeypatch, clock):
    monkeypatch.setattr(sys, "stdout", None)
    for verbose in (1, 2):
        run_epochs(ProgressBar(5, 1, verbose), clock, epochs=1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (np.float32(0.5), "0.5"),
        (np.array(123456.0), "1.235e+05"),
        (math.nan, "nan"),
        (12345, "12345"),
        ("text", "text"),
        (np.array([1, 2]), "[1 2]"),
    ],
)
def test_four_digits(value, text):
    assert callbacks._format(value) == text
