"""Input and output past uvicorn, which has no public way for either: a large body straight from
the socket into the memory that its tensors are used from, and the head and the body of a response
in one write.

Reading. uvicorn takes a body in pieces of at most 256 KiB and copies each of them four times on the
way to an application, which joins them; a tensor that then lies unaligned is copied once more. For
a small body, or JSON, that is little next to the rest. A tensor of 4 MB in and out took 1.9 to 4
times what sockets and one copy take; read directly it takes 1.2 to 1.4 times that (two busy cores;
`make bench`, ``tensors``).

Writing. ASGI sends head and body as two messages, and uvicorn on uvloop writes each at once: two
system calls here, and two wakes of HAProxy and of the client, which read the head and then wait for
the body. A trivial function behind HAProxy on two cores: 150 us of processor time a call in the
replica and 50 in HAProxy with two writes, 115 and 42 with one.

Theory of operation, of reading: while a body is read, the connection's protocol is not uvicorn's
but ``_BodyProtocol``, which has the kernel write into the body's own memory and asks for no byte
beyond it, so that a request that is pipelined after it stays where it is. uvicorn's parser has not
seen the body then: at the end it is replaced by a new one, for the next request. If reading ends
early (the client disconnects, is too slow, misses its deadline or a budget is exhausted), uvicorn's
parser is fed what has arrived, piece by piece, which is thrown away, and everything goes on as if
nothing had been.

What this takes for granted of uvicorn: ``assumptions.shortcuts``. On a release that is otherwise,
and on any other server, ``can_read_directly`` is false, and messages are sent as they are.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Final

import numpy as np
from starlette.types import Message, Receive, Send

from runtime.http.transport.hot_connection import HotConnection
from runtime.http.transport.protocol import RequestProtocol, fast_cycle_of, protocol_of
from runtime.http.transport.uvicorn_names import RequestResponseCycle

# Reading a large body.

MIN_DIRECT_BYTES: Final = 256 << 10
"""Of what is still to come; below, the change of protocols costs as much as it saves."""

MAX_READ_BYTES: Final = 64 << 10
"""Read from a socket at once: uvloop reads up to 32 times before other work has its turn. 8 MiB
into new memory, whose pages the kernel has to clear first, took 19 ms, 2 MiB 6 ms.
"""

ALIGNMENT: Final = 64
"""The first tensor begins at a multiple of so many bytes: a cache line, and what the widest vector
instructions want.
"""

UNUSED_REFERENCES: Final = 3
"""References to pooled memory that is not in use: the list's, the local name's, and the argument of
``sys.getrefcount``.
"""


class BufferPool:
    """Memory of earlier bodies, used again: a page that the kernel has to give costs 1 to 3 us
    here, and 4 MB have a thousand of them.

    Pooled memory is free when nothing else refers to it, be it a body, an array in it, or a
    response that is still being sent. Used on the event loop.

    Mutable state: ``_buffers``, the last used at the end.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffers: list[np.ndarray] = []

    @property
    def held_bytes(self) -> int:
        """Bytes of pooled memory, in use or not."""
        return sum(buffer.size for buffer in self._buffers)

    def take(self, size: int) -> np.ndarray:
        """Return ``uint8 [n]`` with n from ``size`` to twice that, its content undefined."""
        for index in range(len(self._buffers)):  # an enumeration would hold one more reference
            buffer = self._buffers[index]
            if size <= buffer.size <= 2 * size and sys.getrefcount(buffer) == UNUSED_REFERENCES:
                self._buffers.append(self._buffers.pop(index))
                return buffer
        made = np.empty(size, np.uint8)
        if size <= self._max_bytes:
            self._buffers.append(made)
            while self.held_bytes > self._max_bytes:
                del self._buffers[0]
        return made


POOL: Final = BufferPool(16 << 20)
"""Of this process: four tensors of 4 MB."""


def can_read_directly(receive: Receive) -> bool:
    """Whether ``read_into`` can read the body of this request."""
    cycle = fast_cycle_of(receive)
    if cycle is None:
        return False
    transport = cycle.transport
    return (
        isinstance(transport.get_protocol(), RequestProtocol | HotConnection)
        and transport.get_extra_info("sslcontext") is None
    )


def aligned_memory(size: int, offset: int, pool: BufferPool = POOL) -> memoryview:
    """Return memory for a body, its content undefined, whose byte at ``offset`` is aligned."""
    buffer = pool.take(size + ALIGNMENT)
    start = -(buffer.ctypes.data + offset) % ALIGNMENT
    return buffer[start : start + size].data


async def read_into(
    receive: Receive, memory: memoryview, on_received: Callable[[int], None]
) -> bool:
    """Fill ``memory``, the rest of a body, after a message with ``more_body``. Return False if the
    connection ended before.

    Args:
        on_received: called with the number of its bytes that have arrived; an exception ends the
            reading, and is raised here.
    """
    cycle: RequestResponseCycle = receive.__self__  # type: ignore[attr-defined]  # ``can_read_directly`` says so
    transport, flow = cycle.transport, cycle.flow
    outer = transport.get_protocol()
    assert isinstance(outer, RequestProtocol | HotConnection)
    protocol = outer.inner if isinstance(outer, HotConnection) else outer
    body_protocol = _BodyProtocol(memory, outer, protocol, on_received)
    if not flow.read_paused:
        transport.pause_reading()  # how a transport reads is decided when it begins to
    transport.set_protocol(body_protocol)
    transport.resume_reading()
    try:
        return await body_protocol.done
    finally:
        if not transport.is_closing():
            is_complete = not body_protocol.remaining
            if not is_complete:
                transport.pause_reading()
            transport.set_protocol(outer)
            flow.read_paused = True
            if not is_complete:
                _feed_and_discard(body_protocol.received, protocol, cycle)
            flow.resume_reading()
            if is_complete:
                protocol.begin_anew()
                cycle.more_body = False
                cycle.message_event.clear()


def _feed_and_discard(
    received: memoryview, protocol: RequestProtocol, cycle: RequestResponseCycle
) -> None:
    """Feed the parser what has arrived, in pieces: it copies each, and none is read. 64 MiB take
    7 ms so.
    """
    cycle.response_complete = True  # uvicorn then throws the body away
    for start in range(0, len(received), MIN_DIRECT_BYTES):
        protocol.data_received(received[start : start + MIN_DIRECT_BYTES])  # type: ignore[arg-type]  # the parser takes any buffer
    cycle.response_complete = False


class _BodyProtocol(asyncio.BufferedProtocol):
    """Fills memory from a connection; passes all else to the connection's own protocol (``outer``:
    uvicorn's, or the one in front of it).

    Mutable state: ``remaining``, the memory that is not filled yet.
    """

    def __init__(
        self,
        memory: memoryview,
        outer: RequestProtocol | HotConnection,
        protocol: RequestProtocol,
        on_received: Callable[[int], None],
    ) -> None:
        self._memory = memory
        self._outer = outer
        self._protocol = protocol
        self._on_received = on_received
        self.remaining = memory
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    @property
    def received(self) -> memoryview:
        """The memory that is filled."""
        return self._memory[: len(self._memory) - len(self.remaining)]

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go, and no more than belong there."""
        return self.remaining[:MAX_READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have arrived."""
        self.remaining = self.remaining[nbytes:]
        try:
            self._on_received(len(self._memory) - len(self.remaining))
        except Exception as error:  # a budget is exhausted
            self._protocol.transport.pause_reading()
            if not self.done.done():
                self.done.set_exception(error)
            return
        if not self.remaining:
            # uvloop asks for a buffer again at once, and an empty one ends the connection
            self._protocol.transport.pause_reading()
            if not self.done.done():
                self.done.set_result(True)

    def eof_received(self) -> None:
        """The client sends no more."""
        self._outer.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._outer.connection_lost(exc)
        if not self.done.done():
            self.done.set_result(False)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._outer.pause_writing()

    def resume_writing(self) -> None:
        """The client has read."""
        self._outer.resume_writing()


# What the client does with a response.


def has_left(send: Send) -> bool:
    """Whether the client that this sends to is gone; False where the server does not say. Of
    several requests on their way uvicorn tells the last one alone.
    """
    protocol = protocol_of(send)
    if protocol is None:
        return False
    cycle: RequestResponseCycle = send.__self__  # type: ignore[attr-defined]  # ``protocol_of`` says so
    return cycle.disconnected or protocol.transport.is_closing()


# One write for a response.

MAX_JOINED_BYTES: Final = 1 << 20
"""A longer response is not copied to save a system call: 64 MiB take 30 ms."""


CLOSE: Final = (b"connection", b"close")
"""In the last response of a connection."""


class _CollectingTransport:
    """As much of a transport as a request cycle uses while it sends; keeps what is written."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.chunks: list[bytes] = []
        self.is_to_close = False

    def write(self, data: bytes) -> None:
        self.chunks.append(data)

    def close(self) -> None:
        self.is_to_close = True

    def is_closing(self) -> bool:
        return self._transport.is_closing()


async def send_in_one_write(
    send: Send, start: Message, body: Message, *, ends_by_close: bool = False
) -> None:
    """Send the start of a response and its first body message, written together where that can be
    done.

    Args:
        ends_by_close: the response has no length and its client knows no chunks: it ends with the
            connection.
    """
    protocol = protocol_of(send)
    if protocol is not None:
        cycle: RequestResponseCycle = send.__self__  # type: ignore[attr-defined]  # ``protocol_of`` says so
        if ends_by_close:
            _begin_without_length(cycle, body)
        if not cycle.keep_alive and not any(name == b"connection" for name, _ in start["headers"]):
            start["headers"] = [*start["headers"], CLOSE]
    if protocol is None or not protocol.is_fast:
        await send(start)
        await send(body)
        return
    transport = cycle.transport
    collecting = _CollectingTransport(transport)
    cycle.transport = collecting  # type: ignore[assignment]  # see the module's docstring
    try:
        await send(start)
        await send(body)
    finally:
        cycle.transport = transport
    if not transport.is_closing():
        if sum(map(len, collecting.chunks)) <= MAX_JOINED_BYTES:
            transport.write(b"".join(collecting.chunks))
        else:
            for chunk in collecting.chunks:
                transport.write(chunk)
        if collecting.is_to_close:
            transport.close()


async def send_until_close(send: Send, body: Message) -> None:
    """Send a further body message of a response that ends with the connection."""
    if protocol_of(send) is not None:
        _begin_without_length(send.__self__, body)  # type: ignore[attr-defined]  # ``protocol_of`` says so
    await send(body)


def _begin_without_length(cycle: RequestResponseCycle, body: Message) -> None:
    """Have uvicorn write a body message as it is: it would choose chunks, whatever the version."""
    cycle.chunked_encoding = False
    cycle.expected_content_length = len(body.get("body", b""))
