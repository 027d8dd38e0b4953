"""What the ops are given: an ndarray gives an ndarray, a Buffer gives a Buffer."""

from __future__ import annotations

from typing import Any

Tensor = Any
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None] | None  # where to write them
