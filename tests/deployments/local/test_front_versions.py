"""Versions of `wakeful run --reload` behind HAProxy, as where calls need keys: what an edit of its
rules, a crash and the end leave of calls.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deployments.ingress import admin_socket
from deployments.local.front import HOLD_S, Front, FrontRules
from deployments.local.reload import HAND_OVER, Reloader, VersionLink
from deployments.ray_support import ports
from tests.deployments.local.fronts import CORS, listening

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0

RULES = FrontRules()
OTHER_RULES = FrontRules(cors=CORS)

HAS_ENDED = threading.Event()
"""In a version: its end has begun."""


class Answers(BaseHTTPRequestHandler):
    """At once; at `/end` when the end has begun, at `/never` when a test has failed."""

    def do_POST(self) -> None:
        if self.path == "/end":
            HAS_ENDED.wait(PATIENCE_S)
            time.sleep(0.2)
        elif self.path == "/never":
            time.sleep(PATIENCE_S / 2)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


def serve(link: VersionLink, rules: FrontRules) -> int:
    """The life of a version: it answers what it has before it ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers, bind_and_activate=False)
    server.daemon_threads = False
    server.socket.close()
    server.socket = link.sockets[0]
    server.server_activate()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    link._pipe.send(("serving", ({}, rules)))
    with suppress(EOFError):
        while True:
            if link._pipe.recv() == HAND_OVER:
                server.shutdown()
    HAS_ENDED.set()
    server.shutdown()
    server.server_close()
    return 0


def crash(link: VersionLink) -> int:
    """One that ends as soon as it serves."""
    link._pipe.send(("serving", ({}, RULES)))
    return 1


def run_until_end(
    steps: Iterator[None],
    folder: Path,
    bound: socket.socket,
    versions: Mapping[str, Callable[[VersionLink], int]],
    reported: list[str],
) -> int:
    """The exit status of a run that is ended when there are no more steps.

    Args:
        steps: one is taken at each look at the signals.
        folder: of HAProxy; its `code.py` says which version is the next.
        versions: by the text of that file.
        reported: what the run says.
    """
    code, until = folder / "code.py", time.monotonic() + PATIENCE_S

    def signal_count() -> int:
        assert time.monotonic() < until, reported
        return int(next(steps, "end") == "end")

    def serve_version(link: VersionLink) -> int:
        version = versions[code.read_text()]
        link.watch([code], [])
        return version(link)

    def bind() -> Sequence[socket.socket]:
        return ports.bind("127.0.0.1", 0, fix="")

    front = Front(folder, [bound], 1, RULES)
    reloader = Reloader(serve_version, bind(), bind, [code], reported.append, front)
    return reloader.run(signal_count)


def has_session(folder: Path, text: str) -> bool:
    """Whether the newest HAProxy has one with this."""
    return text in (admin_socket.send_command(folder / "s", "show sess") or "")


def send(client: socket.socket, path: str) -> None:
    """A call."""
    client.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())


def test_the_end_waits_for_a_call_in_one_that_was_replaced(tmp_path):
    """The version that has it answers it, and its client hears it."""
    code, reported = tmp_path / "code.py", list[str]()
    versions = {"0": partial(serve, rules=RULES), "1": partial(serve, rules=OTHER_RULES)}
    code.write_text("0")
    with listening() as bound, socket.socket() as client:

        def steps() -> Iterator[None]:
            while not has_session(tmp_path, "fe="):
                yield
            client.connect(bound.getsockname())
            send(client, "/end")
            while not has_session(tmp_path, "be=workers srv=w1"):
                yield
            code.write_text("1")
            while not reported:
                yield

        assert run_until_end(steps(), tmp_path, bound, versions, reported) == 0
        client.settimeout(PATIENCE_S)
        assert client.recv(65536).split()[1] == b"200"
    assert [text.partition(" in ")[0] for text in reported] == ["reloaded"]


def test_the_end_waits_for_no_call_longer_than_the_drain_time(tmp_path):
    """Though its version would go on."""
    rules, ended = FrontRules(drain_s=0.2), list[float]()
    (tmp_path / "code.py").write_text("0")
    with listening() as bound, socket.socket() as client:

        def steps() -> Iterator[None]:
            while not has_session(tmp_path, "fe="):
                yield
            client.connect(bound.getsockname())
            send(client, "/never")
            while not has_session(tmp_path, "be=workers srv=w1"):
                yield
            ended.append(time.monotonic())

        versions = {"0": partial(serve, rules=rules)}
        assert run_until_end(steps(), tmp_path, bound, versions, []) == 0
    assert time.monotonic() - ended[0] < PATIENCE_S / 4


def test_a_call_that_waits_for_a_process_is_answered_by_the_edit_that_mends_it(tmp_path):
    """Though that has other rules, and HAProxy another takes its place. It is answered at once,
    and not when it has been held for as long as calls are.
    """
    code, reported, mended = tmp_path / "code.py", list[str](), list[float]()
    code.write_text("0")
    with listening() as bound, socket.socket() as client:

        def steps() -> Iterator[None]:
            while not any("again; save a file" in text for text in reported):
                yield
            client.connect(bound.getsockname())
            send(client, "/f")
            while not has_session(tmp_path, "fe=waiting "):
                yield
            code.write_text("1")
            mended.append(time.monotonic())
            while not select.select([client], [], [], 0)[0]:
                yield
            mended.append(time.monotonic())

        versions = {"0": crash, "1": partial(serve, rules=OTHER_RULES)}
        assert run_until_end(steps(), tmp_path, bound, versions, reported) == 0
        assert client.recv(65536).split()[1] == b"200"
    assert mended[1] - mended[0] < HOLD_S / 2
