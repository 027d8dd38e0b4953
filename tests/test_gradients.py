"""Every backward pass against central differences, in float64: layers and models through
`check_gradients`, losses and regularizers through the step that training takes."""

from __future__ import annotations

import numpy as np
import pytest

import ranvier
import reference
from ranvier import (
    Input,
    Model,
    Sequential,
    check_gradients,
    config,
    layers,
    losses,
    ops,
    optimizers,
)
from ranvier._core import Buffer
from reference import ACTIVATIONS, central_difference

TOLERANCE = 1e-6


@pytest.fixture(autouse=True)
def float64(fresh):
    config.set_floatx("float64")


def draw(*shape, seed=0):
    """Numbers of magnitude 0.1 to 2: away from the kinks at 0."""
    r = np.random.default_rng([seed, *shape])
    return r.uniform(0.1, 2.0, shape) * r.choice([-1.0, 1.0], shape)


def check(layer, x, *names, **options):
    """All derivatives are right, and those of `names` (besides the inputs') were looked at."""
    errors = check_gradients(layer, x, **options)
    inputs = [f"input_{i}" for i in range(len(x))] if isinstance(x, list) else ["input"]
    assert sorted(errors) == sorted([*inputs, *names])
    assert max(errors.values()) < TOLERANCE


# --- layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense(activation, use_bias):
    layer = layers.Dense(5, activation=activation, use_bias=use_bias, bias_initializer="normal")
    check(layer, draw(7, 3), "dense/kernel", *["dense/bias"] * use_bias)


@pytest.mark.parametrize("activation", ["relu", "gelu", "softmax"])
def test_dense_on_sequences(activation):
    check(layers.Dense(4, activation=activation), draw(2, 3, 5), "dense/kernel", "dense/bias")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(activation):
    check(layers.Activation(activation), 2 * draw(4, 6))


@pytest.mark.parametrize("negative_slope", [0.0, 0.25])
@pytest.mark.parametrize("max_value", [None, 1.0])
def test_relu(max_value, negative_slope):
    x = draw(4, 6)
    assert (x > 1).any() and (x < 0).any() and np.abs(x - 1).min() > 1e-3
    check(layers.ReLU(max_value=max_value, negative_slope=negative_slope), x)


@pytest.mark.parametrize("negative_slope", [0.0, 0.3, 1.5])
def test_leaky_relu(negative_slope):
    check(layers.LeakyReLU(negative_slope), draw(4, 6))


@pytest.mark.parametrize("dims", [(2, 1, 3), (3, 1, 2), (1, 2, 3)], ids=str)
def test_permute(dims):
    check(layers.Permute(dims), draw(2, 3, 4, 5))


def test_softmax():
    check(layers.Softmax(), draw(3, 2, 5))


def test_flatten():
    check(layers.Flatten(), draw(3, 2, 5))
    check(layers.Flatten("channels_first"), draw(3, 2, 5, 4))


@pytest.mark.parametrize("target", [(5, 2), (-1, 5), (10,), (2, 1, 5)])
def test_reshape(target):
    check(layers.Reshape(target), draw(3, 2, 5))


def test_rescaling():
    check(layers.Rescaling(1 / 255, offset=-0.5), draw(3, 4))


@pytest.mark.parametrize("axis", [-1, None])
@pytest.mark.parametrize("invert", [False, True])
def test_normalization(axis, invert):
    layer = layers.Normalization(axis=axis, invert=invert)
    layer.adapt(3 + draw(10, 4))
    check(layer, draw(3, 4))


def test_dropout_passes_everything_when_not_training():
    check(layers.Dropout(0.5), draw(3, 4))


class FixedDropout(layers.Dropout):
    """Draws the same mask at every call, so that differences make sense."""

    def forward(self, x, *, training=False):
        self.random_state.assign(np.array([self.seed, 3], np.uint64))
        return super().forward(x, training=training)


def test_dropout_in_training():
    layer = FixedDropout(0.4, seed=7)
    check(layer, draw(5, 8), training=True)
    y = layer(draw(5, 8), training=True)
    np.testing.assert_array_equal(y, ops.dropout(draw(5, 8), 0.4, seed=7, counter=3))
    assert 0 < (y == 0).sum() < y.size


class Swirl(layers.NumpyLayer):
    """sin(x s) + t, with two variables to train."""

    def build(self, input_shape):
        self.s = self.add_weight((input_shape[-1],), "ones", name="s")
        self.t = self.add_weight((), "zeros", name="t")

    def forward(self, x, *, training=False):
        s = self.s.numpy()

        def backward(dy):
            dz = dy * np.cos(x * s)
            self.add_gradient(self.s, (dz * x).sum(0))
            self.add_gradient(self.t, dy.sum())
            return dz * s

        return np.sin(x * s) + self.t.numpy(), backward


class Times(layers.NumpyLayer):
    """The product of two inputs."""

    def forward(self, x, *, training=False):
        a, b = x
        return a * b, lambda dy: [dy * b, dy * a]


class Halves(layers.NumpyLayer):
    """The first and the second half of the columns: two outputs."""

    def forward(self, x, *, training=False):
        middle = x.shape[-1] // 2
        return [x[:, :middle], x[:, middle:]], lambda dys: np.concatenate(dys, axis=1)


def test_numpy_layer_with_variables():
    check(Swirl(), draw(4, 3), "swirl/s", "swirl/t")


def test_numpy_layer_of_two_inputs():
    check(Times(), [draw(4, 3), draw(4, 3, seed=1)])


def test_numpy_layer_of_two_outputs():
    check(Halves(), draw(4, 6))


class Ladder(layers.Layer):
    """A forward by hand over two variables and ops: relu(x w) scaled by a layer inside."""

    def build(self, input_shape):
        self.w = self.add_weight((input_shape[-1], 4), name="w")
        self.inner = layers.Dense(3, activation="tanh")

    def forward(self, x, *, training=False):
        h = ops.dense(x, self.w, activation="relu")
        y, through_inner = self.inner.run(h, training)

        def backward(dy):
            return ops.dense_backward(through_inner(dy), x, h, self.w, activation="relu")

        return y, backward


class Residual(layers.Layer):
    """A composite by `call`, in which one tensor has two readers."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(units, activation="tanh", name="first")
        self.second = layers.Dense(units, name="second")
        self.times = Times()

    def call(self, x):
        return self.times([self.first(x), self.second(x)])


def test_layer_with_a_layer_inside_its_forward():
    check(Ladder(), draw(5, 3), "ladder/w", "dense/kernel", "dense/bias")


def test_composite_layer():
    names = ["first/kernel", "first/bias", "second/kernel", "second/bias"]
    check(Residual(4), draw(5, 3), *names)


# --- models ---------------------------------------------------------------------------------------


def test_sequential():
    model = Sequential(
        [
            Input((2, 3)),
            layers.Rescaling(0.5, 0.1),
            layers.Flatten(),
            layers.Dense(5, activation="gelu"),
            layers.LeakyReLU(),
            Swirl(),
            layers.Dense(3),
            layers.Softmax(),
        ]
    )
    check(model, draw(4, 2, 3), *[v.path for v in model.weights])
    assert len(model.weights) == 6


class Net(Model):
    def __init__(self):
        super().__init__()
        self.hidden = [layers.Dense(4, activation="silu", name=f"h{i}") for i in range(2)]
        self.out = layers.Dense(2, name="out")

    def call(self, x):
        for layer in self.hidden:
            x = layer(x)
        return self.out(x)


class NetByForward(Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(4, activation="silu", name="hidden")
        self.out = layers.Dense(2, name="out")

    def forward(self, x, *, training=False):
        h, hidden_back = self.hidden.run(x, training)
        y, out_back = self.out.run(h, training)
        return y, lambda dy: hidden_back(out_back(dy))


def test_subclassed_model():
    names = [f"{n}/{v}" for n in ("h0", "h1", "out") for v in ("kernel", "bias")]
    check(Net(), draw(5, 3), *names)


def test_subclassed_model_with_forward():
    names = [f"{n}/{v}" for n in ("hidden", "out") for v in ("kernel", "bias")]
    check(NetByForward(), draw(5, 3), *names)


def test_functional_model_of_several_inputs_and_outputs():
    a, b = Input((3,)), Input((4,))
    h = layers.Dense(4, activation="elu", name="h")(a)
    both = Times()([h, b])
    model = Model([a, b], [layers.Dense(2, name="p")(both), layers.Softmax()(both), h])
    check(model, [draw(5, 3), draw(5, 4)], "h/kernel", "h/bias", "p/kernel", "p/bias")


def test_shared_layer():
    a, b = Input((3,)), Input((3,))
    shared = layers.Dense(4, activation="tanh", name="shared")
    model = Model([a, b], Times()([shared(a), shared(b)]))
    check(model, [draw(5, 3), draw(5, 3, seed=1)], "shared/kernel", "shared/bias")


def test_layer_that_reads_its_own_output():
    x = Input((3,))
    shared = layers.Dense(3, activation="sigmoid", name="shared")
    check(Model(x, shared(shared(shared(x)))), draw(4, 3), "shared/kernel", "shared/bias")


def test_nested_models():
    inner_x = Input((4,))
    h = layers.Dense(3, activation="softplus", name="h")(inner_x)
    inner = Model(inner_x, [h, layers.Dense(3, name="g")(h)])
    x = Input((4,))
    p, q = inner(x)
    model = Sequential([Input((4,)), Model(x, Times()([p, q])), layers.Dense(2, name="out")])
    names = [f"{n}/{v}" for n in ("h", "g", "out") for v in ("kernel", "bias")]
    check(model, draw(5, 4), *names)


def test_a_derivative_of_zero_is_not_all_error():
    """Of a bias before a normalization there is only rounding."""
    model = Sequential([Input((3,)), layers.Dense(4), layers.BatchNormalization()])
    x = np.random.default_rng(0).normal(size=(6, 3))
    assert check_gradients(model, x, training=True)


def test_output_that_nobody_reads():
    x = Input((4,))
    left, _ = Halves()(layers.Dense(4, name="d")(x))
    check(Model(x, left), draw(3, 4), "d/kernel", "d/bias")


def test_frozen_variables_are_not_compared_but_let_the_gradient_through():
    model = Sequential([Input((3,)), layers.Dense(4, name="a"), layers.Dense(2, name="b")])
    model.layers[0].trainable = False
    check(model, draw(5, 3), "b/kernel", "b/bias")


# --- losses ---------------------------------------------------------------------------------------


def targets(kind, rows, classes, seed=3):
    r = np.random.default_rng(seed)
    if kind == "labels":
        return r.integers(0, classes, rows)
    if kind == "distribution":
        t = r.uniform(0.1, 1, (rows, classes))
        return t / t.sum(-1, keepdims=True)
    return r.uniform(0.05, 0.95, (rows, classes))


LOSSES = [
    (losses.MeanSquaredError(), "free", "free"),
    (losses.MeanAbsoluteError(), "free", "free"),
    (losses.BinaryCrossentropy(), "free", "share"),
    (losses.BinaryCrossentropy(from_logits=True), "free", "free"),
    (losses.CategoricalCrossentropy(), "distribution", "share"),
    (losses.CategoricalCrossentropy(from_logits=True), "distribution", "free"),
    (losses.SparseCategoricalCrossentropy(), "labels", "share"),
    (losses.SparseCategoricalCrossentropy(from_logits=True), "labels", "free"),
]
LOSS_IDS = [loss.name + ("_logits" if loss.from_logits else "") for loss, *_ in LOSSES]
every_loss = pytest.mark.parametrize(("loss", "y", "p"), LOSSES, ids=LOSS_IDS)


def on_buffers(loss, y_true, y_pred):
    y_true = Buffer.from_array(y_true, "int32" if loss.labels else "float64")
    return loss.forward(y_true, y_pred)


def assert_near(gradient, numeric):
    assert gradient.shape == numeric.shape and gradient.dtype == np.float64
    assert np.abs(gradient - numeric).max() < TOLERANCE * np.abs(numeric).max()


@every_loss
def test_loss(loss, y, p):
    y_true = targets(y, 5, 4)
    y_pred = draw(5, 4) if p == "free" else np.abs(draw(5, 4)) / 2.2
    value, dy = on_buffers(loss, y_true, Buffer.from_array(y_pred))

    def f(a):
        return on_buffers(loss, y_true, Buffer.from_array(a))[0].view()[0]

    assert value.view()[0] == f(y_pred) == loss(y_true, y_pred)
    assert_near(dy.numpy(), central_difference(f, y_pred))


@pytest.mark.parametrize(
    "loss", [losses.CategoricalCrossentropy, losses.SparseCategoricalCrossentropy]
)
@pytest.mark.parametrize("through", ["Softmax", "Activation", "Dense"])
def test_softmax_and_crossentropy_as_one(loss, through):
    """The gradient that comes out below the softmax, in value what the two do apart."""
    layer = {
        "Softmax": layers.Softmax,
        "Activation": lambda: layers.Activation("softmax"),
        "Dense": lambda: layers.Dense(4, activation="softmax"),
    }[through]()
    loss = loss()
    z = 3 * draw(6, 4)
    y_true = targets("labels" if loss.labels else "distribution", 6, 4)
    layer(z)

    def walk(a):
        x = Buffer.from_array(a)
        y, backward = layer.run(x)
        value, dy = on_buffers(loss, y_true, y)
        return value.view()[0], backward(dy).numpy(), y.numpy()

    value, dz, y = walk(z)
    oracle = (
        reference.sparse_categorical_crossentropy
        if loss.labels
        else (reference.categorical_crossentropy)
    )
    np.testing.assert_allclose(value, oracle(y_true, y), rtol=1e-12)
    assert_near(dz, central_difference(lambda a: walk(a)[0], z))


def test_fused_crossentropy_is_exact_where_probabilities_are_clipped():
    """p of the label is e^-50: on probabilities alone the loss would stop at -log 1e-7."""
    z = Buffer.from_array(np.array([[50.0, 0.0]]))
    y, backward = layers.Softmax().run(z)
    value, dy = on_buffers(losses.SparseCategoricalCrossentropy(), np.array([1]), y)
    assert value.view()[0] == pytest.approx(50, rel=1e-12)
    np.testing.assert_allclose(backward(dy).numpy(), [[1, -1]], rtol=1e-12)


# --- the step that training takes -----------------------------------------------------------------


def step_gradients(model, x, y):
    """What one step of plain gradient descent with rate 1 took off the weights."""
    before = model.get_weights()
    model.train_on_batch(x, y)
    after = model.get_weights()
    model.set_weights(before)
    return [a - b for a, b in zip(before, after, strict=True)]


def numeric_gradients(model, x, y):
    """Central differences of what `test_on_batch` reports."""
    original = model.get_weights()
    found = []
    for i, w in enumerate(original):

        def loss(changed, i=i):
            model.set_weights([*original[:i], changed, *original[i + 1 :]])
            logs = model.test_on_batch(x, y, return_dict=True)
            return logs["loss"]

        found.append(central_difference(loss, w, step=1e-5))
        model.set_weights(original)
    return found


def check_step(model, x, y):
    for gradient, numeric in zip(
        step_gradients(model, x, y), numeric_gradients(model, x, y), strict=True
    ):
        assert_near(gradient, numeric)


@every_loss
def test_step_with_every_loss(loss, y, p):
    output = {"free": "linear", "share": "sigmoid" if y == "free" else "softmax"}[p]
    model = Sequential(
        [Input((3,)), layers.Dense(5, activation="tanh"), layers.Dense(4, activation=output)]
    )
    model.compile(optimizers.SGD(1.0), loss)
    check_step(model, draw(6, 3), targets(y, 6, 4))


@pytest.mark.parametrize(
    "loss", [losses.CategoricalCrossentropy, losses.SparseCategoricalCrossentropy]
)
def test_step_where_the_softmax_has_another_reader(loss):
    """One gradient comes to the softmax's input, the other to its output."""
    x = Input((3,))
    p = layers.Dense(4, activation="softmax", name="p")(x)
    model = Model(x, [p, layers.Dense(2, name="q")(p)])
    model.compile(optimizers.SGD(1.0), [loss(), "mse"], loss_weights=[0.7, 1.9])
    y = targets("labels" if loss.labels else "distribution", 6, 4)
    check_step(model, draw(6, 3), [y, draw(6, 2)])


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "mse"])
def test_step_with_an_activity_penalty_on_the_softmax(loss):
    model = Sequential(
        [Input((3,)), layers.Dense(4, activation="softmax", activity_regularizer="l2")]
    )
    model.compile(optimizers.SGD(1.0), loss)
    check_step(model, draw(6, 3), targets("distribution", 6, 4))


def test_step_of_softmax_that_is_reshaped_before_the_loss():
    model = Sequential([Input((3,)), layers.Dense(6, activation="softmax"), layers.Reshape((2, 3))])
    model.compile(optimizers.SGD(1.0), "categorical_crossentropy")
    check_step(model, draw(4, 3), targets("distribution", 8, 3).reshape(4, 2, 3))


def test_step_of_crossentropy_on_sequences():
    model = Sequential([Input((4, 3)), layers.Dense(5, activation="softmax")])
    model.compile(optimizers.SGD(1.0), "sparse_categorical_crossentropy")
    check_step(model, draw(2, 4, 3), targets("labels", 8, 5).reshape(2, 4))


def test_step_of_several_inputs_and_outputs():
    a, b = Input((3,)), Input((4,))
    shared = layers.Dense(4, activation="tanh", name="shared")
    h = layers.Dense(3, activation="gelu", name="h")(a)
    both = Times()([shared(h), shared(a)])
    model = Model([a, b], [layers.Dense(2, name="p")(Times()([both, b])), Swirl()(both)])
    model.compile(
        optimizers.SGD(1.0), {"p": "mse", "swirl": "mae"}, loss_weights={"p": 2.0, "swirl": 0.3}
    )
    check_step(model, [draw(5, 3), draw(5, 4)], [draw(5, 2), draw(5, 4, seed=4)])


def test_step_of_a_softmax_above_another_activation():
    """The loss goes through the softmax at once, and leaves the tanh below it to its layer."""
    for activation in ("tanh", "linear"):
        dense = layers.Dense(4, activation=activation)
        model = Sequential([Input((3,)), layers.Dense(90), dense, layers.Activation("softmax")])
        model.compile(optimizers.SGD(1.0), "sparse_categorical_crossentropy")
        check_step(model, draw(60, 3), targets("labels", 60, 4))


class Tied(layers.Layer):
    """tanh(tanh(x w) w): one variable, read twice in a forward."""

    def build(self, input_shape):
        self.w = self.add_weight((input_shape[-1],) * 2, name="w", regularizer="l2")

    def forward(self, x, *, training=False):
        h = ops.dense(x, self.w, activation="tanh")
        y = ops.dense(h, self.w, activation="tanh")

        def backward(dy):
            dh = ops.dense_backward(dy, h, y, self.w, activation="tanh")
            return ops.dense_backward(dh, x, h, self.w, activation="tanh")

        return y, backward


def test_step_of_variables_that_are_read_more_than_once():
    """Layers of ops alone: an optimizer may not touch a weight before its last reader is done."""
    x = Input((4,))
    shared = layers.Dense(4, activation="tanh", kernel_regularizer="l1")
    tied = Tied()
    first = shared(x)
    model = Model(x, [shared(tied(shared(first))), layers.Dense(2)(tied(first)), first])
    model.compile(optimizers.SGD(1.0), "mse", loss_weights=[1.0, 0.5, 2.0])
    check_step(model, draw(5, 4), [draw(5, 4, seed=1), draw(5, 2), draw(5, 4, seed=2)])


@pytest.mark.parametrize("make", [Net, NetByForward])
def test_step_of_subclassed_models(make):
    model = make()
    model.compile(optimizers.SGD(1.0), "mse")
    model.predict(draw(1, 3))
    check_step(model, draw(5, 3), draw(5, 2))


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "softmax"])
def test_a_gradient_goes_through_the_activation_below_a_reshape(activation):
    """In one pass where the output tells the slope, with the same bits as in two."""
    x, w, dy = draw(12, 10, 6), draw(60, 9), draw(12, 9)
    below = ops.activation(Buffer.from_array(x), activation)
    flat = below.reshape((12, 60))
    dx = ops.dense_backward(Buffer.from_array(dy), flat, None, Buffer.from_array(w))
    through = ops.activation_backward(
        dx.reshape(x.shape), Buffer.from_array(x), below, activation
    ).view()
    apart = ops.dense_backward(dy, flat.view(), None, w)[0]
    expected = ops.activation_backward(apart.reshape(x.shape), x, below.view(), activation)
    np.testing.assert_array_equal(through, expected)
    at_once = activation in ("relu", "tanh")
    np.testing.assert_array_equal(dx.view(), expected.reshape(12, 60) if at_once else apart)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "leaky_relu", "gelu", "softmax"])
def test_an_output_with_readers_of_every_kind(activation):
    """A dense layer takes its gradient through the activation below at once; the others do not."""
    x = ranvier.Input((6,), dtype="float64")
    h = layers.Dense(5, activation=activation, activity_regularizer="l2", dtype="float64")(x)
    a = layers.Dense(5, activation="tanh", dtype="float64")(h)
    b = layers.Dense(5, dtype="float64")(h)
    y = layers.Add(dtype="float64")([h, a, b, layers.Reshape((5,), dtype="float64")(h)])
    model = ranvier.Model(x, layers.Dense(3, dtype="float64")(y))
    data = np.random.default_rng(4).normal(size=(70, 6))
    ranvier.check_gradients(model, data)
