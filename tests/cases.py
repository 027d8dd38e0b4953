"""Shapes, layouts and tolerances shared by the tests and the benchmarks. Does not import ranvier.

Shapes are chosen to break kernels: zero, one, primes, and one less and one more than the width of a
vector (16 float32 in 512 bits, 8 in 256, 4 in 128), so that every tail loop runs.
"""

from __future__ import annotations

import numpy as np

DTYPES = (np.float32, np.float64)

SIZES = (0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 1009)

# (rows, columns) for kernels along the last axis: softmax, losses, affine
ROW_SHAPES = (
    (0, 5), (1, 1), (1, 2), (3, 1), (2, 7), (5, 15), (7, 16), (4, 17), (3, 31), (2, 33),
    (13, 10), (17, 64), (32, 101), (3, 1000), (8, 1100),
)  # fmt: skip

# (M, K, N): x (M, K) times w (K, N)
DENSE_SHAPES = (
    (0, 5, 3), (3, 0, 4), (2, 3, 0), (1, 1, 1), (1, 7, 5), (2, 1, 16), (5, 17, 1), (6, 5, 64),
    (7, 13, 65), (15, 16, 17), (16, 31, 33), (17, 33, 15), (31, 15, 16), (33, 17, 31),
    (13, 601, 129), (1, 784, 10), (32, 784, 64),
)  # fmt: skip

# x (B, H, W, C), w (KH, KW, C / groups, F), options of conv2d
CONV_CASES = (
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    ((2, 5, 5, 1), (3, 3, 1, 32), {"padding": "same"}),
    ((1, 3, 2, 4), (3, 2, 4, 5), {}),  # one output
    ((2, 7, 7, 17), (3, 3, 17, 33), {"padding": "same"}),
    ((1, 14, 14, 32), (3, 3, 32, 64), {"padding": "same"}),
    ((2, 4, 61, 3), (3, 3, 3, 31), {"padding": "same"}),
    ((1, 23, 29, 3), (7, 7, 3, 64), {"padding": ((3, 3), (3, 3)), "strides": 2}),
    ((2, 11, 13, 5), (5, 5, 5, 7), {"padding": "same"}),
    ((2, 9, 8, 16), (3, 3, 16, 16), {"padding": "same", "strides": 2}),
    ((3, 6, 6, 65), (1, 1, 65, 31), {}),
    ((2, 9, 9, 15), (1, 1, 15, 33), {"strides": 2}),
    ((1, 2, 3, 3), (5, 5, 3, 4), {"padding": "same"}),  # a kernel larger than the image
    ((1, 3, 3, 2), (2, 2, 2, 3), {"padding": ((3, 4), (0, 5))}),  # outputs of zeros alone
    ((1, 12, 11, 3), (3, 3, 3, 5), {"dilation": (2, 3)}),
    ((2, 12, 11, 4), (3, 2, 4, 5), {"dilation": 2, "strides": (2, 3), "padding": "same"}),
    ((2, 9, 10, 4), (3, 3, 4, 5), {"dilation": (3, 2), "strides": (3, 4), "padding": "same"}),
    ((2, 6, 7, 6), (3, 3, 2, 9), {"groups": 3, "padding": "same"}),
    ((1, 8, 7, 32), (3, 3, 16, 34), {"groups": 2, "strides": 2}),
    ((2, 6, 7, 33), (3, 3, 1, 33), {"groups": 33, "padding": "same"}),
    ((2, 7, 6, 17), (3, 3, 1, 34), {"groups": 17, "padding": "same", "strides": 2}),
    ((1, 1, 300, 16), (1, 9, 16, 17), {"padding": "same"}),
    ((1, 1, 900, 1), (1, 31, 1, 300), {"padding": "same"}),  # few channels, in blocks of columns
    ((2, 21, 401, 3), (4, 5, 3, 37), {"padding": "same", "strides": (2, 3)}),
    ((3, 40, 29, 8), (3, 3, 8, 100), {"padding": ((0, 2), (2, 0))}),
    ((35, 5, 4, 9), (3, 3, 9, 70), {"padding": "same"}),  # many small images
    ((17, 6, 6, 20), (4, 4, 20, 36), {"padding": ((1, 1), (1, 1)), "strides": 2}),
    ((5, 31, 30, 9), (3, 3, 9, 6), {"padding": "same"}),  # sums in parts
)

# shapes of one parameter array, for optimizers
PARAMETER_SHAPES = (
    (0,), (1,), (7,), (15,), (16,), (17,), (33,), (3, 5), (31, 33), (2, 3, 4, 5), (4099,),
)  # fmt: skip

# (a, b) of merges: equal, and with axes of size 1 that are repeated
MERGE_SHAPES = (
    ((0, 5), (0, 5)), ((7,), (1,)), ((3, 17), (3, 17)), ((3, 17), (3, 1)), ((1, 17), (5, 1)),
    ((2, 5, 7, 33), (2, 1, 1, 33)), ((2, 1, 7, 1), (1, 5, 1, 3)), ((31, 301), (31, 301)),
    ((2, 3, 1, 5, 1, 2), (1, 3, 4, 1, 6, 2)), ((1, 1), (1, 1)), ((2, 700, 3), (1, 1, 3)),
)  # fmt: skip

# x (B, L, C) or (B, H, W, C), pool_size, strides, padding
POOL_CASES = (
    ((0, 4, 4, 3), 2, None, "valid"),
    ((1, 1, 1, 1), 1, None, "valid"),
    ((2, 8, 6, 16), 2, None, "valid"),
    ((2, 7, 9, 17), 2, None, "valid"),  # a row and a column that no window holds
    ((2, 7, 9, 33), 2, None, "same"),
    ((1, 11, 12, 5), 3, 2, "valid"),  # overlapping
    ((2, 11, 12, 15), 3, 2, "same"),
    ((2, 9, 8, 4), (2, 3), (3, 1), "valid"),  # gaps
    ((1, 9, 8, 31), (4, 1), (1, 5), "same"),
    ((1, 3, 2, 7), 5, 1, "same"),  # a window larger than the image
    ((2, 20, 19, 3), 17, 1, "valid"),  # places above 255
    ((1, 24, 16, 8), (24, 16), None, "valid"),  # the whole image
    ((3, 10, 6), 2, None, "valid"),
    ((2, 13, 17), 3, 2, "same"),
    ((2, 700, 1), 300, 100, "valid"),
    ((1, 5, 65), 4, 1, "same"),
)

# what a tier must get right (a handful: every tier runs them in a process of its own)
TIER_ROW_SHAPES = ((1, 1), (3, 7), (5, 16), (2, 33), (13, 101))
TIER_CONV_CASES = (
    ((2, 9, 15, 3), (3, 3, 3, 33), {"padding": "same"}),
    ((2, 8, 8, 17), (3, 3, 17, 16), {"padding": "same", "strides": 2}),
    ((1, 7, 9, 33), (3, 3, 1, 33), {"padding": "same", "groups": 33}),
    ((3, 6, 7, 16), (1, 1, 16, 31), {}),
    ((1, 9, 9, 4), (3, 2, 2, 6), {"groups": 2, "dilation": 2}),
    ((2, 11, 37, 3), (5, 4, 3, 17), {"padding": "same", "strides": (2, 3)}),
    ((2, 33, 31, 19), (3, 3, 19, 37), {"padding": "same"}),  # split among threads
    ((1, 10, 6, 66), (3, 3, 66, 70), {"padding": ((1, 2), (2, 0))}),
    ((9, 13, 11, 9), (3, 3, 9, 40), {"padding": "same"}),
    ((3, 13, 10, 19), (5, 5, 19, 37), {"padding": "same"}),
)
TIER_POOL_CASES = (
    ((2, 7, 9, 33), 2, None, "same"),
    ((2, 11, 12, 17), 3, 2, "same"),
    ((1, 18, 17, 3), 17, 1, "valid"),
    ((2, 40, 5), 4, 3, "valid"),
    ((4, 60, 61, 37), 2, None, "valid"),  # split among threads
)
TIER_DENSE_SHAPES = (
    (1, 1, 1), (1, 33, 17), (3, 257, 129), (7, 13, 65), (17, 301, 31), (32, 64, 64),
    (32, 1003, 67),
)  # fmt: skip


# ---- tolerances: one per class of kernel, not per call ---------------------------------------

# class -> (units of eps, whether small results are measured against the largest one)
TOLERANCES = {
    "copy": (0, False),  # moves and converts: bit for bit
    "elementwise": (8, False),  # a few multiplications and additions, results near one
    "transcendental": (16, False),  # exp, tanh, erf, log of one number
    "reduction": (16, True),  # sums along a row, `terms` long
    "product": (8, True),  # matrix products, `terms` deep
}


def tolerance(kind: str, dtype, terms: int = 1) -> float:
    """The relative error allowed: rounding of `terms` additions grows like a random walk."""
    units, _ = TOLERANCES[kind]
    relative = units * np.sqrt(max(terms, 1)) * np.finfo(dtype).eps
    return float(max(relative, 1e-12) if units and dtype == np.float64 else relative)


def assert_close(actual, expected, kind: str, *, dtype=None, terms: int = 1) -> None:
    """`actual` has `dtype` and the oracle's shape, and agrees within the tolerance of its class."""
    actual = np.asarray(actual)
    expected = np.asarray(expected)
    dtype = np.dtype(actual.dtype if dtype is None else dtype)
    assert actual.dtype == dtype, f"dtype {actual.dtype}, expected {dtype}"
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    relative = tolerance(kind, dtype.type, terms) if dtype.kind == "f" else 0.0
    scale = 1.0
    if TOLERANCES[kind][1]:
        scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    # denormal results may be flushed to zero
    absolute = relative * scale + (float(np.finfo(dtype).tiny) if relative else 0.0)
    np.testing.assert_allclose(actual, expected, rtol=relative, atol=absolute)


# ---- memory ----------------------------------------------------------------------------------

SEA = 67  # elements on either side; odd, so that what lies inside is off every vector alignment


def afloat(a: np.ndarray) -> np.ndarray:
    """A C-contiguous copy of `a` amid NaN, so that reading past its ends shows in the result."""
    sea = np.full(a.size + 2 * SEA, np.nan if a.dtype.kind == "f" else 77, dtype=a.dtype)
    inside = sea[SEA : SEA + a.size].reshape(a.shape)
    inside[...] = a
    return inside


class Output:
    """An `out=` array amid sentinels: `array` to hand over, `assert_intact()` afterwards."""

    def __init__(self, shape: tuple[int, ...], dtype) -> None:
        size = int(np.prod(shape))
        self.sea = np.full(size + 2 * SEA, 77, dtype=dtype)
        self.array = self.sea[SEA : SEA + size].reshape(shape)
        self.array[...] = 99  # never a value that the op would leave by chance

    def assert_intact(self) -> None:
        np.testing.assert_array_equal(self.sea[:SEA], 77)
        np.testing.assert_array_equal(self.sea[self.sea.size - SEA :], 77)


def _strided(a):
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1] + 1), 55, dtype=a.dtype)
    wide[..., 1::2] = a
    return wide[..., 1::2]


def _every_other_row(a):
    tall = np.full((2 * a.shape[0], *a.shape[1:]), 55, dtype=a.dtype)
    tall[::2] = a
    return tall[::2]


def _transposed(a):
    return np.ascontiguousarray(a.T).T


def _unaligned(a):
    raw = np.zeros(a.nbytes + 1, dtype=np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


# name -> function that returns an array of equal values, other memory
LAYOUTS = {
    "transposed": _transposed,
    "fortran": np.asfortranarray,
    "strided": _strided,
    "every_other_row": _every_other_row,
    "negative_strides": lambda a: a[::-1].copy()[::-1],
    "negative_columns": lambda a: a[..., ::-1].copy()[..., ::-1],
    "byte_swapped": lambda a: a.astype(a.dtype.newbyteorder("S")),
    "unaligned": _unaligned,
    "read_only": _read_only,
}


def bad_outputs(shape: tuple[int, ...], dtype):
    """Yield (why, array) that cannot be `out=` for a C-contiguous result of `shape` and `dtype`."""
    other = np.float64 if dtype == np.float32 else np.float32
    yield "shape", np.empty((*shape[:-1], shape[-1] + 1), dtype)
    yield "rank", np.empty((1, *shape), dtype)
    yield "dtype", np.empty(shape, other)
    yield "integer", np.empty(shape, np.int32)
    yield "strided", np.empty((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2]
    yield "fortran", np.empty(shape, dtype, order="F")
    yield "byte-swapped", np.empty(shape, np.dtype(dtype).newbyteorder("S"))
    yield "read-only", _read_only(np.empty(shape, dtype))
