"""Beside Keras 3 and PyTorch: from equal weights and the same batches, the same losses.

The models are made by one function for Ranvier and Keras, since their names are the same. For
PyTorch the formulas are written out, so that nothing but the derivatives is PyTorch's. Keras runs
on the backend of KERAS_BACKEND, JAX unless it is set. `pytest -m peers -rP` shows the largest
deviation of each comparison.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest

import ranvier

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's own
]

STEPS = 100
TOLERANCE = 1e-4  # relative, of every step's loss


def assert_near(name, ours, theirs, tolerance=TOLERANCE):
    """All within a relative tolerance; the largest deviation is printed."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all()
    deviation = np.abs(ours - theirs) / np.maximum(np.abs(theirs), np.finfo(np.float32).tiny)
    print(f"{name}: largest relative deviation {deviation.max():.1e}")
    assert deviation.max() <= tolerance, f"first at step {np.argmax(deviation > tolerance)}"


# ---- the programs ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """A model, how it is trained, and the function that gives its data (x, y)."""

    data: object
    layers: tuple  # (units, activation) of each
    loss: str
    optimizer: str
    options: dict = field(default_factory=dict)
    batch: int = 32
    l2: float = 0.0  # on the kernels
    l1: float = 0.0  # on the first layer's output

    def batches(self):
        x, y = self.data()
        for step in range(STEPS):
            rows = np.arange(step * self.batch, (step + 1) * self.batch) % len(x)
            yield x[rows], y[rows]

    def weights(self):
        """Kernels as Glorot and Bengio (2010) start them, and biases that are not zero."""
        r = np.random.default_rng(3)
        widths = [self.data()[0].shape[1], *(units for units, _ in self.layers)]
        arrays = []
        for inputs, outputs in itertools.pairwise(widths):
            limit = np.sqrt(6 / (inputs + outputs))
            arrays += [r.uniform(-limit, limit, (inputs, outputs)), r.uniform(0, 0.1, outputs)]
        return [a.astype(np.float32) for a in arrays]


@functools.cache
def rows():
    x = np.random.default_rng(1).random((100, 10), np.float32)
    return x, x


@functools.cache
def correlated():
    """Standardised columns that a code of three numbers can nearly tell."""
    r = np.random.default_rng(2)
    x = r.normal(size=(160, 3)) @ r.normal(size=(3, 12)) + r.normal(0, 0.1, (160, 12))
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    return x, x


@functools.cache
def digits():
    """The embedded digits, standardised, in the middle of 28x28 zeros.

    The border must be zero: some 700 columns with one other constant each would act as one huge
    bias, and training is then so sensitive that rounding alone becomes one percent in 100 steps.
    """
    (x, y), _ = ranvier.datasets.digits.load_data()
    x = np.pad((x - x.mean()) / x.std(), ((0, 0), (10, 10), (10, 10))).reshape(len(x), 784)
    return x.astype(np.float32), y.astype(np.int64)


def digits_one_hot():
    x, y = digits()
    return x, np.eye(10, dtype=np.float32)[y]


@functools.cache
def attributes():
    """784 standardised columns, and ten yes-or-no attributes of each row."""
    r = np.random.default_rng(9)
    x = r.normal(size=(STEPS * 32, 784)).astype(np.float32)
    return x, (x[:, :40] @ r.normal(size=(40, 10)) > 0).astype(np.float32)


AUTOENCODER = ((5, "relu"), (5, "relu"), (5, "relu"), (10, "sigmoid"))
CODE = ((3, "sigmoid"), (12, "linear"))
MLP = ((64, "relu"), (64, "relu"), (10, "softmax"))
MULTILABEL = (*MLP[:2], (10, "sigmoid"))
MSE = "mean_squared_error"
NESTEROV = {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}
ADAM = {"learning_rate": 0.001}

PROGRAMS = {
    "autoencoder": Program(rows, AUTOENCODER, MSE, "Adam", batch=1),
    "code-l2-sgd": Program(correlated, CODE, MSE, "SGD", NESTEROV, batch=16, l2=1e-3),
    "code-l2-rmsprop": Program(correlated, CODE, MSE, "RMSprop", batch=16, l2=1e-3),
    "code-l2-adam": Program(correlated, CODE, MSE, "Adam", batch=16, l2=1e-3),
    "code-l1-sgd": Program(correlated, CODE, MSE, "SGD", NESTEROV, batch=16, l1=1e-2),
    "code-l1-rmsprop": Program(correlated, CODE, MSE, "RMSprop", batch=16, l1=1e-2),
    "code-l1-adam": Program(correlated, CODE, MSE, "Adam", batch=16, l1=1e-2),
    "mlp-sparse": Program(digits, MLP, "sparse_categorical_crossentropy", "Adam", ADAM),
    "mlp-one-hot": Program(digits_one_hot, MLP, "categorical_crossentropy", "Adam", ADAM),
    "mlp-sigmoid": Program(attributes, MULTILABEL, "binary_crossentropy", "Adam", ADAM),
}


def model_of(library, program):
    """The compiled model: one text for Ranvier and Keras."""
    x, _ = program.data()
    layers = [library.Input((x.shape[1],))]
    for i, (units, activation) in enumerate(program.layers):
        layers.append(
            library.layers.Dense(
                units,
                activation=activation,
                kernel_regularizer=library.regularizers.L2(program.l2) if program.l2 else None,
                activity_regularizer=(
                    library.regularizers.L1(program.l1) if program.l1 and i == 0 else None
                ),
            )
        )
    model = library.Sequential(layers)
    optimizer = getattr(library.optimizers, program.optimizer)(**program.options)
    model.compile(optimizer=optimizer, loss=program.loss)
    model.set_weights(program.weights())
    return model


def trained(library, program):
    """(losses, weights): of every step, and after the last."""
    model = model_of(library, program)
    losses = [float(model.train_on_batch(x, y)) for x, y in program.batches()]
    return losses, model.get_weights()


@functools.cache
def trained_by_us(name):
    return trained(ranvier, PROGRAMS[name])


def assert_same_training(name, theirs):
    ours = trained_by_us(name)
    assert_near(f"{name}, losses", ours[0], theirs[0])
    for start, mine, other in zip(PROGRAMS[name].weights(), ours[1], theirs[1], strict=True):
        assert np.abs(mine - start).max() > 0.01  # it has come some way
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-3 * np.abs(other).max())


@pytest.mark.parametrize("name", PROGRAMS)
def test_training_follows_keras(keras, name):
    assert_same_training(name, trained(keras, PROGRAMS[name]))


# ---- the same in PyTorch: Keras's formulas, PyTorch's derivatives ----------------------------


def torch_loss(torch, program, weights, x, y):
    a, penalty = x, 0.0
    for i, (_, activation) in enumerate(program.layers):
        kernel, bias = weights[2 * i : 2 * i + 2]
        z = a @ kernel + bias
        a = {
            "linear": lambda z: z,
            "relu": torch.relu,
            "sigmoid": torch.sigmoid,
            "softmax": lambda z: torch.softmax(z, -1),
        }[activation](z)
        penalty = penalty + program.l2 * (kernel**2).sum()
        if i == 0:
            penalty = penalty + program.l1 * a.abs().sum() / len(x)
    p = a.clamp(1e-7, 1 - 1e-7)
    loss = {
        MSE: lambda: ((a - y) ** 2).mean(),
        "binary_crossentropy": lambda: -(y * p.log() + (1 - y) * (1 - p).log()).mean(),
        "categorical_crossentropy": lambda: -(y * p.log()).sum(-1).mean(),
        "sparse_categorical_crossentropy": lambda: -p.log()[torch.arange(len(y)), y].mean(),
    }[program.loss]()
    return loss + penalty


def torch_update(torch, program, p, g, state, step):
    """One optimizer step in place; defaults and the places of epsilon are Keras's."""
    epsilon = 1e-7
    rate = program.options.get("learning_rate", 0.001)
    m, v = state
    if program.optimizer == "SGD":
        momentum = program.options["momentum"]
        m.mul_(momentum).sub_(rate * g)
        p.add_(momentum * m - rate * g)  # Nesterov
    elif program.optimizer == "RMSprop":
        v.mul_(0.9).add_(0.1 * g**2)
        p.sub_(rate * g / torch.sqrt(v + epsilon))
    else:
        m.add_((1 - 0.9) * (g - m))
        v.add_((1 - 0.999) * (g**2 - v))
        rate *= np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        p.sub_(rate * m / (torch.sqrt(v) + epsilon))


@pytest.mark.parametrize("name", PROGRAMS)
def test_training_follows_torch(torch, name):
    program = PROGRAMS[name]
    weights = [torch.tensor(w, requires_grad=True) for w in program.weights()]
    states = [(torch.zeros_like(w), torch.zeros_like(w)) for w in weights]
    losses = []
    for step, (x, y) in enumerate(program.batches(), start=1):
        loss = torch_loss(torch, program, weights, torch.tensor(x), torch.tensor(y))
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for p, g, state in zip(weights, gradients, states, strict=True):
                torch_update(torch, program, p, g, state, step)
        losses.append(loss.item())
    assert_same_training(name, (losses, [w.detach().numpy() for w in weights]))


# ---- initializers ----------------------------------------------------------------------------

SHAPES = ((400, 300), (3, 3, 60, 40))
EXACT = {
    "Zeros": {},
    "Ones": {},
    "Constant": {"value": 0.7},
    "Identity": {"gain": 1.5},
}
RANDOM = [
    ("RandomNormal", {"mean": 0.5, "stddev": 0.2}),
    ("RandomUniform", {"minval": -0.3, "maxval": 0.1}),
    ("TruncatedNormal", {"stddev": 0.2}),
    *((n, {}) for n in ("GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform")),
    *((n, {}) for n in ("LecunNormal", "LecunUniform")),
    *(
        ("VarianceScaling", {"scale": 1.7, "mode": mode, "distribution": distribution})
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("truncated_normal", "untruncated_normal", "uniform")
    ),
]


def drawn(library, name, options, shape):
    initializer = getattr(library.initializers, name)(**options)
    return np.asarray(initializer(shape, "float32"), np.float64)


def test_every_initializer_is_compared():
    compared = {*EXACT, *(name for name, _ in RANDOM), "Orthogonal", "Initializer"}
    classes = {n for n in ranvier.initializers.__all__ if n[0].isupper()}
    assert compared == classes


@pytest.mark.parametrize("name", EXACT)
def test_initializer_is_keras(keras, name):
    ours, theirs = (drawn(k, name, EXACT[name], (7, 5)) for k in (ranvier, keras))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "options"), RANDOM)
def test_initializer_has_the_scale_of_keras(keras, name, options, shape):
    ours, theirs = (drawn(k, name, options | {"seed": 1}, shape) for k in (ranvier, keras))
    spread = theirs.std()
    assert abs(ours.mean() - theirs.mean()) < 8 * spread / np.sqrt(theirs.size)
    assert ours.std() == pytest.approx(spread, rel=0.02)
    if name != "RandomNormal" and options.get("distribution") != "untruncated_normal":  # bounded
        assert ours.max() == pytest.approx(theirs.max(), abs=0.01 * spread)
        assert ours.min() == pytest.approx(theirs.min(), abs=0.01 * spread)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (3, 3, 6, 40)])
def test_orthogonal_is_orthogonal_as_in_keras(keras, shape):
    grams = []
    for library in (ranvier, keras):
        w = drawn(library, "Orthogonal", {"gain": 1.3, "seed": 1}, shape).reshape(-1, shape[-1])
        grams.append(w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T)
    np.testing.assert_allclose(grams[0], grams[1], atol=1e-5)


# ---- activations, losses, metrics: values ----------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name in ranvier.activations.__all__ if name not in ("get", "serialize")]
)
def test_activation_is_keras(keras, name):
    r = np.random.default_rng(4)
    x = np.concatenate([np.linspace(-30, 30, 601), r.normal(size=994), [0, 1e-6, -1e-6]])
    x = x.reshape(-1, 17).astype(np.float32)
    x = np.minimum(x, 20) if name == "exponential" else x
    tensor = keras.ops.convert_to_tensor(x)
    if name == "gelu_tanh":  # for which Keras has no name
        theirs = keras.activations.gelu(tensor, approximate=True)
    else:
        theirs = keras.activations.get(name)(tensor)
    ours = ranvier.activations.get(name)(x)
    theirs = np.asarray(keras.ops.convert_to_numpy(theirs), np.float64)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=3e-6)


def probabilities(r, shape):
    """Rows that sum to one; in the first, one class has it all."""
    p = r.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)
    p[0] = np.eye(shape[-1], dtype=np.float32)[0]
    return p


def cases(shape):
    """name -> (class, options, y_true, y_pred)"""
    r = np.random.default_rng(5)
    p, logits = probabilities(r, shape), r.normal(0, 4, shape).astype(np.float32)
    t, s = probabilities(r, shape), r.random(shape, np.float32)
    s[0, 0], s[0, -1] = 0, 1  # clipped
    bits = (r.random(shape) < 0.5).astype(np.float32)
    # Keras's backends agree here below 1 only: TensorFlow's clips before it divides by the sum.
    unnormalised = r.uniform(0.1, 0.9, shape).astype(np.float32)
    labels = r.integers(0, shape[-1], shape[:-1])
    raw = {"from_logits": True}
    sparse = "SparseCategoricalCrossentropy"
    return {
        "mse": ("MeanSquaredError", {}, t, logits),
        "mae": ("MeanAbsoluteError", {}, t, logits),
        "binary": ("BinaryCrossentropy", {}, bits, s),
        "binary soft": ("BinaryCrossentropy", {}, t, s),
        "binary logits": ("BinaryCrossentropy", raw, bits, logits),
        "categorical": ("CategoricalCrossentropy", {}, t, p),
        "categorical unnormalised": ("CategoricalCrossentropy", {}, t, unnormalised),
        "categorical logits": ("CategoricalCrossentropy", raw, t, logits),
        "sparse": (sparse, {}, labels, p),
        "sparse unnormalised": (sparse, {}, labels, unnormalised),
        "sparse column": (sparse, {}, labels[..., None], p),
        "sparse logits": (sparse, raw, labels, logits),
    }


def test_every_loss_is_compared():
    compared = {case[0] for case in cases((4, 3)).values()}
    assert compared == {n for n in ranvier.losses.__all__ if n[0].isupper()} - {"Loss"}


@pytest.mark.parametrize("shape", [(17, 5), (6, 4, 3)])
@pytest.mark.parametrize("name", cases((4, 3)))
def test_loss_is_keras(keras, name, shape):
    loss, options, y_true, y_pred = cases(shape)[name]
    ours, theirs = (
        float(getattr(k.losses, loss)(**options)(y_true, y_pred)) for k in (ranvier, keras)
    )
    assert ours == pytest.approx(theirs, rel=1e-5)


def rounded(shape):
    """Probabilities with ties, for which the first of the largest counts."""
    r = np.random.default_rng(6)
    return np.round(r.dirichlet(np.ones(shape[-1]), shape[:-1]), 1).astype(np.float32)


# (class, options, columns of y_pred, y_true's form)
METRICS = [
    ("BinaryAccuracy", {}, 1, "bits"),
    ("BinaryAccuracy", {}, 4, "bits"),
    ("BinaryAccuracy", {"threshold": 0.3}, 4, "bits"),
    ("CategoricalAccuracy", {}, 5, "one-hot"),
    ("SparseCategoricalAccuracy", {}, 5, "labels"),
    ("SparseCategoricalAccuracy", {}, 5, "column"),
    ("MeanSquaredError", {}, 3, "bits"),
    ("MeanAbsoluteError", {}, 3, "bits"),
]


def targets(r, form, rows, columns):
    labels = r.integers(0, max(columns, 2), rows)
    return {
        "bits": (r.random((rows, columns)) < 0.5).astype(np.float32),
        "one-hot": np.eye(max(columns, 2), dtype=np.float32)[labels],
        "labels": labels,
        "column": labels[:, None],
    }[form]


def test_every_metric_is_compared():
    classes = {n for n in ranvier.metrics.__all__ if n[0].isupper()} - {"Metric", "Mean"}
    assert {case[0] for case in METRICS} == classes


@pytest.mark.parametrize(("name", "options", "columns", "form"), METRICS)
def test_metric_is_keras(keras, name, options, columns, form):
    r = np.random.default_rng(7)
    ours, theirs = (getattr(k.metrics, name)(**options) for k in (ranvier, keras))
    for rows in (40, 7):  # batches of unequal size
        y_true = targets(r, form, rows, columns)
        y_pred = rounded((rows, columns)) if columns > 1 else r.random((rows, 1), np.float32)
        ours.update_state(y_true, y_pred)
        theirs.update_state(y_true, y_pred)
        assert float(ours.result()) == pytest.approx(float(theirs.result()), rel=1e-5)
    assert float(ours.result()) > 0


@pytest.mark.parametrize(
    ("units", "loss", "form"),
    [
        (1, "binary_crossentropy", "labels"),
        (1, "binary_crossentropy", "column"),
        (5, "sparse_categorical_crossentropy", "labels"),
        (5, "sparse_categorical_crossentropy", "column"),
        (5, "categorical_crossentropy", "one-hot"),
    ],
)
def test_accuracy_means_what_it_means_in_keras(keras, units, loss, form):
    r = np.random.default_rng(8)
    x, y = r.normal(size=(50, 6)).astype(np.float32), targets(r, form, 50, units)
    weights = [r.normal(size=(6, units)), r.normal(size=units)]
    values = []
    for library in (ranvier, keras):
        dense = library.layers.Dense(units, activation="sigmoid" if units == 1 else "softmax")
        model = library.Sequential([library.Input((6,)), dense])
        model.compile(optimizer="sgd", loss=loss, metrics=["accuracy"])
        model.set_weights(weights)
        evaluated = model.evaluate(x, y, batch_size=16, verbose=0)
        values.append([*evaluated, *model.train_on_batch(x, y), *model.test_on_batch(x, y)])
    assert 0 < values[0][1] < 1
    assert_near("loss and accuracy", values[0], values[1])
