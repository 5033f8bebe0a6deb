"""What the kernel knows of the client of a connection: whether it reads, and whether it is there.

Reading. ``transport.write`` keeps what the client has not taken, without a bound in time. A whole
answer holds its call's bytes until then, so a client must take at least ``MIN_READ_BYTES_S``,
looked at every ``UNREAD_S``; else the connection is cut. The kernel's count of acknowledged bytes
is looked at, not the transport's buffer: that shrinks by a third of the socket's buffer at a time,
1.4 MB here, which a slow client takes half a minute for. Streams have a bound of their own
(``runtime.http.streaming``).

Half-closed. A client may end its side behind its last request and wait for the answer (``nc -N``);
one that leaves ends its side too, and to its server both look alike. They differ once something is
sent: a client that left answers with a reset. So the client is sent ``100 Continue``, which every
client of HTTP/1.1 skips before a response (RFC 9110, section 15.2), and the kernel is asked for the
connection's state.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final

MIN_READ_BYTES_S: Final = 64 << 10
"""Half a megabit a second; an answer of 64 MB then takes a quarter of an hour at most."""

UNREAD_S: Final = 15.0
"""How long a client may pause, and the time over which its rate is taken. At the rate above it
takes 960 KiB meanwhile, more than the largest step by which a kernel opens its window (a sixteenth
of 6 MiB).
"""

NOT_READ: Final = "answer_not_read"
"""The code by which a call is counted whose client did not read its answer; no client gets it."""

PROBE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

FIRST_LOOK_S: Final = 0.02
LONGEST_LOOK_S: Final = 1.0
"""Between two looks at a client that sends no more, which double from the first to this."""

_TCP_CLOSE: Final = 7
_ACKNOWLEDGED: Final = struct.Struct("120xQ")
"""``tcpi_bytes_acked`` of ``struct tcp_info`` (linux/tcp.h), which only ever grows at its end."""


def is_read_slowly(taken_bytes: int, seconds: float) -> bool:
    """Whether a client that had something to read all this time took less than it must."""
    return taken_bytes < MIN_READ_BYTES_S * seconds


class ReaderWatch:
    """Cuts the connection of a client that does not read. Idempotent; used on the event loop.

    Attributes:
        has_cut: whether it did.

    Mutable state: this; ``_timer`` of the next look, ``_acknowledged`` at the last one;
    ``_sends_file``, of which the transport knows nothing (``file_sender``).
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._acknowledged = 0
        self._sends_file = False
        self.has_cut = False

    def start(self) -> None:
        """From now on what is written must be read, until nothing of it is left here."""
        if self._timer is None and self.is_unread:
            self._look_again()

    def begin_file(self) -> None:
        """A file is sent past the transport, which is open; it must be read as well, until
        ``end_file``.
        """
        self._sends_file = True
        self.start()

    def end_file(self) -> None:
        """All of it is on its way, or it is not sent any further."""
        self._sends_file = False
        if not self.is_unread:
            self.stop()  # the next file has all of its time

    @property
    def is_unread(self) -> bool:
        """Whether something of what was written is left here."""
        return self._sends_file or bool(self._transport.get_write_buffer_size())

    def stop(self) -> None:
        """The connection has ended, or an answer with a bound of its own begins."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self) -> None:
        self._acknowledged = _acknowledged_bytes(self._transport)
        self._timer = self._loop.call_later(UNREAD_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self.is_unread:
            return
        taken = _acknowledged_bytes(self._transport) - self._acknowledged
        if is_read_slowly(taken, UNREAD_S):
            self.has_cut = True
            self._transport.abort()
        else:
            self._look_again()


def watch_half_closed(
    transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, is_at_work: Callable[[], bool]
) -> None:
    """Send a client that sends no more ``PROBE``, and abort the connection if it has left.

    Args:
        is_at_work: whether the response that the client may wait for is still to begin.
    """
    transport.write(PROBE)

    def look(after_s: float) -> None:
        if transport.is_closing() or not is_at_work():
            return
        if _tcp_info(transport)[0] == _TCP_CLOSE:
            transport.abort()
        else:
            loop.call_later(after_s, look, min(2 * after_s, LONGEST_LOOK_S))

    loop.call_later(FIRST_LOOK_S, look, 2 * FIRST_LOOK_S)


def _acknowledged_bytes(transport: asyncio.Transport) -> int:
    """Return how many bytes the client's kernel has taken, of all that were written."""
    (count,) = _ACKNOWLEDGED.unpack_from(_tcp_info(transport))
    return int(count)


def _tcp_info(transport: asyncio.Transport) -> bytes:
    connection: socket.socket = transport.get_extra_info("socket")
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
