"""A server in the event loop of a test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

END_S = 1.0
"""Calls that still run so long after the test are cancelled."""


@asynccontextmanager
async def serving(app: Any, port: int = 0, **more: Any) -> AsyncIterator[int]:
    """The ASGI application behind uvicorn; gives its port.

    Args:
        more: of ``uvicorn.Config``.
    """
    with socket.create_server(("127.0.0.1", port), backlog=1000) as listener:
        server = _Server(uvicorn.Config(app, log_level="error", lifespan="off", **more))
        task = asyncio.create_task(server.serve([listener]))
        await server.has_started.wait()
        try:
            yield listener.getsockname()[1]
        finally:
            server.may_end.set()
            await task


class _Server(uvicorn.Server):
    """Starts and ends at once: uvicorn looks each tenth of a second whether it is to end, and waits
    another tenth for its connections, which a hundred tests would wait for as well.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started, self.may_end = asyncio.Event(), asyncio.Event()

    def capture_signals(self) -> Any:
        """None: pytest has them."""
        return contextlib.nullcontext()

    async def main_loop(self) -> None:
        """Until the test ends."""
        await self.on_tick(0)  # sets the headers that every answer has
        self.has_started.set()
        await self.may_end.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, without its waits."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        state = self.server_state
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                while state.connections or state.tasks:
                    await asyncio.sleep(0.002)
        for task in state.tasks:
            task.cancel()
