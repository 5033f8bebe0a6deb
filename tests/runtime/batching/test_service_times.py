"""What rows take, by the batches that were seen."""

from __future__ import annotations

import pytest

from runtime.batching.service_times import (
    LEAST_BATCHES,
    LoopTime,
    Running,
    SegmentTime,
    ServiceTimes,
)


def seen(*batches: tuple[int, float]) -> SegmentTime:
    """A segment that has run these batches."""
    time = SegmentTime()
    for rows, seconds in batches:
        time.record(rows, seconds)
    return time


ONES = [(1, 0.02)] * 20


@pytest.mark.parametrize(
    ("batches", "full", "row_s"),
    [
        (ONES[:LEAST_BATCHES], None, 0.0),
        (ONES, None, 0.02 / 32),
        ([(1, 6.0), (1, 6.0)], None, 6.0 / 32),
        ([*ONES, (32, 0.64)], None, 0.02),
        ([*ONES, (32, 0.02 + 31 * 0.001)], None, (0.02 + 31 * 0.001) / 32),
        ([*ONES, (16, 0.17)], 16, 0.17 / 16),
        ([(32, 0.32)] * 20, None, 0.01),
        ([(4, 0.1), (1, 0.04), (4, 0.04), (2, 0.04)] * 5, 1, 0.02),
    ],
)
def test_a_row_among_many_takes_what_batches_allow(batches, full, row_s):
    """Nothing, as long as little was seen; then its part of the largest batch, by a line through
    those that were seen: flat where all had one row. Never more than rows took so far.
    """
    time = seen(*batches)
    if full is not None:
        time.record_full(full)
    assert time.queued_row_s(32) == pytest.approx(row_s, rel=0.25)
    assert time.queued_row_s(32) <= time.row_s


def test_seconds_are_divided_by_rows():
    """Eight quick rows share a batch, a slow one has its own: the mean is that of rows. The first
    batch, which pays for what is made lazily, is forgotten.
    """
    time = seen((1, 50.0), *[(8, 0.008), (1, 0.1)] * 200)
    assert time.row_s == pytest.approx(0.108 / 9, rel=0.1)
    assert seen((1, 50.0), (1, 0.1)).row_s == pytest.approx(0.1)


def test_a_function_takes_the_sum_of_its_segments():
    """Three inner rows a row in the second one, of which half run the third."""
    times = ServiceTimes([1.0, 3.0, 3.0], [1.0, 1.0, 0.5])
    for index in range(3):
        for _ in range(LEAST_BATCHES + 1):
            times.segments[index].record(1, 0.01)
    before, behind = times.left_s([1, 1, 1])
    assert times.row_s == pytest.approx(0.055)
    assert before == pytest.approx([0.055, 0.045, 0.015])
    assert behind == pytest.approx([0.045, 0.005, 0.0])
    work_s = times.work_s([1, 1, 1], [2, 3, 1], [0, 0, 0])
    assert work_s == pytest.approx(2 * 0.055 + 3 * 0.015 + 0.01)
    assert times.work_s([1, 1, 1], [0, 0, 0], [4, 0, 5]) == pytest.approx(4 * 0.045)


def test_the_way_of_a_row_has_batches_and_coroutines():
    """A batch of each segment, the longest once more before each but the first, and the event
    loop's, most of them; a row has to go while there is time for what it still needs and two more.
    """
    times = ServiceTimes([1.0] * 3, [1.0] * 3)
    times.segments[0].record(1, 0.05)
    times.segments[2].record(8, 0.01)
    for _ in range(LEAST_BATCHES + 1):
        times.on_loop[1].record(0.2)
    assert times.latency_s() == pytest.approx(0.05 + 0.01 + 0.05 + 0.2)
    assert times.slack_s(2) == pytest.approx(0.01 + 2 * 0.05)
    assert times.slack_s(1) == pytest.approx(0.01 + 2 * 0.05 + 0.2)


def test_most_coroutines_take_no_longer():
    """Twice the mean distance above the mean, once some have ended."""
    time = LoopTime()
    for _ in range(LEAST_BATCHES):
        time.record(0.1)
    assert time.most_s == 0.0
    for number in range(400):
        time.record(0.1 if number % 2 else 0.3)
    assert time.most_s == pytest.approx(0.2 + 2 * 0.1, rel=0.1)


def test_threads_of_a_stage_count_by_what_they_get_done():
    """A stage of 0.16 s with 16 threads beside two workers costs a row 0.02 s of one worker, and
    keeps no worker busy: what waits for a worker does not wait for it.
    """
    times = ServiceTimes([1.0, 1.0], [1.0, 1.0], [0, 16], 2)
    for _ in range(LEAST_BATCHES + 1):
        times.segments[0].record(1, 0.01)
        times.segments[1].record(1, 0.16)
    assert times.row_s == pytest.approx(0.01 + 0.16 * 2 / 16)
    assert times.left_s([1, 1])[0] == pytest.approx([0.03, 0.02])
    assert times.work_s([1, 1], [1, 8], [0, 0]) == pytest.approx(0.03 + 8 * 0.02)
    assert times.longest_batch_s() == pytest.approx(0.01)
    assert times.latency_s() == pytest.approx(0.17)


@pytest.mark.parametrize(
    ("running", "left_s"),
    [
        ([], 0.0),
        ([Running(None, 1, 2, 0.0)], 0.0),
        ([Running(None, 2, 2, 0.005)], 0.015),
        ([Running(None, 2, 2, 0.5)], 0.0),
        ([Running(1, 15, 16, 0.0)], 0.0),
        ([Running(1, 16, 16, 0.56)], 2.0 * 2 / 16),
        ([Running(None, 2, 2, 0.0), Running(1, 16, 16, 0.56)], 0.02 + 0.25),
    ],
)
def test_what_runs_is_waited_for_where_no_thread_is_idle(running, left_s):
    """By what its batches take, without what has passed of them."""
    times = ServiceTimes([1.0, 1.0], [1.0, 1.0], [0, 16], 2)
    times.segments[0].record(1, 0.01)
    times.segments[1].record(1, 0.16)
    assert times.running_s(running) == pytest.approx(left_s)
