"""What a server answers while it ends: calls are refused, readiness has failed, and no connection is kept."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.errors import Draining
from runtime.http import exchange

UPLOAD_S: Final = 1.0
"""How long a body is read that nobody wants: a socket closed with unread bytes in it is reset, and the refusal is lost with it."""

_CLOSE: Final = (b"connection", b"close")


class Refusing:
    """In place of an application whose server drains. Its looks (the index, metrics, liveness, metadata) are still answered.

    Args:
        app: what it stands in for; calls that have begun are still in there, and nothing here touches them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One exchange that began after the end was asked for."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], _CLOSE]
            await send(message)

        if scope["method"] == "POST" or scope["path"].endswith("/ready"):
            if not exchange.header(scope, b"expect"):  # who asks before he sends is told before he does
                await _discard(receive)
            error = Draining("this server is ending and takes nothing new; call again, another one answers.", retry_after_s=1)
            await exchange.send_error(last, error, exchange.request_id(scope))
        else:
            await self._app(scope, receive, last)


async def _discard(receive: Receive) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(UPLOAD_S):
            while (await receive()).get("more_body", False):
                pass
