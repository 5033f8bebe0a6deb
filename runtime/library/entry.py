"""One declared function of a library, loaded or not, and its transitions between these states."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from runtime.batching.health.hangs import HUNG_S
from runtime.declaration.function_spec import FunctionSpec, version_hash
from runtime.execution.function import Function, ModelStates
from runtime.library.cold_start import ColdStartTimer
from runtime.library.eviction_policy import LoadedFunction, backoff_s
from runtime.library.leases import Leases
from runtime.library.measurements import LoadMeasurements
from runtime.types.json_schemas import InterfaceDescription

LOAD_HUNG_S = 120.0
"""A load that has not ended by then is shown as failed; it may end later. As long as `wakeful up`
gives one by default.
"""


@dataclass(frozen=True, slots=True)
class DeclaredFunction:
    """A function as it is put into a library.

    Attributes:
        spec: its declaration.
        memory_bytes: what loading it adds to a process, as the preflight measured it; 0 when it is
            unknown, and the first load measures it.
        is_probed: the preflight has loaded it and warmed it up, so a wake may skip the warm-up.
        is_pinned: once loaded it is never unloaded to save memory or for being idle.
        describe: returns its interface, for OpenAPI; None: it is not known in this process.
    """

    spec: FunctionSpec
    memory_bytes: int = 0
    is_probed: bool = False
    is_pinned: bool = False
    describe: Callable[[], InterfaceDescription | None] | None = None


@dataclass(frozen=True, slots=True)
class EntryState:
    """The state of one declared function.

    Attributes:
        state: asleep, waking, ready, draining or failed.
        reason: why it failed or cannot answer any more, or what is wrong with what is loaded; else
            empty.
        load_s: seconds its last load took; 0 when it was never loaded.
    """

    state: str = "asleep"
    reason: str = ""
    load_s: float = 0.0


class LibraryEntry:
    """One function of a library, loaded or not.

    Used on the event loop only. Each field is written by the methods below and nowhere else: the
    registry, the loader and the loaded set call the transitions, the HTTP edge acquires and
    releases.

        asleep or failed  --start_loading-->    waking
        waking            --loaded-->           ready
        waking            --load_failed-->      failed
        waking            --load_cancelled-->   asleep
        ready             --start_unloading-->  draining
        draining          --unloaded-->         asleep

    Attributes:
        leases: the requests that use it, and those that wait for it.
        measured: what is known of its loads.

    Mutable state: ``function`` while it can be called, ``load_task`` and ``unload_task`` while one
    runs; which version it is of (``declared``, ``next_version``, ``is_superseded``), what has gone
    wrong (``reason``, ``failures``, ``retry_at``, ``quarantine_reason``), and what the next load or
    unload has to know.
    """

    __slots__ = (
        "_load_began",
        "can_skip_warm_up",
        "changed_at",
        "declared",
        "failures",
        "function",
        "has_reservation",
        "is_kept",
        "is_kept_by_pin",
        "is_superseded",
        "leases",
        "load_task",
        "measured",
        "next_version",
        "quarantine_reason",
        "reason",
        "retry_at",
        "unload_task",
        "warmed_models",
    )  # fmt: skip

    def __init__(self, declared: DeclaredFunction) -> None:
        self.declared = declared
        self.leases = Leases()
        self.measured = LoadMeasurements(declared.memory_bytes)
        self.function: Function | None = None
        self.load_task: asyncio.Task[None] | None = None
        self._load_began = math.inf
        """When the load under way began to do something, and no longer waited for its turn."""
        self.unload_task: asyncio.Task[None] | None = None
        self.next_version: LibraryEntry | None = None
        """Another version of the function, loading while this one serves; when its load failed, its
        ``reason`` says why.
        """
        self.is_superseded = False
        """Another version has replaced it, or the function is no longer declared."""
        self.can_skip_warm_up = declared.is_probed
        """This version was loaded and warmed up before."""
        self.warmed_models: ModelStates | None = None
        """The model files that it was loaded from last: others are tried before they answer."""
        self.has_reservation = False
        """There is memory for it and its load has begun, or it is loaded: its bytes count."""
        self.is_kept = False
        """It is kept awake for now (``FunctionLibrary.keep_awake``)."""
        self.is_kept_by_pin = False
        """And not by its hours alone."""
        self.failures = 0
        self.retry_at = 0.0
        self.reason = ""
        self.quarantine_reason = ""
        self.changed_at = 0.0

    def __repr__(self) -> str:
        return f"<LibraryEntry {self.name}: {self.state.state}, {self.leases!r}; {self.function!r}>"

    # What it is.

    @property
    def name(self) -> str:
        """The function's name."""
        return self.declared.spec.name

    @property
    def spec(self) -> FunctionSpec:
        """The function's declaration."""
        return self.declared.spec

    @property
    def state(self) -> EntryState:
        """Its state now, derived from the fields."""
        return EntryState(*self._state_and_reason(), self.measured.load_s)

    def _state_and_reason(self) -> tuple[str, str]:
        if self.quarantine_reason:
            return "failed", self.quarantine_reason
        if self.function is not None:
            if trouble := self.function.trouble:
                return "failed", trouble
            return "ready", self.function.note
        if self.load_task is not None:
            return self._loading_state(time.monotonic())
        if self.unload_task is not None:
            return "draining", ""
        return "failed" if self.reason else "asleep", self.reason

    def _loading_state(self, now: float) -> tuple[str, str]:
        took_s = now - self._load_began
        if took_s <= HUNG_S:
            return "waking", ""
        reason = f"its load has not ended for {took_s:.0f} s; its log says where it is."
        return "waking" if took_s <= LOAD_HUNG_S else "failed", reason

    @property
    def update(self) -> str:
        """The state of its next version: empty, ``loading``, or why that did not load."""
        return (self.next_version.reason or "loading") if self.next_version is not None else ""

    @property
    def held_bytes(self) -> int:
        """What it holds now, as far as it can be told; 0 while it is not loaded."""
        return 0 if self.function is None else self.measured.grown_to_bytes

    @property
    def holds_memory(self) -> bool:
        """Whether its bytes count: it is loaded, being loaded, or being unloaded."""
        return self.has_reservation or self.function is not None or self.unload_task is not None

    @property
    def is_busy(self) -> bool:
        """It is used or waited for, or live sequences would be lost with it."""
        function = self.function
        has_work = function is not None and (function.in_flight.calls or function.sequence_count)
        return bool(self.leases.is_used or self.load_task is not None or has_work)

    @property
    def is_idle(self) -> bool:
        """It may be unloaded now."""
        return self.function is not None and not (self.is_busy or self.is_pinned)

    @property
    def is_pinned(self) -> bool:
        """It is not unloaded to save memory or for being idle."""
        return self.declared.is_pinned or self.is_kept

    @property
    def max_waiting_callers(self) -> int:
        """Callers that may wait for its load: as many as a loaded function admits."""
        limits = self.spec.limits
        return limits.max_ongoing_requests + limits.max_queued_requests

    @property
    def idle_delay_s(self) -> float:
        """Seconds of idleness after which it is unloaded."""
        if self.leases.release_requested_at is not None:
            return 0.0
        return self.spec.autoscaling.downscale_to_zero_delay_s

    def to_loaded_function(self) -> LoadedFunction:
        """Return what the eviction policy knows of it."""
        return LoadedFunction(
            self.name,
            self.measured.memory_bytes,
            self.leases.last_used,
            self.is_busy or self.is_pinned,
        )

    # Declarations and versions.

    def apply_declaration(self, declared: DeclaredFunction) -> bool:
        """Take another declaration if the loaded version can stay; else return False."""
        if self.function is not None and self.function.mismatch:
            return False  # what is loaded matches no declaration
        if declared.spec != self.spec:
            if version_hash(declared.spec) != version_hash(self.spec):
                return False
            self.can_skip_warm_up = False
            if self.function is not None:
                self.function.apply_settings(declared.spec)
        self.declared = declared
        self.can_skip_warm_up = self.can_skip_warm_up or declared.is_probed
        self.measured.declare_memory(declared.memory_bytes)
        # a new declaration may have mended what failed
        self.failures, self.reason, self.retry_at = 0, "", 0.0
        return True

    def set_next_version(self, entry: LibraryEntry) -> None:
        """Another version is to take its place."""
        self.next_version = entry

    def take_next_version(self) -> LibraryEntry | None:
        """Return the version that was to take its place, and forget it."""
        entry, self.next_version = self.next_version, None
        return entry

    def supersede(self) -> None:
        """It answers no new calls: another version has its name, or none."""
        self.is_superseded = True

    def quarantine(self, reason: str) -> None:
        """Load it no more, for this reason; an empty reason ends the quarantine."""
        self.quarantine_reason = reason

    def require_warm_up(self) -> None:
        """The next load runs the warm-up."""
        self.can_skip_warm_up = False

    # Loading.

    def start_loading(self, task: asyncio.Task[None]) -> None:
        """A load has begun."""
        self.load_task, self._load_began = task, math.inf

    def load_began(self, now: float) -> None:
        """The load has its turn."""
        self._load_began = now

    def reserve_memory(self) -> None:
        """There is memory for it: from now on its bytes count."""
        self.has_reservation = True

    def record_growth(self, size: int) -> None:
        """Its memory has grown by so many bytes, or shrunk, since that was last looked at."""
        self.measured.record_growth(size)
        if self.function is not None:
            self.function.counters.hold_memory(self.held_bytes)

    def loaded(self, function: Function, timer: ColdStartTimer) -> None:
        """The load has succeeded: calls are answered from now on."""
        self._end_load()
        self.function = function
        self.measured.record_load(version_hash(function.spec), timer)
        self.can_skip_warm_up = True
        self.warmed_models = function.model_states
        self.failures, self.reason = 0, ""
        if function.spec is not self.spec:
            function.apply_settings(self.spec)

    def load_failed(self, message: str) -> float:
        """The load has failed. Return the seconds until the next attempt is allowed."""
        self._end_load()
        # its bytes count no more already, since it leaves the loaded set with this; a state that is
        # right by itself is what the next reader relies on
        self.has_reservation = False
        self.failures += 1
        wait_s = backoff_s(self.failures)
        self.retry_at = self.changed_at + wait_s
        self.reason = f"{self.name!r} did not load: {message}"
        return wait_s

    def load_cancelled(self) -> None:
        """The load ended without a result: no memory for it, or the process ends."""
        self._end_load()
        self.has_reservation = False

    def _end_load(self) -> None:
        self.load_task = None
        self.changed_at = time.monotonic()
        self.leases.end_load(self.changed_at)

    # Unloading.

    def keep(self, is_kept: bool) -> None:
        """Keep it awake from now on, or no longer."""
        self.is_kept = is_kept
        if is_kept:
            self.leases.cancel_release()

    def start_unloading(self, task: asyncio.Task[None]) -> None:
        """New callers no longer get the function; ``task`` answers the others and frees it."""
        self.function = None
        self.leases.begin_unload()
        self.measured.drop_cold_start()
        self.has_reservation = False
        self.unload_task = task

    def unloaded(self) -> None:
        """Its memory has been given back."""
        self.unload_task = None
        self.changed_at = time.monotonic()
