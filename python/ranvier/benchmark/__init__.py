"""What `python -m ranvier bench` measures: kernels beside NumPy and beside the machine's limits.

A `Work` is one piece of work with its arrays: how many flops it takes or bytes it moves, and a
method for each library that does it. No work is timed before its answer was compared with NumPy's.
`WORKS` is the table of what the command measures; a line more there is a line more in its output.
"""

from ranvier.benchmark.machine import SETTLE, Machine, ratio_of, rounds_of, seconds_of
from ranvier.benchmark.table import (
    HEADER,
    Row,
    draw_bars,
    line_of,
    rate_text,
    rows_of,
    save,
    time_text,
)
from ranvier.benchmark.works import (
    QUICK,
    WORKS,
    Adam,
    Crossentropy,
    Dense,
    Dropout,
    Elementwise,
    Gather,
    Product,
    ProductBackward,
    Work,
    normal,
)

__all__ = [
    "HEADER",
    "QUICK",
    "SETTLE",
    "WORKS",
    "Adam",
    "Crossentropy",
    "Dense",
    "Dropout",
    "Elementwise",
    "Gather",
    "Machine",
    "Product",
    "ProductBackward",
    "Row",
    "Work",
    "draw_bars",
    "line_of",
    "normal",
    "rate_text",
    "ratio_of",
    "rounds_of",
    "rows_of",
    "save",
    "seconds_of",
    "time_text",
]
