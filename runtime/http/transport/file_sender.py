"""Sends a file from disk into a connection a piece at a time: read from the page cache into memory
that is used again, and written to the socket at once, without the transport.

Theory of operation: once the head is on its way the transport has nothing to write, so its socket
may be written to. Where that is full, a duplicate of its descriptor is watched, since uvloop lets
nothing else watch one of its own, and the piece is read again. What is not in the page cache would
keep the event loop waiting for a disk: ``read_ahead`` has a thread fetch that before.

``sendfile(2)`` saves the server a copy, 0.6 ms of 10 MB, and costs the client more: pages of 4 kB
instead of buffers of 32, 0.48 of what bare Starlette answers instead of 0.67.

What this takes for granted of uvicorn: ``assumptions.shortcuts``. On a release that is otherwise,
on any other server, or where something is left to write, ``can_send_files`` is false.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import Send

from runtime.http.transport.direct_io import has_left
from runtime.http.transport.protocol import fast_cycle_of, protocol_of

PIECE: Final = 1 << 18
"""Bytes that are read and sent at once: they are in the nearest cache in between."""

MAX_AT_ONCE: Final = 1 << 20
"""Bytes that the socket is given before other work has its turn."""

LOOK_S: Final = 1.0
"""Between two looks whether a connection was closed from here, while its client takes nothing."""


def can_send_files(send: Send) -> bool:
    """Whether ``send_file`` can go on with this response, whose head was sent."""
    cycle = fast_cycle_of(send)
    return (
        cycle is not None
        and not cycle.chunked_encoding
        and cycle.response_started
        and not has_left(send)
        and cycle.transport.get_extra_info("sslcontext") is None
        and not cycle.transport.get_write_buffer_size()
    )


async def send_file(
    send: Send,
    descriptor: int,
    start: int,
    stop: int,
    read_ahead: Callable[[int, int], Awaitable[None]],
) -> bool:
    """Send bytes of a file as the rest of a response. Return False where the client has left, or
    the file is shorter: the response is not at its end then.

    Args:
        read_ahead: has these bytes of the file, from and to, read into the page cache; called
            before they are sent, where they are not there.
    """
    cycle, protocol = fast_cycle_of(send), protocol_of(send)
    assert cycle is not None  # ``can_send_files`` says so
    assert protocol is not None
    with contextlib.closing(_Sender(cycle.transport)) as sender:
        protocol.reader.begin_file()
        try:
            while start < stop:
                end = min(stop, start + MAX_AT_ONCE)
                if not is_cached(descriptor, start, end):
                    await read_ahead(start, end)
                if has_left(send) or not (sent := await sender.send(descriptor, start, end)):
                    return False
                start += sent
                cycle.expected_content_length -= sent
                await asyncio.sleep(0)
        finally:
            protocol.reader.end_file()
    if has_left(send):
        return False
    await send({"type": "http.response.body", "body": b""})
    return True


def is_cached(descriptor: int, start: int, stop: int) -> bool:
    """Whether bytes of a file are in memory, by the first and the last of them; False where the
    file system does not say.
    """
    byte = bytearray(1)
    try:
        for at in (start, stop - 1):
            os.preadv(descriptor, [byte], at, os.RWF_NOWAIT)
    except OSError:
        return False
    return True


class _Sender:
    """The socket of a transport, while that has nothing to write.

    Mutable state: ``_duplicate`` of its descriptor, made when the socket is full for the first
    time. The connection lives as long as that does.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._duplicate = -1

    async def send(self, descriptor: int, start: int, stop: int) -> int:
        """Send bytes of a file, some of those from ``start`` to ``stop``; return how many. 0: the
        connection has ended, or the file has.
        """
        sent = 0
        while not self._transport.is_closing():
            piece = _piece()[: min(PIECE, stop - start - sent)]
            try:
                read = os.preadv(descriptor, [piece], start + sent)
                sent += os.write(self._socket.fileno(), piece[:read]) if read else 0
            except BlockingIOError:
                if sent:
                    break
                await self._wait_until_writable()
            except OSError:  # the client has left, and uvicorn is to know it
                self._transport.abort()
                await asyncio.sleep(0)
            else:
                if not read or start + sent == stop:
                    break
        return sent

    async def _wait_until_writable(self) -> None:
        if self._duplicate < 0:
            self._duplicate = os.dup(self._socket.fileno())
        writable = asyncio.Event()
        self._loop.add_writer(self._duplicate, writable.set)
        try:
            async with asyncio.timeout(LOOK_S):
                await writable.wait()
        except TimeoutError:
            pass
        finally:
            self._loop.remove_writer(self._duplicate)

    def close(self) -> None:
        """Let go of the socket."""
        if self._duplicate >= 0:
            os.close(self._duplicate)


def _piece() -> memoryview:
    """What this thread reads files into: a piece is sent, or read again, before other work has its
    turn.
    """
    if not hasattr(_OF_THREAD, "piece"):
        _OF_THREAD.piece = memoryview(bytearray(PIECE))
    found: memoryview = _OF_THREAD.piece
    return found


_OF_THREAD: Final = threading.local()
