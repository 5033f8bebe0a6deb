"""What a fault run makes of what it saw: who is killed next, when it was over, what grew, which version answered."""

from __future__ import annotations

import math

import pytest

from loadtests.faults import gauges, mixed, overload, redeploy, scale, victims, work
from loadtests.faults.gauges import MIB, Gauges, Growth, Sample
from loadtests.faults.redeploy import Version


@pytest.mark.parametrize(
    ("answered", "dead", "victim"),
    [
        ({1: 10.0, 2: 12.0}, [], 2),
        ({1: 10.0, 2: 12.0}, [2], 1),
        ({1: 10.0, 2: 12.0}, [1, 2], None),
        ({1: 8.0}, [], None),
        ({}, [], None),
    ],
    ids=["the latest", "not the dead", "all dead", "too long ago", "nobody"],
)
def test_the_victim_has_just_answered(answered: dict[int, float], dead: list[int], victim: int | None) -> None:
    """So that it is a serving replica that dies, and not one that is starting."""
    assert victims.latest(answered, 9.0, frozenset(dead)) == victim


@pytest.mark.parametrize(
    ("good", "bad", "order"),
    [
        (2, 1, "gbg"),
        (10, 3, "ggbggbggbgggg"),
        (3, 0, "ggg"),
        (0, 0, ""),
    ],
)
def test_bad_versions_stand_among_good_ones(good: int, bad: int, order: str) -> None:
    """A good one before and after each."""
    faults = redeploy.order(good, bad)
    assert "".join("b" if fault else "g" for fault in faults) == order
    assert [fault for fault in faults if fault] == list(redeploy.BAD[:bad])


@pytest.mark.parametrize(
    ("code", "fault", "answers", "found"),
    [
        (0, "", True, []),
        (1, "raises", False, []),
        (1, "", True, ["`up` ended with 1 on version 2 (good)"]),
        (0, "raises", False, ["`up` ended with 0 on version 2 (raises)"]),
        (0, "", False, ["version 2 (good) never answered"]),
        (1, "raises", True, ["version 2 (raises) answered"]),
    ],
)
def test_good_versions_answer_and_bad_ones_do_not(code: int, fault: redeploy.Fault, answers: bool, found: list[str]) -> None:
    """And `up` says which is which."""
    assert redeploy.wrong_versions([Version(2, fault, code, 1.0)], frozenset({1, 2} if answers else {1})) == found


USUAL = [(index / 10, 0.1) for index in range(200)]


@pytest.mark.parametrize(
    ("right", "refused", "seconds"),
    [
        (USUAL, [], 0.0),
        (USUAL, [(9.9, 0.01)], 0.0),
        (USUAL, [(9.9, 0.01), (10.2, 0.01), (11.5, 0.01)], 2.0),
        ([(at, 0.5 if at < 13.5 else 0.1) for at, _ in USUAL], [], 4.0),
        ([(at, 0.5 if at == 10.0 else 0.1) for at, _ in USUAL[:101]], [], math.inf),
        ([(at, 0.5 if at == 15.0 else 0.1) for at, _ in USUAL], [], 0.0),
        ([], [], math.inf),
    ],
    ids=["at once", "refused before", "refused after", "slow", "never", "one slow answer later", "nothing"],
)
def test_an_overload_is_over_in_the_first_second_that_is_as_usual(
    right: list[tuple[float, float]], refused: list[tuple[float, float]], seconds: float
) -> None:
    """Nothing refused, and few answers slow."""
    assert overload.recovered_s(10.0, right, refused, slow_s=0.2) == seconds


def test_rates_come_by_turns() -> None:
    """And again from the first."""
    assert [scale.rate(at, 10.0) for at in (0.0, 9.9, 10.0, 25.0, 35.0, 40.0)] == [4.0, 4.0, 55.0, 4.0, 0.0, 4.0]


def test_replica_counts_are_kept_as_they_change() -> None:
    """Each once until it changes."""
    seen = scale.Seen()
    for replicas in (1, 1, 4, 4, 1, 0, 1):
        seen.see(replicas)
    assert seen.order == [1, 4, 1, 0, 1]


def samples(rss: list[float], files: list[int], step_s: float = 10.0) -> list[Sample]:
    """One each so many seconds and each 1,000 requests."""
    return [
        Sample(index * step_s, index * 1000, int(mib * MIB), count, 7) for index, (mib, count) in enumerate(zip(rss, files, strict=True))
    ]


def test_memory_grows_by_so_much_each_ten_thousand_requests() -> None:
    """By least squares over all samples; files and threads by the medians of the first third and the last."""
    found = gauges.growth("host", 5, samples([100 + 0.2 * index for index in range(9)], [10, 10, 90, 10, 11, 11, 12, 12, 12]))
    assert found.slope_mib == pytest.approx(2.0, abs=0.01)
    assert (found.files, found.threads) == (2, 0)
    assert str(found) == "host +2.00 MiB, +2 files, +0 threads"
    assert mixed.grown([found, Growth("replica", 6, 0.5, 3, 0), Growth("catalogue", 7, -1.0, 9, 0)]) == [
        "host: memory",
        "catalogue: files or threads",
    ]


def test_a_process_is_judged_without_its_first_seconds_and_only_if_it_lived_long_enough() -> None:
    """Warming up is no leak, and a few samples are no slope."""
    warming = samples([50, 100, 100, 100, 100, 100], [5] * 6)
    short = samples([50, 60, 70], [5] * 3)
    held = Gauges({("host", 1): warming, ("replica", 2): short})
    assert [(one.role, one.slope_mib) for one in held.growths(warm_s=10.0, least_s=30.0)] == [("host", 0.0)]
    assert list(held.growths(warm_s=10.0, least_s=100.0)) == []
    assert gauges.growth("idle", 3, [Sample(0.0, 5, MIB, 1, 1)] * 3).slope_mib == 0.0


@pytest.mark.parametrize(
    ("name", "command", "role"),
    [
        ("ray::ServeRepli", ["ray::ServeReplica:host:Host"], "host"),
        ("ray::ServeRepli", ["ray::ServeReplica:work:Function"], ""),
        ("raylet", ["/x/raylet", "--port=1"], "raylet"),
        ("python", ["python", "-m", "something"], ""),
    ],
)
def test_a_process_has_a_role_by_its_title(name: str, command: list[str], role: str) -> None:
    """Those that are replaced by faults have none."""
    assert gauges.role_of(name, command) == role


def test_work_lasts_between_two_bounds() -> None:
    """And is spread over them."""
    ms = work.spread_ms(10, 50)
    times = [ms(number) for number in range(1000)]
    assert (min(times), max(times)) == (10, 50)
    assert sum(times) / 1000 == pytest.approx(30, abs=0.5)
