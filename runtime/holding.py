"""A declared function's place in the library: asleep it is a name and its declaration."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from runtime.coldstart import ColdStart, Waking
from runtime.function import Function
from runtime.lifecycle import Held
from runtime.reimport import Code
from runtime.spec import FunctionSpec, identity

LATENCIES = 256
"""Calls whose time is kept for the 95th of a hundred."""

FRESH_S = 10.0
"""How old such a time may be: an SLO is judged by what callers see now."""

FEWEST = 20
"""Fewer say nothing about 95 of 100."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A function as it is put into a library.

    Attributes:
        spec: its declaration.
        memory_bytes: what the probe found that it adds to a process; 0 when nobody knows, and its load measures it.
        probed: it was loaded and warmed up before by the probe, so that a wake may spare the warm-up.
        stays: once loaded it is not unloaded for being idle, nor to make room.
    """

    spec: FunctionSpec
    memory_bytes: int = 0
    probed: bool = False
    stays: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one declared function.

    Attributes:
        state: asleep, waking, ready, draining or failed.
        reason: why it failed, or what is wrong with what is ready; empty otherwise.
        load_s: seconds its last load took, 0 when it has not been loaded.
    """

    state: str = "asleep"
    reason: str = ""
    load_s: float = 0.0


class Holding:
    """One function, loaded or not. Only its library changes it, on the event loop; the HTTP edge takes leases.

    Mutable state: ``function`` while it can be called, ``flight`` (the load under way) and ``closing`` (the unload under way);
    ``leases`` (exchanges that use the function, which is not unloaded meanwhile) and ``waiting`` (callers waiting for the flight);
    what was measured and what failed, for the next decision.
    """

    __slots__ = (
        "app", "bytes", "changed_at", "closing", "code", "declared", "failures", "flight", "function", "idle", "is_admitted", "is_retired",
        "is_tried",
        "last_used", "last_wake", "latencies", "leases", "load_s", "loads", "reason", "refused", "released_at", "retry_at", "successor",
        "version", "waiting", "waking",
    )  # fmt: skip

    def __init__(self, declared: Declared) -> None:
        self.declared = declared
        self.bytes = declared.memory_bytes
        self.function: Function | None = None
        self.app: Any = None
        """What the HTTP edge keeps beside a loaded function; dropped with it."""
        self.flight: asyncio.Task[None] | None = None
        self.closing: asyncio.Task[None] | None = None
        self.idle: asyncio.Event | None = None
        """Set when the last lease ends, while an unload waits for that."""
        self.successor: Holding | None = None
        """Another version of the function, loading while this one serves; or it did not load, and its ``reason`` says why."""
        self.version = ""
        """The ``identity`` of what is loaded."""
        self.code: Code | None = None
        """Of its last load; held so that it wakes from the same (``reimport``)."""
        self.is_retired = False
        """Another took its name, or nobody."""
        self.is_tried = declared.probed
        """It was loaded and warmed up before as it is declared now: a wake may spare the warm-up."""
        self.leases = 0
        self.waiting = 0
        self.is_admitted = False
        """There is room for it and its load has begun: its bytes count."""
        self.last_used = 0.0
        self.released_at: float | None = None
        """When it was asked to leave as soon as it is idle; a call that begins later takes that back."""
        self.latencies: deque[tuple[float, float]] | None = None
        self.waking: Waking | None = None
        """A cold start whose first answer has not been sent."""
        self.last_wake: ColdStart | None = None
        self.loads = 0
        self.load_s = 0.0
        self.failures = 0
        self.retry_at = 0.0
        self.reason = ""
        self.refused = ""
        self.changed_at = 0.0

    def __repr__(self) -> str:
        return f"<Holding {self.name}: {self.state.state}, {self.leases} leases, {self.waiting} waiting; {self.function!r}>"

    @property
    def name(self) -> str:
        """The function's."""
        return self.declared.spec.name

    @property
    def spec(self) -> FunctionSpec:
        """The function's declaration."""
        return self.declared.spec

    @property
    def state(self) -> State:
        """What it is now; it follows from what is there."""
        if self.refused:
            return State("failed", self.refused, self.load_s)
        if self.function is not None:
            return State("ready", self.function.origin.astray, self.load_s)
        if self.flight is not None:
            return State("waking", "", self.load_s)
        if self.closing is not None:
            return State("draining", "", self.load_s)
        return State("failed" if self.reason else "asleep", self.reason, self.load_s)

    @property
    def update(self) -> str:
        """What becomes of another version of it: empty, ``loading``, or why it did not load."""
        return (self.successor.reason or "loading") if self.successor is not None else ""

    @property
    def is_busy(self) -> bool:
        """Somebody uses it, or waits for it; or sequences live, which would be lost with it."""
        function = self.function
        has_work = function is not None and (function.in_flight or function.sequences)
        return bool(self.leases or self.waiting or self.flight is not None or has_work)

    @property
    def most_waiting(self) -> int:
        """Callers who may wait for its load: as many as a loaded function takes."""
        limits = self.spec.limits
        return limits.max_ongoing_requests + limits.max_queued_requests

    def expected_s(self) -> float:
        """Seconds after which a caller who comes again will probably find it loaded."""
        return max(1.0, self.load_s)

    def takes(self, declared: Declared) -> bool:
        """Takes another declaration as it is, loaded or not; False when that needs a load anew."""
        if self.function is not None and self.function.origin.astray:  # what is loaded is of no declaration
            return False
        if declared.spec != self.spec:
            if identity(declared.spec) != identity(self.spec):
                return False
            self.is_tried = False
            if self.function is not None:
                self.function.retune(declared.spec)
        self.declared = declared
        self.is_tried = self.is_tried or declared.probed
        self.bytes = declared.memory_bytes or self.bytes
        self.failures, self.reason, self.retry_at = 0, "", 0.0  # whoever declares anew may have mended it
        return True

    def held(self) -> Held:
        """As ``lifecycle`` sees it."""
        return Held(self.name, self.bytes, self.last_used, self.is_busy or self.declared.stays)

    def lease(self) -> None:
        """An exchange begins to use the function."""
        self.leases += 1

    def note(self, began: float, now: float) -> None:
        """A call took from ``began`` to ``now``."""
        if self.latencies is None:
            self.latencies = deque(maxlen=LATENCIES)
        self.latencies.append((now, now - began))

    def p95_ms(self, now: float) -> float | None:
        """Milliseconds within which 95 of 100 of the latest calls were answered; None when too few were."""
        fresh = sorted(seconds for at, seconds in self.latencies or () if now - at <= FRESH_S)
        return round(fresh[int(0.95 * (len(fresh) - 1))] * 1000, 3) if len(fresh) >= FEWEST else None

    def report(self, now: float) -> dict[str, Any]:
        """Plain JSON data: what policies and people want to know."""
        state, function = self.state, self.function
        return {
            "state": state.state,
            "reason": state.reason,
            "version": self.version,
            "update": self.update,
            "memory_bytes": self.bytes,
            "device": function.running.words() if function is not None else None,
            "loads": self.loads,
            "waiting_callers": self.waiting,
            "in_flight": function.in_flight if function is not None else 0,
            "waiting_rows": function.waiting if function is not None else 0,
            "sequences": function.sequences if function is not None else 0,
            "calls": function.calls if function is not None else 0,
            "busy_s": function.busy_s if function is not None else 0.0,
            "row_s": function.row_seconds if function is not None else 0.0,
            "idle_s": 0.0 if self.is_busy else round(now - self.last_used, 3),
            "p95_ms": self.p95_ms(now),
            "last_wake": self.last_wake.as_data() if self.last_wake is not None else None,
        }
