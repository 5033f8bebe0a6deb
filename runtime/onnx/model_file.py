"""Reads of an ``.onnx`` file what can be known without a session: the tensors that it takes and
gives, and the files that hold its weights.

An ONNX file is a protobuf message, of which a dozen fields matter here. They are read from the wire
format, and weights are stepped over: the package ``onnx`` would bring 30 MB to every installation,
and its import to every ``wakeful check``.

Sources: ``onnx/onnx.proto`` (numbers of fields, data types), ONNX's *External Data* (where weights
lie), protobuf's *Encoding*.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.errors import LoadError
from runtime.onnx.wire_format import Message
from runtime.system.files import HEAD_BYTES, export_advice, kind_of_file, resolve_path
from runtime.system.messages import quote

Dims = tuple[int | str | None, ...]
"""A shape; a dimension is a size, a name, or None where it is free and nameless."""

DATA_TYPES: Final = (
    *("UNDEFINED", "FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "STRING"),
    *("BOOL", "FLOAT16", "DOUBLE", "UINT32", "UINT64", "COMPLEX64", "COMPLEX128", "BFLOAT16"),
    *("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "UINT4", "INT4"),
    *("FLOAT4E2M1", "FLOAT8E8M0"),
)
"""Names of ``TensorProto.DataType`` by number."""

MAX_AXES: Final = 64
"""Of a tensor: as many as NumPy's arrays may have."""

MAX_DEPTH: Final = 100
"""Graphs within graphs that are followed, as many as protobuf's own readers follow."""


@dataclass(frozen=True, slots=True)
class GraphValue:
    """An input or output of a graph.

    Attributes:
        element: name of its elements' type, of ``DATA_TYPES``; empty: it is no tensor.
    """

    name: str
    element: str
    dims: Dims


def read_interface(path: Path) -> tuple[list[GraphValue], list[GraphValue]]:
    """The inputs of a model, its weights left out, and its outputs, in the model's order. Files of
    weights are not opened.

    Raises:
        LoadError: the file is no ONNX model.
    """
    data = read_bytes(path)
    try:
        graph = _graph_of(_parse_model(data))
        # models of ONNX's first versions list their weights as inputs too
        weights = {tensor.text(TENSOR_NAME) for tensor in graph.messages(GRAPH_INITIALIZER)}
        inputs = [_describe(value) for value in graph.messages(GRAPH_INPUT)]
        outputs = [_describe(value) for value in graph.messages(GRAPH_OUTPUT)]
    except ValueError as error:
        raise _no_model(path, data, error) from error
    if not outputs:
        raise LoadError(f"{path} is no ONNX model: it has no outputs.")
    return [value for value in inputs if value.name not in weights], outputs


def weights_of(path: Path) -> list[Path]:
    """The files next to a model that hold its weights; raises as ``find_weights``."""
    return list(find_weights(path).values())


def find_weights(path: Path) -> dict[str, Path]:
    """The files next to a model that hold its weights, by their names in it; one may be missing.

    Raises:
        LoadError: it is no ONNX model, or has weights that are not in its folder, links followed,
            or that are no file: a model may come from anywhere, and must not choose what is read.
    """
    folder = path.parent.resolve()
    found = {}
    for name in read_weight_names(path):
        target = path.parent / name
        try:
            place = resolve_path(target)
            is_other = place.exists() and not place.is_file()
        except OSError as error:  # of a name that no file has
            raise LoadError(
                f"{path} keeps weights in {quote(name)}, which cannot be read: {error.strerror}."
            ) from error
        is_plain = bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts
        if not (is_plain and place.is_relative_to(folder)):
            raise LoadError(
                f"{path} keeps weights in {quote(name)}, which leads out of its folder, to {place}."
                " Save the model with its weights beside it."
            )
        if is_other:
            raise LoadError(f"{path} keeps weights in {quote(name)}, which is no file.")
        found[name] = target
    return found


def read_weight_names(path: Path) -> list[str]:
    """The files that hold a model's weights, as it names them: from its folder.

    Raises:
        LoadError: it is no ONNX model.
    """
    data = read_bytes(path)
    try:
        model = _parse_model(data)
        _graph_of(model)
        if b"location" not in data:  # the key that each external tensor has
            return []
        names = {
            entry.text(_ENTRY_VALUE)
            for tensor in _tensors_of_model(model)
            if _is_external(tensor)
            for entry in tensor.messages(_TENSOR_EXTERNAL)
            if entry.text(_ENTRY_KEY) == "location"
        }
        if any("\0" in name for name in names):
            raise ValueError("the name of a file in it has a zero byte")
    except ValueError as error:
        raise _no_model(path, data, error) from error
    return sorted(names)


MODEL_GRAPH, _MODEL_FUNCTION = 7, 25
_FUNCTION_NODE: Final = 7
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 11, 12, 15
NODE_ATTRIBUTE: Final = 5
ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS, _ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 5, 10, 22, 23
ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS = 6, 11
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
TENSOR_NAME, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8, 13, 14
_EXTERNAL: Final = 1
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR: Final = 1
_TENSOR_TYPE_ELEMENT, _TENSOR_TYPE_SHAPE = 1, 2
_SHAPE_DIM: Final = 1
_DIM_VALUE, _DIM_NAME = 1, 2


def read_model(path: Path) -> Message:
    """The message of a whole model (``ModelProto``).

    Raises:
        LoadError: it is no ONNX model, or cannot be read.
    """
    data = read_bytes(path)
    try:
        return _parse_model(data)
    except ValueError as error:
        raise _no_model(path, data, error) from error


def _no_model(path: Path, data: bytes, error: ValueError) -> LoadError:
    """The error for a file that is no model: what it is instead, where its first bytes say so."""
    kind = kind_of_file(path, data[:HEAD_BYTES])
    if not kind:
        return LoadError(f"{path} is no ONNX model: {error}.")
    return LoadError(f"{path} is no ONNX model: it is {kind}.{export_advice(kind)}")


def read_bytes(path: Path) -> bytes:
    """A model's file.

    Raises:
        LoadError: it cannot be read.
    """
    # not mapped: an export that writes the file anew meanwhile would end the process
    try:
        return path.read_bytes()
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}.") from error


def _parse_model(data: bytes) -> Message:
    if not data:
        raise ValueError("it is empty")
    return Message(memoryview(data))


def _graph_of(model: Message) -> Message:
    graph = model.message(MODEL_GRAPH)
    if graph is None:
        raise ValueError("it has no graph")
    return graph


def _describe(value: Message) -> GraphValue:
    name, type_ = value.text(_VALUE_NAME), value.message(_VALUE_TYPE)
    tensor = type_.message(_TYPE_TENSOR) if type_ is not None else None
    if tensor is None:
        return GraphValue(name, "", ())
    number = tensor.integer(_TENSOR_TYPE_ELEMENT) or 0
    element = DATA_TYPES[number] if 0 <= number < len(DATA_TYPES) else f"element type {number}"
    shape = tensor.message(_TENSOR_TYPE_SHAPE)
    dims = [] if shape is None else [_dim(dim) for dim in shape.messages(_SHAPE_DIM)]
    if len(dims) > MAX_AXES:
        raise ValueError(f"{quote(name)} has {len(dims)} axes; an array has {MAX_AXES} at most")
    return GraphValue(name, element if number else "", tuple(dims))


def _dim(dim: Message) -> int | str | None:
    size = dim.integer(_DIM_VALUE)
    return size if size is not None else dim.text(_DIM_NAME) or None


def _tensors_of_model(model: Message) -> Iterator[Message]:
    """Tensors of a model's graph, and of the functions that it defines itself."""
    yield from _tensors_of_graph(_graph_of(model), MAX_DEPTH)
    for function in model.messages(_MODEL_FUNCTION):
        for node in function.messages(_FUNCTION_NODE):
            yield from _tensors_of_node(node, MAX_DEPTH)


def _tensors_of_graph(graph: Message, depth: int) -> Iterator[Message]:
    """Tensors of a graph and of the graphs in its nodes: branches, loops."""
    if not depth:
        raise ValueError(f"it has graphs in graphs, more than {MAX_DEPTH} deep")
    yield from graph.messages(GRAPH_INITIALIZER)
    for sparse in graph.messages(_GRAPH_SPARSE):
        yield from _parts(sparse)
    for node in graph.messages(GRAPH_NODE):
        yield from _tensors_of_node(node, depth)


def _tensors_of_node(node: Message, depth: int) -> Iterator[Message]:
    for attribute in node.messages(NODE_ATTRIBUTE):
        if (tensor := attribute.message(ATTRIBUTE_TENSOR)) is not None:
            yield tensor
        yield from attribute.messages(_ATTRIBUTE_TENSORS)
        if (sparse := attribute.message(_ATTRIBUTE_SPARSE)) is not None:
            yield from _parts(sparse)
        for sparse in attribute.messages(_ATTRIBUTE_SPARSES):
            yield from _parts(sparse)
        if (inner := attribute.message(ATTRIBUTE_GRAPH)) is not None:
            yield from _tensors_of_graph(inner, depth - 1)
        for inner in attribute.messages(ATTRIBUTE_GRAPHS):
            yield from _tensors_of_graph(inner, depth - 1)


def _parts(sparse: Message) -> Iterator[Message]:
    """The tensors that a sparse one consists of."""
    for number in (_SPARSE_VALUES, _SPARSE_INDICES):
        if (tensor := sparse.message(number)) is not None:
            yield tensor


def _is_external(tensor: Message) -> bool:
    """Whether its numbers may lie in a file. The field is an enum of 32 bits, and other readers
    skip a value that they do not know: any of them counts.
    """
    return any(value & 0xFFFFFFFF == _EXTERNAL for value in tensor.integers(_TENSOR_LOCATION))
