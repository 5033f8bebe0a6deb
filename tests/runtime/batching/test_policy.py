"""When a batch leaves and which rows are in it."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.batching import policy
from runtime.batching.policy import (
    NOTHING_DUE,
    BatchLimits,
    Run,
    WaitUntil,
    choose,
    is_full,
    python_batch_limits,
)


@dataclass
class Row:
    """A waiting row of a given length, or of several shapes."""

    tokens: int | None = None
    since: float = 0.0
    run_solo: bool = False
    key: Hashable = ()
    shapes: tuple[tuple[int, ...], ...] | None = None
    padded_size: int = field(init=False)

    def __post_init__(self) -> None:
        if self.shapes is None:
            self.shapes = () if self.tokens is None else ((self.tokens,),)
        self.padded_size = max(map(math.prod, self.shapes), default=0)
        self.key = self.key or len(self.shapes)


def queue(*tokens: int | None) -> list[Row]:
    """Rows in order of arrival."""
    return [Row(tokens=n) for n in tokens]


FIXED = [None] * 5


@pytest.mark.parametrize(
    ("rows", "limits", "idle", "expected"),
    [
        ([], BatchLimits(), 0, NOTHING_DUE),
        (FIXED, BatchLimits(), 0, Run([0, 1, 2, 3, 4])),
        (FIXED, BatchLimits(max_batch_size=2), 0, Run([0, 1])),
        (FIXED, BatchLimits(), 1, Run([0, 1, 2])),
        (FIXED, BatchLimits(max_batch_size=2), 1, Run([0, 1])),
        ([10, 10, 200, 11], BatchLimits(), 0, Run([0, 1, 3])),
        ([200, 10, 10], BatchLimits(), 0, Run([0])),
        ([10, 30, 14], BatchLimits(run_cost=0, max_padding=1), 0, Run([0])),
        ([10, 10, 10], BatchLimits(max_batch_cost=20), 0, Run([0, 1])),
        ([300], BatchLimits(max_batch_cost=20), 0, Run([0])),
        ([4, 10], BatchLimits(run_cost=8, max_padding=0.1), 0, Run([0])),
        ([4, 10], BatchLimits(run_cost=8, max_padding=0.5), 0, Run([0, 1])),
    ],
)
def test_a_free_worker_takes(rows, limits, idle, expected):
    """Which rows leave when a worker is free, by what waits, the limits, and how many other workers are
    idle.
    """
    decision = choose(queue(*rows), limits, 0.0, idle_workers=idle)
    if isinstance(expected, Run):
        assert isinstance(decision, Run)
        assert sorted(decision.positions) == expected.positions
    else:
        assert decision == expected


A, B, OTHER = (
    Row(shapes=((4,), (2,))),
    Row(shapes=((5,), (60,))),
    Row(key="other", shapes=((4,), (2,))),
)
WIDE = BatchLimits(run_cost=100, max_padding=0.5)


@pytest.mark.parametrize(
    ("rows", "limits", "expected"),
    [
        ([A, OTHER, A, OTHER], BatchLimits(), [0, 2]),
        ([A, OTHER], WIDE, [0]),
        ([A, B, A], WIDE, [0, 2]),
        ([A, B], BatchLimits(run_cost=57, max_padding=1), [0]),
        ([A, B], BatchLimits(run_cost=58, max_padding=1), [0, 1]),
        ([A, B], BatchLimits(run_cost=58, max_padding=1, max_batch_cost=119), [0]),
        ([A, B], BatchLimits(run_cost=58, max_padding=1, max_batch_cost=120), [0, 1]),
        (
            [Row(shapes=((2, 3),)), Row(shapes=((3, 2),))],
            BatchLimits(run_cost=5, max_padding=1),
            [0],
        ),
        (
            [Row(shapes=((2, 3),)), Row(shapes=((3, 2),))],
            BatchLimits(run_cost=6, max_padding=1),
            [0, 1],
        ),
    ],
    ids=[
        "key",
        "key, whatever is allowed",
        "share",
        "cost of one",
        "cost of all",
        "size of one",
        "size of all",
        "axes",
        "all axes",
    ],
)
def test_rows_of_one_key_share_a_batch_as_far_as_each_input_allows(rows, limits, expected):
    """Unlike keys never share; of two padded inputs, the one that is padded more decides."""
    decision = choose(rows, limits, 0.0)
    assert isinstance(decision, Run)
    assert sorted(decision.positions) == expected


@pytest.mark.parametrize(
    ("rows", "run_solo", "expected"),
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
def test_a_row_that_runs_solo_joins_no_batch(rows, run_solo, expected):
    """As the oldest it leaves by itself, at once, however long the limits wait for batch-mates;
    before that no batch takes it along.
    """
    waiting = queue(*rows)
    for i in run_solo & set(range(len(waiting))):
        waiting[i].run_solo = True
    patient = BatchLimits(batch_wait_timeout_s=0.0 if 0 not in run_solo else 9.0)
    decision = choose(waiting, patient, 0.0)
    assert decision == NOTHING_DUE if expected is None else sorted(decision.positions) == expected


def test_an_optional_wait_ends_when_the_oldest_row_is_due():
    """With batch_wait_timeout_s a partial batch waits for the oldest row's time, and a full one
    does not wait.
    """
    limits = BatchLimits(max_batch_size=2, batch_wait_timeout_s=0.5)
    assert choose([Row(since=1.0)], limits, 1.2) == WaitUntil(1.5)
    assert choose([Row(since=1.0)], limits, 1.5) == Run(range(1))
    assert choose([Row(since=1.0), Row(since=1.1)], limits, 1.2) == Run(range(2))


def test_quick_rows_are_taken_together_and_slow_ones_alone():
    """Row-wise stages: unknown or slow rows go alone, quick ones by two milliseconds' worth, and no
    more than 8 wait behind a slow one.
    """
    assert [python_batch_limits(row_s).max_batch_size for row_s in (0.0, 0.1, 0.0005, 1e-7)] == [
        1,
        1,
        4,
        8,
    ]


def test_a_queue_is_full_at_the_largest_batch():
    """is_full counts rows against max_batch_size; one row that costs as much as a batch may fills
    one.
    """
    assert is_full(queue(100), BatchLimits(max_batch_cost=100))
    assert not is_full(queue(99, 99), BatchLimits(max_batch_cost=100))
    assert not is_full(queue(1), BatchLimits(max_batch_size=2))
    assert is_full(queue(1, 1), BatchLimits(max_batch_size=2))


@given(
    st.lists(st.integers(1, 256), min_size=1, max_size=80),
    st.integers(1, 40),
    st.integers(0, 32),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_every_batch_keeps_its_bounds(tokens, size, run_cost, max_padding, idle):
    """Whatever waits: the oldest row leaves, no row leaves twice, rows and padding stay within
    their bounds.
    """
    limits = BatchLimits(max_batch_size=size, run_cost=run_cost, max_padding=max_padding)
    decision = choose(queue(*tokens), limits, 0.0, idle_workers=idle)
    assert isinstance(decision, Run)
    chosen = [tokens[i] for i in decision.positions]
    assert 0 in decision.positions
    assert len(set(decision.positions)) == len(chosen) <= size
    padded = max(chosen) * len(chosen)
    if idle == 0:
        assert padded - sum(chosen) <= max_padding * padded + 1e-9


@given(st.lists(st.tuples(st.none() | st.integers(1, 256), st.booleans()), min_size=1, max_size=60))
def test_a_queue_empties(rows):
    """Taking batch after batch, every row leaves once, and those that are to be alone leave
    alone.
    """
    waiting = [Row(tokens, run_solo=alone) for tokens, alone in rows]
    for _ in range(len(rows)):
        decision = choose(waiting, BatchLimits(max_batch_size=8), 0.0)
        if decision is NOTHING_DUE:
            break
        assert isinstance(decision, Run)
        gone = set(decision.positions)
        assert len(gone) == 1 or not any(waiting[i].run_solo for i in gone)
        waiting = [row for i, row in enumerate(waiting) if i not in gone]
    assert not waiting
    assert math.isinf(NOTHING_DUE.until)


def plain_choice(rows: list[Row], limits: BatchLimits) -> list[int]:
    """The positions of a ragged batch, by trying every waiting row, nearest lengths first."""
    head, most_cost = rows[0], limits.max_batch_cost or math.inf
    alike = [i for i in range(1, len(rows)) if rows[i].key == head.key and not rows[i].run_solo]
    alike.sort(key=lambda i: abs(rows[i].padded_size - head.padded_size))

    def widest(batch: list[int], at: int) -> int:
        return math.prod(map(max, *(rows[i].shapes[at] for i in batch), (0, 0)))

    def padding(batch: list[int], at: int) -> int:
        return widest(batch, at) * len(batch) - sum(math.prod(rows[i].shapes[at]) for i in batch)

    chosen = [0]
    for i in alike:
        joined = [*chosen, i]
        largest = max(widest(chosen, at) for at in range(len(head.shapes)))
        if len(joined) > limits.max_batch_size or len(joined) * largest > most_cost:
            break
        if all(
            widest(joined, at) * len(joined) <= most_cost
            and padding(joined, at) - padding(chosen, at) <= limits.run_cost
            and padding(joined, at) <= limits.max_padding * widest(joined, at) * len(joined)
            for at in range(len(head.shapes))
        ):
            chosen = joined
    return chosen


@given(
    st.integers(1, 2).flatmap(
        lambda count: st.lists(
            st.tuples(*[st.tuples(st.integers(1, 30), st.integers(1, 3))] * count),
            min_size=1,
            max_size=60,
        )
    ),
    st.integers(1, 40),
    st.integers(0, 40),
    st.floats(0, 1),
    st.none() | st.integers(1, 500),
)
def test_a_batch_is_what_trying_every_row_finds(shapes, size, run_cost, max_padding, most_cost):
    """Rows that are not looked at, since they are too long or too short for any batch of the oldest
    one, would not have joined it.
    """
    rows = [Row(shapes=one) for one in shapes]
    limits = BatchLimits(size, 0.0, run_cost, max_padding, most_cost)
    found = choose(rows, limits, 0.0)
    assert isinstance(found, Run)
    assert list(found.positions) == plain_choice(rows, limits)


def test_a_batch_is_chosen_among_the_oldest_rows(monkeypatch):
    """However many wait: the choice holds up the workers of all functions."""
    monkeypatch.setattr(policy, "MOST_LOOKED_AT", 4)
    rows = queue(10, 30, 10, 30, 10, 10)
    assert choose(rows, BatchLimits(), 0.0) == Run([0, 2])
