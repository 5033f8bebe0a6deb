"""What a message says of the value at fault, and of the keys that there are."""

from __future__ import annotations

import pytest

from runtime.protocol.given_values import describe_given, describe_keys, place_in

ROW = {
    "x": "5",
    "n": 7,
    "ok": None,
    "list": [1, {"a": True}],
    "long": "a" * 99,
    "huge": 10**5000,
    "password": "hunter2",
    "auth": {"code": 1},
}


@pytest.mark.parametrize(
    ("location", "said"),
    [
        (("x",), ": '5' is given, a string"),
        (("n",), ": 7 is given"),
        (("ok",), ": null is given"),
        (("list", 1, "a"), ": true is given"),
        (("list",), ": an array is given"),
        (("list", 1), ": an object is given"),
        (("long",), ": '" + "a" * 38 + "… is given, a string"),
        (("huge",), ""),
        (("password",), ""),
        (("auth", "code"), ""),
        (("x", "int"), ""),
        (("missing",), ""),
        (("list", 9), ""),
    ],
)
def test_a_value_is_told_short_and_no_secret_is(location, said) -> None:
    """A list or an object by its kind; what is not found, not at all."""
    assert describe_given(ROW, location) == said


SCHEMA = {
    "properties": {
        "point": {"$ref": "#/$defs/Point"},
        "points": {"items": {"$ref": "#/$defs/Point"}},
    },
    "$defs": {
        "Point": {
            "properties": {"lat": {}, "lon": {}, "next": {"anyOf": [{"$ref": "#/$defs/Point"}, {}]}}
        },
        "Round": {"$ref": "#/$defs/Round"},
    },
}


@pytest.mark.parametrize(
    ("location", "said"),
    [
        (("point", "lng"), ", did you mean 'lon'?"),
        (("point", "colour"), "; there are 'lat', 'lon', 'next'."),
        (("points", 3, "colour"), "; there are 'lat', 'lon', 'next'."),
        (("point", "next", "colour"), "; there are 'lat', 'lon', 'next'."),
        (("nowhere", "colour"), "."),
    ],
)
def test_an_unknown_key_has_those_that_there_are(location, said) -> None:
    """By the JSON Schema, through definitions, lists and options."""
    assert describe_keys(SCHEMA, location) == said


def test_definitions_in_a_circle_end() -> None:
    """And nothing is known of them."""
    schema = {"properties": {"x": {"$ref": "#/$defs/Round"}}, "$defs": SCHEMA["$defs"]}
    assert describe_keys(schema, ("x", "y")) == "."


def test_a_place_is_written_as_json_path() -> None:
    """From the row's own."""
    assert place_in("", ("boxes", 1, "label")) == "boxes[1].label"
    assert place_in("[3]", ("text",)) == "[3].text"
