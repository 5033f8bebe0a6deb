"""The lines that call functions, word by word; `tests/deployments/local/test_printed_lines.py`
types them.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from runtime.graph.requests.curl_lines import JSON_HEADER, LONGEST_BODY, CallForm
from runtime.graph.requests.made_up_rows import make_row

URL = "http://127.0.0.1:8000/v2/models/f"

BYTES = {"type": "string", "format": "byte"}
TEXT = {"type": "string"}
NUMBER = {"type": "integer"}


def form(*required: str, headers: dict[str, str] | None = None, **fields: Any) -> CallForm:
    """Of a function with these fields."""
    return CallForm({"properties": fields, "required": list(required)}, headers or {})


def words(line: str) -> list[str]:
    """As a shell reads them, without curl and the address."""
    found = shlex.split(line)
    assert found[:2] == ["curl", URL]
    return found[2:]


JSON = shlex.split(JSON_HEADER)


@pytest.mark.parametrize(
    ("taken", "example", "declared", "expected"),
    [
        (form("text", text=TEXT), {"text": "it's"}, None, [*JSON, "-d", '{"text": "it\'s"}']),
        (form("image", image=BYTES), {"image": "AAEC"}, None, ["-F", "image=@FILE"]),
        (form("image", image=BYTES), None, None, ["-F", "image=@FILE"]),
        (
            form("image", "k", image=BYTES, k=NUMBER, note=TEXT),
            {"image": "AAEC", "k": 3, "note": "@home; <b>"},
            {"image": {"!file": "a b.png"}, "k": 3, "note": "@home; <b>"},
            ["-F", 'image=@"sub/a b.png"', "-F", "k=3", "--form-string", "note=@home; <b>"],
        ),
        (
            form("a", a={"type": "array", "items": BYTES}, b=BYTES),
            {"a": ["AA", "AA"]},
            {"a": [{"!file": "1.png"}, {"!file": "2;.png"}]},
            ["-F", "a=@sub/1.png", "-F", 'a=@"sub/2;.png"'],
        ),
        (
            form("text", text=TEXT),
            {"text": "a"},
            {"text": {"!file": "a.txt"}},
            ["-F", "text=<sub/a.txt"],
        ),
        (
            form("text", text=TEXT),
            {"text": "a"},
            {"!file": "row.json"},
            [*JSON, "--data-binary", "@sub/row.json"],
        ),
        # a file that is too large to be read for a line
        (
            form("image", image=BYTES, k=NUMBER),
            None,
            {"image": {"!file": "a.png"}, "k": 3},
            ["-F", "image=@sub/a.png", "-F", "k=3"],
        ),
        (form("x", x={"anyOf": [BYTES, {"type": "null"}]}), None, None, ["-F", "x=@FILE"]),
        (form(k=NUMBER, image=BYTES), {"k": 1}, None, [*JSON, "-d", '{"k": 1}']),
        (form("box", box={"type": "object"}), None, None, []),
        (form("text", text=TEXT), {"text": "a" * LONGEST_BODY}, None, []),
        (
            form("image", "text", image=BYTES, text=TEXT),
            {"image": "AAEC", "text": "a" * LONGEST_BODY},
            None,
            [],
        ),
        (
            form("text", text=TEXT, headers={"x-tenant": "", "x-team": "a b", "accept": ""}),
            {"text": "a"},
            None,
            ["-H", "x-tenant: VALUE", "-H", "x-team: a b", *JSON, "-d", '{"text": "a"}'],
        ),
    ],
)
def test_a_line_sends_what_the_function_takes(
    taken: CallForm, example: Any, declared: Any, expected: list[str]
):
    """Files in parts of a form, with the path of the example's; a row without one as JSON; what
    does not fit in a line not at all.
    """
    assert words(taken.line(URL, example, declared, Path("sub"))) == expected


def test_an_answer_that_a_terminal_cannot_show_is_written():
    """Into a file of its own."""
    taken = CallForm({"properties": {"image": BYTES}, "required": ["image"]}, output="f-answer.png")
    assert words(taken.line(URL, None)) == ["-F", "image=@FILE", "-o", "f-answer.png"]


def test_a_large_array_is_written_short():
    """As the program that prints it."""
    row = {"x": [[[1] * 224] * 224] * 3, "flag": True, "none": None}
    line = form("x", x={"type": "array"}).line(URL, row)
    assert len(line) < 300
    program = shlex.split(line)[2]
    printed: list[str] = []
    exec(program, {"print": printed.append})
    assert json.loads(printed[0]) == row


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        (form(), "none"),
        (form("image", image=BYTES, k=NUMBER), "image (bytes), k (integer, optional)"),
        (
            form("a", a={"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}, b={}),
            "a (any or null), b (any, optional)",
        ),
        (form("a", a={"type": "array", "items": BYTES}), "a (list of bytes)"),
        (form(a={"enum": ["x", "y"]}), "a (text, optional)"),
    ],
)
def test_fields_are_described_for_clients(taken: CallForm, words: str):
    """With what JSON has, or bytes."""
    assert taken.describe_fields() == words


def test_many_fields_are_counted():
    """A sentence names twenty."""
    many = form(**{f"field_{index}": TEXT for index in range(50)})
    assert many.describe_fields().endswith(" and 30 more")


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer", "minimum": 7}, 7),
        ({"type": "integer", "exclusiveMinimum": 7}, 8),
        ({"type": "integer", "maximum": -3}, -3),
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"type": "string", "minLength": 9}, "texttexttext"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "string", "format": "date"}, "2026-01-31"),
        ({"enum": ["red", "blue"]}, "red"),
        ({"const": 4}, 4),
        ({"examples": ["a", "b"], "type": "string"}, "a"),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, True),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, [1, 1, 1]),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}, [1, "text"]),
        ({"$ref": "#/$defs/Box"}, {"x": 1}),
        ({}, 1),
    ],
)
def test_a_value_is_made_up(schema: Any, value: Any):
    """Within its bounds; of an object what it must have."""
    box = {"type": "object", "properties": {"x": NUMBER, "y": TEXT}, "required": ["x"]}
    row = {"properties": {"a": schema}, "required": ["a"], "$defs": {"Box": box}}
    assert make_row(row) == {"a": value}


def test_a_type_that_contains_itself_ends():
    """At a depth."""
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}, "required": ["next"]}
    schema = {"properties": {"a": {"$ref": "#/$defs/N"}}, "required": ["a"], "$defs": {"N": node}}
    assert json.dumps(make_row(schema)).count("next") <= 8
