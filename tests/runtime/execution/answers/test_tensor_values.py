"""Wire tensors to row values and back."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.errors import FunctionError, MalformedBody, RequestError, WrongDatatype
from runtime.execution.answers.open_inference import make_reader, to_column
from runtime.types.value_types import of_annotation


@pytest.mark.parametrize(
    ("annotation", "tensor", "values"),
    [
        (float, np.array([1.5, 2.0]), [1.5, 2.0]),
        (int, np.array([1, 2]), [1, 2]),
        (list[float], np.array([[1.0, 2.0], [3.0, 4.0]]), [[1.0, 2.0], [3.0, 4.0]]),
        (str, np.array([b"a", "b"], object), ["a", "b"]),
        (bytes, np.array([b"\xff", "b"], object), [b"\xff", b"b"]),
        (list[str], np.array([[b"a", b"b"]], object), [["a", "b"]]),
        (dict[str, Any], np.array([b'{"a": 1}'], object), [{"a": 1}]),
        (Literal["bytes", "chars"], np.array([b"bytes"], object), ["bytes"]),
    ],
)
def test_a_tensor_becomes_values(annotation, tensor, values):
    """One Python value a row, of the kind that the stage's parameter declares."""
    read = list(make_reader(of_annotation(annotation))(tensor, "x"))
    assert read == values
    assert [type(value) for value in read] == [type(value) for value in values]


def test_an_array_of_text_is_text():
    """As from JSON, whatever its shape: ONNX Runtime takes `bytes` for what Python prints of
    them.
    """
    read = make_reader(of_annotation(NDArray[np.object_]))
    for shape in [(2, 1), (), (0, 3)]:
        tensor = np.full(shape, b"\xc3\xa4", object)
        texts = np.asarray(read(tensor, "x"))
        assert texts.shape == shape
        assert all(text == "ä" for text in texts.reshape(-1).tolist())
    with pytest.raises(WrongDatatype):
        read(np.array([b"\xff"], object), "x")


def test_an_array_of_bytes_is_bytes():
    """Whether the elements came as text or as bytes."""
    texts = np.asarray(
        make_reader(of_annotation(NDArray[np.bytes_]))(np.array([["a", b"\xff"]], object), "x")
    )
    assert texts.tolist() == [[b"a", b"\xff"]]


def test_an_array_stays_a_view():
    """Rows of an array are views of the request's tensor."""
    tensor = np.ones((2, 3), np.float32)
    assert np.shares_memory(make_reader(of_annotation(NDArray[np.float32]))(tensor, "x")[0], tensor)


@pytest.mark.parametrize(
    ("annotation", "element", "error"),
    [
        (str, b"\xff", WrongDatatype),
        (dict[str, Any], b"{", MalformedBody),
        (dict[str, Any], b"[" * 65 + b"]" * 65, MalformedBody),
        (dict[str, Any], "\ud800", MalformedBody),
    ],
)
def test_text_that_is_none_is_refused(annotation, element, error):
    """Bytes that are not UTF-8 where text is wanted, JSON that is none or too deep."""
    with pytest.raises(error, match="'x'"):
        make_reader(of_annotation(annotation))(np.array([element], object), "x")


@pytest.mark.parametrize(
    ("annotation", "values", "datatype", "shape"),
    [
        (float, [1, 2.5], "float64", (2,)),
        (bool, [True], "bool", (1,)),
        (str, ["a", "bc"], "object", (2,)),
        (list[int], [[1, 2]], "int64", (1, 2)),
        (NDArray[np.float32], [np.ones(3, np.float32)] * 2, "float32", (2, 3)),
        (dict[str, int], [{"a": 1}], "object", (1,)),
        (float, [None, 1], "float64", (2,)),
        (list[float], [[None, 1], [1, 2]], "float64", (2, 2)),
        (list[int], [[]], "int64", (1, 0)),
        (np.float16, [1.5], "float16", (1,)),
        (int, [np.longlong(1)], "int64", (1,)),
    ],
)
def test_values_become_a_tensor(annotation, values, datatype, shape):
    """Rows first, the datatype of the last stage's annotation."""
    value = of_annotation(annotation)
    array = to_column(values, value.tensor("y"), value, rows=True)
    assert (str(array.dtype), array.shape) == (datatype, shape)


@pytest.mark.parametrize(
    ("annotation", "values", "error"),
    [
        (list[float], [[1.0], [1.0, 2.0]], RequestError),
        (NDArray[np.float32], [np.ones(1, np.float32), np.ones(2, np.float32)], RequestError),
        (list[list[int]], [[[1], [2, 3]]], RequestError),
        (float, ["a"], FunctionError),
        (int, [2.7], FunctionError),
        (list[int], [[2.7]], FunctionError),
        (list[int], [[2**70]], FunctionError),
        (int, [None, 1], RequestError),
        (str, [None], RequestError),
        (list[str], [["a", None]], RequestError),
        (NDArray[np.float32], [None, np.ones(1, np.float32)], RequestError),
        (dict[str, Any], [{"a": 1j}], FunctionError),
    ],
)
def test_values_that_make_no_tensor(annotation, values, error):
    """Unlike lengths and None are errors of the client, which may request another form; a wrong value is the
    function's fault.
    """
    value = of_annotation(annotation)
    with pytest.raises(error, match=r"'y'|cannot be written"):
        to_column(values, value.tensor("y"), value, rows=True)
