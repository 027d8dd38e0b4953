"""Models: how they are put together, described and saved as configs."""

from __future__ import annotations

import json

import numpy as np
import pytest

import reference
from nets import draw, same_weights, stack
from ranvier import Input, Model, Sequential, config, initializers, layers, optimizers
from ranvier import models as models_module


class Add(layers.NumpyLayer):
    def forward(self, x, *, training=False):
        return sum(x), lambda dy: [dy] * len(x)


class Join(layers.NumpyLayer):
    def forward(self, x, *, training=False):
        ends = np.cumsum([a.shape[1] for a in x])[:-1]
        return np.concatenate(x, axis=1), lambda dy: np.split(dy, ends, axis=1)


class Split(layers.NumpyLayer):
    def forward(self, x, *, training=False):
        half = x.shape[1] // 2
        return [x[:, :half], x[:, half:]], lambda dys: np.concatenate(dys, axis=1)


CUSTOM = {"Add": Add, "Join": Join, "Split": Split}


def dense(x, layer, activation="linear"):
    return reference.dense(x, layer.kernel.numpy(), layer.bias.numpy(), activation=activation)


def assert_near(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


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


def two_by_two():
    a, b = Input((3,), name="a"), Input((2,), name="b")
    h = layers.Dense(4, activation="tanh", name="h")(a)
    both = Join(name="join")([h, b])
    return Model(
        [a, b], [layers.Dense(2, name="p")(both), layers.Dense(1, name="q")(h)], name="net"
    )


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


class Net(Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden = layers.Dense(units, activation="relu", name="hidden")
        self.out = layers.Dense(2, name="out")

    def call(self, x):
        return self.out(self.hidden(x))

    def get_config(self):
        return {"name": self.name, "units": self.units}


class NetByForward(Model):
    """As Net, with the way back written out."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(4, activation="relu", name="hidden")
        self.out = layers.Dense(2, name="out")

    def forward(self, x, *, training=False):
        h, hidden_back = self.hidden.run(x, training)
        y, out_back = self.out.run(h, training)
        return y, lambda dy: hidden_back(out_back(dy))


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


# --- summary --------------------------------------------------------------------------------------


def summary(model, **kwargs):
    printed = []
    model.summary(print_fn=printed.append, **kwargs)
    (text,) = printed
    return text


def test_summary_of_a_stack():
    model = Sequential([Input((784,)), layers.Dense(64, activation="relu"), layers.Dropout(0.5)])
    model.add(layers.Dense(10, trainable=False))
    assert (
        summary(model)
        == """\
Model: "sequential"
┏━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━━┓
┃ Layer (type)      ┃ Output Shape ┃ Param # ┃
┡━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━┩
│ dense (Dense)     │ (None, 64)   │  50,240 │
├───────────────────┼──────────────┼─────────┤
│ dropout (Dropout) │ (None, 64)   │       0 │
├───────────────────┼──────────────┼─────────┤
│ dense_1 (Dense)   │ (None, 10)   │     650 │
└───────────────────┴──────────────┴─────────┘
 Total params: 50,890 (198.79 KB)
 Trainable params: 50,240 (196.25 KB)
 Non-trainable params: 650 (2.54 KB)"""
    )


def test_summary_of_a_graph():
    assert (
        summary(two_by_two())
        == """\
Model: "net"
┏━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━━━━━━━━━┓
┃ Layer (type)   ┃ Output Shape ┃ Param # ┃ Connected to ┃
┡━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━━━━┩
│ a (InputLayer) │ (None, 3)    │       0 │ -            │
├────────────────┼──────────────┼─────────┼──────────────┤
│ b (InputLayer) │ (None, 2)    │       0 │ -            │
├────────────────┼──────────────┼─────────┼──────────────┤
│ h (Dense)      │ (None, 4)    │      16 │ a            │
├────────────────┼──────────────┼─────────┼──────────────┤
│ join (Join)    │ (None, 6)    │       0 │ h, b         │
├────────────────┼──────────────┼─────────┼──────────────┤
│ p (Dense)      │ (None, 2)    │      14 │ join         │
├────────────────┼──────────────┼─────────┼──────────────┤
│ q (Dense)      │ (None, 1)    │       5 │ h            │
└────────────────┴──────────────┴─────────┴──────────────┘
 Total params: 35 (140.00 B)
 Trainable params: 35 (140.00 B)
 Non-trainable params: 0 (0.00 B)"""
    )


def test_summary_counts_bytes_of_float64_and_shared_layers_once(capsys):
    x = Input((512,), dtype="float64")
    shared = layers.Dense(512, dtype="float64")
    model = Model(x, shared(shared(x)))
    model.summary()
    text = capsys.readouterr().out
    assert " Total params: 262,656 (2.00 MB)\n" in text
    assert text.count("shared") == 0 and text.count("(Dense)") == 1


def test_summary_before_anything_is_built_and_of_a_width():
    model = Sequential(stack())
    assert "│ ?            │ 0 (unbuilt) │" in summary(model)
    model(draw(1, 3))
    assert {len(line) for line in summary(model, line_length=70).split("\n")[1:-3]} == {70}


def test_summary_of_subclasses():
    for model in (Net(), NetByForward()):
        model(draw(2, 3))
        text = summary(model)
        assert f'Model: "{model.name}"' in text and "hidden (Dense)" in text
        assert " Total params: 26 (104.00 B)" in text


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


def test_get_layer():
    model = two_by_two()
    assert model.get_layer("h").units == 4
    assert model.get_layer(index=0).name == "a"
    assert model.get_layer(index=-1).name == "q"
    with pytest.raises(ValueError, match=r"\[get_layer\] net has no layer 'z'; it has \['a', 'b',"):
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


# --- configs --------------------------------------------------------------------------------------


def rebuilt(model, custom=None):
    """By way of JSON, with the same weights."""
    again = type(model).from_config(json.loads(json.dumps(model.get_config())), custom)
    again.set_weights(model.get_weights())
    return again


def test_config_of_a_sequential():
    model = Sequential(
        [
            Input((2, 3), dtype="float64", name="x"),
            layers.Flatten(),
            layers.Dense(4, activation="gelu", kernel_initializer=initializers.HeNormal(seed=1)),
            Sequential([layers.Dropout(0.5), layers.Dense(2, kernel_regularizer="l2")]),
        ],
        name="whole",
    )
    again = rebuilt(model)
    assert again.name == "whole" and again.input_shape == (None, 2, 3)
    assert again.inputs[0].dtype == "float64"
    x = draw(4, 2, 3)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.get_config() == model.get_config()


def test_config_of_a_sequential_that_is_not_built():
    model = Sequential(stack())
    again = Sequential.from_config(json.loads(json.dumps(model.get_config())))
    assert not again.built and again.predict(draw(2, 5)).shape == (2, 2)


def test_config_of_a_graph():
    model = two_by_two()
    again = rebuilt(model, CUSTOM)
    x = [draw(5, 3), draw(5, 2)]
    for a, b in zip(model.predict(x), again.predict(x), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.get_config() == model.get_config()
    assert summary(again) == summary(model)


def test_config_of_shared_nested_and_repeated_parts():
    inner = two_by_two()
    a, b = Input((3,)), Input((2,))
    shared = layers.Dense(2, name="shared")
    p, q = inner([a, shared(shared(b))])
    r, _ = inner([Join()([q, p]), shared(p)])
    model = Model([a, b], [Add()([r, p]), q], name="outer")
    model.get_layer("shared").trainable = False
    again = rebuilt(model, CUSTOM)
    x = [draw(5, 3), draw(5, 2)]
    for first, second in zip(model.predict(x), again.predict(x), strict=True):
        np.testing.assert_array_equal(first, second)
    assert again.get_config() == model.get_config()
    assert len(again.weights) == len(model.weights) == 8
    assert not again.get_layer("shared").trainable


def test_config_keeps_trainable():
    model = Sequential([Input((3,)), *stack()])
    model.trainable = False
    assert rebuilt(model).trainable_weights == []


def test_config_of_a_subclass():
    model = Net(units=3, name="mine")
    x = draw(2, 3)
    model(x)
    again = Net.from_config(model.get_config())
    again(x)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(x), model(x))
    outer = Sequential([Input((3,)), model])
    np.testing.assert_array_equal(rebuilt(outer, {"Net": Net}).predict(x), outer.predict(x))
    with pytest.raises(NotImplementedError, match=r"a subclassed model must define get_config"):
        NetByForward().get_config()


def test_configs_that_cannot_be_read():
    model = two_by_two()
    with pytest.raises(ValueError, match=r"\[layer\] unknown layer 'Join'.*custom_objects"):
        Model.from_config(model.get_config())
    broken = model.get_config()
    broken["layers"][2]["inbound"] = [["nowhere", 0, 0]]
    with pytest.raises(ValueError, match="the config's layers do not connect: 'net'"):
        Model.from_config(broken, CUSTOM)


# --- dtypes ---------------------------------------------------------------------------------------


def big_net():
    x = Input((3,))
    h = layers.Dense(4, activation="gelu")(layers.Rescaling(2.0)(x))
    norm = layers.Normalization()
    norm.adapt(draw(5, 4))
    y = layers.Softmax()(Add()([norm(h), layers.Dropout(0.3)(h), layers.LeakyReLU()(h)]))
    return Model(x, [y, layers.Dense(2, activity_regularizer="l2", kernel_regularizer="l1")(h)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_dtype_throughout(dtype):
    config.set_floatx(dtype)
    model = big_net()
    x, y = draw(6, 3), [np.eye(4)[[0, 1, 2, 3, 0, 1]], draw(6, 2)]
    assert {v.dtype for v in model.weights} == {dtype}
    assert {w.dtype.name for w in model.get_weights()} == {dtype}
    for p in (*model.predict(x), *model(x), *model(x, training=True)):
        assert p.dtype == dtype
    model.compile("adam", ["categorical_crossentropy", "mse"], metrics=[["accuracy"], ["mae"]])
    model.fit(x, y, verbose=0)
    assert {g.dtype for g in model.optimizer.gradients} == {dtype}
    assert {m.dtype.name for m in model.optimizer.get_weights()} == {dtype}


def test_float64_loses_nothing_on_the_way():
    config.set_floatx("float64")
    model = Sequential([Input((1,)), layers.Dense(1, kernel_initializer="ones")])
    x = np.array([[1 + 1e-12]])
    assert model.predict(x)[0, 0] == model(x)[0, 0] == 1 + 1e-12
    model.compile("sgd", "mae")
    assert model.evaluate(x, [[1.0]], verbose=0) == pytest.approx(1e-12, rel=1e-3)


def test_layers_of_both_dtypes_convert():
    model = Sequential(
        [
            Input((3,)),
            layers.Dense(4, activation="tanh", dtype="float64"),
            layers.Dense(4, activation="tanh"),
            layers.Dense(2, dtype="float64"),
        ]
    )
    assert [v.dtype for v in model.weights] == ["float64"] * 2 + ["float32"] * 2 + ["float64"] * 2
    x, y = draw(6, 3).astype(np.float32), draw(6, 2)
    p = model.predict(x)
    assert p.dtype == np.float64
    a, b, c = model.layers
    h = dense(dense(x, a, "tanh").astype(np.float32), b, "tanh").astype(np.float32)
    np.testing.assert_allclose(p, dense(h, c), rtol=1e-6, atol=1e-7)
    twin = Sequential([Input((3,)), *(layers.Dense(4, activation="tanh") for _ in range(2))])
    twin.add(layers.Dense(2))
    twin.set_weights(model.get_weights())
    for net in (model, twin):
        net.compile(optimizers.SGD(0.1), "mse")
        net.fit(x, y, epochs=5, batch_size=3, verbose=0, shuffle=False)
    for mixed, single in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(mixed, single, rtol=1e-4, atol=1e-6)


def test_nested_outputs_of_both_dtypes():
    x = Input((3,))
    inner = Model(x, [layers.Dense(2)(x), layers.Dense(2, dtype="float64")(x)])
    z = Input((3,))
    model = Model(z, inner(z))
    data = draw(50, 3)
    for a, b, dtype in zip(model.predict(data), inner.predict(data), DTYPES, strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b)


DTYPES = ["float32", "float64"]


def test_outputs_of_both_dtypes_are_trained_together():
    x = Input((3,))
    model = Model(x, [layers.Dense(2)(x), layers.Dense(2, dtype="float64")(x)])
    model.compile("sgd", "mse")
    assert model.fit(draw(6, 3), [draw(6, 2), draw(6, 2)], verbose=0).history["loss"][0] > 0


def test_the_module_has_the_two_classes():
    assert models_module.Model is Model and models_module.Sequential is Sequential
