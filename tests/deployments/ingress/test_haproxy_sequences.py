"""HAProxy keeps the calls of a sequence on their replica: the real program, on the configuration
that Ray really writes.
"""

from __future__ import annotations

import json
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

from deployments.ingress.haproxy.rules import FUNCTION, REPLICA, SEQUENCE, SEQUENCE_SCRIPT
from deployments.ingress.haproxy_config import binary
from tests.backends import Backend
from tests.deployments.ingress.haproxy.proxies import free, ours, written

pytestmark = pytest.mark.slow

RELOADS = 12
APART_S = 0.1
"""Ray waits half a second and more from one to the next."""


class Replica(Backend):
    """Says which one it is, and what it was reply of the sequence, after as long as `x-takes-s`
    says. A call with `x-held` is answered once it may be.
    """

    ill: set[int] = set()  # noqa: RUF012 - ports, emptied by the fixture
    is_held = threading.Event()
    may_answer = threading.Event()

    def do_GET(self) -> None:  # noqa: N802
        if self.server.server_address[1] in self.ill:
            self.send_error(503)
        else:
            super().do_GET()

    def answer(self, body: bytes) -> None:
        time.sleep(float(self.headers.get("x-takes-s", 0)))
        if self.headers.get("x-held"):
            self.is_held.set()
            self.may_answer.wait(30)
        reply = {
            name: self.headers[name]
            for name in ("x-sequence-id", "x-sequence-start", SEQUENCE, REPLICA)
        }
        if self.path == "/f/full":
            self.send_error(429)
            return
        self.say(json.dumps({"port": self.server.server_address[1], **reply}).encode())

    def send_response(self, code: int, message: str | None = None) -> None:
        super().send_response(code, message)
        if self.headers.get("x-behind"):  # as a replica behind Serve's proxy
            self.send_header(REPLICA, self.headers["x-behind"])


class Proxy:
    """HAProxy before four replicas, reloaded as Ray does it."""

    script = SEQUENCE_SCRIPT

    def __init__(self, folder: Path, servers: list[ThreadingHTTPServer]) -> None:
        self.folder = folder
        self.port = free()
        self.url = f"http://127.0.0.1:{self.port}/f"
        self.ports = [server.server_port for server in servers]
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self, *which: int) -> None:
        """The first process, or another that takes over from those that run."""
        servers = [ServerConfig(f"r{n}", "127.0.0.1", self.ports[n]) for n in which]
        text = ours(written(self.folder, self.port, servers))
        text = text.replace(str(SEQUENCE_SCRIPT), str(self.script))
        (self.folder / "haproxy.cfg").write_text(text)
        running = [str(child.pid) for child in self.children if child.poll() is None]
        takes_over = ["-x", str(self.folder / "s"), "-sf", *running] if running else []
        command = [binary(), "-db", "-f", str(self.folder / "haproxy.cfg"), *takes_over]
        self.children.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        self.until(lambda: f"Pid: {self.children[-1].pid}\n" in self.ask("show info"))

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
    def until(holds: Any) -> None:
        until = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.fixture
def proxy(tmp_path) -> Iterator[Proxy]:
    """Before three of four replicas."""
    Replica.ill.clear()
    Replica.is_held.clear()
    Replica.may_answer.clear()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Replica) for _ in range(4)]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    proxy = Proxy(tmp_path, servers)
    try:
        proxy.start(0, 1, 2)
        yield proxy
    finally:
        Replica.may_answer.set()
        for child in proxy.children:
            child.kill()
            child.wait()
        for server in servers:
            server.shutdown()
            server.server_close()


def call(
    client: httpx.Client,
    proxy: Proxy,
    identity: str,
    *,
    starts: bool = False,
    ends: bool = False,
    takes_s: float = 0.0,
    held: bool = False,
    path: str = "",
) -> dict[str, Any]:
    """One call by headers: the replica that answered, and its answer."""
    headers = {"x-sequence-id": identity, "x-takes-s": str(takes_s)}
    headers |= {"x-sequence-start": "1"} if starts else {}
    headers |= {"x-sequence-end": "1"} if ends else {}
    headers |= {"x-held": "1"} if held else {}
    reply: dict[str, Any] = client.post(proxy.url + path, content=b"{}", headers=headers).json()
    return reply


def same_place(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two calls reached one replica, as calls of one start."""
    return (one["port"], one[SEQUENCE]) == (other["port"], other[SEQUENCE])


def test_the_calls_of_a_sequence_reach_one_replica(proxy):
    """And sequences are spread; each start has a word of its own, whatever a caller says of it."""
    with httpx.Client(timeout=60) as client:
        begun = {f"s{n}": call(client, proxy, f"s{n}", starts=True) for n in range(30)}
        assert len({reply["port"] for reply in begun.values()}) == 3
        assert len({reply[SEQUENCE] for reply in begun.values()}) == 30
        for identity, reply in begun.items():
            assert same_place(call(client, proxy, identity), reply)
        assert call(client, proxy, "s0", starts=True)[SEQUENCE] != begun["s0"][SEQUENCE]
        assert call(client, proxy, "never begun")[SEQUENCE] == "0"
        free_of = client.post(proxy.url, content=b"{}").json()
        assert (free_of["x-sequence-id"], free_of[SEQUENCE]) == (None, None)


def test_an_id_is_the_whole_of_it_by_header_and_by_body(proxy):
    """With commas, blanks and letters of any kind; another id that shares a part of it is another
    sequence.
    """
    ids = ["a,1", "b,1", "a b", "a:1", "ä" * 60 + "1", "ä" * 60 + "2", "x" * 128]
    with httpx.Client(timeout=60) as client:

        def by_header(identity: str, *start: str) -> dict[str, Any]:
            reply: dict[str, Any] = client.post(
                proxy.url,
                content=b"{}",
                headers=[
                    (b"x-sequence-id", identity.encode()),
                    *((b"x-sequence-start", b"1") for _ in start),
                ],
            ).json()
            return reply

        def by_body(identity: str, **more: object) -> dict[str, Any]:
            body = json.dumps(
                {"inputs": [], "parameters": {"sequence_id": identity, **more}}, ensure_ascii=False
            )
            reply: dict[str, Any] = client.post(f"{proxy.url}/infer", content=body.encode()).json()
            return reply

        begun = {identity: by_header(identity, "start") for identity in ids}
        assert len({reply[SEQUENCE] for reply in begun.values()}) == len(ids)
        for identity, reply in begun.items():
            for again in (by_header(identity), by_body(identity)):
                assert same_place(again, reply), identity
        mixed = client.post(
            f"{proxy.url}/infer",
            content=b'{"parameters": {"sequence_start": true}}',
            headers={"x-sequence-id": "header, start in the body"},
        ).json()
        assert mixed["x-sequence-start"] == "1"
        assert call(client, proxy, "header, start in the body")[SEQUENCE] == mixed[SEQUENCE]


def test_only_an_answered_start_takes_a_place(proxy):
    """Calls with ids of no sequence, and starts that are refused, push out no entry."""
    with httpx.Client(timeout=60) as client:
        call(client, proxy, "mine", starts=True)
        for number in range(20):
            call(client, proxy, f"never begun {number}")
            client.post(
                f"{proxy.url}/full",
                content=b"{}",
                headers={"x-sequence-id": f"refused {number}", "x-sequence-start": "1"},
            )
        assert len((proxy.folder / "sequences.1").read_text().splitlines()) == 1


@pytest.mark.parametrize("binary", [0, 30_000])
def test_a_sequence_is_found_in_the_body_of_a_v2_call(proxy, binary):
    """Its id and its start, also before binary data, and also where the id would be more than one
    header.
    """
    evil = "a\r\nx-evil: 1"
    with httpx.Client(timeout=60) as client:

        def infer(identity: object, **more: object) -> dict[str, Any]:
            request = {
                "inputs": [{"data": list(range(100))}],
                "parameters": {"sequence_id": identity, **more},
            }
            reply: dict[str, Any] = client.post(
                f"{proxy.url}/infer", content=json.dumps(request).encode() + b"\xff{" * binary
            ).json()
            return reply

        first = infer(77, sequence_start=True)
        assert (first["x-sequence-id"], first["x-sequence-start"]) == ("77", "1")
        assert [call(client, proxy, "77")["port"] for _ in range(5)] == [first["port"]] * 5
        assert infer(77)[SEQUENCE] == first[SEQUENCE]
        assert infer(evil)["x-sequence-id"] == "a%0D%0Ax-evil%3A%201"


def test_a_sequence_stays_on_its_replica_when_others_come_and_go(proxy):
    """While clients call, some of them by a new connection each time: HAProxy is started anew for
    each change, also while starts are under way, and all processes know what each knows.
    """
    lost: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    is_over = threading.Event()

    def follow(key: str, keepalive: int) -> None:
        number = 0
        limits = httpx.Limits(max_keepalive_connections=keepalive)
        with httpx.Client(
            transport=httpx.HTTPTransport(retries=3, limits=limits), timeout=60
        ) as client:
            while not is_over.is_set():
                number += 1
                first = call(client, proxy, f"{key}{number}", starts=True, takes_s=number % 3 / 10)
                for _ in range(20):
                    is_over.wait(0.002)  # a core is left to HAProxy
                    reply = call(client, proxy, f"{key}{number}")
                    stays = first["port"] != proxy.ports[3]  # the one that comes and goes
                    if stays and not same_place(reply, first):
                        lost.append((key, first, reply))

    callers = [threading.Thread(target=follow, args=(key, n % 2)) for n, key in enumerate("abcd")]
    for caller in callers:
        caller.start()
    for number in range(RELOADS):
        time.sleep(APART_S)
        proxy.start(*((0, 1, 2, 3), (2, 1, 0), (3, 2, 1, 0), (1, 2, 0))[number % 4])
    is_over.set()
    for caller in callers:
        caller.join()
    assert not lost


def test_what_haproxy_knows_outlives_it(proxy):
    """It was killed, and another one starts."""
    with httpx.Client(transport=httpx.HTTPTransport(retries=3), timeout=60) as client:
        begun = {f"s{n}": call(client, proxy, f"s{n}", starts=True) for n in range(10)}
        proxy.children[-1].kill()
        proxy.children[-1].wait()
        proxy.start(3, 2, 1, 0)
        for identity, reply in begun.items():
            assert same_place(call(client, proxy, identity), reply)


def test_a_start_through_a_process_that_ends_is_the_last_one(proxy):
    """The other process has sent calls of the sequence on already, as of the start before."""
    with httpx.Client(timeout=60) as before, httpx.Client(timeout=60) as after:
        first = call(before, proxy, "one", starts=True)
        ended: list[dict[str, Any]] = []
        slow = threading.Thread(
            target=lambda: ended.append(call(before, proxy, "one", starts=True, held=True))
        )
        slow.start()
        assert Replica.is_held.wait(30)
        proxy.start(3, 2, 1, 0)
        assert same_place(call(after, proxy, "one"), first)
        Replica.may_answer.set()
        slow.join()
        assert len({first[SEQUENCE], ended[0][SEQUENCE]}) == 2
        assert same_place(call(after, proxy, "one"), ended[0])


def test_a_replica_that_fails_its_health_check_keeps_its_sequences(proxy):
    """It may be busy; others get what is no sequence."""
    with httpx.Client(timeout=60) as client:
        first = call(client, proxy, "one", starts=True)
        Replica.ill.add(first["port"])
        proxy.until(lambda: ",DOWN," in proxy.ask("show stat http-f 4 -1"))
        for _ in range(10):
            assert client.post(proxy.url, content=b"{}").json()["port"] != first["port"]
            assert same_place(call(client, proxy, "one"), first)


def test_a_replica_behind_serves_proxy_says_which_it_is(proxy):
    """HAProxy comes to know it later, and finds it by that name; the proxy gets the name with each
    call, and clients do not see it.
    """
    name = f"SERVE_REPLICA_f-{FUNCTION}-r3"
    with httpx.Client(transport=httpx.HTTPTransport(retries=3), timeout=60) as client:
        headers = {"x-sequence-id": "one", "x-sequence-start": "1", "x-behind": name}
        first = client.post(proxy.url, content=b"{}", headers=headers)
        assert first.json()["port"] != proxy.ports[3]
        assert REPLICA not in first.headers
        assert call(client, proxy, "one")[REPLICA] == name
        assert call(client, proxy, "one", starts=True)[REPLICA] is None
        client.post(proxy.url, content=b"{}", headers=headers)
        proxy.start(0, 1, 2, 3)
        assert call(client, proxy, "one")["port"] == proxy.ports[3]


def test_functions_of_one_backend_have_sequences_of_their_own(proxy):
    """The shared host has many; all paths of a function are one."""
    with httpx.Client(timeout=60) as client:
        a = call(client, proxy, "7", path="/a", starts=True)
        b = call(client, proxy, "7", path="/b/infer", starts=True)
        for _ in range(5):
            assert same_place(call(client, proxy, "7", path="/a/versions/1/infer"), a)
            assert same_place(call(client, proxy, "7", path="/b"), b)


def remember_few(proxy: Proxy, folder: Path) -> None:
    """Its files are full after eight lines, from the next start on."""
    script = SEQUENCE_SCRIPT.read_text()
    assert "8 * 1024 * 1024" in script
    proxy.script = folder / "short.lua"
    proxy.script.write_text(script.replace("8 * 1024 * 1024", "1000"))


def test_sequences_that_end_or_begin_again_push_out_no_other(proxy, tmp_path):
    """However many a client begins, and though the other one is not called meanwhile."""
    remember_few(proxy, tmp_path)
    with httpx.Client(transport=httpx.HTTPTransport(retries=3), timeout=60) as client:
        proxy.start(0, 1, 2)
        kept = call(client, proxy, "kept", starts=True)
        for number in range(12):
            call(client, proxy, f"s{number}", starts=True)
            call(client, proxy, f"s{number}", ends=True)
            call(client, proxy, f"both{number}", starts=True, ends=True)
        proxy.start(2, 1, 0)
        ended = {"parameters": {"sequence_id": "by body", "sequence_end": True}}
        for _ in range(12):
            call(client, proxy, "again", starts=True)
            call(client, proxy, "by body", starts=True)
            client.post(f"{proxy.url}/infer", json=ended).raise_for_status()
        assert same_place(call(client, proxy, "kept"), kept)
        assert int((proxy.folder / "sequences").read_text().split()[-1]) > 5
        files = sorted(proxy.folder.glob("sequences.*"))
        assert len(files) == 2
        assert all(file.stat().st_size < 2000 for file in files)


def test_the_last_used_sequences_are_known(proxy, tmp_path):
    """In two files of a given length; a sequence that is used does not grow old."""
    remember_few(proxy, tmp_path)
    with httpx.Client(transport=httpx.HTTPTransport(retries=3), timeout=60) as client:
        proxy.start(0, 1, 2)
        kept = call(client, proxy, "kept", starts=True)
        for number in range(60):
            reply = call(client, proxy, f"s{number}", starts=True)
            assert same_place(call(client, proxy, f"s{number}"), reply)
            assert same_place(call(client, proxy, "kept"), kept)
            if number % 20 == 0:
                proxy.start(2, 1, 0)
        assert call(client, proxy, "s0")[SEQUENCE] == "0"
        files = sorted(proxy.folder.glob("sequences.*"))
        assert len(files) == 2
        assert all(file.stat().st_size < 2000 for file in files)
