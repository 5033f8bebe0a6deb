"""Declared functions by name: loaded on their first call, by one flight however many ask, and kept while they are used.

Theory of operation: everything here happens on one event loop, so what stands between two ``await`` is atomic. An exchange takes a
*lease* in the same step in which it finds the function loaded, and a function with a lease is never unloaded. Callers of a sleeping
function wait for its *flight*, a task that no caller's leaving or deadline ends. An unload takes the function away from new callers
first and then waits for the last lease; who comes meanwhile waits for the next flight, which begins when the unload is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from runtime.coldstart import ColdStart
from runtime.errors import DeadlineExceeded, Draining, LoadError, Overloaded, Quarantined, WakefulError
from runtime.flights import Flights
from runtime.function import Function
from runtime.holding import Declared, Holding, State
from runtime.metrics import Metrics
from runtime.neighbours import Neighbours
from runtime.register import Register
from runtime.residents import Residents
from runtime.settings import Settings
from runtime.spec import FunctionSpec

if TYPE_CHECKING:
    from runtime.batching.workers import Workers
    from runtime.callees import Callees
    from runtime.witness import Witness

__all__ = ["Declared", "Library", "State"]

RECENT_S = 120.0
"""How long a function is reported after it has changed, though it is asleep."""

QUARANTINE_RETRY_S = 60.0
"""A quarantined function stays so until somebody declares it anew; callers need not ask more often than this."""


class Library:
    """Functions of one process.

    Args:
        declared: every function.
        settings: where models are.
        workers: the threads that all functions share; closed by whoever made them.
        budget_bytes: what loaded functions may hold together; None: as much as there is.
        witness: is told of loads under way.
        callees: who answers for the functions that functions call; None: they do it for each other.
        on_change: hears the name of a function whose state has changed, on the event loop.

    Attributes:
        metrics: of cold starts and memory.

    Mutable state: ``_register`` (who is declared), ``_residents`` (those awake), ``_is_closed``.
    """

    def __init__(
        self,
        declared: Iterable[Declared],
        settings: Settings,
        *,
        workers: Workers,
        budget_bytes: int | None,
        witness: Witness | None = None,
        callees: Callees | None = None,
        on_change: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.budget_bytes = budget_bytes
        self.metrics = Metrics(self)
        self._residents = Residents(budget_bytes, self.metrics, on_change)
        self._flights = Flights(
            self._residents,
            settings,
            workers=workers,
            witness=witness,
            callees=callees or Neighbours(self),
            metrics=self.metrics,
            on_change=on_change,
        )
        self._register = Register(self._residents, self._flights, on_change)
        self._is_closed = False
        self.declare(declared)

    def __repr__(self) -> str:
        return f"<Library: {', '.join(f'{count} {state}' for state, count in self.counts().items()) or 'empty'}>"

    # What is declared.

    def declare(self, declared: Iterable[Declared]) -> None:
        """Another set of functions: who is gone is unloaded, who changed serves until its new version is warm (``register``), other
        tunables hold at once, the rest stays as it is."""
        self._register.declare(declared)

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """These, by name, are not loaded and their callers hear the reason; all others are loaded as ever."""
        for serving in self._register:
            for holding in filter(None, (serving, serving.successor)):
                holding.refused = reasons.get(holding.name, "")
                if holding.refused:
                    self._residents.unload(holding, "quarantined")

    @property
    def specs(self) -> dict[str, FunctionSpec]:
        """Every declared function by name."""
        return {holding.name: holding.spec for holding in self._register}

    # Looking wakes nobody.

    def state(self, name: str) -> State:
        """What a function is now."""
        return self._register.require(name).state

    def loaded(self, name: str) -> Function | None:
        """The function if it is loaded."""
        return self._register.require(name).function

    def keeps(self, name: str) -> bool:
        """Whether a function is loaded here and is not to be released."""
        holding = self._register.get(name)
        return holding is not None and holding.function is not None and holding.released_at is None

    def counts(self) -> dict[str, int]:
        """Functions by state."""
        return dict(Counter(holding.state.state for holding in self._register))

    def used_bytes(self) -> int:
        """What this process holds beyond what it held before it had functions."""
        return self._residents.used_bytes()

    def report(self) -> dict[str, Any]:
        """Plain JSON data: memory, and every function that is not asleep or has changed lately."""
        now = time.monotonic()
        told = [h for h in self._register if h.state.state != "asleep" or (h.loads and now - h.changed_at < RECENT_S)]
        functions = {holding.name: holding.report(now) for holding in told}
        return {"budget_bytes": self.budget_bytes, "used_bytes": self.used_bytes(), "functions": functions}

    # Calling.

    def find(self, path: str) -> Holding | None:
        """Whose prefix a path is under; the longest wins, on whole segments."""
        return self._register.find(path)

    def near(self, path: str) -> Iterator[str]:
        """A few prefixes that a path may have been meant to be under."""
        return self._register.near(path)

    async def awake(self, name: str, *, arrived: float | None = None, timeout_s: float | None = None) -> Holding:
        """A function's holding with the function loaded and a lease taken, which the caller ends with ``leave``.

        Args:
            arrived: when the call arrived, seconds of ``time.monotonic``; now if None.
            timeout_s: how long after that it may take; None: as long as it takes.

        Raises:
            NotFound: no such function is declared.
            LoadError: it cannot become ready; ``retry_after_s`` says when the next attempt is made.
            NoRoom, Quarantined, Draining: it is not to be loaded now.
            Overloaded: as many as it takes are waiting for it already.
            DeadlineExceeded: it takes longer than the caller has; the load goes on.
        """
        asked = time.monotonic()
        arrived = asked if arrived is None else arrived
        while (holding := self._register.require(name)).function is None:
            self._refuse_to_wake(holding)
            flight = holding.flight or self._flights.begin(holding, arrived, asked)
            left_s = None if timeout_s is None else max(0.0, arrived + timeout_s - time.monotonic())
            holding.waiting += 1
            try:
                await asyncio.wait((flight,), timeout=left_s)
                if not flight.done():
                    message = (
                        f"{name!r} has not woken within the {timeout_s:.3g} s that its caller and request_timeout_s left; the load goes on."
                    )
                    raise DeadlineExceeded(message, retry_after_s=holding.expected_s())
                if not flight.cancelled():
                    flight.result()
            finally:
                holding.waiting -= 1
        holding.lease()
        return holding

    def leave(self, holding: Holding, began: float) -> None:
        """Ends a lease whose exchange began at ``began``, seconds of ``time.monotonic``."""
        holding.leases -= 1
        holding.last_used = time.monotonic()
        if holding.released_at is not None and began > holding.released_at:
            holding.released_at = None
        if holding.idle is not None and not holding.leases:
            holding.idle.set()

    def answered(self, holding: Holding) -> ColdStart | None:
        """The record of a cold start whose first answer is being sent now; None for every later one."""
        return self._flights.finish(holding, time.monotonic()) if holding.waking is not None else None

    @contextlib.asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Function]:
        """The function, loaded now if it is not, and not unloaded within the block. Raises as ``awake``."""
        began = time.monotonic()
        holding = await self.awake(name)
        assert holding.function is not None
        try:
            yield holding.function
        finally:
            self.answered(holding)
            self.leave(holding, began)

    async def load(self, name: str) -> Function:
        """The function, loaded now if it is not. Raises as ``awake``."""
        holding = await self.awake(name)
        self._flights.finish(holding, None)
        self.leave(holding, time.monotonic())
        assert holding.function is not None
        return holding.function

    # What its owner does.

    def wake(self, name: str) -> None:
        """Begins to load a function that is declared, asleep and may be loaded now; nobody waits."""
        holding, now = self._register.get(name), time.monotonic()
        if holding is not None and holding.function is None and holding.flight is None:
            with contextlib.suppress(WakefulError):
                self._refuse_to_wake(holding)
                self._flights.begin(holding, now, now)

    def release(self, name: str) -> None:
        """Unloads it as soon as it is idle, whatever its delay; a call that begins later takes that back."""
        holding = self._register.get(name)
        if holding is not None and holding.function is not None:
            holding.released_at = time.monotonic()
            self._residents.stir()

    async def unload(self, name: str) -> None:
        """Answers what it accepted and frees it; who calls it meanwhile waits for the next load."""
        closing = self._residents.unload(self._register.require(name), "released")
        if closing is not None:
            await asyncio.wait((closing,))

    async def load_all(self, told: Callable[[str, State], None]) -> None:
        """Loads one after another, so that each has the machine for itself, while there is room; ``told`` hears how each went."""
        last = 0
        for holding in self._register:
            name = holding.name
            if not self._residents.has_room(holding.bytes or last):
                told(name, State("asleep", "there is no room beside the others; its first call makes some."))
                continue
            with contextlib.suppress(WakefulError):  # its state says why, and the others are to be served
                await self.load(name)
            last = holding.bytes
            told(name, holding.state)

    async def keep(self) -> None:
        """Unloads whoever has been idle for its delay; runs until it is cancelled, and costs nothing while nobody is loaded."""
        await self._residents.keep()

    async def close(self) -> None:
        """Unloads everything and loads nothing more. Idempotent."""
        self._is_closed = True
        flights = [holding.flight for holding in self._residents if holding.flight is not None]
        for flight in flights:
            flight.cancel()
        if flights:
            await asyncio.wait(flights)
        closings = [closing for holding in self._residents if (closing := self._residents.unload(holding, "closed")) is not None]
        if closings:
            await asyncio.wait(closings)

    def _refuse_to_wake(self, holding: Holding) -> None:
        """Raises why a call of a function that is not loaded is not to wait for it."""
        name = holding.name
        if self._is_closed:
            raise Draining("this process is shutting down; call again, another answers.", retry_after_s=1)
        if holding.refused:
            raise Quarantined(f"{name!r} is not loaded: {holding.refused}", retry_after_s=QUARANTINE_RETRY_S)
        left_s = holding.retry_at - time.monotonic()
        if holding.reason and left_s > 0:
            said = holding.reason.rstrip(".")
            raise LoadError(f"{said}. The next attempt is made on the first call after {left_s:.1f} s.", retry_after_s=left_s)
        if holding.waiting >= holding.most_waiting:
            told = (
                f"{holding.waiting} calls wait for {name!r} to wake, as many as it takes. Call again, or raise limits.max_queued_requests."
            )
            raise Overloaded(told, retry_after_s=holding.expected_s())
