"""The rows of one function that wait, and which of them leave next."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from runtime.batching.ceiling import HOLD_S, Ceiling
from runtime.batching.policy import NOTHING, BatchLimits, Wait
from runtime.batching.queues import Queues
from runtime.batching.rows import Call, Row


@dataclass
class Gathers:
    """A segment of a queue."""

    limits: BatchLimits | None


def rows_of(count: int) -> list[Row]:
    """Rows of fixed shape that wait since 0."""
    return Call([{} for _ in range(count)], request_id="", now=0.0, deadline=math.inf).rows


MODEL, LATER = BatchLimits(max_batch_size=4), BatchLimits(max_batch_size=4, batch_wait_timeout_s=9.0)


@pytest.mark.parametrize(
    ("waiting", "first"),
    [
        ((0, 0, 0), None),
        ((1, 0, 0), (0, 1)),
        ((1, 3, 0), (0, 1)),
        ((1, 4, 0), (1, 4)),
        ((0, 3, 4), (2, 4)),
        ((0, 4, 4), (2, 4)),
        ((1, 3, 3), (0, 1)),
        ((0, 1, 3), (1, 1)),
    ],
)
def test_a_full_batch_goes_first_then_new_rows_then_who_is_furthest_along(waiting, first):
    """By the rows that wait at a plain segment, at a model, and at a later model that waits for company."""
    queues = Queues([Gathers(None), Gathers(MODEL), Gathers(LATER)])
    for index, count in enumerate(waiting):
        queues.add(index, rows_of(count))
    found = queues.take(1.0, 0)
    if first is None:
        assert found is NOTHING
        return
    assert not isinstance(found, Wait)
    assert (found[0], len(found[1])) == first
    assert queues.waiting == sum(queues.lengths()) == sum(waiting) - first[1]


def test_nothing_leaves_before_the_soonest_is_due():
    """Two segments wait for company: the one that is due first says when to ask again."""
    queues = Queues([Gathers(LATER), Gathers(BatchLimits(batch_wait_timeout_s=5.0))])
    queues.add(0, rows_of(1))
    queues.add(1, rows_of(1))
    assert queues.take(1.0, 0) == Wait(5.0)


def test_what_memory_had_no_room_for_limits_one_segment_for_a_while():
    """Batches of two where three did not fit, until a minute is over; a lower limit found later holds from then on."""
    queues = Queues([Gathers(MODEL), Gathers(MODEL)])

    def takes(index: int, now: float) -> int:
        queues.add(index, rows_of(8))
        found = queues.take(now, 0)
        assert not isinstance(found, Wait)
        while not isinstance(queues.take(now, 0), Wait):
            pass
        return len(found[1])

    queues.learn(0, 0.001, Ceiling(2, None, 100.0), 100.0)
    assert [takes(0, 100.0), takes(1, 100.0), takes(0, 99.0 + HOLD_S), takes(0, 100.0 + HOLD_S)] == [2, 4, 2, 4]
    queues.learn(0, 0.001, Ceiling(1, None, 200.0), 200.0)
    queues.learn(0, 0.001, Ceiling(4, None, 210.0), 210.0)
    assert takes(0, 211.0) == 1
