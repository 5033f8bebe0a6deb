"""Rows for another process of ours: values as Python has them, arrays and bytes from where they lie; ``rows_reader`` reads them.

Content type ``application/vnd.wakeful.rows``. What goes between the stages of one process goes between two in this form, and is the
same on the other side: an array of its dtype and shape, a numpy scalar, a tuple, NaN, ``bytes``, text. Neither JSON nor the tensors of
the Open Inference Protocol carry all of that, rows of unlike shape least of all.

    "WKR1"  length of the head, 4 bytes, little-endian  head, JSON, filled up with spaces  part  part …

The head is ``{"rows": […], "parts": […], "errors": {…}}``. A row is an object of its values; what JSON cannot carry is ``null`` there, and
an entry of ``parts`` says where it stands and what it is:

    [path, "FP32", [3, 224, 224]]     an array (any datatype of ``runtime.datatypes`` but BYTES); little-endian, row-major
    [path, "FP32", null]              a numpy scalar
    [path, "str" | "bytes", shape, n] an array of objects, ``n`` bytes: each element's length as four bytes, then its bytes
    [path, "bytes", null, n]          ``bytes``
    [path, "float", null]             a Python float that JSON has no word for: NaN, an infinity
    [path, "tuple"]                   the list at that place is a tuple; it has no bytes

Every part begins at a multiple of ``ALIGNED`` from the body's start. A row that failed is ``null`` in ``rows``, and ``errors`` has the
error form under its index. Nothing numeric is copied on the way in; on the way out a contiguous array is sent from where it lies, and
must not change until then.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson

from runtime import datatypes
from runtime.errors import FunctionError, WakefulError
from runtime.wire import binary_codec, errors_codec, jsontext

CONTENT_TYPE: Final = b"application/vnd.wakeful.rows"

ALIGNED: Final = 16
"""As memory is handed out: numpy works slowly on elements that straddle their alignment."""

SMALL_BYTES: Final = 16 << 10
"""Neighbouring buffers below it are joined: a system call takes a thousand of them at most, and copying 16 KiB costs 1 us."""

Outcome = dict[str, Any] | WakefulError

START: Final = struct.Struct("<4sI")
"""The first bytes: ``MAGIC``, and the length of the head."""
MAGIC: Final = b"WKR1"

_PLAIN: Final = frozenset({str, int, bool, type(None)})
_AS_THEY_ARE: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
"""What would arrive as something else is refused instead."""


def encode(rows: Sequence[Outcome]) -> list[bytes | memoryview]:
    """A body in pieces.

    Raises:
        FunctionError: a value that cannot go to another process, with its place.
    """
    writer = _Writer()
    plain = [None if isinstance(row, WakefulError) else writer.value(row, [index]) for index, row in enumerate(rows)]
    errors = {str(index): errors_codec.encode(row) for index, row in enumerate(rows) if isinstance(row, WakefulError)}
    try:
        head = orjson.dumps({"rows": plain, "parts": writer.parts, "errors": errors}, option=_AS_THEY_ARE)
    except orjson.JSONEncodeError as error:
        raise FunctionError(f"a value cannot go to a function in another process: {error}.") from error
    head += b" " * (-(START.size + len(head)) % ALIGNED)
    return _joined([START.pack(MAGIC, len(head)) + head, *writer.buffers])


class _Writer:
    """What JSON cannot carry, taken out of values.

    Mutable state: ``parts`` and ``buffers`` grow as values are walked through.
    """

    def __init__(self) -> None:
        self.parts: list[list[Any]] = []
        self.buffers: list[bytes | memoryview] = []

    def value(self, value: Any, path: list[str | int]) -> Any:
        """The value as JSON has it, ``null`` where a part stands for it."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is float:
            return value if math.isfinite(value) else self._part(path, "float", None, struct.pack("<d", value))
        if kind is dict:
            return {self._key(key, path): self.value(inner, [*path, key]) for key, inner in value.items()}
        if kind is list or kind is tuple:
            return self._list(value, path, kind)
        if kind is np.ndarray:
            return self._array(value, path, list(value.shape))
        if kind is bytes:
            return self._part(path, "bytes", None, value, len(value))
        if isinstance(value, np.generic) and value.dtype.kind in "biuf":
            return self._array(np.asarray(value), path, None)
        if kind is np.str_:
            return str(value)
        raise FunctionError(f"{_said(path)} is a {kind.__name__}, which cannot go to a function in another process.")

    def _list(self, values: list[Any] | tuple[Any, ...], path: list[str | int], kind: type) -> Any:
        if len(path) > jsontext.MAX_DEPTH - 8:
            raise FunctionError(f"{_said(path[:2])} nests deeper than is sent to another process. Flatten it.")
        kinds = set(map(type, values))
        if kinds <= _PLAIN or (kinds == {float} and all(map(math.isfinite, values))):
            plain = values
        else:
            plain = [self.value(inner, [*path, index]) for index, inner in enumerate(values)]
        if kind is tuple:
            self.parts.append([path, "tuple"])
        return plain

    def _array(self, array: np.ndarray, path: list[str | int], shape: list[int] | None) -> None:
        try:
            datatype = datatypes.from_numpy(array.dtype)
        except KeyError:
            raise FunctionError(f"{_said(path)} is an array of {array.dtype}, which has no datatype.") from None
        if datatype != "BYTES":
            return self._part(path, datatype, shape, binary_codec.encode_data(array, datatype, _said(path)))
        kinds = set(map(type, array.reshape(-1).tolist()))
        if len(kinds) > 1:
            raise FunctionError(f"{_said(path)} is an array of str and other objects. Give it elements of one kind.")
        encoded = binary_codec.encode_data(array, datatype, _said(path))
        return self._part(path, "bytes" if kinds == {bytes} else "str", shape, encoded, len(encoded))

    def _part(self, path: list[str | int], kind: str, shape: list[int] | None, data: bytes | memoryview, *size: int) -> None:
        self.parts.append([path, kind, shape, *size])
        self.buffers.append(data)
        if over := len(data) % ALIGNED:
            self.buffers.append(bytes(ALIGNED - over))

    def _key(self, key: Any, path: list[str | int]) -> str:
        if type(key) is not str:
            raise FunctionError(f"{_said(path)} has a key that is no text, which cannot go to a function in another process.")
        return key


def _said(path: Sequence[str | int]) -> str:
    """A value's place, its row left out: ``boxes[2].score``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step[:64]}" for step in path[1:])
    return text.lstrip(".") or "a row"


def _joined(buffers: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """The same bytes in fewer buffers."""
    joined: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for buffer in buffers:
        if len(buffer) < SMALL_BYTES:
            small.append(buffer)
            continue
        if small:
            joined.append(b"".join(small))
            small = []
        joined.append(buffer)
    return [*joined, b"".join(small)] if small else joined
