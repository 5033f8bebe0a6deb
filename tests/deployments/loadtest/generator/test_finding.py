"""A search sends step after step, shared out as the rates are, and keeps the best run that held."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from deployments.loadtest.generator import finding
from deployments.loadtest.generator.finding import find_capacity
from deployments.loadtest.refusal import LoadTestRefused
from deployments.loadtest.results.records import CallRecord, Promise, Run
from tests.deployments.loadtest.plans import plan_of

CAPACITY = 100.0
PLAN = replace(plan_of(1, rps=20.0, warm_up_s=1.0), promises={"f": Promise(latency_p95_ms=50)})


def answer(plan, words):
    """A server that is slow to one call in twenty at its capacity, and to many more beyond."""
    (rate,) = plan.shape.rates.values()
    seconds, dice = plan.shape.seconds, random.Random(rate)
    slow = 0.05 * (rate / CAPACITY) ** 8
    times = [number / rate for number in range(int(rate * seconds))]
    calls = [
        CallRecord("f", at, at, at + (0.5 if dice.random() < slow else 0.01), 200) for at in times
    ]
    return Run(
        plan.url, "steady", plan.shape.rates, seconds, plan.warm_up_s, 0, 0.0, {},
        plan.promises, calls,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def known_generator(monkeypatch):
    """It can send 1,000 calls a second, and nothing waits."""
    monkeypatch.setattr(finding, "measure_rate", lambda plan, rate: 1000.0)
    monkeypatch.setattr(finding, "PAUSE_S", 0.0)


def test_the_capacity_of_a_server_is_found():
    """Within a twentieth; the run that is kept is one at which the promise held."""
    seen = []

    def send(plan, words):
        seen.append(words)
        return answer(plan, words)

    found = find_capacity(PLAN, send)
    assert found.capacity.rate == pytest.approx(CAPACITY, rel=0.05)
    assert CAPACITY * 0.7 < sum(found.best.rates.values()) < CAPACITY * 1.1
    assert seen[:2] == ["step 1, 20 calls/s", "step 2, 40 calls/s"]


def test_a_step_does_not_wait_until_sequences_have_ended():
    """Beyond the limit they take ever longer, and it would with them."""
    plans = []

    def send(plan, words):
        plans.append(plan)
        return answer(plan, words)

    sequences = plan_of(1, rps=20.0, sequence_calls=60).calls
    find_capacity(replace(PLAN, calls=sequences), send, longest_s=60.0)
    assert {plan.rest_s for plan in plans} == {0.0}


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (replace(PLAN, promises={}), "nothing is promised"),
        (replace(PLAN, promises={"f": Promise()}), "nothing is promised"),
        (replace(PLAN, shape=plan_of(1, rps=900.0).shape), "this generator sends 800"),
    ],
)
def test_a_search_that_cannot_begin(plan, words):
    """Is refused before a call is sent."""
    with pytest.raises(LoadTestRefused, match=words):
        find_capacity(plan, answer)


def test_a_step_that_the_generator_limited_is_sent_again():
    """Once; then the rate counts as beyond it."""
    seen = []

    def send(plan, words):
        seen.append(words)
        run = answer(plan, words)
        return replace(run, was_limited="busy") if len(seen) in (1, 3, 4) else run

    found = find_capacity(PLAN, send)
    assert seen[:4] == [
        "step 1, 20 calls/s",
        "step 1, 20 calls/s, again",
        "step 2, 40 calls/s",
        "step 2, 40 calls/s, again",
    ]
    assert found.capacity.rate == 20
    assert not found.capacity.is_converged


def test_a_search_that_is_ended_has_what_it_knows():
    """And is not converged."""
    stops = iter([False, False, True])
    found = find_capacity(PLAN, answer, should_stop=lambda: next(stops, True))
    assert found.is_partial
    assert not found.capacity.is_converged
    assert found.best.rates == {"f": 40.0}


def test_a_search_that_is_ended_between_two_steps_has_the_first():
    """The next one had not begun, as ``run_load`` says."""
    seen = []

    def send(plan, words):
        seen.append(words)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return answer(plan, words)

    found = find_capacity(PLAN, send)
    assert found.is_partial
    assert len(found.capacity.steps) == 2
    assert found.best.rates == {"f": 40.0}


def interrupt(plan, words):
    """It was to end before it had begun."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(("send", "is_to_end"), [(interrupt, False), (answer, True)])
def test_a_search_that_is_ended_before_its_first_step_has_nothing(send, is_to_end):
    """It is interrupted, as a load test is, and no result of nothing."""
    with pytest.raises(KeyboardInterrupt):
        find_capacity(PLAN, send, should_stop=lambda: is_to_end)
