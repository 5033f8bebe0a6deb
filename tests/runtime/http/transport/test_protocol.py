"""HTTP/1.1 as it is read from a connection: each request once, whole, with its own headers, however
its bytes are cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from runtime.http.transport import protocol
from runtime.http.transport.protocol import UVICORN
from tests import in_process
from tests.problems import expect_values

BODY = b'{"x": 7}'
LAST = b"GET /last HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n"
GATE = "POST /gate HTTP/1.1"


class Echo:
    """Answers with what it was asked; ``/gate`` once the gate is open.

    Attributes:
        left: how many clients were seen to leave before their answer.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.left = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        assert scope["type"] == "http"
        body, more = b"", True
        headers = list(scope["headers"])
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            body += message["body"]
            more = message["more_body"]
        if scope["path"] == "/gate" and not await self._pass(receive):
            return
        seen = {
            "method": scope["method"],
            "path": scope["path"],
            "headers": [[key.decode(), value.decode("latin-1")] for key, value in headers],
            "late": len(scope["headers"]) - len(headers),
            "body": body.decode("latin-1"),
        }
        text = json.dumps(seen).encode()
        length = [(b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": text})

    async def _pass(self, receive: Any) -> bool:
        self.begun.set()
        leaving = asyncio.ensure_future(receive())
        opened = asyncio.ensure_future(self.gate.wait())
        done, _ = await asyncio.wait((leaving, opened), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        opened.cancel()
        self.left += leaving in done
        return leaving not in done


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Answers before it has read the body."""
    length = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 413, "headers": length})
    await send({"type": "http.response.body", "body": b"{}"})


class Client:
    """A connection, and what its server answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.is_reset = False

    async def send(self, data: bytes, pieces: str = "whole") -> None:
        """Write the bytes as they are to be cut."""
        cuts = {"whole": [], "in two": [len(data) // 2], "by bytes": [*range(1, len(data))]}[pieces]
        for start, end in itertools.pairwise([0, *cuts, len(data)]):
            if self.writer.is_closing():
                return  # the server needed no more
            self.writer.write(data[start:end])
            await asyncio.sleep(0.001 if len(cuts) < 2 else 0)

    async def answers(self) -> list[tuple[int, Any]]:
        """Status and JSON of each answer, until the server closes."""
        received = b""
        try:
            async with asyncio.timeout(20):
                while chunk := await self.reader.read(65536):
                    received += chunk
        except ConnectionResetError:  # it was sent more than its last request
            self.is_reset = True
        found = []
        while received:
            head, _, rest = received.partition(b"\r\n\r\n")
            status = int(head.split()[1])
            length = int(re.search(rb"content-length: (\d+)", head)[1]) if status != 100 else 0  # type: ignore[index]
            found.append((status, json.loads(rest[:length]) if length else None))
            received = rest[length:]
        return found


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Echo, Callable[[], Awaitable[Client]]]]:
    """The echo, and what connects to it."""
    echo = Echo()
    clients: list[Client] = []
    async with in_process.serving(echo, **UVICORN) as port:

        async def connect() -> Client:
            clients.append(Client(*await asyncio.open_connection("127.0.0.1", port)))
            return clients[-1]

        yield echo, connect
        echo.gate.set()
        for client in clients:
            client.writer.close()


@pytest.fixture(params=[uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """On the loop that serves, and on Python's own."""
    return request.param  # type: ignore[no-any-return]


def asked(request: bytes, pieces: str = "whole") -> list[tuple[int, Any]]:
    """What is answered to these bytes."""

    async def main() -> list[tuple[int, Any]]:
        async with serving() as (_, connect):
            client = await connect()
            await client.send(request, pieces)
            return await client.answers()

    return uvloop.run(main())  # type: ignore[no-any-return]


def a_request(
    *headers: str, body: bytes = BODY, line: str = "POST /first HTTP/1.1", chunks: bool = False
) -> bytes:
    """One, with a length or in chunks."""
    lines = [line, "Host: t", *headers]
    if chunks:
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    elif body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
UPGRADES = {
    "h2c": H2C,
    "a WebSocket": HANDSHAKE,
    "anything": ("Connection: keep-alive, Upgrade", "Upgrade: TLS/1.0, x"),
    "twice": ("Upgrade: a", "Connection: upgrade", "Upgrade: b", "X-A: 1", "X-A: 2"),
}
PIECES = ["whole", "in two", "by bytes"]


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("name", UPGRADES)
@pytest.mark.parametrize(
    ("line", "body", "chunks"),
    [
        ("POST /first HTTP/1.1", BODY, False),
        ("POST /first HTTP/1.1", BODY, True),
        ("POST /first HTTP/1.1", LAST, False),
        ("GET /first HTTP/1.1", b"", False),
        ("GET /first HTTP/1.1", BODY, False),
    ],
    ids=["POST", "in chunks", "a request as a body", "GET", "GET with a body"],
)
def test_an_upgrade_that_is_not_taken_is_ignored(
    name: str, line: str, body: bytes, chunks: bool, pieces: str
) -> None:
    """The request is answered as without it, and what follows it is the next request (RFC 9110,
    section 7.8).
    """
    request = a_request(*UPGRADES[name], line=line, body=body, chunks=chunks)
    (status, seen), (_, last) = asked(request + LAST, pieces)
    assert (status, seen["method"], seen["body"]) == (200, line[:4].strip(), body.decode())
    names = [key for key, _ in seen["headers"]]
    assert "upgrade" not in names
    assert "connection" in names
    assert last["path"] == "/last"
    if name == "twice":
        assert [value for key, value in seen["headers"] if key == "x-a"] == ["1", "2"]


def test_many_upgrades_in_one_read_cost_what_requests_cost() -> None:
    """Each is answered, in its order."""
    requests = [a_request(*H2C, line=f"POST /{n} HTTP/1.1") for n in range(500)]
    answers = asked(b"".join(requests) + LAST)
    assert [seen["path"] for _, seen in answers] == [*(f"/{n}" for n in range(500)), "/last"]


def test_a_client_that_expects_100_with_an_upgrade_gets_it() -> None:
    """Before its body is read."""
    request = a_request(*H2C, "Expect: 100-continue")

    async def main() -> list[tuple[int, Any]]:
        async with serving() as (_, connect):
            client = await connect()
            await client.send(request.removesuffix(BODY))
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(BODY + LAST)
            return await client.answers()

    first, last = uvloop.run(main())
    assert (first[1]["body"], last[1]["path"]) == (BODY.decode(), "/last")


@pytest.mark.parametrize("pieces", PIECES)
def test_what_follows_a_connect_is_for_a_tunnel_that_is_not_there(pieces: str) -> None:
    """Its answer is the last (RFC 9110, section 9.3.6). What comes once the connection has closed
    resets it, which may cost the client the answer.
    """
    answers = asked(a_request(line="CONNECT /first HTTP/1.1") + LAST, pieces)
    assert len(answers) == 1 or (pieces != "whole" and not answers)
    for status, seen in answers:
        assert (status, seen["method"], seen["body"]) == (200, "CONNECT", "")


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize(
    "trailers",
    [b"x-tenant: EVIL\r\n", b"Authorization: a\r\nupgrade: b\r\nconnection: upgrade\r\n"],
)
def test_trailers_are_no_headers(trailers: bytes, pieces: str) -> None:
    """Of no request (RFC 9110, section 6.5.1)."""
    request = a_request("x-tenant: acme", chunks=True)[:-2] + trailers + b"\r\n"
    first, last = asked(request + LAST, pieces)
    expected = [["host", "t"], ["x-tenant", "acme"], ["transfer-encoding", "chunked"]]
    assert (first[1]["headers"], first[1]["late"], first[1]["body"]) == (expected, 0, BODY.decode())
    assert last[1]["headers"] == [["host", "t"], ["connection", "close"]]


BROKEN = {
    "no method": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no header": b"GET / HTTP/1.1\r\nhost\r\n\r\n",
    "no URL": b"GET http://[ HTTP/1.1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na",
    "no chunk": b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nz\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "another host": b"GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n",
    "another coding": b"POST / HTTP/1.1\r\ntransfer-encoding: x, chunked\r\n\r\n0\r\n\r\n",
    "chunks of HTTP/1.0": b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "another version": b"GET / HTTP/2.0\r\nhost: a\r\n\r\n",
    "an upgrade with no chunk": a_request(*H2C, chunks=True).partition(b"\r\n\r\n")[0]
    + b"\r\n\r\nz\r\n",
}


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_http_is_refused_behind_what_is(name: str, pieces: str) -> None:
    """The requests before it are answered, then it is, in the error form, and nothing after it."""
    good = a_request()
    first, second, (status, error) = asked(good + good + BROKEN[name] + LAST, pieces)
    assert (first[1]["body"], second[1]["body"], status) == (BODY.decode(), BODY.decode(), 400)
    assert (error["code"], error["where"], len(error["request_id"])) == ("bad_request", "", 32)
    words = {
        "HTTP/2": ["use HTTP/1.1"], "no method": ["method"], "no URL": ["URL"],
        "two lengths": ["content-length"],
    }  # fmt: skip
    expect_values(error["error"], "HTTP/1.1", *words.get(name, ()))


def test_a_refusal_waits_for_what_is_computed(run: Callable[[Any], Any]) -> None:
    """However long it takes; what came behind the fault is not read."""

    async def main() -> list[tuple[int, Any]]:
        async with serving() as (echo, connect):
            client = await connect()
            await client.send(a_request(line="POST /gate HTTP/1.1") + a_request())
            await client.send(BROKEN["no method"])
            await echo.begun.wait()
            await client.send(LAST)
            echo.gate.set()
            return await client.answers()

    assert [status for status, _ in run(main())] == [200, 200, 400]


def test_a_body_that_breaks_behind_its_answer_ends_the_connection() -> None:
    """No second answer to one request."""

    async def main() -> bytes:
        async with in_process.serving(refuse, **UVICORN) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(a_request(chunks=True)[:-5])
            answer = await reader.readuntil(b"{}")
            writer.write(b"z\r\n")
            assert await reader.read() == b""
            writer.close()
            return answer

    assert uvloop.run(main()).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("request_line", ["POST /gate HTTP/1.1", "POST /gate HTTP/1.0"])
def test_a_client_that_ends_its_side_is_answered(
    run: Callable[[Any], Any], request_line: str
) -> None:
    """It has said all that it wants to; then the connection ends."""

    async def main() -> tuple[list[tuple[int, Any]], int]:
        async with serving() as (echo, connect):
            client = await connect()
            await client.send(a_request(line=request_line))
            client.writer.write_eof()
            await echo.begun.wait()
            asyncio.get_running_loop().call_later(0.2, echo.gate.set)
            return await client.answers(), echo.left

    answers, left = run(main())
    expected = [100, 200] if request_line.endswith("1.1") else [200]
    assert ([status for status, _ in answers], left) == (expected, 0)


def test_of_a_client_that_ends_its_side_what_is_whole_is_answered(
    run: Callable[[Any], Any],
) -> None:
    """Several requests, and the beginning of one more."""

    async def main() -> list[tuple[int, Any]]:
        async with serving() as (_, connect):
            client = await connect()
            await client.send(a_request() + a_request() + a_request()[:-1])
            client.writer.write_eof()
            return await client.answers()

    assert [status for status, _ in run(main())] == [200, 200]


@pytest.mark.parametrize("sent", [a_request()[:-1], a_request()[:20], b""])
def test_a_client_that_ends_its_side_in_a_request_has_left(
    run: Callable[[Any], Any], sent: bytes
) -> None:
    """Nothing can be answered."""

    async def main() -> bytes:
        async with serving() as (_, connect):
            client = await connect()
            await client.send(sent)
            client.writer.write_eof()
            async with asyncio.timeout(10):
                return await client.reader.read()

    assert run(main()) == b""


def test_a_client_that_leaves_is_told_from_one_that_ends_its_side(
    run: Callable[[Any], Any],
) -> None:
    """Nothing more is computed for it."""

    async def main() -> None:
        async with serving() as (echo, connect):
            client = await connect()
            await client.send(a_request(line="POST /gate HTTP/1.1"))
            await echo.begun.wait()
            client.writer.close()  # a FIN, as of `write_eof`
            async with asyncio.timeout(10):
                while not echo.left:
                    await asyncio.sleep(0.01)

    run(main())


@pytest.mark.parametrize("header", [b"x-a: %b\r\n", b"x-%b: a\r\n"])
def test_a_head_without_an_end_is_refused(run: Callable[[Any], Any], header: bytes) -> None:
    """One header that does not end, or many."""
    part = header % (b"a" * 1000)

    async def main() -> list[tuple[int, Any]]:
        async with serving() as (_, connect):
            client = await connect()
            await client.send(b"GET / HTTP/1.1\r\n")
            for _ in range(protocol.MAX_HEAD_BYTES // len(part) + 2):
                await client.send(part)
                await client.writer.drain()
            return await client.answers()

    ((status, error),) = run(main())
    assert (status, error["code"]) == (431, "bad_request")
    expect_values(error["error"], "128 KiB")


def test_a_head_that_takes_too_long_is_refused(
    run: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its first byte on; a body may take longer."""

    async def main() -> list[tuple[int, Any]]:
        async with serving() as (echo, connect):
            other, client = await connect(), await connect()
            await other.send(a_request()[:-1])
            await client.send(a_request(line=GATE))
            await echo.begun.wait()  # no connection waits for its first byte any more
            monkeypatch.setattr(protocol.RequestProtocol, "head_timeout_s", 0.1)
            echo.gate.set()
            await client.send(a_request()[:20])
            answers = await client.answers()
            await asyncio.sleep(0.15)
            await other.send(BODY[-1:] + LAST)
            assert [status for status, _ in await other.answers()] == [200, 200]
            return answers

    (first, _), (status, error) = run(main())
    assert (first, status, error["code"]) == (200, 408, "bad_request")


def test_a_connection_on_which_nothing_comes_is_closed(
    run: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word; one that has asked is kept for longer."""

    async def main() -> None:
        async with serving() as (echo, connect):
            other = await connect()
            await other.send(a_request(line=GATE))
            await echo.begun.wait()
            monkeypatch.setattr(protocol.RequestProtocol, "head_timeout_s", 0.1)
            echo.gate.set()
            client = await connect()
            async with asyncio.timeout(10):
                assert await client.reader.read() == b""
            await asyncio.sleep(0.15)
            await other.send(LAST)
            assert [status for status, _ in await other.answers()] == [200, 200]

    run(main())


def test_the_rest_of_a_body_that_was_answered_is_not_waited_for_for_ever() -> None:
    """A byte now and then keeps no connection."""

    async def main() -> None:
        async with in_process.serving(refuse, **UVICORN, timeout_keep_alive=1) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 9999\r\n\r\n")
            await reader.readuntil(b"{}")
            async with asyncio.timeout(20):
                ended = asyncio.ensure_future(reader.read())
                while not ended.done():
                    writer.write(b" ")
                    await asyncio.sleep(0.1)
                with contextlib.suppress(ConnectionResetError):
                    assert await ended == b""
            writer.close()

    uvloop.run(main())


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        (b"1;x=", b"a" * 1000),
        (b"1\r\na\r\n0\r\nx: ", b"a" * 1000),
        (b"1\r\na\r\n0\r\n", b"x: %b\r\n" % (b"a" * 1000)),
    ],
    ids=["an extension", "a trailer", "trailers"],
)
def test_what_comes_beside_a_body_without_an_end_is_refused(begin: bytes, part: bytes) -> None:
    """As a head is; the body itself may go on for as long as it is one."""
    head = b"POST /first HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n"

    async def main() -> list[tuple[int, Any]]:
        async with serving() as (_, connect):
            client = await connect()
            await client.send(head + begin)
            for _ in range(protocol.MAX_HEAD_BYTES // len(part) + 3):
                await client.send(part)
                await client.writer.drain()
            return await client.answers()

    ((status, error),) = uvloop.run(main())
    assert (status, error["code"]) == (400, "bad_request")
    expect_values(error["error"], "128 KiB", "chunk")


@pytest.mark.parametrize(
    ("size", "count", "status"),
    [
        (1, protocol.MAX_CHUNKS, 200),
        (1, protocol.MAX_CHUNKS + 2, 400),
        (protocol.LEAST_CHUNK_BYTES + 1, protocol.MAX_CHUNKS + 2, 200),
    ],
)
def test_chunks_of_few_bytes_are_few(size: int, count: int, status: int) -> None:
    """All of them together may be longer than a head."""
    head = b"POST /first HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n"
    data = head + b"%x\r\n%b\r\n" % (size, b"b" * size) * count

    async def main() -> list[tuple[int, Any]]:
        async with serving() as (_, connect):
            client = await connect()
            for start in range(0, len(data), 50_000):
                await client.send(data[start : start + 50_000])
                await client.writer.drain()
            await client.send(b"0\r\n\r\n" + LAST)
            return await client.answers()

    (found, seen), *last = uvloop.run(main())
    assert found == status
    if status == 200:
        assert len(seen["body"]) == size * count
        assert last[0][1]["path"] == "/last"
    else:
        expect_values(seen["error"], str(protocol.MAX_CHUNKS), "16 bytes")
        assert not last


def test_a_client_of_http_1_0_is_not_told_to_continue() -> None:
    """It knows no such answer (RFC 9110, section 10.1.1)."""
    request = a_request("Expect: 100-continue", line="POST /first HTTP/1.0")

    async def main() -> list[tuple[int, Any]]:
        async with serving() as (_, connect):
            client = await connect()
            await client.send(request.removesuffix(BODY))
            await client.send(BODY)
            return await client.answers()

    ((status, seen),) = uvloop.run(main())
    assert (status, seen["body"]) == (200, BODY.decode())


def test_the_log_has_one_line_for_many_refusals(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the address of a client, and how many more there were."""
    monkeypatch.setattr(protocol, "_log_refused", protocol._RefusalLog())
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            asked(BROKEN["no method"])
        monkeypatch.setattr(protocol._log_refused, "_next", 0.0)
        asked(BROKEN["no header"])
    first, second = (record.getMessage() for record in caplog.records)
    expect_values(first, "127.0.0.1:", "method")
    expect_values(second, "127.0.0.1:", "19 more")


def mutants(count: int) -> list[bytes]:
    """Requests in a row, damaged in up to two places, and a last one behind them."""
    chance = random.Random(19)
    found = []
    for _ in range(count):
        parts = [
            a_request(
                *chance.choice([(), *UPGRADES.values()]),
                body=chance.choice([b"", BODY, LAST]),
                chunks=chance.random() < 0.4,
                line=chance.choice(["POST /a HTTP/1.1", "GET /a HTTP/1.1", "PUT /a HTTP/1.1"]),
            )
            for _ in range(chance.randint(1, 3))
        ]
        data = bytearray(b"".join(parts))
        for _ in range(chance.randint(0, 2)):
            data[chance.randrange(len(data))] = chance.choice(b"\r\n\t \x00:;,/0aZ\xff")
        found.append(bytes(data) + LAST)
    return found


@pytest.mark.parametrize(
    "count", [150, pytest.param(3000, marks=[pytest.mark.full, pytest.mark.slow])]
)
def test_how_bytes_are_cut_changes_nothing(count: int) -> None:
    """The same answers to the same bytes, whole, in two and byte by byte; none is 5xx."""

    async def main() -> None:
        async with serving() as (_, connect):

            async def answers(request: bytes, pieces: str) -> list[tuple[int, Any]] | None:
                client = await connect()
                await client.send(request, pieces)
                if not client.writer.is_closing():
                    client.writer.write_eof()
                found = await client.answers()
                client.writer.close()
                answered = [
                    (status, {**seen, "request_id": ""}) for status, seen in found if status != 100
                ]
                return None if client.is_reset else answered

            compared = 0
            for request in mutants(count):
                found = await asyncio.gather(*(answers(request, pieces) for pieces in PIECES))
                whole, *cut = [one for one in found if one is not None]
                assert all(one == whole for one in cut), request
                assert {status for status, _ in whole} <= {200, 400}, request
                compared += len(cut)
            assert compared > 1.8 * count

    uvloop.run(main())
