"""What came of a simulation: of each function, and of all together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from deployments.scaling.simulation.simulated_function import SimulatedFunction


@dataclass(frozen=True, slots=True)
class Summary:
    """The results of one function.

    Attributes:
        refused: calls answered with 429 or 503.
        expired: calls answered with 504, since their deadline (``request_timeout_s``) had passed.
        cold_starts: calls that came while it was asleep and started its load.
        cold_calls: calls that found it not loaded, those that waited for the same load included.
        wait_p50_s, wait_p95_s, wait_max_s: from a call's arrival until a worker takes it, cold
            starts included.
        latency_p50_s, latency_p95_s, latency_p99_s: from a call's arrival to its answer; infinite
            where so many were not answered before their deadline, or none at all was.
        batch_rows: of a batch, on average.
        work_s: worker seconds of its batches.
        host_s, own_s, asleep_s: seconds in each tier.
        replicas: the largest number of its own replicas.
        missing: the most of them that were wanted and did not fit; 1 where the host has no room.
        replica_s: their seconds together.
        decisions: when, in seconds of the trace, and why.
        places: when the number of places that serve it changed, and to what: its replicas, or 1 in
            the host.
        answers: when each call came and how long its answer took, in the order of the answers.
        cold_at: when each of the ``cold_calls`` came.
    """

    function: str
    calls: int
    refused: int
    expired: int
    cold_starts: int
    cold_calls: int
    wait_p50_s: float
    wait_p95_s: float
    wait_max_s: float
    latency_p50_s: float
    latency_p95_s: float
    latency_p99_s: float
    batch_rows: float
    work_s: float
    host_s: float
    own_s: float
    asleep_s: float
    replicas: int
    missing: int
    replica_s: float
    decisions: tuple[tuple[float, str], ...]
    places: tuple[tuple[float, int], ...] = ()
    answers: Sequence[tuple[float, float]] = ()
    cold_at: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all functions together.

    Attributes:
        seconds: from the beginning of the trace until nothing changed any more.
        most_bytes: the largest memory of loaded functions and replicas at one moment.
        most_machine_bytes: the largest of one machine.
        replica_s: seconds of all replicas.
    """

    seconds: float
    most_bytes: int
    most_machine_bytes: int
    replica_s: float


def summary(function: SimulatedFunction) -> Summary:
    """Of a function, at the end of the simulation."""
    results = function.results
    waits = sorted(results.waits_s)
    answers = tuple(zip(results.answers[::2], results.answers[1::2], strict=True))
    latencies = sorted(results.answers[1::2]) + [math.inf] * results.expired
    if not latencies and results.refused:
        latencies = [math.inf]
    return Summary(
        function=function.name,
        calls=results.accepted,
        refused=results.refused,
        expired=results.expired,
        cold_starts=results.cold_starts,
        cold_calls=len(results.cold_at),
        wait_p50_s=quantile(waits, 0.5),
        wait_p95_s=quantile(waits, 0.95),
        wait_max_s=waits[-1] if waits else 0.0,
        latency_p50_s=quantile(latencies, 0.5),
        latency_p95_s=quantile(latencies, 0.95),
        latency_p99_s=quantile(latencies, 0.99),
        batch_rows=results.batch_rows / results.batches if results.batches else 0.0,
        work_s=results.work_s,
        host_s=results.tier_s["host"],
        own_s=results.tier_s["own"],
        asleep_s=results.tier_s["asleep"],
        replicas=results.most_replicas,
        missing=results.most_missing,
        replica_s=results.replica_s,
        decisions=tuple(results.decisions),
        places=tuple(results.places),
        answers=answers,
        cold_at=results.cold_at,
    )


def quantile(ordered: Sequence[float], part: float) -> float:
    """The smallest of rising values that this part of them does not exceed; 0 of none."""
    return ordered[math.ceil(part * len(ordered)) - 1] if ordered else 0.0
