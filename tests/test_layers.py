"""Layers one by one: values, shapes, variables, configs. Derivatives are in test_gradients."""

from __future__ import annotations

import json

import numpy as np
import pytest

import reference
from cases import DTYPES, LAYOUTS, assert_close
from ranvier import Input, config, initializers, layers, ops, regularizers, utils
from reference import ACTIVATIONS

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])


def draw(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(dtype)


# --- values ---------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense(activation, use_bias, shape, dtype):
    layer = layers.Dense(
        4, activation=activation, use_bias=use_bias, bias_initializer="normal", dtype=dtype
    )
    x = draw(*shape, dtype=dtype)
    y = layer(x)
    bias = layer.bias.numpy() if use_bias else None
    expected = reference.dense(x, layer.kernel.numpy(), bias, activation=activation)
    assert_close(y, expected, "product", dtype=dtype, terms=5)
    assert (layer.bias is None) != use_bias
    assert layer.count_params() == 5 * 4 + 4 * use_bias


@every_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(activation, dtype):
    x = draw(6, 9, dtype=dtype)
    y = layers.Activation(activation, dtype=dtype)(x)
    expected = reference.activation(x, activation)
    assert_close(y, expected, "reduction" if activation == "softmax" else "transcendental", terms=9)


def test_activations_as_functions_and_by_other_names():
    from ranvier import activations

    x = draw(3, 4)
    for given in (activations.tanh, "tanh"):
        np.testing.assert_array_equal(
            layers.Activation(given)(x),
            layers.Dense(4, activation=given, kernel_initializer="identity")(x),
        )
    np.testing.assert_array_equal(layers.Activation("swish")(x), layers.Activation("silu")(x))
    np.testing.assert_array_equal(layers.Activation(None)(x), x)
    np.testing.assert_array_equal(layers.Dense(4, kernel_initializer="identity")(x), x)


@every_dtype
def test_relu_and_its_options(dtype):
    x = np.array([[-3, -0.5, 0, 0.25, 1, 1.5, 9]], dtype)
    for max_value, slope in [(None, 0), (1, 0), (None, 0.5), (1, 0.5), (0, 0.5)]:
        y = layers.ReLU(max_value=max_value, negative_slope=slope, dtype=dtype)(x)
        expected = np.where(x > 0, x, x * slope)
        if max_value is not None:
            expected = np.minimum(expected, max_value)
        np.testing.assert_array_equal(y, expected.astype(dtype))


@pytest.mark.parametrize("max_value", [6.0, 1e8])
def test_relu_with_a_maximum_is_exact_below_it(max_value):
    x = np.array([[-2.0, 1e-6, 0.1, 1, 5]], np.float32)
    np.testing.assert_array_equal(
        layers.ReLU(max_value=max_value, negative_slope=0.5)(x), np.where(x > 0, x, x / 2)
    )


@every_dtype
def test_leaky_relu(dtype):
    x = np.array([[-2, 0, 3]], dtype)
    np.testing.assert_allclose(layers.LeakyReLU(dtype=dtype)(x), [[-0.6, 0, 3]], rtol=1e-6)
    np.testing.assert_allclose(layers.LeakyReLU(0.1, dtype=dtype)(x), [[-0.2, 0, 3]], rtol=1e-6)
    # the string's slope is another, as in Keras
    by_name = layers.Activation("leaky_relu", dtype=dtype)(x)
    np.testing.assert_allclose(by_name, [[-0.4, 0, 3]], rtol=1e-6)


@every_dtype
def test_softmax(dtype):
    x = draw(3, 2, 5, dtype=dtype)
    y = layers.Softmax(dtype=dtype)(x)
    assert_close(y, reference.softmax(x), "reduction", terms=5)


def test_flatten_and_reshape():
    x = draw(3, 2, 4)
    np.testing.assert_array_equal(layers.Flatten()(x), x.reshape(3, 8))
    np.testing.assert_array_equal(layers.Flatten()(draw(3)), draw(3)[:, None])
    image = draw(3, 2, 4, 5)
    y = layers.Flatten(data_format="channels_first")(image)
    np.testing.assert_array_equal(y, image.transpose(0, 2, 3, 1).reshape(3, 40))
    flat = image[:, :, 0, 0]
    np.testing.assert_array_equal(layers.Flatten("channels_first")(flat), flat)
    np.testing.assert_array_equal(layers.Reshape((4, 2))(x), x.reshape(3, 4, 2))
    np.testing.assert_array_equal(layers.Reshape((-1,))(x), x.reshape(3, 8))
    np.testing.assert_array_equal(layers.Reshape((2, -1, 2))(x), x.reshape(3, 2, 2, 2))


def test_permute():
    x = draw(3, 2, 4, 5)
    np.testing.assert_array_equal(layers.Permute((3, 1, 2))(x), x.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(layers.Permute((2, 1))(x[0]), x[0].transpose(0, 2, 1))
    assert layers.Permute((2, 1))(Input((3, 4))).shape == (None, 4, 3)
    layer = layers.deserialize(layers.serialize(layers.Permute((2, 1))))
    assert layer.dims == (2, 1)
    for dims in [(0, 1), (1, 3), (1, 1), (2,)]:
        with pytest.raises(ValueError, match="must name each axis"):
            layers.Permute(dims)
    with pytest.raises(ValueError, match="needs inputs of 3 axes"):
        layers.Permute((2, 1))(x)


@every_dtype
def test_rescaling(dtype):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    y = layers.Rescaling(1 / 255, offset=-0.5, dtype=dtype)(pixels)
    assert_close(y, pixels / 255 - 0.5, "elementwise", dtype=dtype)


@every_dtype
@pytest.mark.parametrize("shape", [(50, 3), (10, 4, 3)], ids=str)
def test_normalization_adapts(shape, dtype):
    data = draw(*shape, dtype=np.float64) * [1, 10, 100] + [5, -5, 0]
    layer = layers.Normalization(dtype=dtype)
    layer.adapt(data)
    axes = tuple(range(len(shape) - 1))
    np.testing.assert_allclose(layer.mean.numpy(), data.mean(axes), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(layer.variance.numpy(), data.var(axes), rtol=1e-6)
    y = layer(data)
    np.testing.assert_allclose(y, (data - data.mean(axes)) / data.std(axes), atol=2e-5)
    undo = layers.Normalization(
        mean=layer.mean.numpy(), variance=layer.variance.numpy(), invert=True, dtype=dtype
    )
    np.testing.assert_allclose(undo(y), data, rtol=1e-4, atol=1e-4)
    assert not layer.trainable_weights and len(layer.non_trainable_weights) == 2


def test_normalization_of_everything_and_of_given_moments():
    data = draw(20, 3) * 4 + 2
    layer = layers.Normalization(axis=None)
    layer.adapt(data)
    assert layer.mean.shape == (1,)
    np.testing.assert_allclose(layer(data), (data - data.mean()) / data.std(), rtol=1e-4, atol=1e-5)
    given = layers.Normalization(mean=2.0, variance=[4.0, 9.0, 16.0])
    np.testing.assert_allclose(given(data), (data - 2) / [2, 3, 4], rtol=1e-5, atol=1e-6)


def test_normalization_of_a_constant_column():
    """A deviation of 0 counts as 1e-7, as in Keras."""
    layer = layers.Normalization()
    layer.adapt(np.full((4, 1), 3.0))
    np.testing.assert_array_equal(layer(np.full((2, 1), 3.0)), 0)


def test_dropout():
    x = np.ones((200, 50), np.float32)
    layer = layers.Dropout(0.25, seed=3)
    np.testing.assert_array_equal(layer(x), x)
    y, z = layer(x, training=True), layer(x, training=True)
    for i, kept in enumerate((y, z)):
        np.testing.assert_array_equal(kept, ops.dropout(x, 0.25, seed=3, counter=i))
        assert set(np.unique(kept)) == {0, np.float32(1 / 0.75)}
        assert abs((kept == 0).mean() - 0.25) < 0.02
    assert (y != z).any()
    np.testing.assert_array_equal(layers.Dropout(0.25, seed=3)(x, training=True), y)
    np.testing.assert_array_equal(layers.Dropout(0.0)(x, training=True), x)


def test_dropout_without_a_seed_follows_set_random_seed():
    x = np.ones((8, 8), np.float32)

    def masks(seed):
        utils.set_random_seed(seed)
        return [layers.Dropout(0.5)(x, training=True) for _ in range(2)]

    a, b = masks(1)
    assert (a != b).any()
    np.testing.assert_array_equal(masks(1), [a, b])
    assert (masks(2)[0] != a).any()


# --- calling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_any_layout(layout):
    x, layer = draw(4, 6), layers.Dense(3)
    expected = layer(x.copy())
    np.testing.assert_array_equal(layer(LAYOUTS[layout](x)), expected)


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.int8, np.int32, np.int64, np.float16, np.float64]
)
def test_arrays_of_any_number_type(dtype):
    x, layer = (draw(4, 6) > 0).astype(dtype), layers.Dense(3)
    y = layer(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, layer(x.astype(np.float32)))


def test_results_do_not_share_memory():
    layer, x = layers.Dense(3), draw(4, 6)
    first = layer(x)
    kept = first.copy()
    layer(2 * x)
    np.testing.assert_array_equal(first, kept)
    y = layers.Flatten()(x)
    y[:] = 9
    np.testing.assert_array_equal(x, draw(4, 6))


def test_words_in_capitals():
    pool = layers.MaxPooling2D(padding="SAME", data_format="Channels_First")
    assert (pool.padding, pool.data_format) == ("same", "channels_first")
    assert layers.Conv1D(2, 3, padding="Causal").padding == "causal"
    assert layers.Flatten("CHANNELS_FIRST").data_format == "channels_first"


SHAPES = [
    (lambda: layers.Dense(5), (4, 3)),
    (lambda: layers.Dense(5), (4, 2, 3)),
    (lambda: layers.Activation("relu"), (4, 2, 3)),
    (lambda: layers.ReLU(), (4, 3)),
    (lambda: layers.LeakyReLU(), (4, 3)),
    (lambda: layers.Softmax(), (4, 3)),
    (lambda: layers.Flatten(), (4, 2, 3)),
    (lambda: layers.Flatten(), (4, 3)),
    (lambda: layers.Flatten(), (4,)),
    (lambda: layers.Flatten("channels_first"), (4, 2, 3, 5)),
    (lambda: layers.Reshape((3, -1)), (4, 2, 3)),
    (lambda: layers.Dropout(0.5), (4, 2, 3)),
    (lambda: layers.Rescaling(2.0), (4, 3)),
    (lambda: layers.Normalization(), (4, 3)),
]


@pytest.mark.parametrize(("make", "shape"), SHAPES)
def test_output_shape_is_told_before(make, shape):
    layer = make()
    told = layer(Input(shape[1:])).shape
    assert told[0] is None
    assert told[1:] == layer(draw(*shape)).shape[1:]
    assert layer.compute_output_shape((None, *shape[1:])) == told


def test_output_shape_with_unknown_dimensions():
    assert layers.Dense(5)(Input((None, 3))).shape == (None, None, 5)
    assert layers.Dropout(0.5)(Input((None, 3))).shape == (None, None, 3)
    assert Triple()(Input((None, 3))).shape == (None, None, 9)
    assert layers.Flatten()(Input((None, 3))).shape == (None, None)


# --- layers of one's own --------------------------------------------------------------------------


class Triple(layers.NumpyLayer):
    """Three copies side by side."""

    def forward(self, x, *, training=False):
        self.seen = x
        return np.tile(x, 3), lambda dy: sum(np.split(dy, 3, axis=-1))


class Affine(layers.NumpyLayer):
    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight((input_shape[-1], self.units), "ones", name="w")
        self.b = self.add_weight((self.units,), "zeros", name="b", regularizer="l2")
        self.calls = self.add_weight((), "zeros", name="calls", trainable=False)

    def forward(self, x, *, training=False):
        w = self.w.numpy()

        def backward(dy):
            self.add_gradient(self.w, x.T @ dy)
            self.add_gradient(self.b, dy.sum(0))
            return dy @ w.T

        return x @ w + self.b.numpy() + (100 if training else 0), backward

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_numpy_layer():
    layer, x = Affine(), draw(3, 4)
    np.testing.assert_allclose(layer(x), np.repeat(x.sum(1, keepdims=True), 2, 1), rtol=1e-5)
    np.testing.assert_allclose(layer(x, training=True), layer(x) + 100)
    assert [v.path for v in layer.weights] == ["affine/w", "affine/b", "affine/calls"]
    assert [v.path for v in layer.non_trainable_weights] == ["affine/calls"]
    assert layer.b.regularizer.l2 == 0.01


@every_dtype
def test_numpy_layer_is_given_its_own_dtype(dtype):
    layer = Triple(dtype=dtype)
    assert layer(np.array([[1, 2]])).dtype == dtype
    assert layer.seen.dtype == dtype and type(layer.seen) is np.ndarray


class Tower(layers.Layer):
    """Layers in lists that grow, in dicts, one in another, under names of any kind."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stack = []
        for i in range(2):
            self.stack.append(layers.Dense(3, name=f"stack_{i}"))
        self._private = layers.Dense(3, name="private")
        self.nested = [{"a": [layers.Dense(3, name="nested")]}]
        self.pair = (layers.Dense(3, name="left"), "text", 5)

    def call(self, x):
        for layer in [*self.stack, self._private, self.nested[0]["a"][0], self.pair[0]]:
            x = layer(x)
        return x


def test_layers_inside_are_found_wherever_they_are_kept():
    tower = Tower()
    names = ["stack_0", "stack_1", "private", "nested", "left"]
    assert [layer.name for layer in tower.layers] == names
    tower(draw(2, 3))
    assert len(tower.trainable_weights) == 10
    assert [v.path.split("/")[0] for v in tower.weights[::2]] == names
    tower.trainable = False
    assert not tower.trainable_weights
    assert not any(layer.trainable for layer in tower.layers)
    tower.stack.pop()
    assert len(tower.layers) == 4


def test_layers_made_before_super_init_are_found_as_well():
    class Early(layers.Layer):
        def __init__(self):
            self.inner = layers.Dense(2)
            super().__init__()

        def call(self, x):
            return self.inner(x)

    layer = Early()
    layer(draw(2, 3))
    assert len(layer.weights) == 2


# --- variables ------------------------------------------------------------------------------------


def test_variables():
    layer = layers.Dense(2, name="code")
    assert layer.weights == [] and not layer.built
    layer(draw(1, 3))
    kernel, bias = layer.weights
    assert layer.built and layer.variables[0] is kernel
    assert (kernel.name, kernel.path, kernel.shape, kernel.dtype) == (
        "kernel", "code/kernel", (3, 2), "float32",
    )  # fmt: skip
    assert (bias.name, bias.path, bias.trainable) == ("bias", "code/bias", True)
    assert repr(bias) == "<Variable path=code/bias shape=(2,) dtype=float32>"
    values = kernel.numpy()
    assert type(values) is np.ndarray and values.dtype == np.float32
    values[:] = 0  # a copy
    assert kernel.numpy().any()
    kernel.assign(np.arange(6).reshape(3, 2))
    np.testing.assert_array_equal(kernel, [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(np.asarray(kernel, np.float64), [[0, 1], [2, 3], [4, 5]])
    with pytest.raises(
        ValueError, match=r"\[code/bias\] .*shape \(3,\) but the variable has \(2,\)"
    ):
        bias.assign([1, 2, 3])
    np.testing.assert_array_equal(bias, [0, 0])


def test_get_and_set_weights():
    layer, other = layers.Dense(2), layers.Dense(2)
    x = draw(4, 3)
    layer(x), other(x)
    weights = layer.get_weights()
    weights[1][:] = 7  # copies
    np.testing.assert_array_equal(layer.bias, [0, 0])
    other.set_weights(weights)
    np.testing.assert_allclose(other(x), layer(x) + 7, rtol=1e-6)
    other.set_weights([w.tolist() for w in weights])
    other.set_weights(layer.weights)  # variables are arrays too
    np.testing.assert_array_equal(other(x), layer(x))


def test_weights_come_from_the_initializers():
    layer = layers.Dense(
        3,
        kernel_initializer=initializers.Constant(2.5),
        bias_initializer=lambda shape, dtype: np.ones(shape),
    )
    layer(draw(1, 2))
    np.testing.assert_array_equal(layer.kernel, np.full((2, 3), 2.5))
    np.testing.assert_array_equal(layer.bias, [1, 1, 1])
    default = layers.Dense(50)
    default(draw(1, 70))
    limit = np.sqrt(6 / 120)
    assert 0.9 * limit < np.abs(default.kernel.numpy()).max() <= limit
    np.testing.assert_array_equal(default.bias, np.zeros(50))


def test_numpy_integers_are_sizes_too():
    layer = layers.Dense(np.int64(3))
    assert type(layer.units) is int
    assert layer(Input((np.int32(2),))).shape == (None, 3)


# --- names, dtypes --------------------------------------------------------------------------------


def test_names():
    assert [layers.Dense(1).name for _ in range(3)] == ["dense", "dense_1", "dense_2"]
    assert layers.Dense(1, name="mine").name == "mine"
    assert layers.Dense(1).name == "dense_3"
    assert layers.LeakyReLU().name == "leaky_re_lu"
    assert repr(layers.Dense(1, name="a")) == "<Dense name=a built=False>"


def test_set_floatx():
    assert layers.Dense(1)(draw(2, 3)).dtype == np.float32
    config.set_floatx("float64")
    assert config.floatx() == "float64"
    layer = layers.Dense(1)
    assert layer.dtype == "float64"
    assert layer(draw(2, 3)).dtype == np.float64
    assert {v.dtype for v in layer.weights} == {"float64"}
    assert layers.Dense(1, dtype="float32")(draw(2, 3)).dtype == np.float32


# --- configs --------------------------------------------------------------------------------------

CONFIGS = [
    (
        layers.Dense(
            3,
            activation="gelu",
            use_bias=False,
            kernel_initializer=initializers.HeNormal(seed=4),
            kernel_regularizer=regularizers.L1L2(0.1, 0.2),
            bias_regularizer="l1",
            activity_regularizer="l2",
            name="d",
            dtype="float64",
            trainable=False,
        ),
        (4, 2),
    ),
    (layers.Dense(2, input_shape=(5,)), (4, 5)),
    (layers.Activation("selu"), (4, 2)),
    (layers.ReLU(max_value=3.0, negative_slope=0.5), (4, 2)),
    (layers.LeakyReLU(0.7), (4, 2)),
    (layers.Softmax(), (4, 2)),
    (layers.Flatten("channels_first"), (4, 2, 3)),
    (layers.Reshape((3, -1)), (4, 6)),
    (layers.Dropout(0.3, seed=5), (4, 2)),
    (layers.Rescaling(2.0, offset=1.0), (4, 2)),
    (layers.Normalization(mean=[1.0, 2.0], variance=[3.0, 4.0], invert=True), (4, 2)),
    (layers.Normalization(axis=None), (4, 2)),
    (Affine(units=3, name="mine"), (4, 2)),
]


@pytest.mark.parametrize(("layer", "shape"), CONFIGS, ids=[type(c[0]).__name__ for c in CONFIGS])
def test_config_round_trip(layer, shape):
    x = draw(*shape)
    layer(x)
    custom = {"Affine": Affine}
    wrapped = layers.serialize(layer)
    assert wrapped["class_name"] == type(layer).__name__
    again = layers.deserialize(json.loads(json.dumps(wrapped)), custom)
    for other in (again, type(layer).from_config(layer.get_config())):
        assert type(other) is type(layer) and not other.built
        assert json.dumps(other.get_config()) == json.dumps(layer.get_config())
        assert (other.name, other.dtype, other.trainable) == (
            layer.name, layer.dtype, layer.trainable,
        )  # fmt: skip
        other(x)
        other.set_weights(layer.get_weights())
        for training in (False, True):
            utils.set_random_seed(1)
            state = getattr(layer, "random_state", None)
            if state is not None:
                state.assign(other.random_state.numpy())
            np.testing.assert_array_equal(other(x, training=training), layer(x, training=training))


def test_input_layer_config():
    layer = layers.InputLayer((3, None), batch_size=8, name="pixels", dtype="float64")
    again = layers.deserialize(json.loads(json.dumps(layers.serialize(layer))))
    assert again.tensor.shape == (8, 3, None)
    assert (again.name, again.tensor.name, again.tensor.dtype) == ("pixels", "pixels", "float64")


def test_config_of_a_regularizer_and_an_initializer_survives():
    layer = CONFIGS[0][0]
    again = layers.Dense.from_config(json.loads(json.dumps(layer.get_config())))
    assert (again.kernel_regularizer.l1, again.kernel_regularizer.l2) == (0.1, 0.2)
    assert again.activity_regularizer.l2 == 0.01
    assert isinstance(again.kernel_initializer, initializers.HeNormal)
    assert again.kernel_initializer.seed == 4


# --- the places in a graph ------------------------------------------------------------------------


def test_input_and_output_of_a_layer_in_a_graph():
    x = Input((3,), name="x")
    layer = layers.Dense(2)
    y = layer(x)
    assert layer.input is x and layer.output is y
    assert (y.shape, y.dtype, y.ndim) == ((None, 2), "float32", 2)
    assert repr(x) == "<SymbolicTensor shape=(None, 3) dtype=float32 name=x>"
    layer(x)
    with pytest.raises(ValueError, match=r"\[dense\] is used 2 times in graphs"):
        _ = layer.output
