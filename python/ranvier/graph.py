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
# Layers in a row, the slots they read and write, and those of which they are the last readers;
# and whether they are given one tensor rather than a list.
_Step = tuple["_Chain", list[int], list[int], list[int], bool]


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


class _Chain:
    """A layer, and those behind it that it may fuse, each the only reader of the one before.

    Asked anew at each walk: a regularizer may have been set since, and rows may decide.
    """

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers

    @property
    def penalised(self) -> bool:
        return any(layer.penalised for layer in self.layers)

    def run(self, x: Any, training: bool) -> tuple[Any, Callable[[Any], Any]]:
        tape: list[tuple[bool, Callable[[Any], Any]]] = []
        rest = self.layers
        while rest:
            count = _fused(rest, x, True)
            fused, rest = rest[:count], rest[count:]
            if count > 1:
                x, back = fused[0].forward_fused(x, fused[1:], training=training)
            else:
                x, back = fused[0].run(x, training)
            tape.append((any(layer.penalised for layer in fused), back))
        if len(tape) == 1:
            return x, back

        def backward(dy: Any) -> Any:
            while tape:  # what a part keeps is free once it has run
                penalised, back = tape.pop()
                if dy is not None or penalised:
                    dy = back(dy)
            return dy

        return x, backward

    def infer(self, x: Any) -> Any:
        rest = self.layers
        while rest:
            count = _fused(rest, x, False)
            fused, rest = rest[:count], rest[count:]
            x = fused[0].forward_fused(x, fused[1:])[0] if count > 1 else fused[0].infer(x)
        return x


def _fused(layers: list[Layer], x: Any, way_back: bool) -> int:
    """How many of the layers, from the first on, are computed as one."""
    first, *readers = layers
    if not readers or x.dtype != first.dtype:
        return 1
    # A class with a forward of its own must say anew what it fuses.
    mro = type(first).__mro__
    kind = next(c for c in mro if "forward" in vars(c) or "forward_fused" in vars(c))
    return 1 + first.fuses(readers, x, way_back) if "forward_fused" in vars(kind) else 1


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
        self._layers = self._ordered_layers()
        # Each tensor has a slot, so that a walk is list indexing.
        slots = {id(t): i for i, t in enumerate(self.inputs)}
        for node in self.nodes:
            for tensor in node.outputs:
                slots[id(tensor)] = len(slots)
        self._size = len(slots)
        self._out = [slots[id(t)] for t in self.outputs]
        self._plan: list[_Step] = []
        read_later = set(self._out)
        readers = self._only_readers()
        inside: set[int] = set()  # nodes of a chain but its first
        chains: list[list[Node]] = []
        for node in self.nodes:
            if id(node) not in inside:
                chains.append(self._chain(node, readers))
                inside.update(map(id, chains[-1][1:]))
        for chain in reversed(chains):
            sources = [slots[id(t)] for t in chain[0].inputs]
            targets = [slots[id(t)] for t in chain[-1].outputs]
            last = sorted(set(sources) - read_later)
            read_later.update(sources)
            unit = _Chain([node.layer for node in chain])
            self._plan.insert(0, (unit, sources, targets, last, chain[0].single))

    def _only_readers(self) -> dict[int, Node]:
        """By the id of a node: the one that alone reads its one output."""
        readers: dict[int, list[Node | None]] = {id(t): [None] for t in self.outputs}
        for node in self.nodes:
            for tensor in node.inputs:
                readers.setdefault(id(tensor), []).append(node)
        found: dict[int, Node] = {}
        for node in self.nodes:
            reader, *others = readers.get(id(node.outputs[0]), [None])
            if reader is not None and not others and reader.single and len(node.outputs) == 1:
                found[id(node)] = reader
        return found

    @staticmethod
    def _chain(node: Node, readers: dict[int, Node]) -> list[Node]:
        """The node, and those behind it that its layer may fuse."""
        chain = [node]
        while id(chain[-1]) in readers:
            chain.append(readers[id(chain[-1])])
        if not node.single:
            return chain[:1]
        layers = [n.layer for n in chain]
        return chain[: max(_fused(layers, node.inputs[0], way_back) for way_back in (True, False))]

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

    def _ordered_layers(self) -> list[Layer]:
        """The farthest from the outputs first; equally far ones as they are met on the way back."""
        inputs = {id(t) for t in self.inputs}
        far: dict[Layer, int] = {}  # by way of the most layers
        of_node: dict[int, int] = {}
        for node in reversed(self.nodes):
            steps = far[node.layer] = max(of_node.get(id(node), 0), far.get(node.layer, 0))
            for tensor in node.inputs:
                if id(tensor) not in inputs:
                    of_node[id(tensor.node)] = max(of_node.get(id(tensor.node), 0), steps + 1)
                elif tensor.layer is not None:
                    far[tensor.layer] = max(far.get(tensor.layer, 0), steps + 1)
        unread = (t.layer for t in self.inputs if t.layer is not None and t.layer not in far)
        met: dict[Layer, None] = dict.fromkeys(unread)
        stack, seen = self.outputs[::-1], set()
        while stack:
            tensor = stack.pop()
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            if id(tensor) not in inputs:
                assert tensor.node is not None  # _sorted
                met[tensor.node.layer] = None
                stack += reversed(tensor.node.inputs)
            elif tensor.layer is not None:
                met[tensor.layer] = None
        return sorted(met, key=lambda layer: -far.get(layer, 0))

    @property
    def output_shape(self) -> Any:
        return self.outputs[0].shape if self.single_output else [t.shape for t in self.outputs]

    def layers(self) -> list[Layer]:
        """The layers, those of inputs too, each once, in Keras's order: by their largest distance
        from the outputs, beginning at the inputs."""
        return list(self._layers)

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
        for chain, sources, targets, _, single in self._plan:
            given = values[sources[0]] if single else [values[i] for i in sources]
            y, back = chain.run(given, training)
            _put(y, values, targets)
            tape.append(back)

        def backward(dy: Any) -> Any:
            gradients: list[Any] = [None] * self._size

            def add(i: int, d: Any) -> None:
                if d is not None:
                    g = gradients[i]
                    gradients[i] = d if g is None else add_gradients(values[i], g, d)

            for i, d in zip(self._out, [dy] if self.single_output else dy, strict=True):
                add(i, d)
            for chain, sources, targets, _, single in reversed(self._plan):
                back = tape.pop()  # what it keeps is free once it has run
                given = [gradients[i] for i in targets]
                constant = all(values[i].constant for i in targets)
                for i in targets:
                    values[i] = None if i >= len(self.inputs) else values[i]
                    gradients[i] = None
                unread = all(d is None for d in given) and not chain.penalised
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
        for chain, sources, targets, last, single in self._plan:
            y = chain.infer(values[sources[0]] if single else [values[i] for i in sources])
            _put(y, values, targets)
            del y
            for i in last:
                values[i] = None
        return [values[i] for i in self._out]


def _put(y: Any, values: list[Any], targets: list[int]) -> None:
    """Outputs to their slots."""
    for i, part in zip(targets, y if isinstance(y, (list, tuple)) else [y], strict=True):
        values[i] = part


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
