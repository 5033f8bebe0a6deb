"""The benchmark of streams: what it counts, and what it takes for whole."""

from __future__ import annotations

import asyncio

import pytest

from loadtests.bench import streaming

ITEM = b'data: {"n":%d,"text":"token "}\n\n'


@pytest.mark.parametrize(
    ("chunks", "items", "is_whole"),
    [
        ([ITEM % 0, ITEM % 1, b"event: done\ndata: {}\n\n"], 2, True),
        ([(ITEM % 0) + ITEM % 1 + b"event: done\ndata: {}\n\n"], 2, True),
        ([bytes([byte]) for byte in (ITEM % 0) + ITEM % 1 + b"event: done\ndata: {}\n\n"], 2, True),
        ([ITEM % 0, ITEM % 1], 2, False),
        ([ITEM % 0, b"event: done\ndata: {}\n\n"], 1, False),
        ([ITEM % 0, b"event: error\ndata: {}\n\n"], 1, False),
        ([], 0, False),
    ],
)
def test_a_stream_is_whole_with_all_items_and_done(chunks, items, is_whole):
    """However its bytes are cut."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def main() -> streaming.Streamed:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            return await streaming.stream(server.sockets[0].getsockname()[1], "/drip", 2)

    found = asyncio.run(main())
    assert (found.items, not found.wrong) == (items, is_whole)
    assert found.first_s <= found.whole_s
