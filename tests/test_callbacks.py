"""Callbacks: which hooks run, what History keeps and draws, what the progress bar prints."""

from __future__ import annotations

import io
import math
import subprocess
import sys

import numpy as np
import pytest

from ranvier import callbacks
from ranvier.callbacks import Callback, CallbackList, History, LambdaCallback, ProgressBar

LOGS_HOOKS = [
    "on_train_begin",
    "on_train_end",
    "on_test_begin",
    "on_test_end",
    "on_predict_begin",
    "on_predict_end",
]
NUMBER_HOOKS = [
    "on_epoch_begin",
    "on_epoch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_batch_begin",
    "on_test_batch_end",
    "on_predict_batch_begin",
    "on_predict_batch_end",
]


def call_all(target, logs):
    for hook in LOGS_HOOKS:
        getattr(target, hook)(logs)
    for number, hook in enumerate(NUMBER_HOOKS):
        getattr(target, hook)(number, logs)


def recorder(calls, name):
    """A callback that overrides every hook and notes each call."""

    def note(hook):
        return lambda self, *args: calls.append((name, hook, *args))

    return type("Recorder", (Callback,), {h: note(h) for h in LOGS_HOOKS + NUMBER_HOOKS})()


# Callback, CallbackList


def test_base_hooks_do_nothing():
    callback = Callback()
    call_all(callback, {})
    call_all(callback, None)
    assert callback.model is None and callback.params == {}


def test_list_calls_every_hook_in_order():
    calls = []
    both = CallbackList([recorder(calls, "a"), recorder(calls, "b")])
    logs = {"loss": 1.0}
    call_all(both, logs)
    expected = [(name, hook, logs) for hook in LOGS_HOOKS for name in "ab"]
    expected += [(name, h, i, logs) for i, h in enumerate(NUMBER_HOOKS) for name in "ab"]
    assert calls == expected
    assert all(call[-1] is logs for call in calls)


def test_list_gives_all_the_same_dict_when_there_are_no_logs():
    def add(epoch, logs):
        logs["extra"] = epoch

    history = History()
    CallbackList([LambdaCallback(on_epoch_end=add), history]).on_epoch_end(4)
    assert history.history == {"extra": [4]}


def test_list_passes_model_and_params():
    model, params = object(), {"epochs": 3}
    one, two = Callback(), Callback()
    CallbackList([one, two], model, params)
    for callback in (one, two):
        assert callback.model is model and callback.params == params
    late = CallbackList(one)
    other = object()
    late.set_model(other)
    late.set_params({"epochs": 4})
    assert one.model is other and one.params == {"epochs": 4}


def test_list_takes_nested_lists():
    a, b, c, d = (Callback() for _ in range(4))
    assert list(CallbackList([a, (b, [c]), CallbackList(d)])) == [a, b, c, d]
    assert list(CallbackList(None)) == [] and len(CallbackList(a)) == 1
    grown = CallbackList([a])
    grown.append(b)
    assert list(grown) == [a, b]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([3], "received 3"),
        (History, r"write History\(\)"),
        ([lambda e, l: 0], "received <function"),
    ],
)
def test_list_refuses(wrong, message):
    with pytest.raises(TypeError, match=rf"\[callbacks\].*{message}"):
        CallbackList(wrong)


def test_list_wants_batches_only_where_overridden():
    def wants(*members):
        made = CallbackList(list(members))
        return made.wants_train_batches, made.wants_test_batches, made.wants_predict_batches

    def overriding(hook):
        return type("Own", (Callback,), {hook: lambda self, batch, logs=None: None})()

    def nothing(*args):
        pass

    assert wants() == (False, False, False)
    assert wants(Callback(), History(), ProgressBar()) == (False, False, False)
    assert wants(recorder([], "a")) == (True, True, True)
    for when in ("begin", "end"):
        assert wants(History(), overriding(f"on_train_batch_{when}")) == (True, False, False)
        assert wants(overriding(f"on_batch_{when}")) == (True, False, False)
        assert wants(overriding(f"on_test_batch_{when}")) == (False, True, False)
        assert wants(overriding(f"on_predict_batch_{when}")) == (False, False, True)
        given = {f"on_predict_batch_{when}": nothing}
        assert wants(LambdaCallback(**given)) == (False, False, True)
        assert wants(LambdaCallback(**{f"on_train_batch_{when}": nothing}))[0]
    assert wants(LambdaCallback(on_epoch_end=nothing, on_test_end=nothing)) == (False, False, False)
    assert wants(LambdaCallback(on_train_batch_end=None)) == (False, False, False)
    inherited = type("Child", (type(overriding("on_train_batch_end")),), {})()
    assert wants(inherited) == (True, False, False)


def test_older_batch_hooks_are_called():
    calls = []

    class Old(Callback):
        def on_batch_begin(self, batch, logs=None):
            calls.append(("begin", batch))

        def on_batch_end(self, batch, logs=None):
            calls.append(("end", batch, logs))

    both = CallbackList([Old()])
    both.on_train_batch_begin(2)
    both.on_train_batch_end(2, {"loss": 1.0})
    assert calls == [("begin", 2), ("end", 2, {"loss": 1.0})]


# LambdaCallback


def test_lambda_calls_every_hook():
    calls = []

    def note(hook):
        return lambda *args: calls.append((hook, *args))

    callback = LambdaCallback(**{hook: note(hook) for hook in LOGS_HOOKS + NUMBER_HOOKS})
    call_all(callback, {"loss": 2.0})
    expected = [(hook, {"loss": 2.0}) for hook in LOGS_HOOKS]
    expected += [(hook, i, {"loss": 2.0}) for i, hook in enumerate(NUMBER_HOOKS)]
    assert calls == expected


def test_lambda_takes_keras_positions():
    calls = []
    LambdaCallback(None, lambda epoch, logs: calls.append(epoch)).on_epoch_end(5, {})
    assert calls == [5]


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        ({"on_epoch_stop": print}, "'on_epoch_stop' is no hook"),
        ({"set_model": print}, "'set_model' is no hook"),
        ({"on_epoch_end": 3}, "on_epoch_end must be a function; got 3"),
    ],
)
def test_lambda_refuses(hooks, message):
    with pytest.raises(TypeError, match=message):
        LambdaCallback(**hooks)


# History


class Model:
    history = None


def recorded(rows, numbers=None):
    history = History()
    for epoch, logs in zip(numbers or range(len(rows)), rows, strict=True):
        history.on_epoch_end(epoch, logs)
    return history


ROWS = [
    {"accuracy": 0.5, "loss": 1.0, "val_accuracy": 0.4, "val_loss": 1.1},
    {"accuracy": 0.7, "loss": 0.5},
    {"accuracy": 0.8, "loss": 0.25, "val_accuracy": 0.6, "val_loss": 0.9},
]


def curves(axes):
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.get_lines()
    }


def test_history_records():
    history = recorded(ROWS)
    assert history.epoch == [0, 1, 2]
    assert history.history == {
        "accuracy": [0.5, 0.7, 0.8],
        "loss": [1.0, 0.5, 0.25],
        "val_accuracy": [0.4, 0.6],
        "val_loss": [1.1, 0.9],
    }


def test_history_is_the_models_and_goes_on():
    history, model = History(), Model()
    history.set_model(model)
    for _ in range(2):
        history.on_train_begin()
        history.on_epoch_end(0, {"loss": 2.0})
        history.on_train_end()
    assert model.history is history
    assert history.epoch == [0, 0] and history.history == {"loss": [2.0, 2.0]}
    assert curves(history.plot().axes[0])["training"][0] == [1, 2]


def test_plot_draws_the_values():
    figure = recorded(ROWS).plot()
    loss, accuracy = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"epoch"}
    # Validation ran in the first and third epoch only.
    assert curves(loss) == {
        "training": ([1, 2, 3], [1.0, 0.5, 0.25]),
        "validation": ([1, 3], [1.1, 0.9]),
    }
    assert curves(accuracy)["validation"] == ([1, 3], [0.4, 0.6])
    legend = [text.get_text() for text in loss.get_legend().get_texts()]
    assert legend == ["training", "validation"]


def test_plot_counts_from_the_initial_epoch():
    figure = recorded(ROWS, numbers=[5, 6, 7]).plot(metrics="loss")
    assert curves(figure.axes[0])["validation"][0] == [6, 8]


def test_plot_after_history_was_filled_by_hand():
    history = History()
    history.history = {"loss": [3.0, 2.0], "val_loss": [4.0]}
    assert curves(history.plot().axes[0]) == {
        "training": ([1, 2], [3.0, 2.0]),
        "validation": ([1], [4.0]),
    }


@pytest.mark.parametrize("epochs", [1, 2, 7, 250])
def test_plot_has_whole_epoch_ticks(epochs):
    figure = recorded([{"loss": 1.0}] * epochs).plot()
    ticks = figure.axes[0].get_xticks()
    assert len(ticks) > 0
    assert all(tick == int(tick) for tick in ticks)
    assert figure.axes[0].get_legend() is None  # one curve explains itself


def test_plot_chooses_metrics():
    history = recorded([{"loss": 1.0, "mae": 2.0, "auc": 3.0, "val_only": 4.0}])
    panels = [axes.get_ylabel() for axes in history.plot().axes]
    assert panels == ["loss", "mae", "auc", "only"]
    assert [a.get_ylabel() for a in history.plot(metrics=["auc", "loss"]).axes] == ["auc", "loss"]
    assert [a.get_ylabel() for a in history.plot(metrics="mae").axes] == ["mae"]


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")]
)
def test_plot_saves_without_pyplot(tmp_path, name, start):
    before = "matplotlib.pyplot" in sys.modules
    recorded(ROWS).plot(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_plot_refuses():
    with pytest.raises(ValueError, match="call fit first"):
        History().plot()
    with pytest.raises(ValueError, match=r"among \['loss', 'accuracy'\]; received \['acc'\]"):
        recorded(ROWS).plot(metrics=["loss", "acc"])
    with pytest.raises(ValueError, match=r"received \[\]"):
        recorded(ROWS).plot(metrics=[])


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "ranvier\[plot\]"'):
        recorded(ROWS).plot()


# ProgressBar


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


def test_importing_loads_nothing_optional():
    code = (
        "import sys, ranvier.callbacks\n"
        "print([name for name in ('tqdm', 'matplotlib') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout == "[]\n"
