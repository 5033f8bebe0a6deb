"""The last callers at a port that closes: the kernel has let them in, and nobody else would answer them.

A connection that waits to be accepted is reset when its listener is closed, though its caller may have sent his call already. So the
port is closed in this order: whoever served it accepts nothing more, but a duplicate of its socket stays; here the rest is accepted and
told, until nobody waits; then the duplicate goes too, a few microseconds after that look.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from typing import Final

from runtime.errors import Draining
from runtime.wire.jsontext import dumps

GUEST_S: Final = 0.2
"""Longest wait for the call of a connection that was accepted at the very end."""

_BODY: Final = dumps(Draining("this server is ending and takes nothing new; call again, another one answers.").body(""))
_ANSWER: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"retry-after: 1\r\nconnection: close\r\n\r\n%s" % (len(_BODY), _BODY)
)


def turn_away(listener: socket.socket, for_s: float) -> None:
    """Refuses whoever connects, for so long and until nobody waits, then closes the listener; blocks, at most twice as long."""
    listener.setblocking(False)
    until = time.monotonic() + for_s
    with selectors.DefaultSelector() as events, contextlib.ExitStack() as guests:
        events.register(listener, selectors.EVENT_READ)
        while (ready := events.select(max(0.0, until - time.monotonic()))) and time.monotonic() < until + for_s:
            for key, _ in ready:
                if key.fileobj is listener:
                    _accept(listener, events, guests)
                else:
                    _answer(key, events)
        events.unregister(listener)
        listener.close()
        while events.get_map() and (ready := events.select(GUEST_S)):
            for key, _ in ready:
                _answer(key, events)


def _accept(listener: socket.socket, events: selectors.BaseSelector, guests: contextlib.ExitStack) -> None:
    with contextlib.suppress(OSError):  # somebody else, who shares the socket, was faster
        guest = guests.enter_context(listener.accept()[0])
        guest.setblocking(False)
        events.register(guest, selectors.EVENT_READ)


def _answer(key: selectors.SelectorKey, events: selectors.BaseSelector) -> None:
    guest = key.fileobj
    assert isinstance(guest, socket.socket)
    events.unregister(guest)
    with contextlib.suppress(OSError):  # he left
        if guest.recv(1 << 20):
            guest.sendall(_ANSWER)
    guest.close()
