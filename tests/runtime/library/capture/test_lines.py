"""The line of a recorded call."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from runtime.declaration.sections import CaptureSpec
from runtime.library.capture.lines import MAX_BODY_BYTES, EndedCall, call_line, header_line

HEADERS = {
    b"content-type": b"application/json",
    b"accept": b"application/json",
    b"x-sequence-id": b"s1",
    b"authorization": b"Bearer canary",
    b"cookie": b"session=canary",
    b"x-api-key": b"canary",
    b"x-wakeful-internal": b"canary",
    b"x-wakeful-edge": b"canary",
    b"x-wakeful-key": b"canary",
    b"x-wakeful-functions": b"canary",
    b"x-wakeful-scopes": b"canary",
    b"x-forwarded-for": b"canary",
}


def ended(**more: Any) -> EndedCall:
    """A call that was answered."""
    call = EndedCall(
        at=1000.1234567,
        request_id=b"id-1",
        method="POST",
        path="/v2/models/f",
        fields={},
        body=b'{"text": "a",\n "n": 1.0}',
        route="",
        known=("text", "image", "n"),
        status=200,
        code="",
        latency_s=0.0123456,
        answer=[b'{"label": 3}'],
        digest="",
        kind="json",
        bytes_out=12,
        items=None,
        first_s=None,
        is_warm=True,
        sequence="",
        rate=0.25,
    )
    return call._replace(**more)


def line(call: EndedCall, **spec: Any) -> dict[str, Any]:
    """As it is read."""
    text = call_line(call, CaptureSpec(**spec))
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1
    read: dict[str, Any] = json.loads(text)
    return read


def test_a_call_is_a_line():
    """The body as it was sent, the answer as a digest."""
    assert line(ended()) == {
        "at": 1000.123457,
        "id": "id-1",
        "method": "POST",
        "path": "/v2/models/f",
        "headers": {},
        "body": {"text": "a", "n": 1.0},
        "status": 200,
        "code": "",
        "latency_ms": 12.346,
        "bytes_out": 12,
        "rate": 0.25,
        "warm": True,
        "answer_sha256": hashlib.sha256(b'{"label": 3}').hexdigest(),
    }
    assert json.loads(header_line("f", "v1", 5.5, 60.0)) == {
        "wakeful_capture": 1,
        "function": "f",
        "version": "v1",
        "began": 5.5,
        "keep_s": 60.0,
    }


def test_only_headers_of_the_list_are_recorded():
    """Those that decide what a body means; none that may be a secret, nor one that is long."""
    found = line(ended(fields=HEADERS))
    assert found["headers"] == {
        "content-type": "application/json",
        "accept": "application/json",
        "x-sequence-id": "s1",
    }
    assert "canary" not in json.dumps(found)
    odd = {b"accept": b"x" * 2000, b"content-type": b"application/json\x00"}
    assert line(ended(fields=odd))["headers"] == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"content-type", b"image/png; x=" + b"y" * 1100),
        (b"content-type", b"image/png; x=\xa0"),
        (b"content-type", b"application/x-www-form-urlencoded;" + b" " * 1100),
        (b"inference-header-content-length", b"0" * 1100 + b"2"),
    ],
)
@pytest.mark.parametrize("omit", [[], ["image"]])
def test_a_body_whose_type_is_not_recorded_is_left_out(name, value, omit):
    """It would stand there as JSON, which it is not: what a client likes, within the line."""
    call = ended(fields={name: value}, body=b'{}, "path": "/elsewhere", "x": ')
    found = line(call, omit=omit)
    assert (found["path"], found["left_out"]) == (call.path, "large")
    assert not {"body", "body_base64", "x"} & found.keys()


@pytest.mark.parametrize("value", ["²", "٣", "-1", "1_0", ""])
def test_a_length_that_is_no_number_is_none(value):
    """The rest of the call is recorded."""
    fields = {b"inference-header-content-length": value.encode("latin-1", "replace")}
    found = line(ended(fields=fields, status=400, code="malformed_body"), omit=["image"])
    assert found["status"] == 400


def test_a_body_has_room_in_a_part_of_the_file():
    """Else it is left out, and so is an answer: a file is bounded, whatever is sent."""
    large = b'{"text": "%s"}' % (b"x" * 600_000)
    assert line(ended(body=large), keep_mb=4)["left_out"] == "large"
    assert "body" in line(ended(body=large))
    answer = [b'{"label": "%s"}' % (b"x" * 300_000)]
    found = line(ended(answer=answer), keep_mb=4, answer="full")
    assert "answer" not in found
    assert "answer_sha256" in found


def hide(text: str) -> str:
    """As of ``Secrets``, of one."""
    return text.replace("se/cret", "${KEY}")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"text": "a se/cret b"}', {"text": "a ${KEY} b"}),
        (rb'{"text": "a se\/cret b"}', {"text": "a ${KEY} b"}),
        (rb'{"text": "\u0073e/c\u0072et", "n": 1.0}', {"text": "${KEY}", "n": 1.0}),
        (rb'{"text": "a\nb"}', {"text": "a\nb"}),
    ],
)
def test_a_secret_is_hidden_however_json_writes_it(body, shown):
    """Some clients escape each slash."""
    text = call_line(ended(body=body), CaptureSpec(), hide)
    assert json.loads(text)["body"] == shown


@pytest.mark.parametrize(
    ("body", "media_type", "is_left_out"),
    [
        (b"text=se%2Fcret", "application/x-www-form-urlencoded", True),
        (b"text=a+b", "application/x-www-form-urlencoded", False),
        (b"--x\r\n\r\nse/cret\r\n--x--", "multipart/form-data; boundary=x", True),
        (b"\xff\x00se/cret", "application/octet-stream", True),
        (b"\xff\x00", "application/octet-stream", False),
        (b'{"text": "a"}\n{"text": "se\\/cret"}\n', "application/x-ndjson", True),
        (b'{"text": "a\\n"}\n{nonsense\\', "application/x-ndjson", False),
        (b"{se/cret", "application/json", True),
    ],
)
def test_a_body_in_base64_that_has_a_secret_is_left_out(body, media_type, is_left_out):
    """Nothing can stand in its place: lengths are said elsewhere."""
    call = ended(body=body, fields={b"content-type": media_type.encode()}, status=400)
    found = json.loads(call_line(call, CaptureSpec(), hide))
    assert ("left_out" in found, "body_base64" in found) == (is_left_out, not is_left_out)
    if is_left_out:
        assert found["left_out"] == "omitted"


def test_a_secret_that_is_a_part_of_the_form_loses_the_line():
    """A number may be one."""
    with pytest.raises(ValueError, match=r"[Jj]son|JSON|expected|invalid"):
        call_line(ended(), CaptureSpec(), lambda text: text.replace("200", "${N}"))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"body": None}, {"left_out": "unread"}),
        ({"body": b"x" * (MAX_BODY_BYTES + 1)}, {"left_out": "large"}),
        (
            {"body": b"\xff\xd8", "fields": {b"content-type": b"image/jpeg"}},
            {"body_base64": base64.b64encode(b"\xff\xd8").decode()},
        ),
        ({"body": b"{", "status": 400}, {"body_base64": base64.b64encode(b"{").decode()}),
        ({"body": b"NaN", "status": 400}, {"body_base64": base64.b64encode(b"NaN").decode()}),
        (
            {"body": b"[" * 100 + b"]" * 100, "status": 400},
            {"body_base64": base64.b64encode(b"[" * 100 + b"]" * 100).decode()},
        ),
        ({"body": b"", "status": 400}, {"body_base64": ""}),
        ({"body": memoryview(b'{"text": "b"}')}, {"body": {"text": "b"}}),
        (
            {
                "body": b'{"inputs":[]}\x01\x02',
                "fields": {b"inference-header-content-length": b"13"},
                "route": "/infer",
            },
            {"body_base64": base64.b64encode(b'{"inputs":[]}\x01\x02').decode()},
        ),
    ],
)
def test_what_stands_for_a_body(changed, expected):
    """JSON as JSON, anything else in base64, or why there is none."""
    found = line(ended(**changed))
    keys = ("body", "body_base64", "left_out", "omitted")
    assert {key: found[key] for key in keys if key in found} == expected


def test_an_omitted_field_is_in_none_of_it():
    """Neither in the body nor in the answer."""
    call = ended(body=b'{"text": "a", "image": "canary"}', answer=[b'{"image":"canary","n":1}'])
    found = line(call, omit=["image"], answer="full")
    assert (found["body"], found["omitted"]) == ({"text": "a"}, ["image"])
    assert found["answer"] == {"n": 1}
    assert "canary" not in json.dumps(found)


ERROR = {"error": "'canary' is bad", "code": "c", "where": "", "request_id": "7", "status": 400}


@pytest.mark.parametrize(
    ("changed", "has_digest"),
    [
        ({}, True),
        ({"kind": "items", "answer": [b'{"n":1}']}, True),
        ({"body": b'{"text": "a", "image": "canary"}'}, False),
        ({"answer": [b'{"image":"canary","n":1}']}, False),
        ({"answer": [b'[{"n":1},', json.dumps(ERROR).encode(), b"]"]}, False),
        ({"kind": "lines", "answer": [json.dumps(ERROR).encode() + b"\n"]}, False),
        ({"kind": "items", "answer": [b'{"image":"canary"}']}, False),
        ({"kind": "bytes", "answer": [b"canary"]}, False),
        ({"route": "/v1/embeddings", "answer": [b'{"image":"canary"}']}, False),
        (
            {
                "route": "/infer",
                "body": b'{"inputs": []}',
                "answer": [b'{"outputs":[{"name":"image","data":["canary"]}]}'],
            },
            False,
        ),
        ({"known": None}, False),
        ({"body": None}, False),
        ({"body": b'{"image": "canary", "text": "%s"}' % (b"x" * 600_000)}, False),
        ({"fields": {b"content-type": b"application/json" + b" " * 1100}}, False),
    ],
)
@pytest.mark.parametrize("kept", ["digest", "full"])
def test_there_is_no_digest_of_what_is_omitted(changed, has_digest, kept):
    """Of an answer that has it, or was made of it, or may have been: of a body that is left out it is
    not known. A short value would be found by trying until the digest is the same.
    """
    found = line(ended(**changed), omit=["image"], answer=kept, keep_mb=4)
    assert ("answer_sha256" in found) is has_digest
    assert "canary" not in json.dumps(found)


@pytest.mark.parametrize(
    "changed",
    [
        {"known": None},
        {"route": "/v1/embeddings", "body": b'{"input": "canary"}'},
        {"fields": {b"content-type": b"image/png"}, "body": b"canary"},
        {"fields": {b"content-type": b"multipart/form-data; boundary=x"}, "body": b"canary"},
        {"body": b'{"imgae": "canary"}', "status": 400},
        {"body": b"canary", "status": 400},
    ],
)
def test_where_a_field_cannot_be_taken_out_the_body_is_left_out(changed):
    """And the line says so."""
    found = line(ended(**changed, answer=[], kind=""), omit=["image"])
    assert (found["left_out"], found["omitted"]) == ("omitted", ["image"])
    assert "canary" not in json.dumps(found)
    assert not {"body", "body_base64"} & found.keys()


def test_a_binary_body_gets_the_length_that_is_left():
    """Its header is that of what is recorded."""
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "shape": [1],
                    "datatype": "UINT8",
                    "parameters": {"binary_data_size": 1},
                }
                for name in ("image", "n")
            ]
        }
    ).encode()
    fields = {b"inference-header-content-length": b"%d" % len(head)}
    found = line(ended(fields=fields, body=head + b"\x01\x02", route="/infer"), omit=["image"])
    body = base64.b64decode(found["body_base64"])
    length = int(found["headers"]["inference-header-content-length"])
    assert [one["name"] for one in json.loads(body[:length])["inputs"]] == ["n"]
    assert body[length:] == b"\x02"


@pytest.mark.parametrize(
    ("kind", "answer", "digested", "shown"),
    [
        ("json", [b'{"a":', b" 1}"], b'{"a": 1}', {"a": 1}),
        ("items", [b'{"n":0}', b'{"n":1}'], b'{"n":0}\n{"n":1}\n', [{"n": 0}, {"n": 1}]),
        ("items", [], b"", []),
        ("lines", [b'{"n":0}\n', b'{"n":1}\n'], b'{"n":0}\n{"n":1}\n', [{"n": 0}, {"n": 1}]),
        ("bytes", [b"\x89PNG"], b"\x89PNG", None),
    ],
)
def test_what_is_recorded_of_an_answer(kind, answer, digested, shown):
    """Its digest, and where all of it is wanted, its JSON too."""
    call = ended(kind=kind, answer=answer)
    assert line(call)["answer_sha256"] == hashlib.sha256(digested).hexdigest()
    assert "answer" not in line(call)
    assert line(call, answer="full").get("answer") == shown


@pytest.mark.parametrize("changed", [{"kind": ""}, {"status": 400, "code": "bad_request"}])
def test_of_an_error_the_code_is_recorded(changed):
    """And no message, which may quote a value."""
    found = line(ended(**changed), answer="full")
    assert not {"answer", "answer_sha256"} & found.keys()
    assert found["code"] == changed.get("code", "")


def test_a_stream_says_when_its_first_item_went():
    """And how many there were, and the sequence that it belongs to."""
    found = line(ended(kind="items", items=2, first_s=0.0021, sequence="s"))
    assert (found["items"], found["first_ms"], found["sequence"]) == (2, 2.1, "s")


def test_what_is_not_known_of_a_wake_is_not_said():
    """The process that records a call by task on a cluster passes it on."""
    assert line(ended(is_warm=False))["warm"] is False
    assert "warm" not in line(ended(is_warm=None))


def test_a_client_that_left_is_said():
    """As the access log says it."""
    found = line(ended(status=0, code="disconnected", answer=[], kind=""))
    assert (found["status"], found["code"]) == (499, "disconnected")
