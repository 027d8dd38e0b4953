"""Models: layers put together, with training."""

from __future__ import annotations

from ranvier.models.model import Model
from ranvier.models.sequential import Sequential

__all__ = ["Model", "Sequential"]
