"""Data on their way in: checked arrays, and the buffers that recorded steps find them by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ranvier import _core

if TYPE_CHECKING:
    from ranvier.graph import SymbolicTensor

__all__ = ["Data", "Lane", "align_inputs", "as_rows", "check_labels", "input_arrays"]


class Data:
    """The arrays of a run and the order in which their rows are taken."""

    def __init__(self, x: list[np.ndarray], y: list[np.ndarray]) -> None:
        self.x, self.y = x, y
        self.rows = len(x[0])
        self.order: np.ndarray | None = None  # as they come
        # What a recorded step depends on.
        self.same = tuple(a.shape == x[0].shape and _same_memory(a, x[0]) for a in y)
        self.key = (self.same, *((a.dtype.char, a.shape[1:]) for a in (*x, *y)))

    def rows_in(self, size: int) -> int:
        """How many rows of x are about `size` bytes as float32: from 32 to 1024."""
        row = sum(4 * math.prod(a.shape[1:]) for a in self.x)
        return min(max(size // max(row, 1), 32), 1024)

    def batches(self, size: int) -> list[tuple[int, int]]:
        """(rows, how many such batches) for an epoch; the last batch may be smaller."""
        full, rest = divmod(self.rows, size)
        return [(rows, n) for rows, n in ((size, full), (rest, 1)) if rows and n]


class Lane:
    """Where one kind of step reads and writes: buffers that are pointed at a run's arrays.

    Training, evaluation and prediction have a lane each, so that a callback may evaluate or predict
    in the middle of an epoch.

    Args:
        in_order: whether rows always come as they are: their first reader may find them in place.
    """

    def __init__(self, in_order: bool) -> None:
        self.in_order = in_order
        self.feed = _core.Buffer((2,), "int64")  # the order of the rows, and the place in it
        self._sources: dict[tuple[str, int], Any] = {}
        self.data: Data | None = None
        self.results: Sequence[np.ndarray] = ()

    def source(self, kind: str, i: int) -> Any:
        """The i-th array of x, of y, or of the results."""
        found = self._sources.get((kind, i))
        if found is None:
            found = self._sources[kind, i] = _core.Buffer((2,), "int64")
        return found

    def point(self, data: Data, results: Sequence[np.ndarray] = ()) -> None:
        """Begin a run, or an epoch, at the first row of its order."""
        assert data.order is None or not self.in_order
        self.data, self.results = data, results  # alive as long as the pointers are in use
        _core.point_feed(self.feed, data.order)
        for kind, arrays in (("x", data.x), ("y", data.y), ("result", results)):
            for i, a in enumerate(arrays):
                _core.point_source(self.source(kind, i), a)

    def release(self) -> None:
        """The run is over: its arrays are the user's alone again."""
        self.data, self.results = None, ()

    def batch(self, kind: str, i: int, rows: int, dtype: str) -> Any:
        """The next rows of an array, converted."""
        assert self.data is not None
        a = (self.data.x if kind == "x" else self.data.y)[i]
        shape = (rows, *a.shape[1:])
        return _core.gather_batch(
            self.source(kind, i), self.feed, a.dtype, shape, dtype, self.in_order
        )

    def same_batch(self, i: int, x: Any, dtype: str) -> Any:
        """The batch x, where the i-th array of y is the array that x was gathered from."""
        assert self.data is not None
        single = len(self.data.x) == 1
        return x if single and self.data.same[i] and x.dtype == dtype else None

    def advance(self, rows: int) -> None:
        _core.advance(self.feed, rows)


def _same_memory(a: np.ndarray, b: np.ndarray) -> bool:
    place = a.__array_interface__, b.__array_interface__
    return place[0]["data"] == place[1]["data"] and a.strides == b.strides and a.dtype == b.dtype


def as_rows(what: str, name: str, a: Any) -> np.ndarray:
    """An array of numbers whose rows the engine can gather: C-contiguous, in native byte order."""
    if a is None:
        raise TypeError(f"[{what}] {name} is None: give an array")
    if not isinstance(a, np.ndarray):
        if callable(getattr(a, "__next__", None)):
            raise TypeError(f"[{what}] {name} is a generator; give arrays")
        try:
            a = np.asarray(a)
        except ValueError as error:
            raise ValueError(f"[{what}] {name} is not a rectangular array: {error}") from None
        if a.dtype == np.float64:
            a = a.astype(np.float64, copy=False)
    if a.dtype.kind not in "biuf" or a.dtype.itemsize > 8:
        raise TypeError(
            f"[{what}] {name} has dtype {a.dtype}; use numbers (bool, integer or float)"
        )
    if a.dtype == np.float16:
        a = a.astype(np.float32)
    # The engine gathers rows wherever they lie, also from a file: only a row itself must be in one
    # piece, and its numbers in native order.
    plain = a.dtype.isnative and a.flags.aligned and (a.ndim < 2 or a[:1].flags.c_contiguous)
    return a if plain or not a.ndim else np.ascontiguousarray(a, a.dtype.newbyteorder("="))


def input_arrays(
    what: str, model: str, x: Any, inputs: Sequence[SymbolicTensor] | None
) -> list[np.ndarray]:
    """The user's x as one array for each input, with equally many rows.

    Args:
        inputs: the model's; None while it does not know them.
    """
    if isinstance(x, Mapping):
        if inputs is None:
            raise ValueError(f"[{what}] a dict of inputs needs a model made of named Inputs")
        names = [t.name for t in inputs]
        missing = [name for name in names if name not in x]
        if missing or len(x) != len(names):
            raise ValueError(f"[{what}] x has keys {list(x)} but the inputs are {names}")
        x = [x[name] for name in names]
    arrays = [as_rows(what, "x", a) for a in (x if isinstance(x, (list, tuple)) else [x])]
    if isinstance(x, list) and x and (inputs is None or len(inputs) == 1):
        # Its items are rows if they have too few axes to be inputs; an array alone is an input.
        rank = 2 if inputs is None else len(inputs[0].shape)
        single = isinstance(x[0], np.ndarray) and (inputs is None or len(x) == 1)
        if arrays[0].ndim < rank and not single:
            arrays = [as_rows(what, "x", x)]
    if not arrays:
        raise ValueError(f"[{what}] x is empty: at least one row is needed")
    if inputs is not None and len(arrays) != len(inputs):
        many = len(inputs) > 1
        raise ValueError(
            f"[{what}] {model} has inputs {[t.name for t in inputs]} but {len(arrays)} "
            f"array{'s were' if len(arrays) > 1 else ' was'} given: "
            f"{f'give a list or dict of {len(inputs)}' if many else 'merge them into one'}"
        )
    for a in arrays:
        if a.ndim == 0:
            raise ValueError(f"[{what}] x must have rows; received a single number")
        if len(a) != len(arrays[0]):
            raise ValueError(
                f"[{what}] the inputs have different numbers of rows: {[len(b) for b in arrays]}"
            )
    if len(arrays[0]) == 0:
        raise ValueError(
            f"[{what}] x is empty: it has shape {arrays[0].shape}; at least one row is needed"
        )
    return arrays


def align_inputs(
    what: str, model: str, arrays: list[np.ndarray], inputs: Sequence[SymbolicTensor]
) -> list[np.ndarray]:
    """The arrays in the shapes of the inputs: a last axis of 1 may be missing."""
    aligned = []
    for i, (a, tensor) in enumerate(zip(arrays, inputs, strict=True)):
        shape = tensor.shape
        if a.ndim == len(shape) - 1 and shape[-1] == 1:
            a = a[..., None]
        fits = a.ndim == len(shape) and all(
            d is None or d == n for d, n in zip(shape[1:], a.shape[1:], strict=True)
        )
        if not fits:
            hint = ""
            if a.ndim == len(shape) - 1 and a.shape == tuple(shape[1:]):
                hint = ": for one row use x[None]"
            which = "x" if len(inputs) == 1 else f"x[{i}], for input {tensor.name!r},"
            raise ValueError(
                f"[{what}] {which} has shape {a.shape} but {model} needs {shape}{hint}"
            )
        aligned.append(a)
    return aligned


def check_labels(name: str, labels: np.ndarray, classes: int | None) -> None:
    """Raise ValueError unless labels are whole numbers from 0 to classes - 1."""
    if labels.dtype.kind == "f" and not np.all(labels == np.floor(labels)):
        raise ValueError(f"[{name}] labels must be whole numbers; y has dtype {labels.dtype}")
    low, high = labels.min(), labels.max()
    if classes is not None and (low < 0 or high >= classes):
        bad = low if low < 0 else high
        raise ValueError(
            f"[{name}] label {bad} is out of range: the model has {classes} outputs, so labels go "
            f"from 0 to {classes - 1}"
        )
