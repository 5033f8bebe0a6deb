"""A client keeps a connection while HAProxy is started anew: the process that it is connected to was
replaced, and the newest one answers. The real program, reloaded as Ray does it, before replicas
that ask for its word where there are keys (`runtime.http.transport.edge`).
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from ray.serve._private.haproxy import ServerConfig

from deployments.ingress.admin_socket import refuse_new
from deployments.ingress.haproxy.access import access_maps, write_files
from deployments.ingress.haproxy.rules import EDGE, NEWEST, SECRET
from deployments.ingress.haproxy.terms import Deployed, DeployedCors
from deployments.ray_support.secret_store import edge_secret
from runtime.declaration.access.keys import AccessKey
from tests.deployments.ingress.haproxy.proxies import (
    Replica,
    Running,
    at,
    free,
    is_listening,
    ours,
    replaced,
    replicas,
    started,
    written,
)
from tests.deployments.ingress.keyed import KEYED, PREFIXES, SECRET_OF_CALLS, Keys, ask, status_of
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow

OPEN = replace(KEYED, asks_for_keys=False)

OTHERS = [f"127.0.0.{number}" for number in range(2, 6)]
"""Addresses of clients."""


class Asking(Replica):
    """Answers what came through HAProxy, from when on keys are asked for."""

    asks = False

    def answer(self, body: bytes) -> None:
        if not self.asks or self.headers[EDGE] == edge_secret(SECRET_OF_CALLS):
            super().answer(body)
            return
        self.send_response(403)
        self.send_header("content-length", "0")
        self.end_headers()


@pytest.fixture(autouse=True)
def _nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asking, "asks", False)
    Replica.forget()
    Router.asked.clear()
    Router.may_answer.set()


class Router(Replica):
    """Says which replica has a call (Ray's `/internal/route`), once it may."""

    asked: list[str] = []  # noqa: RUF012 - emptied by a fixture
    may_answer = threading.Event()

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        """A call to be routed, which has no length."""
        self.asked.append(self.path)
        self.may_answer.wait(30)
        self.say(b'{"replica_id": "r0"}')


class Proxy:
    """HAProxy that may be reloaded.

    Args:
        folder: of its files.
        ports: of the replicas.
        host: the address of HTTP.
        own: the addresses that are this machine's, where connections are counted.

    Mutable state: ``routers``, those that the next process asks for a replica.
    """

    def __init__(self, folder: Path, ports: tuple[int, ...], host: str, own: str) -> None:
        self.folder = folder
        self.ports = ports
        self.port = free()
        self._host = host
        self._own = own
        self.routers: Sequence[ServerConfig] = ()

    def text(self, deployed: Deployed) -> str:
        """Its configuration."""
        known = written(
            self.folder, self.port, at(self.ports), host=self._host, routers=self.routers
        )
        text = ours(known, deployed)
        return text.replace("src 127.0.0.0/8 ::1", f"src {self._own}")

    @contextmanager
    def reloaded(self, before: Running, deployed: Deployed) -> Iterator[Running]:
        """Once another process has taken its place, behind which replicas ask as it does."""
        Asking.asks = deployed.asks_for_keys
        with replaced(before, self.text(deployed)) as newest:
            yield newest


@contextmanager
def running(
    folder: Path,
    deployed: Deployed,
    *,
    host: str = "127.0.0.1",
    own: str = "127.0.0.0/8",
    routers: Sequence[int] = (),
) -> Iterator[tuple[Proxy, Running]]:
    """HAProxy before two replicas.

    Args:
        host, own: as of ``Proxy``.
        routers: their ports.
    """
    with replicas(kind=Asking) as ports:
        proxy = Proxy(folder, ports, host, own)
        proxy.routers = at(routers)
        Asking.asks = deployed.asks_for_keys
        with started(folder, proxy.text(deployed), proxy.port, ports) as first:
            inner = f"{SECRET}: {SECRET_OF_CALLS}"
            wait_until(lambda: status_of(ask(first, "/f/a", inner)) == 200)
            Replica.forget()
            yield proxy, first


def know(folder: Path, *keys: AccessKey) -> None:
    """The keys of a HAProxy that starts."""
    write_files(folder, access_maps(keys, PREFIXES))


def connect(proxy: Proxy, address: str = "127.0.0.1") -> http.client.HTTPConnection:
    """A connection that has had an answer, and is not opened again."""
    client = http.client.HTTPConnection(
        "127.0.0.1", proxy.port, timeout=60, source_address=(address, 0)
    )
    client.request("GET", "/v2/health/live")
    client.getresponse().read()
    client.auto_open = 0
    return client


def call(
    client: http.client.HTTPConnection,
    headers: Mapping[str, str],
    path: str = "/f/heads",
    method: str = "POST",
) -> tuple[int, bytes]:
    """The status of a call, and its body."""
    client.request(method, path, b"", dict(headers))
    answer = client.getresponse()
    return answer.status, answer.read()


@pytest.mark.parametrize("machine", ["", "10.0.0.5"])
def test_what_was_connected_before_keys_are_turned_on_needs_one(tmp_path: Path, machine: str):
    """Whatever the client says of itself; and the processes behind do not say that HAProxy was passed
    by. In a cluster of several machines the one that was replaced has their word for its calls.
    """
    keys = Keys()
    keys.add("k")
    bearer = {"authorization": f"Bearer {keys.sent['k']}"}
    sequence = {"x-sequence-id": "7", "x-sequence-start": "1"}
    inner = {SECRET: SECRET_OF_CALLS}
    cases: list[tuple[Mapping[str, str], int]] = [
        ({}, 401),
        ({"x-api-key": "wrong"}, 401),
        (sequence, 401),
        ({EDGE: edge_secret(SECRET_OF_CALLS)}, 401),
        ({EDGE: edge_secret(SECRET_OF_CALLS), "x-wakeful-key": "k"}, 401),
        ({"x-wakeful-subject": "k", "forwarded": "for=127.0.0.1"}, 401),
        ({SECRET: "wrong"}, 401),
        (keys.headers("k"), 200),
        (bearer, 200),
        (keys.headers("k") | sequence, 200),
        (inner, 200),
    ]
    before, after = (replace(one, machine=machine) for one in (OPEN, KEYED))
    with running(tmp_path, before) as (proxy, first), ExitStack() as stack:
        clients = [stack.enter_context(closing(connect(proxy))) for _ in cases]
        curious = stack.enter_context(closing(connect(proxy)))
        know(tmp_path, *keys.known)
        with proxy.reloaded(first, after):
            status, body = call(curious, {}, "/-/routes", "GET")
            assert (status, json.loads(body)["code"]) == (503, "unavailable")
            assert "was replaced" in json.loads(body)["error"]
            found = [
                (headers, call(client, headers)[0])
                for client, (headers, _) in zip(clients, cases, strict=True)
            ]
    assert found == cases
    told = [{name.lower(): value for name, value in head} for head in Replica.heads]
    assert [head.get("x-wakeful-key") for head in told] == ["k", "k", "k", None]
    assert not any("x-api-key" in head or "authorization" in head for head in told)


def test_the_newest_process_asks_and_none_between(tmp_path: Path):
    """Two have come since: a key that was removed meanwhile opens nothing on an old connection."""
    keys = Keys()
    for name in ("former", "newer"):
        keys.add(name)
    former, newer = keys.known
    with running(tmp_path, OPEN) as (proxy, first), ExitStack() as stack:
        clients = [stack.enter_context(closing(connect(proxy))) for _ in range(3)]
        know(tmp_path, former)
        second = stack.enter_context(proxy.reloaded(first, KEYED))
        clients += [stack.enter_context(closing(connect(proxy))) for _ in range(3)]
        know(tmp_path, newer)
        stack.enter_context(proxy.reloaded(second, KEYED))
        sent = [{}, keys.headers("former"), keys.headers("newer")] * 2
        found = [call(*one)[0] for one in zip(clients, sent, strict=True)]
    assert found == [401, 401, 200] * 2


def test_once_keys_are_gone_none_is_needed(tmp_path: Path):
    """A key that is sent all the same is no fault."""
    keys = Keys()
    keys.add("k")
    know(tmp_path, *keys.known)
    with running(tmp_path, KEYED) as (proxy, first), ExitStack() as stack:
        clients = [stack.enter_context(closing(connect(proxy))) for _ in range(2)]
        with proxy.reloaded(first, OPEN):
            assert [call(clients[0], {})[0], call(clients[1], keys.headers("k"))[0]] == [200, 200]


@pytest.mark.parametrize(
    ("before", "after", "is_sent", "status"),
    [
        (OPEN, KEYED, False, 401),
        (OPEN, KEYED, True, 200),
        (KEYED, KEYED, True, 200),
        (KEYED, OPEN, True, 200),
        (OPEN, OPEN, False, 200),
    ],
)
def test_a_body_may_come_while_another_takes_over(
    tmp_path: Path, before: Deployed, after: Deployed, is_sent: bool, status: int
):
    """What was looked at with the head is looked at once more, by what the client has sent."""
    keys = Keys()
    key = keys.add("k")
    know(tmp_path, *keys.known)
    with (
        running(tmp_path, before) as (proxy, first),
        socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as client,
    ):
        line = f"x-api-key: {key}" if is_sent else "x-none: 1"
        head = ["POST /f/heads HTTP/1.1", "host: h", line, "content-length: 6", "connection: close"]
        client.sendall("\r\n".join([*head, "", "abc"]).encode())
        wait_until(lambda: "fe=http_frontend" in first.tell("show sess"))
        with proxy.reloaded(first, after):
            client.sendall(b"def")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert status_of(answer) == status
        assert [body for _, body in Replica.requests] == (["abcdef"] if status == 200 else [])


def test_where_the_newest_is_dead_no_process_answers_in_its_place(tmp_path: Path):
    """It may have asked for keys. Ray starts another; the client calls again."""
    with running(tmp_path, OPEN) as (proxy, first), closing(connect(proxy)) as client:
        know(tmp_path)
        with proxy.reloaded(first, KEYED):
            pass
        status, body = call(client, {})
        assert (status, json.loads(body)["code"]) == (503, "unavailable")
        assert Replica.requests == []


@pytest.mark.parametrize(("deployed", "status"), [(OPEN, 503), (KEYED, 401)])
def test_one_that_drains_is_the_last(tmp_path: Path, deployed: Deployed, status: int):
    """It closes its port, and still answers functions that call functions. It has the keys."""
    keys = Keys()
    keys.add("k")
    know(tmp_path, *keys.known)
    in_body = b'{"parameters": {"sequence_id": 7, "sequence_start": true}}'
    with running(tmp_path, deployed) as (proxy, first), ExitStack() as stack:
        clients = [stack.enter_context(closing(connect(proxy))) for _ in range(4)]
        assert refuse_new(tmp_path / "s") is not None
        os.kill(first.pid, signal.SIGUSR1)
        wait_until(lambda: not is_listening(first.pid))
        assert call(clients[0], {SECRET: SECRET_OF_CALLS})[0] == 200
        assert call(clients[1], {})[0] == status
        refused, body = call(clients[2], keys.headers("k"))
        assert (refused, json.loads(body)["code"]) == (503, "draining")
        clients[3].request("POST", "/f/heads/infer", in_body, {SECRET: SECRET_OF_CALLS})
        assert clients[3].getresponse().status == 200
    told = {name.lower(): value for name, value in Replica.heads[-1]}
    assert (told["x-sequence-id"], told["x-sequence-start"]) == ("7", "1")


def test_the_newest_process_counts_by_the_clients_address(tmp_path: Path):
    """Keys that are guessed; and the connections of an address are counted where it has them: all that
    are passed on come from one, which is no client.
    """
    most = 2
    bounded = replace(OPEN, host="0.0.0.0", per_address=most)
    with (
        running(tmp_path, bounded, own="127.0.0.9") as (proxy, first),
        ExitStack() as stack,
    ):
        clients = [
            stack.enter_context(closing(connect(proxy, address)))
            for address in OTHERS
            for _ in range(most)
        ]
        guesser = stack.enter_context(closing(connect(proxy, "127.0.0.7")))
        know(tmp_path)
        with proxy.reloaded(first, bounded) as second:
            for client in clients:
                client.request("POST", "/f/slow", b"")
            answers = [client.getresponse() for client in clients]
            assert [answer.read() for answer in answers] == [b"slow"] * len(clients)
            with proxy.reloaded(second, replace(bounded, asks_for_keys=True)) as third:
                assert call(guesser, {"x-api-key": "wrong"})[0] == 401
                assert "127.0.0.7 " in third.tell("show table wakeful_guesses")


def test_no_client_fills_the_newest_through_those_before(tmp_path: Path):
    """The answer is to call again, by a connection that stays: one of HTTP/2 has others under way. A
    page of another origin can read it, too.
    """
    most = 2
    bounded = replace(allowing(NEW), host="0.0.0.0", per_address=most)
    with running(tmp_path, bounded, own="127.0.0.9") as (proxy, first), ExitStack() as stack:

        def connect_more(address: str) -> list[http.client.HTTPConnection]:
            return [stack.enter_context(closing(connect(proxy, address))) for _ in range(most)]

        clients = connect_more(OTHERS[0])
        second = stack.enter_context(proxy.reloaded(first, bounded))
        clients += connect_more(OTHERS[0])
        honest = connect_more(OTHERS[1])
        stack.enter_context(proxy.reloaded(second, bounded))
        for client in (*clients, *honest):
            client.request("POST", "/f/slow", b"", {"x-request-id": "mine", "origin": NEW})
        for client in connect_more(OTHERS[0]):  # those before tell it to open others
            client.request("GET", "/f/a")
            assert client.getresponse().status == 200
        answers = [client.getresponse() for client in (*clients, *honest)]
        found = [(answer.status, answer.read()) for answer in answers]
        assert sorted(status for status, _ in found[: 2 * most]) == [200] * most + [503] * most
        assert found[2 * most :] == [(200, b"slow")] * most
        refused = next(json.loads(body) for status, body in found if status == 503)
        assert (refused["code"], refused["request_id"]) == ("unavailable", "mine")
        assert {answer.headers["access-control-allow-origin"] for answer in answers} == {NEW}


@pytest.mark.parametrize(
    ("family", "addresses", "other"),
    [
        ("TCP4", ["10.9.9.9"] * 3, "10.9.9.8"),
        ("TCP6", ["2001:db8::1", "2001:db8::2", "2001:db8::3"], "2001:db8:0:1::1"),
        ("TCP6", ["::ffff:10.9.9.9"] * 3, "::ffff:10.9.9.8"),
    ],
)
def test_what_is_passed_on_counts_for_the_address_that_it_is_said_to_have(
    tmp_path: Path, family: str, addresses: list[str], other: str
):
    """Of IPv6 for its network. The socket is this user's alone."""
    call_of = "POST /f/slow HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    bounded = replace(OPEN, host="0.0.0.0", per_address=len(addresses) - 1)
    with running(tmp_path, bounded) as _, ExitStack() as stack:
        newest = tmp_path / NEWEST
        assert stat.S_IMODE(newest.stat().st_mode) == 0o600
        clients = []
        for address in (*addresses, other):
            client = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
            client.settimeout(60)
            client.connect(str(newest))
            client.sendall(f"PROXY {family} {address} {other} 1000 80\r\n{call_of}".encode())
            clients.append(client)
        found = [status_of(b"".join(iter(lambda one=one: one.recv(4096), b""))) for one in clients]
        assert sorted(found[:-1]) == [200] * (len(addresses) - 1) + [503]
        assert found[-1] == 200


OLD, NEW = "https://old.example", "https://new.example"


def allowing(origin: str) -> Deployed:
    """Where pages of one origin may call."""
    policy = {"origins": [origin], "credentials": False, "max_age_s": 600}
    return replace(OPEN, cors=DeployedCors(policy))


@pytest.mark.parametrize(("origin", "allowed"), [(OLD, []), (NEW, [NEW])])
def test_pages_may_what_the_newest_process_says(tmp_path: Path, origin: str, allowed: list[str]):
    """Also of a preflight, which it answers itself."""
    asked = {"origin": origin, "access-control-request-method": "POST"}
    with (
        running(tmp_path, allowing(OLD)) as (proxy, first),
        closing(connect(proxy)) as preflight,
        closing(connect(proxy)) as page,
        proxy.reloaded(first, allowing(NEW)),
    ):
        preflight.request("OPTIONS", "/f/heads", headers=asked)
        answer = preflight.getresponse()
        assert (answer.status, answer.headers.get_all("vary")) == (200, ["origin"])
        assert answer.headers.get_all("access-control-allow-origin", []) == allowed
        page.request("POST", "/f/heads", b"", {"origin": origin})
        answer = page.getresponse()
        assert answer.status == (200 if allowed else 403)
        assert answer.headers.get_all("vary") == ["origin"]
        assert answer.headers.get_all("access-control-allow-origin", []) == allowed


def test_a_page_whose_body_comes_meanwhile_has_the_newest_word(tmp_path: Path):
    """What was allowed by its head is forgotten."""
    with (
        running(tmp_path, allowing(OLD)) as (proxy, first),
        socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as page,
    ):
        head = ["POST /f/heads HTTP/1.1", "host: h", f"origin: {OLD}", "content-length: 6"]
        page.sendall("\r\n".join([*head, "connection: close", "", "abc"]).encode())
        wait_until(lambda: "fe=http_frontend" in first.tell("show sess"))
        with proxy.reloaded(first, allowing(NEW)):
            page.sendall(b"def")
            answer = b"".join(iter(lambda: page.recv(4096), b""))
    assert status_of(answer) == 403
    assert b"access-control-allow-origin" not in answer
    assert answer.count(b"vary: origin") == 1


@pytest.mark.parametrize(
    ("before", "after", "status"), [("/f/ab", "/f/a", 200), ("/f/a", "/f/ab", 404)]
)
def test_what_is_hidden_is_what_the_newest_process_hides(
    tmp_path: Path, before: str, after: str, status: int
):
    """A stage that has no deployment of its own any more is there."""
    former, newer = (replace(OPEN, hidden=(prefix,)) for prefix in (before, after))
    with (
        running(tmp_path, former) as (proxy, first),
        closing(connect(proxy)) as client,
        proxy.reloaded(first, newer),
    ):
        assert call(client, {}, "/f/ab")[0] == status


def test_rays_router_is_not_asked_for_what_is_passed_on(tmp_path: Path):
    """It is the newest process's to ask, by what holds then."""
    with (
        replicas(1, Router) as ports,
        running(tmp_path, OPEN, routers=ports) as (proxy, first),
        closing(connect(proxy)) as client,
    ):
        assert Router.asked
        Router.asked.clear()
        proxy.routers = ()
        with proxy.reloaded(first, OPEN):
            assert call(client, {})[0] == 200
            assert Router.asked == []


def test_a_call_that_rays_router_has_keeps_the_process_that_asked(tmp_path: Path):
    """Its key is taken away by then, so the newest would find none."""
    keys = Keys()
    keys.add("k")
    know(tmp_path, *keys.known)
    with (
        replicas(1, Router) as ports,
        running(tmp_path, KEYED, routers=ports) as (proxy, first),
        closing(connect(proxy)) as client,
    ):
        Router.asked.clear()
        Router.may_answer.clear()
        client.request("POST", "/f/heads", b"", keys.headers("k"))
        wait_until(lambda: bool(Router.asked))
        with proxy.reloaded(first, KEYED):
            Router.may_answer.set()
            assert client.getresponse().status == 200
    told = {name.lower(): value for name, value in Replica.heads[-1]}
    assert told["x-wakeful-key"] == "k"
