"""How many replicas, by tables and by courses of samples."""

from __future__ import annotations

import pytest

from deployments.scaling.demand import LoadSample, ScalingLimits
from deployments.scaling.replica_policy import ReplicaState, choose_yielding, wanted_replicas
from tests.problems import expect_values

SIX = ScalingLimits(1, 6, workers=1, downscale_delay_s=20.0)

TICK_S = 0.2


class Course:
    """A function's replicas over time: samples in, decisions out; replicas are there as soon as
    they are decided. ``is_used``, that calls came between two samples, is said where it counts: a
    long call is in flight and none comes.
    """

    def __init__(self, limits: ScalingLimits, current: int = 1) -> None:
        self.limits, self.current, self.now = limits, current, 100.0
        self.state: ReplicaState | None = None
        self.changes: list[tuple[float, int]] = []
        self.why = ""

    def run(self, seconds: float, in_flight: float, **fields) -> Course:
        """So long with the same numbers."""
        until = self.now + seconds
        while self.now < until - TICK_S / 2:
            fields.setdefault(
                "waiting_rows", max(0.0, in_flight - self.current * self.limits.workers)
            )
            extra = {key: fields.pop(key) for key in ("fits", "reclaim") if key in fields}
            sample = LoadSample(self.now, in_flight, **{"row_s": 0.1, "is_used": False, **fields})
            decision = wanted_replicas(
                sample, self.current, self.limits, self.state, self.now, **extra
            )
            if decision.replicas != self.current:
                self.changes.append((round(self.now - 100.0, 1), decision.replicas))
                self.why = decision.why
            self.state, self.current, self.last = decision.state, decision.replicas, decision
            fields.update(extra)
            self.now += TICK_S
        return self


def test_a_step_is_answered_at_the_first_sample_and_taken_back_after_the_delay():
    """From 1 to 48 callers and back: one change each way, the second within the delay and ten
    seconds.
    """
    course = Course(SIX).run(10, 1, work=1.0).run(30, 48, work=6.0).run(40, 1, work=1.0)
    assert [replicas for _, replicas in course.changes] == [6, 1]
    (up, _), (down, _) = course.changes
    assert up == 10.0
    assert 20 <= down - 40.0 <= 30


def test_a_decision_has_its_numbers():
    """What is kept for `wakeful status --why`."""
    course = Course(ScalingLimits(1, 6, target_ongoing_requests=12)).run(10, 41, fits=4)
    expect_values(course.why, "1 → 4", "41 in flight", "12 a replica", "panic window", "1 more")


def test_a_burst_that_is_over_before_a_replica_starts_adds_none():
    """Fifteen rows of a tenth of a second, answered one after another."""
    course = Course(SIX).run(10, 0)
    for left in range(8, 0, -1):
        course.run(0.2, left)
    assert course.run(10, 0).changes == []


def test_a_little_more_for_long_adds_one():
    """Under twice the target there is no panic, but the window has wanted two at every moment."""
    course = Course(SIX).run(20, 4, work=1.0)
    assert course.changes[0][1] == 2
    expect_values(course.why, "1 → 2", "4 in flight", "2.5 a replica", "2 s")


def test_in_flight_that_swings_around_the_target_changes_nothing():
    """A tenth is tolerated."""
    course = Course(SIX)
    for _ in range(40):
        course.run(0.4, 2, work=0.5).run(0.4, 3, work=0.5)
    assert course.changes == []


def test_few_in_flight_because_there_are_many_replicas_is_no_reason_to_stop_one():
    """More than four cores of work need five workers, however few wait; the two that are in flight
    over the target do not say so.
    """
    course = Course(SIX, current=6).run(120, 5, work=4.3, waiting_rows=0.0)
    assert course.current == 5


def test_no_step_down_while_any_moment_of_the_stable_window_needed_more():
    """A peak each 15 s within a delay of 20."""
    course = Course(SIX, current=4)
    for _ in range(6):
        course.run(2, 12, work=2.0).run(13, 1, work=0.5)
    assert course.current >= 4


def test_it_knows_nothing_of_before():
    """The controller came back: a whole stable window passes before anything stops."""
    course = Course(SIX, current=6).run(19.8, 1, work=0.5)
    assert course.changes == []
    assert course.run(4, 1, work=0.5).changes == [(23.0, 1)]


@pytest.mark.parametrize(("delay_s", "asleep"), [(5.0, 5.0), (60.0, 60.0)])
def test_the_last_replica_stops_after_its_own_delay(delay_s, asleep):
    """Counted from the last call that was seen, in flight or not."""
    course = (
        Course(ScalingLimits(0, 3, downscale_to_zero_delay_s=delay_s))
        .run(3, 0, is_used=True)
        .run(80, 0, is_used=False)
    )
    assert course.changes == [(pytest.approx(asleep + 2.9, abs=0.15), 0)]


def test_a_long_call_keeps_its_replica():
    """For two minutes none comes; the delay begins when it is answered."""
    limits = ScalingLimits(0, 6, workers=1, downscale_delay_s=20.0, downscale_to_zero_delay_s=30.0)
    course = Course(limits).run(1, 1, is_used=True).run(120, 1)
    assert course.changes == []
    assert course.run(60, 0).changes == [(pytest.approx(151, abs=0.3), 0)]


def test_a_call_wakes_what_is_at_zero():
    """One at least, and as many as the queue wants."""
    assert Course(ScalingLimits(0, 3), current=0).run(0.2, 1).current == 1
    assert Course(ScalingLimits(0, 3), current=0).run(0.2, 0).current == 0


def test_what_ray_woke_has_its_whole_delay_again():
    """Long asleep, and its first numbers are still on their way: that is no reason to stop it at
    once.
    """
    course = Course(ScalingLimits(0, 3, downscale_to_zero_delay_s=5.0), current=0).run(100, 0)
    course.current = 1
    assert course.run(4.8, 0).changes == []
    assert course.run(0.6, 0).changes[-1][1] == 0


def test_the_declared_delay_holds_back_a_step_up():
    """Five seconds of wanting more."""
    course = Course(ScalingLimits(1, 6, upscale_delay_s=5.0)).run(10, 48)
    assert course.changes[0][0] == pytest.approx(5.0)


def test_what_does_not_fit_is_reported_and_not_requested():
    """Two of the five fit."""
    course = Course(SIX).run(0.2, 48, fits=2)
    assert (course.current, course.last.missing) == (3, 3)
    expect_values(course.why, "1 → 3", "48 in flight", "panic window", "6 wanted", "2 more fit")


def test_surplus_replicas_are_given_up_when_another_function_needs_them():
    """Before its delay is over, and never below what it needs or its least."""
    course = Course(SIX, current=5).run(3, 4, work=1.0)
    assert course.last.surplus == 3
    assert course.run(0.2, 4, work=1.0, reclaim=1).current == 4
    assert course.run(0.2, 4, work=1.0, reclaim=9).current == 2
    assert Course(ScalingLimits(3, 6), current=3).run(3, 0, reclaim=2).current == 3


def test_the_longest_spare_yields_first():
    """Until what is missing is found."""
    spares = [("late", 50.0, 2), ("early", 10.0, 1), ("none", 5.0, 0)]
    assert choose_yielding(spares, 2) == {"early": 1, "late": 1}
    assert choose_yielding(spares, 0) == {}


def test_rows_that_wait_count_where_a_call_has_many():
    """One call of 480 rows is as much as 48 callers of ten."""
    assert Course(SIX).run(0.2, 1, waiting_rows=480).current == 6


def test_bounds_hold():
    """What is declared changed while it runs."""
    assert Course(ScalingLimits(2, 3), current=1).run(0.2, 0).current == 2
    assert Course(ScalingLimits(1, 3), current=5).run(0.2, 100).current == 3


def test_replicas_do_not_become_fewer_while_sequences_live():
    """Ray chooses the replica that ends. More may start; when the last sequence has ended, fewer
    are enough as ever.
    """
    course = (
        Course(SIX)
        .run(10, 1, work=1.0, sequences=8)
        .run(30, 48, work=6.0, sequences=8)
        .run(60, 1, work=1.0, sequences=1)
    )
    assert [replicas for _, replicas in course.changes] == [6]
    course.run(40, 1, work=1.0)
    assert [replicas for _, replicas in course.changes] == [6, 1]
