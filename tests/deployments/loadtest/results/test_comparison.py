"""Two runs compared: what is named, what fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from deployments.loadtest.results.comparison import compare
from deployments.loadtest.results.records import CallRecord, Run
from tests.deployments.loadtest.results.simulated_latencies import (
    RATE,
    SERVERS,
    independent,
    make_run,
    run_of,
)


def changed(run: Run, change: Callable[[CallRecord], CallRecord]) -> Run:
    """The run with another answer to each call."""
    return make_run([change(call) for call in run.calls], run.seconds)


def slower(factor: float) -> Callable[[CallRecord], CallRecord]:
    """Every call takes so many times as long."""
    return lambda call: call._replace(done=call.intended + factor * call.latency_s)


def failing(share: float, seed: int = 0) -> Callable[[CallRecord], CallRecord]:
    """So many of the calls fail."""
    dice = np.random.default_rng(seed)
    return lambda call: (
        call._replace(status=500, code="internal") if dice.random() < share else call
    )


def cold(share: float) -> Callable[[CallRecord], CallRecord]:
    """So many of the calls found it asleep."""
    dice = np.random.default_rng(0)
    return lambda call: call._replace(is_warm=bool(dice.random() >= share))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (slower(1.3), {"p50": "worse", "p95": "worse", "p99": "worse"}),
        (slower(0.7), {"p50": "better", "p95": "better", "p99": "better"}),
        (slower(1.03), {}),
        (failing(0.02), {"success": "worse"}),
        (failing(0.0002), {}),
        (cold(0.05), {"warm": "worse"}),
    ],
)
def test_a_change_is_named_with_its_direction(
    change: Callable[[CallRecord], CallRecord], named: dict[str, str]
):
    """Where it is no chance and large enough to matter; a worse value is a regression."""
    before, after = (run_of(independent(), {}, 60.0, seed) for seed in (1, 2))
    comparison = compare(before, changed(after, change))
    assert {one.name: one.direction for one in comparison.changes} == named
    assert comparison.has_regression is ("worse" in named.values())
    for one in comparison.changes:
        assert one.words in comparison.words


def test_a_change_is_told_in_numbers():
    """As they were, as they are."""
    run = run_of(independent(), {}, 60.0, seed=1)
    words = compare(run, changed(run, slower(1.5))).words
    assert "f: p50 was 19.9 ms, is 29.9 ms" in words
    assert "50 % slower" in words
    assert compare(run, run).words == "No change that counts."


@pytest.mark.parametrize(
    ("of_run", "values"),
    [
        ({"shape": "burst --rps 200"}, ["steady", "burst"]),
        ({"rates": {"f": 100.0}}, ["200", "100"]),
        ({"rates": {"f": RATE, "g": 1.0}}, ["f", "f, g"]),
        ({"sent": {"f": "b"}}, ["other calls", "f"]),
        ({"was_limited": "it was 2 s late"}, ["second", "2 s late"]),
    ],
)
def test_another_load_is_not_compared(of_run: dict[str, object], values: list[str]):
    """It says what differs; no regression either."""
    run = run_of(independent(), {}, 10.0, seed=1)
    comparison = compare(replace(run, sent={"f": "a"}), make_run(list(run.calls), 10.0, **of_run))
    assert not comparison.has_regression
    assert comparison.words.startswith("The runs cannot be compared")
    for value in values:
        assert value in comparison.other_load


@pytest.mark.parametrize(
    ("shape", "of_runs", "words"),
    [
        ("day --rps 200", (True, False), "first"),
        ("day --rps 200", (False, True), "second"),
        ("trace --speed 1", (False, True), "second"),
        ("day --rps 200", (False, False), ""),
        ("steady --rps 200", (True, True), ""),
    ],
)
def test_a_part_of_a_load_that_changes_is_another_load(
    shape: str, of_runs: tuple[bool, bool], words: str
):
    """As of a day that was ended at its noon; of a steady one a part is like the whole."""
    calls = list(run_of(independent(), {}, 10.0, seed=1).calls)
    before, after = (make_run(calls, 10.0, shape=shape, is_partial=part) for part in of_runs)
    found = compare(before, after)
    assert (words in found.other_load) if words else not found.other_load


def test_a_function_that_no_longer_answers_is_a_regression():
    """Its latencies are of no call; another machine is a caution."""
    run = run_of(independent(), {}, 10.0, seed=1)
    after = make_run([failing(2.0)(call) for call in run.calls], 10.0, machine={"cores": "4"})
    comparison = compare(run, after)
    assert [one.name for one in comparison.changes] == ["success"]
    assert comparison.has_regression
    assert comparison.cautions == ["cores was unknown and is 4"]
    assert not compare(make_run([], 10.0), make_run([], 10.0)).changes


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ({"load average": "0.2"}, {"load average": "1.1"}, []),
        ({"load average": "0.2"}, {"load average": "3.0"}, ["load average was 0.2 and is 3.0"]),
        ({"load average": "?"}, {"load average": "3.0"}, ["load average was ? and is 3.0"]),
        ({"wakeful": "1.0"}, {"wakeful": "1.1"}, ["wakeful was 1.0 and is 1.1"]),
    ],
)
def test_what_else_differs_is_told(was: dict[str, str], now: dict[str, str], words: list[str]):
    """The machine and the warm-up; the load average only where it says something."""
    calls = list(run_of(independent(), {}, 10.0, seed=1).calls)
    before, after = (make_run(calls, 10.0, machine=machine) for machine in (was, now))
    assert compare(before, after).cautions == words
    later = replace(after, warm_up_s=2.0, seed=1)
    assert compare(after, later).cautions == [
        "seconds of warm-up was 0 and is 2",
        "seed was 0 and is 1",
    ]


def test_calls_under_way_when_a_run_was_ended_are_no_regression():
    """They have no answer, and it is not known that they would have had none."""
    run = run_of(independent(), {}, 10.0, seed=1)
    calls = list(run.calls)
    calls[-400:] = [call._replace(status=0, code="ended") for call in calls[-400:]]
    assert not compare(run, make_run(calls, 10.0, is_partial=True)).has_regression


def test_sequences_that_go_on_after_the_load_are_compared_by_their_time():
    """The intervals are those of a load that took as long."""
    run = run_of(independent(), {}, 10.0, seed=1)
    shorter, whole = (
        compare(replace(run, seconds=seconds), run) for seconds in (5.0, run.calls[-1].intended)
    )
    assert shorter.differences == whole.differences


def false_alarms(label: str, runs: int, seconds: float) -> int:
    """Of so many comparisons of a server with itself, those that name something."""
    return sum(
        bool(
            compare(
                run_of(SERVERS[label], {}, seconds, 2 * seed),
                run_of(SERVERS[label], {}, seconds, 2 * seed + 1),
            ).changes
        )
        for seed in range(runs)
    )


@pytest.mark.slow
def test_a_server_compared_with_itself_rarely_changes():
    """Whatever its neighbouring calls have in common."""
    for label in ("independent", "GC, 0.2 s every 3 s"):
        assert false_alarms(label, 8, 15.0) <= 1, label


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("label", SERVERS)
def test_a_server_compared_with_itself_changes_once_in_twenty(label: str):
    """At most; of a hundred, with three standard deviations for the count."""
    assert false_alarms(label, 100, 60.0) <= 5 + 7
