"""What a function takes and answers, written down: as JSON for the functions that call it, and as
text for people.

The JSON form (``CalleeSpec.takes`` and ``gives``) is what a caller's graph is wired with: names,
datatypes, shapes and defaults. The caller cannot read the function's stages and models.
Constraints of the fields (``Field(ge=1)``) stay with the function, which checks every row. A
default that JSON cannot express stays there too: the calling stage omits the field.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import numpy as np

from runtime.graph.graph import OMITTED, Graph, Port
from runtime.types import tensors
from runtime.types.annotations import Shape, is_media_range
from runtime.types.value_types import (
    ANY,
    ANY_MAPPING,
    ValueType,
    array_annotation,
    array_scalar,
    elements_take_none,
    is_mapping,
    of_annotation,
    takes_none,
)

JsonType = dict[str, Any]
"""A value type as plain data: ``container``, ``datatype``, ``shape`` and flags."""

_SCALARS: Final[dict[str, Any]] = {
    "BOOL": bool,
    "INT64": int,
    "FP64": float,
    "text": str,
    "bytes": bytes,
}


def type_to_json(value: ValueType) -> JsonType:
    """A value type as plain data. Of an object it only says that it is one, or that it is a
    mapping; the stage that takes it finds out the rest.
    """
    data = _describe_container(value)
    if value.may_lack:
        data["may_lack"] = True
    if value.may_be_none:
        data["or_none"] = True
    if value.media_type and not is_media_range(value.media_type):
        data["media_type"] = value.media_type
    return data


def type_from_json(data: Mapping[str, Any]) -> ValueType:
    """The value type that ``type_to_json`` wrote."""
    return replace(
        _read_container(data),
        may_lack=bool(data.get("may_lack")),
        may_be_none=bool(data.get("or_none")),
        media_type=str(data.get("media_type", "")),
    )


def fields_to_json(fields: Mapping[str, Port]) -> dict[str, JsonType]:
    """Request fields as plain data; optional ones with their ``default``, or ``has_default`` where
    JSON cannot express it.
    """
    return {
        name: type_to_json(port.type) | _describe_default(port) for name, port in fields.items()
    }


def answer_to_json(graph: Graph) -> dict[str, JsonType]:
    """What a function answers as plain data; ``is_unnamed`` where that is one value, which is the
    answer by itself.
    """
    is_unnamed = graph.answers_as_value or graph.media_type
    unnamed: JsonType = {"is_unnamed": True} if is_unnamed else {}
    return {name: type_to_json(value) | unnamed for name, value in graph.answer.items()}


def ports_from_json(takes: Mapping[str, Mapping[str, Any]]) -> tuple[Port, ...]:
    """The request fields that ``fields_to_json`` wrote."""
    ports = []
    for name, data in takes.items():
        type_ = type_from_json(data)
        annotation = type_.annotation | None if data.get("or_none") else type_.annotation
        otherwise = OMITTED if data.get("has_default") else inspect.Parameter.empty
        ports.append(Port(name, type_, annotation, data.get("default", otherwise)))
    return tuple(ports)


def format_fields(fields: Mapping[str, Port]) -> str:
    """Request fields: ``text: str, times: int = 1``."""
    return ", ".join(f"{name}: {_format_port(port)}" for name, port in fields.items())


def format_values(values: Mapping[str, ValueType]) -> str:
    """What is answered: ``label: str, scores: list[float] | None, note: NotRequired[str]``."""
    return ", ".join(f"{name}: {_format_value(value)}" for name, value in values.items())


def _format_value(value: ValueType) -> str:
    text = format_annotation(value)
    if value.may_be_none and not takes_none(value.annotation):
        text += " | None"
    if value.may_lack:
        text = f"NotRequired[{text}]"
    return f"{text} ({value.media_type})" if value.media_type else text


def format_annotation(value: ValueType) -> str:
    """What to write where a stage takes or gives such a value: ``Annotated[NDArray[np.float32],
    Shape(36)]``.
    """
    if value.container != "array":
        return format_type(value.annotation)
    if value.datatype is None:
        return "np.ndarray"
    suffix = "_" if value.datatype in ("BOOL", "BYTES") else ""
    array = f"NDArray[np.{tensors.NUMPY[value.datatype].name}{suffix}]"
    if value.shape is None:
        return array
    return f"Annotated[{array}, Shape({', '.join(map(str, value.shape))})]"


def format_type(annotation: Any) -> str:
    """An annotation as Python source, without what only checks a value: ``int``, ``list[str] |
    None``.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation == ANY_MAPPING.annotation:
        return "dict"
    if origin is Annotated:
        is_array = args[0] is np.ndarray or get_origin(args[0]) is np.ndarray
        shape = next((note for note in args[1:] if isinstance(note, Shape)), None)
        inner = format_type(args[0])
        return f"Annotated[{inner}, {shape}]" if is_array and shape is not None else inner
    if origin is np.ndarray:
        scalar = array_scalar(annotation)
        return f"NDArray[np.{scalar.__name__}]" if isinstance(scalar, type) else "np.ndarray"
    if origin in (Union, types.UnionType):
        return " | ".join(map(format_type, args))
    if origin is Literal:
        return " | ".join(repr(arg) for arg in args)
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is np.ndarray:
        return "np.ndarray"
    if origin is not None and args:
        inner = ", ".join("..." if arg is Ellipsis else format_type(arg) for arg in args)
        return f"{getattr(origin, '__name__', str(origin))}[{inner}]"
    return getattr(annotation, "__name__", None) or str(annotation)


def _format_port(port: Port) -> str:
    is_array = port.type.container == "array"
    text = format_annotation(port.type) if is_array else format_type(port.annotation)
    return text if port.is_required else f"{text} = {port.default!r}"


def _describe_container(value: ValueType) -> JsonType:
    if value.media_type:  # its bytes go to another function, wherever they lie here
        return {"container": "scalar", "datatype": "bytes", "shape": []}
    if value.container == "object":
        data: JsonType = {"container": "object"}
        return data | {"is_mapping": True} if is_mapping(value.annotation) else data
    datatype = value.datatype
    if datatype == "BYTES" and value.container != "array":
        datatype = "bytes" if value.is_bytes else "text"
    shape = None if value.shape is None else list(value.shape)
    data = {"container": value.container, "datatype": datatype, "shape": shape}
    if get_origin(value.annotation) is Literal and datatype != "bytes":
        data["options"] = list(get_args(value.annotation))
    if value.container == "list" and elements_take_none(value.annotation):
        data["has_gaps"] = True
    return data


def _read_container(data: Mapping[str, Any]) -> ValueType:
    container, datatype, shape = data["container"], data.get("datatype"), data.get("shape")
    if container == "object":
        return ANY_MAPPING if data.get("is_mapping") else ANY
    if container == "array":
        dims = None if shape is None else tuple(shape)
        return of_annotation(array_annotation(ValueType(np.ndarray, "array", datatype, dims)))
    if options := data.get("options"):
        literal: Any = Literal
        return of_annotation(literal[tuple(options)])
    annotation = _SCALARS.get(str(datatype)) or tensors.NUMPY[str(datatype)].type
    for axis in range(len(shape or ()) - 1, -1, -1):
        has_gaps = not axis and data.get("has_gaps")
        annotation = list[annotation | None] if has_gaps else list[annotation]  # type: ignore[valid-type]  # made here
    return of_annotation(annotation)


def _describe_default(port: Port) -> JsonType:
    """What takes the place of a field that a request omits."""
    takes_null = not port.type.is_any and takes_none(port.annotation)
    data: JsonType = {"or_none": True} if takes_null else {}
    if port.is_required:
        return data
    is_known = (port.default is None and takes_null) or (
        _is_plain(port.default) and port.type.container in ("scalar", "list")
    )
    return data | ({"default": port.default} if is_known else {"has_default": True})


def _is_plain(default: Any) -> bool:
    """Whether JSON carries it, and it comes back as it was."""
    if type(default) is list:
        return all(map(_is_plain, default))
    return type(default) in (str, int, bool) or (type(default) is float and math.isfinite(default))
