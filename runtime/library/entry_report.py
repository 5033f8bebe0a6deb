"""What a library reports of one function, for policies and for the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from runtime.execution.function import Function
from runtime.library.entry import LibraryEntry
from runtime.library.function_report import FunctionReport
from runtime.system.telemetry.recent import Traffic
from runtime.system.telemetry.recent_failures import RecentFailure

LATENCY_WINDOW_S = 10.0
"""Older durations do not count: an SLO is judged by what clients see now."""

MIN_LATENCIES = 20
"""With fewer durations there is no 95th percentile."""


def report_entry(
    entry: LibraryEntry, now: float, minute: Traffic, failures: tuple[RecentFailure, ...] = ()
) -> FunctionReport:
    """Return what is reported of a function, loaded or not.

    Args:
        now: seconds, ``time.monotonic``.
        minute: its calls of the last minute.
        failures: its last calls that were answered with an error.
    """
    state, function, measured = entry.state, entry.function, entry.measured
    report = FunctionReport(
        state=state.state,
        reason=state.reason,
        version=measured.version,
        update=entry.update,
        memory_bytes=measured.grown_to_bytes,
        loads=measured.loads,
        idle_s=0.0 if entry.is_busy else round(now - entry.leases.last_used, 3),
        p95_ms=p95_ms(entry.leases.latencies or (), now),
        last_wake=measured.last_cold_start,
        minute=minute,
        failures=failures,
    )
    return report if function is None else add_loaded(report, function)


def add_loaded(report: FunctionReport, function: Function) -> FunctionReport:
    """Return a report with what a loaded function says of itself."""
    return replace(
        report,
        device=function.running,
        in_flight=function.in_flight.calls,
        waiting_rows=function.waiting_rows,
        sequences=function.sequence_count,
        calls=function.in_flight.total_calls,
        busy_s=function.busy_s,
    )


def p95_ms(latencies: Iterable[tuple[float, float]], now: float) -> float | None:
    """Return the 95th percentile of the latest calls' durations in milliseconds; None when there
    are fewer than ``MIN_LATENCIES``.

    Args:
        latencies: when each call ended, and the seconds that it took.
    """
    latest = sorted(seconds for at, seconds in latencies if now - at <= LATENCY_WINDOW_S)
    if len(latest) < MIN_LATENCIES:
        return None
    return round(latest[int(0.95 * (len(latest) - 1))] * 1000, 3)
