"""Reads the nodes of an ``.onnx`` file: operators, what they take and give, and the small constants
that say how they work (axes, shapes). Weights are stepped over.

Sources: ``onnx/onnx.proto`` (numbers of fields, data types).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from runtime.errors import LoadError
from runtime.onnx.model_file import (
    ATTRIBUTE_GRAPH,
    ATTRIBUTE_GRAPHS,
    ATTRIBUTE_TENSOR,
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    MAX_AXES,
    MAX_DEPTH,
    MODEL_GRAPH,
    NODE_ATTRIBUTE,
    TENSOR_NAME,
    read_model,
)
from runtime.onnx.wire_format import Message

MAX_VALUES: Final = 64
"""Integers of a constant that are read: more than a tensor has axes."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor that the model holds.

    Attributes:
        dims: its shape.
        values: its integers, in order; None: they are no integers, too many, or in another file.
    """

    dims: tuple[int, ...]
    values: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ModelNode:
    """One operator.

    Attributes:
        operator: its type, such as ``ReduceMean``; with its domain before it where that is not
            ONNX's own.
        name: its name; may be empty.
        inputs: names of tensors; empty where an input is left out.
        outputs: names of tensors.
        numbers: attributes of one integer.
        lists: attributes of several.
        texts: attributes of text.
        constants: attributes that are tensors.
        graphs: graphs within it, by attribute.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, int]
    lists: Mapping[str, tuple[int, ...]]
    texts: Mapping[str, str]
    constants: Mapping[str, Constant]
    graphs: Mapping[str, ModelGraph]


@dataclass(frozen=True, slots=True)
class ModelGraph:
    """Nodes in an order in which they can run.

    Attributes:
        inputs: names, without those of constants.
        outputs: names.
        constants: by name.
        opset: version of ONNX's operators; 0 for a graph within another.
    """

    nodes: tuple[ModelNode, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Constant]
    opset: int = 0


def read_graph(path: Path) -> ModelGraph:
    """The graph of a model.

    Raises:
        LoadError: the file is no ONNX model.
    """
    model = read_model(path)
    try:
        graph = model.message(MODEL_GRAPH)
        versions = {
            opset.text(_OPSET_DOMAIN): opset.integer(_OPSET_VERSION) or 0
            for opset in model.messages(_MODEL_OPSET)
        }
        version = versions.get("", versions.get(_OWN_DOMAIN, 0))
        if graph is None:
            raise ValueError("it has no graph")
        return _graph(graph, version, MAX_DEPTH)
    except ValueError as error:
        raise LoadError(f"{path} is no ONNX model: {error}.") from error


_MODEL_OPSET: Final = 8
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_OWN_DOMAIN: Final = "ai.onnx"
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_DOMAIN = 1, 2, 3, 4, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TEXT, _ATTRIBUTE_INTS = 1, 3, 4, 8
_VALUE_NAME: Final = 1
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_INT32, _TENSOR_INT64, _TENSOR_RAW = 1, 2, 5, 7, 9
_INT32, _INT64 = 6, 7


def _graph(graph: Message, opset: int, depth: int) -> ModelGraph:
    if not depth:
        raise ValueError(f"it has graphs in graphs, more than {MAX_DEPTH} deep")
    constants = {
        tensor.text(TENSOR_NAME): _constant(tensor) for tensor in graph.messages(GRAPH_INITIALIZER)
    }
    inputs = tuple(value.text(_VALUE_NAME) for value in graph.messages(GRAPH_INPUT))
    return ModelGraph(
        tuple(_node(node, depth) for node in graph.messages(GRAPH_NODE)),
        tuple(name for name in inputs if name not in constants),
        tuple(value.text(_VALUE_NAME) for value in graph.messages(GRAPH_OUTPUT)),
        constants,
        opset,
    )


def _node(node: Message, depth: int) -> ModelNode:
    numbers: dict[str, int] = {}
    lists: dict[str, tuple[int, ...]] = {}
    texts: dict[str, str] = {}
    constants: dict[str, Constant] = {}
    graphs: dict[str, ModelGraph] = {}
    for attribute in node.messages(NODE_ATTRIBUTE):
        name = attribute.text(_ATTRIBUTE_NAME)
        if (number := attribute.integer(_ATTRIBUTE_INT)) is not None:
            numbers[name] = number
        if values := attribute.integers(_ATTRIBUTE_INTS):
            lists[name] = tuple(values)
        if text := attribute.blob(_ATTRIBUTE_TEXT):
            texts[name] = bytes(text).decode("utf-8", "replace")
        if (tensor := attribute.message(ATTRIBUTE_TENSOR)) is not None:
            constants[name] = _constant(tensor)
        if (branch := attribute.message(ATTRIBUTE_GRAPH)) is not None:
            graphs[name] = _graph(branch, 0, depth - 1)
        for index, inner in enumerate(attribute.messages(ATTRIBUTE_GRAPHS)):
            graphs[f"{name}{index or ''}"] = _graph(inner, 0, depth - 1)
    domain = node.text(_NODE_DOMAIN)
    operator = node.text(_NODE_OPERATOR)
    return ModelNode(
        operator if domain in ("", _OWN_DOMAIN) else f"{domain}.{operator}",
        node.text(_NODE_NAME),
        tuple(node.texts(_NODE_INPUT)),
        tuple(node.texts(_NODE_OUTPUT)),
        numbers,
        lists,
        texts,
        constants,
        graphs,
    )


def _constant(tensor: Message) -> Constant:
    dims = tuple(tensor.integers(_TENSOR_DIMS))
    if len(dims) > MAX_AXES:
        raise ValueError(f"a constant in it has {len(dims)} axes")
    count = math.prod(dims)
    kind = tensor.integer(_TENSOR_TYPE)
    if kind not in (_INT32, _INT64) or count > MAX_VALUES:
        return Constant(dims)
    dtype, field = (np.int64, _TENSOR_INT64) if kind == _INT64 else (np.int32, _TENSOR_INT32)
    raw = tensor.blob(_TENSOR_RAW)
    if raw and len(raw) != count * np.dtype(dtype).itemsize:
        return Constant(dims)
    values = (
        np.frombuffer(raw, np.dtype(dtype).newbyteorder("<")).tolist()
        if raw
        else tensor.integers(field)
    )
    return Constant(dims, tuple(values) if len(values) == count else None)
