"""Functions whose loads and calls a test controls, in a library behind its application."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.http.asgi import AsgiApp
from runtime.http.library_handler import LibraryHandler
from runtime.http.server import library_app
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings
from tests import onnx_models

HERE = __name__

PATIENCE_S = 30.0
"""A test that waits longer for what it opened itself has failed."""


@dataclass
class Hand:
    """What a test orders of the functions of one key, and what it counts of them."""

    loads: int = 0
    fault: str = ""
    may_load: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_load.set()
        self.may_answer.set()


HANDS: defaultdict[str, Hand] = defaultdict(Hand)
"""By key; a test takes keys of its own."""


class Obedient:
    """A stage that loads, fails and answers as its hand says."""

    def __init__(self, key: str) -> None:
        self.hand = HANDS[key]
        self.hand.loads += 1
        assert self.hand.may_load.wait(PATIENCE_S)
        if self.hand.fault:
            raise RuntimeError(self.hand.fault)

    def __call__(self, n: float) -> dict[str, float]:
        """Twice the number."""
        assert self.hand.may_answer.wait(PATIENCE_S)
        return {"twice": 2 * n}


def obedient(name: str, key: str, **args: Any) -> FunctionSpec:
    """A function of one such stage."""
    graph = [{"stage": "s", "python": f"{HERE}:Obedient", "with": {"key": key}}]
    return FunctionSpec.from_args(name, f"/v2/models/{name}", {"graph": graph, **args})


def double(root: Path, name: str = "double", **args: Any) -> FunctionSpec:
    """A bare model, y = 2 x."""
    onnx_models.double(root / "double.onnx")
    return FunctionSpec.from_args(name, f"/v2/models/{name}", {"onnx": "double.onnx", **args})


@dataclass
class Served:
    """A library behind its application, and a client of it.

    Attributes:
        handler: of the application.
        changes: names of functions whose state changed, one entry a change.
    """

    library: FunctionLibrary
    handler: LibraryHandler
    client: httpx.AsyncClient
    changes: list[str]
    changed: asyncio.Event

    async def call(self, name: str, n: float = 1.0) -> httpx.Response:
        """A call of an obedient function."""
        return await self.client.post(f"/v2/models/{name}", json={"n": n})

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits until something holds that follows from a change of state."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    async def until_state(self, name: str, state: str) -> None:
        """Waits until a function is in a state."""
        await self.until(lambda: self.library.entries.require(name).state.state == state)

    async def until_begun(self, name: str) -> None:
        """Waits until a call of a loaded function is in flight."""
        async with asyncio.timeout(PATIENCE_S):
            while (
                function := self.library.entries.require(name).function
            ) is None or not function.in_flight.calls:
                await asyncio.sleep(0)


def serving(
    root: Path,
    *functions: FunctionSpec | DeclaredFunction,
    budget: int | None = None,
    catalogue: bool = True,
) -> AbstractAsyncContextManager[Served]:
    """The functions, asleep, behind an application."""
    return _serving(
        root,
        [DeclaredFunction(one) if isinstance(one, FunctionSpec) else one for one in functions],
        budget,
        catalogue,
    )


@asynccontextmanager
async def _serving(
    root: Path, declared: Iterable[DeclaredFunction], budget: int | None, catalogue: bool
) -> Any:
    changes: list[str] = []
    changed = asyncio.Event()

    def on_change(name: str) -> None:
        changes.append(name)
        changed.set()

    workers = Workers(2, spare=1)
    library = FunctionLibrary(
        declared,
        Settings.read({"WAKEFUL_ROOT": str(root)}),
        workers=workers,
        budget_bytes=budget,
        on_change=on_change,
    )
    keeping = asyncio.create_task(library.run_idle_unloader())
    app = library_app(library) if catalogue else AsgiApp(LibraryHandler(library))
    assert isinstance(app.handler, LibraryHandler)
    try:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://test", timeout=PATIENCE_S
        ) as client:
            yield Served(library, app.handler, client, changes, changed)
    finally:
        keeping.cancel()
        await library.close()
        await asyncio.to_thread(workers.close, 5.0)


def run(
    serving: AbstractAsyncContextManager[Served], work: Callable[[Served], Awaitable[Any]]
) -> Any:
    """Does the work while they are served."""

    async def main() -> Any:
        async with serving as served:
            return await work(served)

    return asyncio.run(main())
