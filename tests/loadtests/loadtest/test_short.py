"""`make load` ends with the worst of its load tests."""

from __future__ import annotations

import pytest

from loadtests.loadtest.short import worst


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [([0, 0], 0), ([0, 2], 2), ([1, 2], 1), ([2, 1], 1), ([1, 64], 64), ([1, -9], -9)],
)
def test_the_worst_of_some(statuses, expected):
    """What was not run is worse than a broken promise, and that than one that is unsure."""
    assert worst(statuses) == expected
