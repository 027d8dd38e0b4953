"""Optimizers, and schedules of their learning rates."""

from __future__ import annotations

from ranvier.optimizers import schedules
from ranvier.optimizers.optimizer import (
    SGD,
    Adam,
    AdamW,
    Optimizer,
    RMSprop,
    deserialize,
    get,
    serialize,
)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]
