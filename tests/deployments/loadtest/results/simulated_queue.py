"""A made-up server with a queue: workers that take batches of what waits. What the search for a
capacity is tried on.

    python -m tests.deployments.loadtest.results.simulated_queue
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import Final, NamedTuple

import numpy as np

from deployments.loadtest.results.capacity import Capacity, CapacitySearch
from deployments.loadtest.results.records import CallRecord, Promise, Run
from tests.deployments.loadtest.results.simulated_latencies import make_run


class BatchingServer(NamedTuple):
    """M/G/c with batches.

    Attributes:
        workers: that compute at once.
        most: rows of a batch.
        run_s, row_s: seconds of a batch, and more for each of its rows; lognormal about that.
        spread: its standard deviation, of the logarithm.
        stall: seconds between stalls of all workers, at random times, and of a stall; or None.
        slow_start_s: it is twice as slow at the beginning of a step, for so long.
    """

    workers: int = 2
    most: int = 16
    run_s: float = 0.004
    row_s: float = 0.002
    spread: float = 0.3
    stall: tuple[float, float] | None = None
    slow_start_s: float = 0.0


SERVERS: Final = {
    "two workers, batches": BatchingServer(),
    "one worker, no batches": BatchingServer(workers=1, most=1, row_s=0.004),
    "heavy tail": BatchingServer(spread=1.0),
    "stalls": BatchingServer(stall=(5.0, 0.15)),
    "slow start": BatchingServer(slow_start_s=3.0),
}

LIMIT_MS: Final = 60.0


def run_queue(server: BatchingServer, rate: float, seconds: float, seed: int) -> Run:
    """A run of ``seconds`` at ``rate``, with an SLO of 60 ms for 95 of 100."""
    dice = np.random.default_rng(seed)
    arrivals = np.sort(dice.random(dice.poisson(rate * seconds)) * seconds).tolist()
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


MOST_CALLS: Final = 300_000


def true_capacity(server: BatchingServer) -> float:
    """The rate at which 5 % of the calls of three long runs take longer than the limit."""

    def is_kept(rate: float) -> bool:
        slower = calls = 0
        for seed in range(3):
            run = run_queue(server, rate, min(600.0, MOST_CALLS / 3 / rate), 1000 + seed)
            slower += sum(1000 * call.latency_s > LIMIT_MS for call in run.calls)
            calls += len(run.calls)
        return slower <= 0.05 * calls

    server = server._replace(slow_start_s=0.0)
    low, high = 1.0, 4000.0
    while high > 1.005 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if is_kept(middle) else (low, middle)
    return low


def search(server: BatchingServer, seed: int, *, start: float = 20.0) -> Capacity:
    """A whole search."""
    finder = CapacitySearch(start, 5000.0)
    while (rate := finder.next_rate()) is not None:
        seconds = finder.next_seconds({"f": Promise(latency_p95_ms=LIMIT_MS)}, {"f": rate})
        finder.record(
            rate, run_queue(server, rate, seconds, 100 * seed + len(finder.result().steps))
        )
    return finder.result()


def main() -> None:
    """Prints what is found, five times each."""
    for label, server in SERVERS.items():
        truth = true_capacity(server)
        found = [search(server, seed) for seed in range(5)]
        rates = [one.rate for one in found]
        steps = [len(one.steps) for one in found]
        seconds = [sum(step.seconds for step in one.steps) for one in found]
        print(
            f"{label:24} true {truth:7.1f}; found {', '.join(f'{rate:.1f}' for rate in rates)};"
            f" range {max(rates) / min(rates) - 1:.1%}, worst error"
            f" {max(abs(rate / truth - 1) for rate in rates):.1%}; steps {steps},"
            f" seconds {[round(one) for one in seconds]},"
            f" converged {sum(one.is_converged for one in found)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
