"""What ``rows_codec`` wrote, read in another process; whoever can reach a port can write it too, so nothing of it is taken on trust."""

from __future__ import annotations

import struct
from typing import Any, Final

from runtime import datatypes
from runtime.admission import refuse_too_many
from runtime.errors import MalformedBody, WakefulError, WrongShape
from runtime.tensors import element_count
from runtime.wire import binary_codec, errors_codec, jsontext
from runtime.wire.names import shown
from runtime.wire.requests import MAX_RANK
from runtime.wire.rows_codec import ALIGNED, MAGIC, START, Outcome

Buffer = bytes | bytearray | memoryview

_KEYS: Final = frozenset({"rows", "parts", "errors"})
_FLOAT: Final = struct.Struct("<d")


def decode(body: Buffer, max_rows: int) -> list[Outcome]:
    """The rows of a body.

    Args:
        body: the whole of it, aligned in memory as arrays are; they stay views of it, writable if it is.
        max_rows: more are refused.

    Raises:
        MalformedBody, WrongShape, WrongDatatype: it is not what ``rows_codec.encode`` makes.
        TooLarge: more than ``max_rows``.
    """
    head, offset = _head(body)
    rows = _listed(head, "rows")
    refuse_too_many(len(rows), max_rows)
    for index, part in enumerate(_listed(head, "parts")):
        offset = _place(rows, part, body, offset, f"parts[{index}]")
    if offset != len(body):
        raise MalformedBody(f"the body has {len(body)} bytes, and its parts end at {offset}.", where="parts")
    errors = head["errors"]
    if type(errors) is not dict:
        raise MalformedBody("'errors' is no object.", where="errors")
    outcomes = [row if type(row) is dict else _error(errors, index, row) for index, row in enumerate(rows)]
    if errors:
        raise MalformedBody("an error stands for a row that is there, or for none.", where="errors")
    return outcomes


def _head(body: Buffer) -> tuple[dict[str, Any], int]:
    """The head, and where the first part begins."""
    if len(body) < START.size or START.unpack_from(body)[0] != MAGIC:
        raise MalformedBody(f"the body does not begin with {MAGIC.decode()}.")
    end = START.size + START.unpack_from(body)[1]
    if end > len(body) or end % ALIGNED:
        raise MalformedBody(f"the head ends at byte {end}; the body has {len(body)}, and parts begin at multiples of {ALIGNED}.")
    head = jsontext.loads(bytes(memoryview(body)[START.size : end]))
    if type(head) is not dict or head.keys() != _KEYS:
        raise MalformedBody(f"the head is no object of {', '.join(sorted(_KEYS))}.")
    return head, end


def _listed(head: dict[str, Any], key: str) -> list[Any]:
    value = head[key]
    if type(value) is not list:
        raise MalformedBody(f"{key!r} is {jsontext.kind(value)}, not an array.", where=key)
    return value


def _error(errors: dict[str, Any], index: int, row: Any) -> WakefulError:
    error = errors_codec.decode(errors.pop(str(index), None)) if row is None else None
    if error is None:
        raise MalformedBody(f"row {index} is {jsontext.kind(row)}, and no error form stands for it.", where=f"rows[{index}]")
    return error


def _place(rows: list[Any], part: Any, body: Buffer, start: int, where: str) -> int:
    """Puts a part's value where it belongs; returns where the next part begins."""
    match part:
        case [list(path), "tuple"]:
            holder, step = _holder(rows, path, where)
            if type(holder[step]) is not list:
                raise MalformedBody("a tuple stands where there is no array.", where=where)
            holder[step] = tuple(holder[step])
            return start
        case [list(path), str(kind), list() | None as shape, int(size)] if type(size) is int and size >= 0 and kind in ("bytes", "str"):
            pass
        case [list(path), str(kind), list() | None as shape] if kind == "float" or (kind in datatypes.NUMPY and kind != "BYTES"):
            size = _FLOAT.size if kind == "float" else _count(shape or [], where) * datatypes.NUMPY[kind].itemsize
        case _:
            raise MalformedBody("this is no part: a path, a kind, and what that takes.", where=where)
    if start + size > len(body):
        raise MalformedBody(f"{size} bytes from byte {start} on are not all there: the body has {len(body)}.", where=where)
    holder, step = _holder(rows, path, where)
    if holder[step] is not None:
        raise MalformedBody("a part stands where there is a value already.", where=where)
    holder[step] = _value(body, start, size, kind, shape, where)
    end = start + size
    return end + -end % ALIGNED


def _value(body: Any, start: int, size: int, kind: str, shape: list[Any] | None, where: str) -> Any:
    if kind == "float" and shape is None:
        return _FLOAT.unpack_from(body, start)[0]
    if shape is None and kind == "bytes":
        return bytes(memoryview(body)[start : start + size])
    if shape is None and kind not in ("float", "str"):
        return binary_codec.decode_data(body, start, size, kind, [], 1, where)[()]
    if shape is None or kind == "float":
        raise MalformedBody(f"a part of kind {kind} has a shape, or has none.", where=where)
    count = _count(shape, where)
    if kind not in ("bytes", "str"):
        return binary_codec.decode_data(body, start, size, kind, shape, count, where)
    elements = binary_codec.decode_data(bytes(memoryview(body)[start : start + size]), 0, size, "BYTES", shape, count, where)
    if kind == "str":
        try:
            elements.reshape(-1)[:] = [element.decode() for element in elements.reshape(-1).tolist()]
        except UnicodeDecodeError:
            raise MalformedBody("an element of text is not UTF-8.", where=where) from None
    return elements


def _count(shape: list[Any], where: str) -> int:
    if len(shape) > MAX_RANK or not all(type(dim) is int for dim in shape):
        raise WrongShape(f"a shape is at most {MAX_RANK} whole numbers.", where=where)
    for dim in shape:
        element_count([dim], where)  # each by itself: beside a 0 any other dimension makes none
    return element_count(shape, where)


def _holder(rows: list[Any], path: list[Any], where: str) -> tuple[Any, Any]:
    """The object or array that a path's last step is in, and that step."""
    holder: Any = rows
    value: Any = rows
    for step in path:
        holder = value
        found = step in holder if type(holder) is dict and type(step) is str else _is_index(holder, step)
        if not found:
            raise MalformedBody(f"there is no {shown(str(step))} at this place of the rows.", where=where)
        value = holder[step]
    if len(path) < 2:
        raise MalformedBody("a part stands within a row.", where=where)
    return holder, path[-1]


def _is_index(holder: Any, step: Any) -> bool:
    return type(holder) is list and type(step) is int and 0 <= step < len(holder)
