"""The client of our own servers: every way in which an answer may come, and what is said when none does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from runtime.http.client import Answer, Lost, Pool, dechunked, plain

pytestmark = pytest.mark.anyio

Serves = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: they call a protocol differently."""
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def serving(serves: Serves) -> AsyncIterator[Pool]:
    """A server that says what it is told; a pool of connections to it. Nobody and nothing is left of either."""
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
    pool = Pool(*server.sockets[0].getsockname()[:2], most=4)
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
    length = int(next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: ")))
    return head + await reader.readexactly(length)


def saying(*pieces: bytes, closes: bool = False) -> Serves:
    """Answers each request with these bytes, a moment between one piece and the next."""

    async def serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await request(reader):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.005)
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
            assert (answer.status, answer.body, answer.headers[b"x-a"]) == (200, b"0123456789", b"b")
        assert repr(pool).endswith("1 idle of at most 4>")


async def test_a_request_is_sent_as_it_is() -> None:
    """Its head, and its pieces one after the other, however large."""
    seen: list[bytes] = []

    async def serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with serving(serves) as pool:
        large = bytes(3_000_000)
        await pool.post("/v2/models/f", [(b"x-request-id", b"a b")], (b"head", memoryview(large), b"tail"))
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /v2/models/f HTTP/1.1"
    assert b"x-request-id: a b" in head.split(b"\r\n")
    assert body == b"head" + large + b"tail"


async def test_a_long_answer_is_received_whole() -> None:
    """In memory that is the receiver's."""
    data = bytes(range(256)) * 20_000
    async with serving(saying(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(data) + data)) as pool:
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
    async with serving(saying(b"HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\n", *pieces)) as pool:
        answer = await pool.post("/x", (), ())
        assert (answer.status, answer.body) == (503, body)


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    """Of more bytes than a head may have, too."""
    async with serving(saying(b"HTTP/1.1 500 No\r\n\r\n", b"x" * 200_000, closes=True)) as pool:
        assert len((await pool.post("/x", (), ())).body) == 200_000
        assert "0 idle" in repr(pool)


@pytest.mark.parametrize(
    "said",
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
async def test_what_is_no_whole_answer_is_a_loss(said: bytes) -> None:
    """And nothing is taken from that connection again."""
    async with serving(saying(said, closes=True)) as pool:
        with pytest.raises(Lost):
            await pool.post("/x", (), ())
        assert "0 idle" in repr(pool)


async def test_nobody_there_is_a_loss() -> None:
    """By the address."""
    with pytest.raises(Lost, match=r"127\.0\.0\.1:1"):
        await Pool("127.0.0.1", 1, most=1).post("/x", (), ())


async def test_a_connection_that_says_it_closes_is_not_used_again() -> None:
    """Nor one that answered before it had heard all."""
    async with serving(saying(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", closes=True)) as pool:
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
            assert isinstance(await pool.post("/x", (), ()), Answer)


async def test_more_requests_than_connections_wait_and_a_cancelled_one_frees_its_own() -> None:
    """Its server hears that nobody waits."""
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
        assert all(isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*held, return_exceptions=True))
        await asyncio.wait_for(left.wait(), 5)


def test_chunks_that_are_not_whole_are_waited_for() -> None:
    """Byte by byte."""
    whole = b"3\r\nabc\r\n0\r\n\r\n"
    assert [dechunked(whole[:size]) for size in range(len(whole))] == [None] * len(whole)
    assert dechunked(whole) == b"abc"


def test_a_value_begins_no_other_header() -> None:
    """Whatever a caller's request id is."""
    assert plain("a\r\nx: y\0") == b"ax: y"
