"""Layer: what every layer is.

A layer's `forward` returns its output and the function that takes the output's gradient back:

    class Scale(Layer):
        def build(self, input_shape):
            self.scale = self.add_weight((input_shape[-1],), "ones", name="scale")

        def forward(self, x, *, training=False):
            y = ops....(x, self.scale)
            def backward(dy):
                return ops....   # -> dx; adds to the variables' gradients
            return y, backward

x and y are Buffers and are touched through ops only. A layer made of other layers defines `call`
instead, as in Keras; it is traced once into a graph. A layer written in NumPy derives from
NumpyLayer, in numpy_layer.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ranvier import config, initializers, regularizers
from ranvier._core import Buffer, add_gradients, cast
from ranvier.graph import Graph, Node, SymbolicTensor, trace
from ranvier.layers.notes import ActivityPenalty, activity_penalties
from ranvier.registry import snake_case
from ranvier.variables import Variable

__all__ = ["Layer", "Shape"]

Shape = tuple[int | None, ...]
Backward = Callable[[Any], Any]


def _noted(build: Callable[..., None]) -> Callable[..., None]:
    """A `build` that checks its input and notes that the layer is built, whoever calls it; once."""

    @functools.wraps(build)
    def noted(self: Layer, *args: Any, **kwargs: Any) -> None:
        if self._building:  # from the build of a derived class
            build(self, *args, **kwargs)
        elif not self.built:
            input_shape = next(iter((*args, *kwargs.values())), None)
            self._check(input_shape)
            self._building = True
            try:
                build(self, *args, **kwargs)
            finally:
                self._building = False
            self.note_built(input_shape)

    return noted


_name_counts: dict[str, int] = {}


def unique_name(base: str) -> str:
    """dense, dense_1, dense_2, ... over the life of the program (or until clear_session)."""
    count = _name_counts.get(base, 0)
    _name_counts[base] = count + 1
    return f"{base}_{count}" if count else base


def clear_names() -> None:
    """Start the numbering of names anew."""
    _name_counts.clear()


class Layer:
    """A step of a computation, with its variables and its derivative.

    Args:
        name: unique in a model; made from the class's name if None.
        dtype: "float32" or "float64"; None is `config.floatx()`.
        trainable: whether its variables are trained.
        activity_regularizer: a penalty on its output.
        input_shape: shape of one row, for the first layer of a Sequential without an Input.

    Attributes:
        built: whether its variables exist.
    """

    autocast = True  # inputs of another float type are converted to the layer's
    single_input = False  # a list of inputs is refused

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in vars(cls):
            cls.build = _noted(cls.build)  # type: ignore[method-assign]

    def __init__(
        self,
        *,
        name: str | None = None,
        dtype: Any = None,
        trainable: bool = True,
        activity_regularizer: Any = None,
        input_shape: Sequence[int | None] | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:  # Python would name this class, not the one that the user wrote
            key, kind = next(iter(unknown)), type(self).__name__
            raise TypeError(f"[{kind}] got an unexpected keyword argument {key!r}")
        self._variables: list[Variable] = []
        self._graphs: dict[bool, Graph] = {}
        self._nodes: list[Node] = []
        self._built_shape: Any = None
        self._building = False
        if name is not None and not isinstance(name, str):
            raise ValueError(f"[{type(self).__name__}] name must be a string; received {name!r}")
        self.name = name or unique_name(snake_case(type(self).__name__))
        self.dtype = config.dtype_name(dtype)
        self._trainable = bool(trainable)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.given_input_shape = None if input_shape is None else tuple(input_shape)
        self.built = False

    # --- what a layer defines -------------------------------------------------------------------

    @_noted
    def build(self, input_shape: Any) -> None:
        """Make the variables; called once, before the first forward.

        Args:
            input_shape: (None, ...), or a list of such for several inputs.
        """
        if type(self).call is not Layer.call:
            self.graph(False, input_shape)

    def forward(self, x: Any, *, training: bool = False) -> tuple[Any, Backward]:
        """Compute the output and the function that takes its gradient back.

        Args:
            x: a Buffer, or a list of them.
            training: whether this is a training step.

        Returns:
            (y, backward) with backward(dy) -> dx, as x; dx may be None where x.constant.
        """
        return self.graph(training, self._built_shape).forward(x, training=training)

    def fuses(self, readers: Sequence[Layer], x: Any, way_back: bool) -> int:
        """How many of the layers that follow `forward_fused` can do the work of, and as fast.

        Args:
            readers: one or more: the only reader of the output, the only reader of that one's, ...
            x: this layer's input, a Buffer, or a SymbolicTensor while the graph is made.
            way_back: whether a backward is wanted.
        """
        return 0

    def forward_fused(
        self, x: Any, readers: Sequence[Layer], *, training: bool = False
    ) -> tuple[Any, Backward]:
        """`forward` of this layer and of the readers that it fuses, as one."""
        raise NotImplementedError

    def infer(self, x: Any) -> Any:
        """The output alone, for whoever has the layer inside and wants no way back."""
        return self.run(x)[0]

    def call(self, inputs: Any) -> Any:
        """Put the layer together from other layers, called on symbolic tensors, as in Keras."""
        raise NotImplementedError(
            f"[{self.name}] {type(self).__name__} defines neither forward(x, training=) nor "
            "call(inputs)"
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The output's shape for an input's shape; found by running the layer on zeros, unless the
        layer says it itself."""
        if type(self).call is not Layer.call:
            return self.graph(False, input_shape).output_shape
        return self.run_on_zeros(input_shape)

    def run_on_zeros(self, input_shape: Any) -> Any:
        """Run `forward` once on a few rows, and tell its output's shape.

        Args:
            input_shape: (None, ...), or a list of such. If more than the rows is unknown there are
                two runs of different sizes, and what differs in their outputs is unknown as well.
        """
        many = isinstance(input_shape, list)
        shapes = input_shape if many else [input_shape]

        def run(size: int) -> list[Shape]:
            x = [
                Buffer([size if d is None else d for d in shape], self.input_dtype)
                for shape in shapes
            ]
            y, _ = self._forward_buffers(x if many else x[0], False)
            return [b.shape for b in y] if isinstance(y, (list, tuple)) else [y.shape]

        found = run(2)
        again = run(3) if any(None in shape[1:] for shape in shapes) else found
        rows = shapes[0][0]
        out = [
            (rows, *(d if d == e else None for d, e in zip(a[1:], b[1:], strict=True)))
            for a, b in zip(found, again, strict=True)
        ]
        return out if len(out) > 1 else out[0]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, from which `from_config` makes the layer again."""
        config: dict[str, Any] = {
            "name": self.name,
            "dtype": self.dtype,
            "trainable": self._trainable,
        }
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        if self.given_input_shape is not None:
            config["input_shape"] = self.given_input_shape
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The layer of a config, not yet built."""
        return cls(**config)

    # --- calling --------------------------------------------------------------------------------

    def __call__(self, inputs: Any, *, training: bool = False) -> Any:
        """Apply the layer: to arrays at once, to symbolic tensors as a part of a graph.

        Args:
            inputs: an array (rows, ...), a symbolic tensor, or a list of them.
            training: whether layers such as Dropout act.

        Returns:
            An array, a symbolic tensor, or a list of them.
        """
        flat = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        if any(isinstance(x, SymbolicTensor) for x in flat):
            return self._call_symbolic(inputs)
        if any(isinstance(x, Buffer) for x in flat):
            raise TypeError(
                f"[{self.name}] a layer cannot be called inside forward, because its backward "
                "would be lost: use y, backward = layer.run(x, training), or define call(inputs)"
            )
        return self._call_arrays(inputs, training)

    def _call_arrays(self, inputs: Any, training: bool) -> Any:
        flat = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        for x in flat:
            if x is None or isinstance(x, Mapping):
                raise TypeError(
                    f"[{self.name}] {type(self).__name__} takes arrays; received "
                    f"{'None' if x is None else f'a dict with keys {list(x)}: give its arrays'}"
                )
        buffers = [Buffer.from_array(x, self.input_dtype) for x in flat]
        for x in buffers:
            x.constant = True
        shapes = [(None, *x.shape[1:]) for x in buffers]
        many = isinstance(inputs, (list, tuple))
        self.accept(shapes if many else shapes[0])
        y, _ = self.run(buffers if many else buffers[0], training)
        return [b.view() for b in y] if isinstance(y, (list, tuple)) else y.view()

    def _call_symbolic(self, inputs: Any) -> Any:
        single = not isinstance(inputs, (list, tuple))
        tensors: list[SymbolicTensor] = [inputs] if single else list(inputs)
        for x in tensors:
            if not isinstance(x, SymbolicTensor):
                raise TypeError(
                    f"[{self.name}] arrays and symbolic tensors cannot be mixed: {type(x).__name__}"
                )
        shapes = tensors[0].shape if single else [x.shape for x in tensors]
        self.accept(shapes)
        out = self.compute_output_shape(shapes)
        node = Node(self, tensors, single, out, self.output_dtype)
        self._nodes.append(node)
        return node.outputs if isinstance(out, list) else node.outputs[0]

    @property
    def input_dtype(self) -> str:
        """What arrays are converted to on their way in."""
        return self.dtype

    @property
    def output_dtype(self) -> str:
        return self.dtype

    def run(self, x: Any, training: bool = False) -> tuple[Any, Backward]:
        """`forward`, for whoever has the layer inside: builds it, casts x to the layer's dtype, and
        applies the activity regularizer."""
        many = isinstance(x, (list, tuple))
        if not self.built:
            self.ensure_built([(None, *b.shape[1:]) for b in x] if many else (None, *x.shape[1:]))
        if self.autocast and (many or x.dtype != self.dtype):
            xs = list(x) if many else [x]
            if any(b.dtype != self.dtype for b in xs):
                return self._run_cast(xs, many, training)
        y, backward = self._forward_buffers(x, training)
        if self.activity_regularizer is None or activity_penalties.noted is None:
            # None goes through: what is above this layer depends on nothing that is trained.
            return y, lambda dy: None if dy is None and not self.penalised else backward(dy)
        penalty = ActivityPenalty(self.activity_regularizer, y)
        activity_penalties.noted.append(penalty)

        def backward_with_penalty(dy: Any) -> Any:
            if dy is None or penalty.dy is None:
                dy = penalty.dy if dy is None else dy
            else:
                dy = add_gradients(y, dy, penalty.dy)
            return backward(dy)

        return y, backward_with_penalty

    def _forward_buffers(self, x: Any, training: bool) -> tuple[Any, Backward]:
        """`forward` on Buffers."""
        return self.forward(x, training=training)

    def _run_cast(self, xs: list[Buffer], many: bool, training: bool) -> tuple[Any, Backward]:
        inside = [cast(x, self.dtype) for x in xs]
        y, backward = self.run(inside if many else inside[0], training)

        def backward_through_cast(dy: Any) -> Any:
            dx = backward(dy)
            dxs = [
                None if d is None else cast(d, x.dtype)
                for d, x in zip(dx if many else [dx], xs, strict=True)
            ]
            return dxs if many else dxs[0]

        return y, backward_through_cast

    def ensure_built(self, input_shape: Any) -> None:
        """Build the layer if it is not built yet."""
        if not self.built:
            self.build(input_shape)

    def note_built(self, input_shape: Any) -> None:
        """What follows `build`, whoever called it."""
        self.built = True
        self._built_shape = input_shape
        if not all(layer.built for layer in self.layers):
            self.run_on_zeros(input_shape)  # builds the layers that forward runs

    def accept(self, input_shape: Any) -> None:
        """Build the layer for an input, or refuse what it cannot take."""
        if self.built:
            self._check(input_shape)
        else:
            self.build(input_shape)

    def _check(self, input_shape: Any) -> None:
        if self.single_input and isinstance(input_shape, list):
            shapes = [shape for shape in input_shape if isinstance(shape, (list, tuple))]
            if len(shapes) == len(input_shape):  # [None, 3] is one shape
                mend = "give it the array itself"
                if len(shapes) > 1:
                    rows = all(len(shape) < 2 for shape in shapes)
                    mend = "make rows one array, by np.asarray" if rows else "merge them first"
                raise ValueError(
                    f"[{self.name}] {type(self).__name__} takes one input; received a list of "
                    f"{len(shapes)}: {shapes}: {mend}"
                )
        self.check_input(input_shape)

    def check_input(self, input_shape: Any) -> None:
        """Raise ValueError for shapes that the layer cannot take."""

    def check_size(self, input_shape: Shape, axis: int) -> None:
        """Raise ValueError if the variables are made for another size of an axis."""
        if self.built and input_shape[axis] != self._built_shape[axis]:
            raise ValueError(
                f"[{self.name}] {type(self).__name__} was built for inputs {self._built_shape}: "
                f"axis {axis} must be {self._built_shape[axis]}; received {input_shape}"
            )

    def graph(self, training: bool, input_shape: Any = None) -> Graph:
        """The graph traced from `call`."""
        if training not in self._graphs:
            if input_shape is None:
                raise ValueError(f"[{self.name}] build the layer, or call it on data, first")
            self._graphs[training] = trace(self, input_shape, training)
        return self._graphs[training]

    # --- variables ------------------------------------------------------------------------------

    def add_weight(
        self,
        shape: Sequence[int],
        initializer: Any = "glorot_uniform",
        *,
        name: str = "variable",
        regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
    ) -> Variable:
        """Make a variable.

        Args:
            shape: its dimensions.
            initializer: a name, an Initializer, or a function (shape, dtype) -> array.
            name: as "kernel".
            regularizer: a penalty on it.
            trainable: whether optimizers may change it.
            dtype: the layer's, if None.

        Returns:
            The Variable.
        """
        make = initializers.get(initializer)
        if make is None:
            make = initializers.Zeros()
        shape, dtype = tuple(shape), config.dtype_name(dtype or self.dtype)
        value = np.asarray(make(shape, dtype), dtype)
        if value.shape != shape:
            raise ValueError(
                f"[{self.name}] the initializer of {name} gave {value.shape} instead of {shape}"
            )
        variable = Variable(
            value,
            name=name,
            path=f"{self.name}/{name}",
            trainable=trainable,
            regularizer=regularizers.get(regularizer),
        )
        self._variables.append(variable)
        return variable

    @property
    def layers(self) -> list[Layer]:
        """The layers inside: attributes, and what attributes hold in lists and dicts, in order."""
        return list(dict.fromkeys(_layers_in(vars(self))))

    def flatten_layers(self) -> Iterator[Layer]:
        """The layer itself and all that are inside it, at any depth, each once."""
        seen: set[int] = set()
        stack: list[Layer] = [self]
        while stack:
            layer = stack.pop()
            if id(layer) not in seen:
                seen.add(id(layer))
                yield layer
                stack.extend(reversed(layer.layers))

    @property
    def penalised(self) -> bool:
        """Whether an activity regularizer is here or inside: a gradient begins at it."""
        return any(layer.activity_regularizer is not None for layer in self.flatten_layers())

    @property
    def weights(self) -> list[Variable]:
        """All variables: of each layer first those that can be trained."""
        found: list[Variable] = []
        for layer in self.flatten_layers():
            found += sorted(layer._variables, key=lambda v: not v.trainable)
        return found

    variables = weights

    @property
    def trainable_weights(self) -> list[Variable]:
        """The variables that training changes, as the `trainable` flags now say."""
        if not self._trainable:
            return []
        found = [v for v in self._variables if v.trainable]
        for layer in self.layers:
            found += layer.trainable_weights
        return list({id(v): v for v in found}.values())

    trainable_variables = trainable_weights

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The others."""
        trained = {id(v) for v in self.trainable_weights}
        return [v for v in self.weights if id(v) not in trained]

    non_trainable_variables = non_trainable_weights

    @property
    def trainable(self) -> bool:
        """Whether the variables are trained. Read when `compile` is called; setting it sets it for
        the layers inside as well."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.flatten_layers():
            layer._trainable = bool(value)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the variables' values."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replace the values of all variables.

        Args:
            weights: arrays, as `get_weights` returns them.

        Raises:
            ValueError: if their number or a shape differs; nothing is changed then.
        """
        own = self.weights
        if len(own) != len(weights):
            raise ValueError(
                f"[{self.name}] the layer has {len(own)} weights but {len(weights)} were given; "
                "build it before set_weights if it has none yet"
            )
        arrays = [np.asarray(w) for w in weights]
        for variable, array in zip(own, arrays, strict=True):
            if variable.shape != array.shape:
                raise ValueError(
                    f"[{self.name}] {variable.path} has shape {variable.shape} but the array given "
                    f"has {array.shape}"
                )
            if array.dtype.kind not in "biuf":
                raise TypeError(
                    f"[{self.name}] {variable.path} needs numbers; received dtype {array.dtype}"
                )
        for variable, array in zip(own, arrays, strict=True):
            variable.assign(array)

    def count_params(self) -> int:
        """The number of values in all variables."""
        if not self.built:
            raise ValueError(
                f"[{self.name}] count_params needs a built layer: call it on data first"
            )
        return sum(v.size for v in self.weights)

    @property
    def input(self) -> Any:
        """The symbolic input of the layer's only use in a graph."""
        node = self._only_node()
        return node.inputs[0] if node.single else node.inputs

    @property
    def output(self) -> Any:
        """The symbolic output of the layer's only use in a graph."""
        node = self._only_node()
        return node.outputs[0] if len(node.outputs) == 1 else node.outputs

    def _only_node(self) -> Node:
        if len(self._nodes) != 1:
            raise ValueError(
                f"[{self.name}] is used {len(self._nodes)} times in graphs: input and output are "
                "told only of a layer used once"
            )
        return self._nodes[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name} built={self.built}>"


def _layers_in(value: Any) -> Iterator[Layer]:
    """Looked for whenever they are asked for: a list may have grown since it was made."""
    if isinstance(value, Layer):
        yield value
    elif isinstance(value, (list, tuple, Mapping)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _layers_in(item)
