from __future__ import annotations

import functools
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from runtime.errors import FunctionError, MalformedBody, RequestError, WrongDatatype, WrongShape
from runtime.protocol.json_text import dumps, loads
from runtime.protocol.tensor_codec import PIECE, decode_json, decode_nested, encode_json
from tests.problems import expect_values


def decode(data: Any, datatype: str, shape: list[int]) -> np.ndarray:
    return decode_json(data, datatype, shape, math.prod(shape), "inputs[1].data")


@pytest.mark.parametrize(
    ("data", "datatype", "shape"),
    [
        ([1, 2, 3, 4, 5, 6], "INT64", [2, 3]),
        ([[1, 2, 3], [4, 5, 6]], "FP32", [2, 3]),
        ([0, 255], "UINT8", [2]),
        ([-(2**63), 2**63 - 1], "INT64", [2]),
        ([2**64 - 1], "UINT64", [1]),
        ([1, 2.5, -0.0], "FP64", [3]),
        ([3.4028234663852886e38, 1e-50], "FP32", [2]),
        ([True, False], "BOOL", [2]),
        ([["a", ""], ["é", "\x00"]], "BYTES", [2, 2]),
        ([7], "INT32", []),
        ([], "FP32", [0, 3]),
        ([[], []], "FP32", [2, 0]),
        ([[]], "BYTES", [1, 0]),
    ],
)
def test_lists_become_arrays(data: list[Any], datatype: str, shape: list[int]) -> None:
    """A flat list and one nested as the shape give the array of that shape and datatype."""
    array = decode(data, datatype, shape)
    dtype = {"BYTES": "object", "FP32": "float32", "FP64": "float64"}.get(
        datatype, datatype.lower()
    )
    expected = np.array(data, dtype).reshape(shape)
    assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
    assert array.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("data", "datatype", "where", "values"),
    [
        ([1, 300], "UINT8", "[1]", ["range", "UINT8", "0 to 255"]),
        ([0, 0, 0, -1], "UINT64", "[3]", ["range", "UINT64"]),
        ([2**63], "INT64", "[0]", ["range", "INT64"]),
        ([1, 2**64 * 1.0], "UINT64", "[1]", ["64 bits"]),
        ([1.5], "INT32", "[0]", ["fraction", "INT32"]),
        ([1.0], "INT32", "[0]", ["fraction or exponent"]),
        ([0.5, True], "FP32", "[1]", ["boolean", "FP32"]),
        ([True], "INT8", "[0]", ["boolean", "INT8"]),
        ([1, "2"], "INT32", "[1]", ["string", "INT32"]),
        ([1.0, None], "FP32", "[1]", ["null", "FP32"]),
        ([1.0, 1e39, 1e300], "FP32", "[1]", ["range", "FP32", "3.403e+38"]),
        ([1], "BOOL", "[0]", ["number", "BOOL", "true or false"]),
        ([b"a".decode(), 1], "BYTES", "[1]", ["number", "BYTES", "strings"]),
        ([{}], "BYTES", "[0]", ["object", "BYTES"]),
        ([1, [2]], "INT32", "[1]", ["array", "INT32"]),
        ([[1, 2], [3, "4"]], "INT32", "[1][1]", ["string", "INT32"]),
        ([[1, 2], [3, 2**31]], "INT32", "[1][1]", ["range", "INT32"]),
        ([[[1]], [[2]]], "INT32", "[0][0]", ["array"]),
    ],
)
def test_the_element_at_fault_is_named(
    data: list[Any], datatype: str, where: str, values: list[str]
) -> None:
    """A wrong element is refused by its place, with what the datatype takes (reliability case 14)."""
    refused = refused_element(data, datatype)
    assert refused.where == f"inputs[1].data{where}"
    expect_values(refused.message, *values)


def refused_element(data: list[Any], datatype: str) -> WrongDatatype:
    """The error of data that has a wrong element."""
    shape = [2, len(data[0])] if isinstance(data[0], list) else [len(data)]
    with pytest.raises(WrongDatatype) as caught:
        decode(data, datatype, shape)
    return caught.value


@pytest.mark.parametrize(
    ("data", "shape", "where"),
    [
        ([1, 2, 3], [2, 2], ""),
        ([], [1], ""),
        ([1, 2], [], ""),
        ([[1, 2], [3]], [2, 2], "[1]"),
        ([[1, 2], 3], [2, 2], "[1]"),
        ([[1], [2], [3]], [2, 1], ""),
        ([[1, 2]], [2], ""),
        ([[1, 2], [3, 4]], [2, 2, 1], "[0][0]"),
        ([[1, 2, 3, 4], [1, 2, 3, 4]], [2, 2, 2], "[0]"),
    ],
)
def test_data_that_does_not_fill_its_shape_is_refused(
    data: list[Any], shape: list[int], where: str
) -> None:
    """Too many, too few, ragged and otherwise nested elements are a WrongShape (reliability case
    16).
    """
    with pytest.raises(WrongShape) as caught:
        decode(data, "INT32", shape)
    assert caught.value.where == f"inputs[1].data{where}"


@pytest.mark.parametrize(
    ("data", "datatype", "dtype", "shape"),
    [
        ([[1, 2], [3, 4]], "FP32", "float32", (2, 2)),
        (5, "INT64", "int64", ()),
        ([], "INT64", "int64", (0,)),
        ([[], []], "FP16", "float16", (2, 0)),
        ([1.5], "FP16", "float16", (1,)),
        (["a\x00"], "BYTES", "object", (1,)),
        ([True], None, "bool", (1,)),
        ([1], None, "int64", (1,)),
        ([2**63], None, "uint64", (1,)),
        ([1, 1.5], None, "float64", (2,)),
        ([["a"]], None, "object", (1, 1)),
        ([], None, "float64", (0,)),
    ],
)
def test_nested_lists_say_their_shape(
    data: Any, datatype: str | None, dtype: str, shape: tuple[int, ...]
) -> None:
    """And their datatype, where none is requested."""
    array = decode_nested(data, datatype)
    assert (str(array.dtype), array.shape, array.tolist()) == (dtype, shape, data)


@pytest.mark.parametrize(
    ("data", "datatype", "error", "where"),
    [
        ([True, 1.5], "FP32", WrongDatatype, "[0]"),
        ([1e39], "FP32", WrongDatatype, "[0]"),
        ([[1, 70000.0]], "FP16", WrongDatatype, "[0][1]"),
        ([1, "a"], "BYTES", WrongDatatype, "[0]"),
        ([None, "a"], "BYTES", WrongDatatype, "[0]"),
        ([1, True], None, WrongDatatype, "[1]"),
        (["a", 1], None, WrongDatatype, "[1]"),
        ([{}], None, WrongDatatype, "[0]"),
        ({"a": 1}, None, WrongDatatype, ""),
        ("a", "FP32", WrongDatatype, ""),
        ([[1], [1, 2]], "FP32", WrongShape, "[1]"),
        ([[1], 2], "FP32", WrongShape, "[1]"),
        ([[[[]]] * 2, [[]]], None, WrongShape, "[1]"),
        (functools.reduce(lambda inner, _: [inner], range(33), 1), "FP32", WrongShape, ""),
    ],
)
def test_nested_lists_are_read_as_strictly(
    data: Any, datatype: str | None, error: type[Exception], where: str
) -> None:
    """The element at fault is named by its place."""
    with pytest.raises(error) as caught:
        decode_nested(data, datatype)
    assert caught.value.where == where


def test_texts_cost_what_they_hold() -> None:
    """One long text among many short ones: numpy's own text arrays would give each of them its
    length (reliability case 14).
    """
    data = ["x" * 100_000, *[""] * 1000]
    tracemalloc.start()
    try:
        decode_nested(data, "BYTES")
        decode_nested(data, None)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data", ["text", 5, {"a": 1}, True])
def test_data_must_be_a_list(data: Any) -> None:
    """A single value is not taken for a list of one."""
    with pytest.raises(MalformedBody, match="not an array"):
        decode(data, "BYTES", [1])


def test_fp16_in_json_is_refused() -> None:
    """FP16 comes as binary data or not at all (reliability case 18)."""
    with pytest.raises(WrongDatatype, match="binary data"):
        decode([1.0], "FP16", [1])


def test_numbers_are_given_to_the_writer_without_a_copy() -> None:
    """A contiguous output is a flat view of the function's array, any other a flat copy in
    row-major order.
    """
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    flat = encode_json(array, "y", "outputs[0]")
    assert isinstance(flat, np.ndarray)
    assert np.shares_memory(flat, array)
    assert np.asarray(encode_json(array.T, "y", "outputs[0]")).tolist() == [0, 3, 1, 4, 2, 5]


def test_a_long_array_is_written_in_pieces_and_reads_as_one() -> None:
    """To the last number, of any datatype, and with null for what is no number."""
    for array in (
        np.arange(2 * PIECE + 1),
        np.array([0.5, np.nan] * PIECE, np.float32),
        np.ones((PIECE, 2), bool),
    ):
        written = loads(b"[%b]" % encode_json(array, "y", "outputs[0]"))
        assert written == loads(dumps(array.reshape(-1)))


def test_text_and_utf8_bytes_are_written_as_strings() -> None:
    """BYTES elements become strings, whether a stage returned str, bytes or a numpy string."""
    array = np.array([["a", b"\xc3\xa9"], [np.str_("c"), "\x00"]], object)
    assert encode_json(array, "y", "outputs[0]") == ["a", "é", "c", "\x00"]
    assert encode_json(np.array(["a", "b"]), "y", "outputs[0]") == ["a", "b"]


def test_bytes_that_are_not_utf8_need_binary_data() -> None:
    """JSON cannot carry them, and the message says to ask for binary data."""
    with pytest.raises(RequestError, match="binary_data: true") as caught:
        encode_json(np.array([b"\xff"], object), "y", "outputs[0]")
    assert (caught.value.status, caught.value.where) == (400, "outputs[0]")


def test_an_element_that_is_no_text_is_the_functions_fault() -> None:
    """An object array of something else is a FunctionError that names the output and the type."""
    with pytest.raises(FunctionError) as refused:
        encode_json(np.array(["a", None], object), "y", "outputs[0]")
    expect_values(refused.value, "output 'y'", "BYTES", "NoneType")
