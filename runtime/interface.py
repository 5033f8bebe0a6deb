"""A function's face in plain data: what it takes and what it answers, for those that call it and cannot read its stages and models.

Constraints of the fields (``Field(ge=1)``) stay with the function, which checks every row; names, datatypes, shapes and defaults are what
a graph is wired with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from runtime.graph import Port
from runtime.values import ANY, ANY_MAPPING, ValueType, array_annotation, is_mapping, of_annotation

Words = dict[str, Any]

_SCALARS: Final[dict[str, Any]] = {"BOOL": bool, "INT64": int, "FP64": float, "text": str, "bytes": bytes}


def words_of(value: ValueType) -> Words:
    """A value type in plain data; an object is only known to be one, or a mapping, and whoever takes it finds out the rest."""
    if value.container == "object":
        return {"container": "object", "is_mapping": True} if is_mapping(value.annotation) else {"container": "object"}
    datatype = value.datatype
    if datatype == "BYTES" and value.container != "array":
        datatype = "bytes" if "bytes" in str(value.annotation) else "text"
    return {"container": value.container, "datatype": datatype, "shape": None if value.shape is None else list(value.shape)}


def type_of(words: Words) -> ValueType:
    """The value type again."""
    container, datatype, shape = words["container"], words.get("datatype"), words.get("shape")
    if container == "object":
        return ANY_MAPPING if words.get("is_mapping") else ANY
    if container == "array":
        known = None if shape is None else tuple(shape)
        return of_annotation(array_annotation(ValueType(np.ndarray, "array", datatype, known)))
    annotation = _SCALARS[str(datatype)]
    for _ in shape or ():
        annotation = list[annotation]  # type: ignore[valid-type]  # made here
    return of_annotation(annotation)


def takes_of(fields: Mapping[str, Port]) -> dict[str, Words]:
    """Request fields in plain data, those that may be left out with ``default``."""
    return {name: words_of(port.type) | ({} if port.is_required else {"default": _plain(port.default)}) for name, port in fields.items()}


def ports_of(takes: Mapping[str, Words]) -> tuple[Port, ...]:
    """Request fields again."""
    ports = []
    for name, words in takes.items():
        type_ = type_of(words)
        ports.append(Port(name, type_, type_.annotation, words["default"]) if "default" in words else Port(name, type_, type_.annotation))
    return tuple(ports)


def _plain(default: Any) -> Any:
    """A default as JSON carries it; the function itself has it in full, for whoever leaves the field out."""
    return default if isinstance(default, str | int | float | bool | None) else None
