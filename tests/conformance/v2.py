"""The Open Inference Protocol v2 and Triton's binary tensor data extension, written from their
texts: no line of ours, no numpy.

A tensor is its datatype, its shape and its elements in row-major order, as Python's own values:
what a client in any language would have.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LETTERS: Final = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
}
LETTERS |= {"INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d"}
"""Tensor Data Types, and how ``struct`` writes one of them; BYTES is the only one without a size.
"""

HEADER: Final = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One of a request or an answer."""

    name: str
    datatype: str
    shape: Sequence[int]
    elements: Sequence[Any]


def packed(tensor: Tensor) -> bytes:
    """Binary tensor data: little-endian, no padding; an element of BYTES has its length before it,
    in four bytes.
    """
    if tensor.datatype == "BYTES":
        return b"".join(
            struct.pack("<I", len(raw)) + raw
            for raw in (_raw(element) for element in tensor.elements)
        )
    return struct.pack(f"<{len(tensor.elements)}{LETTERS[tensor.datatype]}", *tensor.elements)


def unpacked(datatype: str, count: int, data: bytes) -> list[Any]:
    """The elements in binary tensor data, which must be exactly theirs."""
    if datatype != "BYTES":
        return list(struct.unpack(f"<{count}{LETTERS[datatype]}", data))
    elements, at = [], 0
    for _ in range(count):
        (length,) = struct.unpack_from("<I", data, at)
        elements.append(data[at + 4 : at + 4 + length])
        assert len(elements[-1]) == length
        at += 4 + length
    assert at == len(data)
    return elements


def nested(elements: Sequence[Any], shape: Sequence[int]) -> Any:
    """Lists within lists as the shape has them."""
    if not shape:
        return elements[0]
    step = math.prod(shape[1:])
    return [
        nested(elements[index * step : (index + 1) * step], shape[1:]) for index in range(shape[0])
    ]


def request(
    tensors: Sequence[Tensor],
    form: str = "flat",
    outputs: Sequence[Mapping[str, Any]] = (),
    **message: Any,
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a call.

    Args:
        form: ``flat`` or ``nested`` JSON, or ``binary``.
        message: the rest of the Inference Request JSON Object.
    """
    entries, tail = [], b""
    for tensor in tensors:
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if form == "binary":
            data = packed(tensor)
            entry["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            entry["data"] = (
                nested(tensor.elements, tensor.shape) if form == "nested" else list(tensor.elements)
            )
        entries.append(entry)
    if outputs:
        message["outputs"] = list(outputs)
    head = json.dumps({**message, "inputs": entries}).encode()
    if form != "binary":
        return head, {"content-type": "application/json"}
    return head + tail, {"content-type": "application/octet-stream", HEADER: str(len(head))}


def response(body: bytes, headers: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The Inference Response JSON Object of an answer, and its tensors in their order."""
    length = headers.get(HEADER.lower())
    head = json.loads(body[: int(length)] if length is not None else body)
    at = len(body) if length is None else int(length)
    tensors = {}
    for output in head["outputs"]:
        assert output.keys() <= {"name", "datatype", "shape", "data", "parameters"}
        name, datatype, shape = output["name"], output["datatype"], output["shape"]
        if "data" in output:
            elements = [_read(element, datatype) for element in _flat(output["data"])]
        else:
            size = output["parameters"]["binary_data_size"]
            elements = unpacked(datatype, math.prod(shape), body[at : at + size])
            at += size
        assert len(elements) == math.prod(shape)
        tensors[name] = Tensor(name, datatype, tuple(shape), elements)
    assert at == len(body)
    return head, tensors


def _flat(data: Any) -> list[Any]:
    return (
        list(itertools.chain.from_iterable(_flat(one) for one in data))
        if isinstance(data, list)
        else [data]
    )


def _read(element: Any, datatype: str) -> Any:
    """A number of few bits is written with the digits that tell it from its neighbours."""
    if datatype not in ("FP16", "FP32") or element is None:
        return element
    return struct.unpack(LETTERS[datatype], struct.pack(LETTERS[datatype], element))[0]


def _raw(element: str | bytes) -> bytes:
    return element.encode() if isinstance(element, str) else element
