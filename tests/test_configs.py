"""Models and layers saved as configs, and made from them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nets import CUSTOM, Add, Join, Net, NetByForward, draw, stack, summary, two_by_two
from ranvier import Input, Model, Sequential, initializers, layers


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
