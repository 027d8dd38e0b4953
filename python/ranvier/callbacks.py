"""Callbacks: what runs between the epochs and batches of fit, evaluate and predict.

Training runs many steps at a time without Python. It looks in after every batch only where a
callback asks for it, that is, where one overrides a batch hook: see `CallbackList`.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np

__all__ = ["Callback", "CallbackList", "History", "LambdaCallback", "ProgressBar"]

Logs = dict[str, Any]


class Callback:
    """Base class: override the hooks you need.

    `logs` maps names such as "loss", "accuracy" and "val_loss" to their values. All callbacks of a
    list receive the same dict, so that one may add to it what a later one records.

    Attributes:
        model: the model that is running, once `set_model` was called.
        params: {"verbose", "epochs", "steps"} of the run.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Called with the model before anything else."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Called with the run's parameters before it begins."""
        self.params = dict(params)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called when fit begins."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called when fit ends, with the last epoch's logs."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before an epoch; epoch counts from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after an epoch and its validation, whose logs begin with "val_"."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a training step; batch counts from 0 in each epoch."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a training step with the epoch's running means."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Older name of `on_train_batch_end`."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Called when evaluate, or the validation inside fit, begins."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Called when evaluate, or the validation inside fit, ends."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch is evaluated."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch was evaluated."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Called when predict begins."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Called when predict ends."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch is predicted."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch was predicted."""


_TRAIN_BATCH_HOOKS = (
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_batch_begin",
    "on_batch_end",
)
_TEST_BATCH_HOOKS = ("on_test_batch_begin", "on_test_batch_end")
_PREDICT_BATCH_HOOKS = ("on_predict_batch_begin", "on_predict_batch_end")
_HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class LambdaCallback(Callback):
    """A callback put together from functions.

    Args:
        on_epoch_begin, on_epoch_end: functions (epoch, logs).
        on_train_begin, on_train_end: functions (logs).
        on_train_batch_begin, on_train_batch_end: functions (batch, logs).
        hooks: any other hook of `Callback` by its name.

    Raises:
        TypeError: if a name is no hook of `Callback`, or a value is not a function.
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **hooks: Callable[..., Any] | None,
    ) -> None:
        super().__init__()
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **hooks,
        }
        for name, function in given.items():
            if name not in _HOOKS:
                raise TypeError(f"[LambdaCallback] {name!r} is no hook; known are {_HOOKS}")
            if function is None:
                continue
            if not callable(function):
                raise TypeError(f"[LambdaCallback] {name} must be a function; got {function!r}")
            # An attribute of the instance, which is how CallbackList sees that it was given.
            setattr(self, name, function)


class History(Callback):
    """The logs of every epoch; `fit` returns one, and it is the model's `history` too.

    An instance given to several runs goes on where it stopped.

    Attributes:
        epoch: the numbers of the epochs, from 0.
        history: for each name the list of its values, one for each epoch that reported it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}
        # For each name, which entries of `epoch` its values belong to: validation may be rarer.
        self._entries: dict[str, list[int]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Append the logs of an epoch."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
            self._entries.setdefault(name, []).append(len(self.epoch) - 1)
        if self.model is not None:
            self.model.history = self

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        metrics: str | Sequence[str] | None = None,
    ) -> Any:
        """Draw loss and metrics over the epochs, each beside its validation curve.

        No display is needed and pyplot's state is left alone.

        Args:
            path: where to save the picture; its ending chooses the format (.png, .svg, .pdf).
            metrics: names without "val_", one panel each; None draws all.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ImportError: if matplotlib is missing.
            ValueError: if nothing has been recorded, or a name is unknown.
        """
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
            from matplotlib.ticker import MaxNLocator
        except ImportError as error:
            raise ImportError(
                '[History.plot] needs matplotlib: pip install "ranvier[plot]"'
            ) from error
        names = self._panels(metrics)
        columns = min(3, len(names))
        rows = math.ceil(len(names) / columns)
        figure = Figure(figsize=(4.8 * columns, 3.4 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        for place, name in enumerate(names, start=1):
            axes = figure.add_subplot(rows, columns, place)
            for key, label, colour, line in (
                (name, "training", "#1f5fa8", "-"),
                (f"val_{name}", "validation", "#d9731a", "--"),
            ):
                if key in self.history:
                    x, y = self._curve(key)
                    marker = "o" if len(x) <= 20 else None
                    axes.plot(x, y, line, color=colour, label=label, marker=marker, markersize=4)
            axes.set_xlabel("epoch")
            axes.set_ylabel(name.replace("_", " "))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.grid(alpha=0.25, linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
            if f"val_{name}" in self.history:
                axes.legend(frameon=False)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def _panels(self, metrics: str | Sequence[str] | None) -> list[str]:
        """The names to draw, "loss" first."""
        recorded = list(dict.fromkeys(key.removeprefix("val_") for key in self.history))
        recorded.sort(key=lambda name: name != "loss")
        if not recorded:
            raise ValueError("[History.plot] nothing is recorded yet: call fit first")
        if metrics is None:
            return recorded
        names = [metrics] if isinstance(metrics, str) else list(metrics)
        unknown = [name for name in names if name not in recorded]
        if unknown or not names:
            raise ValueError(
                f"[History.plot] metrics must be among {recorded}; received {unknown or names}"
            )
        return names

    def _curve(self, key: str) -> tuple[list[int], list[Any]]:
        """Epochs, counted from 1, and values of one name."""
        values = self.history[key]
        entries = self._entries.get(key, [])
        if len(entries) != len(values):  # the user filled `history` by hand
            return list(range(1, len(values) + 1)), values
        if all(a < b for a, b in zip(self.epoch, self.epoch[1:], strict=False)):
            return [self.epoch[entry] + 1 for entry in entries], values
        # Several runs, each counting from 0: number their epochs through.
        return [entry + 1 for entry in entries], values


class CallbackList(Callback):
    """Calls each hook of several callbacks, in their order.

    Args:
        callbacks: None, one callback, or any nesting of lists of them.
        model: given to each callback's `set_model`, if not None.
        params: given to each callback's `set_params`, if not None.

    Raises:
        TypeError: if something else than a `Callback` is among them.
    """

    def __init__(
        self,
        callbacks: Callback | Sequence[Any] | None = None,
        model: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.callbacks: list[Callback] = list(_flatten(callbacks))
        if model is not None:
            self.set_model(model)
        if params is not None:
            self.set_params(params)

    def __iter__(self) -> Iterator[Callback]:
        return iter(self.callbacks)

    def __len__(self) -> int:
        return len(self.callbacks)

    def append(self, callback: Callback) -> None:
        """Add a callback, to be called after the others."""
        self.callbacks.extend(_flatten(callback))

    @property
    def wants_train_batches(self) -> bool:
        """Whether a callback overrides a hook for training batches."""
        return self._wants(_TRAIN_BATCH_HOOKS)

    @property
    def wants_test_batches(self) -> bool:
        """Whether a callback overrides a hook for evaluated batches."""
        return self._wants(_TEST_BATCH_HOOKS)

    @property
    def wants_predict_batches(self) -> bool:
        """Whether a callback overrides a hook for predicted batches."""
        return self._wants(_PREDICT_BATCH_HOOKS)

    def _wants(self, hooks: tuple[str, ...]) -> bool:
        return any(
            hook in vars(callback) or getattr(type(callback), hook) is not getattr(Callback, hook)
            for callback in self.callbacks
            for hook in hooks
        )

    def _call(self, hook: str, *args: Any, logs: Logs | None) -> None:
        logs = {} if logs is None else logs
        for callback in self.callbacks:
            getattr(callback, hook)(*args, logs)

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: Mapping[str, Any]) -> None:
        super().set_params(params)
        for callback in self.callbacks:
            callback.set_params(params)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._call("on_train_begin", logs=logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._call("on_train_end", logs=logs)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._call("on_epoch_begin", epoch, logs=logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._call("on_epoch_end", epoch, logs=logs)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_train_batch_begin", batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_train_batch_end", batch, logs=logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        self._call("on_test_begin", logs=logs)

    def on_test_end(self, logs: Logs | None = None) -> None:
        self._call("on_test_end", logs=logs)

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_test_batch_begin", batch, logs=logs)

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_test_batch_end", batch, logs=logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        self._call("on_predict_begin", logs=logs)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        self._call("on_predict_end", logs=logs)

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_predict_batch_begin", batch, logs=logs)

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_predict_batch_end", batch, logs=logs)


class ProgressBar(Callback):
    """Shows on stdout how far a run is; fit, evaluate and predict make one.

    It overrides no batch hook, so it never forces single steps: whoever runs the steps calls
    `on_progress` now and then.

    verbose=1 is a tqdm bar where tqdm is installed; else a line that is rewritten in place on a
    terminal, and one line at the end elsewhere. verbose=2 is one line at the end, 0 is silence.

    Args:
        steps: batches in an epoch, or None if unknown; may be set later.
        epochs: number of epochs.
        verbose: 0, 1, 2 or "auto", which is 1.
        label: None in fit, where the epochs name the bar; "evaluate" or "predict" there.

    Raises:
        ValueError: for any other verbose.
    """

    INTERVAL = 0.1  # seconds between two drawings, at least

    def __init__(
        self,
        steps: int | None = None,
        epochs: int = 1,
        verbose: int | str = 1,
        *,
        label: str | None = None,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.epochs = epochs
        self.verbose = _verbosity(verbose)
        self.label = label
        self._title = ""
        self._began = 0.0
        self._step = 0
        self._next_draw = math.inf  # infinity: nothing to draw before the end
        self._bar: Any = None  # tqdm's
        self._width = 0  # of the unfinished plain line on the terminal

    @property
    def live(self) -> bool:
        """Whether `on_progress` has any effect now; if not, the loop need not look in at all."""
        return self._next_draw < math.inf

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Take steps, epochs and verbose from the run's parameters, where they are given."""
        super().set_params(params)
        if params.get("steps") is not None:
            self.steps = params["steps"]
        if params.get("epochs") is not None:
            self.epochs = params["epochs"]
        if params.get("verbose") is not None:
            self.verbose = _verbosity(params["verbose"])

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        if self.label is None:
            self._start(f"Epoch {epoch + 1}/{self.epochs}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.label is None:
            self._finish(logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.close()

    # Without a label these belong to the validation inside fit, which has no bar of its own.
    def on_test_begin(self, logs: Logs | None = None) -> None:
        if self.label is not None:
            self._start(self.label)

    def on_test_end(self, logs: Logs | None = None) -> None:
        if self.label is not None:
            self._finish(logs)

    on_predict_begin = on_test_begin
    on_predict_end = on_test_end

    def on_progress(self, step: int, logs: Logs | Callable[[], Logs] | None = None) -> None:
        """Show that `step` batches of the epoch are done; cheap enough to call after each.

        Args:
            step: batches done since the epoch began.
            logs: names and values to show, or a function that gives them when they are needed.
        """
        self._step = step
        now = perf_counter()
        if now >= self._next_draw:
            self._next_draw = now + self.INTERVAL
            self._draw(logs() if callable(logs) else logs)

    def close(self) -> None:
        """Leave the bar as it stands and end its line; for a run that was broken off."""
        self._next_draw = math.inf
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        elif self._width:
            self._width = 0
            _write("\n")

    def _start(self, title: str) -> None:
        self.close()
        self._title = title
        self._began = perf_counter()
        self._step = 0
        if self.verbose != 1 or sys.stdout is None:
            return
        self._bar = _tqdm_bar(title, self.steps)
        if self._bar is not None or sys.stdout.isatty():
            self._next_draw = self._began + self.INTERVAL

    def _draw(self, logs: Logs | None) -> None:
        if self._bar is not None:
            self._set_bar(logs)
            self._bar.refresh()
            return
        done = f"{self._step} steps"
        if self.steps:
            done = f"{100 * self._step // self.steps:3d}% {self._step}/{self.steps}"
        text = " - ".join([f"{self._title}: {done}", self._elapsed(), *_describe(logs)])
        text = text[: shutil.get_terminal_size().columns - 1]  # a wrapped line cannot be rewritten
        _write("\r" + text.ljust(self._width))
        self._width = len(text)

    def _finish(self, logs: Logs | None) -> None:
        if self._bar is not None:
            # All steps are done, also if the loop did not look in after the last of them.
            self._step = self._bar.total = self.steps or self._step
            self._set_bar(logs)  # close draws it
            self._bar.ncols = None  # the last line may wrap: no value is cut off
        elif self.verbose:
            text = " - ".join([self._title, self._elapsed(), *_describe(logs)])
            _write(("\r" if self._width else "") + text.ljust(self._width) + "\n")
            self._width = 0
        self.close()

    def _set_bar(self, logs: Logs | None) -> None:
        self._bar.n = self._step
        self._bar.set_postfix_str(", ".join(_describe(logs)), refresh=False)

    def _elapsed(self) -> str:
        seconds = perf_counter() - self._began
        return f"{seconds:.1f}s" if seconds >= 1 else f"{1000 * seconds:.0f}ms"


def _flatten(callbacks: Any) -> Iterator[Callback]:
    if callbacks is None:
        return
    if isinstance(callbacks, (list, tuple, CallbackList)):
        for callback in callbacks:
            yield from _flatten(callback)
    elif isinstance(callbacks, Callback):
        yield callbacks
    else:
        hint = ""
        if isinstance(callbacks, type) and issubclass(callbacks, Callback):
            hint = f": write {callbacks.__name__}() with brackets"
        raise TypeError(f"[callbacks] expected Callback objects; received {callbacks!r}{hint}")


def _verbosity(verbose: int | str) -> int:
    if verbose == "auto":
        return 1
    if verbose not in (0, 1, 2):
        raise ValueError(f'[ProgressBar] verbose must be 0, 1, 2 or "auto"; received {verbose!r}')
    return int(verbose)


def _tqdm_bar(title: str, total: int | None) -> Any:
    """A tqdm bar on stdout, or None where tqdm is not installed."""
    try:
        if "ipykernel" in sys.modules:
            from tqdm.auto import tqdm
        else:
            from tqdm import tqdm
    except ImportError:
        return None
    # tqdm's monitor is a thread that wakes sleeping bars; we draw ours, so do without the thread.
    bar = type("Bar", (tqdm,), {"monitor_interval": 0})
    look: dict[str, Any] = {}
    if sys.stdout.isatty():
        # Where a terminal says that it has 0 rows (some containers), tqdm would show nothing.
        columns, rows = shutil.get_terminal_size()
        look = {"ncols": columns - 1, "nrows": rows}
        if total is not None:
            look["bar_format"] = "{l_bar}{bar:10}{r_bar}"
    return bar(total=total, desc=title, unit=" steps", file=sys.stdout, **look)


def _describe(logs: Logs | None) -> list[str]:
    """The logs as "name: value", numbers with four significant digits."""
    return [f"{name}: {_format(value)}" for name, value in (logs or {}).items()]


def _format(value: Any) -> str:
    number = np.asarray(value)
    if number.ndim == 0 and number.dtype.kind == "f":
        return f"{float(number):.4g}"
    return str(value)


def _write(text: str) -> None:
    if sys.stdout is not None:
        sys.stdout.write(text)
        sys.stdout.flush()
