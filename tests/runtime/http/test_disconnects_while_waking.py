"""Many clients disconnect while they wait for a function to wake: it wakes for those that stay, and
computes nothing for the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable

import httpx
import uvicorn

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.http.asgi import AsgiApp
from runtime.http.library_handler import LibraryHandler
from runtime.http.transport.protocol import UVICORN
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings

CALLERS = 300
BODY = b'{"n": 1}'
CALL = (
    b"POST /f HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    % (len(BODY), BODY)
)
RESET = struct.pack("ii", 1, 0)

MAY_LOAD = threading.Event()
RAN: list[int] = []


class Held:
    """Loads when the test lets it."""

    def __init__(self) -> None:
        assert MAY_LOAD.wait(30)

    def __call__(self, n: int) -> dict[str, int]:
        """The number."""
        RAN.append(n)
        return {"n": n}


def calling(host: str, port: int) -> list[socket.socket]:
    """Clients that have sent their call, and reset their connection when they are closed."""
    sockets = [socket.create_connection((host, port)) for _ in range(CALLERS)]
    for one in sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        one.sendall(CALL)
    return sockets


async def until(holds: Callable[[], bool]) -> None:
    """Until it does."""
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


def test_a_call_whose_client_leaves_during_a_wake_is_not_computed(tmp_path):
    """A client that stays is answered; of the others no task, exchange or byte is left."""
    spec = FunctionSpec.from_args(
        "f",
        "/f",
        {
            "graph": [{"stage": "s", "python": f"{__name__}:Held"}],
            "limits": {"max_queued_requests": 999},
        },
    )

    async def main() -> None:
        workers = Workers(1)
        library = FunctionLibrary(
            [DeclaredFunction(spec)],
            Settings.read({"WAKEFUL_ROOT": str(tmp_path)}),
            workers=workers,
            budget_bytes=None,
        )
        app = LibraryHandler(library)
        server = uvicorn.Server(
            uvicorn.Config(
                AsgiApp(app),
                port=0,
                log_level="error",
                lifespan="off",
                **UVICORN,
                loop="uvloop",
            )
        )
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]  # pytest has them
        serving = asyncio.create_task(server.serve())
        await until(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()
        before = len(asyncio.all_tasks())
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=30) as client:
            stays = asyncio.create_task(client.post("/f", json={"n": 7}))
            sockets = await asyncio.to_thread(calling, host, port)
            await until(lambda: app.exchanges == CALLERS + 1)
            for one in sockets:
                one.close()
            await until(lambda: len(server.server_state.connections) == 1)
            MAY_LOAD.set()
            assert (await stays).json() == {"n": 7}
            await until(lambda: not app.exchanges and len(asyncio.all_tasks()) <= before)
        assert (RAN, app.body_budget.held) == ([7], 0)
        server.should_exit = True
        await serving
        await library.close()
        await asyncio.to_thread(workers.close, 5)

    asyncio.run(main())
