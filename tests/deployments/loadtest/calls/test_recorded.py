"""Recorded calls are sent again as they came, at their times, and their answers must be the same."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.loadtest.calls.load_call import AnswerForm, LoadCall, RecordedAnswer
from deployments.loadtest.calls.making import is_header
from deployments.loadtest.calls.recorded import (
    fill_omitted,
    is_capture,
    make_recorded_calls,
    read_recordings,
)
from deployments.loadtest.calls.served_functions import ServedFunction
from deployments.loadtest.refusal import LoadTestRefused
from deployments.scaling.simulation import Arrival
from runtime.errors import DeclarationError, Problem
from tests.problems import expect_values

JSON = {"content-type": "application/json"}
FUNCTION = ServedFunction(
    name="f",
    path="/v2/models/f",
    row={},
    required=(),
    takes_rows=True,
    example=None,
    raw_types=("image/png",),
    tensors=None,
    headers={},
    is_streamed=False,
    has_sequences=False,
    form=AnswerForm({}, {}, {}),
)


def line(at=1000.0, **more):
    """A call as it is recorded."""
    usual = {
        "at": at,
        "id": "1",
        "method": "POST",
        "path": "/v2/models/f",
        "headers": JSON,
        "body": {"x": 1},
        "status": 200,
        "code": "",
        "latency_ms": 3.5,
    }
    return {**usual, **more}


def write(path, *lines, function="f"):
    """A capture."""
    head = {"wakeful_capture": 1, "function": function, "version": "v", "began": 1000.0}
    path.write_text("".join(json.dumps(one) + "\n" for one in (head, *lines)))
    return path


def made(path, function=FUNCTION, example=None, headers=None):
    """The calls of a capture, to be sent."""
    recording = read_recordings([path], should_skip=False)
    return make_recorded_calls(function, recording.calls["f"], example, headers or {})


def test_a_capture_is_known_by_its_beginning(tmp_path):
    """And rows are none."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"x": 1}\n')
    assert is_capture(write(tmp_path / "f.jsonl", line()))
    assert not is_capture(rows)


def test_calls_of_several_functions_come_at_their_times(tmp_path):
    """From the first of all of them on; each names its own call."""
    one = write(tmp_path / "f.jsonl", line(1003.0), line(1001.5))
    other = write(tmp_path / "g.jsonl", line(1002.0, path="/v2/models/g"), function="g")
    recording = read_recordings([one, other], should_skip=False)
    assert recording.arrivals == [
        Arrival(0.0, "f", index=0),
        Arrival(0.5, "g", index=0),
        Arrival(1.5, "f", index=1),
    ]
    assert not recording.notes


def test_a_share_of_the_calls_is_said(tmp_path):
    """And at which rate all of them came; of a function of which all were recorded nothing."""
    calls = [line(1000.0 + number, rate=0.01) for number in range(101)]
    one = write(tmp_path / "f.jsonl", *calls)
    other = write(tmp_path / "g.jsonl", line(path="/v2/models/g"), function="g")
    shares = read_recordings([one, other], should_skip=False).shares
    assert set(shares) == {"f"}
    expect_values(shares["f"], "1 %", "--rps f=101")
    at_once = write(tmp_path / "f.jsonl", line(rate=0.5))
    assert "--rps" not in read_recordings([at_once], should_skip=False).shares["f"]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (line(status=400, code="missing_input"), "were refused for what they are"),
        (line(status=404, code="not_found"), "were refused for what they are"),
        ({k: v for k, v in line(left_out="large").items() if k != "body"}, "no recorded body"),
        (line(headers={"accept": "größe€"}), "headers that cannot be sent"),
    ],
)
def test_what_cannot_be_sent_again_is_left_out(tmp_path, call, why):
    """And said."""
    recording = read_recordings([write(tmp_path / "f.jsonl", line(), call)], should_skip=False)
    assert len(recording.calls["f"]) == 1
    (note,) = recording.notes
    assert "1 of 2 calls" in note
    assert why in note


@pytest.mark.parametrize("status", [200, 429, 499, 500, 503, 504])
def test_what_was_load_is_sent_again(tmp_path, status):
    """Whatever came of it then."""
    assert len(made(write(tmp_path / "f.jsonl", line(status=status)))) == 1


def test_damaged_lines_are_refused_or_left_out(tmp_path):
    """With the line, or with how many."""
    path = write(tmp_path / "f.jsonl", line(), {"at": "now"})
    with pytest.raises(DeclarationError) as refused:
        read_recordings([path], should_skip=False)
    assert f"{path}:3" in str(refused.value)
    recording = read_recordings([path], should_skip=True)
    assert len(recording.calls["f"]) == 1
    assert "1 damaged lines are left out" in recording.notes[0]


@pytest.mark.parametrize(
    ("more", "recorded"),
    [
        ({"answer": {"y": 1}}, RecordedAnswer({"y": 1})),
        ({"answer": None}, RecordedAnswer(None)),
        ({"answer_sha256": "0" * 64}, RecordedAnswer(sha256="0" * 64)),
        ({}, None),
        ({"answer": {"y": 1}, "status": 503}, None),
        ({"answer": [1], "code": "disconnected"}, None),
        ({"answer": {"y": 1}, "omitted": ["z"]}, None),
    ],
)
def test_what_must_come(tmp_path, more, recorded):
    """The recorded answer, where it was a whole one to the same body."""
    (call,) = made(write(tmp_path / "f.jsonl", line(**more)))
    assert call.recorded == recorded


@pytest.mark.parametrize(
    ("more", "is_streamed", "wire"),
    [
        ({}, False, "json"),
        ({"path": "/v2/models/f/infer"}, False, "v2"),
        ({"headers": {"content-type": "image/png"}}, False, "raw"),
        ({"headers": {**JSON, "accept": "text/event-stream"}}, True, "stream"),
        ({"headers": {**JSON, "accept": "text/event-stream"}}, False, "json"),
        ({"headers": {"content-type": "application/x-ndjson"}}, False, "other"),
        ({"path": "/v1/embeddings"}, False, "other"),
        ({"path": "/v2/models/f/generate_stream"}, True, "other"),
    ],
)
def test_the_form_of_a_call(tmp_path, more, is_streamed, wire):
    """Is told from where it was sent and what it accepted."""
    function = replace(FUNCTION, is_streamed=is_streamed)
    (call,) = made(write(tmp_path / "f.jsonl", line(**more)), function)
    assert call.wire == wire


def test_bodies_and_sequences(tmp_path):
    """Bytes are as they were; a sequence has another id in each run."""
    content = base64.b64encode(b"\x00\xff").decode()
    raw = {k: v for k, v in line(body_base64=content).items() if k != "body"}
    of_sequence = line(headers={**JSON, "x-sequence-id": "a", "x-sequence-start": "1"})
    path = write(tmp_path / "f.jsonl", raw, of_sequence)
    first, second = made(path)
    again = made(path)[1]
    assert first.body == b"\x00\xff"
    assert second.headers["x-sequence-start"] == "1"
    assert second.headers["x-sequence-id"].endswith("-a")
    assert second.headers["x-sequence-id"] != again.headers["x-sequence-id"]


def test_headers_that_are_in_no_capture(tmp_path):
    """Those of stages are as the server shows them, or as they are given; keys as they are given."""
    path = write(tmp_path / "f.jsonl", line())
    function = replace(FUNCTION, headers={"x-tenant": "acme"})
    assert made(path, function)[0].headers == {**JSON, "x-tenant": "acme"}
    given = {"x-tenant": "other", "authorization": "Bearer 1", "content-type": "text/plain"}
    assert made(path, function, headers=given)[0].headers == {**given, **JSON}
    with pytest.raises(LoadTestRefused, match="needs the header 'x-tenant'"):
        made(path, replace(FUNCTION, headers={"x-tenant": ""}))


@pytest.mark.parametrize(
    ("body", "filled"),
    [
        ({"x": 1}, {"x": 1, "image": "eA=="}),
        ([{"x": 1}, {"x": 2}], [{"x": 1, "image": "eA=="}, {"x": 2, "image": "eA=="}]),
        ({"x": 1, "image": "own"}, {"x": 1, "image": "own"}),
        ("text", "text"),
    ],
)
def test_an_omitted_field_is_that_of_the_example(body, filled):
    """In every row; what is not there is not made up."""
    fields = {"image": "eA=="}
    assert json.loads(fill_omitted(json.dumps(body).encode(), fields)) == filled


@pytest.mark.parametrize(
    "changed",
    [
        {"path": "/v2/repository/models/f/unload"},
        {"path": "/v2/models/f/stats"},
        {"path": "/v2/models/fg"},
        {"path": "/elsewhere"},
        {"method": "DELETE"},
        {"method": "GET"},
    ],
)
def test_nothing_but_calls_of_the_function_is_sent(tmp_path, changed):
    """A capture may come from anywhere, and a server has routes that unload a function."""
    path = write(tmp_path / "f.jsonl", line(), line(**changed))
    with pytest.raises(LoadTestRefused) as refused:
        made(path)
    assert refused.value.code == "load_test_refused"
    assert refused.value.where == "the capture of f"
    values = {"method": "POST", "path": "/v2/models/f", **changed}
    expect_values(refused.value.message, "line 3", *values.values())


@pytest.mark.parametrize(
    "path",
    ["/v2/models/f", "/v2/models/f/", "/v2/models/f/versions/1/infer", "/v1/embeddings"],
)
def test_each_route_of_a_call_is_sent(tmp_path, path):
    """As it was recorded."""
    (call,) = made(write(tmp_path / "f.jsonl", line(path=path)))
    assert call.path == path


def test_omitted_fields_come_back_in_each_form(tmp_path):
    """In every line of rows; a tensor cannot be made, and its call is left out."""
    rows = line(
        body_base64=base64.b64encode(b'{"x":1}\n{"x":2}\n').decode(),
        headers={"content-type": "application/x-ndjson"},
        omitted=["image"],
    )
    del rows["body"]
    tensors = line(body={"inputs": []}, path="/v2/models/f/infer", omitted=["image"])
    path = write(tmp_path / "f.jsonl", rows, tensors)
    (call,) = made(path, example={"x": 0, "image": "i"})
    assert call.body == b'{"image":"i","x":1}\n{"image":"i","x":2}\n'
    (note,) = read_recordings([path], should_skip=False).notes
    expect_values(note, "1", "tensor")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('/a?# \r\n\0\x7fé"\\', max_size=9)
    | st.sampled_from(
        ["GET", "/v2/models/f", "large", "AQI=", "disconnected", "0" * 64, "x" * 1025]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["accept", "x-sequence-id", "content-type", "x"]), inner)
    ),
    max_leaves=5,
)
KEYS = [
    *("at", "id", "method", "path", "headers", "body", "body_base64", "left_out", "omitted"),
    *("status", "code", "latency_ms", "bytes_out", "warm", "answer_sha256", "answer", "items"),
    *("first_ms", "sequence", "rate", "wakeful_capture", "unknown"),
]


def read_damaged(path: Path, changed: Mapping[str, Any], gone: Collection[str]) -> None:
    """A line with other values, or without some: refused with its place, or a call that can be
    sent, whose numbers are numbers.
    """
    damaged = {key: value for key, value in line(**changed).items() if key not in gone}
    write(path, line(1.0), damaged, line(2.0))
    problems: Sequence[Problem] = ()
    try:
        found = read_recordings([path], should_skip=False)
    except DeclarationError as refused:
        problems = refused.problems
    assert {problem.line for problem in problems} <= {0, 3}
    if problems:
        if "wakeful_capture" not in damaged:
            found = read_recordings([path], should_skip=True)
            assert [call.at for call in found.calls["f"]] == [1.0, 2.0]
        return
    calls: Sequence[LoadCall] = ()
    with contextlib.suppress(LoadTestRefused):
        calls = make_recorded_calls(FUNCTION, found.calls["f"], {"x": 1}, {})
    for call in calls:
        assert all(is_header(name, value) for name, value in call.headers.items())
        assert call.path.startswith("/")
        assert not set(call.path) & set(" ?#\r\n")
        assert isinstance(call.body, bytes)
    for one in found.calls["f"]:
        assert 0 <= one.at < 1e10
        assert 0 <= one.latency_s < 1e10
        assert one.first_s is None or 0 <= one.first_s < 1e10


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4), st.sets(st.sampled_from(KEYS)))
def test_any_value_of_any_key_is_refused_or_can_be_sent(tmp_path_factory, changed, gone):
    """Generated: keys that are gone, values of any kind."""
    read_damaged(tmp_path_factory.getbasetemp() / "damaged.jsonl", changed, gone)


@pytest.mark.full
@settings(max_examples=5000)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4), st.sets(st.sampled_from(KEYS)))
def test_any_value_of_any_key_is_refused_or_can_be_sent_often(tmp_path_factory, changed, gone):
    """The same, more often."""
    read_damaged(tmp_path_factory.getbasetemp() / "damaged.jsonl", changed, gone)
