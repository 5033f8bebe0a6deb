"""What a library reports of one function, for policies and for the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runtime.library.entry import LibraryEntry

LATENCY_WINDOW_S = 10.0
"""Older durations do not count: an SLO is judged by what clients see now."""

MIN_LATENCIES = 20
"""With fewer durations there is no 95th percentile."""


def report_entry(entry: LibraryEntry, now: float) -> dict[str, Any]:
    """Return plain JSON data of a function, loaded or not.

    Args:
        now: seconds, ``time.monotonic``.
    """
    state, function = entry.state, entry.function
    return {
        "state": state.state,
        "reason": state.reason,
        "version": entry.version,
        "update": entry.update,
        "memory_bytes": entry.memory_bytes + entry.grown_bytes,
        "device": function.running.to_dict() if function is not None else None,
        "loads": entry.loads,
        "waiting_callers": entry.waiting_callers,
        "in_flight": function.in_flight.calls if function is not None else 0,
        "waiting_rows": function.waiting_rows if function is not None else 0,
        "sequences": function.sequence_count if function is not None else 0,
        "calls": function.in_flight.total_calls if function is not None else 0,
        "busy_s": function.busy_s if function is not None else 0.0,
        "row_s": function.row_seconds if function is not None else 0.0,
        "idle_s": 0.0 if entry.is_busy else round(now - entry.last_used, 3),
        "p95_ms": p95_ms(entry.latencies or (), now),
        "last_wake": entry.last_cold_start.to_dict() if entry.last_cold_start else None,
    }


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
