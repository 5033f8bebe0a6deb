"""Which calls a function takes, by what it has in flight: pure functions of numbers.

A call is refused at once where calls, rows or bytes are at their limits, and where it could not be
answered in time: the work that was admitted before it, at the measured time of a row, leaves less
than it takes. Otherwise a queue that is longer than the deadline answers no call: each row is
computed a moment too late. With sixty clients of a function that takes 50 ms a row and answers
within two seconds, 3 to 8 answers a second were left of 20.

What would break it: an estimate that refuses, and is never measured again. So nothing is refused
while no work is ahead, whatever a row is said to take: a trickle is always admitted, and measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from runtime.batching.service_times import WorkAhead
from runtime.declaration.function_spec import DeclaredSpec
from runtime.declaration.sections import worker_count
from runtime.errors import Overloaded

IN_FLIGHT = 4
"""Rows in flight that a replica holds, as a multiple of ``max_rows``, and bytes, of
``max_body_bytes``: a largest call is being computed, another waits, and small ones still find space
next to both."""

LEAST_ROOM_BYTES = 256 << 20
"""For bodies and what is made of them, where nothing is declared: four bodies of 64 MiB. A function
that takes small ones, pictures say, makes as much of them.
"""


SURE: Final = 0.2
"""Part of the time that a call has, in which one worker must be able to do all: a fifth, since a
function may have less than one worker while others want theirs."""

AHEAD: Final = 1.2
"""What is ahead takes so much longer than it is said to: rows vary, and what is answered a moment
too late was computed for nothing. With 1.1, rows of which one in twenty takes twenty times as long
as the others left 0.78 of what the workers can do under three times the load, for a deadline of 125
such rows. A queue is no less full of work for being a sixth shorter.
"""

MOST_CAUTION: Final = 2.5
"""A third of the deadline in work may always wait: calls that are late by themselves, of a client
that leaves a millisecond, cost others no more than that.
"""

LATENCY: Final = 0.5
"""Part of the time that a call has, which its way past the workers counts at most: calls of a
function that takes nearly all its time by itself are not refused for that.
"""


class AdmissionLoad(NamedTuple):
    """What a function has in flight: accepted and not yet answered."""

    calls: int
    rows: int


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What a function may have in flight.

    Attributes:
        calls: ``max_ongoing_requests`` and ``max_queued_requests`` together.
        rows: see ``IN_FLIGHT``.
        workers: threads that compute.
        bytes: of bodies and what is made of them.
    """

    calls: int
    rows: int
    workers: int
    bytes: int


def admission_limits_of(spec: DeclaredSpec) -> AdmissionLimits:
    """The declared limits as admission takes them."""
    limits = spec.limits
    return AdmissionLimits(
        calls=limits.max_ongoing_requests + limits.max_queued_requests,
        rows=IN_FLIGHT * limits.max_rows,
        workers=worker_count(spec.resources.num_cpus),
        bytes=limits.max_ongoing_bytes or max(LEAST_ROOM_BYTES, IN_FLIGHT * limits.max_body_bytes),
    )


def is_surely_in_time(rows: int, row_s: float, timeout_s: float) -> bool:
    """Whether so many rows, new ones included, are so little work that a part of one worker is
    enough; the answer to nearly every call, without a look at the queues.

    Args:
        row_s: seconds of one worker that a row takes; 0 when not known.
        timeout_s: seconds that the call has.
    """
    return rows * row_s <= SURE * timeout_s


def seconds_too_late(
    ahead: WorkAhead, own_s: float, timeout_s: float, caution: float = 1.0
) -> float:
    """How many seconds after its deadline a call would be answered; 0 or less: it is admitted.
    After so many seconds it would be in time, if no other call came.

    Args:
        ahead: what was admitted before it and is not answered.
        own_s: seconds of one worker that its own rows take.
        timeout_s: seconds that the call has.
        caution: see ``next_caution``.
    """
    if ahead.seconds <= 0:
        return 0.0
    way_s = max(own_s / ahead.workers, min(ahead.latency_s, LATENCY * timeout_s))
    return AHEAD * caution * ahead.seconds / ahead.workers + way_s - timeout_s


def next_caution(caution: float, is_late: bool) -> float:
    """By what the work ahead is multiplied from now on, 1 at first: more after each call that was
    admitted and came too late, a little less after each in time, so that in the long run about one
    in twenty-five is late, whatever makes the estimate wrong: rows that vary more than most,
    functions that share the workers.
    """
    return min(MOST_CAUTION, caution + 0.05) if is_late else max(1.0, caution - 0.002)


def is_admitted(load: AdmissionLoad, limits: AdmissionLimits, rows: int) -> bool:
    """Whether a call of so many rows is admitted now. One that has the function to itself always
    is: how many rows it may have is limited elsewhere.
    """
    return load.calls < limits.calls and (load.rows == 0 or load.rows + rows <= limits.rows)


def overloaded_error(load: AdmissionLoad, limits: AdmissionLimits, wait_s: int) -> Overloaded:
    """The error of a call that is not admitted.

    Args:
        wait_s: becomes ``Retry-After``.
    """
    return Overloaded(
        f"{load.calls} calls with {load.rows} rows are in flight, {limits.calls} calls and "
        f"{limits.rows} rows are taken at once. "
        f"Call again in {wait_s} s, or raise limits.max_queued_requests.",
        retry_after_s=wait_s,
    )


def late_error(load: AdmissionLoad, timeout_s: float, late_s: float) -> Overloaded:
    """The error of a call that would be answered ``late_s`` seconds after the ``timeout_s`` that it
    has.
    """
    wait_s = max(1, math.ceil(late_s))
    return Overloaded(
        f"{load.calls} calls with {load.rows} rows are in flight and leave no time to answer this "
        f"one in the {timeout_s:.3g} s that it has. Call again in {wait_s} s, or with fewer rows "
        "or more time; or raise resources.num_cpus or autoscaling.max_replicas.",
        retry_after_s=wait_s,
    )


def retry_after_s(rows: int, row_s: float, workers: int) -> int:
    """Whole seconds, at least one, that so many rows take so many workers at ``row_s`` seconds a
    row.
    """
    return max(1, math.ceil(rows * row_s / workers))
