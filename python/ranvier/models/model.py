"""Model: a graph of layers that can be trained, evaluated and asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ranvier import layers as layer_family
from ranvier.graph import Graph, Node, SymbolicTensor
from ranvier.layers.base import Layer, unique_name
from ranvier.models.summary import bytes_text, summary
from ranvier.training import Trainer

__all__ = ["Model"]


class Model(Trainer, Layer):
    """A model, in one of two forms.

    Functional: `Model(inputs, outputs)` from symbolic tensors, one or a list of each (or a dict of
    inputs). Subclassed: layers are made in `__init__` and put together in `call`, as in Keras:

        class Net(Model):
            def __init__(self):
                super().__init__()
                self.hidden, self.out = Dense(64, activation="relu"), Dense(10)

            def call(self, x):
                return self.out(self.hidden(x))

    `call` is traced once, on symbolic tensors; it is not run for each batch. A model is a layer too
    and can be part of another.

    Args:
        inputs, outputs: symbolic tensors; neither in a subclass.
        name: made from the class's name if None.
    """

    autocast = False  # its layers convert

    def __init__(
        self, inputs: Any = None, outputs: Any = None, *, name: str | None = None, **kwargs: Any
    ) -> None:
        if (inputs is None) != (outputs is None):
            raise ValueError("[Model] inputs and outputs must be given together, or neither")
        if name is None and type(self) is Model:
            name = unique_name("functional")
        super().__init__(name=name, **kwargs)
        if inputs is not None:
            self._set_graph(inputs, outputs)

    def _set_graph(self, inputs: Any, outputs: Any) -> None:
        input_names = list(inputs) if isinstance(inputs, Mapping) else None
        if isinstance(inputs, Mapping):
            for key, tensor in inputs.items():
                tensor.name = key
            inputs = list(inputs.values())
        outputs = list(outputs.values()) if isinstance(outputs, Mapping) else outputs
        graph = Graph(_unpacked(inputs), _unpacked(outputs))
        for tensor in graph.inputs:
            if tensor.node is not None or tensor.layer is None:
                raise ValueError(
                    "[Model] inputs must come from Input(...); received the output of a layer"
                )
        names = [layer.name for layer in graph.layers()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"[Model] two layers cannot both be named {name!r}: give one another name"
                )
        self.input_names = input_names
        self._graphs = {False: graph, True: graph}
        self._forget_programs()
        shapes = [t.shape for t in graph.inputs]
        self._built_shape = shapes[0] if graph.single_input else shapes
        self.built = True

    @property
    def functional(self) -> bool:
        """Whether the model was made from symbolic tensors, not by subclassing."""
        return type(self).call is Layer.call and type(self).forward is Layer.forward

    def graph(self, training: bool, input_shape: Any = None) -> Graph:
        whole = type(self).forward is not Layer.forward and type(self).call is Layer.call
        if whole and training not in self._graphs and input_shape is not None:
            self._graphs = dict.fromkeys((False, True), _graph_of_forward(self, input_shape))
        return super().graph(training, input_shape)

    def __call__(self, inputs: Any, *, training: bool = False) -> Any:
        """Apply the model: to arrays at once, to symbolic tensors as a part of a graph.

        Args:
            inputs: an array (rows, ...), a symbolic tensor, or a list or dict of them.
            training: whether layers such as Dropout act.
        """
        if not training and type(inputs) is np.ndarray:  # first, because it takes microseconds
            y = self._recall(inputs)
            if y is not None:
                return y
        if isinstance(inputs, Mapping):
            if not self._graphs:
                raise ValueError(
                    f"[{self.name}] a dict of inputs needs a model made of named Inputs"
                )
            names = [t.name for t in self.inputs]
            if set(inputs) != set(names):
                raise ValueError(
                    f"[{self.name}] received inputs {list(inputs)} but the model has {names}"
                )
            inputs = [inputs[name] for name in names]
        return super().__call__(inputs, training=training)

    def _call_symbolic(self, inputs: Any) -> Any:
        if self.functional or (self._graphs and self.graph(False).single_input):
            inputs = _unpacked(inputs)
        y = super()._call_symbolic(inputs)
        for tensor, own in zip(y if isinstance(y, list) else [y], self.outputs, strict=True):
            tensor.dtype = own.dtype
        return y

    @property
    def layers(self) -> list[Layer]:
        """The layers, from those farthest from the outputs to the outputs, as in Keras."""
        if not self.functional or not self._graphs:
            return super().layers
        return list(dict.fromkeys([*self._graphs[False].layers(), *super().layers]))

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """The symbolic inputs."""
        return self.graph(False, self._built_shape).inputs

    @property
    def outputs(self) -> list[SymbolicTensor]:
        """The symbolic outputs."""
        return self.graph(False, self._built_shape).outputs

    @property
    def input(self) -> Any:
        return self.inputs[0] if self.graph(False, self._built_shape).single_input else self.inputs

    @property
    def output(self) -> Any:
        return (
            self.outputs[0] if self.graph(False, self._built_shape).single_output else self.outputs
        )

    @property
    def input_shape(self) -> Any:
        """(None, ...), or a list of such."""
        return self._built_shape

    @property
    def output_shape(self) -> Any:
        """(None, ...), or a list of such."""
        return self.graph(False, self._built_shape).output_shape

    @property
    def input_dtype(self) -> str:
        return self.inputs[0].dtype if self._graphs else self.dtype

    @property
    def output_dtype(self) -> str:
        return self.outputs[0].dtype

    def check_input(self, input_shape: Any) -> None:
        if not self._graphs:
            return
        given = input_shape if isinstance(input_shape, list) else [input_shape]
        wanted = [t.shape for t in self.inputs]
        fits = len(given) == len(wanted) and all(
            len(g) == len(w)
            and all(b is None or a is None or a == b for a, b in zip(g[1:], w[1:], strict=True))
            for g, w in zip(given, wanted, strict=True)
        )
        if not fits:
            raise ValueError(
                f"[{self.name}] the model's input needs shape "
                f"{wanted[0] if len(wanted) == 1 else wanted} "
                f"but received {given[0] if len(given) == 1 else given}"
            )

    def compute_output_shape(self, input_shape: Any) -> Any:
        self.check_input(input_shape)
        return self.graph(False, input_shape).output_shape

    def run(self, x: Any, training: bool = False) -> Any:
        if self.built:
            many = isinstance(x, (list, tuple))
            self.check_input([b.shape for b in x] if many else x.shape)
        return super().run(x, training)

    def infer(self, x: Any) -> Any:
        if type(self).forward is not Layer.forward or self.activity_regularizer is not None:
            return super().infer(x)
        many = isinstance(x, (list, tuple))
        self.check_input([b.shape for b in x] if many else x.shape)
        graph = self.graph(False, self._built_shape)
        y = graph.infer(x)
        return y[0] if graph.single_output else y

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of a name, or at a place in `layers`.

        Raises:
            ValueError: if there is none.
        """
        if (name is None) == (index is None):
            raise ValueError("[get_layer] give either name or index")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ValueError(
                    f"[get_layer] index {index} is out of range: {self.name} has "
                    f"{len(self.layers)} layers"
                )
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(
            f"[get_layer] {self.name} has no layer {name!r}; it has "
            f"{[layer.name for layer in self.layers]}"
        )

    def summary(
        self, line_length: int | None = None, print_fn: Any = None, *, memory: bool = False
    ) -> None:
        """Print the layers with their output shapes and numbers of parameters.

        Args:
            line_length: width in characters.
            print_fn: called with the text instead of print.
            memory: add what the steps recorded so far need for intermediate results, all together:
                results whose lives do not meet share memory.
        """
        text = summary(self, line_length)
        if memory:
            text += f"\n Step memory: {bytes_text(self._pool.bytes)}"
        (print_fn or print)(text)

    def get_config(self) -> dict[str, Any]:
        """The graph, from which `from_config` makes a model with new weights.

        A subclass with a `call` of its own defines get_config itself.
        """
        if not self.functional:
            raise NotImplementedError(
                f"[{self.name}] a subclassed model must define get_config itself: its call cannot "
                "be written down"
            )
        graph = self._graphs[False]
        where: dict[int, tuple[str, int, int]] = {}
        uses: dict[str, int] = {}
        for tensor in graph.inputs:
            assert tensor.layer is not None
            where[id(tensor)] = (tensor.layer.name, 0, 0)
        by_layer = {id(layer): _item(layer) for layer in graph.layers()}
        items = list(by_layer.values())
        for node in graph.nodes:
            item = by_layer[id(node.layer)]
            use = uses[node.layer.name] = uses.get(node.layer.name, -1) + 1
            sources: Any = [list(where[id(t)]) for t in node.inputs]
            item["inbound"].append(sources[0] if node.single else sources)
            for i, tensor in enumerate(node.outputs):
                where[id(tensor)] = (node.layer.name, use, i)

        def places(tensors: list[SymbolicTensor], single: bool) -> Any:
            found = [list(where[id(t)]) for t in tensors]
            return found[0] if single else found

        return {
            "name": self.name,
            "trainable": self._trainable,
            "layers": items,
            "inputs": (
                places(graph.inputs, graph.single_input)
                if self.input_names is None
                else dict(zip(self.input_names, places(graph.inputs, False), strict=True))
            ),
            "outputs": places(graph.outputs, graph.single_output),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The model of a config, with new weights.

        Args:
            config: as `get_config` returns it.
            custom_objects: classes of your own by name; nothing is imported by name.
        """
        if "layers" not in config:
            return cls(**config)
        made: dict[str, Layer] = {}
        tensors: dict[tuple[str, int, int], SymbolicTensor] = {}
        pending: list[tuple[Layer, int, Any]] = []
        for item in config["layers"]:
            layer = make_layer(item, custom_objects)
            made[layer.name] = layer
            if isinstance(layer, layer_family.InputLayer):
                tensors[layer.name, 0, 0] = layer.tensor
            pending += [(layer, use, sources) for use, sources in enumerate(item["inbound"])]
        while pending:
            ready = [p for p in pending if all(s in tensors for s in _sources(p[2]))]
            if not ready:
                raise ValueError(f"[Model] the config's layers do not connect: {config['name']!r}")
            for layer, use, sources in ready:
                found = [tensors[s] for s in _sources(sources)]
                y = layer(found if isinstance(sources[0], list) else found[0])
                for i, tensor in enumerate(y if isinstance(y, list) else [y]):
                    tensors[layer.name, use, i] = tensor
                pending.remove((layer, use, sources))

        def at(places: Any) -> Any:
            if isinstance(places, Mapping):
                return {name: tensors[_sources(place)[0]] for name, place in places.items()}
            found = [tensors[s] for s in _sources(places)]
            return found if isinstance(places[0], list) else found[0]

        model = Model(at(config["inputs"]), at(config["outputs"]), name=config["name"])
        model._trainable = config["trainable"]
        return model


class _Whole(Layer):
    """The only layer in the graph of a model that defines `forward` itself."""

    autocast = False

    def __init__(self, model: Model) -> None:
        super().__init__(name=model.name, dtype=model.dtype)
        self.forward = model.forward  # type: ignore[method-assign]
        self.built = True


def _graph_of_forward(model: Model, input_shape: Any) -> Graph:
    """One node; the shapes of its outputs are found by running it."""
    many = isinstance(input_shape, list)
    shapes = input_shape if many else [input_shape]
    inputs = [
        SymbolicTensor(tuple(s), model.dtype, name=f"input_{i}") for i, s in enumerate(shapes)
    ]
    out = model.run_on_zeros(input_shape)
    node = Node(_Whole(model), inputs, not many, out, model.dtype)
    return Graph(
        inputs if many else inputs[0], node.outputs if isinstance(out, list) else node.outputs[0]
    )


def _unpacked(tensors: Any) -> Any:
    """A list of one is that one, as in Keras."""
    return tensors[0] if isinstance(tensors, (list, tuple)) and len(tensors) == 1 else tensors


def _item(layer: Layer) -> dict[str, Any]:
    return {
        "class_name": type(layer).__name__,
        "name": layer.name,
        "config": layer.get_config(),
        "inbound": [],
    }


def _sources(places: Any) -> list[tuple[str, int, int]]:
    return [tuple(p) for p in (places if isinstance(places[0], (list, tuple)) else [places])]


def make_layer(item: Mapping[str, Any], custom_objects: Any = None) -> Any:
    """The layer, or model, of an item of a config."""
    from ranvier.models.sequential import Sequential

    nested: dict[str, Any] = {"Model": Model, "Sequential": Sequential}
    if item["class_name"] in nested:
        return nested[item["class_name"]].from_config(item["config"], custom_objects)
    return layer_family.registry.get(dict(item), custom_objects)
