"""The Open Inference Protocol's datatypes beside numpy's and ONNX's.

Source: Open Inference Protocol v2, section *Tensor Data Types*; ONNX Runtime's type strings (``tensor(float)``).
BF16 is in the protocol and not here: numpy has no such dtype, so a BF16 tensor is refused by name.
"""

from __future__ import annotations

from typing import Final

import numpy as np

_TABLE: Final[tuple[tuple[str, str, str], ...]] = (
    ("BOOL", "bool", "bool"),
    ("UINT8", "uint8", "uint8"),
    ("UINT16", "uint16", "uint16"),
    ("UINT32", "uint32", "uint32"),
    ("UINT64", "uint64", "uint64"),
    ("INT8", "int8", "int8"),
    ("INT16", "int16", "int16"),
    ("INT32", "int32", "int32"),
    ("INT64", "int64", "int64"),
    ("FP16", "float16", "float16"),
    ("FP32", "float32", "float"),
    ("FP64", "float64", "double"),
    ("BYTES", "object", "string"),
)

NUMPY: Final[dict[str, np.dtype]] = {name: np.dtype(numpy) for name, numpy, _ in _TABLE}
"""Datatype name to numpy dtype, native byte order; BYTES is ``object`` (elements ``str`` or ``bytes``)."""

_FROM_NUMPY: Final[dict[np.dtype, str]] = {dtype: name for name, dtype in NUMPY.items()}
_FROM_ONNX: Final[dict[str, str]] = {f"tensor({onnx})": name for name, _, onnx in _TABLE}

FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})
INTEGERS: Final = frozenset(name for name in NUMPY if "INT" in name)


def from_numpy(dtype: np.dtype) -> str:
    """The datatype of a numpy dtype; any string or object dtype is BYTES.

    Raises:
        KeyError: the dtype has no counterpart (complex, datetime).
    """
    if dtype.kind in "OSU":
        return "BYTES"
    return _FROM_NUMPY[dtype.newbyteorder("=")]


def from_onnx(type_string: str) -> str:
    """The datatype of an ONNX Runtime type string such as ``tensor(float)``.

    Raises:
        KeyError: not a tensor, or an element type that has no counterpart (bfloat16, float8, int4).
    """
    return _FROM_ONNX[type_string]
