"""Dense: y = f(x w + b)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranvier import activations, initializers, ops, regularizers
from ranvier.layers.base import Layer, Shape
from ranvier.layers.norm import folds_normalization
from ranvier.variables import Variable

__all__ = ["Dense"]


class Dense(Layer):
    """y = f(x w + b) over the last axis.

    Args:
        units: N, the number of outputs.
        activation: f, a name or a function of `ranvier.activations`; None is linear.
        use_bias: whether there is b.
        kernel_initializer, bias_initializer: of w (K, N) and b (N,).
        kernel_regularizer, bias_regularizer: penalties on w and b.
        activity_regularizer: a penalty on y.

    Input (..., K), output (..., N).
    """

    single_input = True

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        whole = isinstance(units, (int, np.integer)) and not isinstance(units, bool)
        if not whole or units < 1:
            raise ValueError(f"[Dense] units must be a positive integer; received units={units!r}")
        self.units = int(units)
        self.activation = activations.serialize(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.bias: Variable | None = None

    def check_input(self, input_shape: Shape) -> None:
        if len(input_shape) < 2 or input_shape[-1] is None:
            hint = ": for one row use x[None]" if len(input_shape) == 1 else ""
            raise ValueError(
                f"[{self.name}] Dense needs inputs of shape (rows, ..., columns) with a known "
                f"number of columns; received {input_shape}{hint}"
            )
        self.check_size(input_shape, -1)

    def build(self, input_shape: Shape) -> None:
        inputs = input_shape[-1]
        assert inputs is not None  # check_input
        self.kernel = self.add_weight(
            (inputs, self.units),
            self.kernel_initializer,
            name="kernel",
            regularizer=self.kernel_regularizer,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                (self.units,), self.bias_initializer, name="bias", regularizer=self.bias_regularizer
            )

    def forward(self, x, *, training=False):
        return self._product(x, self.kernel, self.bias, self.activation)

    def fuses(self, readers, x, way_back):
        if way_back:
            return 0
        outputs = self.compute_output_shape(x.shape)
        return folds_normalization(self, readers, len(outputs) - 1, self.kernel.size, outputs)

    def forward_fused(self, x, readers, *, training=False):
        kernel, bias = readers[0].fold(self.kernel, self.bias)
        return self._product(x, kernel, bias, "relu" if readers[1:] else "linear")

    def _product(self, x, kernel, bias, activation):
        y = ops.dense(x, kernel, bias, activation=activation)

        def backward(dy):
            return ops.dense_backward(
                dy, x, y, kernel, bias, activation=activation
            )  # -> dx; adds to the gradients of kernel and bias

        return y, backward

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
        }
