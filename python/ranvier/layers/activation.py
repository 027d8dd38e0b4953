"""Activations as layers: y = f(x), dx = dy f'(x)."""

from __future__ import annotations

from typing import Any

from ranvier import activations, ops
from ranvier.layers.base import Layer

__all__ = ["Activation", "LeakyReLU", "ReLU", "Softmax"]


class Activation(Layer):
    """y = f(x).

    Args:
        activation: f, a name or a function of `ranvier.activations`.

    Output of the input's shape.
    """

    single_input = True

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.serialize(activation)

    def forward(self, x, *, training=False):
        y = ops.activation(x, self.activation)

        def backward(dy):
            return ops.activation_backward(dy, x, y, self.activation)

        return y, backward

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": self.activation}


class ReLU(Layer):
    """y = max(x, 0), with Keras's variations.

    Args:
        max_value: y is cut there; None: nowhere.
        negative_slope: the slope below 0.

    Output of the input's shape.
    """

    single_input = True

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if max_value is not None and max_value < 0:
            raise ValueError(f"[ReLU] max_value must not be negative; received {max_value}")
        if negative_slope < 0:
            raise ValueError(
                f"[ReLU] negative_slope must not be negative; received {negative_slope}"
            )
        self.max_value, self.negative_slope = max_value, negative_slope

    def forward(self, x, *, training=False):
        y = ops.activation(x, "leaky_relu", alpha=self.negative_slope)
        if self.max_value is None:
            return y, lambda dy: ops.activation_backward(
                dy, x, y, "leaky_relu", alpha=self.negative_slope
            )
        cut = ops.activation(y, "cap", alpha=self.max_value)

        def backward(dy):
            dy = ops.activation_backward(dy, y, cut, "cap", alpha=self.max_value)
            return ops.activation_backward(dy, x, y, "leaky_relu", alpha=self.negative_slope)

        return cut, backward

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "max_value": self.max_value,
            "negative_slope": self.negative_slope,
        }


class LeakyReLU(Layer):
    """y = x where positive, negative_slope * x elsewhere (Maas et al., 2013).

    Args:
        negative_slope: 0.3 by default, as in Keras; the activation's string form has 0.2.

    Output of the input's shape.
    """

    single_input = True

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not negative_slope >= 0:
            raise ValueError(
                f"[LeakyReLU] negative_slope must not be negative; received {negative_slope!r}"
            )
        self.negative_slope = negative_slope

    def forward(self, x, *, training=False):
        y = ops.activation(x, "leaky_relu", alpha=self.negative_slope)

        def backward(dy):
            return ops.activation_backward(dy, x, y, "leaky_relu", alpha=self.negative_slope)

        return y, backward

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "negative_slope": self.negative_slope}


class Softmax(Layer):
    """y = e^x / sum e^x over the last axis.

    Args:
        axis: -1, the only one that the kernel walks; use Permute for others.

    Output of the input's shape.
    """

    single_input = True

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if axis != -1:
            raise ValueError(
                f"[Softmax] only the last axis, axis=-1, is supported; received {axis}"
            )
        self.axis = axis

    def forward(self, x, *, training=False):
        y = ops.softmax(x)

        def backward(dy):
            return ops.softmax_backward(dy, y)

        return y, backward

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}
