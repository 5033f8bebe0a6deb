from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from runtime.errors import (
    FunctionError,
    MalformedBody,
    RequestError,
    TooLarge,
    WrongDatatype,
    WrongShape,
)
from runtime.protocol import tensor_codec
from runtime.protocol.tensor_codec import decode_binary, encode_binary


def decode(
    data: bytes, datatype: str, shape: list[int], *, before: bytes = b"", after: bytes = b""
) -> np.ndarray:
    return decode_binary(
        before + data + after,
        len(before),
        len(data),
        datatype,
        shape,
        math.prod(shape),
        "inputs[1]",
    )


def element(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


@pytest.mark.parametrize("before", [b"", b"x", b"xxxx", b"x" * 8])
def test_numbers_are_read_where_they_lie(before: bytes) -> None:
    """The array has the right values and is aligned wherever the data is in the body, and is a
    view of it where it can be.
    """
    data = struct.pack("<4d", 1, 2, math.inf, -0.0)
    array = decode(data, "FP64", [2, 2], before=before, after=b"x")
    assert array.tolist() == [[1, 2], [math.inf, 0]]
    assert array.flags.aligned
    # a copy is ours, a view of the body is not to be written
    assert array.flags.writeable is (len(before) % 8 != 0)


@pytest.mark.parametrize(
    ("data", "shape", "values"),
    [
        (element(b"a"), [1], [b"a"]),
        (element(b"a\x00") + element(b""), [2, 1], [[b"a\x00"], [b""]]),
        (element(b"\xff"), [], b"\xff"),
        (b"", [0], []),
    ],
)
def test_bytes_elements_are_split_by_their_lengths(
    data: bytes, shape: list[int], values: object
) -> None:
    """BYTES elements come out as bytes; NUL and bytes that are no text are theirs to have
    (reliability case 21).
    """
    assert decode(data, "BYTES", shape, before=b"abc", after=b"def").tolist() == values


@pytest.mark.parametrize(
    ("data", "shape", "error"),
    [
        (b"\xff\xff\xff\xffabc", [1], MalformedBody),
        (element(b"abc")[:-1], [1], MalformedBody),
        (element(b"a") + b"\x01\x00\x00", [2], MalformedBody),
        (element(b"abcd") + b"\x01", [2], MalformedBody),
        (element(b"a") + b"\x00", [1], MalformedBody),
        (element(b"a") + element(b"b"), [1], MalformedBody),
        (element(b"a"), [2], WrongShape),
        (b"", [1], WrongShape),
        (b"\x00", [0], MalformedBody),
        (element(b"a"), [2**31], WrongShape),
    ],
)
def test_bytes_elements_that_do_not_add_up_are_refused(
    data: bytes, shape: list[int], error: type[RequestError]
) -> None:
    """A length that leads out of the tensor, leftovers and a wrong count are refused before
    anything is allocated (case 21).
    """
    with pytest.raises(error, match=r"BYTES element"):
        decode(data, "BYTES", shape, after=b"\x00" * 100)


def test_more_texts_than_are_read_are_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 million empty ones fit into a body of 64 MiB, and take a hundred bytes of memory each."""
    monkeypatch.setattr(tensor_codec, "MAX_TEXTS", 2)
    assert decode_binary(bytes(8), 0, 8, "BYTES", [2], 2, "inputs[0]").tolist() == [b"", b""]
    with pytest.raises(TooLarge, match=r"\b3 BYTES.*\b2\b"):
        decode_binary(bytes(12), 0, 12, "BYTES", [3], 3, "inputs[0]")


@pytest.mark.parametrize(
    ("size", "shape"), [(7, [2]), (4, [2]), (12, [2]), (0, [1]), (4, [0]), (1, [2**31])]
)
def test_a_size_that_the_shape_does_not_take_is_refused(size: int, shape: list[int]) -> None:
    """binary_data_size must be exactly the shape's bytes (reliability case 20)."""
    with pytest.raises(WrongShape, match=rf"binary_data_size.*\b{size}\b.*FP32"):
        decode(b"\x00" * size, "FP32", shape)


def test_a_bool_is_a_byte_of_zero_or_one() -> None:
    """Other bytes would be neither true nor false to numpy (reliability case 22)."""
    assert decode(b"\x00\x01", "BOOL", [2]).tolist() == [False, True]
    with pytest.raises(WrongDatatype, match="0 and 1"):
        decode(b"\x00\x02", "BOOL", [2])


def test_a_contiguous_output_is_sent_from_where_it_lies() -> None:
    """The chunk of a contiguous array is its own memory; another layout or byte order is put right
    by a copy.
    """
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    chunk = encode_binary(array, "INT16", "y")
    assert np.shares_memory(np.frombuffer(chunk, np.uint8), array)
    assert bytes(chunk) == struct.pack("<6h", *range(6))
    assert bytes(encode_binary(array.T, "INT16", "y")) == struct.pack("<6h", 0, 3, 1, 4, 2, 5)
    assert bytes(encode_binary(array.astype(">i2"), "INT16", "y")) == struct.pack("<6h", *range(6))
    assert len(encode_binary(array[:0], "INT16", "y")) == 0


def test_text_is_sent_as_utf8_with_its_length() -> None:
    """BYTES elements are str or bytes, flattened row by row."""
    array = np.array([["é", b"\xff"], ["", np.str_("d")]], object)
    assert encode_binary(array, "BYTES", "y") == element("é".encode()) + element(b"\xff") + element(
        b""
    ) + element(b"d")


@pytest.mark.parametrize("value", [None, 1, "\ud800"])
def test_an_element_that_has_no_bytes_is_the_functions_fault(value: object) -> None:
    """An element that is no text is a FunctionError that names the output."""
    with pytest.raises(FunctionError, match="output 'y'"):
        encode_binary(np.array([value], object), "BYTES", "y")
