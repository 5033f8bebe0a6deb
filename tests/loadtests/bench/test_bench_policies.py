"""Offline batching policies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.policies import by_length, candidates, in_order

LENGTHS = st.lists(st.integers(4, 200), min_size=1, max_size=60)


@given(LENGTHS)
def test_every_policy_runs_every_text_once(lengths: list[int]) -> None:
    """A policy that left one out would be faster, and no limit."""
    for name, plan in candidates(lengths):
        assert sorted(index for batch in plan for index in batch) == list(range(len(lengths))), name
        assert all(plan), name


@given(LENGTHS, st.integers(1, 32), st.integers(1, 1024))
def test_batches_keep_their_bounds_and_hold_neighbours_in_length(lengths: list[int], size: int, cost: int) -> None:
    """At most so many texts and padded tokens; a text dearer than the bound goes alone."""
    plan = by_length(lengths, size, cost)
    for batch in plan:
        assert len(batch) <= size
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= cost
    in_plan = [lengths[index] for batch in plan for index in batch]
    assert in_plan == sorted(lengths)


def test_texts_of_one_length_are_cut_as_they_come() -> None:
    """The last batch holds the rest."""
    assert in_order(5, 2) == [[0, 1], [2, 3], [4]]
