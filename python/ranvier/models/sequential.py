"""Sequential: one layer after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ranvier.graph import SymbolicTensor
from ranvier.layers.base import Layer, unique_name
from ranvier.layers.input import InputLayer
from ranvier.models.model import Model, make_layer

__all__ = ["Sequential"]


class Sequential(Model):
    """A stack of layers.

    It is built at once when it begins with an `Input` (or its first layer has `input_shape`), else
    on the first data, or by `build`.

    Args:
        layers: the layers, perhaps with an Input first.
        name: made from the class's name if None.
    """

    def __init__(
        self, layers: Sequence[Any] | None = None, *, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name or unique_name("sequential"), **kwargs)
        self._stack: list[Layer] = []
        self._begin: InputLayer | None = None
        for layer in layers or []:
            self.add(layer)

    @property
    def functional(self) -> bool:
        return True

    @property
    def layers(self) -> list[Layer]:
        return list(self._stack)

    def add(self, layer: Any) -> None:
        """Put a layer on top.

        Raises:
            TypeError: if it is not a layer.
            ValueError: if its shapes do not fit, or another layer has its name.
        """
        if isinstance(layer, SymbolicTensor) and layer.layer is not None:
            layer = layer.layer
        if not isinstance(layer, Layer):
            raise TypeError(f"[Sequential] add needs a layer; received {layer!r}")
        if isinstance(layer, InputLayer):
            if self._stack or self._begin:
                raise ValueError(f"[{self.name}] an Input can only come first")
            self._begin = layer
            return
        if any(other.name == layer.name for other in self._stack):
            raise ValueError(
                f"[{self.name}] two layers cannot both be named {layer.name!r}: give one another "
                "name"
            )
        begin = self._begin
        if not self._stack and begin is None and layer.given_input_shape is not None:
            self._begin = InputLayer(layer.given_input_shape, dtype=layer.dtype)
        self._stack.append(layer)
        try:
            self._connect()
        except Exception:
            self._stack.pop()
            self._begin = begin
            raise

    def pop(self) -> Layer:
        """Take the top layer off and return it."""
        if not self._stack:
            raise ValueError(f"[{self.name}] there is no layer to pop")
        layer = self._stack.pop()
        if self.built:
            assert self._begin is not None
            top = self._graphs[False].outputs[0].node
            assert top is not None
            layer._nodes.remove(top)
            if self._stack:
                self._set_graph(self._begin.tensor, top.inputs[0])
            else:
                self.built = False
                self._graphs = {}
        return layer

    def _connect(self) -> None:
        """Make the graph, once the input's shape is known."""
        if self._begin is None or not self._stack:
            return
        x = self._begin.tensor
        if self.built:  # only the newest layer is missing
            top = self._graphs[False].outputs[0]
            self._set_graph(x, self._stack[-1](top))
            return
        y = x
        for layer in self._stack:
            y = layer(y)
        self._set_graph(x, y)

    def build(self, input_shape: Any = None) -> None:
        """Make the variables.

        Args:
            input_shape: (None, ...), with the rows.
        """
        if self._begin is None:
            if not self._stack:
                raise ValueError(f"[{self.name}] a Sequential without layers cannot be built")
            if isinstance(input_shape, list):
                raise ValueError(
                    f"[{self.name}] a Sequential has one input; received a list of "
                    f"{len(input_shape)}: {input_shape}"
                )
            self._begin = InputLayer(tuple(input_shape)[1:], dtype=self._stack[0].dtype)
            try:
                self._connect()
            except Exception:
                self._begin = None
                raise

    def note_built(self, input_shape: Any) -> None:
        """The graph, which `build` makes, has noted it."""

    def get_config(self) -> dict[str, Any]:
        """The layers, from which `from_config` makes a model with new weights."""
        stack = [*([self._begin] if self._begin else []), *self._stack]
        return {
            "name": self.name,
            "trainable": self._trainable,
            "layers": [
                {"class_name": type(layer).__name__, "config": layer.get_config()}
                for layer in stack
            ],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The model of a config, with new weights."""
        model = cls(
            [make_layer(item, custom_objects) for item in config["layers"]], name=config["name"]
        )
        model._trainable = config["trainable"]
        return model
