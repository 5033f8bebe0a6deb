"""No random model that company moves is served, and hardly one that it does not is refused."""

from __future__ import annotations

import pytest

from tests.company.random_models import examine


@pytest.mark.slow
def test_some_random_models():
    """Seeds that no one has tuned anything to; more: `python -m tests.company.random_models`."""
    tally = examine(range(500_000, 500_025))
    assert tally.moving > 5
    assert tally.still > 5
    assert not tally.served, str(tally)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.timeout(3600)
def test_two_thousand_random_models():
    """Of those that hold, one in a hundred may be refused."""
    tally = examine(range(2000))
    assert not tally.served, str(tally)
    assert len(tally.refused) <= tally.still / 100, str(tally)
