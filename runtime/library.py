"""Declared functions by name: loaded and unloaded at run time, each by one flight however many ask.

``wakeful run`` loads everything into one; the shared host on Ray will load on the first call.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from runtime.errors import LoadError, NotFound, WakefulError
from runtime.function import Function
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.wording import did_you_mean

UNLOAD_TIMEOUT_S = 30.0
"""How long an unload waits for what the function has accepted."""


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one declared function.

    Attributes:
        state: asleep, waking, ready, draining or failed.
        reason: why it failed; empty otherwise.
        load_s: seconds its last load took, 0 when it has not been loaded.
    """

    state: str = "asleep"
    reason: str = ""
    load_s: float = 0.0


class Library:
    """Functions of one process.

    Args:
        specs: every declared function.
        settings: where models are.

    Mutable state, on the event loop only: ``_loaded`` (name to function), ``_flights`` (name to the load under way) and ``_states``.
    """

    def __init__(self, specs: Iterable[FunctionSpec], settings: Settings) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self._settings = settings
        self._loaded: dict[str, Function] = {}
        self._flights: dict[str, asyncio.Task[Function]] = {}
        self._states = {name: State() for name in self.specs}

    def __repr__(self) -> str:
        return f"<Library: {len(self._loaded)} of {len(self.specs)} functions loaded, {len(self._flights)} loading>"

    def state(self, name: str) -> State:
        """Looks without waking."""
        return self._states[name]

    def loaded(self, name: str) -> Function | None:
        """The function if it is loaded."""
        return self._loaded.get(name)

    async def load(self, name: str) -> Function:
        """The function, loaded now if it is not; callers that come meanwhile share the load.

        Raises:
            NotFound: no such function is declared.
            LoadError: it cannot become ready.
        """
        function = self._loaded.get(name)
        if function is not None:
            return function
        if name not in self.specs:
            raise NotFound(f"no function is named so{did_you_mean(name[:128], self.specs)}")
        flight = self._flights.get(name)
        if flight is None:
            flight = self._flights[name] = asyncio.create_task(self._load(name), name=f"load {name}")
            flight.add_done_callback(lambda _: self._flights.pop(name, None))
        return await asyncio.shield(flight)

    async def _load(self, name: str) -> Function:
        began = time.perf_counter()
        self._states[name] = State("waking")
        try:
            function = await Function.load(self.specs[name], self._settings)
        except WakefulError as error:
            self._states[name] = State("failed", error.message)
            raise
        except Exception as error:
            self._states[name] = State("failed", f"{type(error).__name__}: {error}")
            raise LoadError(f"{name!r} did not load: {type(error).__name__}: {error}") from error
        self._states[name] = State("ready", load_s=time.perf_counter() - began)
        self._loaded[name] = function
        return function

    async def unload(self, name: str) -> None:
        """Takes nothing new for it, answers what it accepted, frees it. Nothing happens when it is not loaded."""
        function = self._loaded.pop(name, None)
        if function is None:
            return
        self._states[name] = replace(self._states[name], state="draining")
        await function.close(UNLOAD_TIMEOUT_S)
        self._states[name] = State("asleep")

    async def load_all(self, told: Callable[[str, State], None]) -> None:
        """Loads one after another, so that each has the machine for itself; ``told`` hears how each went."""
        for name in self.specs:
            with contextlib.suppress(WakefulError):  # its state says why, and the others are to be served
                await self.load(name)
            told(name, self._states[name])

    async def close(self) -> None:
        """Unloads everything. Idempotent."""
        for flight in list(self._flights.values()):
            flight.cancel()
        await asyncio.gather(*(self.unload(name) for name in list(self._loaded)))
