"""A right answer is of the signature, equals the recorded one but for its last digits, and ends."""

from __future__ import annotations

import hashlib

import orjson
import pytest

from deployments.loadtest.calls.answers import (
    AnswerChecks,
    FailedAnswer,
    WrongAnswer,
    check_alike,
)
from deployments.loadtest.calls.load_call import AnswerForm, LoadCall, RecordedAnswer

ANSWER = {
    "$ref": "#/components/schemas/Answer",
    "components": {
        "schemas": {
            "Answer": {
                "type": "object",
                "properties": {"score": {"type": "number"}, "label": {"type": "string"}},
                "required": ["score"],
            }
        }
    },
}
TENSORS = {"type": "object", "required": ["outputs"]}
CHECKS = AnswerChecks({"f": AnswerForm(ANSWER, ANSWER, TENSORS)})
JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream; charset=utf-8"}


def call(wire="json", recorded=None):
    """A call of the function."""
    return LoadCall("f", "/", b"", wire=wire, recorded=recorded)


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b'{"score": 0.5}', JSON, ""),
        (b'{"score": 0.5, "label": "a"}', JSON, ""),
        (b'{"score": "high"}', JSON, "is not of type"),
        (b'{"label": "a"}', JSON, "required property"),
        (b"[]", JSON, "is not of type"),
        (b'{"score"', JSON, "it is no JSON"),
        (b"<html>", {"content-type": "text/html"}, "a body of text/html, not JSON"),
        (b"", {}, "a body of no content type"),
        (b'data: {"score": 1}\n\nevent: done\ndata: {}\n\n', EVENTS, ""),
        (b'data: {"score": 1}\r\n\r\nevent: done\r\ndata: {}\r\n\r\n', EVENTS, ""),
        (b'data: {"score": "x"}\n\nevent: done\ndata: {}\n\n', EVENTS, "is not of type"),
        (b'data: {"score": 1}\n\n', EVENTS, "ended without"),
        (b"", EVENTS, "ended without"),
    ],
)
def test_an_answer_is_of_the_signature(body, headers, reason):
    """And says what is not, where it is not."""
    if not reason:
        CHECKS.check(call(), body, headers)
        return
    with pytest.raises(WrongAnswer, match=reason):
        CHECKS.check(call(), body, headers)


@pytest.mark.parametrize(
    ("declared", "media_type", "reason"),
    [
        ("image/png", "image/png", ""),
        ("image/*", "image/jpeg", ""),
        ("image/png", "IMAGE/PNG; charset=binary", ""),
        ("image/png", "text/html", "a body of text/html, not image/png"),
        ("image/*", "text/html", "a body of text/html, not image/"),
        ("image/png", "", "a body of no content type, not image/png"),
    ],
)
def test_a_file_is_of_the_type_that_is_declared(declared, media_type, reason):
    """A page that says that something went wrong is none."""
    checks = AnswerChecks({"f": AnswerForm(ANSWER, ANSWER, TENSORS, media_type=declared)})
    if not reason:
        checks.check(call(), b"...", {"content-type": media_type})
        return
    with pytest.raises(WrongAnswer, match=reason):
        checks.check(call(), b"...", {"content-type": media_type})


FAILED = {"error": "no.", "code": "stage_failed", "where": "", "request_id": "1", "status": 500}


@pytest.mark.parametrize(
    ("wire", "body", "headers"),
    [
        ("json", orjson.dumps([{"score": 1}, FAILED]), JSON),
        ("other", orjson.dumps(FAILED) + b"\n", {"content-type": "application/x-ndjson"}),
        ("other", b"data: 1\n\ndata: %b\n\n" % orjson.dumps(FAILED), EVENTS),
    ],
    ids=["a row of an array", "a line", "an event of /generate_stream"],
)
def test_an_answer_with_an_error_in_it_has_its_code(wire, body, headers):
    """Though its status is 200."""
    with pytest.raises(FailedAnswer, match="stage_failed"):
        CHECKS.check(call(wire), body, headers)


def test_a_stream_that_ends_with_an_error_has_its_code():
    """Whatever came before it."""
    body = b'data: {"score": 1}\n\nevent: error\ndata: {"error": "no.", "code": "stage_failed"}\n\n'
    with pytest.raises(FailedAnswer, match="stage_failed"):
        CHECKS.check(call("stream"), body, EVENTS)


@pytest.mark.parametrize(
    ("outputs", "tail", "is_right"),
    [
        ([{"name": "y", "parameters": {"binary_data_size": 4}}], b"1234", True),
        ([{"name": "y", "parameters": {"binary_data_size": 4}}], b"123", False),
        ([{"name": "y", "data": [1]}], b"", True),
        ([{"name": "y", "data": [1]}], b"1", False),
    ],
)
def test_binary_tensors_have_the_bytes_that_are_said(outputs, tail, is_right):
    """No more, and no fewer."""
    head = orjson.dumps({"outputs": outputs})
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    if is_right:
        CHECKS.check(call("v2"), head + tail, headers)
        return
    with pytest.raises(WrongAnswer):
        CHECKS.check(call("v2"), head + tail, headers)


@pytest.mark.parametrize(("data", "is_right"), [([0.5, 1.0], True), ([0.5, 1.1], False)])
def test_tensors_in_json_equal_the_recorded_ones(data, is_right):
    """Whatever version answers."""
    before = {"model_version": "1", "outputs": [{"name": "y", "data": [0.5, 1.00001]}]}
    body = orjson.dumps({"model_version": "2", "outputs": [{"name": "y", "data": data}]})
    of = call("v2", RecordedAnswer(before))
    if is_right:
        CHECKS.check(of, body, JSON)
        return
    with pytest.raises(WrongAnswer):
        CHECKS.check(of, body, JSON)


@pytest.mark.parametrize(
    ("recorded", "body", "is_right"),
    [
        (RecordedAnswer({"score": 0.5}), b'{"score": 0.50005}', True),
        (RecordedAnswer({"score": 0.5}), b'{"score": 0.51}', False),
        (RecordedAnswer({"score": 1e6}), b'{"score": 1000050.0}', True),
        (RecordedAnswer({"score": 0.5}), b'{"score": 0.5, "label": "a"}', False),
        (RecordedAnswer(sha256=hashlib.sha256(b'{"score": 1}').hexdigest()), b'{"score": 1}', True),
        (
            RecordedAnswer(sha256=hashlib.sha256(b'{"score": 1}').hexdigest()),
            b'{"score": 2}',
            False,
        ),
        (RecordedAnswer(sha256="0" * 64), b'{"score": 2.5}', True),
    ],
)
def test_an_answer_equals_the_recorded_one(recorded, body, is_right):
    """Floats but for their last digits; a digest only where there are none."""
    if is_right:
        CHECKS.check(call(recorded=recorded), body, JSON)
        return
    with pytest.raises(WrongAnswer):
        CHECKS.check(call(recorded=recorded), body, JSON)


def test_events_of_another_form_are_compared_item_by_item():
    """Also where their end is no JSON."""
    of = call("other", RecordedAnswer([{"a": 1}, {"a": 2}]))
    CHECKS.check(of, b'data: {"a": 1}\n\ndata: {"a": 2}\n\ndata: [DONE]\n\n', EVENTS)
    with pytest.raises(WrongAnswer):
        CHECKS.check(of, b'data: {"a": 1}\n\n', EVENTS)


def test_the_digest_of_a_stream_is_that_of_its_items():
    """However they were sent."""
    body = b'data: {"score": 1}\r\n\r\ndata: {"score": 2}\n\nevent: done\ndata: {}\n\n'
    sha256 = hashlib.sha256(b'{"score": 1}\n{"score": 2}\n').hexdigest()
    CHECKS.check(call("stream", RecordedAnswer(sha256=sha256)), body, EVENTS)
    with pytest.raises(WrongAnswer):
        CHECKS.check(call("stream", RecordedAnswer(sha256="0" * 64)), body, EVENTS)


@pytest.mark.parametrize(
    ("media_type", "body", "is_right"),
    [
        ("application/json", b'{"a": 1}', True),
        ("application/json", b'{"a": 2}', False),
        ("application/json", b'{"a": 1, "id": "another"}', True),
        ("application/x-ndjson", b'{"a": 1}\n', False),
        ("text/event-stream", b"data: [DONE]\n\n", False),
        ("text/plain", b"a", True),
    ],
)
def test_another_form_is_compared_with_what_was_recorded(media_type, body, is_right):
    """The signature says nothing of it; the id is that of a call."""
    of = call("other", RecordedAnswer({"a": 1, "id": "1"}))
    if is_right:
        CHECKS.check(of, body, {"content-type": media_type})
        return
    with pytest.raises(WrongAnswer):
        CHECKS.check(of, body, {"content-type": media_type})


@pytest.mark.parametrize(
    ("answer", "first", "is_alike"),
    [
        ([1.0, 2.0], [1.0, 2.00001], True),
        ([1.0, 2.0], [1.0], False),
        ({"a": 1}, {"a": 1.00001}, True),
        ({"a": 2}, {"a": 1}, False),
        ({"a": "1"}, {"a": 1.0}, False),
        (None, None, True),
    ],
)
def test_answers_are_compared_to_their_depth(answer, first, is_alike):
    """Whatever they are made of."""
    if is_alike:
        check_alike(answer, first)
        return
    with pytest.raises(WrongAnswer):
        check_alike(answer, first)
