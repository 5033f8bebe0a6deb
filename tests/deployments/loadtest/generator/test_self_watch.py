"""The generator says when it was the limit, and not for one bad second or call."""

from __future__ import annotations

import pytest

from deployments.loadtest.generator.self_watch import find_limit
from deployments.loadtest.results.records import GeneratorSample


@pytest.mark.parametrize(
    ("busy", "seconds", "late", "calls", "words"),
    [
        (0, 0, 0, 0, ""),
        (1, 2, 0, 100, ""),
        (2, 2, 0, 100, "a whole core in 2 of 2 s"),
        (2, 60, 0, 100, ""),
        (3, 60, 0, 100, "a whole core in 3 of 60 s"),
        (0, 60, 1, 20, ""),
        (0, 60, 2, 20, "2 of 20 calls"),
        (0, 60, 1, 100, ""),
        (0, 60, 2, 100, "2 of 100 calls were sent more than 25 ms too late"),
        (0, 60, 10, 1000, ""),
        (0, 60, 11, 1000, "11 of 1,000 calls"),
        (3, 60, 11, 1000, "a whole core"),
    ],
)
def test_limits(busy, seconds, late, calls, words):
    """At least two seconds and one in twenty without a free core, or more than one call in a
    hundred that was late.
    """
    shares = [0.99] * busy + [0.3] * (seconds - busy)
    samples = [GeneratorSample(at, 0.001, share, 1) for at, share in enumerate(shares)]
    found = find_limit(samples, late, 0, calls, 0.025)
    assert words in found if words else not found


def test_a_call_that_could_not_be_sent_is_the_generators():
    """One is enough: the server never saw it."""
    assert "1 of 1,000 calls could not be sent" in find_limit([], 0, 1, 1000, 0.025)
