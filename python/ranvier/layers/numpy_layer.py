"""NumpyLayer: a layer written in NumPy, which recorded steps call back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranvier._core import Buffer, add_to_gradient, submit_python
from ranvier.layers.base import Backward, Layer
from ranvier.variables import Variable

__all__ = ["NumpyLayer"]


class NumpyLayer(Layer):
    """A layer written in NumPy: `forward` and its backward are given arrays and return arrays.

        class Square(NumpyLayer):
            def forward(self, x, *, training=False):
                def backward(dy):
                    return 2 * x * dy
                return x * x, backward

    To train a variable, made by `add_weight`, add its gradient in backward with
    `self.add_gradient(variable, array)`.
    """

    def _forward_buffers(self, x: Any, training: bool) -> tuple[Any, Backward]:
        many = isinstance(x, (list, tuple))
        xs: list[Buffer] = list(x) if many else [x]
        ys: list[Buffer] = []
        kept: dict[str, Any] = {}

        # Each of the two is part of the step as a call back into Python.
        def run_forward() -> None:
            arrays = [_read_only(b.view()) for b in xs]
            y, kept["backward"] = self.forward(arrays if many else arrays[0], training=training)
            kept["several"] = isinstance(y, (list, tuple))
            results = [np.asarray(a) for a in (y if kept["several"] else [y])]
            if not ys:
                ys.extend(Buffer(a.shape, self.dtype) for a in results)
            for b, a in zip(ys, results, strict=True):
                b.assign(a)

        submit_python(run_forward)
        if not self.trainable_weights:
            for b in ys:
                b.constant = all(b.constant for b in xs)

        def backward(dy: Any) -> Any:
            dys: list[Any] = list(dy) if kept["several"] else [dy]
            dxs = [None if b.constant else Buffer(b.shape, b.dtype) for b in xs]
            trained = [v for v in self._variables if v.gradient is not None]
            gradients = [Buffer(v.shape, v.dtype) for v in trained]

            def run_backward() -> None:
                arrays = [
                    np.zeros(b.shape, self.dtype) if d is None else _read_only(d.view())
                    for d, b in zip(dys, ys, strict=True)
                ]
                self._gathered = {id(v): np.zeros(v.shape, v.dtype) for v in trained}
                dx = kept["backward"](arrays if kept["several"] else arrays[0])
                for b, d in zip(dxs, dx if many else [dx], strict=True):
                    if b is not None:
                        self._take_gradient(b, d)
                for v, g in zip(trained, gradients, strict=True):
                    g.assign(self._gathered[id(v)])

            submit_python(run_backward)
            for v, g in zip(trained, gradients, strict=True):
                add_to_gradient(v, g)
            return dxs if many else dxs[0]

        return (ys if kept["several"] else ys[0]), backward

    def _take_gradient(self, b: Buffer, d: Any) -> None:
        if d is None:
            d = np.zeros(b.shape, b.dtype)
        if np.shape(d) != b.shape:
            raise ValueError(
                f"[{self.name}] backward returned a gradient of shape {np.shape(d)} for an input "
                f"of shape {b.shape}"
            )
        b.assign(d)

    def forward(self, x: Any, *, training: bool = False) -> tuple[Any, Backward]:
        raise NotImplementedError(f"[{self.name}] {type(self).__name__} must define forward")

    def add_gradient(self, variable: Variable, value: Any) -> None:
        """Add to a variable's gradient, in backward.

        Raises:
            ValueError: if the shapes differ.
        """
        if np.shape(value) != variable.shape:
            raise ValueError(
                f"[{self.name}] the gradient of {variable.path} has shape {np.shape(value)} but "
                f"the variable has {variable.shape}"
            )
        if id(variable) in self._gathered:  # else it is not being trained
            self._gathered[id(variable)] += value


def _read_only(a: np.ndarray) -> np.ndarray:
    a.flags.writeable = False
    return a
