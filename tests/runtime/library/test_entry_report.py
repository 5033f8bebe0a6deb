"""The 95th percentile of a function's calls: of those that ended lately, and of enough of them."""

from __future__ import annotations

import pytest

from runtime.library.entry_report import LATENCY_WINDOW_S, MIN_LATENCIES, p95_ms

NOW = 1000.0
EDGE = NOW - LATENCY_WINDOW_S


@pytest.mark.parametrize(
    ("latencies", "found"),
    [
        ([], None),
        ([(NOW, 0.1)] * (MIN_LATENCIES - 1), None),
        ([(NOW, 0.1)] * MIN_LATENCIES, 100.0),
        ([(EDGE, 0.1)] * MIN_LATENCIES, 100.0),
        ([(EDGE - 0.1, 0.1), *[(NOW, 0.1)] * (MIN_LATENCIES - 1)], None),
        ([(EDGE - 0.1, 9.0), *[(NOW, 0.1)] * MIN_LATENCIES], 100.0),
        ([(NOW, n / 1000) for n in range(100)], 94.0),
    ],
)
def test_a_percentile_is_of_the_latest_calls(latencies, found):
    """In milliseconds; none of fewer calls than say something."""
    assert p95_ms(latencies, NOW) == found
