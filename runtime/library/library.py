"""The functions of one process by name: loaded on their first call, kept while they are used.

Theory of operation: everything here happens on one event loop, so code between two ``await`` is
atomic. A request acquires a *lease* in the same step in which it finds the function loaded, and a
function with a lease is never unloaded. Callers of a sleeping function wait for its *load task*,
which no caller's disconnect or deadline ends. An unload takes the function away from new callers
first and then waits for the last lease; callers that come meanwhile wait for the next load, which
begins when the unload is done.

Functions of one library call each other in their process: no hop, and their rows share batches with
those of all other callers.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Container,
    Iterable,
    Mapping,
)
from typing import TYPE_CHECKING

from runtime.errors import (
    DeadlineExceeded,
    Draining,
    LoadError,
    Overloaded,
    Quarantined,
    WakefulError,
)
from runtime.execution.function import Function
from runtime.library.cold_start import ColdStart
from runtime.library.entry import (
    LOAD_HUNG_S,
    DeclaredFunction,
    EntryState,
    LibraryEntry,
)
from runtime.library.entry_report import report_entry
from runtime.library.eviction import LoadedSet
from runtime.library.function_report import FunctionReport
from runtime.library.loading import SingleFlightLoader
from runtime.library.local_calls import LocalFunctionCaller
from runtime.library.measurements import Activity, Look, growth_between
from runtime.library.registry import Registry
from runtime.settings import Settings
from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.metrics import Metrics
from runtime.system.telemetry.recent import RecentCalls, Traffic
from runtime.system.telemetry.recent_failures import RecentFailures

if TYPE_CHECKING:
    from runtime.batching.workers import Workers
    from runtime.execution.stages.function_stage import FunctionCaller
    from runtime.system.crash import CrashRecorder


__all__ = ["DeclaredFunction", "EntryState", "FunctionLibrary"]

REPORT_CHANGES_S = 120.0
"""How long a function is reported after its last change, though it is asleep."""

KEEP_RETRY_S = 5.0
"""From the end of a load, or of an unload, until a function that is kept awake is loaded again by
itself: there may be no room for it for long.
"""


class FunctionLibrary:
    """The functions of one process. Used on one event loop.

    Args:
        declared: every function.
        settings: where models are.
        workers: the threads that all functions share; not closed here.
        budget_bytes: what loaded functions may hold together; None: no limit.
        crash_recorder: records the loads under way.
        callees: answers for the functions that functions call; None: this library does.
        on_change: called with the name of a function whose state has changed, on the event loop.

    Attributes:
        entries: every declared function, loaded or not; changed by ``declare`` only.
        counters: of its functions.
        failures: their last calls that were answered with an error.
        metrics: of cold starts and memory, and what ``counters`` have.

    Mutable state: ``entries`` (what is declared), ``_loaded_set`` (what is loaded), ``_kept``
    (names of functions that are kept awake), ``_is_closed``; ``_recent`` and ``_look``, what was
    seen last (``observe``).
    """

    def __init__(
        self,
        declared: Iterable[DeclaredFunction],
        settings: Settings,
        *,
        workers: Workers,
        budget_bytes: int | None,
        crash_recorder: CrashRecorder | None = None,
        callees: FunctionCaller | None = None,
        on_change: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.budget_bytes = budget_bytes
        self.counters = ProcessCounters()
        self.failures = RecentFailures()
        self.counters.tell_failed(self.failures.record)
        self.metrics = Metrics(self, self.counters, settings.metrics_functions)
        self._loaded_set = LoadedSet(budget_bytes, self.metrics, on_change)
        self._loader = SingleFlightLoader(
            self._loaded_set,
            settings,
            workers=workers,
            crash_recorder=crash_recorder,
            callees=callees or LocalFunctionCaller(self),
            metrics=self.metrics,
            counters=self.counters,
            on_change=on_change,
        )
        self.entries = Registry(self._loaded_set, self._loader, on_change)
        self._kept: frozenset[str] = frozenset()
        self._is_closed = False
        self._recent = RecentCalls(self.counters, time.monotonic())
        self._look = Look(0, {}, None)
        self.declare(declared)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts().items())
        return f"<FunctionLibrary: {counts or 'empty'}>"

    # What is declared.

    def declare(self, declared: Iterable[DeclaredFunction]) -> None:
        """Replace the set of functions. A function that is gone is unloaded; one that changed
        serves until its next version is warm (``registry``); changed live settings apply at once;
        all others stay as they are.
        """
        self.entries.declare(declared)
        names = {entry.name for entry in self.entries}
        self.counters.keep(names)
        self.failures.keep(names)

    def set_quarantined(self, reasons: Mapping[str, str]) -> None:
        """Unload these functions, by name, and answer their callers with the reason; end the
        quarantine of all others.
        """
        for serving in self.entries:
            for entry in filter(None, (serving, serving.next_version)):
                entry.quarantine(reasons.get(entry.name, ""))
                if entry.quarantine_reason:
                    self._loaded_set.unload(entry, "quarantined")

    @property
    def quarantined(self) -> dict[str, str]:
        """Why functions are not run any more, by name."""
        return {
            entry.name: entry.quarantine_reason for entry in self.entries if entry.quarantine_reason
        }

    # Queries load nothing.

    def has_loaded(self, name: str) -> bool:
        """Whether a function is loaded here and is not to be unloaded as soon as it is idle."""
        entry = self.entries.get(name)
        return (
            entry is not None
            and entry.function is not None
            and entry.leases.release_requested_at is None
        )

    def counts(self) -> dict[str, int]:
        """Return the number of functions by state."""
        return dict(Counter(entry.state.state for entry in self.entries))

    def used_bytes(self) -> int:
        """Return what this process holds beyond what it held before it had functions."""
        return self._loaded_set.used_bytes()

    def observe(self) -> None:
        """Look at what the loaded functions hold, and at how often they were called; called each
        second or so by the process that owns the library.
        """
        now = time.monotonic()
        self._recent.look(now)
        loaded = [entry for entry in self._loaded_set if entry.function is not None]
        if not loaded and not self._look.functions:
            return  # it costs nothing while everything sleeps
        before = self._look
        self._look = Look(
            self.used_bytes(),
            {entry.name: _activity_of(entry.function) for entry in loaded if entry.function},
            [(entry.name, entry.measured.loads, entry.state.state) for entry in self._loaded_set],
        )
        name, grown = growth_between(before, self._look)
        if name and grown and (entry := self.entries.get(name)) is not None:
            entry.record_growth(grown)

    def recent_calls(self, name: str) -> Traffic:
        """Return the calls of a function in the last minute."""
        counters = self.counters.find(name)
        return Traffic() if counters is None else self._recent.of(counters, time.monotonic())

    def report(self) -> dict[str, FunctionReport]:
        """Return what is reported of every function that is not asleep or has changed lately, by
        name.
        """
        self.observe()
        now = time.monotonic()
        return {
            entry.name: report_entry(
                entry, now, self.recent_calls(entry.name), self.failures.of(entry.name)
            )
            for entry in self.entries
            if entry.state.state != "asleep"
            or (entry.measured.loads and now - entry.changed_at < REPORT_CHANGES_S)
        }

    # Calls.

    async def get_loaded(
        self, name: str, *, arrived: float | None = None, until: float = math.inf
    ) -> LibraryEntry:
        """Return a function's entry with the function loaded and a lease acquired, which the caller
        ends (``Leases.release``).

        Args:
            arrived: when the call arrived, seconds of ``time.monotonic``; now if None.
            until: when it is of use no more, seconds of ``time.monotonic``.

        Raises:
            NotFound: no such function is declared.
            LoadError: it cannot become ready; ``retry_after_s`` says when the next attempt is made.
            NoRoom, Quarantined, Draining: it is not to be loaded now.
            Overloaded: as many callers as it admits wait for it already.
            DeadlineExceeded: it takes longer than the caller has; the load goes on.
        """
        asked = time.monotonic()
        arrived = asked if arrived is None else arrived
        while (entry := self.entries.require(name)).function is None:
            self._refuse_load(entry)
            task = entry.load_task or self._loader.start(entry, arrived, asked)
            try:
                is_done = await entry.leases.wait_for_load(task, until)
            except WakefulError:
                if entry.is_superseded:  # the version that is declared now may load
                    continue
                raise
            if not is_done:
                state = entry.state
                raise DeadlineExceeded(
                    f"{name!r} has not woken within the {until - arrived:.3g} s that its caller "
                    f"and request_timeout_s left; {state.reason or 'the load goes on.'}",
                    retry_after_s=entry.measured.expected_load_s,
                )
        entry.leases.acquire()
        return entry

    async def wait_for_update(self, name: str, timeout_s: float) -> None:
        """Return once no version of a function loads beside one that serves, at most after
        ``timeout_s``.
        """
        until = time.monotonic() + timeout_s
        while (entry := self.entries.get(name)) is not None:
            task = None if entry.next_version is None else entry.next_version.load_task
            if task is None or time.monotonic() >= until:
                return
            await asyncio.wait((task,), timeout=until - time.monotonic())

    def finish_cold_start(self, entry: LibraryEntry) -> ColdStart | None:
        """Return the record of a cold start whose first response is being sent now; None for every
        later one.
        """
        if not entry.measured.has_cold_start:
            return None
        return self._loader.finish_cold_start(entry, time.monotonic())

    @contextlib.asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Function]:
        """The function, loaded now if it is not, and not unloaded within the block. Raises as
        ``get_loaded``.
        """
        began = time.monotonic()
        entry = await self.get_loaded(name)
        assert entry.function is not None
        try:
            yield entry.function
        finally:
            self.finish_cold_start(entry)
            entry.leases.release(began)

    async def load(self, name: str) -> Function:
        """Return the function, loaded now if it is not. Raises as ``get_loaded``."""
        entry = await self.get_loaded(name)
        self._loader.finish_cold_start(entry, None)
        entry.leases.release(time.monotonic())
        assert entry.function is not None
        return entry.function

    # What the process that owns the library asks for.

    def start_loading(self, name: str) -> None:
        """Start the load of a function that is declared, asleep and may be loaded now."""
        entry, now = self.entries.get(name), time.monotonic()
        if entry is not None and entry.function is None and entry.load_task is None:
            with contextlib.suppress(WakefulError):
                self._refuse_load(entry)
                self._loader.start(entry, now, now)

    def unload_when_idle(self, name: str) -> None:
        """Unload a function as soon as it is idle, whatever its delay; a call that begins later
        cancels that.
        """
        entry = self.entries.get(name)
        if entry is not None and entry.function is not None:
            entry.leases.request_release()
            self._loaded_set.recompute_next_unload()

    def keep_awake(self, names: Collection[str], pinned: Collection[str] = ()) -> None:
        """Load these functions now where they sleep, and unload them neither for being idle nor to
        make room; let all others sleep as they are declared. Called again and again: a load that
        failed is tried again when its wait is over, and a new version is kept like the one before.

        Args:
            pinned: those of them that an operator has pinned, for what shows it.
        """
        now = time.monotonic()
        before, self._kept = self._kept, frozenset(names)
        for name in before | self._kept:
            entry = self.entries.get(name)
            if entry is None:
                continue
            entry.is_kept_by_pin = name in pinned
            if entry.is_kept != (name in self._kept):
                entry.keep(name in self._kept)
                self._loaded_set.recompute_next_unload()
            if entry.is_kept and now >= entry.changed_at + KEEP_RETRY_S:
                self.start_loading(name)

    async def unload(self, name: str) -> None:
        """Answer what the function has accepted and free it; calls that come meanwhile wait for the
        next load.
        """
        task = self._loaded_set.unload(self.entries.require(name), "released")
        if task is not None:
            await asyncio.wait((task,))

    async def load_all(
        self,
        on_loaded: Callable[[str, EntryState], None],
        names: Container[str] | None = None,
        *,
        will_retry: bool = True,
    ) -> None:
        """Load one function after another, so that each has the machine for itself, while there is
        memory; ``on_loaded`` is called with the name and the state of each.

        Args:
            names: the functions to load; None: every one.
            will_retry: as of ``SingleFlightLoader``, until this returns.
        """
        last_bytes, self._loader.will_retry = 0, will_retry
        for entry in self.entries:
            name = entry.name
            if names is not None and name not in names:
                continue
            if not self._loaded_set.has_memory_for(entry.measured.memory_bytes or last_bytes):
                reason = "there is no room beside the others; its first call makes some."
                on_loaded(name, EntryState("asleep", reason))
                continue
            # the state says why a load failed or does not end, and the others are to be served
            with contextlib.suppress(WakefulError, TimeoutError):
                async with asyncio.timeout(LOAD_HUNG_S):
                    await self.load(name)
            last_bytes = entry.measured.memory_bytes
            on_loaded(name, entry.state)
        self._loader.will_retry = True

    async def run_idle_unloader(self) -> None:
        """Unload functions that have been idle for their delay; run until cancelled. It costs
        nothing while none is loaded.
        """
        await self._loaded_set.run_idle_unloader()

    async def close(self) -> None:
        """Unload everything and load nothing more. Idempotent."""
        self._is_closed = True
        loads = [entry.load_task for entry in self._loaded_set if entry.load_task is not None]
        for load in loads:
            load.cancel()
        if loads:
            await asyncio.wait(loads)
        await self._loaded_set.close()

    def _refuse_load(self, entry: LibraryEntry) -> None:
        """Raise the reason why a call of a function that is not loaded must not wait for it."""
        name = entry.name
        if self._is_closed:
            raise Draining(
                "this process is shutting down; call again, another answers.", retry_after_s=1
            )
        if entry.quarantine_reason:
            raise Quarantined.of(name, entry.quarantine_reason)
        if entry.load_task is not None and (state := entry.state).state == "failed":
            raise LoadError(f"{name!r} is not there: {state.reason}", retry_after_s=LOAD_HUNG_S)
        wait_s = entry.retry_at - time.monotonic()
        if entry.reason and wait_s > 0:
            raise LoadError(
                f"{entry.reason.rstrip('.')}. The next attempt is made on the first call after "
                f"{wait_s:.1f} s.",
                retry_after_s=wait_s,
            )
        waiting = entry.leases.waiting_callers
        if waiting >= entry.max_waiting_callers:
            raise Overloaded(
                f"{waiting} calls wait for {name!r} to wake, as many as it takes. Call again, or "
                "raise limits.max_queued_requests.",
                retry_after_s=entry.measured.expected_load_s,
            )


def _activity_of(function: Function) -> Activity:
    return Activity(function.in_flight.total_calls, function.in_flight.calls, function.busy_s)
