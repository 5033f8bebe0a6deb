"""What the texts of a form stand for, by the types of a function's fields."""

from __future__ import annotations

import datetime
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
import pytest
from pydantic import Field

from runtime.errors import (
    MalformedBody,
    RequestError,
    TooLarge,
    UnknownInput,
    WakefulError,
    WrongDatatype,
)
from runtime.graph.graph import Port
from runtime.graph.request_fields import RowValidator
from runtime.graph.requests.form_values import MAX_JSON_BYTES, MAX_TEXT_BYTES, FormConverter
from runtime.types.value_types import of_annotation


class Color(Enum):
    """Of a field."""

    RED = "red"


class Box(TypedDict):
    """Of a field."""

    x: int


FIELDS: dict[str, Any] = {
    "image": bytes,
    "mask": bytes | None,
    "text": str,
    "note": str | None,
    "either": int | str,
    "size": int,
    "ratio": Annotated[float, Field(ge=0)],
    "top": int | None,
    "flag": bool,
    "tags": list[str],
    "points": list[float],
    "array": np.ndarray,
    "color": Color,
    "mode": Literal["a", "b"],
    "day": datetime.date,
    "box": Box,
    "parts": tuple[bytes, ...],
    "proof": bytes | datetime.date,
}


def read(*parts: tuple[str, bytes]) -> dict[str, Any]:
    """The row of these parts, checked; the other fields have a default that is left out."""
    given = {name for name, _ in parts if name in FIELDS} or {"text"}
    ports = {
        name: Port(name, of_annotation(annotation), annotation)
        for name, annotation in FIELDS.items()
        if name in given
    }
    validator = RowValidator("f", ports)
    return validator.validate(validator.form_converter.read_row(parts))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("image", b"\xff\x00", b"\xff\x00"),
        ("mask", b"AAAA", b"AAAA"),
        ("text", b"0.5", "0.5"),
        ("text", b"", ""),
        ("note", b"null", "null"),
        ("either", b"7", "7"),
        ("size", b"7", 7),
        ("ratio", b"7", 7.0),
        ("ratio", b"2.5e-1", 0.25),
        ("top", b"null", None),
        ("top", b"3", 3),
        ("flag", b"true", True),
        ("flag", b"on", True),
        ("flag", b"0", False),
        ("flag", b"No", False),
        ("tags", b"a", ["a"]),
        ("tags", b'["a", "b"]', ["a", "b"]),
        ("points", b"[1, 2.5]", [1.0, 2.5]),
        ("points", b"1", [1.0]),
        ("color", b"red", Color.RED),
        ("mode", b"b", "b"),
        ("day", b"2026-01-31", datetime.date(2026, 1, 31)),
        ("box", b'{"x": 1}', {"x": 1}),
        ("parts", b"\xff", (b"\xff",)),
        ("proof", b"\xff", b"\xff"),
    ],
)
def test_a_value_is_what_its_field_takes(name: str, value: bytes, expected: Any):
    """As if JSON had said so."""
    assert read((name, value)) == {name: expected}


def test_an_array_is_a_list_or_json():
    """Of numbers, as nested as one likes."""
    assert np.asarray(read(("array", b"[[1, 2], [3, 4]]"))["array"]).tolist() == [[1, 2], [3, 4]]
    assert np.asarray(read(("array", b"1"), ("array", b"2"))["array"]).tolist() == [1, 2]


def test_as_much_as_may_be():
    """To the last byte of each bound, and bytes count for none."""
    text, image = b"x" * MAX_TEXT_BYTES, bytes(2 * MAX_TEXT_BYTES)
    assert read(("text", text), ("image", image)) == {"text": text.decode(), "image": image}
    points = b"[" + b"1,".rjust(MAX_JSON_BYTES - 3) + b"1]"
    assert np.asarray(read(("points", points))["points"]).tolist() == [1, 1]


def test_several_values_are_a_list():
    """In their order."""
    assert read(("tags", b"b"), ("tags", b"a")) == {"tags": ["b", "a"]}


@pytest.mark.parametrize(
    ("parts", "error", "where"),
    [
        ([("size", b"seven")], WrongDatatype, "size"),
        ([("size", b"1.5")], WrongDatatype, "size"),
        ([("size", b"")], RequestError, "size"),
        ([("flag", b"perhaps")], WrongDatatype, "flag"),
        ([("ratio", b"-1")], RequestError, "ratio"),
        ([("text", b"\xff")], MalformedBody, "text"),
        ([("size", b"1"), ("size", b"2")], RequestError, "size"),
        ([("color", b"blue")], RequestError, "color"),
        ([("text", b"a"), ("txet", b"b")], RequestError, "txet"),
        ([("x" * 1000, b"1"), ("x" * 1000, b"2")], RequestError, "x" * 64),
        # a name that is none, before any value is looked into
        ([("x" * 1000, b"\xff")], UnknownInput, "x" * 64),
        (
            [("size", b"seven"), ("text", b"\xff"), ("file", b"\x89PNG\r\n\x1a\n")],
            UnknownInput,
            "file",
        ),
        ([("points", b"[" + b"1," * MAX_JSON_BYTES + b"1]")], TooLarge, "points"),
        ([("box", b"[" * 100)], RequestError, "box"),
        ([("text", b"x" * (MAX_TEXT_BYTES + 1))], TooLarge, "text"),
        ([("text", b"\xff" * (MAX_TEXT_BYTES + 1))], TooLarge, "text"),
        ([("tags", b"x" * MAX_TEXT_BYTES), ("tags", b"x")], TooLarge, "tags"),
        ([("txet", b"x" * (MAX_TEXT_BYTES + 1))], UnknownInput, "txet"),
    ],
    ids=lambda value: value[0][0] if isinstance(value, list) else "",
)
def test_a_value_that_is_none_is_refused_at_its_field(
    parts: list[tuple[str, bytes]], error: type[WakefulError], where: str
):
    """By the check that JSON has, or before."""
    with pytest.raises(error) as refused:
        read(*parts)
    assert refused.value.where == where


def test_a_schema_that_leads_to_itself_ends():
    """pydantic makes none, and an author's own may."""
    schema = {
        "properties": {"a": {"$ref": "#/$defs/A"}},
        "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}},
    }
    assert FormConverter(schema).read_row([("a", b"1")]) == {"a": 1}
