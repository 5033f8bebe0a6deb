"""A console over a socket, and a page that reads its stream, without a browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.http_section import CorsSpec
from runtime.http.catalogue.console.library_console import LibraryConsole
from runtime.http.catalogue.console.sources import ConsoleFacts
from runtime.http.server import library_app
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.library.residency import Residency
from runtime.settings import Settings
from tests import in_process

PATIENCE_S = 30.0

TOKEN = "token of the page"


class Page:
    """One open stream.

    Attributes:
        events: all that came, names and data.
    """

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.events: list[tuple[str, Any]] = []
        self._lines = response.aiter_lines()

    async def next(self, name: str = "") -> Any:
        """The data of the next event, of that name."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                event = data = ""
                async for line in self._lines:
                    if not line:
                        break
                    key, _, value = line.partition(": ")
                    event = value if key == "event" else event
                    data = value if key == "data" else data
                else:
                    raise EOFError("the stream has ended")
                if event:
                    self.events.append((event, json.loads(data)))
                    if name in ("", event):
                        return self.events[-1][1]

    async def until(self, holds: Callable[[dict[str, Any]], bool], name: str = "functions") -> Any:
        """The first event of that name of which something holds."""
        while True:
            data = await self.next(name)
            if holds(data):
                return data

    async def until_state(self, function: str, state: str) -> dict[str, Any]:
        """Waits until the page shows a function so; its entry."""

        def holds(data: dict[str, Any]) -> bool:
            return any(
                one["name"] == function and one["state"] == state for one in data["functions"]
            )

        data = await self.until(holds)
        found: dict[str, Any] = next(one for one in data["functions"] if one["name"] == function)
        return found

    async def until_end(self) -> None:
        """Reads until the stream ends."""
        with contextlib.suppress(EOFError):
            while True:
                await self.next()


class Console:
    """A server with a console, and a client of it."""

    def __init__(
        self, http: httpx.AsyncClient, library: FunctionLibrary, console: LibraryConsole
    ) -> None:
        self.http = http
        self.library = library
        self.console = console

    @contextlib.asynccontextmanager
    async def page(self, function: str = "", **headers: str) -> AsyncIterator[Page]:
        """An open page."""
        path = f"/console/events?function={function}" if function else "/console/events"
        async with self.http.stream("GET", path, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            assert response.headers["content-type"] == "text/event-stream"
            yield Page(response)

    async def act(self, name: str, verb: str, **headers: str) -> httpx.Response:
        """What a button of the page does."""
        sent = {"x-console-token": TOKEN, **headers}
        return await self.http.post(f"/console/functions/{name}/{verb}", headers=sent)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits for a state of the server."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(0.01)


def opened(
    root: Path,
    functions: list[FunctionSpec],
    work: Callable[[Console], Awaitable[Any]],
    *,
    cors: CorsSpec | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Any:
    """Does the work while these functions are served, asleep."""

    async def main() -> Any:
        workers = Workers(2, spare=1)
        console = LibraryConsole(ConsoleFacts(TOKEN, **(facts or {})))
        library = FunctionLibrary(
            map(DeclaredFunction, functions),
            Settings.read({"WAKEFUL_ROOT": str(root)}),
            workers=workers,
            budget_bytes=None,
            on_change=console.on_change,
        )
        console.attach(library)
        residency = Residency(library)
        tasks = [
            asyncio.create_task(residency.run()),
            asyncio.create_task(library.run_idle_unloader()),
        ]
        app = library_app(library, residency, cors, console=console)
        console.start()
        try:
            async with (
                in_process.serving(app) as port,
                httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S
                ) as client,
            ):
                try:
                    return await work(Console(client, library, console))
                finally:
                    await console.close()
        finally:
            for task in tasks:
                task.cancel()
            await console.close()
            await library.close()
            await asyncio.to_thread(workers.close, 5.0)

    return asyncio.run(main())
