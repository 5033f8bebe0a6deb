"""A call whose function is asleep: its body is read while it wakes, counted meanwhile, and let go
of if that comes to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.http.asgi import AsgiApp
from runtime.http.library_handler import LibraryHandler
from runtime.http.transport.protocol import UVICORN
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings
from tests import in_process

LARGE = bytes(8 << 20)
"""More than the buffers of two sockets and of a server take."""

LIMITS = {"max_body_bytes": len(LARGE), "max_ongoing_bytes": len(LARGE)}


class Gate:
    """Lets functions load."""

    may_load = threading.Event()
    fault = ""


class Slow:
    """Loads when the test lets it."""

    def __init__(self) -> None:
        assert Gate.may_load.wait(30)
        if Gate.fault:
            raise RuntimeError(Gate.fault)

    def __call__(self, data: bytes) -> int:
        """How long it is."""
        return len(data)


@pytest.fixture
def anyio_backend():
    """The one event loop that serves."""
    return "asyncio"


@pytest.fixture
async def app(tmp_path: Path, anyio_backend) -> AsyncIterator[LibraryHandler]:
    """A function that sleeps, behind its application."""
    Gate.may_load.clear()
    Gate.fault = ""
    args: dict[str, Any] = {
        "graph": [{"stage": "s", "python": f"{__name__}:Slow"}],
        "accepts": ["application/octet-stream"],
    }
    spec = FunctionSpec.from_args("f", "/f", {**args, "limits": LIMITS})
    workers = Workers(1)
    library = FunctionLibrary(
        [DeclaredFunction(spec)],
        Settings.read({"WAKEFUL_ROOT": str(tmp_path)}),
        workers=workers,
        budget_bytes=None,
    )
    yield LibraryHandler(library)
    Gate.may_load.set()
    await library.close()
    await asyncio.to_thread(workers.close, 5)


@contextlib.asynccontextmanager
async def served(app: LibraryHandler) -> AsyncIterator[tuple[str, int]]:
    """By a server as hosts have one; its address."""
    async with in_process.serving(AsgiApp(app), **UVICORN) as port:
        yield "127.0.0.1", port


async def until(holds: Any) -> None:
    """Until it does."""
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.001)


def held(app: LibraryHandler) -> tuple[int, int]:
    """Bytes that the bodies take of the process's budget, and of the function's."""
    holding = app._library.entries.find("/f")
    assert holding is not None
    return app.body_budget.held, app.body_budget_of(holding).held


def calling(app: LibraryHandler) -> httpx.AsyncClient:
    """Without a socket."""
    headers = {"content-type": "application/octet-stream"}
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(AsgiApp(app)),
        base_url="http://host",
        headers=headers,
        timeout=30,
    )


@pytest.mark.anyio
async def test_a_body_is_read_while_its_function_wakes(app):
    """Its caller has sent all of it before the function is loaded, whatever buffers there are; and
    it is answered.
    """
    head = (
        b"POST /f HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\n"
        b"content-length: %d\r\n\r\n" % len(LARGE)
    )
    async with served(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(head + LARGE)
        async with asyncio.timeout(30):
            await writer.drain()
            await until(
                lambda: (
                    not writer.transport.get_write_buffer_size()
                    and held(app) == (len(LARGE), len(LARGE))
                )
            )
        Gate.may_load.set()
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        assert (await reader.readuntil(b"}")).endswith(b'\r\n\r\n{"s":%d}' % len(LARGE))
        writer.close()
        await until(lambda: not app.exchanges and held(app) == (0, 0))


@pytest.mark.anyio
async def test_bodies_that_wait_are_refused_beyond_what_the_function_holds(app):
    """413 and 429 while it wakes, as when it is awake; the others are answered."""
    async with calling(app) as client:
        first = asyncio.create_task(client.post("/f", content=LARGE[: 6 << 20]))
        await until(lambda: held(app)[0] == 6 << 20)
        more = await client.post("/f", content=LARGE[: 3 << 20])
        assert (more.status_code, more.json()["code"]) == (429, "overloaded")
        long = await client.post("/f", content=LARGE + b"x")
        assert (long.status_code, long.json()["code"]) == (413, "too_large")
        second = asyncio.create_task(client.post("/f", content=LARGE[: 2 << 20]))
        await until(lambda: held(app) == (8 << 20, 8 << 20))
        Gate.may_load.set()
        assert [(await one).json() for one in (first, second)] == [{"s": 6 << 20}, {"s": 2 << 20}]
    assert held(app) == (0, 0)


@pytest.mark.anyio
async def test_a_load_that_fails_lets_go_of_the_bodies_that_waited(app):
    """503 at once, also to a client that is still sending."""
    Gate.fault = "broken"
    is_sending, may_end = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"begun"
        is_sending.set()
        await may_end.wait()

    async with calling(app) as client:
        calls = [
            asyncio.create_task(client.post("/f", content=content))
            for content in (LARGE[: 1 << 20], endless())
        ]
        await until(lambda: is_sending.is_set() and held(app)[0] > 1 << 20)
        Gate.may_load.set()
        assert [((await one).status_code, (await one).json()["code"]) for one in calls] == [
            (503, "load_failed")
        ] * 2
        may_end.set()
    assert held(app) == (0, 0)
    assert not app.exchanges


@pytest.mark.anyio
async def test_a_disconnect_during_a_wake_leaves_no_body(app):
    """Nor a lease: the function sleeps again when its time has come."""
    head = (
        b"POST /f HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\n"
        b"content-length: 1000\r\n\r\n"
    )
    async with served(app) as address:
        for body in (bytes(1000), b"half"):
            _, writer = await asyncio.open_connection(*address)
            writer.write(head + body)
            await until(lambda: app.exchanges and held(app)[0])
            writer.close()
            await until(lambda: not app.exchanges and held(app) == (0, 0))
        Gate.may_load.set()
        holding = app._library.entries.find("/f")
        assert holding is not None
        await until(lambda: holding.function is not None)
        assert not holding.leases.is_used


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [("/f", "image/gif", 415), ("/f/nothing", "application/octet-stream", 404)],
)
async def test_a_body_that_would_not_be_read_is_not(app, path, kind, status):
    """Nor does it wake a function."""

    async def endless() -> AsyncIterator[bytes]:
        yield b"begun"
        await asyncio.Event().wait()

    Gate.may_load.set()
    async with calling(app) as client, asyncio.timeout(30):
        assert (
            await client.post(path, content=endless(), headers={"content-type": kind})
        ).status_code == status
    holding = app._library.entries.find("/f")
    assert holding is not None
    assert holding.function is None
