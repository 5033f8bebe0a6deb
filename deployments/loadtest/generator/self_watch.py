"""Whether the generator and not the server was the limit of a load test: a pure decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from deployments.loadtest.results.records import GeneratorSample

MOST_CPU: Final = 0.95
"""Of a core: above it, calls wait for the process that sends them."""

LEAST_SHARE: Final = 0.05
"""Of the seconds, in which it must have been so: a machine has a bad second now and then."""

LEAST_SECONDS: Final = 2

LATE_SHARE: Final = 0.01
"""Of the calls that may be late: more of them are seen in a 99th percentile. One always may."""


def find_limit(
    samples: Sequence[GeneratorSample], late: int, unsent: int, calls: int, most_lag_s: float
) -> str:
    """Why the generator was the limit, in words; empty: it was not.

    Args:
        late: calls that were sent more than ``most_lag_s`` too late though a connection was free.
        unsent: calls for which this machine could open no connection.
    """
    if unsent:
        return (
            f"{unsent:,} of {calls:,} calls could not be sent: this machine has no more files,"
            " ports or memory for a connection (fewer at once: `--connections`)"
        )
    busy = [sample for sample in samples if sample.cpu > MOST_CPU]
    if len(busy) >= max(LEAST_SECONDS, LEAST_SHARE * len(samples)):
        return (
            f"the process that sends used a whole core in {len(busy)} of {len(samples)} s (more of"
            " them: `--processes`)"
        )
    if late > max(LATE_SHARE * calls, 1):
        return (
            f"{late:,} of {calls:,} calls were sent more than {most_lag_s * 1000:.0f} ms too late:"
            " this machine is too busy"
        )
    return ""
