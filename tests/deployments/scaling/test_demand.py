"""What the samples of a function ask for, by tables."""

from __future__ import annotations

import pytest

from deployments.scaling.demand import (
    LoadSample,
    ScalingLimits,
    WorkCounter,
    measure_load,
    replicas_by_work,
    target_in_flight,
    work_window_s,
)

SIX = ScalingLimits(1, 6, workers=1, downscale_delay_s=20.0)


@pytest.mark.parametrize(
    ("limits", "row_s", "calls"),
    [
        (ScalingLimits(1, 6), 0.1, 2.5),
        (ScalingLimits(1, 6, workers=2), 0.1, 5),
        (ScalingLimits(1, 6), 3.0, 2),
        (ScalingLimits(1, 6), 0.0001, 64),
        (ScalingLimits(1, 6), 0.0, 32),
        (ScalingLimits(1, 6, slo_p95_ms=1000), 0.1, 5),
        (ScalingLimits(1, 6, slo_p95_ms=50), 0.1, 1),
        (ScalingLimits(1, 6, target_ongoing_requests=7), 0.1, 7),
        (ScalingLimits(1, 6, max_ongoing_requests=1, max_batch_size=1, workers=2), 0.0001, 4),
    ],
    ids=[
        "goal",
        "workers",
        "slow",
        "quick",
        "unknown",
        "promise",
        "broken-promise",
        "declared",
        "narrow",
    ],
)
def test_the_target_comes_from_the_time_of_a_row_and_the_promise(limits, row_s, calls):
    """What a replica answers in a quarter of a second, or in half of its promised p95."""
    assert target_in_flight(limits, row_s) == pytest.approx(calls)


@pytest.mark.parametrize(
    ("work", "waiting", "current", "replicas"),
    [
        (0.3, 0, 1, 1),
        (1.0, 0, 1, 1),
        (1.0, 0, 6, 1),
        (0.75, 0, 2, 2),
        (1.1, 0, 2, 2),
        (2.0, 0, 6, 2),
        (4.4, 0, 6, 5),
        (4.4, 3, 6, 7),
    ],
    ids=[
        "little",
        "a-caller",
        "a-caller-of-many",
        "independent",
        "more-than-one",
        "two-callers",
        "four-busy",
        "four-busy-and-waiting",
    ],
)
def test_work_needs_workers_that_are_not_always_busy(work, waiting, current, replicas):
    """0.64 of a worker where 2.5 calls may be in flight; what clients that call again and again keep
    busy is enough for them.
    """
    looks = [LoadSample(float(at), 1, waiting, work, 0.1) for at in range(5)]
    assert -(-replicas_by_work(looks, SIX, 0.1, current) // 1) == replicas


@pytest.mark.parametrize(
    ("in_flight", "waiting", "row_s", "load"),
    [(48, 47, 0.1, 48), (15, 14, 0.1, 3), (48, 47, 0.001, 9.6), (1, 480, 0.1, 480)],
    ids=["outlasts-a-start", "soon-over", "quick", "rows-of-one-call"],
)
def test_a_queue_counts_at_once_if_a_replica_would_come_in_time_for_it(
    in_flight, waiting, row_s, load
):
    """Otherwise the mean of the window does."""
    looks = [
        *[LoadSample(float(at), 0, 0, 0, row_s) for at in range(4)],
        LoadSample(4.0, in_flight, waiting, 1.0, row_s),
    ]
    assert measure_load(looks, SIX, row_s, 1) == pytest.approx(load)


def test_done_is_measured_over_the_window():
    """Two seconds of it, however often it is recorded and seen."""
    done = WorkCounter()
    for tenth in range(100):
        for _ in range(2):
            done = done.after(
                tenth / 10, 0.0 if tenth < 70 else 0.5 * (tenth - 70) / 10, tenth, 2.0
            )
    assert done.work == pytest.approx(0.5)
    assert done.calls == 99
    assert done.points[0][0] == pytest.approx(7.9)


def test_while_work_is_not_all_seen_only_what_is_certain_counts():
    """After a replica has ended, what it still did is missing: three quarters may be one caller,
    and need no second replica.
    """
    assert replicas_by_work([LoadSample(0.0, 1, 0, 0.75, 0.1)], SIX, 0.1, 1) > 1
    assert replicas_by_work([LoadSample(0.0, 1, 0, 0.75, 0.1, is_settled=False)], SIX, 0.1, 1) == 1


@pytest.mark.parametrize(("row_s", "window_s"), [(0.001, 6.0), (0.5, 15.0), (30.0, 60.0)])
def test_slow_rows_are_measured_for_longer(row_s, window_s):
    """Thirty of them, within the stable window."""
    assert work_window_s(ScalingLimits(1, 6), row_s) == window_s
