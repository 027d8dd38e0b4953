"""Ranvier: deep learning on the CPU, with Keras's API and backward passes written by hand.

    import ranvier as keras

NumPy arrays go in and come out. `ranvier.ops` holds the kernels as plain functions.
"""

from __future__ import annotations

from ranvier import (
    activations,
    callbacks,
    config,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    models,
    ops,
    optimizers,
    regularizers,
    utils,
)
from ranvier.config import floatx, precision, set_floatx, set_precision
from ranvier.gradients import check_gradients
from ranvier.layers import Input, Layer
from ranvier.models import Model, Sequential
from ranvier.system import num_threads, set_num_threads, show_config
from ranvier.variables import Variable
from ranvier.version import __version__

__all__ = [
    "Input",
    "Layer",
    "Model",
    "Sequential",
    "Variable",
    "__version__",
    "activations",
    "callbacks",
    "check_gradients",
    "config",
    "datasets",
    "floatx",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "num_threads",
    "ops",
    "optimizers",
    "precision",
    "regularizers",
    "set_floatx",
    "set_num_threads",
    "set_precision",
    "show_config",
    "utils",
]
