"""The libraries that results are compared with. Each is imported when the first test asks for it:
that takes seconds."""

from __future__ import annotations

import functools
import os
import warnings

import numpy as np
import pytest


def peer(name, why):
    """The library, or a skip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a peer says while it is imported
        return pytest.importorskip(name, reason=why)


def torch():
    return peer("torch", "PyTorch is not installed")


def keras_backend():
    """What Keras computes with: KERAS_BACKEND, or JAX."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    name = os.environ.setdefault("KERAS_BACKEND", "jax")
    return peer(name, "Keras's backend is not installed: KERAS_BACKEND chooses it")


@functools.cache
def keras():
    keras_backend()
    library = peer("keras", "Keras 3 is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a backend says when it is first used
        library.layers.Dense(1)(np.zeros((1, 1), np.float32))
    return library
