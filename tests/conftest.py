"""What every test begins with: float32, fast, names that count from nothing, the same seed."""

from __future__ import annotations

import pytest

import peers
import ranvier
from ranvier import config, utils
from ranvier.layers.base import clear_names


@pytest.fixture(autouse=True)
def fresh():
    config.set_floatx("float32")
    config.set_precision("fast")
    clear_names()
    utils.set_random_seed(20)
    yield
    config.set_floatx("float32")
    config.set_precision("fast")


@pytest.fixture
def threads():
    """`threads(n)` sets their number, until the test ends."""
    before = ranvier.num_threads()
    yield ranvier.set_num_threads
    ranvier.set_num_threads(before)


@pytest.fixture(scope="session")
def keras():
    return peers.keras()


@pytest.fixture(scope="session")
def torch():
    return peers.torch()
