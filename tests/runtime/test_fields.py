"""A request's row against the fields of a function."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import numpy as np
import pydantic
import pytest
from numpy.typing import NDArray

from runtime.annotations import Shape
from runtime.errors import MissingInput, RequestError, UnknownInput, WrongDatatype, WrongShape
from runtime.fields import RowValidator
from runtime.graph import Port
from runtime.values import of_annotation


def validator(default: Any = inspect.Parameter.empty, **fields: Any) -> RowValidator:
    """Of annotations by field name; ``default`` is the last field's."""
    defaults = [inspect.Parameter.empty] * (len(fields) - 1) + [default]
    return RowValidator(
        "f", {name: Port(name, of_annotation(kind), kind, given) for (name, kind), given in zip(fields.items(), defaults, strict=True)}
    )


def test_a_row_is_its_values_with_defaults():
    """Names that Python or pydantic use themselves are fields like any other."""
    check = validator(2, json=str, model_dump=float, k=int)
    assert check.row({"json": "a", "model_dump": 1}) == {"json": "a", "model_dump": 1, "k": 2}


@pytest.mark.parametrize(
    ("kind", "value", "error", "where"),
    [
        (str, 3, WrongDatatype, "x"),
        (int, True, WrongDatatype, "x"),
        (int, "3", WrongDatatype, "x"),
        (int, 1.5, WrongDatatype, "x"),
        (float, "1", WrongDatatype, "x"),
        (list[float], [1, "a"], WrongDatatype, "x[1]"),
        (Annotated[int, pydantic.Field(gt=0)], 0, RequestError, "x"),
        (bytes, "not base64!", WrongDatatype, "x"),
        (bytes, 3, WrongDatatype, "x"),
        (NDArray[np.float32], ["a"], WrongDatatype, "x"),
        (NDArray[np.float32], [[1], [1, 2]], WrongShape, "x"),
        (NDArray[np.int64], [1.5], WrongDatatype, "x"),
        (NDArray[np.uint8], [256], WrongDatatype, "x"),
        (NDArray[np.uint8], [-1], WrongDatatype, "x"),
        (NDArray[np.int64], [2**70], WrongDatatype, "x"),
        (Annotated[NDArray[np.float32], Shape(3)], [1, 2], WrongShape, "x"),
    ],
)
def test_a_wrong_value_is_refused_by_field(kind, value, error, where):
    """The kind of error, and the path to the value."""
    with pytest.raises(error) as caught:
        validator(x=kind).row({"x": value}, "[3]")
    assert caught.value.where == f"[3].{where}"
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({}, MissingInput, "field 'text' is missing"),
        ({"text": "a", "txt": 1}, UnknownInput, "did you mean 'text'"),
        ({"text": "a", "zzzzzzzz": 1}, UnknownInput, "the fields are text"),
        ([], WrongDatatype, "a JSON object"),
        ("text", WrongDatatype, "a JSON object"),
    ],
)
def test_wrong_names_are_refused(data, error, message):
    """Missing, unknown and misspelt fields, and rows that are no objects."""
    with pytest.raises(error, match=message):
        validator(text=str).row(data)


def test_values_are_read():
    """Bytes from base64, tensors from nested arrays as the declared datatype, arrays as they are."""
    ready = np.ones(2, np.float32)
    assert validator(x=bytes).row({"x": "aGk="}) == {"x": b"hi"}
    read = validator(x=NDArray[np.float32]).row({"x": [[1, 2.5]]})["x"]
    assert (read.dtype, read.tolist()) == (np.dtype(np.float32), [[1.0, 2.5]])
    assert validator(x=NDArray[np.float32]).row({"x": ready})["x"] is ready
    assert validator(x=NDArray[np.int64]).row({"x": []})["x"].dtype == np.int64


def test_the_schema_has_the_fields_names():
    """JSON Schema for OpenAPI carries names, types and constraints."""
    schema = validator(n=Annotated[int, pydantic.Field(ge=1)], image=bytes).json_schema()
    assert schema["properties"]["n"]["minimum"] == 1
    assert schema["properties"]["image"]["format"] == "byte"
    assert schema["required"] == ["n", "image"]
