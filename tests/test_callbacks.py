"""Callbacks: which hooks run, and what History keeps and draws."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


def test_importing_loads_nothing_optional():
    code = (
        "import sys, ranvier.callbacks\n"
        "print([name for name in ('tqdm', 'matplotlib') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout == "[]\n"
