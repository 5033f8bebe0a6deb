"""A file goes from the page cache to the socket, as long as its client takes it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest

from runtime.http.transport import file_sender, peer
from runtime.http.transport.protocol import UVICORN
from tests.in_process import serving

MB = 1 << 20


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that serves."""
    return "asyncio"


class Sender:
    """An application that answers each request with a file.

    Attributes:
        results: what sending came to, by request.
        ahead: what was to be read before it was sent.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.results: list[bool | None] = []
        self.ahead: list[tuple[int, int]] = []
        self._path = path
        self._size = size

    async def __call__(self, scope, receive, send) -> None:
        headers = [(b"content-length", b"%d" % self._size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await asyncio.sleep(0)
        with self._path.open("rb") as file:
            can = file_sender.can_send_files(send)
            self.results.append(
                await file_sender.send_file(send, file.fileno(), 0, self._size, self._read_ahead)
                if can
                else None
            )

    async def _read_ahead(self, start: int, stop: int) -> None:
        self.ahead.append((start, stop))


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that has asked, and takes little by itself."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=client, limit=4096)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    return reader, writer


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, MB, 3 * MB + 1, 20 * MB])
async def test_a_file_is_sent(tmp_path: Path, size: int):
    """Whole, however slowly it is taken; the connection is used again."""
    path = tmp_path / "x"
    path.write_bytes(os.urandom(size))
    app = Sender(path, size)
    async with serving(app, **UVICORN) as port:
        reader, writer = await connected(port)
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(size) == path.read_bytes()
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        writer.close()
    assert app.results[:2] == [True, True]


@pytest.mark.anyio
async def test_a_client_that_leaves(tmp_path: Path):
    """In the middle: nothing more is sent, and nothing stays open."""
    path = tmp_path / "x"
    path.write_bytes(bytes(30 * MB))
    app = Sender(path, 30 * MB)
    before = open_connections()
    async with serving(app, **UVICORN) as port:
        reader, writer = await connected(port)
        await reader.readexactly(1000)
        writer.transport.abort()
        async with asyncio.timeout(10):
            while not app.results:
                await asyncio.sleep(0.01)
    assert app.results == [False]
    async with asyncio.timeout(30):  # uvloop closes what it has at the end of a turn
        while open_connections() > before:
            await asyncio.sleep(0.01)


def open_connections() -> int:
    """Descriptors of sockets that this process has; a duplicate is one more."""
    kinds = []
    for one in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # of this listing itself
            kinds.append(str(one.readlink()))
    return sum(kind.startswith("socket:") for kind in kinds)


@pytest.mark.anyio
async def test_a_client_that_does_not_read_is_cut(tmp_path: Path, monkeypatch):
    """As one is that leaves an answer from memory unread."""
    monkeypatch.setattr(peer, "UNREAD_S", 0.2)
    monkeypatch.setattr(file_sender, "LOOK_S", 0.05)
    path = tmp_path / "x"
    path.write_bytes(bytes(30 * MB))
    app = Sender(path, 30 * MB)
    async with serving(app, **UVICORN) as port:
        protocols = []
        monkeypatch.setattr(
            peer.ReaderWatch, "begin_file", _seen(protocols, peer.ReaderWatch.begin_file)
        )
        reader, writer = await connected(port)
        await reader.readexactly(1000)
        async with asyncio.timeout(10):
            while not app.results:
                await asyncio.sleep(0.01)
        writer.close()
    assert app.results == [False]
    assert [watch.has_cut for watch in protocols] == [True]


def _seen(found, method):
    def begin_file(self) -> None:
        found.append(self)
        method(self)

    return begin_file


@pytest.mark.anyio
async def test_a_file_that_becomes_shorter(tmp_path: Path):
    """Ends before its length, and so does the connection."""
    path = tmp_path / "x"
    path.write_bytes(bytes(MB))
    app = Sender(path, 2 * MB)
    async with serving(app, **UVICORN) as port:
        reader, writer = await connected(port)
        received = b""
        while piece := await reader.read(MB):
            received += piece
        writer.close()
    assert app.results == [False]
    assert received.endswith(bytes(1000))
    assert len(received) < 2 * MB


def test_what_is_cached(tmp_path: Path):
    """A new file is, as far as its file system says."""
    path = tmp_path / "x"
    path.write_bytes(bytes(MB))
    with path.open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
            is_known = True
        except OSError:
            is_known = False
        assert file_sender.is_cached(file.fileno(), 0, MB) is is_known
    assert not file_sender.is_cached(-1, 0, MB)
