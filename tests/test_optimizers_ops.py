"""The in-place optimizer steps of `ranvier.ops` against the float64 oracle."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from cases import DTYPES, LAYOUTS, PARAMETER_SHAPES, Output, afloat, assert_close
from ranvier import ops

pytestmark = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])

# name of a rule, its op, its state arrays in the order the oracle returns them, its options
RULES = {
    "sgd": ("sgd", (), {"learning_rate": 0.1}),
    "sgd_defaults": ("sgd", (), {}),
    "sgd_momentum": ("sgd", ("velocity",), {"momentum": 0.9}),
    "sgd_nesterov": ("sgd", ("velocity",), {"momentum": 0.9, "nesterov": True}),
    "rmsprop": ("rmsprop", ("v",), {"learning_rate": 0.01, "rho": 0.8, "epsilon": 1e-3}),
    "rmsprop_defaults": ("rmsprop", ("v",), {}),
    "rmsprop_momentum": ("rmsprop", ("v", "velocity"), {"momentum": 0.9}),
    "adam": (
        "adam",
        ("m", "v"),
        {"step": 3, "learning_rate": 0.01, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3},
    ),
    "sgd_decay": ("sgd", (), {"learning_rate": 0.1, "weight_decay": 0.3}),
    "sgd_nesterov_decay": (
        "sgd",
        ("velocity",),
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.5},
    ),
    "rmsprop_decay": ("rmsprop", ("v", "velocity"), {"momentum": 0.5, "weight_decay": 2.0}),
    "adam_decay": ("adam", ("m", "v"), {"step": 2, "learning_rate": 0.02, "weight_decay": 0.4}),
    "adam_defaults": ("adam", ("m", "v"), {"step": 1}),
}
every_rule = pytest.mark.parametrize("rule", RULES)


def draw(rule, shape, dtype, *, seed=0):
    """p, g and the state of the rule, as a dict of arrays by argument name."""
    r = np.random.default_rng(seed)
    arrays = {"p": r.normal(size=shape), "g": r.normal(size=shape)}
    for name in RULES[rule][1]:
        # v is a mean of squares; with it near g^2 the step is as in the middle of a training
        arrays[name] = r.uniform(0.1, 2, shape) if name == "v" else r.normal(size=shape)
    return {name: afloat(a.astype(dtype)) for name, a in arrays.items()}


def run(rule, arrays, **changes):
    """Call the op; the oracle's parameter order is the op's keyword order."""
    name, _, options = RULES[rule]
    return getattr(ops, name)(**arrays, **{**options, **changes})


def expect(rule, arrays, **changes):
    """The oracle's arrays by name: p and the state."""
    name, state, options = RULES[rule]
    results = getattr(reference, name)(**arrays, **{**options, **changes})
    return dict(zip(("p", *state), results, strict=False))


@every_rule
@pytest.mark.parametrize("shape", PARAMETER_SHAPES, ids=str)
def test_shapes(shape, rule, dtype):
    arrays = draw(rule, shape, dtype)
    expected = expect(rule, arrays)
    g = arrays["g"].copy()
    run(rule, arrays)
    for name, e in expected.items():
        assert_close(arrays[name], e, "elementwise", dtype=dtype)
    np.testing.assert_array_equal(arrays["g"], g)


@every_rule
def test_several_steps(rule, dtype):
    """Ten steps with new gradients stay with the oracle; Adam's bias correction follows `step`."""
    arrays = draw(rule, (33,), dtype)
    for name in RULES[rule][1]:
        arrays[name][...] = 0
    oracle = {k: a.astype(np.float64) for k, a in arrays.items()}
    for step in range(1, 11):
        g = np.random.default_rng(step).normal(size=33).astype(dtype)
        changes = {"step": step} if rule.startswith("adam") else {}
        arrays["g"], oracle["g"] = g, g
        run(rule, arrays, **changes)
        oracle.update(expect(rule, oracle, **changes))
    for name in ("p", *RULES[rule][1]):
        assert_close(arrays[name], oracle[name], "elementwise", dtype=dtype, terms=10)


@every_rule
def test_nothing_else_is_written(rule, dtype):
    for size in (1, 15, 17, 33):
        arrays = draw(rule, (size,), dtype)
        seas = {}
        for name in ("p", *RULES[rule][1]):
            seas[name] = Output((size,), dtype)
            seas[name].array[...] = arrays[name]
            arrays[name] = seas[name].array
        run(rule, arrays)
        for sea in seas.values():
            sea.assert_intact()


@every_rule
def test_works_in_place(rule, dtype):
    """p itself changes: a view of it sees the step."""
    arrays = draw(rule, (5, 7), dtype)
    before, view = arrays["p"].copy(), arrays["p"].reshape(-1)
    run(rule, arrays)
    assert (view.reshape(5, 7) != before).all()


@every_rule
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_layouts(layout, rule, dtype):
    arrays, other = draw(rule, (7, 19), dtype), draw(rule, (7, 19), dtype)
    other["g"] = LAYOUTS[layout](other["g"])
    run(rule, arrays)
    run(rule, other)
    for name in ("p", *RULES[rule][1]):
        np.testing.assert_array_equal(other[name], arrays[name])


@every_rule
@pytest.mark.parametrize("layout", [n for n in LAYOUTS if n not in ("unaligned",)])
def test_state_that_cannot_be_written_in_place_is_refused(layout, rule, dtype):
    op, state, _ = RULES[rule]
    for name in ("p", *state):
        arrays = draw(rule, (7, 19), dtype)
        arrays[name] = LAYOUTS[layout](arrays[name])
        before = {k: a.copy() for k, a in arrays.items()}
        with pytest.raises(ValueError, match=rf"\[{op}\].*(C-contiguous|read-only)"):
            run(rule, arrays)
        for k, a in arrays.items():
            np.testing.assert_array_equal(a, before[k])


@every_rule
def test_shape_mismatch(rule, dtype):
    op, state, _ = RULES[rule]
    for name in ("g", *state):
        for shape in ((3, 6), (3,), (1, 5), (15,), (3, 5, 1)):
            arrays = draw(rule, (3, 5), dtype)
            before = {k: a.copy() for k, a in arrays.items() if k != name}
            arrays[name] = np.ones(shape, dtype)
            with pytest.raises(ValueError, match=rf"\[{op}\]"):
                run(rule, arrays)
            for k, a in before.items():
                np.testing.assert_array_equal(arrays[k], a)


@every_rule
def test_type_errors(rule, dtype):
    other = np.float64 if dtype == np.float32 else np.float32
    op, state, _ = RULES[rule]
    for name in ("p", "g", *state):
        for wrong in (other, np.int32):
            arrays = draw(rule, (3, 5), dtype)
            before = {k: a.copy() for k, a in arrays.items()}
            arrays[name] = arrays[name].astype(wrong)
            with pytest.raises(TypeError, match=rf"\[{op}\]"):
                run(rule, arrays)
            for k, a in arrays.items():  # nothing has changed
                np.testing.assert_array_equal(a, before[k].astype(a.dtype))


@every_rule
def test_half_floats_are_refused(rule, dtype):
    op, state, _ = RULES[rule]
    for name in ("p", "g", *state):
        arrays = draw(rule, (3, 5), dtype)
        arrays[name] = arrays[name].astype(np.float16)
        with pytest.raises(TypeError, match=rf"\[{op}\].*float16"):
            run(rule, arrays)


@every_rule
def test_errors_name_the_argument(rule, dtype):
    op, state, _ = RULES[rule]
    for name in ("p", *state):
        arrays = draw(rule, (7, 19), dtype)
        arrays[name] = np.asfortranarray(arrays[name])
        with pytest.raises(ValueError, match=rf"\[{op}\] {name}\b"):
            run(rule, arrays)


def test_momentum_needs_a_velocity(dtype):
    p, g, v = np.ones(5, dtype), np.ones(5, dtype), np.ones(5, dtype)
    with pytest.raises(ValueError, match=r"\[sgd\].*velocity"):
        ops.sgd(p, g, momentum=0.9)
    with pytest.raises(ValueError, match=r"\[rmsprop\].*velocity"):
        ops.rmsprop(p, g, v, momentum=0.9)
    np.testing.assert_array_equal(p, 1.0)
    np.testing.assert_array_equal(v, 1.0)


@every_rule
@pytest.mark.parametrize("decay", [-0.1, np.nan, np.inf])
def test_weight_decay_must_be_a_number(decay, rule, dtype):
    arrays, before = draw(rule, (5,), dtype), draw(rule, (5,), dtype)
    with pytest.raises(ValueError, match=rf"\[{RULES[rule][0]}\] weight_decay"):
        run(rule, arrays, weight_decay=decay)
    for name in before:
        np.testing.assert_array_equal(arrays[name], before[name])


def test_adam_steps_count_from_one(dtype):
    arrays = {name: np.ones(5, dtype) for name in ("p", "g", "m", "v")}
    for step in (0, -1):
        with pytest.raises(ValueError, match=rf"\[adam\].*step.*{step}"):
            ops.adam(**arrays, step=step)
    for a in arrays.values():
        np.testing.assert_array_equal(a, 1.0)


def test_adam_after_many_steps(dtype):
    """At step 10**6 the bias corrections are 1, and nothing under- or overflows."""
    arrays = draw("adam", (33,), dtype)
    expected = expect("adam_defaults", arrays, step=10**6)
    run("adam_defaults", arrays, step=10**6)
    for name, e in expected.items():
        assert_close(arrays[name], e, "elementwise", dtype=dtype)


def test_zero_gradient_is_no_step(dtype):
    """0 / (sqrt(0) + epsilon) is 0, not NaN."""
    zeros = [np.zeros(19, dtype) for _ in range(3)]
    p = np.ones(19, dtype)
    ops.adam(p, *zeros, step=1)
    ops.rmsprop(p, *zeros[:2])
    ops.sgd(p, zeros[0])
    np.testing.assert_array_equal(p, 1.0)


@every_rule
def test_nan_stays_in_its_element(rule, dtype):
    arrays, clean = draw(rule, (19,), dtype), draw(rule, (19,), dtype)
    arrays["g"][[3, 18]] = np.nan
    run(rule, arrays)
    run(rule, clean)
    bad = np.isin(np.arange(19), [3, 18])
    for name in ("p", *RULES[rule][1]):
        assert np.isnan(arrays[name][bad]).all()
        np.testing.assert_array_equal(arrays[name][~bad], clean[name][~bad])
