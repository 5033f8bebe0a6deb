"""Rows for another process of the same cluster: Python values and arrays, as msgpack with the
arrays' memory behind it.

Content type ``application/vnd.wakeful.rows``. What goes between the stages of one process goes
between two in this form, and is the same on the other side. JSON and the tensors of the Open
Inference Protocol do not carry all of it, rows of unlike shape least of all.

    "WKR2"  length of the head, 4 bytes, little-endian  head  zeros  data  zeros  data …

The head is a msgpack array. A row is a map of its values; a row that failed is an array of one map,
the error form. msgpack itself carries text, bytes, integers of 64 bits, floats (NaN and infinities
too), lists and maps. Extension types carry the rest:

    1  an array: "FP32 602112 3 224 224", which is its datatype (of ``runtime.types.tensors``), the
       size of its data in bytes, and its shape.
       "str" and "bytes" are arrays of objects: each element's length as four bytes, then its bytes.
    2  a numpy scalar, written like an array without a shape
    3  nothing by itself: the list that begins with it is a tuple
    4  a date, time, UUID or decimal: "date 2024-05-06", the name and text of ``row_values.NAMED``

The data of arrays and scalars follows in the order of the head, little-endian and row-major, each
at a multiple of ``ALIGNED`` from the body's start, so that a received array is a view of the body.

Every client that reaches a port can send such a body, so the reader trusts nothing in it. Data is
read once and in order: arrays are never larger than the body. msgpack walks the head once without
making anything: a list that claims more elements than the head has is refused before memory is
allocated for it.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgpack
import numpy as np

from runtime.errors import (
    FunctionError,
    MalformedBody,
    RequestError,
    TooLarge,
    WakefulError,
    WrongShape,
    refuse_too_many,
)
from runtime.protocol import json_text, row_values, tensor_codec
from runtime.protocol.inference_codec import MAX_RANK
from runtime.types import tensors
from runtime.types.tensors import element_count

CONTENT_TYPE: Final = b"application/vnd.wakeful.rows"

ALIGNED: Final = 16
"""As memory is handed out: numpy works slowly on elements that straddle their alignment."""

SMALL_BYTES: Final = 16 << 10
"""A buffer from this size on is not copied: memory for a copy of 600 KB takes 0.1 ms, a thousand
system calls for small ones take more.
"""

Buffer = bytes | bytearray | memoryview
Outcome = dict[str, Any] | WakefulError

START: Final = struct.Struct("<4sI")
"""The first bytes: ``MAGIC``, and the length of the head."""
MAGIC: Final = b"WKR2"

ARRAY: Final = 1
SCALAR: Final = 2
TUPLE: Final = 3
NAMED: Final = 4
_TUPLE_MARK: Final = msgpack.ExtType(TUPLE, b"")

_PLAIN: Final = frozenset({str, int, float, bool, type(None), bytes})
_READ: Final[Mapping[str, Callable[[str], Any]]] = {
    name: read for name, _, read in row_values.NAMED.values()
}
_NESTING: Final = frozenset({list, tuple, dict})
_MAX_EXTENSION_BYTES: Final = 512
"""Of an array's text: 32 dimensions take less."""


def encode_rows(rows: Sequence[Outcome]) -> list[bytes | memoryview]:
    """The body of a call or an answer, in pieces. Large arrays are sent from where they lie, and
    must not change until then.

    Raises:
        FunctionError: a value that cannot go to another process, with its place.
    """
    writer = _Writer()
    plain = [
        [encode_error(row)] if isinstance(row, WakefulError) else writer.value(row, [index])
        for index, row in enumerate(rows)
    ]
    try:
        head = msgpack.packb(plain)
    except (OverflowError, UnicodeEncodeError, ValueError) as error:
        raise FunctionError(
            "a value cannot go to a function in another process, which takes 64-bit integers and"
            f" UTF-8: {error}."
        ) from error
    return _joined(
        [START.pack(MAGIC, len(head)), head, _zeros(START.size + len(head)), *writer.data]
    )


def decode_rows(body: Buffer, max_rows: int) -> list[Outcome]:
    """The rows of a body.

    Args:
        body: the whole of it; its arrays stay views of it, writable if it is.
        max_rows: more are refused.

    Raises:
        MalformedBody, WrongShape, WrongDatatype: it is not what ``encode_rows`` makes.
        TooLarge: more than ``max_rows``, or more lists and maps than ``json_text.MAX_NODES``.
    """
    if len(body) < START.size or START.unpack_from(body)[0] != MAGIC:
        raise MalformedBody(f"the body does not begin with {MAGIC.decode()}.")
    end = START.size + START.unpack_from(body)[1]
    if end > len(body):
        raise MalformedBody(f"the head ends at byte {end}; the body has {len(body)}.")
    reader = _RowReader(body, end + -end % ALIGNED)
    rows = reader.read(memoryview(body)[START.size : end])
    if type(rows) is not list:
        raise MalformedBody(f"the head is {json_text.json_kind(rows)}, not an array of rows.")
    refuse_too_many(len(rows), max_rows)
    return [row if type(row) is dict else _failed(row, index) for index, row in enumerate(rows)]


def encode_error(error: WakefulError) -> dict[str, Any]:
    """An error as plain data: its form, with its status and the seconds of ``Retry-After``."""
    return {**error.body(""), "status": error.status, "retry_after_s": error.retry_after_s}


def decode_error(
    form: Any, status: int = 500, retry_after_s: float | None = None
) -> WakefulError | None:
    """The error that a form describes, of the same class as it was raised with; None where it is no
    error form.

    Args:
        form: what ``encode_error`` made, or the body of an answer with an error.
        status: of that answer, where the form has none.
        retry_after_s: likewise.
    """
    if not isinstance(form, dict) or not {"error", "code"} <= form.keys() <= _FORM.keys():
        return None
    if not all(type(value) in _FORM[key] for key, value in form.items()):
        return None
    status = form.get("status", status)
    if not 400 <= status <= 599:
        return None
    known = _known_errors().get(form["code"])
    kind = (
        known
        if known is not None and known.status == status
        else _unknown_error(form["code"], status)
    )
    return kind(
        form["error"],
        where=form.get("where", ""),
        retry_after_s=form.get("retry_after_s", retry_after_s),
    )


class _Writer:
    """Values as msgpack takes them.

    Mutable state: ``data`` grows by what the extension types of the values refer to.
    """

    def __init__(self) -> None:
        self.data: list[bytes | memoryview] = []

    def value(self, value: Any, path: list[str | int]) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is dict and all(type(key) is str for key in value):
            return {key: self.value(inner, [*path, key]) for key, inner in value.items()}
        if kind is list or kind is tuple:
            return self._list(value, path, kind)
        if kind is np.ndarray:
            return self._array(value, path, ARRAY)
        if isinstance(value, np.generic) and value.dtype.kind in "biuf":
            return self._array(np.asarray(value), path, SCALAR)
        if kind in row_values.NAMED:
            name, said, _ = row_values.NAMED[kind]
            return msgpack.ExtType(NAMED, f"{name} {said(value)}".encode())
        return self.value(row_values.carried(value, _place(path)), path)

    def _list(
        self, values: list[Any] | tuple[Any, ...], path: list[str | int], kind: type
    ) -> Sequence[Any]:
        if len(path) > row_values.DEEPEST:
            raise FunctionError(
                f"{_place(path[:2])} nests deeper than is sent to another process. Flatten it."
            )
        is_plain = _PLAIN.issuperset(map(type, values))
        plain = (
            values
            if is_plain
            else [self.value(inner, [*path, index]) for index, inner in enumerate(values)]
        )
        return [_TUPLE_MARK, *plain] if kind is tuple else plain

    def _array(self, array: np.ndarray, path: list[str | int], code: int) -> msgpack.ExtType:
        try:
            datatype = kind = tensors.from_numpy(array.dtype)
        except KeyError:
            raise FunctionError(
                f"{_place(path)} is an array of {array.dtype}, which has no datatype."
            ) from None
        if datatype == "BYTES":
            kinds = set(map(type, array.reshape(-1).tolist()))
            if len(kinds) > 1:
                raise FunctionError(
                    f"{_place(path)} is an array of str and other objects. Give it elements of one"
                    " kind."
                )
            kind = "bytes" if kinds == {bytes} else "str"
        data = tensor_codec.encode_binary(array, datatype, _place(path))
        self.data.append(data)
        if len(data) % ALIGNED:
            self.data.append(_zeros(len(data)))
        return msgpack.ExtType(
            code, " ".join([kind, *map(str, (len(data), *array.shape))]).encode()
        )


class _RowReader:
    """Values from what ``_Writer`` made.

    Mutable state: ``_at`` (where the next array's data begins), ``_nodes`` (lists and maps made),
    ``_marks`` (tuple marks not used yet).
    """

    def __init__(self, body: Buffer, start: int) -> None:
        self._body: Any = body
        self._at = start
        self._nodes = self._marks = 0

    def read(self, head: memoryview) -> Any:
        try:
            walk = msgpack.Unpacker(max_buffer_size=len(head))
            walk.feed(head)
            walk.skip()  # every element that is claimed is there
            value = msgpack.unpackb(
                head,
                ext_hook=self._extension,
                list_hook=self._list,
                object_hook=self._map,
                timestamp=1,
            )
        except (ValueError, msgpack.UnpackException) as error:
            raise MalformedBody(
                f"the head is not msgpack of rows: {error or type(error).__name__}."
            ) from error
        if self._nodes > json_text.MAX_DEPTH and _depth_exceeds(value, json_text.MAX_DEPTH):
            raise MalformedBody(
                f"the rows nest deeper than {json_text.MAX_DEPTH} levels. Flatten them."
            )
        if self._marks:
            raise MalformedBody("a tuple's mark is not the first of a list.")
        if self._at != len(self._body):
            raise MalformedBody(
                f"the body has {len(self._body)} bytes, and its arrays end at {self._at}."
            )
        return value

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > json_text.MAX_NODES:
            raise TooLarge(
                f"the rows have more than {json_text.MAX_NODES} lists and maps. Send arrays."
            )

    def _map(self, values: dict[Any, Any]) -> dict[Any, Any]:
        self._count()
        if bytes in map(type, values):
            raise MalformedBody("a map has a key that is no text.")
        return values

    def _list(self, values: list[Any]) -> list[Any] | tuple[Any, ...]:
        self._count()
        if not values or values[0] is not _TUPLE_MARK:
            return values
        self._marks -= 1
        return tuple(values[1:])

    def _extension(self, code: int, data: bytes) -> Any:
        if code == TUPLE and not data:
            self._marks += 1
            return _TUPLE_MARK
        if code == NAMED:
            name, _, text = data.decode().partition(" ")
            try:
                return _READ[name](text)
            except (LookupError, ValueError, TypeError, ArithmeticError) as error:
                raise MalformedBody(
                    f"an extension of type {code} is none of {', '.join(_READ)}."
                ) from error
        kind, *numbers = (
            data.decode("ascii").split(" ")
            if code in (ARRAY, SCALAR) and len(data) <= _MAX_EXTENSION_BYTES
            else ("",)
        )
        is_text = kind in ("str", "bytes") and code == ARRAY
        if (
            not (is_text or (kind in tensors.NUMPY and kind != "BYTES"))
            or not all(map(str.isdecimal, numbers))
            or not numbers
        ):
            raise MalformedBody(
                f"an extension of type {code} is none that is known, or has not its form."
            )
        size, *shape = map(int, numbers)
        if len(shape) > MAX_RANK or (shape and code == SCALAR):
            raise WrongShape(f"an array has {MAX_RANK} dimensions at most, a scalar none.")
        for dim in shape:
            element_count(
                [dim], "arrays"
            )  # each by itself: beside a 0 any other dimension makes none
        count = element_count(shape, "arrays")
        start, end = self._at, self._at + size
        if end > len(self._body):
            raise MalformedBody(
                f"an array of {size} bytes from byte {start} on is not all there: the body has"
                f" {len(self._body)}."
            )
        self._at = end + -end % ALIGNED
        array = tensor_codec.decode_binary(
            self._body, start, size, "BYTES" if is_text else kind, shape, count, "arrays"
        )
        if kind == "str":
            array.reshape(-1)[:] = [element.decode() for element in array.reshape(-1).tolist()]
        return array[()] if code == SCALAR else array


def _depth_exceeds(value: Any, most: int) -> bool:
    """Whether lists, tuples and maps lie within each other more than ``most`` deep."""
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in _NESTING
        ]
        if not level:
            return False
    return True


def _failed(row: Any, index: int) -> WakefulError:
    error = decode_error(row[0]) if type(row) is list and len(row) == 1 else None
    if error is None:
        raise MalformedBody(
            f"row {index} is {json_text.json_kind(row)}, neither a map nor an error form.",
            where=f"rows[{index}]",
        )
    return error


def _place(path: Sequence[str | int]) -> str:
    """A value's place, its row left out: ``boxes[2].score``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step[:64]}" for step in path[1:])
    return text.lstrip(".") or "a row"


def _joined(buffers: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """The same bytes in fewer buffers: small neighbours become one."""
    joined: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for buffer in buffers:
        if len(buffer) < SMALL_BYTES:
            small.append(buffer)
            continue
        joined += [b"".join(small), buffer]
        small = []
    return [*joined, b"".join(small)] if small else joined


def _zeros(size: int) -> bytes:
    """What fills up to the next multiple of ``ALIGNED``."""
    return bytes(-size % ALIGNED)


_FORM: Final[Mapping[str, tuple[type, ...]]] = {
    "error": (str,),
    "code": (str,),
    "where": (str,),
    "request_id": (str,),
    "status": (int,),
    "retry_after_s": (int, float, type(None)),
}
"""What an error form has, and of which types."""


@functools.lru_cache(maxsize=256)
def _unknown_error(code: str, status: int) -> type[WakefulError]:
    """For a code that this process does not know (a function's own, a later version's): it keeps
    its code and status.
    """
    base = RequestError if status < 500 and status != 429 else WakefulError
    return type(
        "RemoteError",
        (base,),
        {"__module__": __name__, "__doc__": "Raised elsewhere.", "status": status, "code": code},
    )


@functools.cache
def _known_errors() -> dict[str, type[WakefulError]]:
    """The product's own by code, those nearest the root first where two share one."""
    kinds: list[type[WakefulError]] = [WakefulError, *_below(WakefulError)]
    return {
        kind.code: kind for kind in reversed(kinds) if kind.__module__ == WakefulError.__module__
    }


def _below(root: type[WakefulError]) -> Iterator[type[WakefulError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _below(kind)
