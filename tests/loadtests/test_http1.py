"""A connection knows how far its exchange came."""

from __future__ import annotations

import asyncio

import pytest

from loadtests.http1 import BROKEN, Connection, Phase

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def exchanged(reply: bytes) -> tuple[Connection, list[bytes], BaseException | None]:
    """One exchange with a server that sends ``reply`` and closes."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply)
        await writer.drain()
        writer.close()

    failure = None
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        connection = Connection("127.0.0.1", server.sockets[0].getsockname()[1])
        try:
            await connection.exchange("POST", "/f", b"{}", {"x-request-id": "r"})
        except BROKEN as error:
            failure = error
        connection.close()
        await asyncio.sleep(0.01)
    return connection, heads, failure


@pytest.mark.parametrize(
    ("reply", "phase", "status", "body", "failure"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Phase.DONE, 200, b"{}", type(None)),
        (b"", Phase.HEAD, 0, b"", asyncio.IncompleteReadError),
        (b"HTTP/1.1 200 OK\r\nConte", Phase.HEAD, 0, b"", asyncio.IncompleteReadError),
        (b"nonsense\r\n\r\n", Phase.HEAD, 0, b"", IndexError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", Phase.BODY, 200, b"{}", asyncio.IncompleteReadError),
        (CHUNKED + b"2\r\n{}\r\n1\r\n \r\n0\r\n\r\n", Phase.DONE, 200, b"{} ", type(None)),
        (CHUNKED + b"2\r\n{}\r\n9\r\n[]", Phase.BODY, 200, b"{}[]", asyncio.IncompleteReadError),
        (CHUNKED + b"two\r\n{}\r\n", Phase.BODY, 200, b"", ValueError),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", Phase.BODY, 200, b"", ValueError),
    ],
    ids=["whole", "nothing", "half a head", "no HTTP", "half a body", "chunks", "half a chunk", "no chunks", "no length"],
)
def test_an_exchange_ends_where_it_breaks(reply: bytes, phase: Phase, status: int, body: bytes, failure: type[BaseException]) -> None:
    """What came until then is kept; the request was written once."""
    connection, heads, error = asyncio.run(exchanged(reply))
    assert (connection.phase, connection.status, connection.body, type(error)) == (phase, status, body, failure)
    (head,) = heads
    assert head.startswith(b"POST /f HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"content-length: 2\r\nx-request-id: r\r\n" in head
