"""Under overload a function answers as much as it can, and refuses the rest at once; without it
refuses nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

import pytest

from runtime.batching.policy import BatchLimits
from runtime.types.conditions import Condition
from tests.runtime.execution.simulated_load import (
    SimulatedClock,
    SimulatedSegment,
    Simulation,
    arrivals,
    clients,
)


@pytest.fixture
def simulated(monkeypatch) -> SimulatedClock:
    """The time of this process."""
    clock = SimulatedClock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def each(seconds: float) -> Callable[[Sequence], float]:
    """The cost of rows that take so long each."""
    return lambda rows: seconds * len(rows)


def batch(fixed_s: float, row_s: float) -> Callable[[Sequence], float]:
    """The cost of a model's batch."""
    return lambda rows: fixed_s + row_s * len(rows)


FORMS = {
    "plain": lambda: [SimulatedSegment(each(0.05))],
    "with a model": lambda: [
        SimulatedSegment(each(0.05)),
        SimulatedSegment(batch(0.001, 0.0), BatchLimits(max_batch_size=32)),
    ],
    "with a model of small batches": lambda: [
        SimulatedSegment(each(0.05)),
        SimulatedSegment(batch(0.001, 0.0), BatchLimits(max_batch_size=4)),
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_sixty_clients_get_what_thirty_do(simulated, form):
    """A worker answers forty rows within the deadline: of sixty clients some are refused, hardly
    one is late, and the others get as many answers as thirty clients.
    """

    async def goodput(count: int) -> tuple[float, int, int]:
        simulation = Simulation(simulated, FORMS[form]())
        began = simulated.now
        clients(simulation, count, {})
        outcomes = await simulation.run(began + 15)
        await simulation.close()
        return (
            outcomes.goodput(began + 3, began + 15),
            len(outcomes.refused),
            outcomes.late_since(began + 3),
        )

    few, refused, late = asyncio.run(goodput(30))
    assert (refused, late) == (0, 0)
    many, refused, late = asyncio.run(goodput(60))
    assert refused > 100
    assert late < 10
    assert many >= 0.95 * few


def test_a_burst_after_a_quiet_time_is_no_overload(simulated):
    """Rows came one by one, 20 ms each; three hundred at once share batches, are answered in time,
    and none of them is refused for what a batch of one took.
    """

    async def run() -> None:
        model = SimulatedSegment(batch(0.02, 0.0005), BatchLimits(max_batch_size=32))
        simulation = Simulation(simulated, [model], timeout_s=1.0)
        began = simulated.now
        for number in range(40):
            simulation.at(began + 0.1 * number, lambda: simulation.call({}))
        for _ in range(300):
            simulation.at(began + 5.0, lambda: simulation.call({}))
        outcomes = await simulation.run(began + 9.0)
        await simulation.close()
        assert (len(outcomes.answered), outcomes.refused, outcomes.late) == (340, [], [])

    asyncio.run(run())


def test_a_wrong_estimate_is_measured_again(simulated):
    """Rows took ten seconds each, and then a millisecond, of a function that has two: those that
    come beside one at work are refused at first, those that come alone never are, and soon none is.
    """

    async def run() -> None:
        cost_s = [10.0]
        simulation = Simulation(simulated, [SimulatedSegment(lambda rows: cost_s[0] * len(rows))])
        began = simulated.now
        for number in range(12):
            simulation.at(began + 20 * number, lambda: simulation.call({}))
        await simulation.run(began + 300)
        cost_s[0] = 0.001
        for number in range(600):
            for _ in range(3):
                simulation.at(began + 300 + 0.01 * number, lambda: simulation.call({}))
        outcomes = await simulation.run(began + 400)
        await simulation.close()
        assert outcomes.refusals(began + 300, began + 400) > 0
        assert outcomes.refusals(began + 305, began + 400) == 0
        assert outcomes.goodput(began + 300, began + 301) >= 100

    asyncio.run(run())


def test_calls_that_nobody_waits_for_keep_nobody_out(simulated):
    """A hundred clients have left; what they asked for is not computed, so it is not ahead."""

    async def run() -> None:
        simulation = Simulation(simulated, [SimulatedSegment(each(0.05))])
        began = simulated.now
        for number in range(20):
            simulation.at(began + 0.1 * number, lambda: simulation.call({}))
        for _ in range(30):
            simulation.at(began + 3.0, lambda: simulation.call({}))
        simulation.at(began + 3.01, simulation.leave)
        for _ in range(30):
            simulation.at(began + 3.02, lambda: simulation.call({}))
        outcomes = await simulation.run(began + 9.0)
        await simulation.close()
        assert (outcomes.refused, len(outcomes.late)) == ([], 0)
        assert len(outcomes.answered) == 20 + 30

    asyncio.run(run())


def test_a_row_of_too_many_elements_keeps_nobody_out(simulated):
    """It is refused for them, and the next calls, two at once, are not: none has as many."""

    async def run() -> None:
        simulation = Simulation(simulated, [SimulatedSegment(each(0.001), each="parts")])
        began = simulated.now
        for number in range(20):
            simulation.at(began + 0.1 * number, lambda: simulation.call({"parts": [0] * 3}))
        simulation.at(began + 3.0, lambda: simulation.call({"parts": [0] * 1_000_000}))
        for _ in range(2):
            simulation.at(began + 3.1, lambda: simulation.call({"parts": [0] * 3}))
        outcomes = await simulation.run(began + 9.0)
        await simulation.close()
        assert (outcomes.refused, len(outcomes.answered)) == ([], 22)

    asyncio.run(run())


def test_a_row_that_takes_most_of_its_time_is_admitted_where_a_worker_is_idle(simulated):
    """Four workers, and rows of nine tenths of the deadline: three at work are no reason to refuse
    a fourth.
    """

    async def run() -> None:
        simulation = Simulation(simulated, [SimulatedSegment(each(1.8))], workers=4)
        began = simulated.now
        for number in range(60):
            simulation.at(began + 0.5 * number, lambda: simulation.call({}))
        outcomes = await simulation.run(began + 40)
        await simulation.close()
        assert (outcomes.refused, outcomes.late, len(outcomes.answered)) == ([], [], 60)

    asyncio.run(run())


Draw = random.Random


def some_functions(draw: Draw, row_s: float) -> dict[str, list[SimulatedSegment]]:
    """One of each kind, of rows of about ``row_s`` seconds of a worker."""
    size = draw.choice([4, 32])
    fixed_s, more_s = draw.choice([(row_s, row_s / 20), (row_s, row_s), (3 * row_s, row_s / 50)])

    def varied(rows: Sequence) -> float:
        return sum(draw.expovariate(1 / row_s) for _ in rows)

    def seldom_long(rows: Sequence) -> float:
        return sum(row_s * (10 if draw.random() < 0.05 else 0.5) for _ in rows)

    def model(rows: Sequence) -> float:
        return (fixed_s + more_s * len(rows)) * draw.uniform(0.8, 1.2)

    def waits(most: float) -> Callable[[Sequence], float]:
        return lambda rows: row_s * draw.uniform(1, most)

    limits, big = BatchLimits(max_batch_size=size), Condition("big", "==", 1)
    return {
        "varied": [SimulatedSegment(varied)],
        "seldom long": [SimulatedSegment(seldom_long)],
        "model": [SimulatedSegment(model, limits)],
        "before a model": [SimulatedSegment(varied), SimulatedSegment(model, limits)],
        "before a quick model": [
            SimulatedSegment(each(row_s)),
            SimulatedSegment(batch(row_s / 30, 0.0), limits),
        ],
        "after a coroutine": [SimulatedSegment(waits(10), on_loop=True), SimulatedSegment(varied)],
        "before a coroutine": [SimulatedSegment(varied), SimulatedSegment(waits(30), on_loop=True)],
        "over parts": [
            SimulatedSegment(each(row_s)),
            SimulatedSegment(each(row_s), each="parts"),
            SimulatedSegment(each(row_s)),
        ],
        "of a branch": [
            SimulatedSegment(each(row_s)),
            SimulatedSegment(each(20 * row_s), when=big),
        ],
    }


def check_function(clock: SimulatedClock, kind: str, seed: int, least: float = 0.9) -> None:
    """Its capacity is measured; then it is offered 0.8 of it, and several times as much, of which
    it answers this part of its capacity at least.
    """
    draw = random.Random(f"{kind} {seed}")
    row_s, workers = draw.choice([0.002, 0.01, 0.05]), draw.choice([1, 2, 4])
    segments = some_functions(draw, row_s)[kind]

    def values() -> dict:
        return {"parts": [0] * draw.randrange(6), "big": int(draw.random() < 0.05)}

    async def capacity() -> float:
        simulation = Simulation(clock, segments, workers=workers, timeout_s=3000)
        began, end = clock.now, clock.now + 3000 * row_s / workers

        def again() -> None:
            simulation.call(values(), on_end=lambda: simulation.at(clock.now + 1e-6, again))

        for _ in range(150):
            simulation.at(began, again)
        outcomes = await simulation.run(end)
        await simulation.close()
        return outcomes.goodput(began + 0.3 * (end - began), end)

    async def offered(load: float, calls: int) -> tuple[float, int]:
        """The goodput, as a part of the capacity, and how many calls were refused."""
        simulation = Simulation(clock, segments, workers=workers, timeout_s=timeout_s)
        began = clock.now
        warm = began + 500 / most
        for at in arrivals(0.6 * most, draw, 500 / most):
            simulation.at(began + at, lambda: simulation.call(values()))
        end = warm + calls / (load * most)
        for at in arrivals(load * most, draw, end - warm):
            simulation.at(warm + at, lambda: simulation.call(values()))
        outcomes = await simulation.run(end)
        await simulation.close()
        return outcomes.goodput(min(warm + timeout_s, (warm + end) / 2), end) / most, len(
            outcomes.refused
        )

    most = asyncio.run(capacity())
    # rows of which few take long need more of them in a deadline, or some are late at any load
    rows = draw.choice([150, 400] if kind == "seldom long" else [60, 150, 400])
    timeout_s = max(rows / most, 60 * row_s)
    assert asyncio.run(offered(0.8, 1000))[1] == 0
    load = draw.choice([1.5, 3.0])
    goodput, refused = asyncio.run(offered(load, int(load * (1000 + 2 * timeout_s * most))))
    assert refused > 0
    assert goodput >= least


KINDS = list(some_functions(random.Random(0), 1.0))

LONG_KINDS = {"model", "before a quick model", "after a coroutine"}
"""Of these a run is as long as of all others together."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.full] if kind in LONG_KINDS else []) for kind in KINDS],
)
def test_a_function_of_any_kind_keeps_its_capacity(simulated, kind):
    """Under 0.8 of what it can do nothing is refused; under more it answers nine tenths of it at
    least, whatever its rows take, with batches, parts, branches and coroutines.
    """
    check_function(simulated, kind, 1)


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("kind", KINDS)
def test_many_functions_keep_their_capacity(simulated, kind, seed):
    """As one of each kind; six of these ninety answer a little less, most of all one whose rows are
    seldom long.
    """
    check_function(simulated, kind, seed, 0.84 if kind == "seldom long" else 0.89)
