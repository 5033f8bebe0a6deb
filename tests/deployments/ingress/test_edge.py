"""When a process of Ray's asks for the edge's secret, and what stands in front of Serve then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from deployments.ingress import edge, middleware
from deployments.ingress.edge import Edge, wants_guard
from deployments.ingress.middleware import DirectIngress, DirectIngressTarget
from deployments.ingress.wake_signal import ReplayTerms, WakeSignal
from deployments.ray_support.environment import MARK
from deployments.ray_support.secret_store import edge_secret
from runtime.http.exchange import Request, json_response
from runtime.http.transport.edge import EdgeGuard
from runtime.http.transport.protocol import UVICORN
from runtime.system.secrets import derive_secret
from runtime.system.telemetry.key_counts import KeyCounts
from tests import in_process

TOKEN = "t" * 64
INNER = derive_secret(TOKEN)
THROUGH = {"x-wakeful-edge": edge_secret(INNER)}
ALONE = {"kind": "own", "node_ip": "127.0.0.1"}


@pytest.fixture
def anyio_backend():
    """The one event loop that serves."""
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder, which is looked at each time."""
    for name, value in (
        (MARK, str(tmp_path)),
        ("RAY_AUTH_MODE", "token"),
        ("RAY_AUTH_TOKEN", TOKEN),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(edge, "LOOK_S", 0.0)
    monkeypatch.setattr(edge, "GRACE_S", 0.0)
    return tmp_path


def write(home: Path, up: Mapping[str, Any]) -> None:
    """As `up` does: a file in the place of another."""
    draft = home / "up.json.new"
    draft.write_text(json.dumps(up))
    draft.replace(home / "up.json")


@pytest.mark.parametrize(
    ("up", "is_wanted"),
    [
        (ALONE, False),
        ({**ALONE, "auth": None}, False),
        ({**ALONE, "auth": {"file": None}}, True),
        ({**ALONE, "tls": '["/c", "/k", ""]'}, False),
        ({**ALONE, "tls": '["/c", "/k", "/a"]'}, True),
        ({**ALONE, "node_ip": "10.0.0.1"}, True),
        ({"kind": "node", "node_ip": "127.0.0.1"}, True),
        ({"kind": "joined"}, True),
        ({}, True),
    ],
)
def test_a_guard_is_for_keys_for_certificates_and_for_other_machines(up, is_wanted):
    """What is not known is asked for."""
    assert wants_guard(up) is is_wanted


def test_keys_can_be_turned_on_and_off_while_a_process_runs(home):
    """And what was known holds where the file is gone, or is none."""
    write(home, ALONE)
    process = Edge()
    assert process.guard is None
    write(home, {**ALONE, "auth": {"file": None}})
    assert process.guard is not None
    (home / "up.json").unlink()
    assert process.guard is not None
    write(home, ALONE)
    assert process.guard is None
    (home / "up.json").write_text("{")
    assert process.guard is None


def test_haproxy_has_time_to_add_the_secret(home, monkeypatch):
    """Where keys are turned on while a process runs: it would refuse what HAProxy passes on. One that
    begins then is not called by an older HAProxy.
    """
    write(home, ALONE)
    process = Edge()
    assert process.guard is None
    monkeypatch.setattr(edge, "GRACE_S", 3600.0)
    write(home, {**ALONE, "auth": {"file": None}})
    assert process.guard is None
    assert Edge().guard is not None
    monkeypatch.setattr(edge, "GRACE_S", 0.0)
    assert process.guard is not None
    monkeypatch.setattr(edge, "GRACE_S", 3600.0)
    write(home, {**ALONE, "auth": {"keys": []}})
    assert process.guard is not None


def test_until_it_is_known_the_secret_is_asked_for(home):
    """A process that finds no file has begun while something else ends, or on another's word."""
    assert Edge().guard is not None
    (home / "up.json").write_text("[]")
    assert Edge().guard is not None


@pytest.mark.parametrize("without", [MARK, "RAY_AUTH_MODE"])
def test_on_a_cluster_that_up_did_not_start_nothing_is_asked(home, monkeypatch, without):
    """HAProxy may be another one there, on some machine."""
    monkeypatch.delenv(without)
    write(home, {"kind": "node"})
    assert Edge().guard is None


def test_the_file_is_read_once(home, monkeypatch):
    """And looked at once a second at most."""
    write(home, ALONE)
    process = Edge()
    assert process.guard is None
    monkeypatch.setattr(edge.json, "loads", lambda _: pytest.fail("it is read again"))
    assert process.guard is None
    monkeypatch.setattr(edge, "LOOK_S", 3600.0)
    write(home, {"kind": "node"})
    assert process.guard is None


def client_of(serve: Any) -> httpx.AsyncClient:
    """A client of a process of Serve's."""
    transport = httpx.ASGITransport(DirectIngress(serve))
    return httpx.AsyncClient(transport=transport, base_url="http://process")


@pytest.mark.anyio
async def test_the_proxy_that_holds_calls_wakes_nothing_for_what_came_past_the_edge(home):
    """Nor passes it on; its health is told to all, and what came through is held as ever."""
    write(home, {**ALONE, "auth": {"file": "keys.json"}})
    signal = WakeSignal("/v2/models/f", ReplayTerms(5, 1000, 8, 4000))
    async with client_of(PlainTextResponse("served")) as client:
        encoded = ("/v2%2Fhealth%2Flive", "/-%2Fhealthz", "/v2/health%2flive")
        for path in ("/v2/models/f", "/another", "/-/routes", "/-/healthz/..", "/", *encoded):
            for headers in ({}, {"x-wakeful-edge": INNER}, {"x-wakeful-internal": TOKEN}):
                answer = await client.post(path, json={}, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (403, "not_through_edge")
        assert not signal.was_signalled()
        for path in ("/-/healthz", "/v2/health/live"):
            assert (await client.get(path)).text == "served"
        for headers in (THROUGH, {"x-wakeful-internal": INNER}):
            answer = await client.post("/v2/models/f", json={}, headers=headers)
            assert answer.text == "served"
            assert signal.was_signalled()


@pytest.mark.anyio
async def test_a_websocket_past_the_edge_is_closed(home):
    """Of applications that are not ours."""
    write(home, {"kind": "node"})
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    ingress = DirectIngress(serve)
    scope = {"type": "websocket", "path": "/app", "headers": []}
    await ingress(scope, None, send)  # type: ignore[arg-type]
    headers = [(b"x-wakeful-edge", THROUGH["x-wakeful-edge"].encode())]
    await ingress({**scope, "headers": headers}, None, send)  # type: ignore[arg-type]
    await ingress({"type": "lifespan"}, None, send)  # type: ignore[arg-type]
    assert sent == ["websocket.close", "websocket.accept", "websocket.accept"]


class Function(DirectIngressTarget):
    """What Ray has deployed: it answers with the name of the key."""

    class Handler:
        prefix, exchanges = "/v2/models/f", 0

        def __init__(self) -> None:
            self.holds, self.goes_on = asyncio.Event(), asyncio.Event()

        def is_hot(self, target: bytes) -> bool:
            return target == self.prefix.encode()

        async def handle(self, request: Request) -> Any:
            if request.get(b"x-held"):
                self.holds.set()
                await self.goes_on.wait()
            return json_response(b'{"key": "%b"}' % request.record.key.encode())

    def __init__(self) -> None:
        self.handler: Any = self.Handler()
        self.keys = KeyCounts()


class _Context:
    def __init__(self, servable: object) -> None:
        self.servable_object = servable


@pytest.mark.anyio
async def test_a_replica_is_guarded_from_the_moment_that_keys_are_on(home, monkeypatch):
    """And knows the key of a call from then on; nothing is looked at before, nor afterwards."""
    function = Function()
    monkeypatch.setattr(middleware.serve, "get_replica_context", lambda: _Context(function))
    past = {"x-wakeful-key": "ops"}
    through = {**past, **THROUGH}
    write(home, ALONE)
    async with client_of(PlainTextResponse("Serve's own way")) as client:

        async def ask(path: str, headers: Mapping[str, str]) -> tuple[int, str]:
            answer = await client.post(path, json={}, headers=headers)
            return answer.status_code, answer.text

        path, other = "/v2/models/f", "/elsewhere"
        assert await ask(path, past) == await ask(path, through) == (200, '{"key": ""}')
        assert await ask(other, past) == (200, "Serve's own way")
        write(home, {**ALONE, "auth": {"file": None}})
        for one in (path, other):
            assert (await ask(one, past))[0] == 403
        assert await ask(path, through) == (200, '{"key": "ops"}')
        assert await ask(other, through) == (200, "Serve's own way")
        assert function.keys.read() == [("ops", "2xx", 1)]
        write(home, ALONE)
        assert await ask(path, past) == (200, '{"key": ""}')


@pytest.mark.anyio
async def test_a_replica_is_reached_by_the_path_that_haproxy_has_compared(home, monkeypatch):
    """It decides by that what a key opens: a slash that came encoded is none."""
    function = Function()
    monkeypatch.setattr(middleware.serve, "get_replica_context", lambda: _Context(function))
    write(home, ALONE)
    led: list[str] = []

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        led.append(scope["path"])
        await PlainTextResponse("Serve's own way")(scope, receive, send)

    async with client_of(serve) as client:
        for path in ("/v2/models/f", "/v2/models/f/x", "/%762/models/%66", "/v2/models/f%2Fx"):
            assert (await client.post(path, json={})).text == '{"key": ""}', path
        for path in ("/v2%2Fmodels/f", "/v2/models%2ff", "/-%2Froutes"):
            assert (await client.post(path, json={})).text == "Serve's own way", path
        assert led == ["/v2%2Fmodels/f", "/v2/models%2ff", "/-%2Froutes"]


class Connection:
    """Of a client that keeps it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, line: str = "POST /v2/models/f", *headers: str) -> None:
        """Ask for something."""
        head = [f"{line} HTTP/1.1", "host: h", "content-length: 2", *headers]
        self.writer.write(("\r\n".join(head) + "\r\n\r\n{}").encode())

    async def status(self) -> int:
        """Of the answer to it, which is read."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 30)
        lines = head.lower().split(b"\r\n")
        length = next(int(one[15:]) for one in lines if one.startswith(b"content-length:"))
        await asyncio.wait_for(self._reader.readexactly(length), 30)
        return int(head[9:12])

    async def ask(self, line: str = "POST /v2/models/f", *headers: str) -> int:
        """Ask, and return the status of the answer."""
        self.send(line, *headers)
        return await self.status()


@pytest.mark.anyio
async def test_keys_that_are_turned_on_hold_on_connections_that_are_known(home, monkeypatch):
    """From HAProxy's next look at the process's health on; also where the first call of one is under
    way. Its calls still have the short way, on which nothing is looked at.
    """
    function, passed = Function(), []
    monkeypatch.setattr(middleware.serve, "get_replica_context", lambda: _Context(function))
    write(home, ALONE)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await PlainTextResponse("healthy")(scope, receive, send)

    ingress = DirectIngress(serve)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            passed.append(scope["path"])
        await ingress(scope, receive, send)

    async with in_process.serving(app, **UVICORN) as port:
        known, held, other = [
            Connection(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(3)
        ]
        try:
            assert [await known.ask() for _ in range(3)] == [200] * 3
            held.send("POST /v2/models/f", "x-held: 1")
            await asyncio.wait_for(function.handler.holds.wait(), 30)
            write(home, {**ALONE, "auth": {"file": None}})
            assert await other.ask("GET /-/healthz") == 200
            assert await known.ask() == 403
            through = f"x-wakeful-edge: {THROUGH['x-wakeful-edge']}"
            assert await known.ask("POST /v2/models/f", through) == 200
            function.handler.goes_on.set()
            assert await held.status() == 200
            assert await held.ask() == 403
            write(home, ALONE)
            assert await other.ask("GET /-/healthz") == 200
            assert [await one.ask() for one in (known, held)] == [200, 200]
        finally:
            for one in (known, held, other):
                one.writer.close()
    calls = [path for path in passed if path != "/-/healthz"]
    assert len(calls) == 2, "the first one of each connection"


def test_the_edges_secret_is_not_the_one_of_functions():
    """Applications that are not ours see it: by it nothing passes the edge without a key."""
    secret = edge_secret(INNER)
    assert secret not in (INNER, TOKEN)
    assert EdgeGuard(secret.encode(), INNER.encode()).lets_in(
        "/", [(b"x-wakeful-edge", secret.encode())]
    )
    assert not EdgeGuard(secret.encode(), INNER.encode()).lets_in(
        "/", [(b"x-wakeful-internal", secret.encode())]
    )
