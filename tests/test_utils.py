"""Float type, seeds, one-hot rows and normalisation."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ranvier import config, seeds, utils


@pytest.fixture(autouse=True)
def _default_state(monkeypatch):
    monkeypatch.setattr(seeds, "_stream", random.Random(0))
    monkeypatch.setattr(config, "_floatx", "float32")


# config


def test_floatx():
    assert config.floatx() == "float32"
    config.set_floatx("float64")
    assert config.floatx() == "float64" == config.dtype_name(None)


@pytest.mark.parametrize("value", ["float16", "double", None, np.float64, 64])
def test_set_floatx_refuses(value):
    with pytest.raises(ValueError, match=r"\[set_floatx\].*float32.*received"):
        config.set_floatx(value)
    assert config.floatx() == "float32"


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (None, "float32"),
        ("float32", "float32"),
        (np.float32, "float32"),
        (np.dtype("float64"), "float64"),
        (float, "float64"),
        (">f4", "float32"),
        (np.zeros(1).dtype, "float64"),
    ],
)
def test_dtype_name(dtype, name):
    assert config.dtype_name(dtype) == name


@pytest.mark.parametrize("dtype", ["float16", "int32", int, "nonsense", complex, 7])
def test_dtype_name_refuses(dtype):
    with pytest.raises(ValueError, match=r"\[dtype_name\] dtype must be float32 or float64"):
        config.dtype_name(dtype)


# seeds


def draws():
    return (
        random.random(),
        np.random.random(),  # noqa: NPY002
        seeds.next_seed(),
        float(seeds.generator().random()),
    )


def test_set_random_seed_seeds_all_streams():
    utils.set_random_seed(3)
    first, second = draws(), draws()
    utils.set_random_seed(3)
    assert draws() == first
    utils.set_random_seed(4)
    other = draws()
    for a, b, c in zip(first, second, other, strict=True):
        assert a != b and a != c


def test_own_stream_ignores_numpys():
    seeds.set_random_seed(5)
    expected = [seeds.next_seed() for _ in range(3)]
    seeds.set_random_seed(5)
    np.random.random(10)  # noqa: NPY002
    random.random()
    assert [seeds.next_seed() for _ in range(3)] == expected


def test_own_stream_does_not_repeat_pythons():
    seeds.set_random_seed(5)
    assert seeds.next_seed() != random.getrandbits(63)


def test_first_use_is_fresh_in_each_process():
    # The global streams, seeded or not, do not decide ours.
    code = (
        "import random, numpy as np; random.seed(0); np.random.seed(0)\n"
        "from ranvier import seeds; print(seeds.next_seed())"
    )
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, capture_output=True, text=True, timeout=120) for _ in "ab"]
    assert int(runs[0].stdout) != int(runs[1].stdout)


def test_next_seed_fills_63_bits():
    seeds.set_random_seed(0)
    values = [seeds.next_seed() for _ in range(200)]
    assert all(type(value) is int and 0 <= value < 2**63 for value in values)
    assert max(values) > 2**62
    assert len({value % 2 for value in values}) == 2


def test_next_seed_from_many_threads():
    seeds.set_random_seed(1)
    expected = {seeds.next_seed() for _ in range(4000)}
    seeds.set_random_seed(1)
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(lambda _: [seeds.next_seed() for _ in range(500)], range(8))
        values = [value for part in parts for value in part]
    assert len(values) == 4000 and set(values) == expected


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "1", None, True])
def test_set_random_seed_refuses(seed):
    seeds.set_random_seed(9)
    expected = draws()
    seeds.set_random_seed(9)
    with pytest.raises(ValueError, match=r"\[set_random_seed\] seed must be"):
        seeds.set_random_seed(seed)
    assert draws() == expected


def test_set_random_seed_bounds_and_numpy_integers():
    seeds.set_random_seed(2**32 - 1)
    seeds.set_random_seed(np.int64(6))
    first = draws()
    seeds.set_random_seed(6)
    assert draws() == first


def test_generator():
    assert seeds.generator(4).random() == seeds.generator(4).random()
    assert seeds.generator(4).random() != seeds.generator(5).random()
    assert seeds.generator().random() != seeds.generator().random()
    assert isinstance(seeds.generator(2**63).bit_generator, np.random.PCG64)
    with pytest.raises(ValueError, match=r"\[generator\].*seed=-3"):
        seeds.generator(-3)


# to_categorical


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64, np.float32])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_to_categorical(dtype, shape):
    rows = utils.to_categorical(np.array([0, 2, 1, 2], dtype).reshape(shape))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]])


def test_to_categorical_num_classes():
    np.testing.assert_array_equal(utils.to_categorical([1, 0], 3), [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(utils.to_categorical([True, False]), [[0, 1], [1, 0]])


def test_to_categorical_other_shapes():
    x = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(utils.to_categorical(x), np.eye(6).reshape(2, 3, 6))
    np.testing.assert_array_equal(utils.to_categorical(x[..., None]), np.eye(6).reshape(2, 3, 6))
    np.testing.assert_array_equal(utils.to_categorical(1, 2), [0, 1])
    np.testing.assert_array_equal(utils.to_categorical([0]), [[1]])
    assert utils.to_categorical([], 3).shape == (0, 3)
    assert utils.to_categorical(np.zeros((0, 1), int), 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([0, 3], 3), r"label 3 is outside \[0, 3\)"),
        (([0, -1], 3), r"label -1 is outside \[0, 3\)"),
        (([0, -1],), r"label -1"),
        (([0.5, 1],), "whole numbers; received an array of float64"),
        (([np.nan, 1],), "whole numbers"),
        (([np.inf, 1],), "whole numbers"),
        ((["a"],), "whole numbers"),
        (([],), "give num_classes"),
        (([0], 0), "num_classes must be positive; received 0"),
    ],
)
def test_to_categorical_refuses(args, message):
    with pytest.raises(ValueError, match=message):
        utils.to_categorical(*args)


# normalize


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("order", [1, 2, 3, 0.5, np.inf])
def test_normalize(axis, order):
    x = np.random.default_rng(0).normal(size=(4, 5, 6))
    y = utils.normalize(x, axis, order)
    norm = np.linalg.norm(x, order, axis, keepdims=True)
    np.testing.assert_allclose(y, x / norm, rtol=1e-12)


def test_normalize_defaults_and_types():
    np.testing.assert_allclose(utils.normalize([[3, 4], [0, 0]]), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert utils.normalize([[3, 4]]).dtype == np.float32
    assert utils.normalize(np.ones((2, 2), np.float32)).dtype == np.float32
    assert utils.normalize(np.ones((2, 2), np.float64)).dtype == np.float64
    assert utils.normalize(np.ones((0, 3))).shape == (0, 3)
    assert utils.normalize(np.ones((3, 0))).shape == (3, 0)


def test_normalize_neither_overflows_nor_vanishes():
    x = np.array([[3e30, 4e30], [3e-30, -4e-30]], np.float32)
    np.testing.assert_allclose(utils.normalize(x), [[0.6, 0.8], [0.6, -0.8]], rtol=1e-6)


def test_normalize_leaves_its_argument_alone():
    x = np.array([[3.0, 4.0]])
    utils.normalize(x)
    np.testing.assert_array_equal(x, [[3.0, 4.0]])


@pytest.mark.parametrize(
    ("args", "message"), [((3.0,), "scalar"), (([1.0], -1, 0), "order=0"), (([1.0], -1, -2), "-2")]
)
def test_normalize_refuses(args, message):
    with pytest.raises(ValueError, match=message):
        utils.normalize(*args)


def test_clear_session_starts_names_anew():
    from ranvier import layers

    assert [layers.Dense(1).name, layers.Dense(1).name] == ["dense", "dense_1"]
    utils.clear_session()
    assert layers.Dense(1).name == "dense"
