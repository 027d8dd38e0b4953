"""Normalization by batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ranvier import _core, initializers, ops, regularizers
from ranvier.layers.activation import Activation, ReLU
from ranvier.layers.base import Layer, Shape
from ranvier.layers.notes import state_updates
from ranvier.variables import Variable

__all__ = ["BatchNormalization", "folds_normalization"]


class BatchNormalization(Layer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, for each channel (Ioffe and Szegedy,
    2015).

    In training mean and variance are the batch's, and the moving ones follow:
    moving = moving * momentum + batch * (1 - momentum). Otherwise, and where the layer's
    `trainable` is False, they are the moving ones. A relu that alone reads the output is computed
    along with it. Where no gradient is wanted, as in `predict`, both are computed by the
    convolution or dense layer before, if nothing else reads that.

    Args:
        axis: of the channels.
        momentum: how slowly the moving statistics follow.
        epsilon: added to the variance.
        center, scale: whether there are beta and gamma.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer:
            names or Initializers.
        beta_regularizer, gamma_regularizer: penalties.

    Output of the input's shape, which has two axes or more. The weights are gamma, beta,
    moving_mean and moving_variance, the last two not trainable.
    """

    single_input = True

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(axis, bool) or not hasattr(axis, "__index__"):
            raise ValueError(f"[BatchNormalization] axis must be an integer; received {axis!r}")
        if not 0 <= momentum <= 1:
            raise ValueError(
                f"[BatchNormalization] momentum must be from 0 to 1; received {momentum!r}"
            )
        if not epsilon > 0:
            raise ValueError(f"[BatchNormalization] epsilon must be above 0; received {epsilon!r}")
        self.axis, self.momentum, self.epsilon = int(axis), float(momentum), float(epsilon)
        self.center, self.scale = bool(center), bool(scale)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.gamma: Variable | None = None
        self.beta: Variable | None = None

    def check_input(self, input_shape: Shape) -> None:
        rank = len(input_shape)
        inside = -rank <= self.axis < rank and self.axis % rank != 0
        if rank < 2 or not inside or input_shape[self.axis] in (None, 0):
            raise ValueError(
                f"[{self.name}] BatchNormalization needs inputs (rows, ...) with a known number of "
                f"channels on axis {self.axis}; received {input_shape}"
            )
        self.check_size(input_shape, self.axis)

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[self.axis]
        assert channels is not None  # check_input
        shape = (channels,)
        if self.scale:
            self.gamma = self.add_weight(
                shape, self.gamma_initializer, name="gamma", regularizer=self.gamma_regularizer
            )
        if self.center:
            self.beta = self.add_weight(
                shape, self.beta_initializer, name="beta", regularizer=self.beta_regularizer
            )
        self.moving_mean = self.add_weight(
            shape, self.moving_mean_initializer, name="moving_mean", trainable=False
        )
        self.moving_variance = self.add_weight(
            shape, self.moving_variance_initializer, name="moving_variance", trainable=False
        )

    def fuses(self, readers, x, way_back):
        reader = readers[0]
        relu = (type(reader) is Activation and reader.activation == "relu") or (
            type(reader) is ReLU and reader.max_value is None and reader.negative_slope == 0
        )
        return int(relu and not _penalised(self, reader) and reader.dtype == self.dtype)

    def forward(self, x, *, training=False):
        return self._normalize(x, training, "linear")

    def forward_fused(self, x, readers, *, training=False):
        return self._normalize(x, training, "relu")

    def fold(self, kernel: _core.Buffer, bias: Any) -> tuple[_core.Buffer, _core.Buffer]:
        """Kernel (..., channels) and bias of the layer before, with the moving statistics in them:
        (x w + b) s + t = x (w s) + (b s + t)."""
        scale, offset = _core.batch_norm_affine(
            self.gamma, self.beta, self.moving_mean, self.moving_variance, self.epsilon
        )
        bias = offset if bias is None else ops.affine(bias, scale, offset)
        return ops.affine(kernel, scale), bias

    def _normalize(self, x, training, activation):
        rank = len(x.shape)
        axis = self.axis % rank
        if axis == rank - 1:
            return self._normalize_last(x, training, activation)
        last = [*(d for d in range(rank) if d != axis), axis]
        back = [last.index(d) for d in range(rank)]
        y, through = self._normalize_last(ops.transpose(x, last), training, activation)

        def backward(dy):
            dx = through(ops.transpose(dy, last))
            return None if dx is None else ops.transpose(dx, back)

        return ops.transpose(y, back), backward

    def _normalize_last(self, x, training, activation):
        own = training and self.trainable  # the statistics are the batch's
        moving = {} if own else {"mean": self.moving_mean, "variance": self.moving_variance}
        y, statistics = ops.batch_normalization(
            x, self.gamma, self.beta, **moving, epsilon=self.epsilon, activation=activation
        )
        if own:
            state_updates.add(lambda: self._follow(statistics))

        def backward(dy):
            return ops.batch_normalization_backward(
                dy, x, statistics, self.gamma, self.beta, given=not own, activation=activation
            )  # -> dx; adds to the gradients of gamma and beta

        return y, backward

    def _follow(self, statistics):
        channels = statistics.shape[1]
        for i, moving in enumerate((self.moving_mean, self.moving_variance)):
            ops.moving_average(moving, statistics.part(i * channels, (channels,)), self.momentum)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        names = ("beta", "gamma", "moving_mean", "moving_variance")
        return {
            **super().get_config(),
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            **{
                f"{name}_initializer": initializers.serialize(getattr(self, f"{name}_initializer"))
                for name in names
            },
            "beta_regularizer": regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": regularizers.serialize(self.gamma_regularizer),
        }


def folds_normalization(
    layer: Any, readers: Sequence[Layer], channels: int, weights: int, outputs: Any
) -> int:
    """How many of the readers, a BatchNormalization and a relu, cost a layer nothing where no way
    back is wanted, because other weights do the first one's work.

    The weights are made anew for each batch, which pays where they are fewer than the outputs.

    Args:
        layer: one with `activation`, the last step of its `forward`.
        readers: as of `Layer.fuses`.
        channels: the axis of the outputs that the weights' last one makes.
        weights: their number.
        outputs: their shape; rows may be None.
    """
    norm = readers[0]
    if type(norm) is not BatchNormalization or norm.dtype != layer.dtype:
        return 0
    if layer.activation != "linear" or _penalised(layer, norm):
        return 0
    few = None not in outputs and math.prod(outputs) < weights
    if few or norm.axis % len(outputs) != channels:
        return 0
    rest = readers[1:]
    return 1 + (norm.fuses(rest, None, False) if rest else 0)


def _penalised(*layers: Layer) -> bool:
    return any(layer.activity_regularizer is not None for layer in layers)
