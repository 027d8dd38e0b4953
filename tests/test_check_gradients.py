"""check_gradients itself: right backward passes pass, wrong ones fail."""

from __future__ import annotations

import numpy as np
import pytest

from nets import draw
from ranvier import check_gradients, config, layers, ops


@pytest.fixture(autouse=True)
def float64(fresh):
    config.set_floatx("float64")


class Wrong(layers.NumpyLayer):
    """y = w x^2 with a backward that is spoilt in one way."""

    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how = how

    def build(self, input_shape):
        self.w = self.add_weight((input_shape[-1],), "ones", name="w")

    def forward(self, x, *, training=False):
        w = self.w.numpy()

        def backward(dy):
            dx, dw = 2 * x * w * dy, (x * x * dy).sum(0)
            if self.how == "factor":
                dx = 1.00001 * dx
            if self.how == "one element":
                dx[-1, -1] = -dx[-1, -1]
            if self.how == "variable":
                dw = dw + 1e-4
            if self.how == "shape":
                return dx[:, :1]
            if self.how != "forgotten variable":
                self.add_gradient(self.w, dw)
            return None if self.how == "none" else dx

        return w * x * x, backward


def test_right_backward_passes():
    errors = check_gradients(Wrong("no way"), draw(4, 3))
    assert sorted(errors) == ["input", "wrong/w"]
    assert max(errors.values()) < 1e-6


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("factor", "input"),
        ("one element", "input"),
        ("none", "input"),
        ("variable", "wrong/w"),
        ("forgotten variable", "wrong/w"),
    ],
)
def test_wrong_backward_fails(how, name):
    with pytest.raises(AssertionError, match=rf"\[check_gradients\] wrong: .*'{name}'"):
        check_gradients(Wrong(how), draw(4, 3))


def test_gradient_of_the_wrong_shape_fails():
    with pytest.raises(
        ValueError, match=r"\[wrong\] backward returned a gradient of shape \(4, 1\)"
    ):
        check_gradients(Wrong("shape"), draw(4, 3))


class WrongOps(layers.Layer):
    """A layer on Buffers whose backward returns what it is told to."""

    def __init__(self, backward, **kwargs):
        super().__init__(**kwargs)
        self.given = backward

    def forward(self, x, *, training=False):
        return ops.activation(x, "tanh"), self.given


def test_wrong_backward_on_buffers_fails():
    with pytest.raises(AssertionError, match="'input'"):
        check_gradients(WrongOps(lambda dy: dy), draw(4, 3))
    with pytest.raises(AssertionError, match="'input'"):
        check_gradients(WrongOps(lambda dy: None), draw(4, 3))
    with pytest.raises(AssertionError, match=r"of input has shape \(3, 4\) instead of \(4, 3\)"):
        check_gradients(WrongOps(lambda dy: dy.reshape((3, 4))), draw(4, 3))


def test_tolerance_step_and_samples():
    layer = Wrong("factor")
    assert check_gradients(layer, draw(4, 3), tolerance=1e-3)["input"] > 1e-6
    errors = check_gradients(layers.Dense(64), draw(40, 40), samples=5)
    assert max(errors.values()) < 1e-6
    assert (
        check_gradients(layers.Activation("exponential"), draw(2, 3), step=1e-2, tolerance=1)[
            "input"
        ]
        > 1e-6
    )  # a step so wide is visibly not a derivative


def test_values_are_restored():
    layer, x = layers.Dense(3), draw(4, 2)
    layer(x)
    before, x_before = layer.get_weights(), x.copy()
    check_gradients(layer, x)
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(x, x_before)
    assert all(v.gradient is None for v in layer.weights)


def test_needs_float64():
    with pytest.raises(ValueError, match=r"\[check_gradients\] dense computes in float32; make it"):
        check_gradients(layers.Dense(2, dtype="float32"), draw(2, 2))
