"""One open page: the events that wait for it, and the response that sends them.

A text is made once for all pages that see the same, and waits as a reference. A page that does not
read is given up: nothing waits for it longer than ``SEND_S``, and no more than ``MOST_WAITING``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runtime.http.catalogue.key_view import KeyView
from runtime.protocol.json_text import dumps

HEARTBEAT_S: Final = 10.0
"""How long a page is told nothing before a comment shows that the server lives: proxies end a
silent connection after 30 s, and a page takes it for lost."""

SEND_S: Final = 15.0
"""Longest wait for a page to read, as of any client (``runtime.http.transport.peer``)."""

MOST_WAITING: Final = 512
"""Events that wait for a page: four a second, while it may pause."""

KEYED_S: Final = 60.0
"""How long the stream of a request with a key goes on: a key is looked at when a request comes, and
its page opens the next one with it. So one that was removed, has expired or opens less sees nothing
more after so long.
"""

HEARTBEAT: Final = b":\n\n"

CLOSING: Final = "closing"


def write_event(name: str, data: Mapping[str, Any]) -> bytes:
    """Return an event (WHATWG HTML, section 9.2)."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), dumps(data))


class PageStream:
    """What one page is told. Used on one event loop.

    Args:
        view: what it sees; None: everything.
        function: that it shows; empty: none.

    Attributes:
        is_over: nothing is told any more.

    Mutable state: this; ``_waiting``, the texts to come; ``_has_news``.
    """

    def __init__(self, view: KeyView | None, function: str) -> None:
        self.view = view
        self.function = function
        self.is_over = False
        self._waiting: deque[bytes] = deque()
        self._has_news = asyncio.Event()

    def put(self, text: bytes) -> None:
        """Tell it something; it is given up if it does not read."""
        if self.is_over:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.clear()
            self.end()
            return
        self._waiting.append(text)
        self._has_news.set()

    def close(self, *, is_moving: bool) -> None:
        """Tell it why it ends, as of ``shapes.Closing``, and end it. Idempotent."""
        self.put(write_event(CLOSING, {"is_moving": is_moving}))
        self.end()

    def end(self) -> None:
        """Tell it what waits, and nothing more. Idempotent."""
        self.is_over = True
        self._has_news.set()

    async def next(self) -> bytes | None:
        """Return the next text, which may be a heartbeat; None: there is none any more."""
        if not (self._waiting or self.is_over):
            self._has_news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._has_news.wait()
        if self._waiting:
            return self._waiting.popleft()
        return None if self.is_over else HEARTBEAT


class StreamResponse(Response):
    """Sends a page what it is told, until one of both ends.

    Args:
        on_end: called once, when it is over.
        lasts_s: how long it goes on; None: as long as both want.
    """

    def __init__(
        self,
        stream: PageStream,
        on_end: Callable[[PageStream], object],
        lasts_s: float | None = None,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._on_end = on_end
        self._lasts_s = lasts_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the stream or its client ends."""
        stream, loop = self._stream, asyncio.get_running_loop()
        watch = loop.create_task(_end_with_client(stream, receive))
        timer = None
        if self._lasts_s is not None:
            timer = loop.call_later(self._lasts_s, partial(stream.close, is_moving=True))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            # a client that does not read: a response without its last message cuts the connection
            with contextlib.suppress(TimeoutError):
                while (text := await stream.next()) is not None:
                    async with asyncio.timeout(SEND_S):
                        await send({"type": "http.response.body", "body": text, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        finally:
            watch.cancel()
            if timer is not None:
                timer.cancel()
            stream.end()
            self._on_end(stream)


async def _end_with_client(stream: PageStream, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.end()


_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
