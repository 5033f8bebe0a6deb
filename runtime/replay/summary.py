"""What a replay says of a function, and of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.replay.seat import Seat


@dataclass(frozen=True, slots=True)
class Summary:
    """One function.

    Attributes:
        refused: calls answered with 429 or 503.
        cold_starts: calls that found it asleep and began its load.
        wait_p50_s, wait_p95_s, wait_max_s: from a call's arrival until a worker takes it, cold starts included.
        host_s, own_s, asleep_s: seconds in each tier.
        replicas: the most there were of its own.
        replica_s: their seconds together.
        decisions: when, in seconds of the trace, and why.
    """

    function: str
    calls: int
    refused: int
    cold_starts: int
    wait_p50_s: float
    wait_p95_s: float
    wait_max_s: float
    host_s: float
    own_s: float
    asleep_s: float
    replicas: int
    replica_s: float
    decisions: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything together.

    Attributes:
        seconds: from the first moment of the trace until nothing changed any more.
        most_bytes: the most memory of loaded functions and replicas at one moment.
        replica_s: seconds of replicas of their own.
    """

    seconds: float
    most_bytes: int
    replica_s: float


def summary(seat: Seat) -> Summary:
    """Of a function, when the replay is over."""
    waits = sorted(seat.waits_s)
    return Summary(
        function=seat.name,
        calls=seat.calls,
        refused=seat.refused,
        cold_starts=seat.cold_starts,
        wait_p50_s=_quantile(waits, 0.5),
        wait_p95_s=_quantile(waits, 0.95),
        wait_max_s=waits[-1] if waits else 0.0,
        host_s=seat.tier_s["host"],
        own_s=seat.tier_s["own"],
        asleep_s=seat.tier_s["asleep"],
        replicas=seat.most_replicas,
        replica_s=seat.replica_s,
        decisions=tuple(seat.decisions),
    )


def _quantile(ordered: Sequence[float], part: float) -> float:
    return ordered[math.ceil(part * len(ordered)) - 1] if ordered else 0.0
