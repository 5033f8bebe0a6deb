"""When a batch leaves and who is in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.batching.policy import NOTHING, BatchLimits, Release, Wait, choose, few, is_full


@dataclass
class Row:
    """A waiting row of a given length."""

    tokens: int | None = None
    since: float = 0.0
    alone: bool = False
    length: tuple[int, ...] = field(init=False)
    cost: int = field(init=False)

    def __post_init__(self) -> None:
        self.length = () if self.tokens is None else (self.tokens,)
        self.cost = self.tokens or 0


def queue(*tokens: int | None) -> list[Row]:
    """Rows in order of arrival."""
    return [Row(tokens=n) for n in tokens]


FIXED = [None] * 5


@pytest.mark.parametrize(
    ("rows", "limits", "idle", "expected"),
    [
        ([], BatchLimits(), 0, NOTHING),
        (FIXED, BatchLimits(), 0, Release([0, 1, 2, 3, 4])),
        (FIXED, BatchLimits(max_batch_size=2), 0, Release([0, 1])),
        (FIXED, BatchLimits(), 1, Release([0, 1, 2])),
        (FIXED, BatchLimits(max_batch_size=2), 1, Release([0, 1])),
        ([10, 10, 200, 11], BatchLimits(), 0, Release([0, 1, 3])),
        ([200, 10, 10], BatchLimits(), 0, Release([0])),
        ([10, 30, 14], BatchLimits(run_cost=0, max_padding=1), 0, Release([0])),
        ([10, 10, 10], BatchLimits(max_batch_cost=20), 0, Release([0, 1])),
        ([300], BatchLimits(max_batch_cost=20), 0, Release([0])),
        ([4, 10], BatchLimits(run_cost=8, max_padding=0.1), 0, Release([0])),
        ([4, 10], BatchLimits(run_cost=8, max_padding=0.5), 0, Release([0, 1])),
    ],
)
def test_a_free_worker_takes(rows, limits, idle, expected):
    """Who leaves when a worker is free, by what waits, the limits, and how many other workers are idle."""
    decision = choose(queue(*rows), limits, 0.0, idle_workers=idle)
    if isinstance(expected, Release):
        assert isinstance(decision, Release)
        assert sorted(decision.positions) == expected.positions
    else:
        assert decision == expected


@pytest.mark.parametrize(
    ("rows", "alone", "expected"),
    [
        (FIXED, {0}, [0]),
        (FIXED, {1}, [0]),
        (FIXED, {3}, [0, 1, 2]),
        (FIXED, {0, 1, 2, 3, 4}, [0]),
        ([10] * 5, {0}, [0]),
        ([10] * 5, {2}, [0, 1, 3, 4]),
        ([10] * 5, {1, 2, 3, 4}, [0]),
        ([], {0}, None),
    ],
)
def test_a_row_that_is_to_be_alone_joins_nobody(rows, alone, expected):
    """As the oldest it leaves by itself, at once, whatever company the limits wait for; before that no batch takes it along."""
    waiting = queue(*rows)
    for i in alone & set(range(len(waiting))):
        waiting[i].alone = True
    patient = BatchLimits(batch_wait_timeout_s=0.0 if 0 not in alone else 9.0)
    decision = choose(waiting, patient, 0.0)
    assert decision == NOTHING if expected is None else sorted(decision.positions) == expected


def test_an_optional_wait_ends_when_the_oldest_row_is_due():
    """With batch_wait_timeout_s a partial batch waits for the oldest row's time, and a full one does not wait."""
    limits = BatchLimits(max_batch_size=2, batch_wait_timeout_s=0.5)
    assert choose([Row(since=1.0)], limits, 1.2) == Wait(1.5)
    assert choose([Row(since=1.0)], limits, 1.5) == Release(range(1))
    assert choose([Row(since=1.0), Row(since=1.1)], limits, 1.2) == Release(range(2))


def test_quick_rows_are_taken_together_and_slow_ones_alone():
    """Plain Python rows: unknown or slow ones go alone, quick ones by two milliseconds' worth."""
    assert few(0.0).max_batch_size == 1
    assert few(0.1).max_batch_size == 1
    assert few(0.0005).max_batch_size == 4
    assert few(1e-7).max_batch_size == 64


def test_a_queue_is_full_at_the_largest_batch():
    """is_full counts rows against max_batch_size."""
    assert not is_full(queue(1), BatchLimits(max_batch_size=2))
    assert is_full(queue(1, 1), BatchLimits(max_batch_size=2))


@given(st.lists(st.integers(1, 256), min_size=1, max_size=80), st.integers(1, 40), st.integers(0, 32), st.floats(0, 1), st.integers(0, 3))
def test_every_batch_keeps_its_bounds(tokens, size, run_cost, max_padding, idle):
    """Whatever waits: the oldest row leaves, nobody leaves twice, rows and padding stay within their bounds."""
    limits = BatchLimits(max_batch_size=size, run_cost=run_cost, max_padding=max_padding)
    decision = choose(queue(*tokens), limits, 0.0, idle_workers=idle)
    assert isinstance(decision, Release)
    chosen = [tokens[i] for i in decision.positions]
    assert 0 in decision.positions
    assert len(set(decision.positions)) == len(chosen) <= size
    padded = max(chosen) * len(chosen)
    if idle == 0:
        assert padded - sum(chosen) <= max_padding * padded + 1e-9


@given(st.lists(st.tuples(st.none() | st.integers(1, 256), st.booleans()), min_size=1, max_size=60))
def test_a_queue_empties(rows):
    """Taking batch after batch, every row leaves once, and those that are to be alone leave alone."""
    waiting = [Row(tokens, alone=alone) for tokens, alone in rows]
    for _ in range(len(rows)):
        decision = choose(waiting, BatchLimits(max_batch_size=8), 0.0)
        if decision is NOTHING:
            break
        assert isinstance(decision, Release)
        gone = set(decision.positions)
        assert len(gone) == 1 or not any(waiting[i].alone for i in gone)
        waiting = [row for i, row in enumerate(waiting) if i not in gone]
    assert not waiting
    assert math.isinf(NOTHING.until)
