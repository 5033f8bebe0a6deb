"""Numbers of the sections that watch decisions, from made-up calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loadtests.bench.figures import Number
from loadtests.bench.wake import promotion, step
from loadtests.bench.wake.calls import Answer
from loadtests.bench.wake.outcome import lost, ratios, slowest, taken_ms


def answer(at: float, seconds: float = 0.01, status: int = 200, **body: Any) -> Answer:
    """One call."""
    return Answer(status, at, seconds, {}, json.dumps(body).encode())


def by_name(numbers: list[Number]) -> dict[str, Number]:
    """By what stands behind the last colon of the name."""
    return {number.name.rpartition(": ")[2]: number for number in numbers}


def test_a_lost_call_misses_the_target_and_is_told() -> None:
    """Its time is not among those of the good ones."""
    answers = [answer(1), answer(2, 9.0, 503, error="no room"), answer(3, 0.02)]
    number = lost("crowd", answers)
    assert (number.value, number.verdict) == (1, "missed")
    assert "of 3; first: 503" in number.note
    assert taken_ms(answers) == (10.0, 20.0)
    assert (slowest("crowd", answers, 300).value, slowest("crowd", answers, 10).verdict) == (20.0, "missed")
    assert slowest("crowd", [], 10).verdict == "void"


@pytest.mark.parametrize(("over", "under", "found"), [((3.0, 4.0), (1.0, 2.0), (3.0, 2.0)), ((3.0,), (0.0,), ()), ((), (1.0,), ())])
def test_ratios_are_taken_round_by_round(over: tuple[float, ...], under: tuple[float, ...], found: tuple[float, ...]) -> None:
    """A round in which one side is missing has none."""
    assert ratios(over, under) == found


def test_calls_are_sorted_by_what_the_function_went_through() -> None:
    """Before the decision the host answers; the move has a second of aftermath; all calls count as calls."""
    one = promotion.Round(fast=100, decided=104, answered=106, slow=108, back=115, settled=118)
    answers = [
        answer(100.5, 0.9),  # the callers have just changed their rate
        *(answer(102 + index / 100) for index in range(100)),
        *(answer(104 + index / 100, 0.012) for index in range(250)),
        answer(116, 0.2),
        answer(120, 0.4, 500),
    ]
    found = by_name(list(promotion.numbers([one], answers)))
    assert (found["calls lost"].value, found["calls lost"].verdict) == (1, "missed")
    assert found["p99 in the host before it"].value == pytest.approx(10)
    assert found["p99 during the promotion"].value == pytest.approx(12)
    assert found["p99 during it, over that in the host"].verdict == "met"
    assert [number.value for number in promotion.numbers([one], answers) if number.name.endswith("slowest")] == [200, 900]
    assert found["own replica serving, from the decision"].value == 2
    assert found["its deployment gone, from the decision to hand back"].value == 3


UP = {"at": 100.4, "before": 1, "replicas": 6, "why": "1 → 6: 48 in flight"}
TWICE = [{"at": 125, "before": 6, "replicas": 2, "why": "6 → 2"}, {"at": 126, "before": 2, "replicas": 3, "why": "2 → 3"}]
DOWN = {"at": 131.0, "before": 6, "replicas": 1, "why": "6 → 1: 1 in flight"}


@pytest.mark.parametrize(
    ("decided", "reversals", "verdict"),
    [
        ([UP, DOWN], 0, "met"),
        ([UP, {"at": 110, "before": 6, "replicas": 5, "why": "6 → 5"}, DOWN], 1, "missed"),
        (
            [UP, {"at": 125, "before": 6, "replicas": 2, "why": "6 → 2"}, {"at": 126, "before": 2, "replicas": 3, "why": "2 → 3"}],
            1,
            "missed",
        ),
    ],
)
def test_a_step_down_under_load_and_one_up_without_are_reversals(decided: list[dict[str, Any]], reversals: int, verdict: str) -> None:
    """There is one way up and one way down."""
    found = by_name(list(step.numbers(step.Step(100, 120, 132), [answer(90, pid=1), answer(101, pid=1)], decided, 20)))
    assert (found["reversals"].value, found["reversals"].verdict) == (reversals, verdict)
    assert found["target decided"].value == pytest.approx(0.4)


def test_a_replica_serves_when_a_process_answers_that_did_not_before() -> None:
    """Counted from the step to the end of its answer; no other process, no number."""
    calm = [answer(90, pid=1), answer(101, pid=1)]
    busy = [*calm, answer(101.5, 0.5, pid=2), answer(101, 3.0, pid=3)]
    found = by_name(list(step.numbers(step.Step(100, 120, 131), busy, [UP, DOWN], 20)))
    assert found["a second replica answers"].value == pytest.approx(2.0)
    assert found["back at 1"].value == 11
    assert by_name(list(step.numbers(step.Step(100, 120, 131), calm, [], 20)))["a second replica answers"].verdict == "void"
