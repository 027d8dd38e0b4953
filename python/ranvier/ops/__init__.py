"""The kernels as functions on NumPy arrays.

Arrays are float32 or float64, the same in all arguments of a call; results have that type. Inputs
that are not C-contiguous, or not in native byte order, are copied (but see `dense`); `out` never
is, so it must be contiguous, native and of the result's shape and dtype. Each `*_backward` stands
beside its forward and takes the gradient of the output first. Everything raises ValueError for
shapes that do not fit and TypeError for dtypes, with the op's name, both shapes and the likely
mend.

Layers call the same functions with `Buffer`s, the engine's arrays, and get Buffers back; where
`w` or `b` is a layer's variable, its gradient is added to the variable's own.
"""

from __future__ import annotations

from ranvier.ops.activation import (
    activation,
    activation_backward,
    cos,
    erf,
    exp,
    expm1,
    gelu,
    log,
    log1p,
    sigmoid,
    silu,
    sin,
    softmax,
    softmax_backward,
    softplus,
    tanh,
)
from ranvier.ops.augment import resample, resample_backward
from ranvier.ops.conv2d import (
    conv1d,
    conv1d_backward,
    conv1d_transpose,
    conv1d_transpose_backward,
    conv2d,
    conv2d_backward,
    conv2d_max_pool,
    conv2d_max_pool_backward,
    conv2d_transpose,
    conv2d_transpose_backward,
    depthwise_conv1d,
    depthwise_conv1d_backward,
    depthwise_conv2d,
    depthwise_conv2d_backward,
)
from ranvier.ops.data import affine, affine_backward, gather
from ranvier.ops.dense import dense, dense_backward
from ranvier.ops.dropout import dropout, dropout_backward
from ranvier.ops.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    mean_absolute_error,
    mean_squared_error,
    sparse_categorical_crossentropy,
)
from ranvier.ops.merge import (
    concatenate,
    concatenate_backward,
    dot,
    dot_backward,
    merge,
    merge_backward,
)
from ranvier.ops.norm import batch_normalization, batch_normalization_backward, moving_average
from ranvier.ops.optimizers import adam, rmsprop, sgd
from ranvier.ops.pool import average_pool, average_pool_backward, max_pool, max_pool_backward
from ranvier.ops.transpose import transpose

__all__ = [
    "activation",
    "activation_backward",
    "adam",
    "affine",
    "affine_backward",
    "average_pool",
    "average_pool_backward",
    "batch_normalization",
    "batch_normalization_backward",
    "binary_crossentropy",
    "categorical_crossentropy",
    "concatenate",
    "concatenate_backward",
    "conv1d",
    "conv1d_backward",
    "conv1d_transpose",
    "conv1d_transpose_backward",
    "conv2d",
    "conv2d_backward",
    "conv2d_max_pool",
    "conv2d_max_pool_backward",
    "conv2d_transpose",
    "conv2d_transpose_backward",
    "cos",
    "dense",
    "dense_backward",
    "depthwise_conv1d",
    "depthwise_conv1d_backward",
    "depthwise_conv2d",
    "depthwise_conv2d_backward",
    "dot",
    "dot_backward",
    "dropout",
    "dropout_backward",
    "erf",
    "exp",
    "expm1",
    "gather",
    "gelu",
    "log",
    "log1p",
    "max_pool",
    "max_pool_backward",
    "mean_absolute_error",
    "mean_squared_error",
    "merge",
    "merge_backward",
    "moving_average",
    "resample",
    "resample_backward",
    "rmsprop",
    "sgd",
    "sigmoid",
    "silu",
    "sin",
    "softmax",
    "softmax_backward",
    "softplus",
    "sparse_categorical_crossentropy",
    "tanh",
    "transpose",
]
