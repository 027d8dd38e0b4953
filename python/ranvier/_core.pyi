"""The compiled module: kernels behind checks, the engine's buffers and programs.

`ranvier.ops` documents the functions that people call; the others are what layers, losses,
optimizers and the training loop are made of.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

# An ndarray or a Buffer. The first argument decides which of the two a function returns.
_Tensor = Any

compiler: str

# ---- what runs -----------------------------------------------------------------------------------

def isa() -> str: ...
def kernel_isa() -> str: ...
def supported_isas() -> list[str]: ...
def threads() -> int: ...
def set_threads(count: int) -> None: ...
def winograd() -> str: ...
def set_winograd(use: str) -> None: ...  # "never", "auto" or "always", wherever it can be used

# ---- buffers and programs ------------------------------------------------------------------------

class Buffer:
    """An array of the engine's: what layers pass to one another."""

    # No gradient is wanted: the batch, and what depends on nothing trainable.
    constant: bool
    # Of a variable that is being trained: where this step's gradient is gathered.
    gradient: Buffer | None

    def __init__(self, shape: Sequence[int], dtype: DTypeLike) -> None: ...
    @staticmethod
    def from_array(array: ArrayLike, dtype: DTypeLike | None = None) -> Buffer: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def ndim(self) -> int: ...
    @property
    def gradient_started(self) -> bool: ...
    @property
    def updated(self) -> bool: ...
    def numpy(self) -> NDArray[Any]: ...
    def view(self) -> NDArray[Any]: ...
    def assign(self, value: ArrayLike) -> None: ...
    def part(self, offset: int, shape: Sequence[int]) -> Buffer: ...
    def move_to(self, arena: Buffer, offset: int) -> None: ...
    def reshape(self, shape: Sequence[int]) -> Buffer: ...
    def __len__(self) -> int: ...
    # These three refuse: NumPy cannot work on a Buffer.
    def __array__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __array_function__(self, *args: Any, **kwargs: Any) -> Any: ...

class Pool:
    """The memory that a model's programs share."""

    def __init__(self) -> None: ...
    @property
    def bytes(self) -> int: ...

class Program:
    """A step of work, recorded once and repeated without Python."""

    def __init__(self, pool: Pool) -> None: ...
    def begin(self) -> None: ...
    def end(self) -> None: ...
    def run(self, steps: int, seconds: float) -> int: ...
    @property
    def measured(self) -> tuple[float, float]: ...
    @property
    def plan(self) -> list[tuple[float, int, int, bool]]: ...
    def __len__(self) -> int: ...

class Caller:
    """A prediction program applied to one array; None where the array is of another kind."""

    def __init__(
        self,
        program: Program,
        source: Buffer,
        feed: Buffer,
        target: Buffer,
        input_dtype: DTypeLike,
        input_shape: Sequence[int],
        output_dtype: DTypeLike,
        output_shape: Sequence[int],
        /,
    ) -> None: ...
    def __call__(self, x: NDArray[Any], /) -> NDArray[Any] | None: ...

def cut_above(nanoseconds: float) -> float: ...
def recording() -> bool: ...
def set_mode(mode: str) -> None: ...
def share_above(nanoseconds: float) -> float: ...
def submit_python(function: Callable[[], object], /) -> None: ...

# ---- dense, activation ---------------------------------------------------------------------------

def dense(
    x: _Tensor,
    w: _Tensor,
    b: _Tensor | None,
    activation: str,
    alpha: float | None,
    out: _Tensor | None,
    /,
) -> Any: ...
def dense_backward(
    dy: _Tensor,
    x: _Tensor,
    y: _Tensor | None,
    w: _Tensor,
    b: _Tensor | None,
    activation: str,
    alpha: float | None,
    out: Sequence[_Tensor | None] | None,
    /,
) -> Any: ...
def activation(x: _Tensor, name: str, alpha: float | None, out: _Tensor | None, /) -> Any: ...
def activation_backward(
    dy: _Tensor,
    x: _Tensor | None,
    y: _Tensor | None,
    name: str,
    alpha: float | None,
    out: _Tensor | None,
    /,
) -> Any: ...
def function(x: _Tensor, name: str, out: _Tensor | None, /) -> Any: ...
def softmax(x: _Tensor, out: _Tensor | None, /) -> Any: ...
def softmax_backward(dy: _Tensor, y: _Tensor, out: _Tensor | None, /) -> Any: ...

# ---- data ----------------------------------------------------------------------------------------

def gather(
    source: _Tensor,
    indices: NDArray[Any],
    dtype: np.dtype[Any] | None,
    out: _Tensor | None,
    /,
) -> Any: ...
def gather_batch(
    source: Buffer,
    feed: Buffer,
    source_dtype: DTypeLike,
    shape: Sequence[int],
    dtype: DTypeLike,
    in_order: bool,
    /,
) -> Buffer: ...
def scatter_batch(x: Buffer, target: Buffer, feed: Buffer, /) -> None: ...
def point_source(source: Buffer, array: NDArray[Any], /) -> None: ...
def point_feed(feed: Buffer, order: _Tensor | None, /) -> None: ...
def advance(feed: Buffer, step: int, /) -> None: ...
def cast(x: _Tensor, dtype: DTypeLike, /) -> Any: ...
def normalization(
    mean: _Tensor, variance: _Tensor, columns: int, invert: bool, /
) -> tuple[Any, Any]: ...
def affine(
    x: _Tensor, scale: _Tensor | None, offset: _Tensor | None, out: _Tensor | None, /
) -> Any: ...
def affine_backward(dy: _Tensor, scale: _Tensor | None, out: _Tensor | None, /) -> Any: ...
def add(a: _Tensor, b: _Tensor, /) -> Any: ...

# ---- gradients -----------------------------------------------------------------------------------

def add_gradients(y: Buffer, a: Buffer, b: Buffer, /) -> Buffer: ...
def add_to_gradient(variable: Buffer, value: Buffer, /) -> None: ...
def scale_gradient(dy: Buffer, factor: float, /) -> Buffer: ...

# ---- dropout -------------------------------------------------------------------------------------

def draw(state: Buffer, /) -> Buffer: ...
def dropout(x: _Tensor, rate: float, key: _Tensor, out: _Tensor | None, /) -> Any: ...
def dropout_backward(dy: _Tensor, rate: float, key: _Tensor, out: _Tensor | None, /) -> Any: ...

# ---- losses: a float (with the gradient: a pair) for arrays, a pair for Buffers ------------------

def mean_squared_error(
    y_true: _Tensor, y_pred: _Tensor, from_logits: bool, gradient: bool, /
) -> Any: ...
def mean_absolute_error(
    y_true: _Tensor, y_pred: _Tensor, from_logits: bool, gradient: bool, /
) -> Any: ...
def binary_crossentropy(
    y_true: _Tensor, y_pred: _Tensor, from_logits: bool, gradient: bool, /
) -> Any: ...
def categorical_crossentropy(
    y_true: _Tensor, y_pred: _Tensor, from_logits: bool, gradient: bool, /
) -> Any: ...
def sparse_categorical_crossentropy(
    y_true: _Tensor, y_pred: _Tensor, from_logits: bool, gradient: bool, /
) -> Any: ...
def weight_penalty(variable: Buffer, l1: float, l2: float, /) -> Buffer: ...
def activity_penalty(y: Buffer, l1: float, l2: float, /) -> tuple[Buffer, Buffer]: ...

# ---- metrics -------------------------------------------------------------------------------------

def accumulate(sums: _Tensor, value: _Tensor, weight: float, /) -> None: ...
def binary_accuracy(
    sums: _Tensor, y_true: _Tensor, y_pred: _Tensor, threshold: float, /
) -> None: ...
def categorical_accuracy(sums: _Tensor, y_true: _Tensor, y_pred: _Tensor, /) -> None: ...
def sparse_categorical_accuracy(sums: _Tensor, y_true: _Tensor, y_pred: _Tensor, /) -> None: ...

# ---- optimizers: in place ------------------------------------------------------------------------

def clip_by_value(g: Buffer, limit: float, /) -> None: ...
def clip_by_norm(gradients: Sequence[Buffer], limit: float, /) -> None: ...
def tick(state: _Tensor, beta_1: float, beta_2: float, rates: _Tensor | None = None, /) -> None: ...
def sgd(
    p: _Tensor,
    g: _Tensor,
    velocity: _Tensor | None,
    state: _Tensor,
    momentum: float,
    nesterov: bool,
    keep: bool = False,
    weight_decay: float = 0.0,
) -> None: ...
def rmsprop(
    p: _Tensor,
    g: _Tensor,
    v: _Tensor,
    velocity: _Tensor | None,
    state: _Tensor,
    rho: float,
    momentum: float,
    epsilon: float,
    keep: bool = False,
    weight_decay: float = 0.0,
) -> None: ...
def adam(
    p: _Tensor,
    g: _Tensor,
    m: _Tensor,
    v: _Tensor,
    state: _Tensor,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    keep: bool = False,
    weight_decay: float = 0.0,
) -> None: ...

# ---- merge ---------------------------------------------------------------------------------------

def merge(a: _Tensor, b: _Tensor, how: str, out: _Tensor | None, /) -> Any: ...
def merge_backward(
    dy: _Tensor, a: _Tensor, b: _Tensor, how: str, out: Sequence[_Tensor | None] | None, /
) -> tuple[Any, Any]: ...
def sum_over(x: _Tensor, shape: Sequence[int], /) -> Any: ...
def concatenate(xs: Sequence[_Tensor], axis: int, out: _Tensor | None, /) -> Any: ...
def concatenate_backward(dy: _Tensor, xs: Sequence[_Tensor], axis: int, /) -> list[Any]: ...
def dot(a: _Tensor, b: _Tensor, a_axis: int, b_axis: int, out: _Tensor | None, /) -> Any: ...
def dot_backward(
    dy: _Tensor, a: _Tensor, b: _Tensor, a_axis: int, b_axis: int, /
) -> tuple[Any, Any]: ...

# ---- convolution (groups: conv1d and conv2d; output_padding: the transposed ones) ----------------

def conv1d(
    x: _Tensor,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    output_padding: int | Sequence[int] | None,
    activation: str,
    alpha: float | None,
    out: _Tensor | None,
    /,
) -> Any: ...
def conv1d_backward(
    dy: _Tensor,
    x: _Tensor,
    y: _Tensor | None,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    output_padding: int | Sequence[int] | None,
    activation: str,
    alpha: float | None,
    out: Sequence[_Tensor | None] | None,
    /,
) -> Any: ...
def conv2d(
    x: _Tensor,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    output_padding: int | Sequence[int] | None,
    activation: str,
    alpha: float | None,
    out: _Tensor | None,
    /,
) -> Any: ...
def conv2d_backward(
    dy: _Tensor,
    x: _Tensor,
    y: _Tensor | None,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    output_padding: int | Sequence[int] | None,
    activation: str,
    alpha: float | None,
    out: Sequence[_Tensor | None] | None,
    /,
) -> Any: ...
def conv2d_max_pool(
    x: _Tensor,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    activation: str,
    out: _Tensor | None,
    /,
) -> Any: ...
def conv2d_max_pool_backward(
    dy: _Tensor,
    x: _Tensor,
    y: _Tensor | None,
    where: _Tensor,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    activation: str,
    out: Sequence[_Tensor | None] | None,
    /,
) -> Any: ...
def depthwise_conv1d(
    x: _Tensor,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    output_padding: int | Sequence[int] | None,
    activation: str,
    alpha: float | None,
    out: _Tensor | None,
    /,
) -> Any: ...
def depthwise_conv1d_backward(
    dy: _Tensor,
    x: _Tensor,
    y: _Tensor | None,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    output_padding: int | Sequence[int] | None,
    activation: str,
    alpha: float | None,
    out: Sequence[_Tensor | None] | None,
    /,
) -> Any: ...
def depthwise_conv2d(
    x: _Tensor,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    output_padding: int | Sequence[int] | None,
    activation: str,
    alpha: float | None,
    out: _Tensor | None,
    /,
) -> Any: ...
def depthwise_conv2d_backward(
    dy: _Tensor,
    x: _Tensor,
    y: _Tensor | None,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    output_padding: int | Sequence[int] | None,
    activation: str,
    alpha: float | None,
    out: Sequence[_Tensor | None] | None,
    /,
) -> Any: ...
def conv1d_transpose(
    x: _Tensor,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    output_padding: int | Sequence[int] | None,
    activation: str,
    alpha: float | None,
    out: _Tensor | None,
    /,
) -> Any: ...
def conv1d_transpose_backward(
    dy: _Tensor,
    x: _Tensor,
    y: _Tensor | None,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    output_padding: int | Sequence[int] | None,
    activation: str,
    alpha: float | None,
    out: Sequence[_Tensor | None] | None,
    /,
) -> Any: ...
def conv2d_transpose(
    x: _Tensor,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    output_padding: int | Sequence[int] | None,
    activation: str,
    alpha: float | None,
    out: _Tensor | None,
    /,
) -> Any: ...
def conv2d_transpose_backward(
    dy: _Tensor,
    x: _Tensor,
    y: _Tensor | None,
    w: _Tensor,
    b: _Tensor | None,
    strides: int | Sequence[int],
    padding: str | Sequence[Any],
    dilation: int | Sequence[int],
    groups: int,
    output_padding: int | Sequence[int] | None,
    activation: str,
    alpha: float | None,
    out: Sequence[_Tensor | None] | None,
    /,
) -> Any: ...

# ---- transpose -----------------------------------------------------------------------------------

def transpose(x: _Tensor, axes: Sequence[int], out: _Tensor | None, /) -> Any: ...

# ---- yardsticks of benchmarks --------------------------------------------------------------------

def peak(y: NDArray[Any], steps: int, start: float, factor: float, offset: float, /) -> int: ...
def triad(a: _Tensor, b: _Tensor, scale: float, passes: int, out: _Tensor | None, /) -> Any: ...

# ---- pooling -------------------------------------------------------------------------------------

_Sizes = int | Sequence[int]

def max_pool(
    x: _Tensor,
    pool_size: _Sizes,
    strides: _Sizes | None,
    padding: str,
    argmax: bool,
    out: _Tensor | None,
    /,
) -> Any: ...
def max_pool_backward(
    dy: _Tensor,
    x: _Tensor,
    y: _Tensor | None,
    where: _Tensor,
    pool_size: _Sizes,
    strides: _Sizes | None,
    padding: str,
    out: _Tensor | None,
    /,
) -> Any: ...
def average_pool(
    x: _Tensor,
    pool_size: _Sizes,
    strides: _Sizes | None,
    padding: str,
    out: _Tensor | None,
    /,
) -> Any: ...
def average_pool_backward(
    dy: _Tensor,
    x: _Tensor,
    pool_size: _Sizes,
    strides: _Sizes | None,
    padding: str,
    out: _Tensor | None,
    /,
) -> Any: ...

# ---- augment -------------------------------------------------------------------------------------

def resample(
    x: _Tensor,
    matrices: _Tensor,
    size: Sequence[int],
    interpolation: str,
    fill_mode: str,
    fill_value: float,
    out: _Tensor | None,
    /,
) -> Any: ...
def resample_backward(
    dy: _Tensor,
    matrices: _Tensor,
    shape: Sequence[int],
    interpolation: str,
    fill_mode: str,
    out: _Tensor | None,
    /,
) -> Any: ...
def draw_moves(
    key: _Tensor,
    move: str,
    images: int,
    size: Sequence[int],
    out_size: Sequence[int],
    bounds: Sequence[float],
    together: bool,
    /,
) -> Buffer: ...
def draw_uniform(
    key: _Tensor, shape: Sequence[int], dtype: DTypeLike, low: float, high: float, /
) -> Buffer: ...

# ---- batch normalization -------------------------------------------------------------------------

def batch_norm(
    x: _Tensor,
    gamma: _Tensor | None,
    beta: _Tensor | None,
    mean: _Tensor | None,
    variance: _Tensor | None,
    epsilon: float,
    activation: str,
    out: _Tensor | None,
    /,
) -> tuple[Any, Any]: ...
def batch_norm_backward(
    dy: _Tensor,
    x: _Tensor,
    statistics: _Tensor,
    gamma: _Tensor | None,
    beta: _Tensor | None,
    given: bool,
    activation: str,
    out: Any,
    /,
) -> Any: ...
def batch_norm_affine(
    gamma: Buffer | None,
    beta: Buffer | None,
    mean: Buffer,
    variance: Buffer,
    epsilon: float,
    /,
) -> tuple[Buffer, Buffer]: ...
def moving_average(moving: _Tensor, value: _Tensor, momentum: float, /) -> None: ...
