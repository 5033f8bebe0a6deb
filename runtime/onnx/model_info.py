"""A model's interface: what it takes, what it gives, and whether rows can share a run.

``inspect_model`` reads it from the file without a session, for checks that start nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime.errors import LoadError
from runtime.onnx.model_file import GraphValue, read_interface
from runtime.onnx.rows.mixing import find_bare_squeeze
from runtime.types import tensors
from runtime.types.tensors import Link, TensorSpec

Dims = Sequence[int | str | None]
"""A shape; a dimension is a size, a name, or None where it is free and nameless."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Inputs and outputs in the model's order.

    Attributes:
        batchable: every input and output has a free first dimension, of one name where it is named.
        links: by output, its axes that have the name of an input's.
        squeeze: the node that takes the rows axis from the answer to one row; empty where there is
            none, and where it was not looked for.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batchable: bool
    links: Mapping[str, tuple[Link, ...]] = field(default_factory=dict)
    squeeze: str = ""


def build_info(
    inputs: Iterable[tuple[str, str, Dims]], outputs: Iterable[tuple[str, str, Dims]]
) -> ModelInfo:
    """The interface of tensors given by name, datatype and shape."""
    inputs, outputs = list(inputs), list(outputs)
    takes = {name: dims for name, _, dims in inputs}
    gives = {name: dims for name, _, dims in outputs}
    batchable = bool(takes) and _share_first_axis([*takes.values(), *gives.values()])
    return ModelInfo(
        tuple(_spec(*tensor) for tensor in inputs),
        tuple(_spec(*tensor) for tensor in outputs),
        batchable,
        _linked_axes(takes, gives),
    )


def inspect_model(path: Path) -> ModelInfo:
    """Read a model's interface; weights outside the file are not touched.

    Raises:
        LoadError: the file is no ONNX model, or an input is no tensor of the protocol.
    """
    inputs, outputs = read_interface(path)
    info = build_info(map(_describe_tensor, inputs), map(_describe_tensor, outputs))
    return replace(info, squeeze=find_bare_squeeze(path)) if info.batchable else info


def _describe_tensor(value: GraphValue) -> tuple[str, str, Dims]:
    if not value.element:
        raise LoadError(
            f"{value.name!r} is no tensor (a sequence, map or optional). Export it as a tensor;"
            " skl2onnx does so for a classifier with options={'zipmap': False}."
        )
    try:
        datatype = tensors.from_onnx(f"tensor({value.element.lower()})")
    except KeyError:
        raise LoadError(
            f"{value.name!r} is {value.element}, which is no datatype of the Open Inference"
            " Protocol."
        ) from None
    return value.name, datatype, value.dims


def _spec(name: str, datatype: str, dims: Dims) -> TensorSpec:
    sizes = (dim if isinstance(dim, int) and dim >= 0 else -1 for dim in dims)
    return TensorSpec(name, datatype, tuple(sizes))


def _share_first_axis(shapes: Sequence[Dims]) -> bool:
    """Whether tensors of these shapes, all inputs and outputs, have a rows axis in common."""
    firsts = [shape[0] if shape else 0 for shape in shapes]
    names = {first for first in firsts if isinstance(first, str)}
    return not any(isinstance(first, int) for first in firsts) and len(names) <= 1


def _linked_axes(
    inputs: Mapping[str, Dims], outputs: Mapping[str, Dims]
) -> dict[str, tuple[Link, ...]]:
    """By output, its axes after the first that have the name of an input's axis after the first."""
    named = [
        (name, axis, dim)
        for name, dims in inputs.items()
        for axis, dim in enumerate(dims[1:])
        if isinstance(dim, str)
    ]
    found = {
        output: tuple(
            Link(axis, name, input_axis)
            for axis, dim in enumerate(dims[1:])
            for name, input_axis, known in named
            if known == dim
        )
        for output, dims in outputs.items()
    }
    return {output: links for output, links in found.items() if links}
