"""Models: how they are put together, and their weights."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nets import (
    CUSTOM,
    Add,
    Join,
    Net,
    NetByForward,
    Split,
    assert_near,
    dense,
    draw,
    same_weights,
    stack,
    two_by_two,
)
from ranvier import Input, Model, Sequential, layers, optimizers
from ranvier import models as models_module

# --- Sequential -----------------------------------------------------------------------------------


def test_sequential_in_its_three_forms():
    x = draw(5, 3)
    first = Sequential([Input((3,)), *stack()])
    second = Sequential([layers.Dense(4, activation="relu", input_shape=(3,)), layers.Dense(2)])
    third = Sequential(stack())
    assert first.built and second.built and not third.built
    assert third.weights == []
    third(x)
    assert third.built
    for model in (first, second, third):
        assert model.input_shape == (None, 3) and model.output_shape == (None, 2)
        assert [w.shape for w in model.get_weights()] == [(3, 4), (4,), (4, 2), (2,)]
        assert model.count_params() == 26
        a, b = model.layers
        assert_near(model.predict(x), dense(dense(x, a, "relu"), b))
        assert_near(model(x), model.predict(x))


@pytest.mark.parametrize("how", ["call", "predict", "fit", "build", "evaluate", "symbolic"])
def test_sequential_without_an_input_is_built_by(how):
    model = Sequential(stack())
    model.compile("sgd", "mse")
    x, y = draw(5, 3), draw(5, 2)
    {
        "call": lambda: model(x),
        "predict": lambda: model.predict(x),
        "fit": lambda: model.fit(x, y, verbose=0),
        "evaluate": lambda: model.evaluate(x, y, verbose=0),
        "build": lambda: model.build((None, 3)),
        "symbolic": lambda: model(Input((3,))),
    }[how]()
    assert model.built and model.layers[0].kernel.shape == (3, 4)
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    assert not same_weights(before, model.get_weights())


def test_add_and_pop():
    model = Sequential(name="grows")
    model.add(Input((3,)))
    assert not model.built and model.layers == []
    for layer in stack():
        model.add(layer)
        assert model.built and model.output_shape == (None, layer.units)
    x = draw(5, 3)
    y = model.predict(x)
    top = model.pop()
    assert top.name == "b" and len(model.layers) == 1
    assert_near(model.predict(x), dense(x, model.layers[0], "relu"))
    assert model.layers[-1].output.shape == (None, 4)
    model.add(top)
    assert_near(model.predict(x), y)
    model.pop(), model.pop()
    assert not model.built and model.layers == []
    with pytest.raises(ValueError, match=r"\[grows\] there is no layer to pop"):
        model.pop()
    model.add(layers.Dense(1))
    assert model.predict(x).shape == (5, 1)


def test_a_layer_that_does_not_fit_is_not_added():
    model = Sequential([Input((4,)), layers.Dense(6)])
    with pytest.raises(ValueError, match=r"\[reshape\] cannot reshape rows of shape \(6,\)"):
        model.add(layers.Reshape((5,)))
    assert len(model.layers) == 1 and model.predict(draw(2, 4)).shape == (2, 6)
    model.add(layers.Reshape((2, 3)))
    assert model.output_shape == (None, 2, 3)


def test_data_that_do_not_fit_leave_the_model_unbuilt():
    model = Sequential([layers.Reshape((2, 3)), layers.Dense(1)])
    with pytest.raises(ValueError, match=r"cannot reshape rows of shape \(5,\)"):
        model.predict(draw(2, 5))
    assert not model.built
    assert model.predict(draw(2, 6)).shape == (2, 2, 1)


def test_parts_of_a_sequential():
    model = Sequential([Input((3,)), *stack()])
    encoder = Model(model.inputs, model.layers[0].output)
    assert encoder.layers[-1] is model.layers[0]
    x = draw(5, 3)
    assert_near(encoder.predict(x), dense(x, model.layers[0], "relu"))
    assert Model(model.input, model.output).predict(x).shape == (5, 2)


# --- functional -----------------------------------------------------------------------------------


def test_several_inputs_and_outputs():
    model = two_by_two()
    x = [draw(5, 3), draw(5, 2)]
    assert model.input_shape == [(None, 3), (None, 2)]
    assert model.output_shape == [(None, 2), (None, 1)]
    h = dense(x[0], model.get_layer("h"), "tanh")
    p = dense(np.concatenate([h, x[1]], axis=1), model.get_layer("p"))
    q = dense(h, model.get_layer("q"))
    for given in (x, tuple(x), {"b": x[1], "a": x[0]}):
        for found in (
            model.predict(given, batch_size=2),
            model(given),
            model(given, training=True),
        ):
            assert type(found) is list
            assert_near(found[0], p)
            assert_near(found[1], q)
    first, second = model.predict_on_batch(x)
    assert_near(first, p)
    assert_near(second, q)


def test_inputs_made_as_a_dict():
    inputs = {"left": Input((3,)), "right": Input((2,))}
    model = Model(inputs, layers.Dense(2)(Join()([inputs["left"], inputs["right"]])))
    x = {"right": draw(4, 2), "left": draw(4, 3)}
    expected = dense(np.concatenate([x["left"], x["right"]], axis=1), model.layers[-1])
    again = Model.from_config(json.loads(json.dumps(model.get_config())), CUSTOM)
    start = model.get_weights()
    again.set_weights(start)
    for net in (model, again):
        assert_near(net.predict(x), expected)
        assert_near(net(x), expected)
        assert_near(net(x, training=True), expected)
        assert_near(net.predict([x["left"], x["right"]]), expected)
        outer = net({"right": Input((2,)), "left": Input((3,))})
        assert outer.shape == (None, 2)
        net.compile("sgd", "mse")
        net.fit(x, draw(4, 2), verbose=0, validation_data=(x, draw(4, 2)))
        net.set_weights(start)


def test_shared_layers_add_their_gradients():
    """y = (a W + c) + (b W + c): dW = (a + b)^T dy, dc = 2 sum dy."""
    a, b = Input((3,), dtype="float64"), Input((3,), dtype="float64")
    shared = layers.Dense(2, dtype="float64")
    model = Model([a, b], Add(dtype="float64")([shared(a), shared(b)]))
    assert len(model.weights) == 2 and model.layers.count(shared) == 1
    model.compile(optimizers.SGD(1.0), "mse")
    x, y = [draw(5, 3), draw(5, 3, seed=1)], draw(5, 2)
    w, c = model.get_weights()
    dy = 2 * ((x[0] + x[1]) @ w + 2 * c - y) / y.size
    model.train_on_batch(x, y)
    np.testing.assert_allclose(w - shared.kernel.numpy(), (x[0] + x[1]).T @ dy, rtol=1e-12)
    np.testing.assert_allclose(c - shared.bias.numpy(), 2 * dy.sum(0), rtol=1e-12)


def test_an_input_that_two_layers_read_and_an_output_given_twice():
    x = Input((3,))
    h = layers.Dense(2)(x)
    model = Model(x, [h, h, Add()([h, h])])
    p, q, r = model.predict(draw(4, 3))
    np.testing.assert_array_equal(p, q)
    assert_near(r, 2 * p)


def test_a_list_of_one_is_that_one():
    x, z = Input((3,)), Input((3,))
    model = Model(inputs=[x], outputs=[layers.Dense(2)(x)])
    data = draw(4, 3)
    expected = dense(data, model.layers[-1])
    for found in (model.predict(data), model.predict([data]), model(data), model([data])):
        assert_near(found, expected)
    assert_near(model([data], training=True), expected)
    outer = Model(z, [model(z), model([z])])
    for found in outer.predict(data):
        assert_near(found, expected)
    model.compile("sgd", ["mse"])
    model.fit([data], [draw(4, 2)], verbose=0)


def test_an_input_can_be_an_output():
    x = Input((3,))
    data = draw(4, 3).astype(np.float32)
    np.testing.assert_array_equal(Model(x, x).predict(data), data)


def test_nested_models():
    inner = Sequential([Input((3,)), *stack()], name="inner")
    x = Input((3,))
    left, right = Split()(inner(x))
    outer = Model(x, Add()([left, right]))
    model = Sequential([outer, layers.Dense(1, name="out")])
    data = draw(5, 3)
    a, b = inner.layers
    y = dense(dense(data, a, "relu"), b)
    assert_near(model.predict(data), dense(y[:, :1] + y[:, 1:], model.layers[-1]))
    assert [v.path for v in model.weights] == [
        "a/kernel", "a/bias", "b/kernel", "b/bias", "out/kernel", "out/bias",
    ]  # fmt: skip
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(data, draw(5, 1), verbose=0)
    assert not any(np.array_equal(p, q) for p, q in zip(before, model.get_weights(), strict=True))
    # the weights are the same objects wherever the layers are
    assert_near(inner.predict(data), dense(dense(data, a, "relu"), b))


def test_a_nested_model_of_several_inputs_and_outputs():
    inner = two_by_two()
    a, b = Input((3,)), Input((2,))
    p, q = inner([a, b])
    model = Model([b, a], layers.Dense(1)(Join()([q, p])))
    x = [draw(5, 3), draw(5, 2)]
    first, second = inner.predict(x)
    assert_near(model.predict(x[::-1]), dense(np.concatenate([second, first], 1), model.layers[-1]))


def test_a_layer_may_have_the_graph_of_its_own_depth():
    """No recursion: a net of a thousand layers works."""
    x = y = Input((2,))
    for i in range(1000):
        y = layers.Activation("linear", name=f"l{i}")(y)
    data = draw(3, 2).astype(np.float32)
    np.testing.assert_array_equal(Model(x, y).predict(data), data)


def test_graphs_that_cannot_be():
    x, other = Input((3,), name="x"), Input((3,), name="other")
    y = layers.Dense(2)(x)
    with pytest.raises(
        ValueError, match="depends on input 'x', which is not among the model's inp"
    ):
        Model(other, y)
    with pytest.raises(ValueError, match=r"inputs must come from Input\(...\)"):
        Model(y, layers.Dense(1)(y))
    with pytest.raises(ValueError, match=r"must be symbolic tensors, .*; received ndarray"):
        Model(x, [x, np.ones(3)])
    with pytest.raises(ValueError, match="inputs and outputs must be given together"):
        Model(x)
    with pytest.raises(TypeError, match="a symbolic tensor has no values"):
        np.square(y)
    with pytest.raises(TypeError, match="arrays and symbolic tensors cannot be mixed"):
        layers.Dense(1)([y, np.ones((2, 2))])


# --- subclasses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Net, NetByForward])
def test_subclass(make):
    model = make()
    x, y = draw(6, 3), draw(6, 2)
    assert not model.built and model.weights == []
    assert model.predict(x).shape == (6, 2)
    assert_near(model(x), dense(dense(x, model.hidden, "relu"), model.out))
    assert [layer.name for layer in model.layers] == ["hidden", "out"]
    assert [v.path for v in model.weights] == [
        "hidden/kernel", "hidden/bias", "out/kernel", "out/bias",
    ]  # fmt: skip
    assert model.output_shape == (None, 2) and model.count_params() == 26
    twin = Sequential([Input((3,)), *stack()])
    twin.set_weights(model.get_weights())
    for net in (model, twin):
        net.compile(optimizers.Adam(0.01), "mse", metrics=["mae"])
    history, expected = [
        net.fit(x, y, epochs=3, batch_size=4, verbose=0, shuffle=False).history
        for net in (model, twin)
    ]
    assert history == expected
    assert same_weights(model.get_weights(), twin.get_weights())
    model.hidden.trainable = False
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    assert same_weights(before[:2], model.get_weights()[:2])
    assert not same_weights(before[2:], model.get_weights()[2:])


class Branches(Model):
    """Behaves in training as it never does otherwise, and takes and gives lists."""

    def __init__(self):
        super().__init__()
        self.add = Add()
        self.a = layers.Rescaling(2.0)
        self.b = layers.Rescaling(100.0)

    def call(self, inputs, training=False):
        x, y = inputs
        return [self.add([x, y]), self.b(x) if training else self.a(x)]


def test_subclass_with_the_training_argument_and_lists():
    model = Branches()
    x, y = draw(4, 3), draw(4, 3, seed=1)
    p, q = model.predict([x, y])
    assert_near(p, x + y)
    assert_near(q, 2 * x)
    _, q = model([x, y], training=True)
    assert_near(q, 100 * x)
    model.compile("sgd", ["mse", "mse"])
    logs = model.train_on_batch([x, y], [x + y, 100 * x], return_dict=True)
    assert logs["loss"] < 1e-6
    assert model.test_on_batch([x, y], [x + y, 2 * x], return_dict=True)["loss"] < 1e-6


def test_a_subclass_inside_another_model():
    net = Net()
    model = Sequential([Input((3,)), net, layers.Dense(1)])
    assert net.built and len(model.weights) == 6
    x = draw(5, 3)
    assert_near(model.predict(x), dense(net.predict(x), model.layers[-1]))


class LazyInside(layers.Layer):
    """Has a layer that only its forward builds."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(2)

    def forward(self, x, *, training=False):
        return self.inner.run(x, training)


def test_layers_that_a_forward_builds_are_trained_too():
    model = Sequential([Input((3,)), LazyInside()])
    assert model.output_shape == (None, 2) and len(model.trainable_weights) == 2
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(draw(4, 3), draw(4, 2), verbose=0)
    assert not any(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_subclass_that_defines_nothing():
    class Empty(Model):
        pass

    with pytest.raises(NotImplementedError, match=r"\[empty\] Empty defines neither forward\(x, "):
        Empty().predict(draw(2, 2))


# --- weights --------------------------------------------------------------------------------------


def test_get_and_set_weights():
    model, twin = (Sequential([Input((3,)), *stack()]) for _ in range(2))
    x = draw(5, 3)
    assert not np.array_equal(model.predict(x), twin.predict(x))
    twin.set_weights(model.get_weights())
    np.testing.assert_array_equal(model.predict(x), twin.predict(x))
    model.compile("adam", "mse")
    model.fit(x, draw(5, 2), verbose=0)
    saved = model.get_weights()
    y = model.predict(x)
    model.fit(x, draw(5, 2), verbose=0)
    assert not np.array_equal(model.predict(x), y)
    model.set_weights(saved)
    np.testing.assert_array_equal(model.predict(x), y)


def test_assigning_to_a_variable_is_seen_by_every_way_of_running():
    model = Sequential([Input((2,)), layers.Dense(1)])
    model.compile(optimizers.SGD(0.0), "mse")
    x, zero = np.ones((3, 2)), np.zeros((3, 1))
    for value in (1.0, 2.0, -3.0):
        model.weights[0].assign(np.full((2, 1), value))
        assert model.predict(x)[0, 0] == model(x)[0, 0] == 2 * value
        assert model.evaluate(x, zero, verbose=0) == (2 * value) ** 2
        assert model.train_on_batch(x, zero) == (2 * value) ** 2
        assert model.fit(x, zero, verbose=0).history["loss"] == [(2 * value) ** 2]


def test_weight_errors_change_nothing():
    model = Sequential([Input((3,)), *stack()], name="net")
    good = model.get_weights()
    zeros = [np.zeros_like(w) for w in good]
    for bad, error, text in [
        (zeros[:3], ValueError, r"\[net\] the layer has 4 weights but 3 were given"),
        ([*zeros[:3], np.zeros(3)], ValueError, r"b/bias has shape \(2,\) but the array given has"),
        ([*zeros[:3], np.array(["x", "y"])], TypeError, r"b/bias needs numbers; received dtype"),
    ]:
        with pytest.raises(error, match=text):
            model.set_weights(bad)
        assert same_weights(model.get_weights(), good)
    with pytest.raises(ValueError, match="build it before set_weights"):
        Sequential(stack()).set_weights(good)
    with pytest.raises(ValueError, match=r"\[late\] count_params needs a built layer"):
        Sequential(stack(), name="late").count_params()


def test_layers_and_weights_stand_as_in_keras():
    """By their largest distance from the outputs, whichever was made or runs first."""
    a, b, unread = Input((4,), name="a"), Input((4,), name="b"), Input((4,), name="unread")
    short = layers.Dense(4, name="short")
    x = layers.Dense(4, name="x")(a)
    y = layers.Dense(4, name="y")(layers.Dense(4, name="long")(x))
    z = layers.Dense(4, name="z")(short(b))
    both = layers.Add(name="both")([short(y), z])
    model = Model([a, b, unread], [layers.Dense(1, name="p")(x), both])
    names = [layer.name for layer in model.layers]
    assert names == ["a", "x", "long", "y", "b", "short", "z", "unread", "p", "both"]
    assert [v.path for v in model.weights[::2]] == [
        f"{name}/kernel" for name in ("x", "long", "y", "short", "z", "p")
    ]
    again = Model.from_config(model.get_config())
    assert [layer.name for layer in again.layers] == names


def test_get_layer():
    model = two_by_two()
    assert model.get_layer("h").units == 4
    assert model.get_layer(index=0).name == "a"
    assert model.get_layer(index=-1).name == "q"
    with pytest.raises(ValueError, match=r"\[get_layer\] net has no layer 'z'; it has \['a', 'h',"):
        model.get_layer("z")
    with pytest.raises(
        ValueError, match=r"\[get_layer\] index 9 is out of range: net has 6 layers"
    ):
        model.get_layer(index=9)
    with pytest.raises(ValueError, match="give either name or index"):
        model.get_layer()
    with pytest.raises(ValueError, match="give either name or index"):
        model.get_layer("h", 1)


def test_names_are_unique():
    assert [Sequential().name for _ in range(2)] == ["sequential", "sequential_1"]
    x = Input((2,))
    assert [Model(x, x).name for _ in range(2)] == ["functional", "functional_1"]
    assert [Net().name, Net().name, Net(name="mine").name] == ["net", "net_1", "mine"]
    y = layers.Dense(2, name="same")(x)
    with pytest.raises(ValueError, match=r"\[Model\] two layers cannot both be named 'same'"):
        Model(x, layers.Dense(2, name="same")(y))
    with pytest.raises(ValueError, match="two layers cannot both be named 'same'"):
        Sequential([layers.Dense(2, name="same"), layers.Dense(2, name="same")])


def test_the_module_has_the_two_classes():
    assert models_module.Model is Model and models_module.Sequential is Sequential
