"""Layers: one short file for each family."""

from __future__ import annotations

from ranvier.layers.activation import Activation, LeakyReLU, ReLU, Softmax
from ranvier.layers.base import Layer, NumpyLayer
from ranvier.layers.dense import Dense
from ranvier.layers.dropout import Dropout
from ranvier.layers.input import Input, InputLayer
from ranvier.layers.merge import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from ranvier.layers.preprocessing import Normalization, Rescaling
from ranvier.layers.shape import Flatten, Permute, Reshape
from ranvier.registry import Registry

__all__ = [
    "Activation",
    "Add",
    "Average",
    "Concatenate",
    "Dense",
    "Dot",
    "Dropout",
    "Flatten",
    "Input",
    "InputLayer",
    "Layer",
    "LeakyReLU",
    "Maximum",
    "Minimum",
    "Multiply",
    "Normalization",
    "NumpyLayer",
    "Permute",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Softmax",
    "Subtract",
    "add",
    "average",
    "concatenate",
    "deserialize",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "serialize",
    "subtract",
]

registry = Registry(
    "layer",
    Layer,
    [
        Activation,
        Add,
        Average,
        Concatenate,
        Dense,
        Dot,
        Dropout,
        Flatten,
        InputLayer,
        LeakyReLU,
        Maximum,
        Minimum,
        Multiply,
        Normalization,
        Permute,
        ReLU,
        Rescaling,
        Reshape,
        Softmax,
        Subtract,
    ],
)
deserialize = registry.get
serialize = registry.serialize
