"""Graphs of layers: symbolic tensors, the nodes between them, and the walk there and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ranvier._core import add_gradients

if TYPE_CHECKING:
    from ranvier.layers.base import Layer

__all__ = ["Graph", "Node", "SymbolicTensor", "trace"]

Shape = tuple[int | None, ...]
# A layer or two as one, the slots it reads and writes, and those of which it is the last reader;
# and whether it is given one tensor rather than a list.
_Step = tuple["Layer | _Fused", list[int], list[int], list[int], bool]


class SymbolicTensor:
    """A tensor that has no values yet: what `Input` returns and layers are called on.

    Attributes:
        shape: (None, ...), None for the rows.
        dtype: "float32" or "float64".
        node: the node that gives it, None for an input.
        name: of an input.
    """

    def __init__(
        self, shape: Shape, dtype: str, node: Node | None = None, name: str | None = None
    ) -> None:
        self.shape, self.dtype, self.node, self.name = shape, dtype, node, name
        self.layer: Layer | None = None  # of an input

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "a symbolic tensor has no values: build the model from layers, and give it arrays after"
        )

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
        self.__array__()

    def __repr__(self) -> str:
        return f"<SymbolicTensor shape={self.shape} dtype={self.dtype} name={self.name}>"


class Node:
    """One use of a layer: which tensors went in, which came out."""

    def __init__(
        self, layer: Layer, inputs: list[SymbolicTensor], single: bool, shapes: Any, dtype: str
    ) -> None:
        self.layer, self.inputs, self.single = layer, inputs, single
        many = isinstance(shapes, list)
        self.outputs = [SymbolicTensor(s, dtype, self) for s in (shapes if many else [shapes])]


class _Fused:
    """A layer and the only reader of its output: as one, where the first fuses the second.

    Asked anew at each walk: a regularizer may have been set since.
    """

    def __init__(self, first: Layer, second: Layer) -> None:
        self.first, self.second = first, second

    @property
    def penalised(self) -> bool:
        return self.first.penalised or self.second.penalised

    def run(self, x: Any, training: bool) -> tuple[Any, Callable[[Any], Any]]:
        if x.dtype == self.first.dtype and self.first.fuses(self.second):
            return self.first.forward_fused(x, training=training)
        y, back = self.first.run(x, training)
        z, back_second = self.second.run(y, training)
        return z, lambda dz: back(back_second(dz))


class Graph:
    """The nodes between inputs and outputs, in an order in which they can run.

    Args:
        inputs, outputs: symbolic tensors, one or a list.

    Raises:
        ValueError: if an output does not depend on the inputs given alone.
    """

    def __init__(self, inputs: Any, outputs: Any) -> None:
        self.single_input = isinstance(inputs, SymbolicTensor)
        self.single_output = isinstance(outputs, SymbolicTensor)
        self.inputs: list[SymbolicTensor] = [inputs] if self.single_input else list(inputs)
        self.outputs: list[SymbolicTensor] = [outputs] if self.single_output else list(outputs)
        for tensor in [*self.inputs, *self.outputs]:
            if not isinstance(tensor, SymbolicTensor):
                raise ValueError(
                    "[Model] inputs and outputs must be symbolic tensors, from Input(...) and from "
                    f"layers called on them; received {type(tensor).__name__}"
                )
        self.nodes = self._sorted()
        # Each tensor has a slot, so that a walk is list indexing.
        slots = {id(t): i for i, t in enumerate(self.inputs)}
        for node in self.nodes:
            for tensor in node.outputs:
                slots[id(tensor)] = len(slots)
        self._size = len(slots)
        self._out = [slots[id(t)] for t in self.outputs]
        self._plan: list[_Step] = []
        read_later = set(self._out)
        readers = self._fused_readers()
        inside = {id(reader) for reader in readers.values()}
        for node in reversed(self.nodes):
            if id(node) in inside:
                continue
            reader = readers.get(id(node))
            unit = node.layer if reader is None else _Fused(node.layer, reader.layer)
            sources = [slots[id(t)] for t in node.inputs]
            targets = [slots[id(t)] for t in (reader or node).outputs]
            last = sorted(set(sources) - read_later)
            read_later.update(sources)
            self._plan.insert(0, (unit, sources, targets, last, node.single))

    def _fused_readers(self) -> dict[int, Node]:
        """By the id of a node: the only reader of its output, where its layer fuses it."""
        readers: dict[int, list[Node | None]] = {id(t): [None] for t in self.outputs}
        for node in self.nodes:
            for tensor in node.inputs:
                readers.setdefault(id(tensor), []).append(node)
        fused: dict[int, Node] = {}
        for node in self.nodes:
            found = readers.get(id(node.outputs[0]), [])
            if node.single and len(node.outputs) == 1 and len(found) == 1:
                (reader,) = found
                if reader is not None and node.layer.fuses(reader.layer):
                    fused[id(node)] = reader
        return fused

    def _sorted(self) -> list[Node]:
        """Depth first from the outputs, without recursion: nets may be deep."""
        known = {id(t) for t in self.inputs}
        done: set[int] = set()
        order: list[Node] = []
        for output in self.outputs:
            stack: list[tuple[SymbolicTensor, bool]] = [(output, False)]
            while stack:
                tensor, leaving = stack.pop()
                node = tensor.node
                if id(tensor) in known or (node is not None and id(node) in done):
                    continue
                if node is None:
                    raise ValueError(
                        f"[Model] an output depends on input {tensor.name!r}, which is not among "
                        f"the model's inputs {[t.name for t in self.inputs]}: add it"
                    )
                if leaving:
                    done.add(id(node))
                    order.append(node)
                else:
                    stack.append((tensor, True))
                    stack += [(t, False) for t in reversed(node.inputs)]
        return order

    @property
    def output_shape(self) -> Any:
        return self.outputs[0].shape if self.single_output else [t.shape for t in self.outputs]

    def layers(self) -> list[Layer]:
        """The layers, each once, in the order of their first use."""
        return list(dict.fromkeys(node.layer for node in self.nodes))

    def forward(self, x: Any, *, training: bool = False) -> tuple[Any, Callable[[Any], Any]]:
        """Run the nodes in order; `backward` walks them in reverse, adding the gradients where a
        tensor has several readers.

        Args:
            x: a Buffer for a single input, else a list of them.
            training: passed to the layers.

        Returns:
            (y, backward), y a Buffer for a single output, else a list.
        """
        values: list[Any] = [None] * self._size
        values[: len(self.inputs)] = [x] if self.single_input else x
        tape: list[Callable[[Any], Any]] = []
        for step in self._plan:
            tape.append(self._run(step, values, training))

        def backward(dy: Any) -> Any:
            gradients: list[Any] = [None] * self._size

            def add(i: int, d: Any) -> None:
                if d is not None:
                    g = gradients[i]
                    gradients[i] = d if g is None else add_gradients(values[i], g, d)

            for i, d in zip(self._out, [dy] if self.single_output else dy, strict=True):
                add(i, d)
            for layer, sources, targets, _, single in reversed(self._plan):
                back = tape.pop()  # what it keeps is free once it has run
                given = [gradients[i] for i in targets]
                constant = all(values[i].constant for i in targets)
                for i in targets:
                    values[i] = None if i >= len(self.inputs) else values[i]
                    gradients[i] = None
                unread = all(d is None for d in given) and not layer.penalised
                if constant or unread:
                    continue
                dx = back(given[0] if len(given) == 1 else given)
                if single:
                    add(sources[0], dx)
                elif dx is not None:
                    for i, part in zip(sources, dx, strict=True):
                        add(i, part)
            dxs = gradients[: len(self.inputs)]
            return dxs[0] if self.single_input else dxs

        y = [values[i] for i in self._out]
        return (y[0] if self.single_output else y), backward

    def infer(self, x: Any) -> list[Any]:
        """The outputs alone, without a way back: each value is let go after its last reader."""
        values: list[Any] = [None] * self._size
        values[: len(self.inputs)] = [x] if self.single_input else x
        for step in self._plan:
            self._run(step, values, False)
            for i in step[3]:
                values[i] = None
        return [values[i] for i in self._out]

    def _run(self, step: _Step, values: list[Any], training: bool) -> Callable[[Any], Any]:
        """One node: its outputs go to their slots, its backward is returned."""
        layer, sources, targets, _, single = step
        given = values[sources[0]] if single else [values[i] for i in sources]
        y, back = layer.run(given, training)
        for i, part in zip(targets, y if isinstance(y, (list, tuple)) else [y], strict=True):
            values[i] = part
        return back


def trace(layer: Layer, input_shape: Any, training: bool) -> Graph:
    """The graph that `layer.call` makes of symbolic inputs of these shapes."""
    many = isinstance(input_shape, list)
    shapes: Sequence[Shape] = input_shape if many else [input_shape]
    inputs = [
        SymbolicTensor(tuple(s), layer.dtype, name=f"input_{i}") for i, s in enumerate(shapes)
    ]
    takes_training = "training" in inspect.signature(layer.call).parameters
    given = inputs if many else inputs[0]
    call: Callable[..., Any] = layer.call
    outputs = call(given, training=training) if takes_training else call(given)
    if isinstance(outputs, tuple):
        outputs = list(outputs)
    return Graph(given, outputs)
