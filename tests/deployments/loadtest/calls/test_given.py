"""Rows of files are looked at before anything is sent: what is not of the signature is a fault of
its line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deployments.loadtest.calls.given import make_given_calls, sources_of
from deployments.loadtest.calls.load_call import AnswerForm
from deployments.loadtest.calls.rows import GivenCall, LineFaults
from deployments.loadtest.calls.served_functions import ServedFunction
from deployments.loadtest.refusal import LoadTestRefused

ROW = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "image": {"type": "string"},
        "of": {"$ref": "#/components/schemas/Of"},
    },
    "required": ["text"],
    "additionalProperties": False,
    "components": {"schemas": {"Of": {"type": "object", "properties": {"n": {"type": "integer"}}}}},
}


def function(**more: Any) -> ServedFunction:
    """With a text, and an object of its own schema."""
    of: dict[str, Any] = {
        "name": "f",
        "path": "/v2/models/f",
        "row": ROW,
        "required": ("text",),
        "takes_rows": True,
        "example": None,
        "raw_types": (),
        "tensors": None,
        "headers": {},
        "is_streamed": False,
        "has_sequences": False,
        "form": AnswerForm({}, {}, {}),
    }
    return ServedFunction(**{**of, **more})


def given(
    *bodies: Any, headers: dict[str, str] | None = None
) -> tuple[list[GivenCall], LineFaults]:
    """Calls of a file, one a line."""
    source = LineFaults(Path("rows.jsonl"), should_skip=False)
    return [
        GivenCall("f", body, headers or {}, None, source, line)
        for line, body in enumerate(bodies, start=1)
    ], source


GOOD = {"text": "a", "of": {"n": 1}}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "text"),
        ({"text": 5}, "text: "),
        ({"text": "a", "txet": "b"}, "txet"),
        ({"text": "a", "of": {"n": 1.5}}, "of.n: "),
        ([], ""),
        ([GOOD, {"text": None}], "[1]: text: "),
        ([[GOOD]], "[0]: "),
    ],
)
def test_a_row_that_is_not_of_the_signature(body: Any, words: str):
    """Says what is wrong, and where; the rows beside it are made."""
    rows, source = given(GOOD, body, [GOOD, GOOD])
    made = make_given_calls(function(), rows)
    if body == []:  # no row is wrong in it
        assert len(made) == 3
        return
    assert len(made) == 2
    assert source.count == 1
    assert source.found[0].startswith("rows.jsonl:2: no row of f: ")
    assert words in source.found[0]
    with pytest.raises(LoadTestRefused, match=r"rows\.jsonl:2: .* `--skip-bad` uses the rest"):
        source.finish()


def test_an_array_of_a_function_that_takes_one_row():
    """Is none."""
    rows, source = given(GOOD, [GOOD])
    assert len(make_given_calls(function(takes_rows=False), rows)) == 1
    assert source.count == 1


def test_what_is_wrong_with_a_raw_body_is_of_its_line():
    """As is a header that cannot be sent."""
    rows, source = given({"text": "eA=="}, {"text": "no base64!"}, {"text": "eA==", "image": ""})
    made = make_given_calls(function(raw_types=("image/png",)), rows, wire="raw")
    assert [call.body for call in made] == [b"x"]
    assert source.found[0].startswith("rows.jsonl:2: ")
    assert source.found[1].startswith("rows.jsonl:3: ")
    rows, source = given(GOOD, headers={"x": "a\r\nb: c"})
    assert not make_given_calls(function(), rows)
    assert "rows.jsonl:1: " in source.found[0]


def test_a_row_as_tensors_is_looked_at_as_tensors():
    """A batch of one is a row too."""
    tensors = ({"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]},)
    of = function(tensors=tensors, required=("x",), row={"type": "object", "maxProperties": 0})
    rows, source = given({"x": [1, 2]}, {"x": [[1, 2]]}, {"x": ["a", "b"]}, {})
    assert len(make_given_calls(of, rows, wire="v2")) == 2
    assert [found.partition(": ")[0] for found in source.found] == ["rows.jsonl:3", "rows.jsonl:4"]


@pytest.mark.parametrize("wire", ["stream", "raw", "v2"])
def test_a_form_that_cannot_be_is_no_fault_of_a_line(wire: Any):
    """It is refused for all of them."""
    rows, source = given(GOOD)
    with pytest.raises(LoadTestRefused, match=f"--wire {wire}"):
        make_given_calls(function(), rows, wire=wire)
    assert source.count == 0


def test_what_is_left_out_is_told():
    """The first few with their lines."""
    rows, source = given(*[{"text": number} for number in range(5)], GOOD)
    source.should_skip = True
    assert len(make_given_calls(function(), rows)) == 1
    source.finish()
    assert source.note.startswith("5 lines are left out: rows.jsonl:1: ")
    assert source.note.endswith(" and 2 lines more.")
    assert sources_of(rows) == [source]
    assert given(GOOD)[1].note == ""
