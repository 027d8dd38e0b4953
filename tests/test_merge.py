"""Merging: the ops against the float64 oracle, the layers beside NumPy, and nets with branches."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from cases import DTYPES, LAYOUTS, MERGE_SHAPES, Output, afloat, assert_close, bad_outputs
from ranvier import Input, Model, check_gradients, config, layers, ops, training

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
every_rule = pytest.mark.parametrize("how", reference.MERGES)


def draw(*shape, dtype=np.float32, seed=0):
    return afloat(np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(dtype))


# --- merge ----------------------------------------------------------------------------------------


@every_dtype
@every_rule
@pytest.mark.parametrize("shapes", MERGE_SHAPES, ids=str)
def test_merge(shapes, how, dtype):
    for a_shape, b_shape in (shapes, shapes[::-1]):
        a, b = draw(*a_shape, dtype=dtype), draw(*b_shape, dtype=dtype, seed=1)
        y = ops.merge(a, b, how)
        assert_close(y, reference.merge(a, b, how), "elementwise", dtype=dtype)
        dy = draw(*y.shape, dtype=dtype, seed=2)
        got = ops.merge_backward(dy, a, b, how)
        for g, e in zip(got, reference.merge_backward(dy, a, b, how), strict=True):
            terms = max(1, dy.size // max(1, e.size))
            assert_close(g, e, "reduction", dtype=dtype, terms=terms)


@every_dtype
@pytest.mark.parametrize("how", ["maximum", "minimum"])
def test_of_equal_ones_the_first_has_the_gradient(how, dtype):
    a, b = np.zeros((2, 3), dtype), np.zeros((2, 3), dtype)
    dy = draw(2, 3, dtype=dtype)
    da, db = ops.merge_backward(dy, a, b, how)
    np.testing.assert_array_equal(da, dy)
    np.testing.assert_array_equal(db, 0)


@every_dtype
def test_merge_keeps_nan_and_infinity(dtype):
    a = np.array([np.nan, 1, np.inf, -np.inf, 2], dtype)
    b = np.array([1, np.nan, 5, 5, -np.inf], dtype)
    for how, rule in reference.MERGES.items():
        np.testing.assert_array_equal(ops.merge(a, b, how), rule(a, b))


@every_dtype
@every_rule
def test_merge_into_out(how, dtype):
    a, b = draw(3, 1, 17, dtype=dtype), draw(3, 5, 1, dtype=dtype, seed=1)
    out = Output((3, 5, 17), dtype)
    y = ops.merge(a, b, how, out=out.array)
    assert np.shares_memory(y, out.array)
    out.assert_intact()
    np.testing.assert_array_equal(y, ops.merge(a, b, how))
    dy = draw(3, 5, 17, dtype=dtype, seed=2)
    outs = [Output(x.shape, dtype) for x in (a, b)]
    got = ops.merge_backward(dy, a, b, how, out=tuple(o.array for o in outs))
    for o, g, e in zip(outs, got, ops.merge_backward(dy, a, b, how), strict=True):
        assert np.shares_memory(g, o.array)
        o.assert_intact()
        np.testing.assert_array_equal(g, e)
    same = draw(4, 9, dtype=dtype)
    expected = ops.merge(same, same, how)
    np.testing.assert_array_equal(ops.merge(same, same, how, out=same), expected)


@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    a, b = draw(6, 5, dtype=dtype), draw(6, 5, dtype=dtype, seed=1)
    other = LAYOUTS[layout](b)
    for how in reference.MERGES:
        np.testing.assert_array_equal(ops.merge(a, other, how), ops.merge(a, b, how))
    np.testing.assert_array_equal(ops.concatenate([a, other], 0), np.concatenate([a, b], 0))
    np.testing.assert_array_equal(ops.dot(other, a), ops.dot(b, a))


def test_gradients_are_arrays_of_their_own():
    dy = draw(2, 3)
    before = dy.copy()
    da, db = ops.merge_backward(dy, draw(2, 3), draw(2, 3), "add")
    da += 1
    db += 1
    np.testing.assert_array_equal(dy, before)
    np.testing.assert_array_equal(da, db)


def test_bad_merges_are_refused():
    a, b = draw(2, 3), draw(2, 4)
    with pytest.raises(ValueError, match=r"\[merge\] the shapes do not fit: a is \(2, 3\), b is"):
        ops.merge(a, b, "add")
    with pytest.raises(ValueError, match=r"\[merge\] the shapes do not fit"):
        ops.merge(a, draw(3), "add")
    with pytest.raises(ValueError, match=r"\[merge\] how must be add, .*received 'power'"):
        ops.merge(a, a, "power")
    with pytest.raises(TypeError, match=r"\[merge\] b has dtype float64"):
        ops.merge(a, a.astype(np.float64), "add")
    with pytest.raises(ValueError, match=r"\[merge_backward\] dy has shape \(2, 4\)"):
        ops.merge_backward(b, a, a, "add")
    with pytest.raises(ValueError, match="out shares memory with b"):
        wide = draw(3, 4)
        ops.merge(draw(3, 4), wide[:1], "add", out=wide)
    for _, bad in bad_outputs((2, 3), np.float32):
        before = bad.tobytes()
        with pytest.raises(ValueError, match=r"\[merge\].*out"):
            ops.merge(a, a, "add", out=bad)
        with pytest.raises(ValueError, match=r"\[merge_backward\].*db"):
            ops.merge_backward(a, a, a, "multiply", out=(None, bad))
        assert bad.tobytes() == before


# --- concatenate ----------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -4])
@pytest.mark.parametrize("sizes", [(1,), (3, 5), (1, 16, 33), (0, 2)], ids=str)
def test_concatenate(sizes, axis, dtype):
    xs = []
    for n in sizes:
        shape = [2, 3, 4, 5]
        shape[axis] = n
        xs.append(draw(*shape, dtype=dtype, seed=n))
    y = ops.concatenate(xs, axis)
    np.testing.assert_array_equal(y, np.concatenate(xs, axis))
    out = Output(y.shape, dtype)
    np.testing.assert_array_equal(ops.concatenate(xs, axis, out=out.array), y)
    out.assert_intact()
    for dx, x in zip(ops.concatenate_backward(y, xs, axis), xs, strict=True):
        np.testing.assert_array_equal(dx, x)


def test_bad_concatenations_are_refused():
    a = draw(2, 3)
    with pytest.raises(ValueError, match="at least one input"):
        ops.concatenate([])
    with pytest.raises(ValueError, match="axis 2 is out of range"):
        ops.concatenate([a], 2)
    with pytest.raises(ValueError, match=r"but for axis 1: \(2, 3\) and \(3, 3\)"):
        ops.concatenate([a, draw(3, 3)], 1)
    with pytest.raises(ValueError, match=r"but for axis 1: \(2, 3\) and \(2, 3, 1\)"):
        ops.concatenate([a, draw(2, 3, 1)], 1)
    with pytest.raises(TypeError, match="dtype float64"):
        ops.concatenate([a, a.astype(np.float64)])
    with pytest.raises(ValueError, match=r"dy has shape \(2, 3\) but the inputs give \(2, 6\)"):
        ops.concatenate_backward(a, [a, a])
    whole = draw(2, 6)
    with pytest.raises(ValueError, match="out shares memory"):
        ops.concatenate([whole.reshape(4, 3)[:2], a], out=whole)


# --- dot ------------------------------------------------------------------------------------------

DOTS = [
    ((3, 17), (3, 17), 1),
    ((3, 17), (3, 17), -1),
    ((3, 5, 7), (3, 7, 9), (2, 1)),
    ((3, 5, 7), (3, 9, 7), (2, 2)),
    ((3, 7, 5), (3, 7, 9), (1, 1)),
    ((3, 7, 5), (3, 9, 7), (1, 2)),
    ((2, 33, 64), (2, 65, 33), (1, 2)),
    ((2, 7), (2, 7, 5), 1),
    ((2, 5, 7), (2, 7), (-1, -1)),
    ((2, 3, 4, 5), (2, 5, 2, 3), (3, 1)),
    ((2, 5, 3, 4), (2, 2, 3, 5), (1, -1)),
    ((0, 4, 3), (0, 3, 2), (2, 1)),
    ((2, 1, 1), (2, 1, 1), 1),
    ((2, 3, 0), (2, 0, 4), (2, 1)),
]


@every_dtype
@pytest.mark.parametrize(("a_shape", "b_shape", "axes"), DOTS)
def test_dot(a_shape, b_shape, axes, dtype):
    a, b = draw(*a_shape, dtype=dtype), draw(*b_shape, dtype=dtype, seed=1)
    y = ops.dot(a, b, axes)
    depth = a_shape[axes if isinstance(axes, int) else axes[0]]
    assert_close(y, reference.dot(a, b, axes), "product", dtype=dtype, terms=depth)
    dy = draw(*y.shape, dtype=dtype, seed=2)
    got = ops.dot_backward(dy, a, b, axes)
    for g, e in zip(got, reference.dot_backward(dy, a, b, axes), strict=True):
        assert_close(g, e, "product", dtype=dtype, terms=max(1, y.size))


def test_bad_dots_are_refused():
    a = draw(2, 3, 4, 5)
    for axis in (0, -4, 4):
        with pytest.raises(ValueError, match="the axis of a must be one of its own"):
            ops.dot(a, a, axis)
    with pytest.raises(ValueError, match="the axis of b must be its first or its last; permute"):
        ops.dot(a, a, (1, 2))
    with pytest.raises(ValueError, match=r"must be as many: a is \(2, 3, 4, 5\) with axis 1"):
        ops.dot(a, a, (1, 3))
    with pytest.raises(ValueError, match="must be as many"):
        ops.dot(a, draw(1, 3, 4, 5), 1)


# --- layers ---------------------------------------------------------------------------------------

ELEMENTWISE = {
    layers.Add: lambda *xs: sum(xs),
    layers.Multiply: lambda *xs: np.prod(np.broadcast_arrays(*xs), axis=0),
    layers.Average: lambda *xs: sum(xs) / len(xs),
    layers.Maximum: lambda *xs: np.max(np.broadcast_arrays(*xs), axis=0),
    layers.Minimum: lambda *xs: np.min(np.broadcast_arrays(*xs), axis=0),
}
INPUTS = [
    [(5, 7)],
    [(5, 7), (5, 7)],
    [(5, 7), (5, 1), (5, 7), (5, 1)],
    [(2, 3, 4), (2, 1, 4), (2, 3, 1)],
    [(2, 3, 4, 5), (2, 5), (2, 4, 1)],  # axes of size 1 are put behind the rows
]


def aligned(xs):
    rank = max(x.ndim for x in xs)
    return [x.reshape(len(x), *[1] * (rank - x.ndim), *x.shape[1:]) for x in xs]


@every_dtype
@pytest.mark.parametrize("shapes", INPUTS, ids=str)
@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_elementwise_layers(kind, shapes, dtype):
    xs = [draw(*s, dtype=dtype, seed=i) for i, s in enumerate(shapes)]
    layer = kind(dtype=dtype)
    y = layer(xs)
    assert_close(y, ELEMENTWISE[kind](*aligned(xs)), "elementwise", dtype=dtype)
    symbolic = layer([Input(s[1:], dtype=dtype) for s in shapes])
    assert symbolic.shape == (None, *y.shape[1:])


@every_dtype
def test_subtract(dtype):
    a, b = draw(3, 4, dtype=dtype), draw(3, 1, dtype=dtype)
    np.testing.assert_array_equal(layers.Subtract(dtype=dtype)([a, b]), a - b)


@every_dtype
@pytest.mark.parametrize("axis", [1, 2, -1, -2])
def test_concatenate_layer(axis, dtype):
    xs = [draw(2, 3, 3, dtype=dtype, seed=i) for i in range(3)]
    layer = layers.Concatenate(axis, dtype=dtype)
    np.testing.assert_array_equal(layer(xs), np.concatenate(xs, axis))
    y = layers.Concatenate(axis)([Input((3, 3)), Input((3, 3))])
    assert y.shape == ((None, 6, 3) if axis in (1, -2) else (None, 3, 6))


# The layer takes any axes, also those between others.
LAYER_DOTS = [
    *(d for d in DOTS if 0 not in d[0]),
    ((2, 3, 4, 5), (2, 4, 3), (2, 1)),
    ((2, 3, 4, 5), (2, 6, 4, 3), -2),
    ((3, 2, 4), (3, 5, 4, 3, 2), (-1, 2)),
]


@every_dtype
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("a_shape", "b_shape", "axes"), LAYER_DOTS)
def test_dot_layer(a_shape, b_shape, axes, normalize, dtype):
    a, b = draw(*a_shape, dtype=dtype), draw(*b_shape, dtype=dtype, seed=1)
    layer = layers.Dot(axes, normalize, dtype=dtype)
    y = layer([a, b])
    i, j = (axes, axes) if isinstance(axes, int) else axes
    depth = a.shape[i]
    if normalize:
        a = a / np.linalg.norm(a.astype(float), axis=i, keepdims=True)
        b = b / np.linalg.norm(b.astype(float), axis=j, keepdims=True)
    assert_close(y, reference.dot(a, b, (i, j)), "product", dtype=dtype, terms=depth)
    symbolic = layers.Dot(axes)([Input(a_shape[1:]), Input(b_shape[1:])])
    assert symbolic.shape == (None, *y.shape[1:])


def test_the_cosine_of_nothing_is_zero():
    zero, one = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(layers.Dot(1, normalize=True)([zero, one]), 0)


FUNCTIONS = [
    (layers.add, layers.Add, {}),
    (layers.subtract, layers.Subtract, {}),
    (layers.multiply, layers.Multiply, {}),
    (layers.average, layers.Average, {}),
    (layers.maximum, layers.Maximum, {}),
    (layers.minimum, layers.Minimum, {}),
    (layers.concatenate, layers.Concatenate, {"axis": 1}),
    (layers.dot, layers.Dot, {"axes": 1, "normalize": True}),
]


@pytest.mark.parametrize(("function", "kind", "options"), FUNCTIONS)
def test_functions_and_configs(function, kind, options):
    xs = [draw(3, 4), draw(3, 4, seed=1)]
    expected = kind(**options)(xs)
    np.testing.assert_array_equal(function(xs, name="merged", **options), expected)
    layer = kind(name="merged", **options)
    again = layers.deserialize(layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    assert options.items() <= layer.get_config().items()
    np.testing.assert_array_equal(again(xs), expected)


def test_layers_refuse_what_does_not_fit():
    a, b = draw(2, 3), draw(2, 4)
    for kind in (*ELEMENTWISE, layers.Subtract, layers.Concatenate, layers.Dot):
        layer = kind(1) if kind is layers.Dot else kind()
        with pytest.raises(ValueError, match="must be called on a list of inputs"):
            layer(a)
    for kind in ELEMENTWISE:
        with pytest.raises(ValueError, match=r"needs inputs of equal shapes.*\(None, 3\) and"):
            kind()([a, b])
    with pytest.raises(ValueError, match="equally many rows"):
        layers.Add()([a, draw(1, 3)])
    with pytest.raises(ValueError, match="equally many rows"):
        layers.Concatenate()([a, draw(1, 3)])
    for inputs in ([a], [a, a, a]):
        with pytest.raises(ValueError, match="needs exactly 2 inputs"):
            layers.Subtract()(inputs)
    with pytest.raises(ValueError, match="equal shapes but for axis 1"):
        layers.Concatenate(1)([draw(2, 3, 4), draw(2, 3, 5)])
    for axis in (2, -2, -3):  # -2: the rows
        with pytest.raises(
            ValueError, match=rf"Concatenate's axis must be behind the rows, .* axis={axis} of \["
        ):
            layers.Concatenate(axis)([a, b])
    with pytest.raises(ValueError, match=r"not 0, the axis of the rows .* by np\.concatenate"):
        layers.Concatenate(0)
    with pytest.raises(ValueError, match=r"axes of equal size: axis 1 of \(None, 3\)"):
        layers.Dot(1)([a, b])
    for axes in (0, 3, -3, (1, -4)):
        with pytest.raises(ValueError, match="axes must be behind the rows"):
            layers.Dot(axes)([draw(2, 3, 4), draw(2, 3, 4)])
    with pytest.raises(TypeError, match="axes must be an integer or two"):
        layers.Dot("1")
    with pytest.raises(ValueError, match="axes must be an integer or two"):
        layers.Dot((1, 2, 3))


# --- derivatives, and nets with branches ----------------------------------------------------------


@pytest.fixture
def float64():
    config.set_floatx("float64")


@pytest.mark.parametrize("shapes", INPUTS, ids=str)
@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_elementwise_gradients(kind, shapes, float64):
    errors = check_gradients(kind(), [draw(*s, seed=i) for i, s in enumerate(shapes)])
    assert sorted(errors) == [f"input_{i}" for i in range(len(shapes))]


@pytest.mark.parametrize(("function", "kind", "options"), FUNCTIONS)
def test_gradients(function, kind, options, float64):
    check_gradients(kind(**options), [draw(3, 4), draw(3, 4, seed=1)])


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("a_shape", "b_shape", "axes"), LAYER_DOTS)
def test_dot_gradients(a_shape, b_shape, axes, normalize, float64):
    if normalize and a_shape == (2, 1, 1):
        return  # the cosine of single numbers is 1 or -1: the derivative is rounding
    check_gradients(layers.Dot(axes, normalize), [draw(*a_shape), draw(*b_shape, seed=1)])


def residual_net():
    """Shared tensors with several readers, one layer used twice, a branch from a constant input."""
    x, z = Input((6,), name="x"), Input((1,), name="z")
    h = layers.Dense(6, activation="tanh", name="h")
    a = h(x)
    b = layers.add([a, x, h(a)])
    c = layers.concatenate([b, layers.multiply([a, z]), layers.maximum([x, a])])
    d = layers.subtract([layers.Dense(6, name="d")(c), layers.average([b, a])])
    cosine = layers.dot([d, b], axes=1, normalize=True)
    return Model([x, z], layers.concatenate([d, cosine]))


def test_gradients_of_a_net_with_branches(float64):
    check_gradients(residual_net(), [draw(5, 6), draw(5, 1, seed=1)])


def test_branches_train_the_same_recorded_or_not(monkeypatch):
    xs, y = [draw(20, 6), draw(20, 1, seed=1)], draw(20, 7, seed=2)
    found = []
    for replay in (True, False):
        monkeypatch.setattr(training, "_REPLAY", replay)
        model = residual_net()
        model.set_weights([draw(*w.shape, seed=3) / 3 for w in model.get_weights()])
        model.compile("adam", "mse")
        losses = model.fit(xs, y, batch_size=6, epochs=3, verbose=0, shuffle=False).history["loss"]
        found.append((losses, *model.get_weights()))
        assert losses[-1] < losses[0]
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_net_with_branches_is_made_again_from_its_config():
    model = residual_net()
    again = Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    xs = [draw(3, 6), draw(3, 1)]
    np.testing.assert_array_equal(again(xs), model(xs))
