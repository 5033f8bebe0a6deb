"""Noticing that a caller left while his call is being computed.

Most calls are answered within milliseconds, and watching costs a task; so the watch begins only for a call that takes longer.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive

from runtime.http.exchange import Disconnected

WATCH_AFTER_S = 0.25
"""A caller who leaves costs at most this much computing. At 0.05 every second call of a busy MiniLM (64 callers) paid for a watch."""


class Watch:
    """``async with Watch(receive):`` cancels the body when the caller leaves, and turns that into ``Disconnected``.

    The request's body must have been read.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None
        self._has_left = False

    async def __aenter__(self) -> None:
        loop, body = asyncio.get_running_loop(), asyncio.current_task()
        assert body is not None
        self._body = body
        self._timer = loop.call_later(WATCH_AFTER_S, self._begin, loop)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
        if self._has_left and kind is asyncio.CancelledError:
            self._body.uncancel()
            raise Disconnected

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watching = loop.create_task(self._wait())

    async def _wait(self) -> None:
        if (await self._receive())["type"] == "http.disconnect":
            self._has_left = True
            self._body.cancel()
