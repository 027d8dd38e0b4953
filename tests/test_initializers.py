"""Initialisers: their formulas, their seeds, and how they are named and saved."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from ranvier import config, initializers, seeds
from ranvier.initializers import (
    Constant,
    GlorotUniform,
    HeNormal,
    Identity,
    Initializer,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
)
from ranvier.registry import snake_case

CLASSES = {name: getattr(initializers, name) for name in initializers.__all__ if name[0].isupper()}
CLASSES.pop("Initializer")
RANDOM = sorted(name for name, cls in CLASSES.items() if "seed" in cls().get_config())

# Shapes with more than 50,000 values, and the fans that they have.
SHAPES = [
    ((60_000,), 60_000, 60_000),
    ((400, 200), 400, 200),
    ((200, 400), 200, 400),
    ((3, 5, 40, 100), 600, 1500),
    ((7, 100, 80), 700, 560),
    ((2, 3, 4, 50, 60), 1200, 1440),
]


@pytest.fixture(autouse=True)
def _default_state(monkeypatch):
    monkeypatch.setattr(seeds, "_stream", random.Random(0))
    monkeypatch.setattr(config, "_floatx", "float32")


def assert_moments(values, mean, stddev):
    """Mean and standard deviation within five standard errors."""
    n = values.size
    values = values.astype(np.float64)
    assert abs(values.mean() - mean) < 5 * stddev / math.sqrt(n)
    # Of the deviations here a normal one's spread is the largest: stddev / sqrt(2 n).
    assert abs(values.std() - stddev) < 5 * stddev / math.sqrt(2 * n)


def test_truncation_constant():
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    inside = math.erf(2 / math.sqrt(2))
    assert initializers._TRUNCATED_STDDEV == pytest.approx(
        math.sqrt(1 - 4 * density / inside), rel=1e-14
    )


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), SHAPES)
@pytest.mark.parametrize(
    ("name", "scale", "mode"),
    [
        ("glorot_uniform", 1, "avg"),
        ("he_uniform", 2, "in"),
        ("lecun_uniform", 1, "in"),
        ("glorot_normal", 1, "avg"),
        ("he_normal", 2, "in"),
        ("lecun_normal", 1, "in"),
    ],
)
def test_presets(name, scale, mode, shape, fan_in, fan_out):
    fan = fan_in if mode == "in" else (fan_in + fan_out) / 2
    stddev = math.sqrt(scale / fan)
    values = initializers.get(name)(shape)
    assert values.shape == shape
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    assert_moments(values, 0, stddev)
    # A uniform variable ends at sqrt(3) standard deviations, a truncated normal one at 2 / 0.8796.
    limit = stddev * (math.sqrt(3) if "uniform" in name else 2 / 0.87962566103423978)
    assert 0.99 * limit < np.abs(values).max() <= limit * (1 + 1e-6)


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["truncated_normal", "untruncated_normal", "uniform"])
def test_variance_scaling(mode, distribution):
    shape = (3, 40, 500)
    fan = {"fan_in": 120, "fan_out": 1500, "fan_avg": 810}[mode]
    stddev = math.sqrt(2.5 / fan)
    values = VarianceScaling(2.5, mode, distribution, seed=3)(shape)
    assert_moments(values, 0, stddev)
    beyond_two = np.abs(values) > 2 * stddev
    expected = {"truncated_normal": 0.0346, "untruncated_normal": 0.0455, "uniform": 0}[
        distribution
    ]
    assert beyond_two.mean() == pytest.approx(expected, abs=0.005)
    largest = np.abs(values).max() / stddev
    assert (largest > 3.5) == (distribution == "untruncated_normal")


def test_scalar_and_empty_fans_divide_by_one():
    limit = math.sqrt(3)
    drawn = [float(RandomUniform(-limit, limit, seed=s)(())) for s in range(20)]
    scaled = [float(VarianceScaling(distribution="uniform", seed=s)(())) for s in range(20)]
    assert scaled == drawn
    assert GlorotUniform()((0, 5)).shape == (0, 5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_simple_distributions(dtype):
    shape = (300, 300)
    normal = RandomNormal(1.0, 0.5, seed=1)(shape, dtype)
    assert_moments(normal, 1, 0.5)
    assert np.abs(normal - 1).max() > 3.5 * 0.5
    uniform = RandomUniform(2.0, 5.0, seed=1)(shape, dtype)
    assert_moments(uniform, 3.5, 3 / math.sqrt(12))
    assert 2 <= uniform.min() < 2.001 and 4.999 < uniform.max() <= 5
    truncated = TruncatedNormal(1.0, 0.5, seed=1)(shape, dtype)
    assert_moments(truncated, 1, 0.5 * 0.87962566103423978)
    assert 0.99 < np.abs(truncated - 1).max() <= 1 + 1e-6
    assert {normal.dtype, uniform.dtype, truncated.dtype} == {np.dtype(dtype)}


def test_truncated_normal_is_cut_in_every_block(monkeypatch):
    monkeypatch.setattr(initializers, "_BLOCK", 100)
    values = TruncatedNormal(stddev=1.0, seed=5)((37, 83))
    assert np.abs(values).max() <= 2
    assert_moments(values, 0, 0.87962566103423978)
    assert np.unique(values).size > 0.99 * values.size


def test_defaults():
    assert RandomNormal().get_config() == {"mean": 0.0, "stddev": 0.05, "seed": None}
    assert TruncatedNormal().get_config() == {"mean": 0.0, "stddev": 0.05, "seed": None}
    assert RandomUniform().get_config() == {"minval": -0.05, "maxval": 0.05, "seed": None}
    assert VarianceScaling().get_config() == {
        "scale": 1.0,
        "mode": "fan_in",
        "distribution": "truncated_normal",
        "seed": None,
    }
    assert Constant().get_config() == {"value": 0.0}
    assert Identity().get_config() == {"gain": 1.0}
    assert Orthogonal().get_config() == {"gain": 1.0, "seed": None}


def test_constants():
    np.testing.assert_array_equal(Zeros()((2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(Ones()(4), np.ones(4))
    np.testing.assert_array_equal(Constant(2.5)((2, 2)), np.full((2, 2), 2.5))
    np.testing.assert_array_equal(Constant([1, 2])((3, 2)), [[1, 2]] * 3)
    np.testing.assert_array_equal(Identity(3)((2, 4)), [[3, 0, 0, 0], [0, 3, 0, 0]])
    assert Constant(1)(()).shape == ()
    for name in ("zeros", "ones", "constant", "identity"):
        assert initializers.get(name)((2, 2)).dtype == np.float32
        assert initializers.get(name)((2, 2), np.float64).dtype == np.float64


@pytest.mark.parametrize(
    "shape", [(6, 6), (9, 4), (4, 9), (3, 3, 2, 5), (2, 2, 20), (1, 1), (5, 1)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_orthogonal(shape, dtype):
    values = Orthogonal(gain=1.5, seed=2)(shape, dtype)
    assert values.shape == shape and values.dtype == dtype and values.flags.c_contiguous
    matrix = values.reshape(-1, shape[-1]).astype(np.float64)
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    expected = 2.25 * np.eye(matrix.shape[1])
    np.testing.assert_allclose(
        matrix.T @ matrix, expected, atol=1e-6 if dtype == "float32" else 1e-14
    )


def test_orthogonal_is_uniform():
    # Without the correction of signs the QR decomposition prefers one sign on the diagonal.
    diagonal = np.concatenate([np.diagonal(Orthogonal(seed=s)((8, 8))) for s in range(100)])
    assert abs(np.mean(diagonal > 0) - 0.5) < 0.08


def test_orthogonal_empty():
    assert Orthogonal()((0, 3)).shape == (0, 3)
    assert Orthogonal()((3, 0)).shape == (3, 0)


@pytest.mark.parametrize("name", RANDOM)
def test_seed_repeats_and_none_does_not(name):
    cls, shape = CLASSES[name], (5, 4)
    seeded = cls(seed=7)
    first = seeded(shape)
    np.testing.assert_array_equal(seeded(shape), first)
    np.testing.assert_array_equal(cls(seed=7)(shape), first)
    assert not np.array_equal(cls(seed=8)(shape), first)
    free = cls()
    assert not np.array_equal(free(shape), free(shape))


def test_set_random_seed_repeats_unseeded_initializers():
    init = GlorotUniform()
    seeds.set_random_seed(11)
    first = [init((3, 3)), HeNormal()((3, 3))]
    seeds.set_random_seed(11)
    np.random.random(5)  # noqa: NPY002  (the user's own draws must not matter)
    again = [init((3, 3)), HeNormal()((3, 3))]
    np.testing.assert_array_equal(first, again)


def test_initializing_leaves_numpy_stream_alone():
    seeds.set_random_seed(0)
    expected = np.random.random()  # noqa: NPY002
    seeds.set_random_seed(0)
    GlorotUniform()((4, 4))
    Orthogonal(seed=1)((4, 4))
    assert np.random.random() == expected  # noqa: NPY002


def test_floatx_is_the_default_type():
    config.set_floatx("float64")
    assert {cls()((4, 4)).dtype for cls in CLASSES.values()} == {np.dtype("float64")}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_names_and_round_trip(name):
    cls = CLASSES[name]
    snake = snake_case(name)
    assert type(initializers.get(name)) is cls
    assert type(initializers.get(snake)) is cls
    assert type(initializers.get(cls)) is cls
    options = cls().get_config()
    options = {key: 5 if key == "seed" else value for key, value in options.items()}
    init = cls.from_config(options)
    saved = json.loads(json.dumps(initializers.serialize(init)))
    assert saved == {"class_name": name, "config": options}
    again = initializers.get(saved)
    assert type(again) is cls and again is not init
    np.testing.assert_array_equal(again((3, 3)), init((3, 3)))


def test_documented_names():
    for name in (
        "zeros ones constant random_normal random_uniform truncated_normal variance_scaling "
        "glorot_normal glorot_uniform he_normal he_uniform lecun_normal lecun_uniform orthogonal "
        "identity normal uniform zero one"
    ).split():
        assert isinstance(initializers.get(name), Initializer)


def test_non_default_config_survives():
    init = VarianceScaling(3.0, "fan_out", "uniform", seed=4)
    assert initializers.deserialize(initializers.serialize(init)).get_config() == {
        "scale": 3.0,
        "mode": "fan_out",
        "distribution": "uniform",
        "seed": 4,
    }
    array = initializers.serialize(Constant(np.array([1.0, 2.0])))
    assert json.loads(json.dumps(array))["config"] == {"value": [1.0, 2.0]}


def test_keras_config_is_read():
    config_of_keras = {
        "module": "keras.initializers",
        "class_name": "GlorotUniform",
        "config": {"seed": 3, "input_axes": None, "output_axes": None},
        "registered_name": None,
    }
    assert initializers.get(config_of_keras).get_config() == {"seed": 3}
    config_of_keras["config"]["input_axes"] = [0]
    with pytest.raises(TypeError, match="input_axes"):
        initializers.get(config_of_keras)


def test_get_passes_instances_functions_and_none():
    init = Zeros()

    def sevens(shape, dtype=None):
        return np.full(shape, 7, dtype)

    assert initializers.get(init) is init
    assert initializers.get(sevens) is sevens
    assert initializers.get(None) is None
    assert initializers.serialize(None) is None
    assert initializers.deserialize(None) is None


class Sevens(Initializer):
    def __call__(self, shape, dtype=None):
        return np.full(shape, 7, dtype)


def test_custom_class():
    saved = initializers.serialize(Sevens())
    assert saved == {"class_name": "Sevens", "config": {}}
    with pytest.raises(ValueError, match="unknown initializer 'Sevens'"):
        initializers.get(saved)
    again = initializers.deserialize(saved, {"Sevens": Sevens})
    np.testing.assert_array_equal(again(2), [7, 7])
    with pytest.raises(NotImplementedError, match="define __call__"):
        Initializer()((2,))


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        ("glorot", "unknown initializer 'glorot'.*glorot_uniform"),
        ("os.system", "unknown initializer"),
        ({"class_name": "system", "module": "os"}, "unknown initializer 'system'"),
        ({"config": {}}, "class_name"),
        (3, "received 3"),
    ],
)
def test_get_refuses(identifier, message):
    with pytest.raises(ValueError, match=message):
        initializers.get(identifier)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VarianceScaling(scale=-1), r"\[variance_scaling\] scale must be positive"),
        (lambda: VarianceScaling(scale=0), "scale=0"),
        (lambda: VarianceScaling(mode="fan"), "fan_in, fan_out, fan_avg; received mode='fan'"),
        (lambda: VarianceScaling(distribution="cauchy"), "distribution='cauchy'"),
        (lambda: RandomNormal(stddev=-0.1), r"\[random_normal\] stddev .*>= 0; received stddev=-0"),
        (lambda: TruncatedNormal(stddev=math.nan), r"\[truncated_normal\] stddev"),
        (lambda: RandomUniform(1, 0), "minval=1, maxval=0"),
        (lambda: RandomUniform("a", 0), "minval='a'"),
        (lambda: Orthogonal(gain=math.inf), r"\[orthogonal\] gain"),
        (lambda: HeNormal(seed=-1), r"\[he_normal\] seed .*seed=-1"),
        (lambda: HeNormal(seed=1.5), "seed=1.5"),
        (lambda: HeNormal(seed=True), "seed=True"),
        (lambda: Constant("a"), "received 'a'"),
        (lambda: Constant([1, 2])((2, 3)), r"shape \(2,\) does not fit the shape \(2, 3\)"),
        (lambda: Orthogonal()((3,)), r"two axes or more; received \(3,\)"),
        (lambda: Identity()((3, 3, 3)), r"two axes; received \(3, 3, 3\)"),
        (lambda: Zeros()((None, 3)), r"\[zeros\] shape .*received \(None, 3\)"),
        (lambda: Zeros()((2, -3)), r"received \(2, -3\)"),
        (lambda: Zeros()((2.0,)), "non-negative integers"),
        (lambda: Zeros()("23"), "non-negative integers"),
        (lambda: Zeros()((2,), "int32"), "float32 or float64; received 'int32'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_serialize_refuses_a_function():
    with pytest.raises(ValueError, match="subclass of Initializer"):
        initializers.serialize(lambda shape, dtype: np.zeros(shape, dtype))
