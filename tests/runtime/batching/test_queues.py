"""The rows of one function that wait, and which of them leave next."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from runtime.batching.bisection import HOLD_S, BatchSizeCap
from runtime.batching.calls import Call, Row
from runtime.batching.policy import NOTHING_DUE, UNBATCHED, BatchLimits, WaitUntil
from runtime.batching.queues import SegmentQueues
from runtime.batching.service_times import ServiceTimes


@dataclass
class Gathers:
    """A segment of a queue."""

    batch_limits: BatchLimits | None
    streams: bool = False


def rows_of(count: int) -> list[Row]:
    """Rows of fixed shape that wait since 0."""
    return Call([{} for _ in range(count)], request_id="", now=0.0, deadline=math.inf).rows


def queues_of(segments: list[Gathers]) -> SegmentQueues:
    """Queues of these segments, of which no batch has been run."""
    ones = [1.0] * len(segments)
    return SegmentQueues(segments, ServiceTimes(ones, ones))


MODEL, LATER = (
    BatchLimits(max_batch_size=4),
    BatchLimits(max_batch_size=4, batch_wait_timeout_s=9.0),
)


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
def test_a_full_batch_goes_first_then_new_rows_then_a_model(waiting, first):
    """By the rows that wait at a plain segment, at a model, and at a later model that waits for
    batch-mates.
    """
    queues = queues_of([Gathers(None), Gathers(MODEL), Gathers(LATER)])
    for index, count in enumerate(waiting):
        queues.add(index, rows_of(count))
    found = queues.take(1.0, 0)
    if first is None:
        assert found is NOTHING_DUE
        return
    assert not isinstance(found, WaitUntil)
    assert (found[0], len(found[1])) == first
    assert queues.waiting == sum(queues.lengths()) == sum(waiting) - first[1]


@pytest.mark.parametrize(
    ("waiting", "first"),
    [
        ((0, 1, 3), (1, 1)),
        ((0, 3, 3), (1, 3)),
        ((0, 4, 4), (2, 4)),
        ((0, 4, 3), (1, 4)),
        ((1, 3, 3), (0, 1)),
    ],
)
def test_a_stage_that_takes_all_rows_goes_between_new_rows_and_a_model_that_is_not_full(
    waiting, first
):
    """Its rows may fill the model's batch, as new rows may fill its own; a full batch goes
    first.
    """
    queues = queues_of(
        [Gathers(None), Gathers(BatchLimits(max_batch_size=4, before_models=True)), Gathers(MODEL)]
    )
    for index, count in enumerate(waiting):
        queues.add(index, rows_of(count))
    found = queues.take(1.0, 0)
    assert not isinstance(found, WaitUntil)
    assert (found[0], len(found[1])) == first


@pytest.mark.parametrize(("since", "first"), [((1.0, 2.0), 0), ((2.0, 1.0), 1), ((1.0, 1.0), 0)])
def test_of_models_the_one_goes_first_whose_oldest_row_has_waited_longest(since, first):
    """So that what rows become gathers at the later model, while earlier rows are on their way
    there.
    """
    queues = queues_of([Gathers(MODEL), Gathers(MODEL)])
    for index, when in enumerate(since):
        for row in (rows := rows_of(2)):
            row.since = when
        queues.add(index, rows)
    found = queues.take(9.0, 0)
    assert not isinstance(found, WaitUntil)
    assert found[0] == first


@pytest.mark.parametrize(
    ("left_s", "first"), [(10.0, 0), (0.17, 0), (0.16, 1), (0.0, 1), (math.inf, 0)]
)
def test_a_row_that_lacks_a_model_goes_before_new_rows_when_its_time_ends(left_s, first):
    """New rows take 50 ms a batch and may come again and again; a model's batch takes 10 ms. Its
    row waits for batch-mates until there is time for two batches of new rows and its own.
    """
    queues = queues_of([Gathers(None), Gathers(MODEL)])
    for index, seconds in enumerate((0.05, 0.0625)):
        queues.record_batch(index, 1, seconds, None, 0.0)
    new, (early, late) = rows_of(3), rows_of(2)
    late.call = Call([{}], request_id="", now=0.0, deadline=9.0 + left_s + 0.02)
    queues.add(0, new)
    queues.add(1, [early, late])
    found = queues.take(9.0, 0)
    assert not isinstance(found, WaitUntil)
    assert found[0] == first


def test_nothing_leaves_before_the_soonest_is_due():
    """Two segments wait for batch-mates: the one that is due first decides when to check again."""
    queues = queues_of([Gathers(LATER), Gathers(BatchLimits(batch_wait_timeout_s=5.0))])
    queues.add(0, rows_of(1))
    queues.add(1, rows_of(1))
    assert queues.take(1.0, 0) == WaitUntil(5.0)


def test_a_batch_beyond_memory_limits_one_segment_for_a_while():
    """Batches of two where three did not fit, until a minute is over; a lower limit found later
    holds from then on.
    """
    queues = queues_of([Gathers(MODEL), Gathers(MODEL)])

    def takes(index: int, now: float) -> int:
        queues.add(index, rows_of(8))
        found = queues.take(now, 0)
        assert not isinstance(found, WaitUntil)
        while not isinstance(queues.take(now, 0), WaitUntil):
            pass
        return len(found[1])

    queues.record_batch(0, 1, 0.001, BatchSizeCap(2, None, 100.0), 100.0)
    assert [
        takes(0, 100.0),
        takes(1, 100.0),
        takes(0, 99.0 + HOLD_S),
        takes(0, 100.0 + HOLD_S),
    ] == [2, 4, 2, 4]
    queues.record_batch(0, 1, 0.001, BatchSizeCap(1, None, 200.0), 200.0)
    queues.record_batch(0, 1, 0.001, BatchSizeCap(4, None, 210.0), 210.0)
    assert takes(0, 211.0) == 1


@pytest.mark.parametrize(
    ("since", "first"),
    [
        ((None, None, 5.0), 2),
        ((1.0, None, 5.0), 0),
        ((5.0, None, 1.0), 2),
        ((None, 1.0, 5.0), 1),
        ((None, 5.0, 1.0), 2),
        ((None, 3.0, 3.0), 2),
        ((3.0, 4.0, 5.0), 0),
    ],
)
def test_a_stream_goes_first_when_no_row_has_waited_longer(since, first):
    """Of new rows, a model and a stream, whose oldest rows wait since then: neither can starve the
    other.
    """
    queues = queues_of([Gathers(None), Gathers(MODEL), Gathers(UNBATCHED, streams=True)])
    for index, when in enumerate(since):
        if when is not None:
            (row,) = rows_of(1)
            row.since = when
            queues.add(index, [row])
    found = queues.take(9.0, 0)
    assert not isinstance(found, WaitUntil)
    assert found[0] == first


def test_a_cap_that_one_queue_found_holds_for_the_one_beside_it():
    """What waits there is of the same stages, and has its own rows."""
    queues = queues_of([Gathers(MODEL)])
    beside = queues.beside()
    beside.add(0, rows_of(4))
    assert (queues.waiting, beside.waiting) == (0, 4)
    queues.record_batch(0, 4, 1.0, BatchSizeCap(rows=2, padded_size=None, since=1.0), 1.0)
    found = beside.take(1.0, 0)
    assert not isinstance(found, WaitUntil)
    assert (len(found[1]), found[2]) == (2, 0.5)  # as long as two rows took
    assert queues.times is beside.times
