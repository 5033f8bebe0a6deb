"""Calls made of rows: in JSON, as a raw body, in the Open Inference Protocol with binary tensors,
as a stream, as a sequence.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from deployments.loadtest.calls.answers import HEADER_LENGTH
from deployments.loadtest.calls.load_call import LoadCall, RecordedAnswer, Wire
from deployments.loadtest.calls.served_functions import ServedFunction
from deployments.loadtest.refusal import LoadTestRefused
from runtime.protocol.content_kinds import kind_of_content, media_type_of
from runtime.protocol.json_text import dumps
from runtime.protocol.tensor_codec import encode_binary
from runtime.types.annotations import covers
from runtime.types.tensors import cast

_JSON: Final = "application/json"
_ANY: Final = "application/octet-stream"

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def make_call(
    function: ServedFunction,
    row: Any,
    *,
    wire: Wire | None = None,
    headers: Mapping[str, str] | None = None,
    recorded: RecordedAnswer | None = None,
    sequence_calls: int = 1,
) -> LoadCall:
    """A call of a function with a row.

    Args:
        row: as JSON has it; an array of rows only in JSON.
        wire: None: a stream where the function streams, else JSON.
        headers: beside those that the wire needs.
        sequence_calls: of each sequence, of a function that has sequences.

    Raises:
        LoadTestRefused: the function cannot be called so, or not with this row.
    """
    require_wire(function, wire)
    wire = wire or ("stream" if function.is_streamed else "json")
    path, body, needed = _encode(function, row, wire)
    sent = make_headers(function, needed, headers or {})
    return LoadCall(
        function.name,
        path,
        body,
        sent,
        wire=wire,
        recorded=recorded,
        sequence_calls=sequence_calls if function.has_sequences else 0,
    )


def make_headers(
    function: ServedFunction, needed: Mapping[str, str], given: Mapping[str, str]
) -> dict[str, str]:
    """The headers of a call, names in lower case: those that the function asks for, as the server
    shows them, those that the call needs, and those that are given, each before the ones before.

    Raises:
        LoadTestRefused: one cannot be sent, or the function asks for one that nothing gives.
    """
    shown = {name.lower(): value for name, value in function.headers.items()}
    sent = {name: value for name, value in shown.items() if value}
    sent |= needed
    sent |= {name.lower(): value for name, value in given.items()}
    for name, value in sent.items():
        if not is_header(name, value):
            raise LoadTestRefused(f"{name!r}: {value!r} is no header of a call of {function.name}.")
    if missing := [name for name in shown if name not in sent]:
        raise LoadTestRefused(
            f"{function.name} needs the header {missing[0]!r}, of which the server shows no"
            f" example. Give `--header '{missing[0]}: VALUE'`.",
            where="--header",
        )
    return sent


def require_wire(function: ServedFunction, wire: Wire | None) -> None:
    """Refuse a form in which a function cannot be called, whatever the row.

    Raises:
        LoadTestRefused: says why.
    """
    why = ""
    if wire == "stream" and not function.is_streamed:
        why = "answers at once, and not in a stream."
    elif wire == "raw" and not function.raw_types:
        why = "takes no raw bodies: its declaration has no `accepts`."
    elif wire == "v2" and function.tensors is None:
        why = "shows no example as tensors: it streams, has no `example`, or takes bytes."
    if why:
        raise LoadTestRefused(f"{function.name} {why} Leave `--wire {wire}` out.", where="--wire")


def is_header(name: str, value: str) -> bool:
    """Whether they may stand in the head of a request (RFC 9110, sections 5.1 and 5.5)."""
    return bool(_NAME.fullmatch(name) and _VALUE.fullmatch(value))


def _encode(function: ServedFunction, row: Any, wire: Wire) -> tuple[str, bytes, dict[str, str]]:
    """The path, the body and the headers that say what the body is."""
    accept = function.form.media_type or _JSON
    match wire:
        case "json":
            return function.path, dumps(row), {"content-type": _JSON, "accept": accept}
        case "stream":
            sent = {"content-type": _JSON, "accept": "text/event-stream"}
            return function.path, dumps(row), sent
        case "raw":
            body, media_type = _raw_body(function, row)
            return function.path, body, {"content-type": media_type, "accept": accept}
        case "v2":
            return _encode_tensors(function, row)
        case "other":
            raise AssertionError("a call that is made is of a form that is known")


def _raw_body(function: ServedFunction, row: Any) -> tuple[bytes, str]:
    values = list(row.values()) if isinstance(row, Mapping) else []
    if len(values) != 1 or not isinstance(values[0], str):
        raise LoadTestRefused(
            f"a raw body of {function.name} is one field of bytes, and a row has {_fields(row)}."
            " Give rows with that field alone, in base64."
        )
    try:
        body = base64.b64decode(values[0], validate=True)
    except binascii.Error as error:
        raise LoadTestRefused(
            f"a raw body of {function.name} is a field of bytes, and a row's is no base64: {error}."
        ) from None
    known = media_type_of(kind_of_content(body))
    if any(covers(media, known) for media in function.raw_types):
        return body, known
    exact = [media for media in function.raw_types if "*" not in media]
    if not exact:
        raise LoadTestRefused(
            f"a row's bytes are of {known}, and raw bodies of {function.name} are of"
            f" {', '.join(function.raw_types)}. Give rows with such a file."
        )
    return body, exact[0]


def _fields(row: Any) -> str:
    return ", ".join(map(repr, row)) or "none" if isinstance(row, Mapping) else "no fields"


def _encode_tensors(function: ServedFunction, row: Any) -> tuple[str, bytes, dict[str, str]]:
    """The row as binary tensors of the shapes and datatypes that the server shows of its example.

    Raises:
        LoadTestRefused: the row is no such one.
    """
    shown = {str(tensor["name"]): tensor for tensor in function.tensors or ()}
    required = shown.keys() & function.required
    if not isinstance(row, Mapping) or row.keys() - shown.keys() or required - row.keys():
        raise LoadTestRefused(
            f"a row of {function.name} has {_fields(row)}, its tensors are {', '.join(shown)}"
            f" ({', '.join(sorted(required)) or 'none'} required)."
        )
    inputs, chunks = list[dict[str, Any]](), list[bytes]()
    for name, value in row.items():
        head, chunk = _binary_tensor(function, shown[name], value)
        inputs.append(head)
        chunks.append(chunk)
    head_bytes = dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    sent = {"content-type": _ANY, HEADER_LENGTH: str(len(head_bytes))}
    return f"{function.path.rstrip('/')}/infer", b"".join([head_bytes, *chunks]), sent


def _binary_tensor(
    function: ServedFunction, shown: Mapping[str, Any], value: Any
) -> tuple[dict[str, Any], bytes]:
    name, datatype = shown["name"], shown["datatype"]
    try:
        array = cast(dumps(value).decode() if isinstance(value, Mapping) else value, datatype)
        if array.ndim == len(shown["shape"]) - 1:  # a row of a function that has rows
            array = array[np.newaxis]
        chunk = bytes(encode_binary(array, datatype, name))
    except (TypeError, ValueError) as error:
        raise LoadTestRefused(
            f"{name!r} of a row of {function.name} is no tensor of {datatype}: {error}"
        ) from None
    size = {"binary_data_size": len(chunk)}
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "parameters": size}, (
        chunk
    )
