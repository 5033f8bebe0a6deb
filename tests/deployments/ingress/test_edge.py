"""When a process of Ray's asks for the edge's secret, and what stands in front of Serve then."""

from __future__ import annotations

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
from runtime.system.secrets import derive_secret
from runtime.system.telemetry.key_counts import KeyCounts

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
        for path in ("/v2/models/f", "/another", "/-/routes", "/-/healthz/..", "/"):
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
    """What Ray has deployed: it answers with the path."""

    class Handler:
        prefix, exchanges = "/v2/models/f", 0

        def is_hot(self, target: bytes) -> bool:
            return False

        async def handle(self, request: Request) -> Any:
            return json_response(b'{"key": "%b"}' % request.record.key.encode())

    def __init__(self) -> None:
        self.handler = self.Handler()
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
