"""The worst calls, and what becomes of what they cost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import pytest

from loadtests.bounds import beside, command, looks, loops
from loadtests.bounds.cases import LIMIT, SHORT, Case, cases, paths
from loadtests.bounds.command import Cost, send
from runtime.declaration.config_file import read


def test_each_call_has_a_name_of_its_own_and_small_bodies_are_small() -> None:
    """A body of 255 KiB is read on the event loop, one of 256 beside it."""
    found = list(cases())
    assert len(found) > 200
    assert len({case.name for case in found}) == len(found)
    assert all(len(case.path) < 64 << 10 for case in paths())
    for case in found:
        if case.body is not None and case.name.startswith(("JSON of 256 kB", "/infer of 256 kB")):
            assert SHORT * 0.7 < len(case.body()) <= SHORT + 512, case.name


@pytest.mark.parametrize(
    ("cost", "faults"),
    [
        (Cost(Case("", ""), 200, 0.1, 0.0, (0.019, ""), (100.0, "")), ""),
        (Cost(Case("", ""), 200, 0.1, 1.0, (1.019, ""), (100.0, "")), ""),
        (
            Cost(Case("", ""), 200, 0.1, 0.0, (0.021, ""), (4 * LIMIT / 1e6 + 65, "")),
            "**block**, **memory**",
        ),
        (Cost(Case("", "", limit_mb=50.0), 413, 0.1, 0.0, (0.0, ""), (51.0, "")), "**memory**"),
        (Cost(Case("", ""), 0, 0.1, 0.0, (0.0, ""), (0.0, "")), "**no answer**"),
        (Cost(Case("", "", sent=0.9), 0, 0.1, 0.0, (0.0, ""), (0.0, "")), ""),
    ],
)
def test_what_breaks_a_bound(cost: Cost, faults: str) -> None:
    """The parse of a JSON body is apart; a client that left has no answer to wait for."""
    assert cost.faults == faults


@pytest.mark.parametrize(
    ("way", "names"),
    [("run", {"embed", "ocr", "take"}), ("ray", {"host-take", "own-raw", "late-arrays"})],
)
def test_what_is_served_is_a_file_that_can_be_read(
    way: str, names: set[str], tmp_path, monkeypatch
) -> None:
    """With functions that are only declared."""
    monkeypatch.setattr(command, "NAMES", 3)
    file = tmp_path / "serve_config.yaml"
    file.write_text(json.dumps({"applications": command.applications(tmp_path, way)}))
    assert names | {"other-0002"} <= {function.name for function in read(file).functions}


def test_what_blocks_an_event_loop_is_seen_from_without(tmp_path) -> None:
    """uvloop's and asyncio's, each once it begins to run; and read once."""
    code = "import asyncio, time, uvloop\nasync def block(): await asyncio.sleep(0.01); time.sleep(0.03); await asyncio.sleep(0.01)\n"
    code += "uvloop.run(block()) if {} else asyncio.run(block())\ninput()"
    environment = {**os.environ, **loops.inserted(tmp_path, command.ROOT)}
    for loop in (1, 0):
        arguments = [sys.executable, "-c", code.format(loop), loops.SERVES[0]]
        with subprocess.Popen(arguments, env=environment, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            until = time.monotonic() + 10
            while not (seen := loops.looked(tmp_path, [])) or seen[process.pid].block_s < 0.02:
                assert time.monotonic() < until, seen
                time.sleep(0.01)
            assert loops.looked(tmp_path, [])[process.pid].block_s < 0.02
            assert 1 < seen[process.pid].memory_mb <= seen[process.pid].peak_mb
            process.stdin.close()


@pytest.mark.parametrize("piece", [0, 2])
def test_a_call_is_sent_as_it_is_meant(piece: int) -> None:
    """With a length or in chunks; the status of the answer comes back."""
    said = b""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            nonlocal said
            connection, _ = listener.accept()
            with connection:
                while not said.endswith((b"\r\n\r\nabcde", b"0\r\n\r\n")):
                    said += connection.recv(1000)
                connection.sendall(b"HTTP/1.1 418 no\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert send(url, Case("", "/x", headers={"a": "b"}, piece=piece), b"abcde") == 418
        thread.join(5)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1\r\n")
    assert b"a: b" in head
    assert body == (b"2\r\nab\r\n2\r\ncd\r\n1\r\ne\r\n0\r\n\r\n" if piece else b"abcde")


class Answers(BaseHTTPRequestHandler):
    """200 to each call, but for some paths."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read, and answered."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(500 if self.path == beside.SMALL.path and self.server.is_bad else 200)  # type: ignore[attr-defined]
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *words: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def answering(*, is_bad: bool = False) -> Iterator[str]:
    """The URL of a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.is_bad = is_bad  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(5)


CALL: Final = Case("a call", "/x", lambda: b"{}")


def test_other_calls_are_made_beside_each(monkeypatch) -> None:
    """Large ones and small ones, as long as it takes; and each must be answered."""
    monkeypatch.setattr(beside, "ALONE", 2)
    with answering() as url:
        (row,) = beside.beside(url, [CALL], 0.05)
    assert (row.case, row.status) == (CALL, 200)
    assert 0 < row.large_s[0] <= row.large_s[1]
    assert row.small_ms > 0
    assert str(row).startswith("| a call | 200 |")
    with answering(is_bad=True) as url, pytest.raises(RuntimeError, match="500"):
        list(beside.beside(url, [CALL], 0.01))


def test_what_many_calls_leave_is_looked_at() -> None:
    """After a tenth of them, which may make what stays, and after all."""
    sizes = iter([10.0, 15.0, 15.0, 16.0])

    def look() -> dict[int, loops.Seen]:
        return {1: loops.Seen("wakeful", 0, next(sizes), 0)}

    with answering() as url:
        (row,) = beside.left(url, look, [CALL], 20)
    assert row == "| a call | 200 | 20 | 5.0 | 1.0 |"


def test_calls_that_are_made_beside_others_have_names_of_their_own() -> None:
    """And those that are made often are small."""
    for calls in (list(beside.large_calls()), list(beside.small_calls())):
        assert len({case.name for case in calls}) == len(calls) > 30
    for case in beside.small_calls():
        assert case.body is not None
        assert len(case.body()) <= beside.LEFT_BYTES + 512, case.name


@pytest.mark.parametrize(
    ("alone", "beside_ms", "block_s", "is_broken"),
    [(1.0, 1.19, 0.9, False), (1.0, 1.21, 0.9, True), (1.0, 1.0, 1.1, True)],
)
def test_what_looks_may_cost(alone, beside_ms, block_s, is_broken) -> None:
    """Calls of others and the loops; by the slowest hundredth."""
    cost = looks.Cost(
        "run", "near misses", [alone] * 100, [0.1] * 98 + [beside_ms] * 2, {"r": block_s}
    )
    assert cost.is_broken is is_broken


def test_every_look_is_a_path_and_near_misses_are_no_functions() -> None:
    """Another one each time, or a cache of misses would do."""
    draw = random.Random(2)
    for make in looks.KINDS.values():
        assert all(make(draw, 1000).startswith("/") for _ in range(50))
    near = [looks.KINDS["near misses"](draw, 1000) for _ in range(500)]
    assert len(set(near)) > 400
    assert not any(re.fullmatch(r".*/other-\d{4}(/.*)?", path) for path in near)
