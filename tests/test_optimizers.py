"""Optimizers as objects: many steps against NumPy, for every layout of variables in memory."""

from __future__ import annotations

import json

import numpy as np
import pytest

import ranvier
import reference
from cases import DTYPES
from nets import draw, mlp
from ranvier import Input, Sequential, Variable, layers, optimizers, training

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])

CASES = {
    "sgd": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(0.01),
    "rmsprop_momentum": lambda: optimizers.RMSprop(0.01, rho=0.7, momentum=0.5, epsilon=1e-4),
    "adam": lambda: optimizers.Adam(0.01),
    "sgd_decay": lambda: optimizers.SGD(0.1, momentum=0.9, weight_decay=0.2),
    "rmsprop_decay": lambda: optimizers.RMSprop(0.01, weight_decay=0.5),
    "adam_decay": lambda: optimizers.Adam(0.01, weight_decay=0.3),
    "adamw": lambda: optimizers.AdamW(0.01),
    "adam_options": lambda: optimizers.Adam(0.02, beta_1=0.5, beta_2=0.9, epsilon=1e-3),
}
LIMITS = ("clipnorm", "clipvalue", "global_clipnorm")
every_case = pytest.mark.parametrize("make", CASES.values(), ids=CASES)


class Oracle:
    """The same steps in float64, for one variable."""

    def __init__(self, optimizer, p):
        self.config = optimizer.get_config()
        self.config.pop("name")
        self.limits = {key: self.config.pop(key) for key in LIMITS}
        self.kind = type(optimizer).__name__
        self.p = np.array(p, np.float64)
        self.m, self.v = np.zeros_like(self.p), np.zeros_like(self.p)
        self.steps = 0

    def step(self, g):
        c = self.config
        self.steps += 1
        if self.kind == "SGD":
            self.p, self.m = reference.sgd(self.p, g, velocity=self.m, **c)
        elif self.kind == "RMSprop":
            self.p, self.v, self.m = reference.rmsprop(self.p, g, self.v, velocity=self.m, **c)
        else:
            self.p, self.m, self.v = reference.adam(self.p, g, self.m, self.v, step=self.steps, **c)


def variables(dtype, *shapes):
    r = np.random.default_rng(5)
    return [Variable(r.normal(size=s).astype(dtype), name=f"v{i}") for i, s in enumerate(shapes)]


def compare(variables, oracles, dtype):
    for v, oracle in zip(variables, oracles, strict=True):
        assert v.numpy().dtype == dtype
        rtol = 2e-5 if dtype == np.float32 else 1e-12
        np.testing.assert_allclose(v.numpy(), oracle.p, rtol=rtol, atol=rtol)


# --- steps ----------------------------------------------------------------------------------------


@every_dtype
@every_case
def test_twenty_steps(make, dtype):
    optimizer = make()
    vs = variables(dtype, (3, 5), (5,), (), (17, 2), (1,), (4096,))
    oracles = [Oracle(optimizer, v) for v in vs]
    r = np.random.default_rng(6)
    for _ in range(20):
        gs = [r.normal(size=v.shape).astype(dtype) for v in vs]
        optimizer.apply_gradients(list(zip(gs, vs, strict=True)))
        for oracle, g in zip(oracles, gs, strict=True):
            oracle.step(g)
    compare(vs, oracles, dtype)
    assert optimizer.iterations == 20
    assert optimizer.variables == vs


@every_case
def test_variables_of_two_dtypes(make):
    optimizer = make()
    single, double = variables(np.float32, (3,), (4,)), variables(np.float64, (5,), (6,))
    vs = [single[0], double[0], single[1], double[1]]
    oracles = [Oracle(optimizer, v) for v in vs]
    for i in range(3):
        gs = [np.full(v.shape, 1.0 + i) for v in vs]
        optimizer.apply_gradients(zip(gs, vs, strict=True))
        for oracle, g in zip(oracles, gs, strict=True):
            oracle.step(g)
    compare(single, oracles[::2], np.float32)
    compare(double, oracles[1::2], np.float64)


@every_case
def test_any_subset_in_any_order(make):
    """Variables keep the places that the first optimizer gave them; nothing else moves."""
    vs = variables(np.float64, (3,), (16,), (2, 2), (33,), ())
    optimizers.SGD(0.0).apply_gradients([(np.zeros(v.shape), v) for v in vs])
    for subset in ([0, 2], [4, 0], [3, 2, 1], [1, 2, 3], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2]):
        optimizer = make()
        before = [v.numpy() for v in vs]
        oracles = {i: Oracle(optimizer, vs[i]) for i in subset}
        for step in range(2):
            gs = {i: np.full(vs[i].shape, 0.5 + i + step) for i in subset}
            optimizer.apply_gradients([(gs[i], vs[i]) for i in subset])
            for i in subset:
                oracles[i].step(gs[i])
        compare([vs[i] for i in subset], oracles.values(), np.float64)
        for i, v in enumerate(vs):
            if i not in subset:
                np.testing.assert_array_equal(v, before[i])


def test_variables_that_get_homes_at_different_times():
    first, second = variables(np.float64, (3,), (5,)), variables(np.float64, (7,), (2,))
    optimizers.SGD(1.0).apply_gradients([(np.ones(v.shape), v) for v in first])
    everything = [first[0], second[0], first[1], second[1]]
    before = [v.numpy() for v in everything]
    optimizers.SGD(1.0).apply_gradients([(np.full(v.shape, 2.0), v) for v in everything])
    for v, old in zip(everything, before, strict=True):
        np.testing.assert_allclose(v, old - 2, rtol=1e-15)


def test_moments_begin_anew_with_other_variables():
    optimizer = optimizers.Adam(0.1)
    a, b = variables(np.float64, (3,), (3,))
    for _ in range(5):
        optimizer.apply_gradients([(np.ones(3), a)])
    oracle = Oracle(optimizer, b)
    optimizer.apply_gradients([(np.ones(3), b)])
    oracle.step(np.ones(3))
    compare([b], [oracle], np.float64)
    assert optimizer.iterations == 1
    kept = optimizer.get_weights()
    optimizer.build([b])  # the same ones again change nothing
    for x, y in zip(optimizer.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(x, y)


def test_moments():
    v = variables(np.float64, (2,))
    for make, count in [
        (CASES["sgd"], 0),
        (CASES["momentum"], 1),
        (CASES["rmsprop"], 1),
        (CASES["rmsprop_momentum"], 2),
        (CASES["adam"], 2),
    ]:
        optimizer = make()
        assert optimizer.get_weights() == []
        optimizer.apply_gradients([(np.array([1.0, -2.0]), v[0])])
        moments = optimizer.get_weights()
        assert len(moments) == count
        assert all(m.shape == (2,) and m.all() for m in moments)


# --- learning rate and steps ----------------------------------------------------------------------


@every_case
def test_learning_rate_can_change_at_any_time(make):
    optimizer = make()
    (v,) = variables(np.float64, (4,))
    oracle = Oracle(optimizer, v)
    for rate in (0.1, 0.05, 0.0, 0.2):
        optimizer.learning_rate = rate
        oracle.config["learning_rate"] = rate
        assert optimizer.learning_rate == rate
        optimizer.apply_gradients([(np.ones(4), v)])
        oracle.step(np.ones(4))
    compare([v], [oracle], np.float64)


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf, "fast", None])
def test_bad_learning_rates(bad):
    for cls in (optimizers.SGD, optimizers.RMSprop, optimizers.Adam, optimizers.AdamW):
        with pytest.raises(ValueError, match="learning_rate must be a number >= 0; received"):
            cls(learning_rate=bad)
    optimizer = optimizers.Adam(0.5)
    with pytest.raises(ValueError, match=r"\[adam\] learning_rate must be a number >= 0"):
        optimizer.learning_rate = bad
    assert optimizer.learning_rate == 0.5


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (optimizers.SGD, "momentum", -0.1),
        (optimizers.SGD, "momentum", 1.1),
        (optimizers.SGD, "momentum", "heavy"),
        (optimizers.RMSprop, "rho", 1.0),
        (optimizers.RMSprop, "rho", np.nan),
        (optimizers.RMSprop, "momentum", -1),
        (optimizers.RMSprop, "epsilon", -1e-7),
        (optimizers.Adam, "beta_1", 1.0),
        (optimizers.Adam, "beta_2", -0.5),
        (optimizers.Adam, "epsilon", "small"),
        (optimizers.Adam, "epsilon", np.inf),
    ],
)
def test_bad_arguments(cls, name, value):
    with pytest.raises(ValueError, match=rf"\[{cls.__name__}\] {name} must be .*received {name}="):
        cls(**{name: value})


def test_gradients_of_the_wrong_shape_change_nothing():
    optimizer = optimizers.Adam(0.1)
    vs = variables(np.float64, (3,), (2, 2))
    before = [v.numpy() for v in vs]
    with pytest.raises(ValueError, match=r"\[adam\] the gradient of v1 has shape \(4,\) but the"):
        optimizer.apply_gradients([(np.ones(3), vs[0]), (np.ones(4), vs[1])])
    for v, old in zip(vs, before, strict=True):
        np.testing.assert_array_equal(v, old)
    assert optimizer.iterations == 0


# --- weight decay ---------------------------------------------------------------------------------


def test_decay_comes_before_the_step_and_is_apart_from_the_gradient():
    """Keras's order: first p -= learning_rate weight_decay p, then the step; by hand."""
    (v,) = variables(np.float64, (3,))
    p, g = v.numpy(), np.array([1.0, -2.0, 0.5])
    optimizer = optimizers.AdamW(0.1, weight_decay=0.25)
    optimizer.apply_gradients([(g, v)])
    # Adam's first step is learning_rate sign(g), but for epsilon
    np.testing.assert_allclose(v, p * (1 - 0.1 * 0.25) - 0.1 * np.sign(g), rtol=1e-5)
    optimizer.learning_rate = 0.2  # what decays follows it
    before = v.numpy()
    optimizer.apply_gradients([(np.zeros(3), v)])
    m, s = 0.9 * 0.1 * g, 0.999 * 0.001 * g**2
    rate = 0.2 * np.sqrt(1 - 0.999**2) / (1 - 0.9**2)
    expected = before * (1 - 0.2 * 0.25) - rate * m / (np.sqrt(s) + 1e-7)
    np.testing.assert_allclose(v, expected, rtol=1e-12)


@every_dtype
@pytest.mark.parametrize("make", [CASES[c] for c in CASES if "decay" in c or c == "adamw"])
def test_excluded_variables_do_not_decay(make, dtype):
    optimizer, plain = make(), make()
    plain.weight_decay = None
    vs, twins = (
        variables(dtype, (3, 5), (5,), (17,), (2,)),
        variables(dtype, (3, 5), (5,), (17,), (2,)),
    )
    optimizer.exclude_from_weight_decay(var_list=[vs[1]], var_names=["3$"])
    oracles = [Oracle(optimizer, v) for v in vs]
    for i in (1, 3):
        oracles[i].config["weight_decay"] = None
    for step in range(4):
        gs = [np.full(v.shape, 0.5 + step, dtype) for v in vs]
        optimizer.apply_gradients(list(zip(gs, vs, strict=True)))
        plain.apply_gradients(list(zip(gs, twins, strict=True)))
        for oracle, g in zip(oracles, gs, strict=True):
            oracle.step(g)
    compare(vs, oracles, dtype)
    for i, (v, twin) in enumerate(zip(vs, twins, strict=True)):
        assert np.array_equal(v.numpy(), twin.numpy()) == (i in (1, 3))


def test_excluding_comes_before_building():
    optimizer = optimizers.AdamW()
    vs = variables(np.float64, (3,))
    optimizer.apply_gradients([(np.ones(3), vs[0])])
    with pytest.raises(ValueError, match=r"\[adamw\] exclude_from_weight_decay must come before"):
        optimizer.exclude_from_weight_decay(var_list=vs)


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf, "slow"])
def test_bad_weight_decays(bad):
    for cls in (optimizers.SGD, optimizers.RMSprop, optimizers.Adam, optimizers.AdamW):
        with pytest.raises(ValueError, match="weight_decay must be a number >= 0; received"):
            cls(weight_decay=bad)
    with pytest.raises(ValueError, match=r"\[AdamW\] weight_decay must be a number"):
        optimizers.AdamW(weight_decay=None)


@pytest.mark.parametrize("make", [CASES[c] for c in CASES if "decay" in c or c == "adamw"])
def test_recorded_steps_decay_with_the_same_bits(make, monkeypatch):
    """Variables that take their step within the product, spans of others, and excluded ones."""

    def train():
        model = Sequential([Input((40,)), layers.Dense(64, "tanh"), layers.Dense(3)])
        r = np.random.default_rng(8)
        model.set_weights([r.normal(size=w.shape) for w in model.get_weights()])
        optimizer = make()
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        model.compile(optimizer, "mse")
        x, y = r.normal(size=(96, 40)), r.normal(size=(96, 3))
        model.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0)
        return model.get_weights()

    replayed = train()
    monkeypatch.setattr(training, "_REPLAY", False)
    for a, b in zip(replayed, train(), strict=True):
        np.testing.assert_array_equal(a, b)


@every_dtype
@pytest.mark.parametrize(
    ("batch", "shape"),
    [(32, (300, 419)), (333, (300, 419)), (2100, (300, 419)), (32, (64, 2048)), (4100, (30, 41))]
    + [(1, (67, 41)), (5, (65, 1100)), (12, (300, 419)), (1000, (10, 2200)), (300, (20, 703))],
)
@pytest.mark.parametrize("make", [CASES[c] for c in ("sgd", "rmsprop_momentum", "adamw")])
def test_recorded_steps_of_large_kernels_have_the_same_bits(make, batch, shape, dtype, monkeypatch):
    """A product of many tiles takes the step in bands of them, whose shape depends on the batch;
    one of more than 2048 rows comes in several runs, and one of many columns in single tiles.
    Very many rows go by blocks, and the step comes afterwards; very few, rows of the kernel at a
    time."""
    rows, columns = shape

    def train():
        model = Sequential([Input((rows,), dtype=dtype), layers.Dense(columns, dtype=dtype)])
        r = np.random.default_rng(9)
        model.set_weights([r.normal(size=w.shape) for w in model.get_weights()])
        model.compile(make(), "mse")
        x, y = r.normal(size=(2 * batch, rows)), r.normal(size=(2 * batch, columns))
        model.fit(
            x.astype(dtype), y.astype(dtype), batch_size=batch, epochs=2, shuffle=False, verbose=0
        )
        return model.get_weights()

    replayed = train()
    monkeypatch.setattr(training, "_REPLAY", False)
    for a, b in zip(replayed, train(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- clipping -------------------------------------------------------------------------------------

CLIPPING = [
    {key: limit} for key, limits in zip(LIMITS, ((0.5, 9.0), (0.2, 2.0), (1.0, 50.0)), strict=True)
    for limit in limits
]  # fmt: skip
every_clipping = pytest.mark.parametrize(
    "clipping", CLIPPING, ids=["_".join(map(str, *c.items())) for c in CLIPPING]
)


@every_dtype
@every_clipping
@pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.AdamW])
def test_clipping(kind, clipping, dtype):
    optimizer = kind(0.1, **clipping)
    vs = variables(dtype, (3, 5), (5,), (), (1,), (4097,), (0, 2))
    oracles = [Oracle(optimizer, v) for v in vs]
    r = np.random.default_rng(6)
    changed = 0
    for scale in (0.01, 0.3, 2.0, 0.0):
        gs = [(scale * r.normal(size=v.shape)).astype(dtype) for v in vs]
        optimizer.apply_gradients(list(zip(gs, vs, strict=True)))
        for oracle, g, h in zip(oracles, reference.clipped(gs, **clipping), gs, strict=True):
            oracle.step(g)
            changed += g.size and not np.array_equal(g, h)
    compare(vs, oracles, dtype)
    assert 0 < changed < 20  # some are clipped, and some not
    assert optimizer.get_config() == kind.from_config(optimizer.get_config()).get_config()


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
@every_clipping
def test_clipping_follows_keras(keras, clipping):
    x, y = draw(64, 3).astype("float32"), 5 * draw(64, 2).astype("float32")
    ours = mlp(optimizer=optimizers.Adam(0.05, weight_decay=0.1, **clipping))
    theirs = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(2)]
    )
    theirs.set_weights(ours.get_weights())
    theirs.compile(keras.optimizers.Adam(0.05, weight_decay=0.1, **clipping), "mse")
    for model in (ours, theirs):
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@every_clipping
def test_recorded_steps_clip_with_the_same_bits(clipping, monkeypatch):
    """Also where a gradient would be used up in the product that makes it, and with a penalty."""

    def train(clipping):
        model = Sequential(
            [
                Input((40,)),
                layers.Dense(300, "tanh", kernel_regularizer="l2", dtype="float64"),
                layers.Dense(3),
            ]
        )
        r = np.random.default_rng(8)
        model.set_weights([r.normal(size=w.shape) for w in model.get_weights()])
        model.compile(optimizers.Adam(0.01, **clipping), "mse")
        x, y = r.normal(size=(96, 40)), r.normal(size=(96, 3))
        model.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0)
        return model.get_weights()

    replayed = train(clipping)
    assert not np.array_equal(replayed[2], train({})[2])
    before = ranvier.num_threads()
    ranvier.set_num_threads(1)
    single = train(clipping)
    ranvier.set_num_threads(before)
    monkeypatch.setattr(training, "_REPLAY", False)
    for a, b, c in zip(replayed, single, train(clipping), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_a_gradient_of_nan_is_not_hidden():
    for clipping in CLIPPING:
        vs = variables(np.float32, (3,), (2,))
        optimizer = optimizers.SGD(0.1, **clipping)
        optimizer.apply_gradients([([1.0, np.nan, 1.0], vs[0]), ([1.0, 1.0], vs[1])])
        assert np.isnan(vs[0].numpy()[1])


@pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.RMSprop, optimizers.AdamW])
def test_bad_limits(kind):
    for key in LIMITS:
        for bad in (0, -1.0, np.inf, "far"):
            with pytest.raises(ValueError, match=rf"\] {key} must be .*; received {key}="):
                kind(0.1, **{key: bad})
    with pytest.raises(ValueError, match="give one of clipnorm, clipvalue and global_clipnorm"):
        kind(0.1, clipnorm=1.0, clipvalue=1.0)
    with pytest.raises(TypeError, match="clipnrm"):
        kind(0.1, clipnrm=1.0)


def test_base_class():
    class Nothing(optimizers.Optimizer):
        pass

    (v,) = variables(np.float64, (3,))
    with pytest.raises(NotImplementedError, match=r"\[nothing\] Nothing must define update"):
        Nothing(0.1).apply_gradients([(np.ones(3), v)])


# --- names and configs ----------------------------------------------------------------------------


@every_case
def test_config_round_trip(make):
    optimizer = make()
    optimizer.learning_rate = 0.125
    again = optimizers.deserialize(json.loads(json.dumps(optimizers.serialize(optimizer))))
    assert type(again) is type(optimizer) and again.get_config() == optimizer.get_config()
    assert again.learning_rate == 0.125 and again.iterations == 0


def test_get():
    for name, cls in {
        "sgd": optimizers.SGD,
        "SGD": optimizers.SGD,
        "rmsprop": optimizers.RMSprop,
        "RMSprop": optimizers.RMSprop,
        "adam": optimizers.Adam,
        "Adam": optimizers.Adam,
        "adamw": optimizers.AdamW,
    }.items():
        assert type(optimizers.get(name)) is cls
    assert type(optimizers.get(optimizers.Adam)) is optimizers.Adam
    own = optimizers.SGD(0.5)
    assert optimizers.get(own) is own
    with pytest.raises(ValueError, match=r"\[optimizer\] unknown optimizer 'adamax_'; known are"):
        optimizers.get("adamax_")
    with pytest.raises(
        ValueError, match=r"\[optimizer\] expected a name, a config .* or an object of Optimizer"
    ):
        optimizers.get(0.01)


def test_defaults_are_those_of_keras():
    assert optimizers.SGD().get_config() == {
        "learning_rate": 0.01, "weight_decay": None, "name": "sgd", "momentum": 0.0,
        "nesterov": False, **dict.fromkeys(LIMITS),
    }  # fmt: skip

    def config_of(optimizer):
        config = optimizer.get_config()
        assert [config.pop(key) for key in ("name", *LIMITS)][1:] == [None] * 3
        return config

    config = config_of(optimizers.RMSprop())
    assert config.pop("weight_decay") is None
    assert config == {"learning_rate": 0.001, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7}
    config = config_of(optimizers.Adam())
    assert config.pop("weight_decay") is None
    assert config == {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
    assert config_of(optimizers.AdamW()) == {**config, "weight_decay": 0.004}
    assert optimizers.AdamW().name == "adamw"


# --- in a model -----------------------------------------------------------------------------------


@every_case
def test_gradients_of_a_step_have_the_dtype_of_their_variables(make):
    model = Sequential(
        [Input((3,), dtype="float64"), layers.Dense(2, dtype="float64"), layers.Dense(1)]
    )
    model.compile(make(), "mse")
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 1)))
    assert [g.dtype for g in model.optimizer.gradients] == ["float64"] * 2 + ["float32"] * 2
    assert [g.shape for g in model.optimizer.gradients] == [(3, 2), (2,), (2, 1), (1,)]
    per_variable = model.optimizer.slots
    dtypes = [np.float64] * 2 * per_variable + [np.float32] * 2 * per_variable
    assert [m.dtype for m in model.optimizer.get_weights()] == dtypes
    assert model.optimizer.iterations == 1
