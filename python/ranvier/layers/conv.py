"""Convolutions: each value of the output looks through a window at the input, with one kernel."""

from __future__ import annotations

from typing import Any

from ranvier import activations, initializers, ops, regularizers
from ranvier.layers.base import Shape
from ranvier.layers.norm import folds_normalization
from ranvier.layers.pool import MaxPooling2D, pools_by_two
from ranvier.layers.spatial import SpatialLayer, choice, per_axis
from ranvier.variables import Variable

__all__ = [
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
]

# Which function writes an argument of this ending into a config.
_SERIALIZE = {
    "initializer": initializers.serialize,
    "regularizer": regularizers.serialize,
}


class _Convolution(SpatialLayer):
    """What all convolutions share: window, activation and bias."""

    op = "conv2d"
    arguments: tuple[str, ...] = ()  # beside those that all have
    paddings: tuple[str, ...] = ("valid", "same")
    kernel: Variable

    def __init__(
        self,
        kernel_size: Any,
        strides: Any,
        padding: str,
        data_format: str | None,
        dilation_rate: Any,
        activation: Any,
        use_bias: bool,
        bias_initializer: Any,
        bias_regularizer: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, **kwargs)
        kind = type(self).__name__
        self.kernel_size = per_axis(kind, "kernel_size", kernel_size, self.rank)
        self.strides = per_axis(kind, "strides", strides, self.rank)
        self.dilation_rate = per_axis(kind, "dilation_rate", dilation_rate, self.rank)
        self.padding = choice(kind, "padding", padding, self.paddings)
        self.activation = activations.serialize(activation)
        self.use_bias = bool(use_bias)
        self.bias_initializer = initializers.get(bias_initializer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.bias: Variable | None = None

    def outputs(self, channels: int) -> int:
        """The number of filters."""
        raise NotImplementedError

    def shape_channels_last(self, shape: Shape) -> Shape:
        window = zip(shape[1:-1], self.kernel_size, self.strides, self.dilation_rate, strict=True)
        axes = []
        for size, kernel, stride, dilation in window:
            lost = (kernel - 1) * dilation if self.padding == "valid" else 0
            axes.append(None if size is None else -(-(size - lost) // stride))
        if any(size is not None and size < 1 for size in axes):
            raise ValueError(
                f"[{self.name}] the window does not fit: the input is {shape}, kernel_size="
                f"{self.kernel_size}, dilation_rate={self.dilation_rate}; a padding of 'same' would"
            )
        assert shape[-1] is not None  # check_input
        return (shape[0], *axes, self.outputs(shape[-1]))

    def add_kernel(self, name: str, shape: tuple[int, ...], kind: str = "kernel") -> Variable:
        """A variable with the initializer and regularizer of its kind."""
        return self.add_weight(
            shape,
            getattr(self, f"{kind}_initializer"),
            name=name,
            regularizer=getattr(self, f"{kind}_regularizer"),
        )

    def build(self, input_shape: Shape) -> None:
        channels = self.channels_last(input_shape)[-1]
        assert channels is not None  # check_input
        self.add_kernels(channels)
        if self.use_bias:
            self.bias = self.add_kernel("bias", (self.outputs(channels),), "bias")

    def check_input(self, input_shape: Shape) -> None:
        super().check_input(input_shape)
        self.check_size(input_shape, -1 if self.data_format == "channels_last" else 1)

    def add_kernels(self, channels: int) -> None:
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """What the op is told beside x, kernel and bias."""
        padding: Any = self.padding
        if padding == "causal":
            padding = ((self.kernel_size[0] - 1) * self.dilation_rate[0], 0)
        return {
            "strides": self.strides,
            "padding": padding,
            "dilation": self.dilation_rate,
            "activation": self.activation,
        }

    def run_channels_last(self, x):
        return self.convolve(x, self.kernel, self.bias, self.options())

    def convolve(self, x, kernel, bias, options):
        y = getattr(ops, self.op)(x, kernel, bias, **options)

        def backward(dy):
            through = getattr(ops, f"{self.op}_backward")
            return through(dy, x, y, kernel, bias, **options)

        return y, backward

    def get_config(self) -> dict[str, Any]:
        shared = (
            "kernel_size", "strides", "padding", "dilation_rate", "activation", "use_bias",
            "bias_initializer", "bias_regularizer",
        )  # fmt: skip
        config = super().get_config()
        for name in (*shared, *self.arguments):
            serialize = _SERIALIZE.get(name.rpartition("_")[2])
            value = getattr(self, name)
            config[name] = value if serialize is None else serialize(value)
        return config


class _Folding(_Convolution):
    """One whose kernel's last axes are the filters: does a BatchNormalization's work in predict."""

    def fuses(self, readers, x, way_back):
        if way_back:
            return 0
        channels = self.rank + 1 if self.data_format == "channels_last" else 1
        outputs = self.compute_output_shape(x.shape)
        return folds_normalization(self, readers, channels, self.kernel.size, outputs)

    def forward_fused(self, x, readers, *, training=False):
        given = self.folded(readers)
        return self.with_channels_last(x, lambda x: self.convolve(x, *given))

    def folded(self, readers):
        """Kernel, bias and options that do the readers' work as well."""
        if not readers:
            return self.kernel, self.bias, self.options()
        shape, filters = self.kernel.shape, readers[0].moving_mean.size
        flat = self.kernel.reshape((self.kernel.size // filters, filters))
        kernel, bias = readers[0].fold(flat, self.bias)
        options = {**self.options(), "activation": "relu" if readers[1:] else "linear"}
        return kernel.reshape(shape), bias, options


class _Conv(_Folding):
    arguments = ("filters", "groups", "kernel_initializer", "kernel_regularizer")

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
            bias_initializer, bias_regularizer, **kwargs,
        )  # fmt: skip
        kind = type(self).__name__
        (self.filters,) = per_axis(kind, "filters", filters, 1)
        (self.groups,) = per_axis(kind, "groups", groups, 1)
        if self.filters % self.groups:
            raise ValueError(
                f"[{kind}] filters must be a multiple of groups; received filters={filters}, "
                f"groups={groups}"
            )
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)

    def outputs(self, channels: int) -> int:
        return self.filters

    def check_input(self, input_shape: Shape) -> None:
        super().check_input(input_shape)
        channels = self.channels_last(input_shape)[-1]
        if channels and channels % self.groups:
            raise ValueError(
                f"[{self.name}] the number of channels must be a multiple of groups={self.groups}; "
                f"the input is {input_shape}"
            )

    def add_kernels(self, channels: int) -> None:
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        self.kernel = self.add_kernel("kernel", shape)

    def options(self) -> dict[str, Any]:
        return {**super().options(), "groups": self.groups}


class Conv2D(_Conv):
    """y = f(x * w + b), a window over images.

    Args:
        filters: F, the number of outputs at each place.
        kernel_size, strides, dilation_rate: one integer, or (height, width).
        padding: "valid": only where the whole window is inside; "same": with zeros around, so that
            the output has ceil(size / stride) places along each axis.
        data_format: "channels_last" (None) or "channels_first".
        groups: channels and filters fall into so many groups; filters see those of their group.
        activation: f, a name or a function of `ranvier.activations`; None is linear; softmax is
            over the filters.
        use_bias: whether there is b.
        kernel_initializer, bias_initializer: of w (KH, KW, C / groups, F) and b (F,).
        kernel_regularizer, bias_regularizer: penalties on w and b.
        activity_regularizer: a penalty on y.

    Input (rows, H, W, C), output (rows, OH, OW, F).
    """

    def fuses(self, readers, x, way_back):
        count = super().fuses(readers, x, way_back)
        plain = count > 0 or self.activation in ("linear", "relu")
        return count + (plain and pools_by_two(self, readers[count:], x))

    def forward_fused(self, x, readers, *, training=False):
        if type(readers[-1]) is not MaxPooling2D:
            return super().forward_fused(x, readers, training=training)
        given = self.folded(readers[:-1])
        return self.with_channels_last(x, lambda x: self.convolve_and_pool(x, *given))

    def convolve_and_pool(self, x, kernel, bias, options):
        y, where = ops.conv2d_max_pool(x, kernel, bias, **options)

        def backward(dy):
            return ops.conv2d_max_pool_backward(dy, x, y, where, kernel, bias, **options)

        return y, backward


class Conv1D(_Conv):
    """`Conv2D` over sequences.

    Args:
        kernel_size, strides, dilation_rate: integers.
        padding: as in Conv2D, or "causal": an output sees what is at its place and before.

    The other arguments are Conv2D's. Input (rows, L, C), output (rows, OL, F).
    """

    rank, op, paddings = 1, "conv1d", ("valid", "same", "causal")


class _ConvTranspose(_Convolution):
    op = "conv2d_transpose"
    arguments = ("filters", "output_padding", "kernel_initializer", "kernel_regularizer")

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
            bias_initializer, bias_regularizer, **kwargs,
        )  # fmt: skip
        kind = type(self).__name__
        (self.filters,) = per_axis(kind, "filters", filters, 1)
        self.output_padding: tuple[int, ...] | None = None
        if output_padding is not None:
            self.output_padding = per_axis(kind, "output_padding", output_padding, self.rank, 0)
            if any(o >= s for o, s in zip(self.output_padding, self.strides, strict=True)):
                raise ValueError(
                    f"[{kind}] output_padding must be below strides; received output_padding="
                    f"{output_padding}, strides={strides}"
                )
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)

    def outputs(self, channels: int) -> int:
        return self.filters

    def shape_channels_last(self, shape: Shape) -> Shape:
        extra = self.output_padding or (None,) * self.rank
        axes: list[int | None] = []
        for i, size in enumerate(shape[1:-1]):
            stride = self.strides[i]
            span = (self.kernel_size[i] - 1) * self.dilation_rate[i] + 1
            cut = 2 * (span // 2) if self.padding == "same" else 0
            given = extra[i]
            if size is None:
                axes.append(None)
            elif given is not None:
                axes.append((size - 1) * stride + span - cut + given)
            else:
                axes.append(size * stride + (max(span - stride, 0) if not cut else 0))
        if any(size is not None and size < 1 for size in axes):
            raise ValueError(f"[{self.name}] nothing is left of an input {shape}: {axes}")
        return (shape[0], *axes, self.filters)

    def add_kernels(self, channels: int) -> None:
        self.kernel = self.add_kernel("kernel", (*self.kernel_size, self.filters, channels))

    def options(self) -> dict[str, Any]:
        return {**super().options(), "output_padding": self.output_padding}


class Conv2DTranspose(_ConvTranspose):
    """The way back through the window of a `Conv2D`: makes images larger by strides.

    Args:
        filters: F, the number of outputs at each place.
        kernel_size, strides, dilation_rate: one integer, or (height, width).
        padding: "valid": all places that the inputs reach; "same": size * stride places.
        output_padding: places added at bottom and right, below strides; None: as many as `padding`
            says.
        data_format, activation, use_bias: as in Conv2D.
        kernel_initializer, bias_initializer: of w (KH, KW, F, C) and b (F,).
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties on w, b and y.

    Input (rows, H, W, C), output (rows, OH, OW, F).
    """


class Conv1DTranspose(_ConvTranspose):
    """`Conv2DTranspose` over sequences: integers for pairs. Input (rows, L, C), output (rows, OL,
    F)."""

    rank, op = 1, "conv1d_transpose"


class _DepthwiseConv(_Folding):
    op = "depthwise_conv2d"
    arguments = ("depth_multiplier", "depthwise_initializer", "depthwise_regularizer")

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
            bias_initializer, bias_regularizer, **kwargs,
        )  # fmt: skip
        kind = type(self).__name__
        (self.depth_multiplier,) = per_axis(kind, "depth_multiplier", depth_multiplier, 1)
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)

    def outputs(self, channels: int) -> int:
        return channels * self.depth_multiplier

    def add_kernels(self, channels: int) -> None:
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self.kernel = self.add_kernel("kernel", shape, "depthwise")


class DepthwiseConv2D(_DepthwiseConv):
    """A convolution of each channel by itself.

    Args:
        kernel_size, strides, dilation_rate: one integer, or (height, width).
        padding, data_format, activation, use_bias: as in Conv2D.
        depth_multiplier: M, how many outputs each channel has.
        depthwise_initializer, bias_initializer: of w (KH, KW, C, M) and b (C M,).
        depthwise_regularizer, bias_regularizer, activity_regularizer: penalties on w, b and y.

    Input (rows, H, W, C), output (rows, OH, OW, C M).
    """


class DepthwiseConv1D(_DepthwiseConv):
    """`DepthwiseConv2D` over sequences: integers for pairs. Input (rows, L, C), output (rows, OL,
    C M)."""

    rank, op = 1, "depthwise_conv1d"


class _SeparableConv(_Convolution):
    arguments = (
        "filters", "depth_multiplier", "depthwise_initializer", "pointwise_initializer",
        "depthwise_regularizer", "pointwise_regularizer",
    )  # fmt: skip

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
            bias_initializer, bias_regularizer, **kwargs,
        )  # fmt: skip
        kind = type(self).__name__
        (self.filters,) = per_axis(kind, "filters", filters, 1)
        (self.depth_multiplier,) = per_axis(kind, "depth_multiplier", depth_multiplier, 1)
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.pointwise_initializer = initializers.get(pointwise_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)
        self.pointwise_regularizer = regularizers.get(pointwise_regularizer)

    def outputs(self, channels: int) -> int:
        return self.filters

    def add_kernels(self, channels: int) -> None:
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self.depthwise_kernel = self.add_kernel("depthwise_kernel", shape, "depthwise")
        shape = (*(1,) * self.rank, channels * self.depth_multiplier, self.filters)
        self.pointwise_kernel = self.add_kernel("pointwise_kernel", shape, "pointwise")

    def run_channels_last(self, x):
        depthwise = {**self.options(), "activation": "linear"}
        h = getattr(ops, f"depthwise_{self.op}")(x, self.depthwise_kernel, **depthwise)
        y = getattr(ops, self.op)(h, self.pointwise_kernel, self.bias, activation=self.activation)

        def backward(dy):
            dh = getattr(ops, f"{self.op}_backward")(
                dy, h, y, self.pointwise_kernel, self.bias, activation=self.activation
            )
            if dh is None:
                return None
            through = getattr(ops, f"depthwise_{self.op}_backward")
            return through(dh, x, h, self.depthwise_kernel, **depthwise)

        return y, backward


class SeparableConv2D(_SeparableConv):
    """A convolution of each channel by itself, and then one of 1 x 1 over all channels.

    Args:
        filters: F, the number of outputs at each place.
        kernel_size, strides, dilation_rate: one integer, or (height, width).
        padding, data_format, activation, use_bias: as in Conv2D.
        depth_multiplier: M, how many values the first makes of each channel.
        depthwise_initializer, pointwise_initializer, bias_initializer: of (KH, KW, C, M),
            (1, 1, C M, F) and (F,).
        depthwise_regularizer, pointwise_regularizer, bias_regularizer: penalties on these.
        activity_regularizer: a penalty on y.

    Input (rows, H, W, C), output (rows, OH, OW, F).
    """


class SeparableConv1D(_SeparableConv):
    """`SeparableConv2D` over sequences: integers for pairs. Input (rows, L, C), output (rows, OL,
    F)."""

    rank, op = 1, "conv1d"
