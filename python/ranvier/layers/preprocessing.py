"""Layers that scale data on their way in: y = x * scale + offset."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ranvier import _core, ops
from ranvier.layers.base import Layer, Shape

__all__ = ["Normalization", "Rescaling"]


class Rescaling(Layer):
    """y = x * scale + offset, as 1/255 for pixels.

    Args:
        scale, offset: numbers.

    Output of the input's shape.
    """

    single_input = True

    def __init__(self, scale: float, offset: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.offset = float(scale), float(offset)

    def forward(self, x, *, training=False):
        def backward(dy):
            return ops.affine_backward(dy, self.scale)

        return ops.affine(x, self.scale, self.offset), backward

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}


class Normalization(Layer):
    """y = (x - mean) / standard deviation, of data seen before by `adapt`.

    Args:
        axis: -1: a mean and a deviation for each column; None: one of each for everything.
        mean, variance: given instead of adapted; numbers or one for each column.
        invert: undo it: y = x * standard deviation + mean.

    Output of the input's shape.
    """

    single_input = True

    def __init__(
        self,
        axis: int | None = -1,
        mean: ArrayLike | None = None,
        variance: ArrayLike | None = None,
        invert: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if axis not in (-1, None):
            raise ValueError(f"[Normalization] axis must be -1 or None; received {axis!r}")
        if (mean is None) != (variance is None):
            raise ValueError("[Normalization] mean and variance must be given together")
        self.axis, self.invert = axis, bool(invert)
        self.given = None if mean is None else (np.asarray(mean), np.asarray(variance))
        if self.given is not None and not np.all(self.given[1] >= 0):
            raise ValueError(
                f"[Normalization] variance must not be negative; received {variance!r}"
            )

    def build(self, input_shape: Shape) -> None:
        columns = input_shape[-1] if self.axis == -1 else 1
        if columns is None:
            raise ValueError(f"[{self.name}] the number of columns must be known: {input_shape}")
        for given in self.given or ():
            if given.shape not in ((), (1,), (columns,)):
                raise ValueError(
                    f"[{self.name}] mean and variance must be numbers, or have a value for each of "
                    f"{columns} columns; received shape {given.shape}"
                )
        self.mean = self.add_weight((columns,), "zeros", name="mean", trainable=False)
        self.variance = self.add_weight((columns,), "ones", name="variance", trainable=False)
        if self.given is not None:
            self._set(*self.given)

    def _set(self, mean: np.ndarray, variance: np.ndarray) -> None:
        self.mean.assign(np.broadcast_to(mean, self.mean.shape))
        self.variance.assign(np.broadcast_to(variance, self.variance.shape))

    def adapt(self, data: ArrayLike) -> None:
        """Take mean and variance from data.

        Args:
            data: (rows, ..., columns), at least one row.

        Raises:
            ValueError: if data are empty or have another number of columns.
        """
        data = np.asarray(data)
        if data.size == 0:
            raise ValueError(f"[{self.name}] adapt needs data; received shape {data.shape}")
        self.ensure_built((None, *data.shape[1:]))
        axes = tuple(range(data.ndim - 1)) if self.axis == -1 else None
        mean, variance = data.mean(axes, np.float64), data.var(axes, np.float64)
        if self.axis == -1 and mean.shape != self.mean.shape:
            raise ValueError(
                f"[{self.name}] the layer has {self.mean.shape[0]} columns but the data given to "
                f"adapt have shape {data.shape}"
            )
        self._set(mean, variance)

    def forward(self, x, *, training=False):
        # A deviation below 1e-7 counts as 1e-7, as in Keras.
        scale, offset = _core.normalization(self.mean, self.variance, x.shape[-1], self.invert)

        def backward(dy):
            return ops.affine_backward(dy, scale)

        return ops.affine(x, scale, offset), backward

    def get_config(self) -> dict[str, Any]:
        given = self.given or (None, None)
        return {
            **super().get_config(),
            "axis": self.axis,
            "mean": None if given[0] is None else given[0].tolist(),
            "variance": None if given[1] is None else given[1].tolist(),
            "invert": self.invert,
        }
