"""A function's routes as Ray Serve calls them itself: from its proxy, while HAProxy does not know of a replica yet.

Each message of an answer is pickled then, and a view of memory cannot be: a tensor that is sent from where it lies made the call hang
until its deadline.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ByServe:
    """An application whose answers can be pickled."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One exchange, or the lifespan."""

        async def plainly(message: Message) -> None:
            if isinstance(body := message.get("body"), memoryview):
                message = {**message, "body": bytes(body)}
            await send(message)

        await self._app(scope, receive, plainly)
