"""A tensor's ``data`` as JSON: flat or nested lists to an array, and an array to what ``jsontext.dumps`` writes.

Open Inference Protocol v2, section *Tensor Data*. A list is checked whole (one pass over its elements' types, one conversion that numpy
range-checks); only when that fails is it searched element by element for the one to name.

    datatype   JSON in                                        JSON out
    BOOL       true, false (not 0, 1)                         the same
    INT, UINT  numbers without fraction or exponent, in range the same
    FP32 FP64  any number in range                            numbers; null for NaN and infinities
    FP16       refused: send binary data                      numbers
    BYTES      strings                                        strings; elements that are not UTF-8 need binary data
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import orjson

from runtime.datatypes import FLOATS, INTEGERS, NUMPY
from runtime.errors import FunctionError, MalformedBody, RequestError, WrongDatatype, WrongShape
from runtime.wire.jsontext import dumps, kind
from runtime.wire.names import shown

PIECE: Final = 1 << 16
"""Numbers that are written to JSON at once: some 3 ms."""

_JSON_TYPES: Final[dict[str, frozenset[type]]] = {
    "BOOL": frozenset({bool}),
    "BYTES": frozenset({str}),
    **dict.fromkeys(INTEGERS, frozenset({int})),
    **dict.fromkeys(FLOATS, frozenset({int, float})),
}


def decode_data(data: object, datatype: str, shape: Sequence[int], count: int, where: str) -> np.ndarray:
    """The array that a JSON list stands for.

    Args:
        data: list of ``count`` elements, or lists nested exactly as ``shape``, row-major.
        datatype: a name of ``datatypes.NUMPY``.
        shape: dimensions, none negative.
        count: their product.
        where: the list's path, such as ``inputs[0].data``.

    Raises:
        MalformedBody: ``data`` is no list.
        WrongShape: more, fewer or otherwise nested elements than ``shape`` says.
        WrongDatatype: an element of another type or out of range, by its index; or FP16, which has no JSON form.
    """
    if datatype == "FP16":
        raise WrongDatatype("FP16 has no JSON form. Send it as binary data (parameters.binary_data_size), or send FP32.", where=where)
    if type(data) is not list:
        raise MalformedBody(f"data is {kind(data)}, not an array.", where=where)
    is_nested = bool(data) and type(data[0]) is list
    flat: list[Any] = _flatten(data, shape, where) if is_nested else data
    if len(flat) != count:
        raise WrongShape(f"data has {len(flat)} elements but shape {list(shape)} has {count}.", where=where)
    if not _JSON_TYPES[datatype].issuperset(map(type, flat)):
        index = next(index for index, element in enumerate(flat) if type(element) not in _JSON_TYPES[datatype])
        raise _wrong(kind(flat[index]), datatype, _at(where, index, shape, is_nested))
    try:
        array = _fill(flat, datatype, count)
    except OverflowError as error:
        index = _out_of_range(flat, datatype)
        raise _wrong("out of range", datatype, _at(where, index, shape, is_nested)) from error
    return array.reshape(shape) if len(shape) != 1 else array


def encode_data(array: np.ndarray, name: str, where: str) -> np.ndarray | list[str] | orjson.Fragment:
    """The elements of an output, flat and row-major, as ``jsontext.dumps`` takes them; a view where the array is contiguous.

    A long array is written here, a piece at a time, so that other threads run in between.

    Raises:
        RequestError: bytes that are not UTF-8: the caller asks for binary data instead.
        FunctionError: an element of a BYTES output that is neither ``str`` nor ``bytes``.
    """
    if array.dtype.kind not in "OSU":
        flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(-1)
        return flat if len(flat) <= PIECE else _in_pieces(flat)
    elements: list[str] = array.reshape(-1).tolist()
    return [element if type(element) is str else _text(element, name, where) for element in elements]


def _in_pieces(flat: np.ndarray) -> orjson.Fragment:
    pieces = (dumps(flat[start : start + PIECE])[1:-1] for start in range(0, len(flat), PIECE))
    return orjson.Fragment(b"[%b]" % b",".join(pieces))


def _fill(flat: list[Any], datatype: str, count: int) -> np.ndarray:
    """Raises OverflowError for an integer beyond its datatype (numpy's own check) and for a float that became infinite."""
    if datatype != "FP32":  # a JSON number is a float64 already
        return np.fromiter(flat, NUMPY[datatype], count)
    with np.errstate(over="ignore"):
        array = np.fromiter(flat, np.float32, count)
    if not np.isfinite(array).all():
        raise OverflowError
    return array


def _flatten(data: list[Any], shape: Sequence[int], where: str) -> list[Any]:
    """The leaves of lists nested as ``shape``, a level at a time and each level in C."""
    level: list[Any] = [data]
    for axis, dim in enumerate(shape):
        if set(map(type, level)) - {list} or set(map(len, level)) - {dim}:
            index = next(index for index, node in enumerate(level) if type(node) is not list or len(node) != dim)
            found = f"has {len(level[index])} elements" if type(level[index]) is list else f"is {kind(level[index])}"
            path = _at(where, index, shape[:axis], True)
            raise WrongShape(f"{path} {found}; shape {list(shape)} wants an array of {dim} there. Or send data flat.", where=path)
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
    places = np.unravel_index(index, shape) if is_nested and shape else () if is_nested else (index,)
    return where + "".join(f"[{place}]" for place in places)


def _wrong(found: str, datatype: str, where: str) -> WrongDatatype:
    if datatype in INTEGERS:
        info = np.iinfo(NUMPY[datatype])
        wanted = f"whole numbers from {info.min} to {info.max}, written without fraction or exponent"
    elif datatype in FLOATS:
        wanted = f"numbers no larger than {np.finfo(NUMPY[datatype]).max:.4g}"
    else:
        wanted = "true or false" if datatype == "BOOL" else "strings"
    return WrongDatatype(f"{where} is {found}; {datatype} takes {wanted}.", where=where)


def _text(element: object, name: str, where: str) -> str:
    if isinstance(element, str):
        return str(element)
    if not isinstance(element, bytes):
        raise FunctionError(f"output {shown(name)} is BYTES but holds a {type(element).__name__}; its stage must return str or bytes.")
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise RequestError(
            f"output {shown(name)} holds bytes that are not UTF-8, which JSON cannot carry. Ask for it with parameters.binary_data: true.",
            where=where,
        ) from error
