"""HAProxy keeps the calls of a sequence on their replica: the real program, on the configuration that Ray really writes."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray.serve._private.haproxy import ServerConfig

from deployments.haproxy import EDITS, LOCAL, SEQUENCE, binary, edited
from tests.backends import Backend
from tests.deployments.test_haproxy import free, written

pytestmark = pytest.mark.slow

APART_S = 1.0
"""Between two reloads. Closer ones may lose a table that is still being handed over (docs/architecture.md has the counts)."""


class Replica(Backend):
    """Says which one it is, and what it was told of the sequence."""

    def answer(self, body: bytes) -> None:
        told = {name: self.headers[name] for name in ("x-sequence-id", "x-sequence-start", SEQUENCE)}
        self.say(json.dumps({"port": self.server.server_address[1], **told}).encode())


class Proxy:
    """HAProxy before four replicas, reloaded as Ray does it."""

    def __init__(self, folder: Path, servers: list[ThreadingHTTPServer]) -> None:
        self.folder = folder
        self.port = free()
        self.url = f"http://127.0.0.1:{self.port}/f"
        self._servers = servers
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self, *which: int) -> None:
        """The first process, or another that takes over from the last."""
        servers = [ServerConfig(f"r{n}", "127.0.0.1", self._servers[n].server_port) for n in which]
        text = edited(written(self.folder, self.port, servers), (*EDITS, *LOCAL), pytest.fail)
        (self.folder / "haproxy.cfg").write_text(text)
        takes_over = ["-sf", str(self.children[-1].pid), "-x", str(self.folder / "s")] if self.children else []
        command = [binary(), "-db", "-f", str(self.folder / "haproxy.cfg"), *takes_over]
        self.children.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        self._until(lambda: f"Pid: {self.children[-1].pid}\n" in self.ask("show info"))

    def until_settled(self) -> None:
        """Until it hands its table over if it is replaced: it has waited for five seconds that somebody hands one to it."""
        self._until(lambda: re.search(r"resync_timeout=<PAST>", self.ask("show peers")))

    def ask(self, command: str) -> str:
        """Its admin socket; empty while it does not listen."""
        try:
            with socket.socket(socket.AF_UNIX) as admin:
                admin.connect(str(self.folder / "s"))
                admin.sendall(f"{command}\n".encode())
                return b"".join(iter(lambda: admin.recv(65536), b"")).decode()
        except OSError:
            return ""

    @staticmethod
    def _until(holds: Any) -> None:
        until = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.fixture
def proxy(tmp_path) -> Iterator[Proxy]:
    """Before three of four replicas."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Replica) for _ in range(4)]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    proxy = Proxy(tmp_path, servers)
    try:
        proxy.start(0, 1, 2)
        yield proxy
    finally:
        for child in proxy.children:
            child.kill()
            child.wait()
        for server in servers:
            server.shutdown()
            server.server_close()


def call(client: httpx.Client, proxy: Proxy, identity: str, *, starts: bool = False) -> dict[str, Any]:
    """One call by headers: who answered, and what he was told."""
    headers = {"x-sequence-id": identity} | ({"x-sequence-start": "1"} if starts else {})
    told: dict[str, Any] = client.post(proxy.url, content=b"{}", headers=headers).json()
    return told


def test_the_calls_of_a_sequence_reach_one_replica(proxy):
    """And sequences are spread; each start has a word of its own, whatever a caller says of it."""
    with httpx.Client() as client:
        begun = {f"s{n}": call(client, proxy, f"s{n}", starts=True) for n in range(30)}
        assert len({told["port"] for told in begun.values()}) == 3
        assert len({told[SEQUENCE] for told in begun.values()}) == 30
        for identity, told in begun.items():
            again = call(client, proxy, identity)
            assert (again["port"], again[SEQUENCE]) == (told["port"], told[SEQUENCE])
        assert call(client, proxy, "s0", starts=True)[SEQUENCE] != begun["s0"][SEQUENCE]
        assert call(client, proxy, "never begun")[SEQUENCE] == "0"
        free_of = client.post(proxy.url, content=b"{}").json()
        assert (free_of["x-sequence-id"], free_of[SEQUENCE]) == (None, None)


@pytest.mark.parametrize("binary", [0, 30_000])
def test_a_sequence_is_found_in_the_body_of_a_v2_call(proxy, binary):
    """Its id and its start, also before binary data, and also where the id would be more than one header."""
    evil = "a\r\nx-evil: 1"
    with httpx.Client() as client:

        def infer(identity: object, **more: object) -> dict[str, Any]:
            said = {"inputs": [{"data": list(range(100))}], "parameters": {"sequence_id": identity, **more}}
            told: dict[str, Any] = client.post(f"{proxy.url}/infer", content=json.dumps(said).encode() + b"\xff{" * binary).json()
            return told

        first = infer(77, sequence_start=True)
        assert (first["x-sequence-id"], first["x-sequence-start"]) == ("77", "1")
        assert [call(client, proxy, "77")["port"] for _ in range(5)] == [first["port"]] * 5
        assert infer(77)[SEQUENCE] == first[SEQUENCE]
        assert infer(evil)["x-sequence-id"] == "a%0D%0Ax-evil%3A%201"


def test_a_sequence_stays_on_its_replica_when_others_come_and_go(proxy):
    """While callers call: HAProxy is started anew for each change, and hands over what it knows."""
    proxy.until_settled()
    lost: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    count = 0
    is_over = threading.Event()

    def follow(key: str) -> None:
        nonlocal count
        number = 0
        with httpx.Client(transport=httpx.HTTPTransport(retries=3)) as client:
            while not is_over.is_set():
                number += 1
                first = call(client, proxy, f"{key}{number}", starts=True)
                for _ in range(20):
                    told = call(client, proxy, f"{key}{number}")
                    count += 1
                    if (told["port"], told[SEQUENCE]) != (first["port"], first[SEQUENCE]):
                        lost.append((key, first, told))
                        break

    callers = [threading.Thread(target=follow, args=(key,)) for key in "ab"]
    for caller in callers:
        caller.start()
    for which in ((0, 1, 2, 3), (3, 2, 1, 0), (0, 1, 2, 3)):
        before, again = count, time.monotonic() + APART_S
        proxy.start(*which)
        proxy._until(lambda before=before, again=again: count > before + 60 and time.monotonic() > again)
    is_over.set()
    for caller in callers:
        caller.join()
    assert not lost
