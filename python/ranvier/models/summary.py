"""A model as a table, in Keras's form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ranvier.layers.base import Layer
from ranvier.layers.input import InputLayer

if TYPE_CHECKING:
    from ranvier.models.model import Model

__all__ = ["bytes_text", "summary"]


def summary(model: Model, line_length: int | None = None) -> str:
    """The table of `Model.summary`."""
    rows = [("Layer (type)", "Output Shape", "Param #")]
    connected = not _is_chain(model)
    if connected:
        rows = [("Layer (type)", "Output Shape", "Param #", "Connected to")]  # type: ignore[list-item]
    for layer in model.layers:
        row = (f"{layer.name} ({type(layer).__name__})", _shape_text(layer), _count_text(layer))
        rows.append((*row, _sources_text(model, layer)) if connected else row)  # type: ignore[arg-type]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    if line_length is not None:
        spare = line_length - sum(widths) - 3 * len(widths) - 1
        widths[0] += max(0, spare)
    right = 2  # numbers are aligned to the right
    lines = [f'Model: "{model.name}"', _rule("┏━┳┓", widths), _line("┃", rows[0], widths, right)]
    lines.append(_rule("┡━╇┩", widths))
    for i, row in enumerate(rows[1:]):
        if i:
            lines.append(_rule("├─┼┤", widths))
        lines.append(_line("│", row, widths, right))
    lines.append(_rule("└─┴┘", widths))
    trained = _unique(model.trainable_weights)
    frozen = _unique(model.non_trainable_weights)
    for title, variables in (
        ("Total", trained + frozen),
        ("Trainable", trained),
        ("Non-trainable", frozen),
    ):
        count = sum(v.size for v in variables)
        size = sum(v.size * (8 if v.dtype == "float64" else 4) for v in variables)
        lines.append(f" {title} params: {count:,} ({bytes_text(size)})")
    return "\n".join(lines)


def _unique(variables: list[Any]) -> list[Any]:
    return list({id(v): v for v in variables}.values())


def _is_chain(model: Model) -> bool:
    """Whether each layer takes what the one before it gives."""
    if not model.functional or not model._graphs:
        return True
    graph = model._graphs[False]
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return False
    if len(graph.nodes) != len({id(node.layer) for node in graph.nodes}):
        return False
    last = graph.inputs[0]
    for node in graph.nodes:
        if node.inputs != [last] or len(node.outputs) != 1:
            return False
        last = node.outputs[0]
    return True


def _sources_text(model: Model, layer: Layer) -> str:
    """The layers that a layer reads from."""
    names = []
    for node in model._graphs[False].nodes:
        if node.layer is layer:
            for tensor in node.inputs:
                source = tensor.node.layer if tensor.node else tensor.layer
                names.append(source.name if source else "?")
    return ", ".join(names) or "-"


def _shape_text(layer: Layer) -> str:
    if isinstance(layer, InputLayer):
        return str(layer.tensor.shape)
    shapes = list(dict.fromkeys(str(t.shape) for node in layer._nodes for t in node.outputs))
    return ", ".join(shapes) or "?"


def _count_text(layer: Layer) -> str:
    return f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"


def _rule(ends: str, widths: list[int]) -> str:
    left, dash, middle, right = tuple(ends)
    return left + middle.join(dash * (w + 2) for w in widths) + right


def _line(bar: str, row: Any, widths: list[int], right: int) -> str:
    cells = [
        text.rjust(w) if i == right else text.ljust(w)
        for i, (text, w) in enumerate(zip(row, widths, strict=True))
    ]
    return f"{bar} " + f" {bar} ".join(cells) + f" {bar}"


def bytes_text(size: float) -> str:
    """A number of bytes for people: 18.79 KB."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            return f"{size:.2f} {unit}"
        size /= 1024
    return ""
