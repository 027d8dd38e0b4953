"""Training: compile, fit, evaluate, predict.

One step is composed of ops alone: gather the batch, forward, loss, backward, optimizer. It is
composed once for each shape, recorded, and from then on repeated by the engine without Python: see
`Program` in csrc/engine. Whatever changes from step to step (the place in the data, the learning
rate, the sums of loss and metrics) is a buffer that the kernels read and write.

RANVIER_NO_REPLAY=1 composes every step anew, for debugging; the results have the same bits.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ranvier import _core, optimizers, seeds
from ranvier.callbacks import Callback, CallbackList, History, ProgressBar
from ranvier.config import precision
from ranvier.feed import Data, Lane, align_inputs, input_arrays
from ranvier.layers.base import Layer
from ranvier.layers.notes import activity_penalties, state_updates
from ranvier.layers.numpy_layer import NumpyLayer
from ranvier.objectives import Objectives, check_names, match
from ranvier.variables import house

if TYPE_CHECKING:
    from ranvier.graph import Graph
    from ranvier.variables import Variable

__all__ = ["Trainer"]


class Trainer:
    """What a Model can do beyond what a Layer can: train, evaluate, predict."""

    name: str
    graph: Callable[..., Graph]
    ensure_built: Callable[[Any], None]
    built: bool
    _built_shape: Any
    flatten_layers: Callable[[], Any]
    weights: list[Variable]
    stop_training = False
    optimizer: optimizers.Optimizer | None = None
    history: History | None = None

    def __init__(self, **kwargs: Any) -> None:
        self._objectives = Objectives([])  # of what compile asked for, when the outputs are known
        self._programs: dict[Any, Any] = {}
        self._callers: dict[tuple[Any, ...], Any] = {}  # by the shape of x and the precision
        self._pool = _core.Pool()
        self._lanes = {kind: Lane(kind != "train") for kind in ("train", "test", "predict")}
        self._lock = threading.RLock()  # programs of a model share memory: one runs at a time
        super().__init__(**kwargs)

    # --- compile --------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
    ) -> None:
        """Choose how to train.

        The layers' `trainable` flags are read now: to change what is trained, compile again.

        Args:
            optimizer: a name or an `optimizers.Optimizer`.
            loss: a name or a `losses.Loss`; for several outputs a list, or a dict by output name.
            metrics: names or `metrics.Metric`s; for several outputs a list of lists, or a dict.
                "accuracy" is binary, categorical or sparse by the shapes.
            loss_weights: for several outputs, a factor for each loss.

        Raises:
            ValueError: if a name is unknown.
        """
        chosen = optimizers.get(optimizer)
        check_names(loss, metrics)
        chosen.belong_to(self)
        self.optimizer = chosen
        self._compiled = (loss, metrics, loss_weights)
        self._forget_programs()
        self._flags = {id(layer): layer._trainable for layer in self.flatten_layers()}
        if self.built:
            self._prepare()

    def _prepare(self) -> None:
        """Match losses and metrics with the outputs, which must be known."""
        loss, wanted_metrics, weights = self._compiled
        graph = self.graph(True, self._built_shape)
        names = [t.node.layer.name if t.node is not None else str(t.name) for t in graph.outputs]
        self._objectives = match(names, loss, wanted_metrics, weights)
        self._trained = self._trainable_at_compile()
        # A step taken in the middle of backward cannot be undone if a layer's Python then raises.
        self._early = not any(isinstance(layer, NumpyLayer) for layer in self.flatten_layers())
        inner = list(self.flatten_layers())  # in a closure: as an attribute they would be sublayers
        self._activity_rules = lambda: [layer.activity_regularizer for layer in inner]
        self._trainable_flags = lambda: [layer._trainable for layer in inner]

    def _trainable_at_compile(self) -> list[Variable]:
        """The variables to train, by the flags as they were when compile was called."""

        def of(layer: Layer) -> list[Variable]:
            if not self._flags.get(id(layer), layer._trainable):
                return []
            found = [v for v in layer._variables if v.trainable]
            for inner in layer.layers:
                found += of(inner)
            return found

        return list({id(v): v for v in of(self)}.values())  # type: ignore[arg-type]

    def _check_compiled(self, what: str, training: bool) -> None:
        if self.optimizer is None:
            raise RuntimeError(f"[{what}] {self.name} is not compiled: call compile(...) first")
        if training and self._compiled[0] is None:
            raise ValueError(f"[{what}] {self.name} was compiled without a loss: give compile one")

    # --- data -----------------------------------------------------------------------------------

    def _inputs(self, what: str, x: Any) -> list[np.ndarray]:
        """The user's x as one array for each input, checked against the model's inputs."""
        inputs = self.graph(False, self._built_shape).inputs if self.built else None
        arrays = input_arrays(what, self.name, x, inputs)
        if inputs is None:
            shapes = [(None, *a.shape[1:]) for a in arrays]
            self.ensure_built(shapes[0] if len(shapes) == 1 else shapes)
            inputs = self.graph(False, self._built_shape).inputs
        return align_inputs(what, self.name, arrays, inputs)

    def _data(self, what: str, x: Any, y: Any) -> Data:
        xs = self._inputs(what, x)
        if not self._objectives.outputs:
            self._prepare()
        shapes = [t.shape for t in self.graph(True, self._built_shape).outputs]
        return Data(xs, self._objectives.targets(what, self.name, y, len(xs[0]), shapes))

    # --- one step -------------------------------------------------------------------------------

    def _steps(self, kind: str, rows: int, count: int) -> int:
        """Run up to `count` batches of `rows` rows; returns how many were run.

        The first is composed by Python and recorded; the others repeat it without Python, for about
        as long as a person would wait for Ctrl-C. A training step without Python in it is recorded
        alone, and all are repetitions.
        """
        lane = self._lanes[kind]
        assert lane.data is not None
        key = (kind, rows, lane.data.key, precision())
        if kind != "predict":
            key += self._training_key()
        if kind == "train":
            assert self.optimizer is not None
            count = self.optimizer.look_ahead(count)
        program = self._programs.get(key)
        if program is not None:
            return program.run(count, _SLICE)
        if not _REPLAY:
            self._step(kind, rows)
            return 1
        house(self.weights)  # recorded steps point to the variables: from now on they stay
        program = _core.Program(self._pool)
        program.begin()
        only = kind == "train" and self._early
        try:
            if only:  # run when all of it is known to work: nothing has changed if this raises
                _core.set_mode("record")
            self._step(kind, rows)
        finally:
            _core.set_mode("both")
            program.end()
        while len(self._programs) >= _PROGRAMS:
            del self._programs[next(iter(self._programs))]
            self._callers.clear()
        self._programs[key] = program
        return program.run(count, _SLICE) if only else 1

    def _training_key(self) -> tuple[Any, ...]:
        """What a recorded training or evaluation step has in it beside shapes."""
        rules = [v.regularizer for v in self._trained]
        rules += self._activity_rules()
        flags = self._trainable_flags()
        scheduled = self.optimizer is not None and self.optimizer.schedule is not None
        return (
            id(self.optimizer),
            scheduled,
            *flags,
            *(rule and (rule.l1, rule.l2) for rule in rules),
        )

    def _forget_programs(self) -> None:
        """The graph or what is trained has changed."""
        self._programs.clear()
        self._callers.clear()
        self._objectives = Objectives([])

    def _step(self, kind: str, rows: int) -> None:
        """One batch, composed of ops alone."""
        lane = self._lanes[kind]
        graph = self.graph(kind == "train", self._built_shape)
        if kind == "predict":
            for i, y in enumerate(graph.infer(self._batch(lane, rows, graph))):
                self._check_result(y, lane.results[i])
                _core.scatter_batch(y, lane.source("result", i), lane.feed)
            lane.advance(rows)
            return
        training = kind == "train"
        optimizer = self.optimizer
        assert optimizer is not None
        if training:
            optimizer.attach(early=self._early)
            state_updates.collect()
        noted = activity_penalties.collect()
        try:
            x = self._batch(lane, rows, graph)
            if training:
                y, backward = graph.forward(x, training=True)
                ys = [y] if graph.single_output else y
                del y
            else:
                ys = graph.infer(x)
            total, dys = self._objectives.losses(lane, rows, x, ys, training)
            del x, ys
            penalties = [penalty.value() for penalty in noted]
            penalties += [
                _core.weight_penalty(v, v.regularizer.l1, v.regularizer.l2)
                for v in self._trained
                if v.regularizer is not None
            ]
            for value in penalties:
                total = _core.add(total, _core.cast(value, total.dtype))
            self._objectives.loss.add(total, rows)
            if training:
                optimizer.take_step(lambda: backward(dys[0] if graph.single_output else dys))
                state_updates.take()
            lane.advance(rows)
        finally:
            activity_penalties.stop()
            state_updates.stop()
            if training:
                optimizer.detach()

    def _check_result(self, y: Any, result: np.ndarray) -> None:
        if y.shape[1:] != result.shape[1:] or y.dtype != result.dtype.name:
            raise ValueError(
                f"[{self.name}] the output is {y.dtype} with rows of shape {y.shape[1:]}, but the "
                f"graph says {result.dtype.name} with {result.shape[1:]}: a layer's "
                "compute_output_shape or dtype is wrong, or a model inside has changed since"
            )

    @staticmethod
    def _batch(lane: Lane, rows: int, graph: Graph) -> Any:
        xs = [lane.batch("x", i, rows, t.dtype) for i, t in enumerate(graph.inputs)]
        return xs[0] if graph.single_input else xs

    def _report_bad_loss(self, what: str, epoch: int | None = None, level: int = 4) -> None:
        """Warn if a loss was not finite; `level` frames up is the user's line."""
        bad = self._objectives.loss.first_bad
        if bad is not None:
            where = f"batch {bad + 1}" + ("" if epoch is None else f" of epoch {epoch + 1}")
            warnings.warn(
                f"[{what}] the loss is not finite from {where} on: look for bad values in the data "
                "(np.isfinite), or lower the learning rate",
                RuntimeWarning,
                stacklevel=level,
            )

    # --- fit ------------------------------------------------------------------------------------

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = 32,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        initial_epoch: int = 0,
    ) -> History:
        """Train.

        Args:
            x: (rows, ...), an array of numbers of any type; a list or dict for several inputs.
            y: the targets, of the output's shape, or labels; one trailing axis of 1 may be missing
                or too many, anything else is refused.
            batch_size: rows in a step; None is 32.
            epochs: the epoch to stop before, counted from 0.
            verbose: 0 silent, 1 a progress bar, 2 a line an epoch; "auto" is 1.
            callbacks: `callbacks.Callback`s.
            validation_split: the share of the rows, from the end, to validate with instead.
            validation_data: (x, y) to validate with after each epoch.
            shuffle: whether each epoch takes the rows in a new order (`utils.set_random_seed`).
            initial_epoch: where to begin counting epochs.

        Returns:
            The History, with `history["loss"]` and so on, a value for each epoch.

        Raises:
            RuntimeError: if the model is not compiled.
            ValueError: if shapes, labels or arguments do not fit; nothing is changed then.
        """
        self._check_compiled("fit", training=True)
        batch_size = 32 if batch_size is None else _positive("fit", "batch_size", batch_size)
        with self._lock:
            data, held_out = self._fit_data(x, y, validation_split, validation_data)
            assert self.optimizer is not None
            self.optimizer.build(self._trained)
            return self._fit(
                data,
                held_out,
                batch_size,
                range(initial_epoch, epochs),
                verbose,
                callbacks,
                shuffle,
            )

    def _fit(
        self,
        data: Data,
        held_out: Data | None,
        batch_size: int,
        epochs: range,
        verbose: int | str,
        callbacks: Any,
        shuffle: bool,
    ) -> History:
        generator = seeds.generator() if shuffle else None
        batches = data.batches(batch_size)
        steps = sum(count for _, count in batches)
        history = History()
        bar = ProgressBar(steps, epochs.stop, verbose)
        hooks = CallbackList(
            [_flat(callbacks), bar, history],
            model=self,
            params={"verbose": bar.verbose, "epochs": epochs.stop, "steps": steps},
        )
        self.stop_training = False
        self.history = history
        logs: dict[str, Any] = {}
        hooks.on_train_begin()
        try:
            for epoch in epochs:
                hooks.on_epoch_begin(epoch)
                if generator is not None:
                    data.order = generator.permutation(data.rows)
                self._lanes["train"].point(data)
                self._objectives.reset()
                self._run("train", batches, hooks, bar)
                logs = self._objectives.logs()
                self._report_bad_loss("fit", epoch)
                if held_out is not None:
                    values = self._evaluate(held_out, batch_size, hooks)
                    logs.update({f"val_{name}": value for name, value in values.items()})
                hooks.on_epoch_end(epoch, logs)
                if self.stop_training:
                    break
            hooks.on_train_end(logs)
        finally:
            bar.close()
            self._lanes["train"].release()
        return history

    def _fit_data(
        self, x: Any, y: Any, split: float, validation_data: Any
    ) -> tuple[Data, Data | None]:
        if not 0 <= split < 1:
            raise ValueError(f"[fit] validation_split must be from 0 to below 1; received {split}")
        data = self._data("fit", x, y)
        if validation_data is not None:
            if not (isinstance(validation_data, (list, tuple)) and len(validation_data) == 2):
                raise ValueError("[fit] validation_data must be a pair (x, y)")
            return data, self._data("fit, validation_data", *validation_data)
        if not split:
            return data, None
        kept = int(data.rows * (1 - split))
        if kept == 0 or kept == data.rows:
            raise ValueError(
                f"[fit] validation_split={split} leaves {kept} of {data.rows} rows to train on: "
                "both parts need at least one"
            )
        held_out = Data([a[kept:] for a in data.x], [a[kept:] for a in data.y])
        return Data([a[:kept] for a in data.x], [a[:kept] for a in data.y]), held_out

    def _run(
        self, kind: str, batches: list[tuple[int, int]], hooks: CallbackList, bar: ProgressBar
    ) -> None:
        """The batches of an epoch, singly where a callback looks in after each."""
        training = kind == "train"
        look_in = getattr(hooks, f"wants_{kind}_batches")
        begin = getattr(hooks, f"on_{kind}_batch_begin")
        end = getattr(hooks, f"on_{kind}_batch_end")
        logs = self._objectives.logs if kind != "predict" else dict
        done = 0
        for rows, count in batches:
            while count:
                if look_in:
                    begin(done)
                ran = self._steps(kind, rows, 1 if look_in else count)
                count -= ran
                done += ran
                if look_in:
                    end(done - 1, logs())
                if bar.live:
                    bar.on_progress(done, logs)
                if training and self.stop_training:
                    return

    # --- evaluate -------------------------------------------------------------------------------

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = 32,
        verbose: int | str = "auto",
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Loss and metrics on data, without training.

        Args:
            x, y, batch_size, verbose, callbacks: as in `fit`.
            return_dict: return names with the values.

        Returns:
            The loss, or [loss, metric, ...] if there are metrics, or a dict of them.
        """
        self._check_compiled("evaluate", training=True)
        batch_size = 32 if batch_size is None else _positive("evaluate", "batch_size", batch_size)
        with self._lock:
            data = self._data("evaluate", x, y)
            steps = sum(count for _, count in data.batches(batch_size))
            bar = ProgressBar(steps, 1, verbose, label="evaluate")
            hooks = CallbackList([_flat(callbacks), bar], model=self)
            try:
                logs = self._evaluate(data, batch_size, hooks, bar)
            finally:
                bar.close()
            self._report_bad_loss("evaluate", level=3)
        return _values(logs, return_dict)

    def _evaluate(
        self, data: Data, batch_size: int, hooks: CallbackList, bar: ProgressBar | None = None
    ) -> dict[str, float]:
        self._lanes["test"].point(data)
        self._objectives.reset()
        hooks.on_test_begin()
        self._run("test", data.batches(batch_size), hooks, bar or ProgressBar(verbose=0))
        self._lanes["test"].release()
        logs = self._objectives.logs()
        hooks.on_test_end(logs)
        return logs

    # --- predict --------------------------------------------------------------------------------

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = 0,
        callbacks: Any = None,
    ) -> Any:
        """The outputs for data.

        Args:
            x: as in `fit`.
            batch_size: rows in a step, which decide about memory and not about the result; None
                takes as many as make some megabytes.
            verbose: 1 for a progress bar.
            callbacks: `callbacks.Callback`s.

        Returns:
            An array (rows, ...), or a list of them for several outputs.
        """
        if batch_size is not None:
            batch_size = _positive("predict", "batch_size", batch_size)
        with self._lock:
            data = Data(self._inputs("predict", x), [])
            batch_size = batch_size or data.rows_in(_PREDICT_BYTES)
            graph = self.graph(False, self._built_shape)
            results = self._results(data, graph)
            batches = data.batches(batch_size)
            self._lanes["predict"].point(data, results)
            if not (verbose or callbacks):
                for rows, count in batches:
                    while count:
                        count -= self._steps("predict", rows, count)
            else:
                steps = sum(count for _, count in batches)
                bar = ProgressBar(steps, 1, verbose, label="predict")
                hooks = CallbackList([_flat(callbacks), bar], model=self)
                try:
                    hooks.on_predict_begin()
                    self._run("predict", batches, hooks, bar)
                    hooks.on_predict_end()
                finally:
                    bar.close()
            self._lanes["predict"].release()
        return results[0] if graph.single_output else results

    def _results(self, data: Data, graph: Graph) -> list[np.ndarray]:
        """Where the outputs for data go."""
        shapes: list[Any] = [t.shape for t in graph.outputs]
        if any(d is None for shape in shapes for d in shape[1:]):
            # Shapes that only the data tell: ask one row.
            pairs = zip(data.x, graph.inputs, strict=True)
            xs = [_core.Buffer.from_array(a[:1], t.dtype) for a, t in pairs]
            shapes = [b.shape for b in graph.infer(xs[0] if graph.single_input else xs)]
        return [
            np.empty((data.rows, *shape[1:]), t.dtype)
            for shape, t in zip(shapes, graph.outputs, strict=True)
        ]

    # --- single batches -------------------------------------------------------------------------

    def train_on_batch(self, x: Any, y: Any = None, return_dict: bool = False) -> Any:
        """One training step on one batch.

        Returns:
            This batch's loss, or [loss, metric, ...], computed before the step; or a dict of them.
        """
        self._check_compiled("train_on_batch", training=True)
        return self._on_batch("train_on_batch", x, y, True, return_dict)

    def test_on_batch(self, x: Any, y: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics of one batch."""
        self._check_compiled("test_on_batch", training=True)
        return self._on_batch("test_on_batch", x, y, False, return_dict)

    def _on_batch(self, what: str, x: Any, y: Any, training: bool, return_dict: bool) -> Any:
        with self._lock:
            data = self._data(what, x, y)
            assert self.optimizer is not None
            if training:
                self.optimizer.build(self._trained)
            kind = "train" if training else "test"
            self._lanes[kind].point(data)
            self._objectives.reset()
            self._steps(kind, data.rows, 1)
            self._lanes[kind].release()
            self._report_bad_loss(what)
            return _values(self._objectives.logs(), return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch."""
        return self.predict(x, batch_size=len(self._inputs("predict_on_batch", x)[0]))

    def _recall(self, x: np.ndarray) -> np.ndarray | None:
        """The outputs for an array like one that the model was called on before."""
        caller = self._callers.get((x.shape, precision()))
        if caller is None:
            return None
        with self._lock:
            return caller(x)

    def _call_arrays(self, inputs: Any, training: bool) -> Any:
        """The model on arrays, all rows at once."""
        arrays = self._inputs(self.name, inputs)
        graph = self.graph(False, self._built_shape)
        given = arrays[0] if graph.single_input else arrays
        if training:
            return super()._call_arrays(given, training)  # type: ignore[misc]
        y = self.predict(given, batch_size=len(arrays[0]))
        if _REPLAY and type(inputs) is np.ndarray and graph.single_input and graph.single_output:
            # From now on without the checks, for arrays like this one.
            lane = self._lanes["predict"]
            data = Data(arrays, [])
            program = self._programs[("predict", data.rows, data.key, precision())]
            places = lane.source("x", 0), lane.feed, lane.source("result", 0)
            x = data.x[0]
            if x.shape == inputs.shape:
                self._callers[x.shape, precision()] = _core.Caller(
                    program, *places, x.dtype, x.shape, y.dtype, y.shape
                )
        return y


_SLICE = 0.05  # seconds that recorded steps run before Python looks in
_PREDICT_BYTES = 4 << 20  # of x in a step of predict
_PROGRAMS = 64  # recorded steps that a model keeps; the oldest go first
_REPLAY = os.environ.get("RANVIER_NO_REPLAY", "0") in ("", "0")


def _values(logs: dict[str, float], as_dict: bool) -> Any:
    values = list(logs.values())
    return logs if as_dict else values[0] if len(values) == 1 else values


def _flat(callbacks: Any) -> list[Callback]:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]


def _positive(what: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"[{what}] {name} must be a positive integer; received {value!r}")
    return int(value)
