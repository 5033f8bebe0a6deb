"""A request's row against the fields of a function."""

from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
from typing import Annotated, Any

import numpy as np
import pydantic
import pytest
from numpy.typing import NDArray

from runtime.errors import (
    FunctionError,
    MissingInput,
    RequestError,
    UnknownInput,
    WrongDatatype,
    WrongShape,
)
from runtime.graph.graph import Port
from runtime.graph.request_fields import RowValidator
from runtime.types.annotations import Shape
from runtime.types.value_types import of_annotation
from tests.problems import expect_values


@dataclasses.dataclass
class Size:
    """A dataclass."""

    width: int


def validator(default: Any = inspect.Parameter.empty, **fields: Any) -> RowValidator:
    """Of annotations by field name; ``default`` is the last field's."""
    defaults = [inspect.Parameter.empty] * (len(fields) - 1) + [default]
    return RowValidator(
        "f",
        {
            name: Port(name, of_annotation(kind), kind, given)
            for (name, kind), given in zip(fields.items(), defaults, strict=True)
        },
    )


def test_a_row_is_its_values_with_defaults():
    """Names that Python or pydantic use themselves are fields like any other."""
    check = validator(2, json=str, model_dump=float, k=int)
    assert check.validate({"json": "a", "model_dump": 1}) == {"json": "a", "model_dump": 1, "k": 2}


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
        (NDArray[np.float32], ["a"], WrongDatatype, "x[0]"),
        (NDArray[np.float32], [[1], [1, 2]], WrongShape, "x[1]"),
        (NDArray[np.int64], [1.5], WrongDatatype, "x[0]"),
        (NDArray[np.uint8], [256], WrongDatatype, "x[0]"),
        (NDArray[np.uint8], [-1], WrongDatatype, "x[0]"),
        (NDArray[np.int64], [2**70], WrongDatatype, "x[0]"),
        (Annotated[NDArray[np.float32], Shape(3)], [1, 2], WrongShape, "x"),
    ],
)
def test_a_wrong_value_is_refused_by_field(kind, value, error, where):
    """The kind of error, and the path to the value."""
    found = refused_value(kind, value)
    assert (type(found), found.where, found.status) == (error, f"[3].{where}", 400)


def refused_value(kind: Any, value: Any) -> RequestError:
    """The error of a value for a field of a type, in the row after three others."""
    with pytest.raises(RequestError) as caught:
        validator(x=kind).validate({"x": value}, "[3]")
    return caught.value


@pytest.mark.parametrize(
    ("data", "error", "where"),
    [
        ({}, MissingInput, "text"),
        ({"text": "a", "txt": 1}, UnknownInput, "txt"),
        ({"text": "a", "zzzzzzzz": 1}, UnknownInput, "zzzzzzzz"),
        ([], WrongDatatype, ""),
        ("text", WrongDatatype, ""),
    ],
)
def test_wrong_names_are_refused(data, error, where):
    """Missing, unknown and misspelt fields, and rows that are no objects; each error names the
    field that there is.
    """
    found = refused(data)
    assert (type(found), found.where) == (error, where)
    expect_values(found, "text")


def refused(data: Any) -> RequestError:
    """The error of a row for a function with one field, `text`."""
    with pytest.raises(RequestError) as caught:
        validator(text=str).validate(data)
    return caught.value


def test_values_are_read():
    """Bytes from base64, tensors from nested arrays as the declared datatype, arrays as they
    are.
    """
    ready = np.ones(2, np.float32)
    assert validator(x=bytes).validate({"x": "aGk="}) == {"x": b"hi"}
    read = validator(x=NDArray[np.float32]).validate({"x": [[1, 2.5]]})["x"]
    assert (read.dtype, read.tolist()) == (np.dtype(np.float32), [[1.0, 2.5]])
    assert validator(x=NDArray[np.float32]).validate({"x": ready})["x"] is ready
    assert validator(x=NDArray[np.int64]).validate({"x": []})["x"].dtype == np.int64


@pytest.mark.parametrize(
    ("kind", "value", "seen"),
    [
        (dt.date, dt.date(2024, 1, 1), dt.date(2024, 1, 1)),
        (dt.date, "2024-01-01", dt.date(2024, 1, 1)),
        (tuple[int, int], (1, 2), (1, 2)),
        (tuple[int, int], [1, 2], (1, 2)),
        (set[int], {1}, {1}),
        (Size, Size(1), Size(1)),
        (Size, {"width": 1}, Size(1)),
        (float, np.float32(1.5), np.float32(1.5)),
        (list[np.float32], [np.float32(1.5)], [np.float32(1.5)]),
    ],
)
def test_values_of_another_functions_stage_are_accepted(kind, value, seen):
    """As Python has them, or as JSON would."""
    assert validator(x=kind).validate_values([{"x": value}]) == [{"x": seen}]


def test_values_of_another_stage_become_an_array():
    """Numpy scalars and tuples, which JSON does not have, are accepted."""
    (row,) = validator(x=NDArray[np.float32]).validate_values(
        [{"x": [(np.float32(1), 2), np.array([3, 4])]}]
    )
    assert row["x"].tolist() == [[1, 2], [3, 4]]
    (row,) = validator(x=NDArray[np.int64]).validate_values([{"x": [np.float32(1)]}])
    assert row.where == "[0].x[0]"


def test_a_million_unknown_fields_are_one_error():
    """Not a list of them all."""
    with pytest.raises(UnknownInput, match="no such field"):
        validator(x=int).validate({f"f{index}": 1 for index in range(1000)})


def test_a_long_list_of_wrong_elements_is_one_error():
    """The first; pydantic would make one of each."""
    with pytest.raises(WrongDatatype) as caught:
        validator(x=list[int]).validate({"x": ["a"] * 100_000})
    assert caught.value.where == "x[0]"


def test_the_schema_has_the_fields_names():
    """JSON Schema for OpenAPI carries names, types and constraints."""
    schema = validator(n=Annotated[int, pydantic.Field(ge=1)], image=bytes).json_schema()
    assert schema["properties"]["n"]["minimum"] == 1
    assert schema["properties"]["image"]["format"] == "byte"
    assert schema["required"] == ["n", "image"]
    assert validator(day=dt.date).json_schema()["properties"]["day"]["format"] == "date"


def test_numpys_scalars_of_another_stage_are_taken_and_stay():
    """Alone and in lists, as of a stage that ran over elements; what is of another type is refused
    as ever.
    """
    check = validator(flag=bool, counts=list[int], words=list[list[str]])
    row = {"flag": np.bool_(True), "counts": [np.int64(1), 2], "words": [[np.str_("a")]]}
    (values,) = check.validate_values([row])
    assert values == row
    assert isinstance(values, dict)
    assert (type(values["flag"]), type(values["counts"][0]), type(values["words"][0][0])) == (
        np.bool_,
        np.int64,
        np.str_,
    )
    (refused,) = check.validate_values([{**row, "counts": [np.float64(1.5)]}])
    assert isinstance(refused, WrongDatatype)
    assert refused.where == "[0].counts[0]"


def fails(value: int) -> int:
    """A validator of a user's, with a fault."""
    if value == 1:
        raise KeyError(value)
    if value == 2:
        raise SystemExit(value)
    if value == 3:
        raise RequestError("no 3.")
    return value


def test_a_validator_that_fails_fails_its_row_alone():
    """It is the function's fault, and ends nothing else; its own refusal is passed on as it is."""
    check = validator(n=Annotated[int, pydantic.AfterValidator(fails)])
    found = check.validate_rows([{"n": n} for n in range(4)])
    assert found[0] == {"n": 0}
    assert [type(one) for one in found[1:]] == [FunctionError, FunctionError, RequestError]
    with pytest.raises(FunctionError):
        check.validate({"n": 2})


def test_a_validator_that_raises_writes_one_traceback_a_second(clock, caplog):
    """Each of a thousand rows of a body may make it raise."""

    def fail(value: int) -> int:
        raise KeyError(value)

    check = validator(x=Annotated[int, pydantic.AfterValidator(fail)])
    for seconds in (0, 0, 0, 1):
        clock.advance(seconds)
        with pytest.raises(FunctionError):
            check.validate({"x": 1})
    assert [record.getMessage() for record in caplog.records] == [
        "a validator of the fields x failed (0 more since the last such record)",
        "a validator of the fields x failed (2 more since the last such record)",
    ]
