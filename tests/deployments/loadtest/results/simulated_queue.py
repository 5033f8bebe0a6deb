"""A made-up server with a queue: workers that take batches of what waits. What the search for a
capacity is tried on.

    python -m tests.deployments.loadtest.results.simulated_queue --groups 10
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections import deque
from typing import Final, NamedTuple

import numpy as np

from deployments.loadtest.results.capacity import (
    LONGEST_SEARCH_S,
    Capacity,
    CapacitySearch,
)
from deployments.loadtest.results.records import CallRecord, Promise, Run
from tests.deployments.loadtest.results.simulated_latencies import make_run


class BatchingServer(NamedTuple):
    """M/G/c with batches.

    Attributes:
        workers: that compute at once.
        most: rows of a batch.
        run_s, row_s: seconds of a batch, and more for each of its rows; lognormal about that.
        spread: its standard deviation, of the logarithm; infinite: exponential, with that mean.
        stall: seconds between stalls of all workers, at random times, and of a stall; or None.
        slow_start_s: it is twice as slow at the beginning of a step, for so long.
        capacity: calls a second at which 5 of 100 take longer than ``LIMIT_MS``, of runs of some
            hours (``--truth``).
    """

    capacity: float
    workers: int = 2
    most: int = 16
    run_s: float = 0.004
    row_s: float = 0.002
    spread: float = 0.3
    stall: tuple[float, float] | None = None
    slow_start_s: float = 0.0


ONE: Final = BatchingServer(91.7, workers=1, most=1, row_s=0.004)

SERVERS: Final = {
    "two workers, batches": BatchingServer(697.9),
    "one worker, no batches": ONE,
    "always 8 ms": ONE._replace(capacity=99.6, spread=0.0),
    "M/M/1": ONE._replace(capacity=75.1, spread=math.inf),
    "heavy tail": BatchingServer(180.5, spread=1.0),
    "stalls": BatchingServer(609.9, stall=(5.0, 0.15)),
    "slow start": BatchingServer(697.9, slow_start_s=3.0),
}

LIMIT_MS: Final = 60.0


def run_queue(server: BatchingServer, rate: float, seconds: float, seed: int) -> Run:
    """A run of ``seconds`` at ``rate``, with an SLO of 60 ms for 95 of 100."""
    dice = np.random.default_rng(seed)
    arrivals = np.sort(dice.random(dice.poisson(rate * seconds)) * seconds).tolist()
    if math.isinf(server.spread):
        noise = dice.exponential(1.0, len(arrivals) + 1).tolist()
    else:
        noise = np.exp(server.spread * dice.standard_normal(len(arrivals) + 1)).tolist()
    stalls = _stalls(server, seconds, dice)
    free = [0.0] * server.workers
    waiting: deque[float] = deque()
    done: list[CallRecord] = []
    index = batches = 0
    while index < len(arrivals) or waiting:
        now = heapq.heappop(free)
        if not waiting:
            now = max(now, arrivals[index])
        while index < len(arrivals) and arrivals[index] <= now:
            waiting.append(arrivals[index])
            index += 1
        batch = [waiting.popleft() for _ in range(min(server.most, len(waiting)))]
        takes = (server.run_s + server.row_s * len(batch)) * noise[batches]
        takes *= 2 if now < server.slow_start_s else 1
        end = now + takes + sum(max(0.0, min(now + takes, b) - max(now, a)) for a, b in stalls)
        batches += 1
        heapq.heappush(free, end)
        done += [CallRecord("f", at, at, end, 200) for at in batch]
    return make_run(done, seconds, Promise(latency_p95_ms=LIMIT_MS), rates={"f": rate})


def _stalls(
    server: BatchingServer, seconds: float, dice: np.random.Generator
) -> list[tuple[float, float]]:
    if server.stall is None:
        return []
    every, long = server.stall
    starts = dice.random(dice.poisson(seconds / every)) * seconds
    return [(start, start + long) for start in sorted(starts.tolist())]


TRUTH_RUNS, TRUTH_S = 20, 500.0
"""Runs that are together as good as the truth, and seconds of each."""


def true_capacity(server: BatchingServer) -> float:
    """The rate at which 5 % of the calls of long runs take longer than the limit."""

    def is_kept(rate: float) -> bool:
        slower = calls = 0
        for seed in range(TRUTH_RUNS):
            run = run_queue(server, rate, TRUTH_S, seed)
            slower += sum(1000 * call.latency_s > LIMIT_MS for call in run.calls)
            calls += len(run.calls)
        return slower <= 0.05 * calls

    server = server._replace(slow_start_s=0.0)
    low, high = server.capacity / 1.2, 1.2 * server.capacity
    while high > 1.002 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if is_kept(middle) else (low, middle)
    return math.sqrt(low * high)


def search(
    server: BatchingServer, seed: int, *, start: float = 20.0, longest_s: float = LONGEST_SEARCH_S
) -> Capacity:
    """A whole search."""
    finder = CapacitySearch(start, 5000.0, longest_s=longest_s)
    while (rate := finder.next_rate()) is not None:
        seconds = finder.next_seconds({"f": Promise(latency_p95_ms=LIMIT_MS)}, {"f": rate})
        finder.record(
            rate, run_queue(server, rate, seconds, 100 * seed + len(finder.result().steps))
        )
    return finder.result()


IN_GROUP: Final = 5
"""Searches that are compared."""


def print_searches(label: str, first: int, groups: int) -> None:
    """A line of what so many groups of searches find, from a seed on."""
    server = SERVERS[label]
    found = [search(server, first + seed) for seed in range(groups * IN_GROUP)]
    rates = np.array([one.rate for one in found]).reshape(groups, IN_GROUP)
    spreads = (rates.max(axis=1) - rates.min(axis=1)) / np.median(rates, axis=1)
    seconds = np.array([sum(step.seconds for step in one.steps) for one in found])
    off = rates / server.capacity - 1
    inside = np.mean([one.low <= server.capacity <= one.high for one in found])
    print(
        f"{label:24}{server.capacity:7.1f}{off.mean():+8.1%}{off.std():7.1%}"
        f"{np.median(spreads):8.1%}{spreads.max():7.1%}{np.mean(spreads <= 0.05):6.0%}"
        f"{np.mean([one.is_converged for one in found]):11.0%}{inside:8.0%}"
        f"{np.median(seconds):8.0f}{seconds.max():6.0f}{np.median([len(one.steps) for one in found]):7.0f}",
        flush=True,
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=10, help="of five searches each")
    parser.add_argument("--seed", type=int, default=1000, help="the first")
    parser.add_argument("--server", choices=sorted(SERVERS), action="append")
    parser.add_argument("--truth", action="store_true", help="print the capacities alone")
    given = parser.parse_args()
    labels = given.server or list(SERVERS)
    if given.truth:
        for label in labels:
            print(f"{label:24}{true_capacity(SERVERS[label]):7.1f}", flush=True)
        return
    print(
        f"{'server':24}{'true':>7}{'bias':>8}{'sd':>7}{'spread':>8}{'worst':>7}{'<5 %':>6}"
        f"{'converged':>11}{'inside':>8}{'seconds':>8}{'most':>6}{'steps':>7}"
    )
    for label in labels:
        print_searches(label, given.seed, given.groups)


if __name__ == "__main__":
    main()
