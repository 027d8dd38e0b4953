"""Layers: one short file for each family."""

from __future__ import annotations

from ranvier.layers.activation import Activation, LeakyReLU, ReLU, Softmax
from ranvier.layers.base import Layer, NumpyLayer
from ranvier.layers.dense import Dense
from ranvier.layers.dropout import Dropout
from ranvier.layers.input import Input, InputLayer
from ranvier.layers.preprocessing import Normalization, Rescaling
from ranvier.layers.shape import Flatten, Reshape
from ranvier.registry import Registry

__all__ = [
    "Activation",
    "Dense",
    "Dropout",
    "Flatten",
    "Input",
    "InputLayer",
    "Layer",
    "LeakyReLU",
    "Normalization",
    "NumpyLayer",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Softmax",
    "deserialize",
    "serialize",
]

registry = Registry(
    "layer",
    Layer,
    [
        Activation,
        Dense,
        Dropout,
        Flatten,
        InputLayer,
        LeakyReLU,
        Normalization,
        ReLU,
        Rescaling,
        Reshape,
        Softmax,
    ],
)
deserialize = registry.get
serialize = registry.serialize
