"""A real HTTP server on loopback for as long as a test lasts."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from starlette.applications import Starlette

Serve = Callable[[Starlette], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves an application in a thread; gives back its port."""
    running: list[tuple[uvicorn.Server, threading.Thread, socket.socket]] = []

    def start(app: Starlette) -> int:
        # asyncio sets TCP_NODELAY only on what says TCP
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # from here on a client waits instead of being refused
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="error", access_log=False, loop="asyncio", http="httptools"
            )
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread, listener))
        return int(listener.getsockname()[1])

    yield start
    for server, thread, listener in running:
        server.should_exit = True
        thread.join(10)
        listener.close()
