"""What is left of a body when fields must not be recorded. Pure.

A body is read as its route reads it, and what is not a known field makes all of it unrecordable: a
misspelt name, or another shape than the route's, may hold what is to be kept out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from runtime.errors import WakefulError
from runtime.protocol import loads
from runtime.types.tensors import NUMPY

JSON_TYPES: Final = frozenset({"", "application/json"})
"""Content types of bodies that are JSON; a call without one is."""

LINES_TYPE: Final = "application/x-ndjson"

GENERATE: Final = ("/generate", "/generate_stream")

INFER: Final = "/infer"

_TENSOR_KEYS: Final = frozenset({"name", "shape", "datatype", "data", "parameters"})
_PARAMETERS: Final = frozenset(
    {
        "binary_data_output",
        "priority",
        "sequence_end",
        "sequence_id",
        "sequence_start",
        "timeout",
    }
)
"""Of a v2 request: what decides how it is answered, and holds nothing of a field."""

_SIZE: Final = "binary_data_size"

_OUTPUT_PARAMETERS: Final = frozenset({"binary_data"})


class _Unknown(Exception):
    """The body has what its route does not."""


@dataclass(frozen=True, slots=True)
class Remainder:
    """A body without the omitted fields.

    Attributes:
        body: what a client would have sent without them.
        omitted: those that it had, in order.
        header_length: of the JSON in front of tensors, where there is one.
    """

    body: bytes
    omitted: tuple[str, ...]
    header_length: int | None = None


def without_fields(
    body: bytes,
    *,
    route: str,
    media_type: str,
    header_length: int | None,
    fields: Collection[str],
    omit: Collection[str],
) -> Remainder | None:
    """Return a request's body without some fields; None: they cannot be taken out.

    Args:
        route: of the function, as of ``runtime.http.function_routes.ROUTES``.
        media_type: of the body, without parameters, in lower case.
        header_length: of the JSON in front of binary tensors; None: there are none.
        fields: that the function takes.
        omit: those that are not to be in it.
    """
    found: list[str] = []
    try:
        if route == INFER:
            return _infer(body, header_length, fields, omit, found)
        if route in GENERATE:
            left = orjson.dumps(_generate(loads(body), fields, omit, found))
        elif route:
            return None
        elif media_type == LINES_TYPE:
            lines = [_row(loads(line), fields, omit, found) for line in body.split(b"\n") if line]
            left = b"".join([orjson.dumps(row) + b"\n" for row in lines])
        elif media_type in JSON_TYPES:
            data = loads(body)
            left = orjson.dumps(
                [_row(row, fields, omit, found) for row in data]
                if isinstance(data, list)
                else _row(data, fields, omit, found)
            )
        else:
            return None
    except (_Unknown, WakefulError, orjson.JSONEncodeError):
        return None
    return Remainder(left, _in_order(found))


def answer_without_fields(text: bytes, *, route: str, omit: Collection[str]) -> Remainder | None:
    """Return the JSON of an answer, of its items or of its lines without some fields, and without
    the messages of errors, which may quote a value (``error`` is among the omitted ones then);
    None: they cannot be taken out.

    Args:
        route: as of ``without_fields``.
    """
    found: list[str] = []
    try:
        data = loads(text)
        if route == INFER:
            left: Any = _infer_answer(data, omit, found)
        elif route and route not in GENERATE:
            return None
        elif isinstance(data, list):
            left = [_answer_row(row, omit, found) for row in data]
        else:
            left = _answer_row(data, omit, found)
        return Remainder(orjson.dumps(left), _in_order(found))
    except (_Unknown, WakefulError, orjson.JSONEncodeError):
        return None


def _in_order(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found))


def _row(
    row: object, fields: Collection[str], omit: Collection[str], found: list[str]
) -> dict[str, Any]:
    if not isinstance(row, dict) or not row.keys() <= set(fields):
        raise _Unknown
    found += [name for name in row if name in omit]
    return {name: value for name, value in row.items() if name not in omit}


def _generate(
    data: object, fields: Collection[str], omit: Collection[str], found: list[str]
) -> dict[str, Any]:
    """Fields stand beside ``parameters`` and in it; other parameters mean nothing."""
    if not isinstance(data, dict):
        raise _Unknown
    parameters = None if "parameters" in fields else data.get("parameters")
    beside = {
        name: value
        for name, value in data.items()
        if name in fields or name not in ("id", "parameters")
    }
    row = _row(beside, fields, omit, found)
    if isinstance(parameters, dict):
        within = {name: value for name, value in parameters.items() if name in fields}
        row["parameters"] = _row(within, fields, omit, found)
    elif parameters is not None:
        raise _Unknown
    return row


def _infer(
    body: bytes,
    header_length: int | None,
    fields: Collection[str],
    omit: Collection[str],
    found: list[str],
) -> Remainder:
    """The JSON of the request, and the bytes of its tensors behind it, one after another."""
    head, rest = body[:header_length], body[len(body) if header_length is None else header_length :]
    data = loads(head)
    if not isinstance(data, dict) or not isinstance(data.get("inputs"), list):
        raise _Unknown
    left: list[dict[str, Any]] = []
    pieces: list[bytes] = []
    offset = 0
    for tensor in data["inputs"]:
        if not isinstance(tensor, dict) or not _is_among(tensor.get("name"), fields):
            raise _Unknown
        size = _binary_size(tensor)
        piece, offset = rest[offset : offset + size], offset + size
        if tensor["name"] in omit:
            found.append(tensor["name"])
            continue
        pieces.append(piece)
        left.append(_tensor(tensor, size))
    if offset != len(rest):
        raise _Unknown
    text = orjson.dumps({**_infer_head(data), "inputs": left})
    if header_length is None:
        return Remainder(text, _in_order(found))
    return Remainder(b"".join([text, *pieces]), _in_order(found), len(text))


def _is_among(name: object, names: Collection[str]) -> bool:
    return isinstance(name, str) and name in names


def _tensor(tensor: Mapping[str, Any], size: int) -> dict[str, Any]:
    """A tensor as it is known: what is no shape and no datatype may be anything."""
    shape, datatype = tensor.get("shape", []), tensor.get("datatype", "")
    if not isinstance(shape, list) or not all(type(one) is int for one in shape):
        raise _Unknown
    if datatype and not _is_among(datatype, NUMPY):
        raise _Unknown
    kept = {key: value for key, value in tensor.items() if key in _TENSOR_KEYS}
    if "parameters" in kept:
        kept["parameters"] = {_SIZE: size} if size else {}
    return kept


def _infer_head(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a v2 request has beside its inputs, as far as it is known."""
    head: dict[str, Any] = {}
    if "id" in data:
        if not isinstance(data["id"], str):
            raise _Unknown
        head["id"] = data["id"]
    if "outputs" in data:
        if not isinstance(data["outputs"], list):
            raise _Unknown
        head["outputs"] = [_output(one) for one in data["outputs"]]
    parameters = data.get("parameters")
    if isinstance(parameters, dict) and (kept := _scalars(parameters, _PARAMETERS)):
        head["parameters"] = kept
    return head


def _output(output: object) -> dict[str, Any]:
    if not isinstance(output, dict) or not isinstance(output.get("name"), str):
        raise _Unknown
    kept = {"name": output["name"]}
    if isinstance(parameters := output.get("parameters"), dict):
        kept["parameters"] = _scalars(parameters, _OUTPUT_PARAMETERS)
    return kept


def _scalars(parameters: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    return {
        key: value
        for key, value in parameters.items()
        if key in known and isinstance(value, str | int | float | bool)
    }


def _binary_size(tensor: Mapping[str, Any]) -> int:
    parameters = tensor.get("parameters") or {}
    size = parameters.get(_SIZE, 0) if isinstance(parameters, dict) else 0
    if type(size) is not int or size < 0:
        raise _Unknown
    return size


def _infer_answer(data: object, omit: Collection[str], found: list[str]) -> dict[str, Any]:
    if not isinstance(data, dict) or not isinstance(data.get("outputs"), list):
        raise _Unknown
    left = []
    for output in data["outputs"]:
        if not isinstance(output, dict):
            raise _Unknown
        if _is_among(output.get("name"), omit):
            found.append(output["name"])
        else:
            left.append(output)
    return {**data, "outputs": left}


_ERROR_KEYS: Final = frozenset({"error", "code", "where", "request_id", "status"})
"""Of a row that failed among others."""


def _answer_row(row: object, omit: Collection[str], found: list[str]) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise _Unknown
    if row.keys() == _ERROR_KEYS:
        found.append("error")
        return {"code": row["code"], "status": row["status"]}
    found += [name for name in row if name in omit]
    return {name: value for name, value in row.items() if name not in omit}
