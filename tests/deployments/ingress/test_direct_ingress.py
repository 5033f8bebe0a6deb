"""What is in front of Ray Serve in its processes; here, as in the proxy, there is no replica."""

from __future__ import annotations

import asyncio
import os

import httpx
import pytest
from starlette.responses import PlainTextResponse
from uvicorn import config

from deployments.ingress import middleware
from deployments.ingress.middleware import DirectIngress
from deployments.ingress.wake_signal import FOLDER, ReplayTerms, WakeSignal
from deployments.ray_support.environment import MARK
from runtime.http.transport import contract
from runtime.http.transport.assumptions import reading
from tests import in_process


@pytest.fixture
def anyio_backend():
    """The one event loop that serves."""
    return "asyncio"


async def call(serve, path: str) -> httpx.Response:
    """Through the edge to a stand-in for Serve."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(DirectIngress(serve)), base_url="http://proxy"
    ) as client:
        return await client.post(path, json={})


@pytest.mark.anyio
async def test_a_call_that_no_replica_takes_is_answered_at_the_functions_deadline(
    tmp_path, monkeypatch
):
    """Serve would hold it for ever; calls of others are left to Serve."""
    monkeypatch.setenv(MARK, str(tmp_path))
    signal = WakeSignal("/v2/models/f", ReplayTerms(0.05, 1000, 8, 4000))

    async def never(scope, receive, send):
        await asyncio.Event().wait()

    late = await call(never, "/v2/models/f")
    assert (late.status_code, late.json()["code"], late.headers["retry-after"]) == (
        504,
        "deadline_exceeded",
        "1",
    )
    assert signal.was_signalled()
    assert (await call(PlainTextResponse("in time"), "/v2/models/f")).text == "in time"
    assert (await call(PlainTextResponse("another"), "/v2/models/g")).text == "another"


@pytest.mark.anyio
async def test_a_caller_cannot_switch_serves_deadline_off():
    """Nor its watch for clients that disconnect."""
    seen = []

    async def serve(scope, receive, send):
        seen.extend(name for name, _ in scope["headers"])
        await PlainTextResponse("")(scope, receive, send)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(DirectIngress(serve)), base_url="http://proxy"
    ) as client:
        await client.get(
            "/x",
            headers={
                "x-request-timeout-seconds": "0",
                "x-request-disconnect-disabled": "?1",
                "x-other": "1",
            },
        )
    assert b"x-other" in seen
    assert not {b"x-request-timeout-seconds", b"x-request-disconnect-disabled"} & set(seen)
    assert b"x-wakeful-timeout-seconds" in seen


@pytest.mark.anyio
async def test_an_application_that_is_not_ours_is_called_once(tmp_path, monkeypatch):
    """Its code need not be pure, and its error in plain text is its own."""
    monkeypatch.setenv(MARK, str(tmp_path))
    WakeSignal("/v2/models/f", ReplayTerms(5, 1000, 8, 4000))
    calls = 0

    async def fails(scope, receive, send):
        nonlocal calls
        calls += 1
        await PlainTextResponse("its own error", 500)(scope, receive, send)

    answer = await call(fails, "/shop/order")
    assert (answer.status_code, answer.text, calls) == (500, "its own error", 1)


ENCODED = [
    ("/f/g%2Finfer", "/f/g%2Finfer", "f"),
    ("/f%2fg/infer", "/f%2fg/infer", ""),
    ("/%66/%67%2f..", "/f/g%2f..", "f"),
    ("/%66/%67/infer", "/f/g/infer", "g"),
    ("/f/g%20/infer", "/f/g /infer", "f"),
    ("/-%2Froutes", "/-%2Froutes", ""),
    ("/shop/a%20b", "/shop/a b", ""),
]
"""A path, what Serve is led by, and what of ours is woken."""


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "led", "woken"), ENCODED)
async def test_serve_leads_a_call_where_haproxy_has_led_it(tmp_path, monkeypatch, path, led, woken):
    """It would take a slash that came encoded for one, and pass the call to a function that its key
    does not open. An application that is not ours has its path as ever.
    """
    monkeypatch.setenv(MARK, str(tmp_path))
    signals = {
        name: WakeSignal(prefix, ReplayTerms(30, 1000, 8, 4000))
        for name, prefix in (("f", "/f"), ("g", "/f/g"))
    }
    for file in (tmp_path / FOLDER).iterdir():  # or a call may be of the same tick of the clock
        os.utime(file, (1, 1))
    for signal in signals.values():
        signal.was_signalled()
    seen = []

    async def serve(scope, receive, send):
        seen.append(scope["path"])
        await PlainTextResponse("served")(scope, receive, send)

    assert (await call(serve, path)).text == "served"
    assert seen == [led]
    assert [name for name, signal in signals.items() if signal.was_signalled()] == (
        [woken] if woken else []
    )


@pytest.mark.anyio
async def test_serve_leads_a_websocket_where_haproxy_has_led_it():
    """Likewise."""
    seen = []

    async def serve(scope, receive, send):
        seen.append(scope["path"])

    scope = {"type": "websocket", "path": "/f/g/ws", "raw_path": b"/f/g%2Fws", "headers": []}
    await DirectIngress(serve)(scope, None, None)
    assert seen == ["/f/g%2Fws"]


HANDSHAKE = (
    b"GET /app HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("is_ours", "request_bytes", "taken"),
    [
        (True, HANDSHAKE + b"\r\n", "http"),
        (False, HANDSHAKE + b"\r\n", "websocket"),
        (False, HANDSHAKE + b"content-length: 2\r\n\r\n{}", "http"),
        (False, HANDSHAKE.replace(b"websocket\r", b"h2c\r") + b"\r\n", "http"),
    ],
)
async def test_websockets_are_for_other_applications(monkeypatch, is_ours, request_bytes, taken):
    """A server that Ray makes reads by our protocol, and a process of ours takes none."""
    monkeypatch.setattr(middleware, "quiet_handles", lambda: None)
    monkeypatch.setattr(config, "HTTP_PROTOCOLS", dict(config.HTTP_PROTOCOLS))
    for module in (contract, reading):
        monkeypatch.setattr(module, "HTTP_PROTOCOLS", config.HTTP_PROTOCOLS)
    middleware.middlewares()
    target = middleware.DirectIngressTarget() if is_ours else object()
    monkeypatch.setattr(middleware, "_servable", lambda: target)
    asked = []

    async def app(scope, receive, send):
        asked.append(scope["type"])
        if scope["type"] == "http":
            await PlainTextResponse("done")(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async with in_process.serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_bytes)
        answer = await reader.readuntil(b"\r\n")
        writer.close()
    assert (asked, answer[9:12]) == ([taken], b"200" if taken == "http" else b"403")
