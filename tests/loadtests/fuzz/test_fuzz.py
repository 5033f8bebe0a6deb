"""Generated calls, and how their answers are judged."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from loadtests.fuzz import calls, watching
from loadtests.fuzz.calls import FuzzCall
from loadtests.fuzz.judging import find_fault
from loadtests.fuzz.mutations import CHANGES, made_call
from loadtests.fuzz.sending import Answer, Connection
from loadtests.fuzz.values import Pairs, Raw, dump, mutated
from loadtests.fuzz.watching import ProcessMemory

TENSORS = [("x", "FP32", [-1, 3]), ("t", "BYTES", [-1])]
TARGETS = [replace(target, tensors=TENSORS) for target, _ in calls.OWN]

JSON = {b"content-type": b"application/json", b"x-request-id": b"a"}
CALL = FuzzCall("row", b"POST", b"/v2/models/a", (), b"{}")
LATE = FuzzCall("row", b"POST", b"/v2/models/a", ((b"x-request-timeout-seconds", b"1"),), b"{}")


def error(code: str, **more: object) -> bytes:
    return json.dumps(
        {"error": "why", "code": code, "where": "", "request_id": "a", **more}
    ).encode()


@pytest.mark.parametrize(
    ("call", "answer", "fault"),
    [
        (CALL, Answer(200, JSON, b"{}"), ""),
        (CALL, Answer(200, JSON, b"{"), "no JSON"),
        (CALL, Answer(200, JSON, b'{"a": NaN}'), "no JSON"),
        (CALL, Answer(400, JSON, error("wrong_shape")), ""),
        (CALL, Answer(400, JSON, b"{}"), "error form"),
        (CALL, Answer(400, {**JSON, b"x-request-id": b""}, error("a")), "without a request's id"),
        (CALL, Answer(404, JSON, b'{"error": {"message": "a", "code": "b"}}'), ""),
        (CALL, Answer(400, {b"content-type": b"text/html"}, b"<html>"), ""),
        (CALL, Answer(404, {b"content-type": b"text/html"}, b"<html>"), "error form"),
        (CALL, Answer(500, JSON, error("internal")), "status 500: internal"),
        (CALL, Answer(503, JSON, error("not_ready")), ""),
        (CALL, Answer(503, JSON, b""), "status 503"),
        (CALL, Answer(504, JSON, error("deadline_exceeded")), "status 504"),
        (LATE, Answer(504, JSON, error("deadline_exceeded")), ""),
        (CALL, Answer(200, JSON, b"[%b]" % error("internal", status=500)), "status 500"),
        (CALL, Answer(200, JSON, b"[%b]" % error("a", status=400)), ""),
        (
            CALL,
            Answer(
                200,
                {b"content-type": b"text/event-stream"},
                b"data: %b\n\n" % error("a", status=502),
            ),
            "status 502",
        ),
        (CALL, Answer(error="no answer"), "no answer"),
        (CALL, Answer(400, JSON, error("a\nTraceback (most recent call last)")), "Traceback"),
    ],
)
def test_what_is_wrong_with_an_answer(call: FuzzCall, answer: Answer, fault: str) -> None:
    """By its status, its form and its rows."""
    found = find_fault(call, answer)
    assert fault in found
    assert bool(fault) is bool(found)


def test_a_call_is_made_again_by_its_number() -> None:
    """Whatever was made before it."""
    first = [made_call(7, number, TARGETS) for number in range(60)]
    assert [made_call(7, number, TARGETS) for number in reversed(range(60))] == first[::-1]
    assert len({call.wire() for call in first}) > 50
    assert made_call(8, 0, TARGETS) != first[0]


def test_framing_is_right_whatever_is_wrong_within() -> None:
    """Each call has one answer: its head ends where its body begins, and its body where it says."""
    for number in range(120):
        wire = made_call(3, number, TARGETS).wire()
        head, _, body = wire.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        lengths = [line for line in lines if line.startswith(b"content-length:")]
        if lengths:
            assert lengths == [b"content-length: %d" % len(body)]
        elif b"transfer-encoding: chunked" in lines:
            assert body.endswith(b"0\r\n\r\n")
        else:
            assert not body
        assert not any(b"\0" in line or b"\n" in line for line in lines)


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_takes_every_call(change) -> None:
    """With a body, without one, with a tree and without."""
    for number in range(25):
        random = Random(number)
        call, tree = calls.right_call(random, TARGETS)
        changed, _ = change(random, call, tree)
        assert changed.wire()


def test_json_that_no_writer_writes() -> None:
    """A key twice, a word that JSON does not have, bytes as they are."""
    assert dump({"a": [Raw(b"NaN"), Pairs([("b", 1), ("b", 2)]), "é"]}) == (
        b'{"a":[NaN,{"b":1,"b":2},"\\u00e9"]}'
    )
    first = [
        dump(mutated(Random(number), {"a": [1, {"b": "c"}], "d": None})) for number in range(300)
    ]
    assert first == [
        dump(mutated(Random(number), {"a": [1, {"b": "c"}], "d": None})) for number in range(300)
    ]


@pytest.fixture
def answering() -> Iterator[tuple[int, list[bytes]]]:
    """A server that gives what it is told to give, one answer a request."""
    answers: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while answers and connection.recv(65_536):
                        connection.sendall(answers.pop(0))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], answers
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_answers_are_read_as_they_came(answering) -> None:
    """With a length, in chunks, to the end; nothing is forgiven."""
    port, answers = answering
    whole = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\nhi"
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    answers += [b"HTTP/1.1 100 Continue\r\n\r\n" + whole, chunks, whole + b"x"]
    connection = Connection(port)
    assert connection.ask(CALL) == Answer(200, {b"a": b"b", b"content-length": b"2"}, b"hi")
    assert connection.ask(CALL).body == b"hi"
    assert connection.ask(CALL).error == "more than one answer"
    connection.close()


def test_what_ended_or_grew_or_was_written_is_found(tmp_path) -> None:
    """Processes by id and time of birth; tracebacks once each."""
    before = {1: ProcessMemory("a", 1.0, 10.0), 2: ProcessMemory("b", 1.0, 10.0)}
    now = {1: ProcessMemory("a", 1.0, 90.0), 2: ProcessMemory("b", 2.0, 10.0)}
    assert watching.find_ends(before, now) == ["b (2) has ended"]
    assert watching.find_growth(before, now)[0] == (80.0, "a")
    log = tmp_path / "a.log"
    text = 'Traceback (most recent call last):\n  File "a", line 1\n    x\nValueError: no\n'
    log.write_text(f"begin\n{text}ok\n{text}Fatal Python error: Segmentation fault\n")
    found = list(watching.find_tracebacks([log, tmp_path / "none"]))
    assert len(found) == 2
    assert found[0].endswith("ValueError: no")


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.models
@pytest.mark.parametrize("ways", ["run", "workers"])
def test_two_thousand_calls(ways, models) -> None:
    """None is answered as none should be, no process ends, none writes a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.fuzz", "--quick", "--seed", "1", "--ways", ways],
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
