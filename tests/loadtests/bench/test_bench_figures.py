"""Numbers, their targets and verdicts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.figures import Number, Target, percentile


@pytest.mark.parametrize(
    ("rounds", "target", "void", "verdict"),
    [
        ((0.7, 0.9, 0.8), Target("at least", 0.8), "", "met"),
        ((0.7, 0.9, 0.79), Target("at least", 0.8), "", "missed"),
        ((0.5, 0.7), Target("at most", 0.6), "", "met"),
        ((0.61,), Target("at most", 0.6), "", "missed"),
        ((math.nan,), Target("at most", 0.6), "", "missed"),
        ((1.0,), None, "", ""),
        ((1.0,), Target("at least", 0.8), "3 refusals", "void"),
        ((), None, "", "void"),
    ],
)
def test_the_median_of_the_rounds_is_held_against_the_target(
    rounds: tuple[float, ...], target: Target | None, void: str, verdict: str
) -> None:
    """A void number has no other verdict, and one that nothing is asked of has none."""
    assert Number("x", rounds, target=target, void=void).verdict == verdict


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([0.5, 0.99, 0.999, 1.0]))
def test_a_percentile_is_an_observed_value_that_its_share_does_not_exceed(values: list[float], share: float) -> None:
    """No blend of two, and no value below it would do."""
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_no_values_have_no_percentile() -> None:
    """Said instead of a zero that looks like a good one."""
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
