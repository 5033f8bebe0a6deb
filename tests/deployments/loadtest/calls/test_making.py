"""A row becomes a call in each form that a function takes, and is refused in others, with words."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest

from deployments.loadtest.calls.load_call import AnswerForm
from deployments.loadtest.calls.making import make_call
from deployments.loadtest.calls.served_functions import ServedFunction
from deployments.loadtest.refusal import LoadTestRefused
from runtime.protocol.tensor_codec import decode_binary

PNG = b"\x89PNG\r\n\x1a\n0000"
TENSORS = (
    {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]},
    {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]},
)
PLAIN = ServedFunction(
    name="f",
    path="/v2/models/f",
    row={},
    required=("x",),
    takes_rows=True,
    example=None,
    raw_types=(),
    tensors=TENSORS,
    headers={"X-Tenant": "acme"},
    is_streamed=False,
    has_sequences=False,
    form=AnswerForm({}, {}, {}),
)


def test_json_is_the_usual_form():
    """With the headers that the function reads, as far as it says what may be sent."""
    call = make_call(PLAIN, {"x": [1, 2]})
    assert (call.wire, call.path, json.loads(call.body)) == ("json", "/v2/models/f", {"x": [1, 2]})
    assert call.headers == {
        "content-type": "application/json",
        "accept": "application/json",
        "x-tenant": "acme",
    }
    given = make_call(PLAIN, {"x": [1, 2]}, headers={"X-Tenant": "other"})
    assert given.headers["x-tenant"] == "other"


def test_a_stream_is_asked_for_where_there_is_one():
    """In events."""
    call = make_call(replace(PLAIN, is_streamed=True), {})
    assert (call.wire, call.headers["accept"]) == ("stream", "text/event-stream")


@pytest.mark.parametrize(
    ("raw_types", "sent"),
    [
        (("image/png",), "image/png"),
        (("image/jpeg", "image/png"), "image/png"),
        (("audio/x-raw",), "audio/x-raw"),
        (("*/*",), "image/png"),
        (("image/*",), "image/png"),
        (("image/*", "application/pdf"), "image/png"),
    ],
)
def test_a_raw_body_has_its_own_type(raw_types, sent):
    """If the function takes it, or a range with it; else the first that it takes."""
    row = {"image": base64.b64encode(PNG).decode()}
    call = make_call(replace(PLAIN, raw_types=raw_types), row, wire="raw")
    assert (call.body, call.headers["content-type"]) == (PNG, sent)


def test_binary_tensors_of_a_row():
    """With the axis of rows before the others, as the server shows it."""
    call = make_call(PLAIN, {"x": [0.5, 2.0], "text": "größe"}, wire="v2")
    length = int(call.headers["inference-header-content-length"])
    head = json.loads(call.body[:length])
    assert call.path == "/v2/models/f/infer"
    assert [(one["name"], one["shape"]) for one in head["inputs"]] == [("x", [1, 2]), ("text", [1])]
    found = decode_binary(call.body, length, 8, "FP32", [1, 2], 2, "x")
    assert np.array_equal(found, [[0.5, 2.0]])
    assert call.body.endswith("größe".encode())


def test_calls_of_sequences():
    """So many as are asked for; none of a function without sequences."""
    assert make_call(PLAIN, {}, sequence_calls=5).sequence_calls == 0
    assert make_call(replace(PLAIN, has_sequences=True), {}, sequence_calls=5).sequence_calls == 5


@pytest.mark.parametrize(
    ("function", "row", "wire", "words"),
    [
        (PLAIN, {}, "stream", "answers at once"),
        (PLAIN, {}, "raw", "takes no raw bodies"),
        (replace(PLAIN, raw_types=("*/*",)), {"a": "eA==", "b": 1}, "raw", "'a', 'b'"),
        (replace(PLAIN, raw_types=("*/*",)), {"a": "not base64!"}, "raw", "no base64"),
        (replace(PLAIN, raw_types=("image/*",)), {"a": "eA=="}, "raw", "are of image/*"),
        (replace(PLAIN, tensors=None), {"x": 1}, "v2", "shows no example"),
        (PLAIN, {"y": 1}, "v2", "its tensors are x, text"),
        (PLAIN, {"text": "a"}, "v2", "(x required)"),
        (PLAIN, {"x": "a"}, "v2", "no tensor of FP32"),
        (PLAIN, [{"x": 1}], "v2", "no fields"),
    ],
)
def test_a_form_that_cannot_be(function, row, wire, words):
    """Says why, and what to leave out."""
    with pytest.raises(LoadTestRefused) as refused:
        make_call(function, row, wire=wire)
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("name", "value"), [("x\r\ny", "a"), ("x", "a\r\nb: c"), ("", "a"), ("x", "ÿ€")]
)
def test_a_header_cannot_end_its_line(name, value):
    """A file that is given may have come from anywhere."""
    with pytest.raises(LoadTestRefused, match="is no header"):
        make_call(PLAIN, {}, headers={name: value})


def test_a_header_that_a_stage_needs():
    """Is given, or shown by the server; without either the call would be refused each time."""
    function = replace(PLAIN, headers={"X-Tenant": ""})
    with pytest.raises(LoadTestRefused) as refused:
        make_call(function, {})
    assert refused.value.where == "--header"
    assert "needs the header 'x-tenant'" in refused.value.message
    assert make_call(function, {}, headers={"x-tenant": "a"}).headers["x-tenant"] == "a"
