"""Loads a sleeping function once for all the callers that wait for it.

One load waits for memory, then for a slot, loads the function, and records how it went.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Final

from runtime.artifacts.tracebacks import notes_of
from runtime.batching.health.hangs import HUNG_S, MOST_ABANDONED, MOST_ABANDONED_IN_ALL
from runtime.declaration.function_spec import version_hash
from runtime.errors import LoadError, NoRoom, WakefulError
from runtime.execution.function import Function
from runtime.execution.warmup import LOAD_THREAD
from runtime.library.cold_start import ColdStart, ColdStartTimer
from runtime.library.entry import LibraryEntry
from runtime.library.eviction import LoadedSet
from runtime.settings import Settings
from runtime.system.cores import usable_cores
from runtime.system.crash.recorder import label_of
from runtime.system.function_context import CURRENT_FUNCTION
from runtime.system.memory import Footprint
from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from runtime.batching.workers import Workers
    from runtime.execution.stages.function_stage import FunctionCaller
    from runtime.system.crash import CrashRecorder

logger = logging.getLogger("wakeful.wake")

GIVE_UP_S: Final = 600.0
"""A load that has not ended by then hangs: its thread is left behind, and the next call begins
another one. Ten minutes: a model of tens of gigabytes comes from a slow disk in fewer, and to load
it twice at once takes its memory twice.
"""


def load_limit_s(name: str, threads: Iterable[str], under_way: int) -> float:
    """Seconds that the next load of a function may take; infinite where as many threads of loads
    were left behind as may be, of it or of the process.

    Args:
        name: of the function.
        threads: the names of all threads of the process.
        under_way: loads that have not ended and were not given up.
    """
    loads = Counter(one for one in threads if one.startswith(LOAD_THREAD))
    is_bounded = (
        loads[f"{LOAD_THREAD}{name}"] < MOST_ABANDONED
        and loads.total() - under_way < MOST_ABANDONED_IN_ALL
    )
    return GIVE_UP_S if is_bounded else math.inf


class _LoadUnderWay:
    """A load whose memory is measured.

    Attributes:
        held_before: bytes that the process held before it.
        unloads_before: ``LoadedSet.unloads_so_far`` then.
        called_bytes: of functions that it calls and that were loaded meanwhile.
        is_told_apart: nothing else was loaded meanwhile.
    """

    __slots__ = (
        "_names",
        "called_bytes",
        "entry",
        "held_before",
        "is_told_apart",
        "unloads_before",
    )

    def __init__(self, entry: LibraryEntry, held_before: int, unloads_before: int | None) -> None:
        self.entry = entry
        self.held_before = held_before
        self.unloads_before = unloads_before
        self.called_bytes = 0
        self.is_told_apart = True
        self._names = entry.spec.all_called

    def calls(self, entry: LibraryEntry) -> bool:
        """Whether it calls this one, by itself or by others."""
        return entry.name in self._names


class SingleFlightLoader:
    """Loads functions for a library, at most one a core at once: more would slow each other and the
    calls of other functions.

    Args:
        loaded_set: reserves memory.
        settings: where models are.
        workers: the threads that functions share.
        crash_recorder: records the loads under way.
        callees: answers for the functions that functions call.
        metrics: count how loads went.
        counters: of the functions.
        on_change: called with the name of a function whose state has changed, or whose cold start
            was recorded.

    Attributes:
        will_retry: whether what does not load is tried again, by its next call; False while the
            process does not serve yet, and may end instead.

    Mutable state, on the event loop only: this, ``_slots``, and ``_loading`` (loads under way).
    """

    def __init__(
        self,
        loaded_set: LoadedSet,
        settings: Settings,
        *,
        workers: Workers,
        crash_recorder: CrashRecorder | None,
        callees: FunctionCaller,
        metrics: Metrics,
        counters: ProcessCounters,
        on_change: Callable[[str], None],
    ) -> None:
        self._loaded_set = loaded_set
        self._settings = settings
        self._workers = workers
        self._crash_recorder = crash_recorder
        self._callees = callees
        self._metrics = metrics
        self._counters = counters
        self._on_change = on_change
        self.will_retry = True
        self._slots = asyncio.Semaphore(usable_cores())
        self._loading: list[_LoadUnderWay] = []

    def start(self, entry: LibraryEntry, arrived: float, asked: float) -> asyncio.Task[None]:
        """Start the load of a function that has none under way; ``arrived`` and ``asked`` as in
        ``ColdStartTimer``.
        """
        timer = ColdStartTimer(entry.name, time.time(), arrived, asked)
        task = asyncio.create_task(self._load_once(entry, timer), name=f"load {entry.name}")
        task.add_done_callback(_retrieve_exception)
        entry.start_loading(task)
        self._on_change(entry.name)
        return task

    def finish_cold_start(self, entry: LibraryEntry, answered: float | None) -> ColdStart | None:
        """Record a cold start with its first response, sent at ``answered``; None when that has
        been done.
        """
        record = entry.measured.finish_cold_start(answered)
        if record is None:
            return None
        self._metrics.wakes.labels("ok").inc()
        self._counters.of(entry.name).record_wake(record.total_s)
        for phase, seconds in {**record.phases, "total": record.total_s}.items():
            self._metrics.wake_s.labels(phase).observe(seconds)
        # this is the caller's task, which has no function's name
        speaker = CURRENT_FUNCTION.set(entry.name)
        # without a waiting client the code that asked for the load reports it
        logger.log(logging.DEBUG if answered is None else logging.INFO, "%s", record)
        CURRENT_FUNCTION.reset(speaker)
        self._on_change(entry.name)
        return record

    async def _load_once(self, entry: LibraryEntry, timer: ColdStartTimer) -> None:
        CURRENT_FUNCTION.set(entry.name)
        try:
            while entry.unload_task is not None:
                await asyncio.wait((entry.unload_task,))
            await self._loaded_set.reserve_memory(entry)
            # The first run of a function that calls others may wake them: it must not hold a slot
            # that they need.
            slot = contextlib.nullcontext() if entry.spec.deployed.calls else self._slot()
            async with self._loaded_set.loading_unknown(entry), slot:
                function = await self._load(entry, timer)
        except (Exception, SystemExit) as error:
            raise self._record_failure(entry, error) from error
        except BaseException:
            entry.load_cancelled()
            raise
        else:
            entry.loaded(function, timer)
            function.counters.attach(function, entry.measured.memory_bytes)
        finally:
            self._loaded_set.discard_unless_loaded(entry)
            self._on_change(entry.name)
        self._begin_service(entry, function)

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """One of the slots, until the block ends or half a minute is over: a load that hangs stops
        no other for good.
        """
        await self._slots.acquire()
        timer = asyncio.get_running_loop().call_later(HUNG_S, self._slots.release)
        try:
            yield
        finally:
            if asyncio.get_running_loop().time() < timer.when():
                timer.cancel()
                self._slots.release()

    async def _load(self, entry: LibraryEntry, timer: ColdStartTimer) -> Function:
        measured = self._begin_measuring(entry)
        timer.began = time.monotonic()
        entry.load_began(timer.began)
        try:
            label = label_of(entry.name, version_hash(entry.spec))
            with (
                self._crash_recorder.loading(label)
                if self._crash_recorder is not None
                else contextlib.nullcontext()
            ):
                function = await self._load_in_time(entry)
            timer.loaded, timer.load_s = time.monotonic(), function.load_s
            is_alone = (
                measured.is_told_apart
                and measured.unloads_before == self._loaded_set.unloads_so_far() is not None
            )
            if is_alone and not entry.measured.is_size_known:
                held = Footprint.of().own_bytes
                size = held - measured.held_before - measured.called_bytes
                entry.measured.record_memory(max(0, size))
                await self._refuse_if_too_large(entry, function)
        finally:
            self._end_measuring(measured)
        return function

    async def _load_in_time(self, entry: LibraryEntry) -> Function:
        names = (thread.name for thread in threading.enumerate())
        limit_s = load_limit_s(entry.name, names, len(self._loading) - 1)
        try:
            async with asyncio.timeout(None if limit_s == math.inf else limit_s) as limit:
                return await Function.load(
                    entry.spec,
                    self._settings,
                    workers=self._workers,
                    warm_up=not entry.can_skip_warm_up,
                    warmed=entry.warmed_models,
                    callees=self._callees,
                    counters=self._counters.of(entry.name),
                )
        except TimeoutError:
            if not limit.expired():
                raise
            raise LoadError(
                f"it had not ended after {limit_s:g} s, and was given up; the log says where it is."
            ) from None

    def _begin_measuring(self, entry: LibraryEntry) -> _LoadUnderWay:
        """The memory of two loads at once cannot be told apart, unless one of them waits for the
        other, which it calls; nor that of a load from what an unload gives back meanwhile.
        """
        begun = _LoadUnderWay(entry, Footprint.of().own_bytes, self._loaded_set.unloads_so_far())
        for other in self._loading:
            if not (begun.calls(other.entry) or other.calls(entry)):
                begun.is_told_apart = other.is_told_apart = False
        self._loading.append(begun)
        return begun

    def _end_measuring(self, ended: _LoadUnderWay) -> None:
        self._loading.remove(ended)
        for other in self._loading:
            if other.calls(ended.entry):
                other.called_bytes += ended.entry.measured.memory_bytes
                other.is_told_apart &= ended.entry.measured.is_size_known

    async def _refuse_if_too_large(self, entry: LibraryEntry, function: Function) -> None:
        """The memory of a function that was not probed is known only once it is loaded."""
        evictions = self._loaded_set.choose_evictions(entry)
        if isinstance(evictions, NoRoom):
            await function.close(1.0)
            raise evictions
        for idle in evictions:
            self._loaded_set.unload(idle, "room")

    def _begin_service(self, entry: LibraryEntry, function: Function) -> None:
        function.self_test.on_broken = lambda: self._reload_broken(entry)
        if not entry.leases.waiting_callers:
            self.finish_cold_start(entry, None)
        if entry.is_superseded or entry.quarantine_reason:
            self._loaded_set.unload(entry, "changed" if entry.is_superseded else "quarantined")
        self._loaded_set.recompute_next_unload()

    def _reload_broken(self, entry: LibraryEntry) -> None:
        """A loaded function cannot answer any more: load it again now, with the warm-up."""
        if entry.function is None:  # it is being unloaded already
            return
        now = time.monotonic()
        entry.require_warm_up()
        self._loaded_set.unload(entry, "broken")
        self.start(entry, now, now)

    def _record_failure(self, entry: LibraryEntry, error: Exception | SystemExit) -> WakefulError:
        """Return the error that its callers get; the next attempt has to wait."""
        if isinstance(error, NoRoom):
            entry.load_cancelled()
            self._metrics.wakes.labels("no_room").inc()
            logger.warning("%s does not wake: %s", entry.name, error)
            return error
        is_ours = isinstance(error, WakefulError)
        wait_s = entry.load_failed(
            error.message if isinstance(error, WakefulError) else f"{type(error).__name__}: {error}"
        )
        self._metrics.wakes.labels("failed").inc()
        again = f"; tried again on the first call after {wait_s:g} s" if self.will_retry else "."
        logger.warning(
            "%s%s%s",
            entry.reason.rstrip("."),
            again,
            notes_of(error),
            exc_info=None if is_ours else error,
        )
        return LoadError(entry.reason, retry_after_s=wait_s)


def _retrieve_exception(task: asyncio.Task[None]) -> None:
    """Keep asyncio from reporting a failure that no caller waited for: the log has it."""
    if not task.cancelled():
        task.exception()
