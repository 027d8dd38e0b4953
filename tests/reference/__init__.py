"""Float64 oracles for `ranvier.ops`: the plainest correct NumPy, each backward beside its forward.

The files, names and argument orders are those of `ranvier.ops`, so a test calls both with the same
arguments. Every argument is converted to float64 first. Differences from the ops: there is no
`out=`, nothing is changed in place (optimizers return the new arrays), and the `y` handed to a
backward is not used, so that a wrong `y` cannot hide a wrong derivative.

`test_reference.py` compares every backward here with central differences of its forward.
"""

from reference.activation import (
    ACTIVATIONS,
    activation,
    activation_backward,
    sigmoid,
    softmax,
    softmax_backward,
)
from reference.augment import resample, resample_backward
from reference.conv2d import (
    conv1d,
    conv1d_backward,
    conv1d_transpose,
    conv1d_transpose_backward,
    conv2d,
    conv2d_backward,
    conv2d_transpose,
    conv2d_transpose_backward,
    conv_padding,
    depthwise_conv1d,
    depthwise_conv1d_backward,
    depthwise_conv2d,
    depthwise_conv2d_backward,
)
from reference.data import affine, affine_backward, gather
from reference.dense import dense, dense_backward, linear
from reference.dropout import dropout, dropout_backward
from reference.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    mean_absolute_error,
    mean_squared_error,
    one_hot,
    sparse_categorical_crossentropy,
)
from reference.merge import MERGES, concatenate_backward, dot, dot_backward, merge, merge_backward
from reference.norm import batch_normalization, batch_normalization_backward
from reference.optimizers import adam, clipped, rmsprop, sgd
from reference.pool import average_pool, average_pool_backward, max_pool, max_pool_backward
from reference.tensor import central_difference

__all__ = [
    "ACTIVATIONS",
    "MERGES",
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
    "central_difference",
    "clipped",
    "concatenate_backward",
    "conv1d",
    "conv1d_backward",
    "conv1d_transpose",
    "conv1d_transpose_backward",
    "conv2d",
    "conv2d_backward",
    "conv2d_transpose",
    "conv2d_transpose_backward",
    "conv_padding",
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
    "gather",
    "linear",
    "max_pool",
    "max_pool_backward",
    "mean_absolute_error",
    "mean_squared_error",
    "merge",
    "merge_backward",
    "one_hot",
    "resample",
    "resample_backward",
    "rmsprop",
    "sgd",
    "sigmoid",
    "softmax",
    "softmax_backward",
    "sparse_categorical_crossentropy",
]
