"""JSON text that strangers wrote, read safely, and JSON text of ours.

orjson parses; on top come two rules that it does not have. The first is checked before it parses,
the other on the text after, so that the text is known to be well formed and a scan need only tell
strings from the rest:

- more than ``MAX_NODES`` arrays and objects are refused: a list takes 64 bytes of memory and a
  moment of the garbage collector, and ``[],`` three of the text, so that a body of 64 MiB would
  take 1.6 GB and two seconds of every call's time;
- nesting deeper than ``MAX_DEPTH`` is refused (orjson stops at 1024, ``repr`` and recursive walks
  fail earlier).

Neither costs a normal body more than counting two bytes: fewer than ``MAX_DEPTH`` opening brackets
cannot nest deeper. Of a key that an object repeats, the last value counts, as in every JSON parser.
No value is ever printed: ``repr`` of 1000 nested lists raises RecursionError.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Set
from typing import Any, Final

import numpy as np
import orjson
from pydantic_core import to_jsonable_python

from runtime.errors import FunctionError, MalformedBody, TooLarge

MAX_DEPTH: Final = 64
"""Arrays and objects within each other. A tensor of the highest rank that is read (32) needs 35
with its request around it.
"""
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
_NOT_MARKS: Final = bytes(set(range(256)) - set(b'[]{}"'))
_STEP: Final = np.array([(byte in b"[{") - (byte in b"]}") for byte in range(256)], dtype=np.int8)
_KEYS: Final = "Dict key must be str"
"""orjson's complaint."""
_NUMBERS: Final = frozenset(
    {np.float32, np.float64, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_}
)
"""numpy's scalars that orjson knows, the usual ones."""
_WIDEST: Final = 8
"""Bytes of a number."""
_NOT_WEIGHED: Final = bytes(set(_NOT_MARKS) - set(b",:"))
_WEIGHTS: Final = np.zeros(256, np.uint8)
"""By CPython's sizes: 40 bytes for an entry (its place and a number), 32 more for a string, 64 and
more for an array or an object.
"""
_WEIGHTS[np.frombuffer(b',"[{:', np.uint8)] = 40, 16, 64, 96, 32
_PIECE: Final = 1 << 20
"""Of a text, looked at at once: what is made of it in between would be five times as large as all
of it.
"""
_SMALL: Final = 4096
"""Marks below which splitting bytes beats numpy's fixed cost; above it numpy keeps memory at a few
bytes a mark.
"""


def loads(body: bytes) -> Any:
    """The value that a JSON text in UTF-8 stands for.

    Raises:
        MalformedBody: not JSON (NaN, Infinity, a number beyond float64, a byte order mark and a
            lone surrogate included), or nested deeper than ``MAX_DEPTH``.
        TooLarge: more than ``MAX_NODES`` arrays and objects.
    """
    opening = body.count(b"[") + body.count(b"{")
    if opening > MAX_NODES and (nodes := _nodes(body)) > MAX_NODES:
        raise TooLarge(
            f"the JSON has {nodes} arrays and objects; {MAX_NODES} are read. Send flat arrays, or"
            " binary data."
        )
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(
            f"the body is not JSON: {error.msg}, at line {error.lineno} column {error.colno}."
        ) from error
    if opening > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise MalformedBody(f"the JSON nests deeper than {MAX_DEPTH} levels. Flatten it.")
    return value


def dumps(value: Any) -> bytes:
    """JSON text of an answer: numpy arrays and scalars as numbers, ``bytes`` as base64 text, which
    is what a field of that type takes.

    NaN and infinities become ``null``, in arrays and outside: JSON has no word for them, and
    ``null`` is what numpy reads back as NaN. A set is an array, in order where its elements have
    one; an enum is its value; a ``datetime`` is ISO 8601 text, a pydantic model what it makes of
    itself.

    Raises:
        FunctionError: a value that JSON cannot carry, named by its type.
    """
    try:
        return orjson.dumps(value, default=_plain)
    except orjson.JSONEncodeError as error:
        if str(error) != _KEYS:
            raise _unwritable(error, value) from error
    try:
        return orjson.dumps(_with_plain_keys(value), default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError as error:
        raise _unwritable(error, value) from error


def json_kind(value: object) -> str:
    """What a value of a JSON text is, in words and without the value; any other by its type."""
    return _KINDS.get(type(value)) or f"a {type(value).__name__}"


def _nodes(body: bytes) -> int:
    """Arrays and objects that a parser would make before it meets a fault, if there is one, or
    more.
    """
    outside = _outside_strings(body)
    return outside.count(b"[") + outside.count(b"{")


def _depth(body: bytes) -> int:
    marks = np.frombuffer(_outside_strings(body), np.uint8)
    return int(np.cumsum(_STEP[marks], dtype=np.int32).max(initial=0))


def json_weight(body: bytes, most: float) -> int:
    """About how many bytes of memory the value takes that ``loads`` makes of a text, or more: 64
    MiB of JSON can become a gigabyte.

    A piece at a time, so that other threads run in between.

    Args:
        most: what may be taken. Up to it a first look is enough, which takes what stands within
            strings for more values.
    """
    pieces = [(piece.count(b","), _weight(piece), _width(piece)) for piece in _pieces(body)]
    entries, values, width = (
        sum(one for one, _, _ in pieces),
        sum(one for _, one, _ in pieces),
        max((one for _, _, one in pieces), default=1),
    )
    # with more entries there is no room for long strings
    text = width * len(body) if 8 * entries < len(body) else 0
    return (
        values + text
        if values + text <= most
        else _weight(_outside_strings(body, _NOT_WEIGHED, keeps_borders=True)) + text
    )


def _weight(text: bytes) -> int:
    return int(_WEIGHTS[np.frombuffer(text, np.uint8)].sum(dtype=np.int64))


def _width(piece: bytes) -> int:
    """Bytes of each character of a string with the highest of these: 1 up to U+00FF, 4 beyond
    U+FFFF.
    """
    highest = int(np.frombuffer(piece, np.uint8).max(initial=0))
    is_escaped = b"\\" in piece and b"\\u" in piece
    if highest >= 0xF0 or (is_escaped and (b"\\ud" in piece or b"\\uD" in piece)):
        return 4
    return 2 if highest > 0xC3 or is_escaped else 1


def _pieces(body: bytes) -> Iterator[bytes]:
    """A text in parts, none of which ends within an escape of two characters."""
    start = 0
    while start < len(body):
        piece = body[start : start + _PIECE]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = body[start : start + _PIECE + 1]
        yield piece
        start += len(piece)


def _outside_strings(
    body: bytes, not_marks: bytes = _NOT_MARKS, *, keeps_borders: bool = False
) -> bytes:
    """The brackets and braces of a well-formed text that stand outside its strings, in order; or
    other marks.

    Args:
        keeps_borders: the quotes of strings are among them.
    """
    outside, is_inside = [], 0
    for piece in _pieces(body):
        # only strings have escapes: drop escaped backslashes, then escaped quotes, and each quote
        # left is a border
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        marks = piece.translate(None, not_marks)
        borders = marks.count(b'"')
        # neighbouring borders leave what is within and without as it is
        outside.append(_outside(marks.replace(b'""', b""), is_inside))
        outside.append(b'"' * borders if keeps_borders else b"")
        is_inside ^= borders & 1
    return b"".join(outside)


def _outside(marks: bytes, is_inside: int) -> bytes:
    if b'"' not in marks:
        return b"" if is_inside else marks
    if len(marks) < _SMALL:
        return b"".join(marks.split(b'"')[is_inside::2])
    borders = np.frombuffer(marks, np.uint8)
    inside = (
        np.cumsum(borders == ord('"'), dtype=np.uint8) + is_inside
    ) & 1  # wraps at 256, which is even
    return bytes(borders[(inside == 0) & (borders != ord('"'))])


class _NoJsonError(TypeError):
    """A value that JSON cannot carry; its text is for the author."""


def _unwritable(error: orjson.JSONEncodeError, value: Any) -> FunctionError:
    cause, place = error.__cause__, _unwritable_place(value, MAX_DEPTH)
    place = place.removeprefix(".")
    return FunctionError(
        f"the answer cannot be written as JSON{f', at {place}' if place else ''}:"
        f" {cause if isinstance(cause, _NoJsonError) else error}."
    )


def _unwritable_place(value: Any, depth: int) -> str:
    """The keys and positions that lead to what cannot be written: ``.boxes[1].label``; empty where
    it is the value itself, or is not found.
    """
    if isinstance(value, Mapping):
        parts = [(f".{key}"[:64], inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"[{index}]", inner) for index, inner in enumerate(value)]
    else:
        return ""
    for step, inner in parts if depth else ():
        try:
            orjson.dumps(inner, default=_plain, option=orjson.OPT_NON_STR_KEYS)
        except orjson.JSONEncodeError:
            return f"{step}{_unwritable_place(inner, depth - 1)}"
    return ""


def _plain(value: Any) -> Any:
    """What orjson writes in place of a value that it does not know."""
    if type(value) in _NUMBERS:
        return orjson.Fragment(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
    if isinstance(value, (np.ndarray, np.generic)):
        return _numbers(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Set):
        return _in_order(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, complex | Iterator):
        raise TypeError
    return to_jsonable_python(value, bytes_mode="base64", fallback=_within)


def _within(value: Any) -> Any:
    """As ``_plain``, for what pydantic does not know within a model of its own."""
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError
    return orjson.loads(dumps(value))


def _numbers(value: np.ndarray | np.generic) -> Any:
    """An array or a scalar of numpy. orjson reads numbers where they lie, with as few digits as
    their datatype needs.

    It would read ``datetime64`` as well, and NaT as the year 1970.
    """
    dtype = value.dtype
    if dtype.kind in "OSU":
        return value.tolist()
    if dtype.kind not in "biuf" or dtype.itemsize > _WIDEST:
        what = "an array of" if isinstance(value, np.ndarray) else "a numpy"
        raise _NoJsonError(f"it has {what} {dtype}")
    # orjson knows no ``longlong``, which is 64 bits like ``int64``
    if isinstance(value, np.generic) or not value.ndim:
        return int(value) if dtype.kind in "iu" else value[()]  # type: ignore[index]  # a scalar has it as well
    array = value if dtype.isnative else value.astype(dtype.newbyteorder("="))
    return orjson.Fragment(
        orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)
    )


def _in_order(values: Set[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def _with_plain_keys(value: Any) -> Any:
    """With Python's keys in place of numpy's, as in what ``numpy.unique`` makes."""
    if isinstance(value, dict):
        return {
            key.item() if isinstance(key, np.generic) else key: _with_plain_keys(inner)
            for key, inner in value.items()
        }
    return (
        [_with_plain_keys(inner) for inner in value] if isinstance(value, list | tuple) else value
    )
