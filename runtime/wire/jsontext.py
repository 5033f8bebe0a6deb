"""JSON text that strangers wrote, read safely, and JSON text of ours.

orjson parses; on top come three rules that it does not have. The first is checked before it parses, the others on the text after, so
that the text is known to be well formed and a scan need only tell strings from the rest:

- more than ``MAX_NODES`` arrays and objects are refused: a list takes 64 bytes of memory and a moment of the garbage collector, and
  ``[],`` three of the text, so that a body of 64 MiB would take 1.6 GB and two seconds of everybody's time;
- nesting deeper than ``MAX_DEPTH`` is refused (orjson stops at 1024, ``repr`` and recursive walks fail earlier);
- a key that stands twice in one object can be refused (orjson keeps the last silently). A parsed tree has as many pairs as the text
  has colons outside strings, unless a key was swallowed.

None costs a normal body more than counting two or three bytes: fewer than ``MAX_DEPTH`` opening brackets cannot nest deeper, and
as many colons as pairs leave none for a repeated key. No value is ever printed: ``repr`` of 1000 nested lists raises RecursionError.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import orjson

from runtime.errors import FunctionError, MalformedBody, TooLarge
from runtime.wire.names import shown

MAX_DEPTH: Final = 64
"""Arrays and objects within each other. A tensor of the highest rank that is read (32) needs 35 with its request around it."""
MAX_NODES: Final = 1 << 20
"""Arrays and objects in all. 1024 rows of 512 tokens, a list each, are half as many."""

_KINDS: Final[dict[type, str]] = {
    bool: "a boolean",
    int: "a number",
    float: "a number with a fraction, an exponent or more than 64 bits",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}
_MARKS: Final = b'[]{}":'
_NOT_MARKS: Final = bytes(set(range(256)) - set(_MARKS))
_STEP: Final = np.array([(byte in b"[{") - (byte in b"]}") for byte in range(256)], dtype=np.int8)
_SMALL: Final = 4096
"""Marks below which splitting bytes beats numpy's fixed cost; above it numpy keeps memory at a few bytes a mark."""


def loads(body: bytes) -> Any:
    """The value that a JSON text in UTF-8 stands for.

    Raises:
        MalformedBody: not JSON (NaN, Infinity, a number beyond float64, a byte order mark and a lone surrogate included), or
            nested deeper than ``MAX_DEPTH``.
        TooLarge: more than ``MAX_NODES`` arrays and objects.
    """
    opening = body.count(b"[") + body.count(b"{")
    if opening > MAX_NODES and (nodes := _nodes(body)) > MAX_NODES:
        raise TooLarge(f"the JSON has {nodes} arrays and objects; {MAX_NODES} are read. Send flat arrays, or binary data.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"the body is not JSON: {error.msg}, at line {error.lineno} column {error.colno}.") from error
    if opening > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise MalformedBody(f"the JSON nests deeper than {MAX_DEPTH} levels. Flatten it.")
    return value


def dumps(value: Any) -> bytes:
    """JSON text of an answer: numpy arrays and scalars as numbers, ``bytes`` as the UTF-8 text they hold.

    NaN and infinities become ``null``, in arrays and outside: JSON has no word for them, and ``null`` is what numpy reads back as NaN.

    Raises:
        FunctionError: a value that JSON cannot carry, named by its type.
    """
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as error:
        text = "bytes that are not UTF-8" if isinstance(error.__cause__, UnicodeError) else str(error)
        raise FunctionError(f"the answer cannot be written as JSON: {text}.") from error


def kind(value: object) -> str:
    """What a value of a JSON text is, in words and without the value."""
    return _KINDS[type(value)]


def refuse_repeated_keys(body: bytes, pairs: int) -> None:
    """Refuses a text in which an object has a key twice.

    Args:
        body: a text that ``loads`` accepted.
        pairs: key-value pairs in what ``loads`` returned, all objects together.

    Raises:
        MalformedBody: naming the key and the object.
    """
    if body.count(b":") == pairs or _outside_strings(body).count(b":") == pairs:
        return
    tree = json.loads(body, object_pairs_hook=_Pairs)
    for where, node in _walk(tree):
        if isinstance(node, _Pairs) and node.repeated is not None:
            raise MalformedBody(f"the key {shown(node.repeated)} stands twice in one object. Keep one.", where=where)
    raise MalformedBody("a key stands twice in one object. Keep one.")


def refuse_repeated_keys_of(body: bytes, value: Any) -> None:
    """As ``refuse_repeated_keys``, for what ``loads`` returned."""
    top = value if type(value) is list else (value,)
    if body.count(b":") != sum(len(row) for row in top if type(row) is dict):
        refuse_repeated_keys(body, _pairs(value))


def _pairs(value: Any) -> int:
    """Key-value pairs in a value, which ``loads`` has bounded in depth."""
    if type(value) is dict:
        return len(value) + sum(_pairs(inner) for inner in value.values() if type(inner) in (dict, list))
    return sum(_pairs(inner) for inner in value if type(inner) in (dict, list)) if type(value) is list else 0


class _Pairs(dict[str, Any]):
    """An object as the standard library reads it, remembering the first key that it met twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__()
        self.repeated: str | None = None
        for key, value in pairs:
            if key in self and self.repeated is None:
                self.repeated = key
            self[key] = value


def _walk(tree: Any) -> Iterator[tuple[str, Any]]:
    """The objects of a tree with their paths, outermost first; those within arrays of arrays are not looked for."""
    level: list[tuple[str, Any]] = [("", tree)]
    while level:
        inner: list[tuple[str, Any]] = []
        for where, node in level:
            if isinstance(node, dict):
                yield where, node
                inner += (
                    (f"{where}.{key}".lstrip(".") if key.isidentifier() else f"{where}[{shown(key)}]", value) for key, value in node.items()
                )
            elif isinstance(node, list):
                inner += ((f"{where}[{index}]", value) for index, value in enumerate(node) if isinstance(value, dict))
        level = inner


def _nodes(body: bytes) -> int:
    """Arrays and objects that a parser would make before it meets a fault, if there is one, or more."""
    outside = _outside_strings(body)
    return outside.count(b"[") + outside.count(b"{")


def _depth(body: bytes) -> int:
    marks = np.frombuffer(_outside_strings(body), np.uint8)
    return int(np.cumsum(_STEP[marks], dtype=np.int32).max(initial=0))


def _outside_strings(body: bytes) -> bytes:
    """The brackets, braces and colons of a well-formed text that stand outside its strings, in order."""
    if b"\\" in body:  # only strings have escapes: drop escaped backslashes, then escaped quotes, and each quote left is a border
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = body.translate(None, _NOT_MARKS).replace(b'""', b"")  # two neighbouring borders leave what is within and without as it is
    if b'"' not in marks:
        return marks
    if len(marks) < _SMALL:
        return b"".join(marks.split(b'"')[::2])
    borders = np.frombuffer(marks, np.uint8)
    is_inside = np.cumsum(borders == ord('"'), dtype=np.uint8) & 1  # wraps at 256, which is even
    return bytes(borders[(is_inside == 0) & (borders != ord('"'))])


def _plain(value: Any) -> Any:
    """What orjson writes in place of a value that it does not know."""
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")
    if value.ndim == 0 or value.dtype.kind not in "biuf":
        return value.tolist()
    return np.ascontiguousarray(value)
