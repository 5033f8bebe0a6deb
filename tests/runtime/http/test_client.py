"""The client of our own servers: every way in which an answer may come, and the error when none
does.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from runtime.http.client import (
    AHEAD_BYTES,
    ClientResponse,
    ConnectionLost,
    ConnectionPool,
    encode_header_value,
)

pytestmark = pytest.mark.anyio

Serves = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: they call a protocol differently."""
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def serving(serves: Serves) -> AsyncIterator[ConnectionPool]:
    """A server that sends the given bytes; a pool of connections to it. No task and no connection is
    left of either.
    """
    handlers: set[asyncio.Task[None]] = set()

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        try:
            await serves(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handled, "127.0.0.1", 0)
    pool = ConnectionPool(server.sockets[0].getsockname()[:2], max_connections=4)
    try:
        yield pool
    finally:
        pool.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers)
        server.close()
        await asyncio.sleep(0.01)  # what was aborted closes in the loop's next turns


async def request(reader: asyncio.StreamReader) -> bytes:
    """Reads one, head and body; empty at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = int(
        next(
            line.split(b": ")[1]
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length: ")
        )
    )
    return head + await reader.readexactly(length)


def saying(*pieces: bytes, closes: bool = False) -> Serves:
    """Answers each request with these bytes, a moment between one piece and the next."""

    async def serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await request(reader):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)
            if closes:
                await writer.drain()
                writer.write_eof()
                break
        await reader.read()

    return serves


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX-A:  b \r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD + b"0123456789",),
        (HEAD, b"0123456789"),
        (HEAD[:5], HEAD[5:] + b"01234", b"56789"),
        tuple(bytes([byte]) for byte in HEAD + b"0123456789"),
    ],
)
async def test_an_answer_may_come_in_any_pieces(pieces: tuple[bytes, ...]) -> None:
    """And the connection is used again."""
    async with serving(saying(*pieces)) as pool:
        for _ in range(3):
            answer = await pool.post("/x", (), (b"abc",))
            assert (answer.status, answer.body, answer.headers[b"x-a"]) == (
                200,
                b"0123456789",
                b"b",
            )
        assert repr(pool).endswith("1 idle of at most 4>")


async def test_a_request_is_sent_as_it_is() -> None:
    """Its head, and its pieces one after the other, however large."""
    seen: list[bytes] = []

    async def serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with serving(serves) as pool:
        large = bytes(3_000_000)
        await pool.post(
            "/v2/models/f", [(b"x-request-id", b"a b")], (b"head", memoryview(large), b"tail")
        )
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /v2/models/f HTTP/1.1"
    assert b"x-request-id: a b" in head.split(b"\r\n")
    assert body == b"head" + large + b"tail"


async def test_a_long_answer_is_received_whole() -> None:
    """In memory that is the receiver's."""
    data = bytes(range(256)) * 20_000
    async with serving(
        saying(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
    ) as pool:
        answer = await pool.post("/x", (), ())
        assert answer.body == data
        answer.body[0] = 7


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ((b"5\r\nhello\r\n", b"6;x=y\r\n world\r\n0\r\n", b"\r\n"), b"hello world"),
        ((b"0\r\n\r\n",), b""),
    ],
)
async def test_a_chunked_answer_is_put_together(pieces: tuple[bytes, ...], body: bytes) -> None:
    """As proxies send their own."""
    async with serving(
        saying(b"HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\n", *pieces)
    ) as pool:
        answer = await pool.post("/x", (), ())
        assert (answer.status, answer.body) == (503, body)


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    """Of more bytes than a head may have, too."""
    async with serving(saying(b"HTTP/1.1 500 No\r\n\r\n", b"x" * 200_000, closes=True)) as pool:
        assert len((await pool.post("/x", (), ())).body) == 200_000
        assert "0 idle" in repr(pool)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n0123",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxx\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 70_000,
    ],
)
async def test_what_is_no_whole_answer_is_a_loss(sent: bytes) -> None:
    """And nothing is taken from that connection again."""
    async with serving(saying(sent, closes=True)) as pool:
        with pytest.raises(ConnectionLost):
            await pool.post("/x", (), ())
        assert "0 idle" in repr(pool)


async def test_no_listener_is_a_loss() -> None:
    """By the address."""
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:1"):
        await ConnectionPool(("127.0.0.1", 1), max_connections=1).post("/x", (), ())


async def test_a_connection_that_says_it_closes_is_not_used_again() -> None:
    """Nor one that answered before it had read all."""
    async with serving(
        saying(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", closes=True)
    ) as pool:
        await pool.post("/x", (), ())
        await pool.post("/x", (), ())
        assert "0 idle" in repr(pool)

    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with serving(refuses) as pool:
        assert (await pool.post("/x", (), (bytes(20_000_000),))).status == 413
        assert "0 idle" in repr(pool)


async def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    """The request goes out once more, on a new one."""
    async with serving(saying(HEAD + b"0123456789", closes=True)) as pool:
        for _ in range(3):
            assert isinstance(await pool.post("/x", (), ()), ClientResponse)


async def test_more_requests_than_connections_wait_and_a_cancelled_one_frees_its_own() -> None:
    """Its server learns that the client has gone."""
    left = asyncio.Event()

    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        if not await reader.read(1):
            left.set()

    async with serving(hangs) as pool:
        held = [asyncio.ensure_future(pool.post("/x", (), ())) for _ in range(5)]
        await asyncio.sleep(0.05)
        for one in held:
            one.cancel()
        assert all(
            isinstance(one, asyncio.CancelledError)
            for one in await asyncio.gather(*held, return_exceptions=True)
        )
        await asyncio.wait_for(left.wait(), 30)


async def test_an_answer_without_a_length_is_read_as_it_comes() -> None:
    """Its first piece before the rest is there; then the connection is used again."""
    go = asyncio.Event()

    async def serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await request(reader):
            writer.write(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nset-cookie: a\r\n"
                b"set-cookie: b\r\n\r\n3\r\nabc\r\n"
            )
            await go.wait()
            writer.write(b"2\r\nde\r\n0\r\n\r\n")

    async with serving(serves) as pool:
        for _ in range(2):
            go.clear()
            async with pool.request(b"GET", b"/x?y=%20", (), ()) as answer:
                assert answer.in_pieces
                assert [value for name, value in answer.fields if name == b"set-cookie"] == [
                    b"a",
                    b"b",
                ]
                pieces = answer.pieces()
                assert await anext(pieces) == b"abc"
                go.set()
                assert [piece async for piece in pieces] == [b"de"]
        assert "1 idle" in repr(pool)


async def test_a_stream_that_is_left_or_breaks_off_ends_its_connection() -> None:
    """What has come of it is given first."""
    async with serving(
        saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", closes=True)
    ) as pool:
        async with pool.request(b"GET", b"/", (), ()) as answer:
            assert await anext(answer.pieces()) == b"abc"
        assert "0 idle" in repr(pool)
        with pytest.raises(ConnectionLost):
            async with pool.request(b"GET", b"/", (), ()) as answer:
                assert [piece async for piece in answer.pieces()] == []
        assert "0 idle" in repr(pool)


async def test_an_error_within_a_request_ends_its_connection() -> None:
    """Though all of the answer has arrived: what the server still computes is not waited for."""
    is_over = asyncio.Event()

    async def serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 ok\r\ncontent-length: 1\r\n\r\na")
        assert await reader.read() == b""
        is_over.set()

    async with serving(serves) as pool:
        with pytest.raises(ZeroDivisionError):
            async with pool.request(b"POST", b"/", [], []):
                raise ZeroDivisionError
        async with asyncio.timeout(5):
            await is_over.wait()


async def test_an_answer_of_any_length_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces as well; to the last byte."""
    monkeypatch.setattr("runtime.http.client.MAX_RESPONSE_BYTES", 6)

    async def serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sizes = iter((3, 4))
        while await request(reader):
            writer.write(b"HTTP/1.1 200 ok\r\ntransfer-encoding: chunked\r\n\r\n")
            size = next(sizes)
            writer.write(b"3\r\nabc\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, b"a" * size))

    async with serving(serves) as pool:
        assert len((await pool.post("/", [], [])).body) == 6
        with pytest.raises(ConnectionLost):
            await pool.post("/", [], [])


async def test_a_stream_that_is_not_taken_is_held_back() -> None:
    """The sender stops once its own buffers are full too, and goes on when the stream is
    taken.
    """
    size, done = 30_000_000, asyncio.Event()

    async def serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(30):
            writer.write(bytes(size // 30))
            await writer.drain()
        done.set()
        writer.write_eof()
        await reader.read()

    async with serving(serves) as pool, pool.request(b"GET", b"/", (), ()) as answer:
        await asyncio.sleep(0.1)
        assert not done.is_set()
        assert len(answer.connection._ahead) < 2 * AHEAD_BYTES
        assert sum([len(piece) async for piece in answer.pieces()]) == size


@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content", b"304 Not Modified"])
async def test_an_answer_that_has_no_body_is_whole_with_its_head(status: bytes) -> None:
    """To HEAD, and of two statuses, whatever length it says."""
    async with serving(saying(b"HTTP/1.1 %b\r\ncontent-length: 10\r\n\r\n" % status)) as pool:
        for _ in range(2):
            async with pool.request(
                b"HEAD" if status[:3] == b"200" else b"GET", b"/", (), ()
            ) as answer:
                assert (answer.body, answer.in_pieces) == (b"", False)
        assert "1 idle" in repr(pool)


async def test_a_pool_that_was_closed_keeps_no_connection() -> None:
    """An exchange that was under way comes to its end, and its connection with it."""
    async with serving(saying(HEAD + b"0123456789")) as pool:
        async with pool.request(b"GET", b"/", (), ()) as answer:
            pool.close()
            assert answer.body == b"0123456789"
        assert "0 idle" in repr(pool)


async def test_a_socket_has_the_options_of_its_pool() -> None:
    """Set once it is connected."""
    async with serving(saying(HEAD + b"0123456789")) as pool:
        pool._options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        async with pool.request(b"GET", b"/", (), ()) as answer:
            transport = answer.connection._transport
            assert transport is not None
            assert (
                transport.get_extra_info("socket").getsockopt(
                    socket.SOL_SOCKET, socket.SO_KEEPALIVE
                )
                == 1
            )


def test_a_value_begins_no_other_header() -> None:
    """Whatever a caller's request id is."""
    assert encode_header_value("a\r\nx: y\0") == b"ax: y"
