"""What layers refuse, and what is refused in layers of one's own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import ranvier
from nets import draw, refused
from ranvier import Input, Model, Sequential, config, layers, ops

X, Y, C = draw(8, 3), draw(8, 2), np.arange(8) % 2


# --- layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: layers.Dense(0), r"\[Dense\] units must be a positive integer; received units=0"),
        (lambda: layers.Dense(-3), r"\[Dense\] units must be a positive integer"),
        (lambda: layers.Dense(2.0), r"\[Dense\] units must be .*; received units=2.0"),
        (lambda: layers.Dense(True), r"\[Dense\] units must be .*; received units=True"),
        (lambda: layers.Dense("8"), r"\[Dense\] units must be .*; received units='8'"),
        (lambda: layers.Dense(2, activation="rleu"), r"\[activation\] unknown activation 'rleu'"),
        (lambda: layers.Dense(2, activation=np.tanh), r"activation <ufunc 'tanh'>.*or a layer"),
        (lambda: layers.Activation("swoosh"), r"\[activation\] unknown activation 'swoosh'"),
        (lambda: layers.Dense(2, kernel_initializer="glort"), r"\[initializer\] .*'glort'"),
        (lambda: layers.Dense(2, kernel_regularizer="l5"), r"\[regularizer\] unknown .*'l5'"),
        (lambda: layers.Dense(2, dtype="float16"), r"float32 or float64; received 'float16'"),
        (lambda: layers.Dense(2, name=3), r"\[Dense\] name must be a string; received 3"),
        (lambda: layers.Dropout(1.0), r"\[Dropout\] rate must be a number from 0 to below 1"),
        (lambda: layers.Dropout(-0.1), r"\[Dropout\] rate must be .*received rate=-0.1"),
        (lambda: layers.Dropout("half"), r"\[Dropout\] rate must be .*received rate='half'"),
        (lambda: layers.Dropout(0.5, seed=-1), r"\[Dropout\] seed must be None or an integer >= 0"),
        (lambda: layers.ReLU(max_value=-1), r"\[ReLU\] max_value must not be negative"),
        (lambda: layers.ReLU(negative_slope=-1), r"\[ReLU\] negative_slope must not be negative"),
        (lambda: layers.LeakyReLU(-0.1), r"\[LeakyReLU\] negative_slope must not be negative"),
        (lambda: layers.Softmax(axis=1), r"\[Softmax\] only the last axis, axis=-1, is supported"),
        (lambda: layers.Reshape((-1, -1)), r"\[Reshape\] target_shape may hold one -1"),
        (lambda: layers.Reshape((-2,)), r"\[Reshape\] target_shape may hold one -1"),
        (lambda: layers.Normalization(axis=0), r"\[Normalization\] axis must be -1 or None; rece"),
        (lambda: layers.Normalization(mean=1.0), "must be given together"),
        (lambda: layers.Normalization(mean=0, variance=-1), "variance must not be negative"),
        (lambda: Input(3), r"\[Input\] shape must be a tuple: write shape=\(3,\)"),
        (lambda: Input((3.5,)), r"\[Input\] shape must hold integers >= 0 or None; received"),
        (lambda: Input((-3,)), r"\[Input\] shape must hold integers >= 0 or None"),
        (lambda: Input((3,), dtype="int32"), "dtype must be float32 or float64; received 'int32'"),
        (lambda: layers.deserialize("dens"), r"\[layer\] unknown layer 'dens'; known are"),
        (lambda: Sequential([Input((2,)), Input((2,))]), "an Input can only come first"),
        (lambda: Sequential().build((None, 2)), "a Sequential without layers cannot be built"),
        (lambda: config.set_floatx("float16"), r'\[set_floatx\] value must be "float32"'),
        (lambda: ranvier.set_num_threads(0), r"\[set_num_threads\] count must be a"),
        (lambda: ranvier.set_num_threads(True), r"\[set_num_threads\] count must be a positive"),
    ],
)  # fmt: skip
def test_bad_constructor_arguments(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_sequential_takes_layers_only():
    for bad in (np.tanh, "dense", layers.Dense):
        with pytest.raises(TypeError, match=r"\[Sequential\] add needs a layer; received"):
            Sequential([bad])
    with pytest.raises(TypeError, match=r"\[Dense\] got an unexpected keyword argument 'unit'"):
        layers.Dense(2, unit=3)
    with pytest.raises(TypeError, match=r"\[Sequential\] got an unexpected keyword argument 'nam'"):
        Sequential(nam="net")


@pytest.mark.parametrize(
    ("layer", "x", "error", "text"),
    [
        (
            layers.Dense(2),
            draw(5),
            ValueError,
            r"Dense needs inputs of shape \(rows, ..., columns\)",
        ),
        (layers.Dense(2), 3.0, ValueError, "Dense needs inputs of shape"),
        (
            layers.Reshape((5,)),
            X,
            ValueError,
            r"cannot reshape rows of shape \(3,\) \(3 values\) to",
        ),
        (layers.Reshape((-1, 2)), X, ValueError, "cannot reshape rows of shape"),
        (
            layers.Normalization(mean=[1, 2], variance=1),
            X,
            ValueError,
            "have a value for each of 3 col",
        ),
        (layers.Dense(2), np.full((2, 3), "a"), TypeError, r"array has dtype <U1; convert it"),
        (
            layers.Dense(2),
            np.array([[1, None]], dtype=object),
            TypeError,
            "array has dtype object; convert it",
        ),
        (layers.Dense(2), X + 1j, TypeError, "array has dtype complex128; convert it"),
    ],
)
def test_layers_refuse_arrays(layer, x, error, text):
    with pytest.raises(error, match=text):
        layer(x)
    with pytest.raises(error, match=text):  # the second time as the first
        layer(x)


ONE_INPUT = {
    "dense": (lambda: layers.Dense(2), (8, 3)),
    "convolution": (lambda: layers.Conv2D(2, 3), (2, 8, 8, 3)),
    "pooling": (lambda: layers.GlobalMaxPooling2D(), (2, 8, 8, 3)),
    "normalization": (lambda: layers.BatchNormalization(), (8, 3)),
    "activation": (lambda: layers.Activation("tanh"), (8, 3)),
    "relu": (lambda: layers.ReLU(), (8, 3)),
    "softmax": (lambda: layers.Softmax(), (8, 3)),
    "leaky": (lambda: layers.LeakyReLU(), (8, 3)),
    "dropout": (lambda: layers.Dropout(0.5), (8, 3)),
    "flatten": (lambda: layers.Flatten(), (2, 8, 8, 3)),
    "reshape": (lambda: layers.Reshape((3, 1)), (8, 3)),
    "permute": (lambda: layers.Permute((1,)), (8, 3)),
    "rescaling": (lambda: layers.Rescaling(2.0), (8, 3)),
    "adapted": (lambda: layers.Normalization(mean=0.0, variance=1.0), (8, 3)),
    "flip": (lambda: layers.RandomFlip(), (2, 8, 8, 3)),
}


@pytest.mark.parametrize("name", ONE_INPUT)
def test_layers_of_one_input_refuse_lists(name):
    make, shape = ONE_INPUT[name]
    layer, x, t = make(), np.ones(shape), Input(shape[1:])
    kind = type(layer).__name__
    for _ in range(2):  # not built, then built
        for given, text in [
            ([x], "a list of 1: .*: give it the array itself"),
            ((x, x), "a list of 2: .*: merge them first"),
            ([t], "a list of 1: "),
            ([t, t], "a list of 2: "),
            ([1.0] * 9, "a list of 9: .*: make rows one array, by np.asarray"),
            ([], "a list of 0: "),
        ]:
            with pytest.raises(
                ValueError, match=rf"^\[.*\] {kind} takes one input; received {text}"
            ):
                layer(given)
        with pytest.raises(ValueError, match="takes one input; received a list of 2"):
            layer.accept([(None, *shape[1:])] * 2)
        for given, text in [
            (None, "received None"),
            ({"a": x}, r"received a dict with keys \['a'\]: give its arrays"),
        ]:
            with pytest.raises(TypeError, match=rf"^\[.*\] {kind} takes arrays; {text}"):
                layer(given)
        layer(x)
    layer.build([None, *shape[1:]])  # one shape


@pytest.mark.parametrize(
    ("make", "built", "other", "text"),
    [
        (
            lambda: layers.Dense(2),
            (8, 3),
            (8, 5),
            r"Dense was built for inputs .*: axis -1 must be 3; received \(None, 5\)",
        ),
        (lambda: layers.Dense(2), (8, 3), (3,), r"received \(None,\): for one row use x\[None\]"),
        (
            lambda: layers.Conv2D(2, 3),
            (2, 8, 8, 3),
            (2, 8, 8, 4),
            r"Conv2D was built for inputs \(None, 8, 8, 3\): axis -1 must be 3",
        ),
        (
            lambda: layers.Conv2D(2, 3, data_format="channels_first"),
            (2, 3, 8, 8),
            (2, 4, 8, 8),
            "axis 1 must be 3",
        ),
        (lambda: layers.SeparableConv1D(2, 3), (2, 8, 3), (2, 8, 4), "axis -1 must be 3"),
        (lambda: layers.BatchNormalization(axis=1), (2, 3, 8), (2, 4, 8), "axis 1 must be 3"),
        (lambda: layers.GlobalMaxPooling2D(), (2, 8, 8, 3), (8, 8, 3), "needs inputs of 4 axes"),
        (lambda: layers.UpSampling2D(), (2, 8, 8, 3), (2, 8, 8, 3, 1), "needs inputs of 4 axes"),
        (lambda: layers.SpatialDropout2D(0.5), (2, 8, 8, 3), (8, 8, 3), "needs inputs of 4 axes"),
    ],
)
def test_a_built_layer_refuses_other_shapes(make, built, other, text):
    layer = make()
    layer(np.ones(built))
    before = layer.get_weights()
    with pytest.raises(ValueError, match=text):
        layer(np.ones(other))
    if len(other) > 1:
        with pytest.raises(ValueError, match=text):  # in a graph as well
            layer(Input(other[1:]))
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.Dense(2), (None, 3)),
        (lambda: layers.Conv2D(2, 3), (None, 8, 8, 3)),
        (lambda: layers.BatchNormalization(), (None, 3)),
    ],
)
def test_build_makes_the_variables_once(make, shape):
    layer = make()
    layer.build(input_shape=shape)
    assert layer.built
    count = len(layer.weights)
    layer.build(shape)
    layer(np.ones((2, *shape[1:])))
    assert len(layer.weights) == count


def test_build_of_a_derived_class():
    class Shifted(layers.Dense):
        def build(self, shape):
            super().build(shape)
            assert not self.built  # what follows is part of it
            self.shift = self.add_weight((shape[-1],), "zeros", name="shift")

    layer = Shifted(2)
    layer.build((None, 3))
    assert layer.built and len(layer.weights) == 3
    with pytest.raises(ValueError, match="with a known number of columns"):
        Shifted(2).build((None, None))


def test_build_of_a_subclassed_model():
    class Net(Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = layers.Dense(4), layers.Dense(2)

        def call(self, x):
            return self.out(self.hidden(x))

    model = Net()
    model.build((None, 3))
    assert model.built and len(model.weights) == 4
    assert model(np.ones((5, 3))).shape == (5, 2)
    assert len(model.weights) == 4


def test_columns_must_be_known():
    with pytest.raises(ValueError, match="with a known number of columns; received"):
        layers.Dense(2)(Input((None,)))
    with pytest.raises(ValueError, match=r"the number of columns must be known: \(None, None\)"):
        layers.Normalization()(Input((None,)))


def test_adapt_refuses():
    layer = layers.Normalization(name="n")
    with pytest.raises(ValueError, match=r"\[n\] adapt needs data; received shape \(0, 3\)"):
        layer.adapt(np.zeros((0, 3)))
    layer.adapt(X)
    mean = layer.mean.numpy()
    with pytest.raises(
        ValueError, match=r"\[n\] the layer has 3 columns but the data given to adapt"
    ):
        layer.adapt(draw(8, 4))
    np.testing.assert_array_equal(layer.mean, mean)


def test_initializers_that_give_another_shape():
    layer = layers.Dense(2, kernel_initializer=lambda shape, dtype: np.zeros(3), name="d")
    with pytest.raises(
        ValueError, match=r"\[d\] the initializer of kernel gave \(3,\) instead of \(3, 2"
    ):
        layer(X)


# --- layers of one's own --------------------------------------------------------------------------


class Custom(layers.Layer):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def forward(self, x, *, training=False):
        return self.function(x), lambda dy: dy


NUMPY_ON_BUFFERS = {
    "ufunc": np.square,
    "function": lambda x: np.dot(x, np.ones(3)),
    "reduction": lambda x: np.sum(x),
    "asarray": np.asarray,
    "array_times_buffer": lambda x: np.ones(3) * x,
    "concatenate": lambda x: np.concatenate([x, x]),
}


@pytest.mark.parametrize("name", NUMPY_ON_BUFFERS)
def test_numpy_on_a_buffer_is_refused(name):
    """Else its result would be a constant of the recorded step."""
    text = (
        "NumPy cannot work on a Buffer: inside a layer, data is touched through ranvier.ops only. "
        "Use an op, or derive the layer from ranvier.layers.NumpyLayer"
    )
    layer = Custom(NUMPY_ON_BUFFERS[name])
    with pytest.raises(TypeError, match=text):
        layer(X)
    with pytest.raises(TypeError, match=text):
        Sequential([Input((3,)), Custom(NUMPY_ON_BUFFERS[name]), layers.Dense(2)])


@pytest.mark.parametrize("function", [lambda x: x * 2, lambda x: x + x, lambda x: -x])
def test_arithmetic_on_a_buffer_is_refused_with_a_hint(function):
    with pytest.raises(TypeError, match=r"ranvier\.ops"):
        Custom(function)(X)


def test_numpy_on_a_buffer_in_training_changes_nothing():
    """A layer that goes wrong only in training is found by the first step, before the update."""

    class Late(layers.Layer):
        def forward(self, x, *, training=False):
            return ops.activation(np.square(x) if training else x, "tanh"), lambda dy: dy

    model = Sequential([Input((3,)), layers.Dense(2), Late()])
    model.compile("adam", "mse")
    refused(model, lambda: model.fit(X, Y, verbose=0), TypeError, "NumPy cannot work on a Buffer")
    assert model.predict(X).shape == (8, 2)


def test_an_error_in_a_backward_changes_nothing():
    """Neither the layers behind it, whose gradients were ready, nor those before it have moved."""

    class Breaks(layers.Layer):
        def forward(self, x, *, training=False):
            def backward(dy):
                return np.square(dy)

            return ops.activation(x, "tanh"), backward

    model = Sequential([Input((3,)), layers.Dense(3), Breaks(), layers.Dense(2)])
    model.compile("adam", "mse")
    for _ in range(2):
        refused(model, lambda: model.fit(X, Y, verbose=0), TypeError, "NumPy cannot work on a Buff")


def test_a_layer_called_inside_a_forward():
    inner = layers.Dense(2)
    with pytest.raises(
        TypeError, match=r"\[dense\] a layer cannot be called inside forward, .*run\(x"
    ):
        Custom(inner)(X)


def test_layers_that_define_too_little():
    class Nothing(layers.Layer):
        pass

    class NothingInNumPy(layers.NumpyLayer):
        pass

    text = r"\[nothing\] Nothing defines neither forward\(x, training=\) nor call\(inputs\)"
    with pytest.raises(NotImplementedError, match=text):
        Nothing()(X)
    with pytest.raises(NotImplementedError, match="NothingInNumPy must define forward"):
        NothingInNumPy()(X)


class Given(layers.NumpyLayer):
    """Adds a gradient, and returns one, that it was told to."""

    def __init__(self, dx, dw, **kwargs):
        super().__init__(**kwargs)
        self.dx, self.dw = dx, dw

    def build(self, input_shape):
        self.w = self.add_weight((3,), "zeros", name="w")

    def forward(self, x, *, training=False):
        def backward(dy):
            self.add_gradient(self.w, self.dw)
            return self.dx

        return x, backward


def test_gradients_of_the_wrong_shape():
    for dx, dw, text in [
        (
            np.ones((8, 2)),
            np.ones(3),
            r"\[given\] backward returned a gradient of shape \(8, 2\) for",
        ),
        (
            np.ones((8, 3)),
            np.ones(4),
            r"\[given\] the gradient of given/w has shape \(4,\) but the va",
        ),
    ]:
        model = Sequential([Input((3,)), layers.Dense(3), Given(dx, dw, name="given")])
        model.compile("adam", "mse")
        refused(model, lambda m=model: m.fit(X, X, verbose=0), ValueError, text)


LIARS = {
    "shape": """
        class Liar(layers.NumpyLayer):
            def compute_output_shape(self, input_shape):
                return input_shape

            def forward(self, x, *, training=False):
                return np.repeat(x, 100, axis=1), lambda dy: dy

        last = Liar()
        model = Sequential([Input((2,)), last])
    """,
    "dtype": """
        class Liar(layers.Layer):
            def build(self, input_shape):
                self.inner = layers.Dense(3, dtype="float64")

            def forward(self, x, *, training=False):
                return self.inner.run(x, training)

        last = Liar()
        model = Sequential([Input((2,)), last])
    """,
    "grown": """
        last = Sequential([Input((2,)), layers.Dense(3)])
        model = Sequential([Input((2,)), last])
        last.add(layers.Dense(500))
    """,
}


@pytest.mark.parametrize("lie", LIARS)
def test_a_layer_whose_output_is_not_what_it_told(lie):
    """In a process of its own, because memory may be overwritten."""
    lines = [
        "import numpy as np",
        "from ranvier import Input, Model, Sequential, layers",
        textwrap.dedent(LIARS[lie]),
        "x = np.ones((2000, 2))",
        "try:",
        "    y = model.predict(x)",
        "except ValueError:",
        "    print('refused')",
        "else:",
        "    print(y.shape == last(x).shape and np.allclose(y, last(x)))",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.stdout in ("True\n", "refused\n") and done.returncode == 0, done.stderr
