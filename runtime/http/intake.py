"""A large body straight from the socket into the memory that its tensors are used from.

uvicorn takes a body in pieces of at most 256 KiB and copies each of them four times on the way to an application, which joins them; a
tensor that then lies unaligned is copied once more. For what is small or JSON that is little beside the rest. A tensor of 4 MB in and out
took 1.9 to 4 times what sockets and one copy take, and takes 1.2 to 1.4 times that so (two busy cores; `make bench`, ``tensors``).

Theory of operation: while a body is read, the connection's protocol is not uvicorn's but one of ours, which has the kernel write into the
body's own memory and asks for no byte beyond it, so that a request that is pipelined behind it stays where it is. uvicorn's parser has not
seen the body then: at the end it is replaced by a new one, for the next request. If the reading ends early (the caller leaves, is too slow,
or too late) the old one is told what has come, and everything goes on as if nothing had been.

There is no public way to say it, so this file alone knows that ``receive`` is a method of uvicorn's exchange, that this has a ``transport``
and a ``flow``, and that a protocol has a ``parser``. On any other server ``reads`` is false.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import httptools
import numpy as np
from starlette.types import Receive
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

LEAST_BYTES: Final = 256 << 10
"""Of what is still to come; below, the way there and back costs as much as it saves."""

ALIGNED: Final = 64
"""Bytes that the first tensor begins at a multiple of: a cache line, and what the widest vector instructions want."""


def reads(receive: Receive) -> bool:
    """Whether bodies of this exchange can be read here."""
    cycle = getattr(receive, "__self__", None)
    if type(cycle) is not RequestResponseCycle:
        return False
    transport = cycle.transport
    return type(transport.get_protocol()) is HttpToolsProtocol and transport.get_extra_info("sslcontext") is None


class Spare:
    """Memory of earlier bodies, used again: a page that the kernel has to give costs 1 to 3 us here, and 4 MB have a thousand of them.

    What is kept is free when nobody else refers to it, be it a body, an array in it, or an answer that is still being sent.

    Mutable state: ``_kept``, the last used at the end.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: list[np.ndarray] = []

    @property
    def held_bytes(self) -> int:
        """Of what is kept, in use or not."""
        return sum(one.size for one in self._kept)

    def take(self, size: int) -> np.ndarray:
        """Bytes, so many at least and at most twice as many, with whatever stood in them."""
        for index in range(len(self._kept)):  # an enumeration would hold one more reference
            one = self._kept[index]
            if size <= one.size <= 2 * size and sys.getrefcount(one) == UNUSED:
                self._kept.append(self._kept.pop(index))
                return one
        made = np.empty(size, np.uint8)
        if size <= self._most_bytes:
            self._kept.append(made)
            while self.held_bytes > self._most_bytes:
                del self._kept[0]
        return made


UNUSED: Final = 3
"""References to kept memory that nobody uses: the list's, the name's, and the argument of who counts."""

SPARE: Final = Spare(16 << 20)
"""Of this process: four tensors of 4 MB."""


def memory_for(size: int, offset: int, spare: Spare = SPARE) -> memoryview:
    """Memory for a body, with whatever stood in it, whose byte at ``offset`` lies aligned."""
    raw = spare.take(size + ALIGNED)
    start = -(raw.ctypes.data + offset) % ALIGNED
    return raw[start : start + size].data


async def read_into(receive: Receive, rest: memoryview) -> bool:
    """Fills ``rest``, the end of a body, after a message of which ``more_body`` was true; False if the connection ended before."""
    cycle: RequestResponseCycle = receive.__self__  # type: ignore[attr-defined]  # ``reads`` says so
    transport, flow = cycle.transport, cycle.flow
    protocol = transport.get_protocol()
    assert isinstance(protocol, HttpToolsProtocol)
    filling = _Filling(rest, protocol)
    if not flow.read_paused:
        transport.pause_reading()  # how a transport reads is decided when it begins to
    transport.set_protocol(filling)
    transport.resume_reading()
    try:
        return await filling.done
    finally:
        if not transport.is_closing():
            if filling.left:
                transport.pause_reading()
            transport.set_protocol(protocol)
            flow.read_paused = True
            flow.resume_reading()
            if filling.left:
                protocol.data_received(bytes(filling.taken))
            else:
                protocol.parser = httptools.HttpRequestParser(protocol)
                protocol.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn makes one
                cycle.more_body = False
                cycle.message_event.clear()


class _Filling(asyncio.BufferedProtocol):
    """Fills memory from a connection that is another protocol's in all else.

    Mutable state: ``left``, what is not filled yet.
    """

    def __init__(self, rest: memoryview, before: HttpToolsProtocol) -> None:
        self._rest = rest
        self._before = before
        self.left = rest
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    @property
    def taken(self) -> memoryview:
        """What is filled."""
        return self._rest[: len(self._rest) - len(self.left)]

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go, and no more than belong there."""
        return self.left

    def buffer_updated(self, nbytes: int) -> None:
        """They have come."""
        self.left = self.left[nbytes:]
        if not self.left:
            self._before.transport.pause_reading()  # uvloop asks again at once, and an empty buffer ends the connection
            if not self.done.done():
                self.done.set_result(True)

    def eof_received(self) -> None:
        """As the protocol before would have it."""
        self._before.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self._before.connection_lost(exc)
        if not self.done.done():
            self.done.set_result(False)

    def pause_writing(self) -> None:
        """As before."""
        self._before.pause_writing()

    def resume_writing(self) -> None:
        """As before."""
        self._before.resume_writing()
