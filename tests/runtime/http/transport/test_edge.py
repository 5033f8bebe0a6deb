"""A process behind the edge answers what came through it, or from a function, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.http.asgi import AsgiApp
from runtime.http.catalogue.process_share import ProcessShare
from runtime.http.exchange import Request
from runtime.http.function_routes import SECRET_HEADER
from runtime.http.library_handler import LibraryHandler
from runtime.http.request_headers import callable_functions, key_name
from runtime.http.server import library_app
from runtime.http.transport.edge import EDGE_HEADER, EdgeGuard, GuardedHandler, KeyedHandler
from runtime.http.transport.protocol import UVICORN
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings
from runtime.system.telemetry.key_counts import KeyCounts
from tests import in_process

EDGE, INNER = b"e" * 64, b"i" * 64
THROUGH = b"x-wakeful-edge: " + EDGE
PATH = b"/v2/models/double"
RAN: list[float] = []


def double(x: float) -> float:
    """Twice that, and it is known that it ran."""
    RAN.append(x)
    return 2 * x


def request(
    *headers: bytes, line: bytes = b"POST " + PATH + b" HTTP/1.1", body: bytes = b'{"x": 1.5}'
) -> bytes:
    """A call; with a length, unless one of the headers says how long it is."""
    lines = [line, b"host: t", b"content-type: application/json", *headers]
    if not any(one.lower().startswith((b"content-length", b"transfer")) for one in headers):
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


CHUNKED = b"a\r\n" + b'{"x": 1.5}' + b"\r\n0\r\n" + THROUGH + b"\r\n\r\n"
HANDSHAKE = (
    b"connection: upgrade",
    b"upgrade: websocket",
    b"sec-websocket-version: 13",
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
)

PAST = {
    "nothing": request(),
    "an empty one": request(b"x-wakeful-edge:"),
    "another": request(b"x-wakeful-edge: " + b"f" * 64),
    "a part of it": request(b"x-wakeful-edge: " + EDGE[:63]),
    "more than it": request(THROUGH + b"e"),
    "twice, in one header": request(THROUGH + b", " + EDGE),
    "it as another header": request(b"x-wakeful-internal: " + EDGE),
    "the inner one as it": request(b"x-wakeful-edge: " + INNER),
    "it behind another": request(b"x-wakeful-edge: " + b"f" * 64, THROUGH),
    "with underscores": request(THROUGH.replace(b"-", b"_")),
    "with a blank before the colon": request(THROUGH.replace(b":", b" :")),
    "with a tab within": request(THROUGH.replace(b"eeee", b"e\tee", 1)),
    "folded": request(b"x-wakeful-edge:\r\n " + EDGE),
    "as a trailer": request(
        b"transfer-encoding: chunked", b"trailer: x-wakeful-edge", body=CHUNKED
    ),
    "in its body": request(body=b"\r\n" + THROUGH + b"\r\n"),
    "in its query": request(line=b"POST " + PATH + b"?x-wakeful-edge=" + EDGE + b" HTTP/1.1"),
    "a key": request(b"x-wakeful-key: ops", b"x-wakeful-functions: *", b"x-wakeful-scopes: call"),
    "that it was forwarded": request(b"x-wakeful-passed: 1"),
    "HTTP/1.0": request(line=b"POST " + PATH + b" HTTP/1.0"),
    "h2c": request(b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AA"),
    "a WebSocket": request(*HANDSHAKE, line=b"GET " + PATH + b" HTTP/1.1", body=b""),
    "a target with a host": request(line=b"POST http://t" + PATH + b" HTTP/1.1"),
    "a path from the open one": request(line=b"POST /v2/health/live/../../models/double HTTP/1.1"),
    "the same, encoded": request(line=b"POST /v2/health/live%2f..%2f..%2fmodels/double HTTP/1.1"),
    "the open path, encoded": request(line=b"GET /v2%2Fhealth%2Flive HTTP/1.1", body=b""),
    "a form of rows": request(b"content-type: application/vnd.wakeful.rows"),
    "metadata": request(line=b"GET " + PATH + b" HTTP/1.1", body=b""),
    "readiness": request(line=b"GET " + PATH + b"/ready HTTP/1.1", body=b""),
    "the index": request(line=b"GET / HTTP/1.1", body=b""),
    "the routes of other processes": request(line=b"GET /-/process/metrics HTTP/1.1", body=b""),
    "no such path": request(line=b"GET /nothing HTTP/1.1", body=b""),
    "a method of its own": request(line=b"PROPFIND " + PATH + b" HTTP/1.1"),
}
"""Requests of a client that reaches the process's port, by what it has in place of the secret."""


class Client:
    """A connection to the process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def close(self) -> None:
        """Leave."""
        self._writer.close()

    async def ask(self, data: bytes) -> tuple[int, Any]:
        """The status of the next answer, and its body; status 0: there is none."""
        self._writer.write(data)
        try:
            head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 30)
        except asyncio.IncompleteReadError:
            return 0, None
        lines = head.lower().split(b"\r\n")
        length = next(int(one[15:]) for one in lines if one.startswith(b"content-length:"))
        body = await asyncio.wait_for(self._reader.readexactly(length), 30)
        return int(head[9:12]), json.loads(body) if body.startswith(b"{") else body


Test = Callable[[Callable[[], Awaitable[Client]], FunctionLibrary], Awaitable[None]]


def behind_the_edge(root: Path, test: Test, guard: EdgeGuard | None) -> None:
    """Run a test on a process of several, whose function is loaded."""

    async def main() -> None:
        clients: list[Client] = []
        workers = Workers(1)
        spec = FunctionSpec.from_args(
            "double",
            PATH.decode(),
            {"graph": [{"stage": "double", "python": f"{__name__}:double"}]},
        )
        library = FunctionLibrary(
            [DeclaredFunction(spec)],
            Settings.read({"WAKEFUL_ROOT": str(root)}),
            workers=workers,
            budget_bytes=None,
        )
        share = ProcessShare(1, root, "/-/process", lambda _, own: own, lambda: None)
        try:
            await library.load("double")
            app = library_app(library, share=share, guard=guard)
            async with in_process.serving(app, **UVICORN) as port:

                async def connect() -> Client:
                    client = Client(*await asyncio.open_connection("127.0.0.1", port))
                    clients.append(client)
                    return client

                try:
                    await test(connect, library)
                finally:
                    for client in clients:
                        client.close()
        finally:
            await library.close()
            await asyncio.to_thread(workers.close, 5.0)

    RAN.clear()
    asyncio.run(main())


def test_what_came_past_the_edge_is_refused(tmp_path):
    """Whatever it says, on a new connection and on one that a short call has made a short way: no
    stage runs, and nothing is told of what there is. Some of it is no HTTP, and is answered so.
    """

    async def test(connect: Callable[[], Awaitable[Client]], library: FunctionLibrary) -> None:
        for what, sent in PAST.items():
            status, answer = await (await connect()).ask(sent)
            assert status in (400, 403), what
            if status == 403:
                assert answer["code"] == "not_through_edge", what
                assert "double" not in answer["error"], what
        assert not RAN
        for what, sent in PAST.items():
            client = await connect()
            for _ in range(2):  # the second is answered without the server's own way
                assert await client.ask(request(THROUGH)) == (200, {"double": 3.0}), what
            before = len(RAN)
            status, _ = await client.ask(sent)
            assert status in (400, 403), what
            assert len(RAN) == before, what

    behind_the_edge(tmp_path, test, EdgeGuard(EDGE, INNER))


def test_what_came_through_is_answered(tmp_path):
    """By either transport, with either secret; that the process lives, without."""

    async def test(connect: Callable[[], Awaitable[Client]], library: FunctionLibrary) -> None:
        for header in (
            THROUGH,
            THROUGH.upper().replace(EDGE.upper(), EDGE),
            b"x-wakeful-internal: " + INNER,
        ):
            client = await connect()
            for _ in range(3):
                assert await client.ask(request(header)) == (200, {"double": 3.0})
        live = request(line=b"GET /v2/health/live HTTP/1.1", body=b"")
        assert await (await connect()).ask(live) == (200, {"live": True})

    behind_the_edge(tmp_path, test, EdgeGuard(EDGE, INNER))


def test_without_a_guard_nothing_stands_before_the_handler(tmp_path):
    """And no header is looked at."""

    async def test(connect: Callable[[], Awaitable[Client]], library: FunctionLibrary) -> None:
        assert type(library_app(library).handler) is LibraryHandler
        client = await connect()
        for _ in range(2):
            assert await client.ask(request(b"x-wakeful-key: ops")) == (200, {"double": 3.0})
        assert not library.counters.keys.read()

    behind_the_edge(tmp_path, test, None)


def test_calls_are_counted_by_key(tmp_path):
    """Those that came through the edge: a function's call was counted where its cause was."""

    async def test(connect: Callable[[], Awaitable[Client]], library: FunctionLibrary) -> None:
        client = await connect()
        ops, inner = b"x-wakeful-key: ops", b"x-wakeful-internal: " + INNER
        for headers, body in (
            ((THROUGH, ops), b'{"x": 1.5}'),
            ((THROUGH, ops), b'{"x": 1.5}'),
            ((THROUGH, ops), b"{"),
            ((THROUGH,), b'{"x": 1.5}'),
            ((inner, ops), b'{"x": 1.5}'),
            ((ops,), b'{"x": 1.5}'),
        ):
            await client.ask(request(*headers, body=body))
        assert sorted(library.counters.keys.read()) == [("ops", "2xx", 2), ("ops", "4xx", 1)]

    behind_the_edge(tmp_path, test, EdgeGuard(EDGE, INNER))


def test_an_edge_without_a_secret_is_none():
    """Every request would have it."""
    with pytest.raises(ValueError, match="secret"):
        EdgeGuard(b"")


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ([], False),
        ([(EDGE_HEADER, EDGE)], True),
        ([(EDGE_HEADER, b"f"), (EDGE_HEADER, EDGE)], False),
        ([(EDGE_HEADER, EDGE), (EDGE_HEADER, b"f")], True),
        ([(SECRET_HEADER, INNER)], True),
        ([(SECRET_HEADER, b"")], False),
        ([(SECRET_HEADER, EDGE), (EDGE_HEADER, INNER)], False),
    ],
)
def test_of_several_headers_the_first_counts(headers, is_let_in):
    """HAProxy leaves one of each."""
    assert EdgeGuard(EDGE, INNER).lets_in("/", headers) is is_let_in
    without_inner = EdgeGuard(EDGE).lets_in("/", headers)
    assert without_inner is (is_let_in and headers[0][0] == EDGE_HEADER)


@pytest.mark.parametrize(
    ("sent", "functions"),
    [
        (None, None),
        (b"*", None),
        (b"a", {"a"}),
        (b"a,b", {"a", "b"}),
        (b"a, b,", {"a", "b"}),
        (b"", set()),
        (b",", set()),
        ("größe".encode(), {"größe"}),
        (b"*,a", {"*", "a"}),
        (b"\xff", {"�"}),
    ],
)
def test_what_a_key_may_call_is_read(sent, functions):
    """Nothing is hidden only where the edge says so, or nothing."""
    fields = {} if sent is None else {b"x-wakeful-functions": sent}
    assert callable_functions(fields) == functions


def test_a_keys_name_is_bounded():
    """A name that the edge did not write may be anything."""
    assert key_name({}) == ""
    assert key_name({b"x-wakeful-key": b"k" * 1000}) == "k" * 64


def test_what_serves_proxy_passes_on_has_its_key_too():
    """The proxy has asked for the secret; a call that comes that way is logged and counted."""

    class Handler:
        prefix, exchanges = "/p", 0

        async def handle(self, request: Request) -> None:
            assert request.record.key == request.get(b"x-wakeful-key").decode()

    counts = KeyCounts()
    keyed = KeyedHandler(Handler(), counts)  # type: ignore[arg-type]
    for headers in ([(b"x-wakeful-key", b"ops")], []):
        request = Request("POST", "/p", headers)
        asyncio.run(keyed.handle(request))
        request.record.status = 429
        request.end()
    assert counts.read() == [("ops", "4xx", 1)]


def test_a_guarded_handler_is_as_the_one_behind_it(tmp_path):
    """For what asks where it is mounted and what it has under way."""

    class Handler:
        prefix, exchanges = "/p", 3

        def is_hot(self, target: bytes) -> bool:
            return target == b"/p"

    guarded = GuardedHandler(Handler(), EdgeGuard(EDGE))  # type: ignore[arg-type]
    assert (guarded.prefix, guarded.exchanges) == ("/p", 3)
    assert [guarded.is_hot(target) for target in (b"/p", b"/q")] == [True, False]
    assert AsgiApp(guarded).handler is guarded
