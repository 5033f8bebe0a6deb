"""The generator says when it was the limit, and not for one bad second."""

from __future__ import annotations

import pytest

from deployments.loadtest.generator.self_watch import find_limit
from deployments.loadtest.results.records import GeneratorSample

GOOD, LATE, BUSY = (0.001, 0.3), (0.05, 0.3), (0.001, 0.99)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ([], ""),
        ([GOOD] * 60, ""),
        ([LATE] + [GOOD] * 59, ""),
        ([LATE] * 2 + [GOOD] * 8, "50 ms too late in 2 of 10 s"),
        ([LATE] * 2 + [GOOD] * 58, ""),
        ([LATE] * 3 + [GOOD] * 57, "in 3 of 60 s"),
        ([BUSY] * 3 + [GOOD] * 57, "a whole core in 3 of 60 s"),
        ([BUSY, LATE] * 30, "a whole core"),
    ],
)
def test_limits(seconds, words):
    """At least two seconds, and one in twenty."""
    samples = [GeneratorSample(at, lag, cpu, 1) for at, (lag, cpu) in enumerate(seconds)]
    found = find_limit(samples)
    assert words in found if words else not found
