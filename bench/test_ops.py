"""Single functions beside NumPy and the peers that are installed. To add a case, add a line."""

from __future__ import annotations

import numpy as np
from works import (
    Adam,
    Crossentropy,
    Dense,
    Dropout,
    Elementwise,
    Gather,
    Product,
    ProductBackward,
    ProductByView,
    Products,
    Transpose,
    beside,
)

SQUARES = ((512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048))
# rows, inputs, outputs
LAYERS = (
    (2048, 384, 1536),
    (16384, 128, 128),
    (32, 6272, 128),
    (256, 784, 64),
    (64, 1024, 1024),
    (64, 64, 64),
    (32, 784, 64),
    *((rows, 784, 64) for rows in range(1, 9)),
    *((rows, 1024, 1024) for rows in (1, 2, 4, 8, 16, 32)),
    (1, 4096, 1024),
    (1, 2048, 2048),
    (12, 4096, 4096),
    (1, 10, 5),
)
SIZES = (8192, 1_000_000, 16_000_000)
FUNCTIONS = ("exp", "log", "sin", "tanh", "sigmoid", "erf", "gelu", "relu")


@beside(
    *(Product(*shape) for shape in (*SQUARES, (2048, 384, 1536))),
    Product(1024, 1024, 1024, np.float64),
    *(ProductByView(rows, 1024, 1024) for rows in (1, 4, 16, 64, 1024)),
)
def test_product(measure, work, who):
    measure(work, who)


@beside(Products(48, 256, 64, 256), Products(32, 128, 128, 32), Products(64, 1, 64, 256))
def test_products(measure, work, who):
    measure(work, who)


@beside(*(ProductBackward(*shape) for shape in (*SQUARES, *LAYERS)))
def test_product_backward(measure, work, who):
    measure(work, who)


@beside(*(Dense(*shape) for shape in (*SQUARES, *LAYERS)))
def test_dense(measure, work, who):
    measure(work, who)


@beside(*(Elementwise(function, size) for function in FUNCTIONS for size in SIZES))
def test_elementwise(measure, work, who):
    measure(work, who)


@beside(
    Transpose((1024, 1024), (1, 0)),
    Transpose((3000, 3000), (1, 0)),
    Transpose((32, 3, 64, 64), (0, 2, 3, 1)),
    Transpose((32, 28, 28, 64), (0, 3, 1, 2)),
    Transpose((128, 64, 512), (1, 0, 2)),
)
def test_transpose(measure, work, who):
    measure(work, who)


@beside(Crossentropy(4096, 1000))
def test_crossentropy(measure, work, who):
    measure(work, who)


@beside(Adam(1_000_000), Adam(20_000_000))
def test_adam(measure, work, who):
    measure(work, who)


@beside(Dropout(4_000_000))
def test_dropout(measure, work, who):
    measure(work, who)


@beside(Gather(32, 784))
def test_gather(measure, work, who):
    measure(work, who)
