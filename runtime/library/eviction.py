"""The functions that hold memory in this process: reserves memory for one more, unloads idle ones,
gives memory back.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from runtime.errors import NoRoom
from runtime.execution.function import Function
from runtime.library import eviction_policy
from runtime.library.entry import LibraryEntry
from runtime.system import memory
from runtime.system.memory import Footprint
from runtime.system.telemetry.metrics import Metrics

UNLOAD_TIMEOUT_S = 30.0
"""Shortest time that an unload waits for the calls that the function has accepted; with a longer
``request_timeout_s`` it waits that long.
"""

MEMORY_WAIT_S = 2.0
"""A busy function is mostly idle again within milliseconds, so a load waits this long for memory
before it is refused.
"""

MEMORY_POLL_S = 0.02
"""How often it checks meanwhile."""

UNKNOWN_WAIT_S = 60.0
"""Longest wait of a function of unknown size for others that load, and longest that one of these
keeps any function waiting: one that hangs would cost each that wakes after it so long."""

EXCESS_S = 10.0
"""How long after the load of a function of unknown size idle ones yield for what all hold together:
those that hold it may be busy now. Not longer: what large batches leave behind is no reason to
unload what is called next."""

EXCESS_POLL_S = 0.2
"""How often that is looked at."""

MIN_UNLOAD_INTERVAL_S = 0.05
"""Idle functions are looked for no more often than this, whatever their delays are."""


class LoadedSet:
    """The functions of a library that are loaded, being loaded or being unloaded.

    Args:
        budget_bytes: what they may hold together; None: no limit.
        metrics: count unloads.
        on_change: called with the name of a function whose state has changed.

    Mutable state, on the event loop only: ``_entries``; ``_changed`` (set when the next function to
    be unloaded for idleness may be another one); ``_loading`` (functions of unknown size that load,
    and since when) and ``_load_ended`` (set when one of them has ended); ``_largest`` (bytes of the
    largest one that was measured); ``_unloads`` (that were begun); ``_initial_bytes``;
    ``_excess_until`` (until when idle functions yield to what all hold).
    """

    def __init__(
        self, budget_bytes: int | None, metrics: Metrics, on_change: Callable[[str], None]
    ) -> None:
        self._budget = budget_bytes
        self._metrics = metrics
        self._on_change = on_change
        self._entries: set[LibraryEntry] = set()
        self._changed = asyncio.Event()
        self._loading: dict[LibraryEntry, float] = {}
        self._load_ended = asyncio.Event()
        self._largest: int | None = None
        self._unloads = 0
        self._excess_until = -math.inf
        self._initial_bytes = Footprint.of().own_bytes

    def __iter__(self) -> Iterator[LibraryEntry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    # Memory.

    def used_bytes(self) -> int:
        """Return what this process holds beyond what it held before it had functions: at least so
        much was there, since what it began with may have gone.
        """
        held = Footprint.of().own_bytes
        self._initial_bytes = min(self._initial_bytes, held)
        return held - self._initial_bytes

    def has_memory_for(self, size: int) -> bool:
        """Whether so many bytes more fit without an eviction."""
        if self._budget is None:
            return True
        return max(self.used_bytes(), self._accounted_bytes()) + size <= self._budget

    async def reserve_memory(self, entry: LibraryEntry) -> None:
        """Reserve the function's memory: unload idle functions and wait until their memory is back.
        The reservation ends with the load, if that fails, or with the unload.

        Raises:
            NoRoom: it does not fit next to the busy functions.
        """
        self._entries.add(entry)
        until = time.monotonic() + MEMORY_WAIT_S
        while isinstance(evictions := self.choose_evictions(entry), NoRoom):
            if (
                time.monotonic() > until
                or self._budget is None
                or entry.measured.memory_bytes > self._budget
            ):
                raise evictions
            await asyncio.sleep(MEMORY_POLL_S)
        entry.reserve_memory()
        await self._unload_for(entry, evictions, 0)

    @contextlib.asynccontextmanager
    async def loading_unknown(self, entry: LibraryEntry) -> AsyncIterator[None]:
        """Load a function of unknown size in here: when the budget clearly holds it beside others
        of unknown size that load, or by itself. One that is called by a function that loads does
        not wait: that one waits for it, and two such would wait for each other's callees.
        """
        if self._budget is None or entry.measured.is_size_known:
            yield
            return
        until = (now := time.monotonic()) + UNKNOWN_WAIT_S
        while not self._may_load_unknown(entry, now) and now < until:
            self._load_ended.clear()
            due = min([until, *(began + UNKNOWN_WAIT_S for began in self._waited_for(now))])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due - now):
                    await self._load_ended.wait()
            now = time.monotonic()
        self._loading[entry] = now
        try:
            await self._make_room(entry, eviction_policy.unknown_bytes(self._largest))
            yield
        finally:
            del self._loading[entry]
            if entry.measured.is_size_known:
                self._largest = max(self._largest or 0, entry.measured.memory_bytes)
            self._load_ended.set()
            self._excess_until = time.monotonic() + EXCESS_S

    def _waited_for(self, now: float) -> list[float]:
        """When loads of unknown size began, without those that take too long."""
        return [began for began in self._loading.values() if now < began + UNKNOWN_WAIT_S]

    def _may_load_unknown(self, entry: LibraryEntry, now: float) -> bool:
        budget = self._budget
        assert budget is not None
        if any(entry.name in one.spec.all_called for one in self._loading):
            return True
        loading = len(self._waited_for(now))
        used = max(self.used_bytes(), self._accounted_bytes())
        return eviction_policy.may_load_unknown(used, budget, loading, self._largest)

    async def _make_room(self, entry: LibraryEntry, size: int) -> None:
        """Unload idle functions for one that may take so many bytes; as far as they go."""
        assert self._budget is not None
        busy = sum(
            e.measured.memory_bytes for e in self._entries if e.holds_memory and not e.is_idle
        )
        found = self.choose_evictions(entry, max(0, min(size, self._budget - busy)))
        await self._unload_for(entry, () if isinstance(found, NoRoom) else found, size)

    async def _unload_for(
        self, entry: LibraryEntry, evictions: Iterable[LibraryEntry], size: int
    ) -> None:
        """Unload these; return once their memory is back, and that of others which are unloaded
        already, as far as so many bytes more than what has reservations need it. One that calls the
        function may be unloaded once that has answered it, and is not waited for.
        """
        unloads = [task for idle in evictions if (task := self.unload(idle, "room")) is not None]
        if unloads:
            await asyncio.wait(unloads)
        while (
            self._budget is not None
            and self._accounted_bytes() + size > self._budget
            and (unloads := self._unloads_under_way(entry.name))
        ):
            await asyncio.wait(unloads, return_when=asyncio.FIRST_COMPLETED)

    def _unloads_under_way(self, callee: str = "") -> list[asyncio.Task[None]]:
        """Those of functions that do not call this one."""
        return [
            entry.unload_task
            for entry in self._entries
            if entry.unload_task is not None and callee not in entry.spec.all_called
        ]

    def choose_evictions(
        self, entry: LibraryEntry | None, size: int = 0
    ) -> tuple[LibraryEntry, ...] | NoRoom:
        """Return the functions to unload so that this one fits; None: so that what is held does.

        Args:
            size: bytes that it is taken to hold where that is not known.
        """
        if self._budget is None:
            return ()
        others = [
            e
            for e in self._entries
            if e is not entry and (e.has_reservation or e.function is not None)
        ]
        evictions = eviction_policy.choose_evictions(
            size if entry is None else entry.measured.memory_bytes or size,
            self._budget,
            [other.to_loaded_function() for other in others],
            name="" if entry is None else f"the function {entry.name!r}",
            excess=max(0, self.used_bytes() - self._accounted_bytes()),
        )
        if isinstance(evictions, NoRoom):
            return evictions
        return tuple(e for e in others if e.name in evictions and e.function is not None)

    def _accounted_bytes(self) -> int:
        return sum(entry.measured.memory_bytes for entry in self._entries if entry.holds_memory)

    # Unloading.

    def unloads_so_far(self) -> int | None:
        """Return how many unloads were begun; None while one is under way."""
        return None if self._unloads_under_way() else self._unloads

    async def close(self) -> None:
        """Unload all, and give their memory back together: a collection of garbage for each would
        take longer than the rest.
        """
        unloads = [
            task
            for entry in tuple(self._entries)
            if (task := self.unload(entry, "closed", trims=False)) is not None
        ]
        if unloads:
            await asyncio.wait(unloads)
            await asyncio.to_thread(memory.trim_memory)

    def unload(
        self, entry: LibraryEntry, reason: str, *, trims: bool = True
    ) -> asyncio.Task[None] | None:
        """Take the function away from new callers now; answer the calls it has accepted, then give
        its memory back.

        Args:
            reason: ``idle``, ``room``, ``released``, ``changed``, ``quarantined``, ``broken`` or
                ``closed``, for the metrics.
            trims: its memory goes back to the system, and not only to the process.

        Returns:
            The task that does it; None when nothing is loaded.
        """
        if entry.function is None:
            return entry.unload_task
        task = asyncio.create_task(
            self._close(entry, [entry.function], trims), name=f"unload {entry.name}"
        )
        entry.function.counters.detach(entry.function)
        entry.start_unloading(task)
        self._unloads += 1
        self._metrics.unloads.labels(reason).inc()
        self._on_change(entry.name)
        return task

    async def _close(self, entry: LibraryEntry, owned: list[Function], trims: bool) -> None:
        """``owned`` has the only reference to the function, and is emptied here."""
        began = time.monotonic()
        timeout_s = max(UNLOAD_TIMEOUT_S, entry.spec.limits.request_timeout_s)
        try:
            await entry.leases.wait_until_released(timeout_s)
            await owned[0].close(max(UNLOAD_TIMEOUT_S, began + timeout_s - time.monotonic()))
            await asyncio.to_thread(_free, owned, trims)
        finally:
            entry.unloaded()
            self.discard_unless_loaded(entry)
            self._on_change(entry.name)

    def discard_unless_loaded(self, entry: LibraryEntry) -> None:
        """Forget an entry whose load has failed, or whose unload has ended."""
        if entry.function is None and entry.unload_task is None:
            self._entries.discard(entry)

    def recompute_next_unload(self) -> None:
        """Wake the idle unloader: a function was loaded, released or declared again."""
        self._changed.set()

    async def run_idle_unloader(self) -> None:
        """Unload functions that have been idle for their delay; run until cancelled, and sleep
        while none is due.
        """
        while True:
            self._changed.clear()
            wait_s = self._unload_idle()
            longest_s = max(MIN_UNLOAD_INTERVAL_S, wait_s) if math.isfinite(wait_s) else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(longest_s):
                    await self._changed.wait()

    def _unload_idle(self) -> float:
        """Unload what is due. Return the seconds until the next function may be due."""
        loaded = {e.name: e for e in self._entries if e.function is not None}
        delays = {name: entry.idle_delay_s for name, entry in loaded.items()}
        now = time.monotonic()
        functions = [entry.to_loaded_function() for entry in loaded.values()]
        for name in eviction_policy.idle_functions(functions, delays, now):
            entry = loaded.pop(name)
            reason = "idle" if entry.leases.release_requested_at is None else "released"
            self.unload(entry, reason)
        excess_s = self._unload_excess(now)
        remaining = [
            e.to_loaded_function()
            for e in loaded.values()
            if not e.is_pinned and e.function is not None
        ]
        return min(eviction_policy.next_idle_deadline(remaining, delays, now) - now, excess_s)

    def _unload_excess(self, now: float) -> float:
        """Unload idle functions while all hold more than the budget after one of unknown size was
        loaded. Return the seconds until that is to be looked at again.
        """
        if self._budget is None or now > self._excess_until:
            return math.inf
        if self.used_bytes() > self._budget and not self._unloads_under_way():
            found = self.choose_evictions(None)
            for idle in () if isinstance(found, NoRoom) else found:
                self.unload(idle, "room")
        return EXCESS_POLL_S


def _free(owned: list[Function], trims: bool) -> None:
    """In a thread: closing a session takes milliseconds."""
    owned.clear()
    if trims:
        memory.trim_memory()
