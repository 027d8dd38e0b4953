"""The engine: recorded steps repeat what Python composed, bit for bit."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref

import numpy as np
import pytest

import ranvier as rv
from ranvier import _core, layers, training


def classifier(dropout: float = 0.2, width: int = 96) -> rv.Model:
    rv.utils.set_random_seed(5)
    model = rv.Sequential(
        [
            layers.Input((40,)),
            layers.Dense(width, activation="relu", kernel_regularizer="l2"),
            layers.Dropout(dropout),
            layers.Dense(width, activation="gelu", activity_regularizer="l1"),
            layers.Dense(7, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy", "mse"][:1])
    return model


def data(rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    return generator.standard_normal((rows, 40)).astype("float32"), generator.integers(0, 7, rows)


def trained(epochs: int = 13) -> tuple[list[np.ndarray], dict, np.ndarray]:
    """Weights, history and predictions after about 200 steps with a ragged last batch."""
    model = classifier()
    x, y = data()
    history = model.fit(x, y, batch_size=32, epochs=epochs, verbose=0, validation_split=0.1)
    return model.get_weights(), history.history, model.predict(x)


def assert_same(a, b) -> None:
    for p, q in zip(a[0], b[0], strict=True):
        np.testing.assert_array_equal(p, q)
    assert a[1] == b[1]
    np.testing.assert_array_equal(a[2], b[2])


def test_replay_has_the_bits_of_eager(monkeypatch):
    replayed = trained()
    monkeypatch.setattr(training, "_REPLAY", False)
    assert_same(replayed, trained())


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_bits_do_not_depend_on_threads(count, threads):
    threads(1)
    expected = trained(4)
    threads(count)
    assert_same(expected, trained(4))


@pytest.fixture
def everything_shared():
    """Programs share every call that has more than one chunk, however short."""
    before = _core.share_above(0)
    yield
    _core.share_above(before)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_bits_where_every_call_is_shared(count, threads, everything_shared):
    """Each barrier that the plan leaves out is one that could be missed."""
    threads(1)
    expected = trained(4)
    threads(count)
    for _ in range(3):
        assert_same(expected, trained(4))


@pytest.fixture
def everything_cut():
    """Every shared call is taken in pieces, and who is done takes from the others."""
    before = _core.cut_above(0)
    yield
    _core.cut_above(before)


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("shared", [False, True])
def test_bits_where_every_call_is_cut(count, shared, threads, everything_cut, request):
    if shared:
        request.getfixturevalue("everything_shared")
    threads(1)
    expected = trained(4)
    threads(count)
    assert_same(expected, trained(4))


def step_plan(model):
    program = next(p for key, p in model._programs.items() if key[0] == "train")
    return program.plan


def test_threads_meet_only_where_calls_conflict(threads, everything_shared):
    threads(2)
    model = classifier()
    x, y = data()
    model.fit(x, y, batch_size=100, epochs=60, verbose=0)
    plan = step_plan(model)
    shared = [barrier for *_, owner, barrier in plan if owner == -1]
    assert len(shared) > 10
    assert any(shared) and not all(shared[1:])
    assert {0, 1} <= {owner for *_, owner, _ in plan}  # small calls side by side
    assert all(cost > 0 for cost, *_ in plan)


def test_threads_share_calls_with_the_same_bits(threads):
    """A net large enough for every call to be shared, run alone and together in turn."""

    def run() -> list[np.ndarray]:
        model = classifier(width=512)
        x, y = data(2048)
        model.fit(x, y, batch_size=256, epochs=20, verbose=0)
        return model.get_weights()

    threads(1)
    alone = run()
    threads(3)
    for a, b in zip(alone, run(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_ends_for_all_threads_at_the_same_step():
    """Of calls that do not conflict: a thread may be a whole step behind when the run ends."""
    code = """
        import numpy as np, ranvier as rv
        from ranvier import _core, ops
        _core.share_above(0)
        rv.set_num_threads(6)
        x = _core.Buffer.from_array(np.arange(-20000, 20000, dtype=np.float32))
        for _ in range(50):
            program = _core.Program(_core.Pool())
            program.begin()
            y = ops.activation(x, "relu")
            program.end()
            for steps in 12 * [3, 20]:
                assert program.run(steps, 60.0) == steps
        assert program.plan[0][2] == -1  # shared
        np.testing.assert_array_equal(y.numpy(), np.maximum(x.numpy(), 0))
    """
    # A second alone; a minute where others have the processors.
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=600)


@pytest.mark.parametrize("isa", _core.supported_isas())
def test_bits_on_each_tier(isa):
    """Composed and replayed steps, at 1, 2, 3, 4 and 7 threads, give the same bits."""
    folder = os.path.dirname(__file__)
    code = f"""
        import hashlib, sys
        sys.path.insert(0, {folder!r})
        import ranvier as rv
        from ranvier import training
        from test_engine import trained

        def digest():
            weights, history, y = trained()
            text = repr(sorted(history.items())).encode()
            return hashlib.sha256(b"".join(a.tobytes() for a in [*weights, y]) + text).hexdigest()

        found = []
        for count in (1, 2, 3, 4, 7):
            rv.set_num_threads(count)
            found.append(digest())
        training._REPLAY = False
        found.append(digest())
        print(rv._core.kernel_isa(), len(set(found)))
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "RANVIER_ISA": isa},
        check=True,
        capture_output=True,
        text=True,
    )
    assert out.stdout.split() == [isa, "1"]


def test_bits_of_avx2_and_avx512_agree_in_training():
    if not {"avx2", "avx512"} <= set(_core.supported_isas()):
        pytest.skip("this CPU does not run both avx2 and avx512")
    code = """
        import numpy as np, ranvier as rv
        from ranvier import layers as L
        rv.utils.set_random_seed(1)
        stack = [L.Input((33,)), L.Dense(20, "tanh"), L.Dense(17, "relu"), L.Dense(5, "softmax")]
        m = rv.Sequential(stack)
        m.compile("rmsprop", "sparse_categorical_crossentropy")
        r = np.random.default_rng(0)
        m.fit(r.standard_normal((300, 33)), r.integers(0, 5, 300), epochs=5, verbose=0)
        import hashlib
        print(hashlib.sha256(b"".join(w.tobytes() for w in m.get_weights())).hexdigest())
    """
    digests = {
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "RANVIER_ISA": isa},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for isa in ("avx2", "avx512")
    }
    assert len(digests) == 1


def test_no_replay_variable_composes_every_step():
    code = "from ranvier import training; print(training._REPLAY)"
    for value, expected in (("1", "False"), ("0", "True")):
        env = {**os.environ, "RANVIER_NO_REPLAY": value}
        out = subprocess.run(
            [sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True
        )
        assert out.stdout.strip() == expected


def test_each_step_reads_new_rows():
    """Not a constant of the first batch: the loss of a step is that of its own rows."""
    model = rv.Sequential([layers.Input((1,)), layers.Dense(1, use_bias=False)])
    model.compile(rv.optimizers.SGD(0.0), "mse")
    model.set_weights([np.zeros((1, 1))])
    seen = []
    hook = rv.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(logs["loss"])
    )
    y = np.arange(6.0)
    model.fit(np.ones(6), y, batch_size=1, shuffle=False, verbose=0, callbacks=[hook])
    means = np.cumsum(y**2) / np.arange(1, 7)
    np.testing.assert_allclose(seen, means, rtol=1e-6)


def test_learning_rate_is_read_at_each_step():
    model = rv.Sequential([layers.Input((1,)), layers.Dense(1, use_bias=False)])
    model.compile(rv.optimizers.SGD(0.1), "mse")
    model.set_weights([np.zeros((1, 1))])
    x, y = np.ones((4, 1)), np.ones((4, 1))
    model.fit(x, y, batch_size=4, epochs=3, verbose=0)
    model.optimizer.learning_rate = 0.0
    before = model.get_weights()[0]
    model.fit(x, y, batch_size=4, epochs=3, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before)


def test_dropout_draws_anew_in_each_repetition():
    layer = layers.Dropout(0.5, seed=1)
    model = rv.Sequential([layers.Input((64,)), layer])
    model.compile("sgd", "mse")
    losses = [model.train_on_batch(np.ones((8, 64)), np.zeros((8, 64))) for _ in range(6)]
    assert len(set(losses)) > 3


def test_recompiling_forgets_recorded_steps():
    model = classifier()
    x, y = data(64)
    model.fit(x, y, verbose=0, epochs=2)
    first = model.layers[0]
    first.trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = [w.copy() for w in model.get_weights()]
    model.fit(x, y, verbose=0, epochs=2)
    after = model.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.array_equal(before[2], after[2])


def test_added_layer_is_in_the_next_prediction():
    model = rv.Sequential([layers.Input((3,)), layers.Dense(2)])
    x = np.ones((2, 3), "float32")
    assert model(x).shape == (2, 2)
    assert model.predict(x).shape == (2, 2)
    model.add(layers.Dense(5))
    assert model(x).shape == (2, 5)
    assert model.predict(x).shape == (2, 5)


def test_changed_regularizer_is_in_the_next_step():
    model = rv.Sequential([layers.Input((3,)), layers.Dense(2, kernel_regularizer="l2")])
    model.compile(rv.optimizers.SGD(0.0), "mse")
    x, y = np.ones((2, 3)), np.zeros((2, 2))
    weak = model.train_on_batch(x, y)
    model.layers[0].kernel.regularizer.l2 = 1.0
    assert model.train_on_batch(x, y) > weak + 0.1


def test_replaced_regularizers_are_in_the_next_step():
    model = rv.Sequential([layers.Input((3,)), layers.Dense(2)])
    model.compile(rv.optimizers.SGD(0.0), "mse")
    layer = model.layers[0]
    x, y = np.ones((2, 3)), np.zeros((2, 2))
    plain = model.train_on_batch(x, y)
    layer.kernel.regularizer = rv.regularizers.L2(1.0)
    weight = model.train_on_batch(x, y)
    np.testing.assert_allclose(weight - plain, np.square(layer.kernel.numpy()).sum(), rtol=1e-4)
    layer.activity_regularizer = rv.regularizers.L1(1.0)
    both = model.train_on_batch(x, y)
    np.testing.assert_allclose(both - weight, np.abs(model(x)).sum() / 2, rtol=1e-4)
    layer.activity_regularizer.l1 = 3.0
    np.testing.assert_allclose(model.train_on_batch(x, y) - weight, 3 * (both - weight), rtol=1e-4)
    layer.kernel.regularizer = layer.activity_regularizer = None
    assert model.train_on_batch(x, y) == plain


def test_adapt_and_set_weights_reach_recorded_steps():
    norm = layers.Normalization()
    model = rv.Sequential([layers.Input((2,)), norm, layers.Dense(1)])
    x = np.array([[1.0, 2.0], [3.0, 8.0]], "float32")
    before = model(x), model.predict(x)
    norm.adapt(x)
    w, b = model.layers[1].get_weights()
    expected = (x - x.mean(0)) / x.std(0) @ w + b
    for y in (model(x), model.predict(x)):
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        assert not np.allclose(y, before[0])
    model.layers[1].set_weights([w * 2, b])
    np.testing.assert_allclose(model(x), 2 * expected, rtol=1e-5, atol=1e-5)


class Cube(layers.NumpyLayer):
    """y = s * x^3, written in NumPy, with a variable."""

    def build(self, input_shape):
        self.s = self.add_weight((input_shape[-1],), "ones", name="s")
        self.calls = 0

    def forward(self, x, *, training=False):
        self.calls += 1
        s = self.s.numpy()

        def backward(dy):
            self.add_gradient(self.s, (dy * x**3).sum(0))
            return dy * s * 3 * x**2

        return s * x**3, backward


def test_numpy_layer_is_called_in_each_repetition(monkeypatch):
    def run() -> tuple[list[np.ndarray], int]:
        rv.utils.set_random_seed(2)
        cube = Cube()
        model = rv.Sequential([layers.Input((40,)), layers.Dense(8, "tanh"), cube, layers.Dense(7)])
        model.compile("adam", "mse")
        x, _ = data(96)
        model.fit(x, x[:, :7], epochs=5, verbose=0)
        return model.get_weights(), cube.calls

    replayed, calls = run()
    assert calls >= 15
    monkeypatch.setattr(training, "_REPLAY", False)
    for a, b in zip(replayed, run()[0], strict=True):
        np.testing.assert_array_equal(a, b)


def test_error_in_a_numpy_layer_ends_the_run_and_keeps_the_weights():
    class Moody(layers.NumpyLayer):
        left = 3

        def forward(self, x, *, training=False):
            self.left -= 1
            if self.left < 0:
                raise ZeroDivisionError("enough")
            return x * 1, lambda dy: dy

    moody = Moody()
    model = rv.Sequential([layers.Input((4,)), moody, layers.Dense(4)])
    model.compile("sgd", "mse")
    moody.left = 3
    x = np.ones((5, 4), "float32")
    with pytest.raises(ZeroDivisionError, match="enough"):
        model.fit(x, x, batch_size=1, verbose=0)
    assert model.optimizer.iterations == 3
    moody.left = 100
    model.fit(x, x, batch_size=1, verbose=0)
    assert model.optimizer.iterations == 8


@pytest.mark.parametrize("good_steps", [0, 3])
def test_error_in_a_numpy_backward_changes_nothing(good_steps):
    class Moody(layers.NumpyLayer):
        left = good_steps

        def forward(self, x, *, training=False):
            def backward(dy):
                self.left -= 1
                if self.left < 0:
                    raise ZeroDivisionError("enough")
                return dy

            return x * 1, backward

    model = rv.Sequential([layers.Input((4,)), layers.Dense(4), Moody(), layers.Dense(4)])
    model.compile("adam", "mse")
    x = np.ones((5, 4), "float32")
    for _ in range(good_steps):
        model.train_on_batch(x, x)
    weights = model.get_weights()
    with pytest.raises(ZeroDivisionError, match="enough"):
        model.fit(x, x, batch_size=5, verbose=0)
    assert model.optimizer.iterations == good_steps
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_numpy_in_a_layer_is_refused():
    class Wrong(layers.Layer):
        def forward(self, x, *, training=False):
            return np.tanh(x), lambda dy: dy

    class Sly(layers.Layer):
        def forward(self, x, *, training=False):
            y = _core.Buffer.from_array(np.tanh(x.numpy()))
            return y, lambda dy: dy

    for layer in (Wrong(), Sly()):
        with pytest.raises(TypeError, match=r"ranvier\.ops.*NumpyLayer"):
            rv.Sequential([layers.Input((4,)), layer]).predict(np.ones((2, 4)))
    # and the engine is not left recording
    assert not _core.recording()
    assert rv.Sequential([layers.Input((4,)), layers.Dense(2)]).predict(np.ones((2, 4))).shape == (
        2,
        2,
    )


def test_pool_reuses_memory_of_what_is_no_longer_needed():
    x = np.ones((64, 256), "float32")
    stack = [layers.Input((256,))] + [layers.Dense(256, "relu") for _ in range(20)]
    model = rv.Sequential(stack)
    model.predict(x, batch_size=64)
    one = x.nbytes
    # 20 layers, of which two or three results live at a time, and a kernel in panels (4 * one)
    assert model._pool.bytes < 8 * one


def test_callbacks_may_evaluate_and_predict_in_an_epoch():
    model = classifier(dropout=0.0)
    x, y = data(96)
    other = classifier(dropout=0.0)
    shapes = []

    def look(batch, logs):
        shapes.append(model.predict(x[:5]).shape)

    rv.utils.set_random_seed(0)
    model.fit(
        x, y, epochs=2, verbose=0, callbacks=[rv.callbacks.LambdaCallback(on_train_batch_end=look)]
    )
    rv.utils.set_random_seed(0)
    other.fit(x, y, epochs=2, verbose=0)
    assert shapes == [(5, 7)] * 6
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_gradient_that_is_used_up_at_once_is_never_written():
    """So its place in the arena takes no memory, in the first step either."""
    x, _y = data()
    model = rv.Sequential([rv.Input(x.shape[1:]), rv.layers.Flatten(), rv.layers.Dense(64)])
    model.compile("adam", "mse")
    before = model.get_weights()
    model.fit(x, np.ones((len(x), 64), np.float32), batch_size=32, epochs=2, verbose=0)
    assert (model.layers[-1].kernel.numpy() != before[0]).all(axis=0).all()
    kernel = next(g for g in model.optimizer.gradients if g.ndim == 2)
    assert not kernel.numpy().any()


def test_two_threads_train_two_models():
    x, y = data()
    expected = trained(4)

    def work(results, i):
        model = models[i]
        history = model.fit(
            x, y, batch_size=32, epochs=4, verbose=0, validation_split=0.1, shuffle=False
        )
        results[i] = model.get_weights(), history.history

    models = [classifier(dropout=0.0) for _ in range(2)]
    results: dict[int, tuple] = {}
    workers = [threading.Thread(target=work, args=(results, i)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(results) == 2 and expected
    for a, b in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert results[0][1] == results[1][1]


def test_threads_predict_with_one_model():
    model = classifier()
    x, _ = data()
    expected = model.predict(x)
    failures: list[str] = []

    def work(seed):
        generator = np.random.default_rng(seed)
        for _ in range(50):
            start = int(generator.integers(0, 400))
            rows = int(generator.integers(1, 40))
            part = x[start : start + rows]
            for y in (model.predict(part), model(part)):
                if not np.allclose(y, expected[start : start + rows], rtol=1e-5, atol=1e-6):
                    failures.append(f"rows {start}:{start + rows}")

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not failures


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(
    not os.path.exists("/proc/self/statm"), reason="reads the process's size from /proc"
)
def test_memory_does_not_grow():
    model = rv.Sequential([layers.Input((8,)), layers.Dense(8, "relu"), layers.Dense(1)])
    model.compile("adam", "mse")
    x, y = np.ones((16, 8), "float32"), np.ones(16)

    def work(calls: int) -> None:
        for i in range(calls):
            model.predict(x[: 1 + i % 16])
            if i % 10 == 0:
                model(x[: 1 + i % 16])
                model.fit(x, y, verbose=0, batch_size=4 + i % 7)

    work(2000)
    gc.collect()
    before = resident()
    work(100_000)  # and 10,000 fits
    gc.collect()
    assert resident() - before < 4 << 20


def test_arrays_are_let_go_when_a_run_is_over():
    model = rv.Sequential([layers.Input((8,)), layers.Dense(8)])
    model.compile("sgd", "mse")
    gone = []
    for run in (
        lambda x: model.fit(x, x, verbose=0, validation_data=(x, x)),
        lambda x: model.evaluate(x, x, verbose=0),
        lambda x: model.train_on_batch(x, x),
        model.predict,
        model,
    ):
        x = np.ones((4, 8), "float32")
        gone.append(weakref.ref(x))
        run(x)
        del x
    gc.collect()
    assert [ref() for ref in gone] == [None] * 5


def test_models_are_freed():
    model = rv.Sequential([layers.Input((8,)), layers.Dropout(0.1), layers.Dense(4)])
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((4, 8)), np.ones((4, 4)))
    model(np.ones((4, 8)))
    gone = [weakref.ref(model), weakref.ref(model.layers[1].kernel), weakref.ref(model._pool)]
    del model
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
