"""Whether the generator and not the server was the limit of a load test: a pure decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from deployments.loadtest.results.records import GeneratorSample

MOST_LAG_S: Final = 0.01
"""A call sent later than this is late by more than a latency of some milliseconds can bear."""

MOST_CPU: Final = 0.95
"""Of a core: above it, calls wait for the process that sends them."""

LEAST_SHARE: Final = 0.05
"""Of the seconds, that must have been so: a machine has a bad second now and then."""

LEAST_SECONDS: Final = 2


def find_limit(samples: Sequence[GeneratorSample]) -> str:
    """Why the generator was the limit, in words; empty: it was not."""
    least = max(LEAST_SECONDS, LEAST_SHARE * len(samples))
    busy = [sample for sample in samples if sample.cpu > MOST_CPU]
    if len(busy) >= least:
        return (
            f"the process that sends used a whole core in {len(busy)} of {len(samples)} s. Send"
            " from more processes (`--processes`), or from another machine."
        )
    late = [sample.lag_s for sample in samples if sample.lag_s > MOST_LAG_S]
    if len(late) >= least:
        return (
            f"calls were sent up to {max(late) * 1000:.0f} ms too late in {len(late)} of"
            f" {len(samples)} s, though a connection was free: this machine is too busy. Send from"
            " another one, or more slowly."
        )
    return ""
