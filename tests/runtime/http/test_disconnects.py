"""Clients that disconnect, over real sockets: nothing is computed for them that had not begun, and
nothing of them stays behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.batching.calls import Call
from runtime.declaration.function_spec import FunctionSpec
from runtime.execution.function import Function
from runtime.http.asgi import AsgiApp
from runtime.http.function_handler import FunctionHandler
from runtime.http.transport.protocol import UVICORN
from runtime.settings import Settings
from tests import in_process, onnx_models
from wakeful import Rows

pytestmark = pytest.mark.slow

HERE = __name__
PREFIX = "/v2/models/f"


class Gate:
    """Where batches stop, and the rows that were in them."""

    def __init__(self) -> None:
        self.turns = threading.Semaphore(0)
        self.batches: list[list[int]] = []

    def reset(self) -> None:
        """Closed, and no row has been here."""
        self.turns = threading.Semaphore(0)
        self.batches.clear()

    def open(self, batches: int = 2000) -> None:
        """Lets so many through."""
        self.turns.release(batches)

    @property
    def computed(self) -> set[int]:
        """Every row that has been in a batch."""
        return {n for batch in self.batches for n in batch}


GATE = Gate()


def through_gate(y: Rows[NDArray[np.float32]]) -> Rows[list[float]]:
    """Twice the first number, as often as the second one says."""
    GATE.batches.append([int(row[0]) // 2 for row in y])
    assert GATE.turns.acquire(timeout=30)
    return [[float(row[0])] * max(1, int(row[1]) // 2) for row in y]


class Served:
    """The function behind uvicorn, and what it has in its hands."""

    def __init__(
        self, function: Function, app: FunctionHandler, port: int, client: httpx.AsyncClient
    ) -> None:
        self.function = function
        self.app = app
        self.port = port
        self.client = client

    def holdings(self) -> dict[str, int]:
        """Whatever a caller could leave behind."""
        gc.collect()
        return {
            "tasks": len(asyncio.all_tasks()),
            "threads": sum(
                not thread.name.startswith("asyncio_") for thread in threading.enumerate()
            ),  # the loop's pool grows as it likes
            "files": len(list(Path("/proc/self/fd").iterdir())),
            "exchanges": self.app.exchanges,
            "in flight": self.function.in_flight.calls,
            "waiting": self.function.waiting_rows,
            "calls": sum(isinstance(one, Call) for one in gc.get_objects()),
        }

    async def send(self, n: int, times: int = 1, *, only: int | None = None) -> socket.socket:
        """Begins a call on a socket of its own; ``only`` sends so many bytes of its body."""
        body = json.dumps({"x": [n, times, 0]}).encode()
        head = (
            f"POST {PREFIX} HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        one = socket.socket()
        one.setblocking(False)
        await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", self.port))
        await asyncio.get_running_loop().sock_sendall(one, head.encode() + body[:only])
        return one

    async def post(self, n: int) -> httpx.Response:
        """A client that stays connected."""
        return await self.client.post(
            f"http://127.0.0.1:{self.port}{PREFIX}", json={"x": [n, 1, 0]}
        )


def reset(one: socket.socket) -> None:
    """Leaves with RST."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


def finish(one: socket.socket) -> None:
    """Leaves with FIN."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_WR)
    one.close()


async def until(holds: Callable[[], bool]) -> None:
    """Waits."""
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(root: Path) -> AsyncIterator[Served]:
    """A model and a stage that stops at the gate, in one segment, on one worker."""
    onnx_models.double(root / "double.onnx")
    graph = [
        {"stage": "model", "onnx": "double.onnx"},
        {"stage": "gate", "python": f"{HERE}:through_gate"},
    ]
    spec = FunctionSpec.from_args(
        "f", PREFIX, {"graph": graph, "limits": {"max_queued_requests": 1000}}
    )
    function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(root)}), warm_up=False)
    handler = FunctionHandler(function)
    app = AsgiApp(handler)

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "root_path": PREFIX}, receive, send)

    try:
        async with (
            in_process.serving(mounted, **UVICORN, access_log=False) as port,
            httpx.AsyncClient(timeout=30) as client,
        ):
            served = Served(function, handler, port, client)
            GATE.open()
            assert (await served.post(1)).json() == {"gate": [2.0]}
            GATE.reset()
            yield served
    finally:
        GATE.open()
        await function.close(5)


def run(root: Path, work: Callable[[Served], Awaitable[None]]) -> None:
    """Does the work while it is served."""

    async def main() -> None:
        async with serving(root) as served:
            await work(served)

    asyncio.run(main())


async def occupy(served: Served) -> asyncio.Task[httpx.Response]:
    """A client that stays is in a batch at the gate, so that later calls wait."""
    staying = asyncio.create_task(served.post(0))
    await until(lambda: [0] in GATE.batches)
    return staying


@pytest.mark.parametrize("leave", [reset, finish])
def test_a_call_whose_client_leaves_while_queued_is_never_computed(tmp_path, leave):
    """Half of twenty waiting clients disconnect, by RST or by FIN: the other half is answered, no
    batch has seen a row of theirs.
    """

    async def work(served: Served) -> None:
        staying = await occupy(served)
        leaving = [await served.send(n) for n in range(1, 21, 2)]
        others = [asyncio.create_task(served.post(n)) for n in range(2, 21, 2)]
        await until(lambda: served.function.waiting_rows == 20)
        for one in leaving:
            leave(one)
        await until(lambda: served.app.exchanges == 11)
        GATE.open()
        assert [response.json() for response in await asyncio.gather(staying, *others)] == [
            {"gate": [2.0 * n]} for n in range(0, 21, 2)
        ]
        assert GATE.computed == set(range(0, 21, 2))

    run(tmp_path, work)


@pytest.mark.parametrize("leave", [reset, finish])
def test_a_client_that_leaves_does_not_touch_the_batch_mates_of_its_row(tmp_path, leave):
    """Of a batch of four that is being computed the second leaves: the first, the third and the
    fourth are answered, each its own.
    """

    async def work(served: Served) -> None:
        staying = await occupy(served)
        first = asyncio.create_task(served.post(1))
        await until(lambda: served.function.waiting_rows == 1)
        second = await served.send(2)
        await until(lambda: served.function.waiting_rows == 2)
        others = [asyncio.create_task(served.post(n)) for n in (3, 4)]
        await until(lambda: served.function.waiting_rows == 4)
        GATE.open(1)
        await staying
        await until(lambda: [1, 2, 3, 4] in GATE.batches)
        leave(second)
        await until(lambda: served.app.exchanges == 3)
        GATE.open()
        assert [response.json() for response in await asyncio.gather(first, *others)] == [
            {"gate": [2.0 * n]} for n in (1, 3, 4)
        ]

    run(tmp_path, work)


def test_after_hundreds_of_clients_that_leave_all_resources_are_released(tmp_path):
    """While they send, wait, are computed or read a long answer, by RST or FIN: no task, thread,
    file, call or place stays taken.
    """

    async def work(served: Served) -> None:
        before = served.holdings()
        for leave in (reset, finish):
            staying = await occupy(served)
            crowd = [await served.send(n, only=9 if n % 5 == 0 else None) for n in range(1, 61)]
            await until(lambda: served.app.exchanges == 61)
            for one in crowd[::2]:
                leave(one)
            await until(lambda: served.app.exchanges == 31)
            GATE.open()
            assert (await staying).json() == {"gate": [0.0]}
            for one in crowd[1::2]:  # in a batch, answered, or still sending
                leave(one)
            await until(lambda: not served.app.exchanges and not served.function.in_flight.calls)
            readers = [await served.send(n, 20_000) for n in range(1000, 1060)]
            for one in readers[:30]:
                await asyncio.get_running_loop().sock_recv(one, 1000)
            for one in readers:
                leave(one)
            await until(lambda: not served.app.exchanges and not served.function.in_flight.calls)
            GATE.reset()
        async with asyncio.timeout(30):
            while any(now > before[what] for what, now in served.holdings().items()):
                await asyncio.sleep(0.05)
        GATE.open()
        assert (await served.post(7)).json() == {"gate": [14.0]}

    run(tmp_path, work)
