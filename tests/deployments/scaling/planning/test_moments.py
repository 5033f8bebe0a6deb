"""What a function did in each part of the time."""

from __future__ import annotations

import pytest

from deployments.scaling.planning.moments import COLUMNS
from deployments.scaling.planning.traffic import PlannedTraffic
from deployments.scaling.simulation import Arrival
from tests.deployments.scaling.planning.made_profiles import declare
from tests.deployments.scaling.planning.test_needs import made


def test_moments_are_of_the_time_that_is_looked_at():
    """Rates, places and p95 of sixty parts; without calls there is no p95."""
    arrivals = [Arrival(60.0 + number, "f") for number in range(30)]
    _, one = made(declare(), PlannedTraffic("half", arrivals, 60.0, 120.0))
    assert len(one.moments) == COLUMNS
    assert [moment.rate for moment in one.moments] == pytest.approx([1.0] * 30 + [0.0] * 30)
    assert one.moments[0].p95_s == pytest.approx(0.113)
    assert one.moments[-1].p95_s is None
    assert one.moments[5].places == pytest.approx(1.0)
    assert [moment.warm for moment in one.moments[:2]] == [0.0, 1.0]
    assert one.moments[-1].warm is None
