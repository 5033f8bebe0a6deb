"""A tensor's data as bytes after the JSON: parts of a body to arrays, and arrays to chunks of a body.

Binary tensor data extension: row-major, little-endian, no padding; BOOL is a byte of 0 or 1; a BYTES element is its length as four
bytes, little-endian, and then its bytes. Any float bits pass, NaN and infinities included.

Nothing numeric is copied on the way in unless it stands unaligned in the body: then once, since numpy works slowly, and native
kernels not everywhere, on elements that straddle their alignment. On the way out a contiguous array is sent from where it lies.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np

from runtime.datatypes import NUMPY
from runtime.errors import FunctionError, MalformedBody, WrongDatatype, WrongShape
from runtime.wire.names import shown

_LITTLE: Final[dict[str, np.dtype]] = {name: dtype.newbyteorder("<") for name, dtype in NUMPY.items()}
_LENGTH: Final = struct.Struct("<I")
_MAX_LENGTH: Final = (1 << 32) - 1


def decode_data(body: bytes | memoryview, start: int, size: int, datatype: str, shape: Sequence[int], count: int, where: str) -> np.ndarray:
    """The array in ``body[start:start + size]``, which must lie within the body.

    Args:
        body: the whole body; a numeric array may stay a read-only view of it.
        start: offset of the tensor's first byte.
        size: its bytes.
        datatype: a name of ``datatypes.NUMPY``.
        shape: dimensions, none negative.
        count: their product.
        where: the tensor's path, such as ``inputs[0]``.

    Raises:
        WrongShape: ``size`` is not what ``shape`` takes.
        MalformedBody: a BYTES element's length leads out of the tensor, or bytes are left over.
        WrongDatatype: a BOOL byte other than 0 and 1.
    """
    if datatype == "BYTES":
        return _decode_elements(body, start, size, count, where).reshape(shape)
    dtype = _LITTLE[datatype]
    if size != count * dtype.itemsize:
        raise WrongShape(
            f"binary_data_size is {size} but {datatype} {list(shape)} takes {count * dtype.itemsize} bytes.",
            where=f"{where}.parameters.binary_data_size",
        )
    if count == 0:
        return np.empty(shape, dtype)
    if datatype == "BOOL" and np.frombuffer(body, np.uint8, count, start).max() > 1:
        raise WrongDatatype(f"the binary data of {where} has a byte other than 0 and 1, which BOOL does not take.", where=where)
    array = np.frombuffer(body, dtype, count, start)
    return (array if array.flags.aligned else array.copy()).reshape(shape)


def encode_data(array: np.ndarray, datatype: str, name: str) -> bytes | memoryview:
    """The bytes of an output; for a contiguous numeric array a view of its memory, which must not change until it is sent.

    Raises:
        FunctionError: an element of a BYTES output that is neither ``str`` nor ``bytes``.
    """
    if datatype == "BYTES":
        return _encode_elements(array, name)
    return np.ascontiguousarray(array, dtype=_LITTLE[datatype]).reshape(-1).view(np.uint8).data


def _decode_elements(body: bytes | memoryview, start: int, size: int, count: int, where: str) -> np.ndarray:
    if count * _LENGTH.size > size:  # before anything is allocated for them
        raise WrongShape(
            f"binary_data_size is {size}, too little for {count} BYTES elements of at least {_LENGTH.size} bytes each.",
            where=f"{where}.parameters.binary_data_size",
        )
    elements = np.empty(count, dtype=object)
    end = start + size
    for index in range(count):
        begin = start + _LENGTH.size
        start = begin + _LENGTH.unpack_from(body, start)[0] if begin <= end else end + 1
        if start > end:
            raise MalformedBody(f"BYTES element {index} of {where} reaches beyond the tensor's {size} bytes.", where=where)
        elements[index] = bytes(body[begin:start])
    if start != end:
        raise MalformedBody(f"the binary data of {where} has {end - start} bytes after its {count} BYTES elements.", where=where)
    return elements


def _encode_elements(array: np.ndarray, name: str) -> bytes:
    parts: list[bytes] = []
    for element in array.reshape(-1).tolist():
        raw = element if type(element) is bytes else _raw(element, name)
        parts += (_LENGTH.pack(len(raw)), raw)
    return b"".join(parts)


def _raw(element: object, name: str) -> bytes:
    if not isinstance(element, str | bytes):
        raise FunctionError(f"output {shown(name)} is BYTES but holds a {type(element).__name__}; its stage must return str or bytes.")
    try:
        raw = element.encode() if isinstance(element, str) else bytes(element)
    except UnicodeEncodeError as error:
        raise FunctionError(f"output {shown(name)} holds text with a lone surrogate, which UTF-8 does not have.") from error
    if len(raw) > _MAX_LENGTH:
        raise FunctionError(f"output {shown(name)} holds an element of {len(raw)} bytes; BYTES takes {_MAX_LENGTH} at most.")
    return raw
