"""Every request has an id: the caller's, or one made here, echoed in the answer."""

from __future__ import annotations

import asyncio
import random

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.errors import Draining
from runtime.http import exchange
from runtime.http.joined import send_joined


class RequestIds:
    """Gives a request without ``x-request-id`` one, and echoes it; Ray Serve does the same where calls go through it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One exchange, its id in the request and in the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = exchange.header(scope, b"x-request-id")[: exchange.ID_LENGTH]
        if not identity:
            identity = b"%032x" % random.getrandbits(128)  # uuid4 asks the kernel for each: 0.7 % of a short call
            scope["headers"] = [*scope["headers"], (b"x-request-id", identity)]

        start: Message | None = None
        has_begun = False

        async def echo(message: Message) -> None:
            nonlocal start, has_begun
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", identity)]
                start = message
            elif start is not None:
                held, start, has_begun = start, None, True
                await send_joined(send, held, message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, echo)
        except asyncio.CancelledError:  # by the server, which ends and does not wait any longer; nothing awaits this task
            if not has_begun:
                error = Draining("the process ended before this call was answered; call again.", retry_after_s=1)
                await exchange.send_error(echo, error, identity.decode("latin-1"))
