"""What one process says of one function that it serves, and what policies read of it: one record
from the process that makes it to the policy, on a cluster as in a simulation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # policies are imported by commands, which load no engine
    from runtime.execution.loader import DeviceReport
    from runtime.library.cold_start import ColdStart
    from runtime.system.telemetry.recent import Traffic
    from runtime.system.telemetry.recent_failures import RecentFailure


@dataclass(frozen=True, slots=True)
class UsageSample:
    """How much a function is used, in one process or in all that serve it.

    Attributes:
        at: when, seconds of the clock of the policy that reads it; 0 while it is on its way there.
        busy_s: seconds its stages have kept worker threads since it was loaded; only grows.
        calls: calls accepted since then, likewise.
        in_flight: calls accepted and not yet answered.
        waiting_rows: rows that wait for a worker.
        idle_s: seconds since the last call came or was answered.
        p95_ms: latency of the latest calls, in milliseconds; None when there were too few.
        sequences: that live in the process; a move would lose their state.
    """

    at: float = 0.0
    busy_s: float = 0.0
    calls: int = 0
    in_flight: int = 0
    waiting_rows: int = 0
    idle_s: float = 0.0
    p95_ms: float | None = None
    sequences: int = 0


@dataclass(frozen=True, slots=True)
class FunctionReport(UsageSample):
    """What one process says of one function.

    Attributes:
        state: ``waking``, ``ready``, ``draining``, ``failed`` or ``asleep``.
        reason: why it is in that state; of a loaded function, what is amiss with it.
        version: the version hash of what is loaded; empty when nothing is.
        update: what becomes of another version: empty, ``loading``, or why it was not taken.
        device: what its models run on; None while it is not loaded.
        memory_bytes: what it holds.
        last_wake: its last cold start, if there was one.
        loads: how often this process has loaded it.
        hop_ms: by called function, what a call costs beyond the function's own time.
        minute: the calls of the last minute; None: it does not say.
        gpus, node: devices that Ray gave the process, and its node; of replicas only.
        failures: its last calls that were answered with an error.
    """

    state: str = "ready"
    reason: str = ""
    version: str = ""
    update: str = ""
    device: DeviceReport | None = None
    memory_bytes: int = 0
    last_wake: ColdStart | None = None
    loads: int = 1
    hop_ms: Mapping[str, float] = field(default_factory=dict)
    minute: Traffic | None = None
    gpus: tuple[str, ...] = ()
    node: str = ""
    failures: tuple[RecentFailure, ...] = ()

    @property
    def loaded_at(self) -> float:
        """When its last load began, seconds since the epoch; 0 before the first."""
        return self.last_wake.at if self.last_wake else 0.0


def add_usage(
    at: float, reports: Sequence[UsageSample], *, busy_s: float, calls: int
) -> UsageSample:
    """Return how much a function is used by what each process reports that serves it, at least one.

    Args:
        busy_s, calls: of all processes, those that have ended included.
    """
    latencies = [report.p95_ms for report in reports if report.p95_ms is not None]
    return UsageSample(
        at=at,
        busy_s=busy_s,
        calls=calls,
        in_flight=sum(report.in_flight for report in reports),
        waiting_rows=sum(report.waiting_rows for report in reports),
        idle_s=min(report.idle_s for report in reports),
        p95_ms=max(latencies, default=None),
        sequences=sum(report.sequences for report in reports),
    )
