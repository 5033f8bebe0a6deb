"""Calls of functions by others of their library: no hop, in their process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from runtime.batching.calls import Call, CallOptions
from runtime.errors import NotFound, Unavailable
from runtime.execution.stages.function_stage import LOADING_S, Outcome, call_in_process
from runtime.library.entry import LibraryEntry


class LeasingLibrary(Protocol):
    """Functions that are lent, loaded; ``FunctionLibrary``."""

    async def get_loaded(self, name: str, *, arrived: float, until: float) -> LibraryEntry: ...
    async def wait_for_update(self, name: str, timeout_s: float) -> None: ...
    def finish_cold_start(self, entry: LibraryEntry) -> object: ...


class LocalFunctionCaller:
    """Calls functions that are declared in the same library, and loads them there if they sleep;
    implements ``runtime.execution.stages.function_stage.FunctionCaller``.
    """

    def __init__(self, library: LeasingLibrary) -> None:
        self._library = library

    async def call(
        self,
        name: str,
        rows: Sequence[dict[str, Any]],
        options: CallOptions,
        on_call: Callable[[Call | None], object] = lambda call: None,
    ) -> Sequence[Outcome]:
        """See ``FunctionCaller``. Raises as ``FunctionLibrary.get_loaded`` and ``Function.run``.

        Args:
            on_call: as of ``call_in_process``.
        """
        began = time.monotonic()
        entry = await self._acquire(name, began, options.deadline_at(began, LOADING_S))
        function = entry.function
        assert function is not None
        try:
            outcomes = await call_in_process(function, rows, options, on_call)
            self._library.finish_cold_start(entry)
            return outcomes
        finally:
            entry.leases.release(began)

    @contextlib.asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """See ``FunctionCaller``: in the version that is declared now, if that loads, since what a
        caller makes with it is of that one.
        """
        began = time.monotonic()
        await self._library.wait_for_update(name, LOADING_S)
        entry = await self._acquire(name, began, began + LOADING_S)
        try:
            yield
        finally:
            self._library.finish_cold_start(entry)
            entry.leases.release(began)

    async def _acquire(self, name: str, began: float, until: float) -> LibraryEntry:
        """The function, loaded, with a lease. Raises as ``FunctionLibrary.get_loaded``."""
        try:
            return await self._library.get_loaded(name, arrived=began, until=until)
        except NotFound:  # as over HTTP: its caller has not named it
            raise Unavailable(
                f"the function {name!r} is not deployed where it was.", retry_after_s=1
            ) from None

    async def close(self) -> None:
        """There is nothing to close."""
