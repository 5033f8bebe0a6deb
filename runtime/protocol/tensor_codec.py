"""A tensor's elements on the wire, as JSON and as bytes.

**JSON** (Open Inference Protocol v2, section *Tensor Data*): flat or nested lists to an array, an
array to what ``json_text.dumps`` writes. A list is checked whole (one pass over the types,
one conversion that numpy range-checks); only when that fails is it searched for the wrong element.

    datatype   JSON in                               JSON out
    BOOL       true, false (not 0, 1)                the same
    INT, UINT  numbers without fraction, in range    the same
    FP32 FP64  any number in range                   numbers; null for NaN and infinities
    FP16       refused: send binary data             numbers (``decode_nested`` reads them)
    BYTES      strings                               strings; if not UTF-8, only as binary data

**Bytes** (binary tensor data extension): row-major, little-endian, no padding; BOOL is a byte, 0 or
1; a BYTES element is its length as four bytes, little-endian, and then its bytes. Any float bits
pass, NaN and infinities included. Nothing numeric is copied on the way in unless it is unaligned in
the body: then once, since numpy works slowly, and native kernels not everywhere, on elements that
straddle their alignment. On the way out a contiguous array is sent from where it lies.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import numpy as np

from runtime.errors import (
    FunctionError,
    MalformedBody,
    RequestError,
    TooLarge,
    WrongDatatype,
    WrongShape,
)
from runtime.protocol.json_text import dumps, json_kind
from runtime.system.messages import quote_names
from runtime.types.tensors import FLOATS, INTEGERS, NUMPY

MAX_RANK: Final = 32
"""Dimensions of a shape; numpy stops at 64, models at about 8."""
PIECE: Final = 1 << 16
"""Numbers that are written to JSON at once: some 3 ms."""

_JSON_TYPES: Final[dict[str, frozenset[type]]] = {
    "BOOL": frozenset({bool}),
    "BYTES": frozenset({str}),
    **dict.fromkeys(INTEGERS, frozenset({int})),
    **dict.fromkeys(FLOATS, frozenset({int, float})),
}


def decode_json(
    data: object, datatype: str, shape: Sequence[int], count: int, where: str
) -> np.ndarray:
    """The array that a JSON list stands for.

    Args:
        data: list of ``count`` elements, or lists nested exactly as ``shape``, row-major.
        datatype: a name of ``tensors.NUMPY``.
        shape: dimensions, none negative.
        count: their product.
        where: the list's path, such as ``inputs[0].data``.

    Raises:
        MalformedBody: ``data`` is no list.
        WrongShape: more, fewer or otherwise nested elements than ``shape`` says.
        WrongDatatype: an element of another type or out of range, by its index; or FP16, which has
            no JSON form.
    """
    if datatype == "FP16":
        raise WrongDatatype(
            "FP16 has no JSON form. Send it as binary data (parameters.binary_data_size), or send"
            " FP32.",
            where=where,
        )
    if type(data) is not list:
        raise MalformedBody(f"data is {json_kind(data)}, not an array.", where=where)
    is_nested = bool(data) and type(data[0]) is list
    flat: list[Any] = _flatten(data, shape, where, " Or send data flat.") if is_nested else data
    if len(flat) != count:
        raise WrongShape(
            f"data has {len(flat)} elements but shape {list(shape)} has {count}.", where=where
        )
    return _array(flat, datatype, shape, where, is_nested=is_nested)


def decode_nested(data: object, datatype: str | None) -> np.ndarray:
    """The array that nested JSON lists stand for, its shape read off them; a value outside a list
    is an array without dimensions.

    What it takes of memory is in proportion to what the lists have, whatever stands in them.

    Args:
        datatype: a name of ``tensors.NUMPY``; None: BOOL, INT64, FP64 or BYTES, by the elements.

    Raises:
        WrongShape: lists of unlike length, or in each other more than ``MAX_RANK`` deep.
        WrongDatatype: an element of another type or out of range; its place, such as ``[3][0]``, is
            ``where``.
    """
    shape: list[int] = []
    node = data
    while type(node) is list:
        if len(shape) == MAX_RANK:
            raise WrongShape(f"the array has more than {MAX_RANK} dimensions.")
        shape.append(len(node))
        node = node[0] if node else None
    flat = _flatten(data, shape, "", "") if type(data) is list else [data]
    if datatype is not None:
        return _array(flat, datatype, shape, "", is_nested=True)
    datatype = _datatype_of(flat)
    if datatype == "INT64" and flat and max(flat) > np.iinfo(np.int64).max:
        datatype = "UINT64"
    return _array(flat, datatype, shape, "", is_nested=True)


def _datatype_of(flat: list[Any]) -> str:
    """That of all elements, or of the first, which some other then is not."""
    types = set(map(type, flat))
    for datatype in ("FP64", "BYTES", "BOOL"):
        if types <= _JSON_TYPES[datatype]:
            return "INT64" if types == {int} else datatype
    first = type(flat[0])
    return "FP64" if first in (int, float) else "BOOL" if first is bool else "BYTES"


def _array(
    flat: list[Any], datatype: str, shape: Sequence[int], where: str, *, is_nested: bool
) -> np.ndarray:
    if not _JSON_TYPES[datatype].issuperset(map(type, flat)):
        index = next(
            index
            for index, element in enumerate(flat)
            if type(element) not in _JSON_TYPES[datatype]
        )
        raise _wrong(json_kind(flat[index]), datatype, _at(where, index, shape, is_nested))
    try:
        array = _fill(flat, datatype, len(flat))
    except OverflowError as error:
        index = _out_of_range(flat, datatype)
        raise _wrong("out of range", datatype, _at(where, index, shape, is_nested)) from error
    return array.reshape(shape) if len(shape) != 1 else array


def encode_json(array: np.ndarray, name: str, where: str) -> np.ndarray | list[str] | bytes:
    """The elements of an output, flat and row-major, as ``json_text.dumps`` takes them; a view
    where the array is contiguous.

    A long array is written here, a piece at a time, so that other threads run in between: ``bytes``
    are the text of its elements, without the brackets.

    Raises:
        RequestError: bytes that are not UTF-8: the caller asks for binary data instead.
        FunctionError: an element of a BYTES output that is neither ``str`` nor ``bytes``.
    """
    if array.dtype.kind not in "OSU":
        flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(-1)
        return flat if len(flat) <= PIECE else _in_pieces(flat)
    elements: list[str] = array.reshape(-1).tolist()
    return [
        element if type(element) is str else _text(element, name, where) for element in elements
    ]


def _in_pieces(flat: np.ndarray) -> bytes:
    pieces = (dumps(flat[start : start + PIECE])[1:-1] for start in range(0, len(flat), PIECE))
    return b",".join(pieces)


def _fill(flat: list[Any], datatype: str, count: int) -> np.ndarray:
    """Raises OverflowError for an integer beyond its datatype (numpy's own check) and for a float
    that became infinite.
    """
    if datatype not in ("FP16", "FP32"):  # a JSON number is a float64 already
        return np.fromiter(flat, NUMPY[datatype], count)
    with np.errstate(over="ignore"):
        array = np.fromiter(flat, NUMPY[datatype], count)
    if not np.isfinite(array).all():
        raise OverflowError
    return array


def _flatten(data: list[Any], shape: Sequence[int], where: str, otherwise: str) -> list[Any]:
    """The leaves of lists nested as ``shape``, a level at a time and each level in C.

    Args:
        otherwise: what the caller may do instead.
    """
    level: list[Any] = [data]
    for axis, dim in enumerate(shape):
        if set(map(type, level)) - {list} or set(map(len, level)) - {dim}:
            index = next(
                index
                for index, node in enumerate(level)
                if type(node) is not list or len(node) != dim
            )
            found = (
                f"has {len(level[index])} elements"
                if type(level[index]) is list
                else f"is {json_kind(level[index])}"
            )
            path = _at(where, index, shape[:axis], True)
            raise WrongShape(
                f"{path} {found}; shape {list(shape)} wants an array of {dim} there.{otherwise}",
                where=path,
            )
        level = list(chain.from_iterable(level))
    return level


def _out_of_range(flat: list[Any], datatype: str) -> int:
    if datatype in FLOATS:
        with np.errstate(over="ignore"):
            return int(np.isfinite(np.fromiter(flat, NUMPY[datatype], len(flat))).argmin())
    info = np.iinfo(NUMPY[datatype])
    return next(index for index, element in enumerate(flat) if not info.min <= element <= info.max)


def _at(where: str, index: int, shape: Sequence[int], is_nested: bool) -> str:
    """Path of an element, by its place in nested lists or in the flat one."""
    places = (
        np.unravel_index(index, shape) if is_nested and shape else () if is_nested else (index,)
    )
    return where + "".join(f"[{place}]" for place in places)


def _wrong(found: str, datatype: str, where: str) -> WrongDatatype:
    if datatype in INTEGERS:
        info = np.iinfo(NUMPY[datatype])
        wanted = (
            f"whole numbers from {info.min} to {info.max}, written without fraction or exponent"
        )
    elif datatype in FLOATS:
        wanted = f"numbers no larger than {np.finfo(NUMPY[datatype]).max:.4g}"
    else:
        wanted = "true or false" if datatype == "BOOL" else "strings"
    return WrongDatatype(f"{where} is {found}; {datatype} takes {wanted}.", where=where)


def _text(element: object, name: str, where: str) -> str:
    if isinstance(element, str):
        return str(element)
    if not isinstance(element, bytes):
        raise FunctionError(
            f"output {quote_names(name)} is BYTES but holds a {type(element).__name__}; its stage"
            " must return str or bytes."
        )
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise RequestError(
            f"output {quote_names(name)} holds bytes that are not UTF-8, which JSON cannot carry."
            " Ask for it with parameters.binary_data: true.",
            where=where,
        ) from error


_LITTLE: Final[dict[str, np.dtype]] = {
    name: dtype.newbyteorder("<") for name, dtype in NUMPY.items()
}
_LENGTH: Final = struct.Struct("<I")
MAX_TEXTS: Final = 1 << 20
"""BYTES elements of a tensor, as many as a JSON text may have arrays: each takes 4 bytes of the
body and some 100 of memory.
"""
_MAX_LENGTH: Final = (1 << 32) - 1


def decode_binary(
    body: bytes | memoryview,
    start: int,
    size: int,
    datatype: str,
    shape: Sequence[int],
    count: int,
    where: str,
) -> np.ndarray:
    """The array in ``body[start:start + size]``, which must lie within the body.

    Args:
        body: the whole body; a numeric array may stay a read-only view of it.
        start: offset of the tensor's first byte.
        size: its bytes.
        datatype: a name of ``tensors.NUMPY``.
        shape: dimensions, none negative.
        count: their product.
        where: the tensor's path, such as ``inputs[0]``.

    Raises:
        WrongShape: ``size`` is not what ``shape`` takes.
        MalformedBody: a BYTES element's length leads out of the tensor, or bytes are left over.
        TooLarge: more than ``MAX_TEXTS`` elements of BYTES.
        WrongDatatype: a BOOL byte other than 0 and 1.
    """
    if datatype == "BYTES":
        return _decode_elements(body, start, size, count, where).reshape(shape)
    dtype = _LITTLE[datatype]
    if size != count * dtype.itemsize:
        raise WrongShape(
            f"binary_data_size is {size} but {datatype} {list(shape)} takes"
            f" {count * dtype.itemsize} bytes.",
            where=f"{where}.parameters.binary_data_size",
        )
    if count == 0:
        return np.empty(shape, dtype)
    if datatype == "BOOL" and np.frombuffer(body, np.uint8, count, start).max() > 1:
        raise WrongDatatype(
            f"the binary data of {where} has a byte other than 0 and 1, which BOOL does not take.",
            where=where,
        )
    array = np.frombuffer(body, dtype, count, start)
    return (array if array.flags.aligned else array.copy()).reshape(shape)


def encode_binary(array: np.ndarray, datatype: str, name: str) -> bytes | memoryview:
    """The bytes of an output; for a contiguous numeric array a view of its memory, which must not
    change until it is sent.

    Raises:
        FunctionError: an element of a BYTES output that is neither ``str`` nor ``bytes``.
    """
    if datatype == "BYTES":
        return _encode_elements(array, name)
    return np.ascontiguousarray(array, dtype=_LITTLE[datatype]).reshape(-1).view(np.uint8).data


def _decode_elements(
    body: bytes | memoryview, start: int, size: int, count: int, where: str
) -> np.ndarray:
    if count * _LENGTH.size > size:  # before anything is allocated for them
        raise WrongShape(
            f"binary_data_size is {size}, too little for {count} BYTES elements of at least"
            f" {_LENGTH.size} bytes each.",
            where=f"{where}.parameters.binary_data_size",
        )
    if count > MAX_TEXTS:
        raise TooLarge(
            f"{where} has {count} BYTES elements; {MAX_TEXTS} are read. Send them in parts."
        )
    elements = np.empty(count, dtype=object)
    end = start + size
    for index in range(count):
        begin = start + _LENGTH.size
        start = begin + _LENGTH.unpack_from(body, start)[0] if begin <= end else end + 1
        if start > end:
            raise MalformedBody(
                f"BYTES element {index} of {where} reaches beyond the tensor's {size} bytes.",
                where=where,
            )
        elements[index] = bytes(body[begin:start])
    if start != end:
        raise MalformedBody(
            f"the binary data of {where} has {end - start} bytes after its {count} BYTES elements.",
            where=where,
        )
    return elements


def _encode_elements(array: np.ndarray, name: str) -> bytes:
    parts: list[bytes] = []
    for element in array.reshape(-1).tolist():
        raw = element if type(element) is bytes else _raw(element, name)
        parts += (_LENGTH.pack(len(raw)), raw)
    return b"".join(parts)


def _raw(element: object, name: str) -> bytes:
    if not isinstance(element, str | bytes):
        raise FunctionError(
            f"output {quote_names(name)} is BYTES but holds a {type(element).__name__}; its stage"
            " must return str or bytes."
        )
    try:
        raw = element.encode() if isinstance(element, str) else bytes(element)
    except UnicodeEncodeError as error:
        raise FunctionError(
            f"output {quote_names(name)} holds text with a lone surrogate, which UTF-8 does not"
            " have."
        ) from error
    if len(raw) > _MAX_LENGTH:
        raise FunctionError(
            f"output {quote_names(name)} holds an element of {len(raw)} bytes; BYTES takes"
            f" {_MAX_LENGTH} at most."
        )
    return raw
