"""Recorded calls as they are read: in order, checked, refused where they are damaged."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.loadtest.calls import captures
from deployments.loadtest.calls.captures import Capture, read_capture
from runtime.declaration.sections import CaptureSpec
from runtime.errors import DeclarationError, Problem
from runtime.library.capture.lines import EndedCall, call_line
from tests.problems import expect_values, place

HEAD = {"wakeful_capture": 1, "function": "f", "version": "v1", "began": 5.0, "keep_s": 60.0}


def call(arrived: float, **more: Any) -> dict[str, Any]:
    """A line; what is None is not in it."""
    data = {
        "at": arrived,
        "id": f"id-{arrived:g}",
        "method": "POST",
        "path": "/v2/models/f",
        "headers": {"content-type": "application/json"},
        "body": {"x": arrived},
        "status": 200,
        "code": "",
        "latency_ms": 2.5,
        "bytes_out": 3,
        "warm": True,
        "answer_sha256": "0" * 64,
        **more,
    }
    return {key: value for key, value in data.items() if value is not None}


def text(*lines: Any) -> bytes:
    """Lines, bytes as they are."""
    return b"".join(
        one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines
    )


def write(folder: Path, *lines: Any, name: str = "f.jsonl") -> Path:
    """A file."""
    path = folder / name
    path.write_bytes(text(*lines))
    return path


def times(capture: Capture) -> list[float]:
    """When its calls arrived."""
    return [one.at for one in capture.calls]


def refusal(path: Path, **options: Any) -> list[tuple[str, str]]:
    """File and place, and message, of what is wrong."""
    with pytest.raises(DeclarationError) as caught:
        read_capture(path, **options)
    return [(f"{Path(one.file).name}:{place(one)}", one.message) for one in caught.value.problems]


def test_a_call_is_read_as_it_was_recorded(tmp_path):
    """Everything that a replay needs."""
    stream = call(
        7.5,
        body=None,
        body_base64="AQI=",
        headers={"x-sequence-id": "s"},
        sequence="s",
        items=2,
        first_ms=1.5,
        answer=[1, 2],
    )
    found = read_capture(write(tmp_path, HEAD, stream, call(6.0, rate=0.01)))
    assert (found.function, found.version, found.skipped) == ("f", "v1", 0)
    first, second = found.calls
    assert (first.at, first.body, first.latency_s, first.line) == (6.0, b'{"x":6.0}', 0.0025, 3)
    assert (second.body, second.sequence, second.items) == (b"\x01\x02", "s", 2)
    assert (second.first_s, second.answer, second.line) == (0.0015, b"[1,2]", 2)
    assert (first.items, first.first_s, first.answer) == (None, None, None)
    assert (first.rate, second.rate) == (0.01, 1.0)


def test_calls_come_in_the_order_of_arrival(tmp_path):
    """Of all parts, compressed ones too; of equal times as they stand."""
    write(tmp_path, HEAD, call(1.0), call(3.0), name="f.jsonl.2")
    (tmp_path / "f.jsonl.1.gz").write_bytes(gzip.compress(text(HEAD, call(2.0), call(4.0, id="a"))))
    path = write(tmp_path, HEAD, call(4.0, id="b"), call(3.5))
    write(tmp_path, HEAD, call(99.0), name="f.jsonl.bak")
    found = read_capture(path)
    assert times(found) == [1.0, 2.0, 3.0, 3.5, 4.0, 4.0]
    assert [one.id for one in found.calls[-2:]] == ["a", "b"]
    assert times(read_capture(tmp_path / "f.jsonl.2")) == [1.0, 3.0]


def test_parts_that_get_other_names_meanwhile_are_read_once_each(tmp_path, monkeypatch):
    """The server goes on while a capture is read: none is left out, none is there twice."""
    for number in range(1, 4):
        write(tmp_path, HEAD, call(float(4 - number)), name=f"f.jsonl.{number}")
    path = write(tmp_path, HEAD, call(4.0))
    opened, open_one = 0, captures._open

    def open_and_rotate(part: Path) -> Any:
        nonlocal opened
        opened += 1
        file = open_one(part)
        if opened in (1, 6):
            for number in (3, 2, 1):
                older = tmp_path / ("f.jsonl" if number == 1 else f"f.jsonl.{number - 1}")
                older.rename(tmp_path / f"f.jsonl.{number}")
            write(tmp_path, HEAD, call(4.0 + opened))
        return file

    monkeypatch.setattr(captures, "_open", open_and_rotate)
    assert times(read_capture(path)) == [3.0, 4.0, 5.0, 10.0]


def test_a_line_that_is_being_written_is_no_fault(tmp_path):
    """At the end of the part that is written; in a full one it is."""
    half = text(call(2.0))[:-9]
    assert times(read_capture(write(tmp_path, HEAD, call(1.0), half))) == [1.0]
    write(tmp_path, HEAD, call(0.5), half, name="f.jsonl.1")
    ((where, _),) = refusal(tmp_path / "f.jsonl")
    assert where == "f.jsonl.1:3"


def test_parts_that_were_joined_are_one_capture(tmp_path):
    """A file may begin more than once, and have blank lines."""
    path = write(tmp_path, HEAD, call(1.0), b"\n", HEAD, call(2.0))
    assert times(read_capture(path)) == [1.0, 2.0]


BAD = {
    "no JSON": (b"{nonsense\n", "3", ()),
    "an array": ([1], "3", ()),
    "no time": (call(1.0, at=None), "3: at", ()),
    "a time before all": (call(-1.0), "3: at", ()),
    "a time that is text": (call(1.0) | {"at": "1"}, "3: at", ()),
    "milliseconds": (call(1.7e12), "3: at", ()),
    "no path": (call(1.0, path=None), "3: path", ()),
    "a path with a line break": (call(1.0, path="/a\r\nx: y"), "3: path", ()),
    "a path elsewhere": (
        call(1.0, path="http://example.org/"),
        "3: path",
        ("http://example.org/",),
    ),
    "a query": (call(1.0, path="/a?key=1"), "3: path", ()),
    "a method of several words": (call(1.0, method="POST /"), "3: method", ()),
    "a header that is not recorded": (
        call(1.0, headers={"authorization": "x"}),
        "3: headers",
        ("authorization", "content-type"),
    ),
    "a header with a line break": (
        call(1.0, headers={"accept": "a\r\nhost: b"}),
        "3: headers",
        ("accept",),
    ),
    "headers that are a list": (call(1.0, headers=[]), "3: headers", ()),
    "no body and no reason": (call(1.0, body=None), "3: body", ("left_out",)),
    "a body and a reason": (call(1.0, left_out="large"), "3: body", ("left_out",)),
    "two bodies": (call(1.0, body_base64=""), "3: body", ("body_base64",)),
    "an unknown reason": (call(1.0, body=None, left_out="lost"), "3: left_out", ("unread",)),
    "no base64": (call(1.0, body=None, body_base64="!"), "3: body_base64", ()),
    "a status that is none": (call(1.0, status=7), "3: status", ()),
    "a status with a fraction": (call(1.0, status=200.0), "3: status", ()),
    "a latency before its time": (call(1.0, latency_ms=-1), "3: latency_ms", ()),
    "a latency without an end": (
        text(call(1.0)).replace(b'"latency_ms": 2.5', b'"latency_ms": 1e308'),
        "3: latency_ms",
        (),
    ),
    "a first item without an end": (call(1.0, first_ms=1e300), "3: first_ms", ()),
    "a digest that is none": (call(1.0, answer_sha256="ff"), "3: answer_sha256", ("64",)),
    "items that are none": (call(1.0, items=-1), "3: items", ()),
    "a long id": (call(1.0, id="x" * 2000), "3: id", ("1024",)),
    "a share that is none": (call(1.0, rate=0), "3: rate", ("0", "1")),
    "a share of more than all": (call(1.0, rate=1.5), "3: rate", ("1",)),
    "a share that is nothing": (call(1.0, rate=1e-300), "3: rate", ("1",)),
    "a share that is text": (call(1.0, rate="1"), "3: rate", ("1",)),
    "names that are none": (call(1.0, omitted=[1]), "3: omitted", ()),
    "a wake that is a number": (call(1.0, warm=1), "3: warm", ()),
    "NULs, as of a disk that lost power": (b"\0" * 30 + b"\n", "3", ()),
    "another encoding": ("{}".encode("utf-16") + b"\n", "3", ()),
    "deep arrays": (b'{"at":' + b"[" * 2000 + b"]" * 2000 + b"}\n", "3", ()),
}


@pytest.mark.parametrize("name", BAD)
def test_a_damaged_line_is_refused_with_its_place(tmp_path, name):
    """Unless it is to be passed over, and is counted."""
    damaged, where, values = BAD[name]
    path = write(tmp_path, HEAD, call(1.0), damaged, call(2.0))
    problems = refusal(path)
    assert problems[0][0].startswith(f"f.jsonl:{where}")
    expect_values(problems[0][1], *values)
    found = read_capture(path, skip_bad=True)
    assert times(found) == [1.0, 2.0]
    assert found.skipped >= 1


@pytest.mark.parametrize(
    ("lines", "where", "values"),
    [
        ([], "f.jsonl:0", ()),
        ([HEAD], "f.jsonl:0", ()),
        ([b"at_s,function\n1,f\n"], "f.jsonl:1", ("wakeful_capture",)),
        ([call(1.0)], "f.jsonl:1", ("wakeful_capture",)),
        ([HEAD | {"wakeful_capture": 2}], "f.jsonl:1: wakeful_capture", ("2", "1")),
        ([HEAD, call(1.0), HEAD | {"function": "g"}], "f.jsonl:3: function", ("'g'", "'f'")),
    ],
)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_what_is_no_capture_is_refused(tmp_path, lines, where, values, skip_bad):
    """Whatever may be passed over."""
    problems = refusal(write(tmp_path, *lines), skip_bad=skip_bad)
    assert problems[-1][0] == where
    expect_values(problems[-1][1], *values)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    """One that is not there, a folder, and one that is not what its name says."""
    for name in ("none.jsonl", "."):
        assert refusal(tmp_path / name)
    (tmp_path / "f.jsonl.1.gz").write_bytes(gzip.compress(text(HEAD, call(1.0)))[:-20])
    ((where, _),) = refusal(write(tmp_path, HEAD, call(2.0)))
    assert where == "f.jsonl.1.gz:0"


def test_a_part_that_breaks_off_is_used_as_far_as_it_goes(tmp_path):
    """Where what is damaged may be left out; the other parts are."""
    packed = gzip.compress(text(HEAD, *(call(float(n), id=f"{n}" * 99) for n in range(200))))
    (tmp_path / "f.jsonl.1.gz").write_bytes(packed[: len(packed) // 2])
    path = write(tmp_path, HEAD, call(500.0))
    found = read_capture(path, skip_bad=True)
    assert found.skipped == 1
    assert times(found)[-1] == 500.0
    assert len(found.calls) > 1


def test_no_more_is_read_than_fits(tmp_path):
    """A file that is larger is refused before it is in memory."""
    path = write(tmp_path, HEAD, *(call(float(n)) for n in range(100)))
    ((where, message),) = refusal(path, max_bytes=5000)
    assert where.startswith("f.jsonl:")
    expect_values(message, "capture.keep_mb")


def test_an_endless_line_is_one_problem(tmp_path, monkeypatch):
    """It is passed over without being held."""
    monkeypatch.setattr(captures, "MAX_LINE_BYTES", 1000)
    path = write(tmp_path, HEAD, b"x" * 5500 + b"\n", call(2.0))
    ((where, _),) = refusal(path)
    assert where == "f.jsonl:2"
    assert times(read_capture(path, skip_bad=True)) == [2.0]


def test_problems_are_as_many_as_one_reads(tmp_path):
    """A file of another kind is wrong in every line."""
    path = write(tmp_path, HEAD, *([call(1.0, at=None)] * 100))
    assert len(refusal(path)) == captures.MOST_PROBLEMS


@pytest.mark.parametrize("seed", range(2))
def test_damage_of_any_kind_is_refused_or_passed_over(tmp_path, seed):
    """Generated: bytes changed, cut and joined. Nothing but a refusal, or calls that are right."""
    damage(tmp_path, seed, 150)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(2, 12))
def test_damage_of_any_kind_is_refused_or_passed_over_often(tmp_path, seed):
    """The same, more often."""
    damage(tmp_path, seed, 3000)


def damage(folder: Path, seed: int, rounds: int) -> None:
    """Reads files that were damaged."""
    dice = random.Random(seed)
    right = text(HEAD, *(call(float(n), body={"x": n}) for n in range(1, 9)))
    bodies = {b'{"x":%d}' % n for n in range(1, 9)}
    for _ in range(rounds):
        data = bytearray(right)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(data))
            kind = dice.randrange(5)
            if kind == 0:
                data[at] = dice.randrange(256)
            elif kind == 1:
                del data[at : at + dice.randrange(40)]
            elif kind == 2:
                data[at:at] = dice.randbytes(3)
            elif kind == 3:
                data[at:at] = dice.choice([b"\n", b"{", b"}", b'"', b"[", b"\0", b"1e999", b"null"])
            else:
                del data[at:]
                data += b"\n"
        path = folder / "f.jsonl"
        path.write_bytes(data)
        for skip_bad in (False, True):
            problems: Sequence[Problem] = ()
            try:
                found = read_capture(path, skip_bad=skip_bad)
            except DeclarationError as refused:
                problems = refused.problems
            assert len(problems) <= captures.MOST_PROBLEMS
            if problems:
                continue
            assert found.calls
            assert len(found.calls) <= 9
            assert times(found) == sorted(times(found))
            assert sum(one.body in bodies for one in found.calls) >= len(found.calls) - 4


ROW = st.dictionaries(
    st.sampled_from(["text", "image", "parameters", "inputs", "id", "other"]),
    st.none()
    | st.integers(0, 9)
    | st.text('a"\\\n\u2028é\x7f', max_size=4)
    | st.just({"text": "a"}),
    max_size=3,
)
JSON_BODIES = (ROW | st.lists(ROW, max_size=2)).map(
    lambda value: json.dumps(value, indent=1).encode()
)
TYPES = st.sampled_from(
    [
        *(b"", b"application/json", b" Application/JSON ; charset=utf-8", b"application/x-ndjson"),
        *(b"image/png", b"image/png; x=" + b"y" * 1100, b"image/png\xa0", b"multipart/form-data"),
        *(b"application/x-www-form-urlencoded;" + b" " * 1100, b"application/json\x85", b"\xff"),
    ]
)


@st.composite
def ended_calls(draw: st.DrawFn) -> EndedCall:
    """Of any client; what was answered with 200 as JSON was JSON."""
    content_type, status = draw(TYPES), draw(st.sampled_from([200, 200, 400, 0]))
    is_json = content_type.partition(b";")[0].strip().lower() in (b"", b"application/json")
    fields = {b"content-type": content_type} if content_type else {}
    if not is_json and draw(st.booleans()):
        length = st.sampled_from([b"2", b"x", b"0" * 1100 + b"2", b"\xb2"])
        fields[b"inference-header-content-length"] = draw(length)
    body = draw(JSON_BODIES if is_json and status == 200 else JSON_BODIES | st.binary(max_size=30))
    kind = draw(st.sampled_from(["json", "items", "lines", "bytes", ""]))
    answers = st.lists(JSON_BODIES.map(lambda text: text.replace(b"\n", b" ")), max_size=3)
    answer = draw(st.lists(st.binary(), max_size=1) if kind == "bytes" else answers)
    if kind == "json":
        answer = answer[:1] or [b"{}"]
    if kind == "lines":
        answer = [text + b"\n" for text in answer]
    return EndedCall(
        at=draw(st.floats(1.0, 4e9)),
        request_id=draw(st.binary(max_size=20)),
        method="POST",
        path="/v2/models/f",
        fields=fields,
        body=draw(st.sampled_from([body, body, body, None])),
        route=draw(st.sampled_from(["", "/infer", "/generate", "/v1/embeddings"])),
        known=draw(st.sampled_from([("text", "image"), None])),
        status=status,
        code=draw(st.sampled_from(["", "disconnected"])),
        latency_s=draw(st.floats(0, 1e4)),
        answer=answer,
        digest="",
        kind=kind,
        bytes_out=3,
        items=draw(st.sampled_from([None, 0, 3])),
        first_s=draw(st.sampled_from([None, 0.5])),
        is_warm=draw(st.sampled_from([True, False, None])),
        sequence=draw(st.sampled_from(["", "s"])),
        rate=draw(st.floats(1e-6, 1.0)),
    )


SPECS = [
    CaptureSpec(rate=1, omit=omit, answer=answer)
    for omit in ((), ("image",))
    for answer in ("digest", "full")
]


@given(ended_calls(), st.sampled_from(SPECS), st.sampled_from([None, str]))
def test_whatever_is_recorded_can_be_read(ended, spec, hide):
    """Generated: calls of any client become one line each, and a client decides on values alone."""
    made = call_line(ended, spec, hide)
    assert made.count(b"\n") == 1
    data = json.loads(made)
    assert (data["path"], data["status"]) == (ended.path, ended.status or 499)
    read = captures.read_call(data, 2)
    assert (read.at, read.code, read.rate) == (pytest.approx(ended.at), ended.code, ended.rate)
    if read.body is not None and not spec.omit and "body_base64" in data:
        assert read.body == ended.body
