"""One handler, two transports: each request is answered alike by uvicorn and by a hot connection."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import RequestError
from runtime.http.asgi import AsgiApp
from runtime.http.library_handler import LibraryHandler
from runtime.http.transport import peer
from runtime.http.transport.hot_connection import MAX_BODY_BYTES, HotConnection, read_request
from runtime.http.transport.protocol import UVICORN
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings
from runtime.system.crash.quarantine import FREE, RowDecision, RowQuarantine
from tests.deployments.projects import wait_until

HERE = __name__
PREFIX = "/v2/models"
POISON = b'{"x": 666.0}'
GATE = threading.Semaphore(0)
RAN: list[float] = []


def double(x: float) -> float:
    """Twice that; some numbers are refused, or fail."""
    if x == 1:
        raise RequestError("no ones.", status=409)
    if x == 2:
        raise ValueError("two")
    if x == 3:
        raise RequestError("no threes.", status=499)
    return 2 * x


def repeat(count: int) -> str:
    """A text of that length."""
    return "a" * count


def wait(x: float) -> float:
    """The same, once the gate lets it through."""
    assert GATE.acquire(timeout=20)
    RAN.append(x)
    return x


def count(x: float) -> Iterator[float]:
    """A stream."""
    yield x


class Quarantine(RowQuarantine):
    """Refuses the poison."""

    def decide(self, call_id: int, age_s: float = 0.0) -> RowDecision:
        """By the length of its body, which is the low half of a fingerprint."""
        is_poison = call_id & 0xFFFF == len(POISON)
        return RowDecision(refused=frozenset({0})) if is_poison else FREE


class Served:
    """The functions behind uvicorn, in a thread of their own."""

    def __init__(
        self, server: uvicorn.Server, library: FunctionLibrary, handler: LibraryHandler, port: int
    ) -> None:
        self.server = server
        self.library = library
        self.handler = handler
        self.port = port

    @property
    def hot(self) -> list[HotConnection]:
        """The connections that are open and hot."""
        return [
            one for one in self.server.server_state.connections if isinstance(one, HotConnection)
        ]

    @contextlib.contextmanager
    def connection(
        self, *, is_hot: bool = False, receive_bytes: int | None = None
    ) -> Iterator[socket.socket]:
        """One, which has served a request before if it is to be hot.

        Args:
            receive_bytes: that its client's kernel takes; None: as it likes.
        """
        with socket.socket() as connection:
            connection.settimeout(20)
            if receive_bytes is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            connection.connect(("127.0.0.1", self.port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if is_hot:
                connection.sendall(b"GET /v2/models/double/ready HTTP/1.1\r\nhost: t\r\n\r\n")
                assert read(connection).startswith(b"HTTP/1.1 200")
                ours = connection.getsockname()
                wait_until(lambda: any(one.inner.client == ours for one in self.hot))
            yield connection

    @property
    def is_idle(self) -> bool:
        """Whether no call is there, and nothing of one."""
        return (self.handler.exchanges, self.handler.body_budget.held) == (0, 0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """On uvloop, as everywhere."""
    with serving(tmp_path_factory.mktemp("transports"), UVICORN) as one:
        yield one


@contextlib.contextmanager
def serving(root: Path, options: Mapping[str, Any]) -> Iterator[Served]:
    """By a server with these options of ``uvicorn.Config``."""
    started = threading.Event()
    found: list[Served] = []
    thread = threading.Thread(
        target=lambda: uvicorn_run(serve(root, found, started, options)), name="server", daemon=True
    )
    thread.start()
    assert started.wait(60)
    (one,) = found
    yield one
    one.server.should_exit = True
    thread.join(20)


def uvicorn_run(main: Any) -> None:
    """On uvloop."""
    import uvloop

    uvloop.run(main)


async def serve(
    root: Path, found: list[Served], started: threading.Event, options: Mapping[str, Any]
) -> None:
    """Until it has to exit."""
    limits = {"max_body_bytes": 40_000, "max_rows": 4}
    declared = [
        DeclaredFunction(
            FunctionSpec.from_args(
                stage,
                f"{PREFIX}/{stage}",
                {"graph": [{"stage": stage, "python": f"{HERE}:{stage}"}], "limits": limits},
            )
        )
        for stage in ("double", "repeat", "wait", "count")
    ]
    workers = Workers(2)
    library = FunctionLibrary(
        declared, Settings.read({"WAKEFUL_ROOT": str(root)}), workers=workers, budget_bytes=None
    )
    handler = LibraryHandler(library, row_quarantine=Quarantine(root))
    for name in library.entries.specs:
        await library.load(name)
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    config = uvicorn.Config(
        AsgiApp(handler), **options, lifespan="off", log_level="error", access_log=False
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    found.append(Served(server, library, handler, listener.getsockname()[1]))
    started.set()
    await running
    await library.close()
    await asyncio.to_thread(workers.close, 5.0)


def read(connection: socket.socket) -> bytes:
    """The next response, whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += (more := connection.recv(65536))
        assert more, data
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
    while len(body) < length:
        body += connection.recv(1 << 20)
    return head + b"\r\n\r\n" + body


def without_times(response: bytes) -> bytes:
    """A response without what differs from one request to the next."""
    response = re.sub(rb"dur=[\d.]+", b"dur=0", response)
    response = re.sub(rb"date: [^\r]+", b"date: now", response)
    return re.sub(rb"[0-9a-f]{32}", b"id", response)


def post(path: str, body: bytes, *headers: str, line: str = "POST {} HTTP/1.1") -> bytes:
    """A request."""
    lines = [line.format(f"{PREFIX}/{path}"), "Host: t", *headers]
    if not any(one.lower().startswith(("content-length", "transfer")) for one in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


JSON = "content-type: application/json"
TENSOR: dict[str, Any] = {"name": "x", "datatype": "FP64", "shape": [1], "data": [3.5]}


def tensors(**more: Any) -> bytes:
    """A v2 request."""
    return json.dumps({"inputs": [TENSOR], **more}).encode()


def binary() -> tuple[bytes, str]:
    """A v2 request with its tensor in binary, and the header that says where."""
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP64",
                    "shape": [1],
                    "parameters": {"binary_data_size": 8},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return head + b"\0\0\0\0\0\0\x0c@", f"inference-header-content-length: {len(head)}"


HOT = {
    "a row": post("double", b'{"x": 3.5}', JSON),
    "a row without a type": post("double", b'{"x": 3.5}'),
    "an array": post("double", b'[{"x": 3.5}, {"x": 1}, {"x": "a"}, {"x": 2}]', JSON),
    "no rows": post("double", b"[]", JSON),
    "too many rows": post("double", b"[{},{},{},{},{}]", JSON),
    "a refusal of the stage's": post("double", b'{"x": 1}', JSON),
    "a status without a name": post("double", b'{"x": 3}', JSON),
    "a stage that fails": post("double", b'{"x": 2}', JSON),
    "no JSON": post("double", b"{", JSON),
    "no object": post("double", b"7", JSON),
    "an empty body": post("double", b"", JSON),
    "another type": post("double", b'{"x": "3"}', JSON),
    "an unknown field": post("double", b'{"x": 1.5, "y": 1}', JSON),
    "a missing field": post("double", b"{}", JSON),
    "a media type that is not taken": post("double", b"x", "content-type: image/png"),
    "a compressed body": post(
        "double", gzip.compress(b'{"x": 3.5}'), JSON, "content-encoding: gzip"
    ),
    "a coding that is not read": post("double", b"x", JSON, "content-encoding: br"),
    "a compressed body that is none": post("double", b"x", JSON, "content-encoding: zstd"),
    "a bomb": post("double", gzip.compress(b" " * 50_000), JSON, "content-encoding: gzip"),
    "a form": post("double", b"x=3.5", "content-type: application/x-www-form-urlencoded"),
    "a form in parts": post(
        "double",
        b'--b\r\ncontent-disposition: form-data; name="x"\r\n\r\n3.5\r\n--b--\r\n',
        "content-type: multipart/form-data; boundary=b",
    ),
    "lines": post(
        "double", b'{"x": 3.5}\n{"x":\n\n{"x": 2}\n', "content-type: application/x-ndjson"
    ),
    "an answer in lines": post(
        "double", b'[{"x": 3.5}, {"x": 1}]', JSON, "accept: application/x-ndjson"
    ),
    "one line": post("double", b'{"x": 3.5}', JSON, "accept: application/x-ndjson"),
    "a body that is too large": post("double", b" " * 50_000, JSON),
    "an id": post("double", b'{"x": 3.5}', JSON, "X-Request-Id: mine"),
    "an id that cannot be shown": post("double", b'{"x": 1}', JSON, "x-request-id: \x80"),
    "a long id": post("double", b'{"x": 1}', JSON, f"x-request-id: {'i' * 300}"),
    "a deadline": post("double", b'{"x": 3.5}', JSON, "x-request-timeout-seconds: 5"),
    "a deadline that is over": post("double", b'{"x": 3.5}', JSON, "x-wakeful-call: 1-2-3"),
    "an age": post("double", b'{"x": 3.5}', JSON, f"x-wakeful-call: {int(time.time() * 1e6)}-1-1"),
    "a quarantined row": post("double", POISON, JSON),
    "a long answer": post("repeat", b'{"count": 900000}', JSON),
    "a longer one": post("repeat", b'{"count": 3000000}', JSON),
    "kept alive": post("double", b'{"x": 3.5}', JSON, "Connection: keep-alive"),
    "an empty header": post("double", b'{"x": 3.5}', JSON, "x-empty:"),
    "tensors": post("double/infer", tensors(id="7"), JSON),
    "tensors in binary": post("double/infer", *binary()),
    "tensors with an output that is not there": post(
        "double/infer", tensors(outputs=[{"name": "z"}]), JSON
    ),
    "tensors without data": post("double/infer", b'{"inputs": [{"name": "x"}]}', JSON),
    "tensors with a timeout": post("double/infer", tensors(parameters={"timeout": 9}), JSON),
}
"""Answered by a hot connection."""

HANDSHAKE = (
    "connection: upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
)

NOT_HOT = {
    "metadata": post("double", b"", line="GET {} HTTP/1.1"),
    "another version of HTTP": post(
        "double", b'{"x": 3.5}', "connection: keep-alive", line="POST {} HTTP/1.0"
    ),
    "another route": post("double/ready", b""),
    "a version": post("double/versions/1", b'{"x": 3.5}', JSON),
    "another method": post("double", b"", line="PUT {} HTTP/1.1"),
    "an unknown function": post("duble", b'{"x": 3.5}', JSON),
    "a query": post("double?a=1", b'{"x": 3.5}', JSON),
    "an encoded path": post("doubl%65", b'{"x": 3.5}', JSON),
    "a stream": post("count", b'{"x": 3.5}', JSON, "accept: application/json"),
    "chunks": post("double", b'a\r\n{"x": 3.5}\r\n0\r\n\r\n', "transfer-encoding: chunked"),
    "a header twice": post("double", b'{"x": 3.5}', JSON, "x-a: 1", "x-a: 2"),
    "a value with a space behind it": post("double", b'{"x": 3.5}', JSON, "x-a: 1 "),
    "an end": post("double", b'{"x": 3.5}', JSON, "connection: close"),
    "no length": b"POST /v2/models/double HTTP/1.1\r\nhost: t\r\n\r\n",
    "a length and chunks": post(
        "double",
        b'a\r\n{"x": 3.5}\r\n0\r\n\r\n',
        "content-length: 20",
        "transfer-encoding: chunked",
    ),
    "trailers": post(
        "double",
        b'a\r\n{"x": 3.5}\r\n0\r\nx-request-id: evil\r\ncontent-type: text/x\r\n\r\n',
        "transfer-encoding: chunked",
    ),
    "an upgrade": post("double", b'{"x": 3.5}', "connection: upgrade", "upgrade: h2c"),
    "an upgrade in chunks": post(
        "double",
        b'a\r\n{"x": 3.5}\r\n0\r\n\r\n',
        "transfer-encoding: chunked",
        "connection: upgrade, http2-settings",
        "upgrade: h2c",
        "http2-settings: AAMAAABkAAQAAP__",
    ),
    "a handshake": post("double", b"", *HANDSHAKE, line="GET {} HTTP/1.1"),
    "a handshake with a body": post("double", b'{"x": 3.5}', *HANDSHAKE),
    "a tunnel": post("double", b"", line="CONNECT {} HTTP/1.1"),
    "a large body": post("double", b" " * (MAX_BODY_BYTES + 1), JSON),
}
"""Left to uvicorn."""


@pytest.mark.parametrize("name", [*HOT, *NOT_HOT])
def test_both_transports_answer_alike(served: Served, name: str) -> None:
    """Byte for byte, but for ids and times."""
    request = (HOT | NOT_HOT)[name]
    with served.connection() as cold, served.connection(is_hot=True) as hot:
        (one,) = served.hot
        cold.sendall(request)
        hot.sendall(request)
        expected, found = read(cold), read(hot)
        if name in PLAIN:
            assert b'{"double":7.0}' in expected
        assert without_times(found) == without_times(expected)
        assert one.answered == (name in HOT)
        if b"connection: close" not in expected:
            hot.sendall(HOT["a row"])  # nothing is left over
            assert b'{"double":7.0}' in read(hot)
    wait_until(lambda: not served.hot)
    assert served.is_idle


PLAIN = ("trailers", "an upgrade", "an upgrade in chunks", "a handshake with a body", "chunks")
"""As ``a row``, whatever is around it."""

LAST = post("double/ready", b"", "connection: close", line="GET {} HTTP/1.1")
CUT_BYTES = 2000
"""Longer requests are not sent byte by byte."""


@pytest.mark.parametrize("name", [*HOT, *NOT_HOT])
def test_how_a_request_is_cut_changes_nothing(served: Served, name: str) -> None:
    """Whole, in two parts, byte by byte; the next request is read behind it."""
    request = (HOT | NOT_HOT)[name]

    def answers(size: int, *, is_hot: bool) -> bytes:
        with served.connection(is_hot=is_hot) as connection:
            received = b""
            with contextlib.suppress(ConnectionError):  # it has refused the rest
                for at in range(0, len(request), size):
                    connection.sendall(request[at : at + size])
                    time.sleep(0.0002)
                connection.sendall(LAST)
            with contextlib.suppress(ConnectionError):
                while more := connection.recv(1 << 20):
                    received += more
            return without_times(received)

    expected = answers(len(request), is_hot=False)
    is_last = b"connection: close" in expected.partition(b"\r\n\r\n")[0]
    assert len(re.findall(rb"HTTP/1\.1 \d", expected)) == (1 if is_last else 2)
    sizes = [len(request), len(request) // 2 + 1, 1 if len(request) < CUT_BYTES else 60_000]
    assert [answers(size, is_hot=True) for size in sizes] == [expected] * len(sizes)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_a_client_of_http_1_0_gets_no_chunks(served: Served, version: str, accept: str) -> None:
    """It knows none: a stream ends with the connection (RFC 9112, section 6.1)."""
    request = post(
        "count", b'{"x": 3.5}', "connection: close", f"accept: {accept}", line="POST {} HTTP/1.0"
    )
    with served.connection() as connection:
        connection.sendall(request.replace(b"HTTP/1.0", b"HTTP/" + version.encode()))
        received = b""
        while more := connection.recv(65536):
            received += more
    head, _, body = received.partition(b"\r\n\r\n")
    is_chunked = version == "1.1" and accept.startswith("text")
    assert (b"transfer-encoding: chunked" in head) == is_chunked
    if not is_chunked:
        assert body.startswith(b'[{"count":3.5' if "json" in accept else b'data: {"count":3.5}\n')
        assert "json" in accept or b"event: done" in body


def test_a_connection_that_asks_for_a_websocket_leaves_nothing(served: Served) -> None:
    """It is known to the server as any other, to its end."""
    with served.connection(is_hot=True) as connection:
        connection.sendall(NOT_HOT["a handshake"])
        assert read(connection).startswith(b"HTTP/1.1 200")
        assert len(served.hot) == 1
    wait_until(lambda: not served.server.server_state.connections)


def test_what_comes_while_a_call_is_computed_stays_in_the_sockets(served: Served) -> None:
    """Of a client that sends on and on, next to nothing is read."""
    with served.connection(is_hot=True) as connection:
        (hot,) = served.hot
        connection.sendall(post("wait", b'{"x": 1}'))
        wait_until(lambda: hot.is_at_work)
        connection.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < MUCH_BYTES:
                sent += connection.send(HOT["a row"] * 500)
        GATE.release()
        assert sent < MUCH_BYTES
    wait_until(lambda: not served.hot)


MUCH_BYTES = 32 << 20
"""More than the sockets between a client and its server hold."""


@pytest.mark.parametrize("is_hot", [False, True])
def test_a_client_that_ends_its_side_is_answered(served: Served, is_hot: bool) -> None:
    """By either transport, with what had come before; then the connection ends."""
    with served.connection(is_hot=is_hot) as connection:
        connection.sendall(post("wait", b'{"x": 1}'))
        wait_until(lambda: served.handler.exchanges == 1)
        connection.sendall(HOT["a row"] + NOT_HOT["metadata"])
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        GATE.release()
        received = b""
        while more := connection.recv(65536):
            received += more
    statuses = [int(one) for one in re.findall(rb"HTTP/1\.1 (\d+)", received)]
    assert [status for status in statuses if status != 100] == [200, 200, 200]
    assert b'{"double":7.0}' in received
    wait_until(lambda: not served.server.server_state.connections)


@pytest.mark.parametrize("is_hot", [False, True])
@pytest.mark.parametrize(
    ("count", "more"), [(30_000_000, ()), (30_000_000, ("connection: close",)), (5_000_000, ())]
)
def test_a_client_that_does_not_read_its_answer_is_cut_off(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    is_hot: bool,
    count: int,
    more: tuple[str, ...],
) -> None:
    """And gives back what its call holds; it is counted as what it is."""
    monkeypatch.setattr(peer, "UNREAD_S", 0.2)
    counters = served.library.counters.of("repeat")
    before = counters.calls.codes.get(499, 0)
    with served.connection(is_hot=is_hot, receive_bytes=4096) as connection:
        connection.sendall(post("repeat", b'{"count": %d}' % count, *more))
        wait_until(lambda: counters.calls.codes.get(499, 0) == before + 1)
        assert counters.calls.errors["answer_not_read"]
        wait_until(lambda: served.is_idle)
        wait_until(lambda: not served.server.server_state.connections)


@pytest.mark.slow
@pytest.mark.parametrize("is_hot", [False, True])
def test_a_slow_client_that_reads_is_answered_whole(
    served: Served, monkeypatch: pytest.MonkeyPatch, is_hot: bool
) -> None:
    """In several times the time that it may pause."""
    monkeypatch.setattr(peer, "UNREAD_S", 0.25)
    count, began = 6_000_000, time.monotonic()
    with served.connection(is_hot=is_hot, receive_bytes=16384) as connection:
        connection.sendall(post("repeat", b'{"count": %d}' % count, "connection: close"))
        size = 0
        while more := connection.recv(50_000):
            size += len(more)
            if size < 2_000_000:
                time.sleep(0.02)
    assert size > count
    assert time.monotonic() - began > 3 * peer.UNREAD_S


def test_requests_that_come_together_are_answered_in_their_order(served: Served) -> None:
    """Whichever transport they are for."""
    with served.connection(is_hot=True) as connection:
        connection.sendall(HOT["a row"] + NOT_HOT["metadata"] + HOT["an id"])
        assert b'{"double":7.0}' in read_one(connection)
        assert b'"platform"' in read_one(connection)
        assert b"x-request-id: mine" in read_one(connection)


def read_one(connection: socket.socket) -> bytes:
    """The next response, and no byte of the one after it."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += connection.recv(1)
    length = int(re.search(rb"content-length: (\d+)", data)[1])  # type: ignore[index]
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return data + body


def test_a_request_that_comes_while_another_is_computed_waits(served: Served) -> None:
    """On the same connection; the answers come in their order."""
    with served.connection(is_hot=True) as connection:
        (hot,) = served.hot
        connection.sendall(post("wait", b'{"x": 1}'))
        wait_until(lambda: hot.is_at_work)
        connection.sendall(HOT["a row"])
        time.sleep(0.05)
        GATE.release()
        assert b'{"wait":1.0}' in read_one(connection)
        assert b'{"double":7.0}' in read_one(connection)


@pytest.mark.parametrize("at", [5, 60, -3])
def test_a_request_in_two_parts_is_answered(served: Served, at: int) -> None:
    """By uvicorn; the next one is hot again."""
    request = HOT["a row"]
    with served.connection(is_hot=True) as connection:
        (hot,) = served.hot
        connection.sendall(request[:at])
        time.sleep(0.05)
        connection.sendall(request[at:])
        assert b'{"double":7.0}' in read(connection)
        connection.sendall(request)
        assert b'{"double":7.0}' in read(connection)
        assert hot.answered == 1


@pytest.mark.parametrize(
    "begin",
    [
        post("double", b"", "content-length: 60000"),
        post("double", b"", "content-length: 500", "content-encoding: br"),
        b"GET /v2/models/double HTTP/1.1\r\nx-a: ",
        NOT_HOT["metadata"] + b"GET /v2/models/double HTTP/1.1\r\nx-a: ",
    ],
    ids=["a body that is refused", "another one", "a head", "a head behind a request"],
)
def test_what_belongs_to_a_request_is_no_other_one(served: Served, begin: bytes) -> None:
    """A request within the rest of a body, or of a head, is not answered."""
    with served.connection(is_hot=True) as connection:
        (hot,) = served.hot
        connection.sendall(begin)
        if not begin.endswith(b"x-a: "):
            assert read(connection).startswith((b"HTTP/1.1 413", b"HTTP/1.1 415"))
        elif begin.startswith(b"GET /v2/models/double HTTP/1.1\r\nhost") or b"Host" in begin:
            assert read(connection).startswith(b"HTTP/1.1 200")
        time.sleep(0.05)
        connection.sendall(HOT["a row"])
        connection.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            assert b'{"double":7.0}' not in connection.recv(65536)
        assert hot.answered == 0


def test_what_is_no_http_ends_the_connection(served: Served) -> None:
    """As on any other."""
    with served.connection(is_hot=True) as connection:
        connection.sendall(b"POST /v2/models/double HTTP/1.1\r\nhost\r\n\r\n")
        assert read(connection).startswith(b"HTTP/1.1 400")
        assert connection.recv(1) == b""


def test_a_client_that_disconnects_is_not_computed(served: Served) -> None:
    """Nothing that had not begun is, and nothing of the call is left."""
    RAN.clear()
    with contextlib.ExitStack() as stack:
        for _ in range(2):  # the workers are busy
            first = stack.enter_context(served.connection(is_hot=True))
            first.sendall(post("wait", b'{"x": 1}'))
        wait_until(lambda: served.handler.exchanges == 2)
        with served.connection(is_hot=True) as leaving:
            leaving.sendall(post("wait", b'{"x": 7}'))
            wait_until(lambda: served.handler.exchanges == 3)
        wait_until(lambda: served.handler.exchanges == 2)
        GATE.release(3)
        wait_until(lambda: served.handler.exchanges == 0)
    wait_until(lambda: RAN == [1, 1])
    GATE.acquire()
    assert served.handler.body_budget.held == 0


def test_a_client_that_does_not_read_holds_up_no_other(served: Served) -> None:
    """And is answered once it reads."""
    with served.connection(is_hot=True) as slow, served.connection(is_hot=True) as other:
        slow.sendall(post("repeat", b'{"count": 30000000}'))
        time.sleep(0.3)
        other.sendall(HOT["a row"])
        assert b'{"double":7.0}' in read(other)
        assert len(read(slow)) > 30_000_000
        slow.sendall(HOT["a row"])
        assert b'{"double":7.0}' in read(slow)


@pytest.mark.slow
def test_a_fault_of_the_handler_is_answered(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alike by both transports, and the connection goes on."""

    def fail(*_: object) -> None:
        raise LookupError("broken")

    with served.connection() as cold, served.connection(is_hot=True) as hot:
        monkeypatch.setattr("runtime.http.library_handler.function_routes.route_request", fail)
        for connection in (cold, hot):
            connection.sendall(HOT["a row"])
        expected, found = read(cold), read(hot)
        assert expected.startswith(b"HTTP/1.1 500")
        assert without_times(found) == without_times(expected)
        monkeypatch.undo()
        hot.sendall(HOT["a row"])
        assert b'{"double":7.0}' in read(hot)


def test_an_idle_connection_is_closed_and_a_used_one_is_not(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After uvicorn's own time, whatever answered last."""
    with served.connection(is_hot=True) as connection:
        (hot,) = served.hot
        monkeypatch.setattr(hot.inner, "timeout_keep_alive", 0.3)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            connection.sendall(HOT["a row"])
            assert read(connection)
            time.sleep(0.05)
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "data",
    [
        post("double", b"{}")[:-1],
        post("double", b"{}") + b"P",
        post("double", b"{}", "content-length: +2"),
        post("double", b"{}", "content-length: 2", "content-length: 2"),
        post("double", b"{}", "x-a : 1"),
        post("double", b"{}", " folded"),
        post("double", b"{}", " x-a: folded"),
        post("double", b"{}", "x a: 1"),
        post("double", b"{}", "(x-a: 1"),
        post("double", b"{}", "x-a: \x00"),
        post("double", b"{}", "x-a: 1\nx-b: 2"),
        post("double", b"{}", "transfer-encoding: identity"),
        post("double", b"{}", "expect: 100-continue"),
    ],
)
def test_what_a_parser_might_read_otherwise_is_left_to_uvicorn(served: Served, data: bytes) -> None:
    """One reader of doubtful requests is enough (RFC 9112, section 11.2)."""
    assert read_request(data, served.handler) is None
    assert read_request(post("double", b"{}"), served.handler) is not None
