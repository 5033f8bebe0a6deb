"""The search for the highest rate at which promises hold, on a real server: ``CapacitySearch``
decides on each step, and it is sent here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from deployments.loadtest.arrivals import parse_shape
from deployments.loadtest.generator.plan import LoadPlan
from deployments.loadtest.generator.rate_check import MOST_TRIED, measure_rate
from deployments.loadtest.refusal import LoadTestRefused
from deployments.loadtest.results.capacity import (
    LONGEST_SEARCH_S,
    Capacity,
    CapacitySearch,
    CapacityStep,
)
from deployments.loadtest.results.records import Run
from deployments.loadtest.results.verdict import promised

PAUSE_S: Final = 1.0
"""Between two steps: what the server has not finished with is not of the next one."""

USED_SHARE: Final = 0.8
"""Of what the generator can send; nearer to its limit its latencies are its own."""

SendStep = Callable[[LoadPlan, str], Run]
"""Sends a plan, as ``run_load`` does; is given in words which step it is."""


@dataclass(frozen=True, slots=True)
class FoundCapacity:
    """What a search came to.

    Attributes:
        best: the run at the highest rate that held; None: none did.
        is_partial: it was ended before its time.
    """

    capacity: Capacity
    best: Run | None
    is_partial: bool


def find_capacity(
    plan: LoadPlan,
    send: SendStep,
    *,
    longest_s: float = LONGEST_SEARCH_S,
    should_stop: Callable[[], bool] = lambda: False,
) -> FoundCapacity:
    """Send steps at rates of which each depends on those before.

    Args:
        plan: its shape's rates are those of the first step, and how later ones are shared out.
        longest_s: of all steps together.

    Raises:
        LoadTestRefused: nothing is promised, or the first rate is beyond the generator.
        KeyboardInterrupt: it was to end before the first step had begun.
    """
    if not any(promised(promise) for promise in plan.promises.values()):
        raise LoadTestRefused(
            "nothing is promised, so any rate would do. Declare an `slo`, or give `--p95-ms`.",
            where="--find-capacity",
        )
    start = sum(plan.shape.rates.values())
    shares = {name: rate / start for name, rate in plan.shape.rates.items()}
    most = USED_SHARE * measure_rate(plan, MOST_TRIED * plan.processes)
    if start > most:
        raise LoadTestRefused(
            f"{start:,.0f} calls a second are asked for to begin with, and this generator sends"
            f" {most:,.0f}. Begin with fewer (`--rps`), or send from more processes.",
            where="--rps",
        )
    search = CapacitySearch(start, most, longest_s=longest_s)
    best: Run | None = None
    while not should_stop() and (rate := search.next_rate()) is not None:
        rates = {name: rate * share for name, share in shares.items()}
        try:
            run = send(_step(plan, rates, search), _words(search, rate))
        except KeyboardInterrupt:  # before this step had begun; those before it say something
            if not search.result().steps:
                raise
            return FoundCapacity(search.result(), best, is_partial=True)
        if run.is_partial:
            return FoundCapacity(search.result(), best, is_partial=True)
        step = search.record(rate, run)
        if _is_better(step, best):
            best = run
        time.sleep(PAUSE_S)
    is_partial = should_stop()
    if is_partial and not search.result().steps:
        raise KeyboardInterrupt
    return FoundCapacity(search.result(), best, is_partial=is_partial)


def _step(plan: LoadPlan, rates: Mapping[str, float], search: CapacitySearch) -> LoadPlan:
    seconds = search.next_seconds(dict(plan.promises), dict(rates)) + plan.warm_up_s
    shape = parse_shape("steady", {}, rates, seconds)
    return replace(plan, shape=shape, ends_sequences=False)  # beyond the limit they hardly end


def _words(search: CapacitySearch, rate: float) -> str:
    again = ", again" if search.is_again else ""
    return f"step {len(search.result().steps) + 1}, {rate:.4g} calls/s{again}"


def _is_better(step: CapacityStep | None, best: Run | None) -> bool:
    """Whether a step that held is at a higher rate than the best so far."""
    if step is None or step.excess > 0:
        return False
    return best is None or step.rate > sum(best.rates.values())
