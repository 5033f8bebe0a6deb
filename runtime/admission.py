"""Admit a call or refuse it at once: a pure function of what is in flight."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runtime.errors import Overloaded

ROWS_IN_FLIGHT = 4
"""Rows in flight a replica holds, as a multiple of ``max_rows``: a largest call is being computed, another waits, and small ones
still find room beside both."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a replica has in flight: accepted and not yet answered."""

    calls: int
    rows: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """What it may have.

    Attributes:
        calls: ``max_ongoing_requests`` and ``max_queued_requests`` together.
        rows: see ``ROWS_IN_FLIGHT``.
        workers: threads that compute.
    """

    calls: int
    rows: int
    workers: int


def refusal(load: Load, capacity: Capacity, rows: int, row_s: float) -> Overloaded | None:
    """Why a call of ``rows`` rows is not admitted now; None when it is.

    Args:
        row_s: seconds of one worker that a row takes; with the rows in flight it makes ``Retry-After``.
    """
    if load.calls < capacity.calls and (load.rows == 0 or load.rows + rows <= capacity.rows):
        return None
    wait_s = max(1, math.ceil(load.rows * row_s / capacity.workers))
    return Overloaded(
        f"{load.calls} calls with {load.rows} rows are in flight, {capacity.calls} calls and {capacity.rows} rows are taken at once. "
        f"Call again in {wait_s} s, or raise limits.max_queued_requests.",
        retry_after_s=wait_s,
    )
