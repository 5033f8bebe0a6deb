"""A function under load, without waiting: its real queues, batches, estimates and admission, on
workers whose time is a number.

``Simulation`` moves ``time.monotonic`` from event to event: a call arrives, a batch ends. Stages
take the seconds that a test says, and nothing else takes any.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.batching.batcher import Batcher
from runtime.batching.calls import DEFAULT_OPTIONS, Call, Row
from runtime.batching.fair_queue import FairQueue, fair_workers
from runtime.batching.health.watchdog import Watchdog
from runtime.batching.policy import BatchLimits, WaitUntil
from runtime.batching.queues import Batch
from runtime.batching.thread_batches import ThreadBatches
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import DeadlineExceeded, Overloaded
from runtime.execution.in_flight import InFlight
from runtime.types.conditions import Condition


class SimulatedClock:
    """Seconds that a simulation sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Seconds, as ``time.monotonic``."""
        return self.now


@dataclass(eq=False)
class SimulatedSegment:
    """Stages that take as long as a test says.

    Attributes:
        cost_s: seconds of a batch, by its rows.
        batch_limits: as of ``SegmentProtocol``; None: rows are taken one at a time.
    """

    cost_s: Callable[[Sequence[Row]], float]
    batch_limits: BatchLimits | None = None
    each: str | None = None
    when: Condition | None = None
    name: str = "s"
    gives: tuple[str, ...] = ()
    streams: bool = False
    on_loop: bool = False
    by_call: bool = False
    calls: bool = False
    threads: int = 0
    is_python: bool = True
    element_order: Any = None
    ends: float = 0.0
    simulation: Any = None

    def measure(self, row: Row) -> None:
        """Rows are alike."""

    def run(self, rows: Sequence[Row]) -> None:
        """Its time has passed."""
        assert rows
        self.simulation.clock.now = self.ends

    async def run_on_loop(self, rows: Sequence[Row]) -> None:
        """A coroutine that waits for so long."""
        simulation, over = self.simulation, asyncio.Event()
        simulation.at(simulation.clock.now + self.cost_s(rows), over.set)
        await over.wait()


@dataclass
class SimulatedWorkers:
    """Stands for ``Workers``: the simulation asks for batches."""

    count: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_closed = False
    crash_recorder = None
    ended_thread = ""

    @property
    def threads(self) -> SimulatedWorkers:
        """There are none."""
        return self

    def add(self, source: ThreadBatches, index: int, rows: Sequence[Row]) -> bool:
        """Rows begin to wait."""
        source.queues.add(index, rows)
        return True

    @property
    def watchdog(self) -> Watchdog:
        """It does not look."""
        return Watchdog(self)  # type: ignore[arg-type]

    def late_fixes(self, source: ThreadBatches, now: float) -> tuple[dict[Call, str], str]:
        """Nothing hangs."""
        return {}, ""

    def available(self, source: ThreadBatches) -> float:
        """There are no other functions."""
        return fair_workers(self.count, source.share.max_workers, ())


@dataclass
class Outcomes:
    """What came of calls.

    Attributes:
        refused: calls that were not admitted, and when.
        answered: seconds that answered calls took.
        answered_at: when.
        late: when calls came to their end that were admitted and not answered in time.
    """

    refused: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    def goodput(self, since: float, until: float) -> float:
        """Calls answered a second."""
        return sum(since <= at < until for at in self.answered_at) / (until - since)

    def refusals(self, since: float, until: float) -> int:
        """Calls refused in that time."""
        return sum(since <= at < until for at in self.refused)

    def late_since(self, since: float) -> int:
        """Calls that came too late from then on."""
        return sum(at >= since for at in self.late)


class Simulation:
    """One function under calls.

    Args:
        clock: is ``time.monotonic``.
        workers: threads.
        timeout_s: that each call has.
    """

    def __init__(
        self,
        clock: SimulatedClock,
        segments: Sequence[SimulatedSegment],
        *,
        workers: int = 1,
        timeout_s: float = 2.0,
    ) -> None:
        self.clock = clock
        self.outcomes = Outcomes()
        for segment in segments:
            segment.simulation = self
        self._segments = segments
        self._workers = workers
        self._fair = FairQueue()
        self._batcher = Batcher(
            "simulated",
            segments,
            workers=SimulatedWorkers(workers),  # type: ignore[arg-type]
            share=workers,
            loop=asyncio.get_running_loop(),
        )
        spec = FunctionSpec.from_args(
            "simulated",
            "/simulated",
            {
                "graph": [{"stage": "s", "python": "tests.basic_stages:double"}],
                "limits": {"request_timeout_s": timeout_s},
                "resources": {"num_cpus": workers},
            },
        )
        self.in_flight = InFlight(spec, self._batcher, streams=False)
        self._open: set[Call] = set()
        self._events: list[tuple[float, int, Callable[[], Any]]] = []
        self._number = itertools.count()

    def at(self, when: float, act: Callable[[], Any]) -> None:
        """Does this then; seconds of the clock."""
        heapq.heappush(self._events, (when, next(self._number), act))

    def call(
        self, values: dict[str, Any], *, rows: int = 1, on_end: Callable[[], Any] = lambda: None
    ) -> None:
        """Makes a call now; ``on_end`` is called when it is answered or refused."""
        now = self.clock.now
        try:
            call, future = self.in_flight.begin(
                [dict(values) for _ in range(rows)], DEFAULT_OPTIONS
            )
        except Overloaded:
            self.outcomes.refused.append(now)
            on_end()
            return
        self._open.add(call)
        future.add_done_callback(lambda done: self._end(call, done, on_end))

    def leave(self) -> None:
        """All clients leave that wait now."""
        for call in self._open:
            call.is_abandoned = True

    def _end(self, call: Call, done: asyncio.Future[Call], on_end: Callable[[], Any]) -> None:
        now, error = self.clock.now, done.exception()
        self._open.discard(call)
        if call.is_abandoned:
            return
        assert error is None or isinstance(error, DeadlineExceeded)
        call.is_abandoned = True
        if error is None and all(row.error is None for row in call.rows):
            self.outcomes.answered.append(now - call.started)
            self.outcomes.answered_at.append(now)
        else:
            self.outcomes.late.append(now)
        on_end()

    async def run(self, until: float) -> Outcomes:
        """Until the clock says so, or nothing is left to do."""
        while True:
            await self._settle()
            self._give()
            due = self._events[0][0] if self._events else until
            if due >= until:
                return self.outcomes
            self.clock.now = max(self.clock.now, due)
            heapq.heappop(self._events)[2]()

    async def close(self) -> None:
        """Ends what is left, without a word."""
        self.leave()
        self.in_flight.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        logging.disable(logging.CRITICAL)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._settle()
        logging.disable(logging.NOTSET)

    async def _settle(self) -> None:
        """The event loop's turn: rows begin to wait, callbacks are called."""
        for _ in range(3):
            await asyncio.sleep(0)

    def _give(self) -> None:
        """Idle workers take batches."""
        batches, now = self._batcher.on_workers, self.clock.now
        share, queues = batches.share, batches.queues
        while share.active < self._workers and queues.waiting:
            found = queues.take(now, self._workers - share.active - 1)
            if isinstance(found, WaitUntil):
                return
            charged = self._fair.begin(share, found[2], now)
            live = [row for row in found[1] if not row.call.is_over(now)]
            ends = now + (self._segments[found[0]].cost_s(live) if live else 0.0)
            self.at(ends, lambda args=(found, charged, now, ends): self._finish(*args))

    def _finish(self, batch: Batch, charged: float, began: float, ends: float) -> None:
        self._segments[batch[0]].ends, self.clock.now = ends, began
        self._batcher.on_workers.run(batch)
        self.clock.now = ends
        self._fair.end(self._batcher.on_workers.share, charged, began, ends)


def arrivals(rate: float, random: Any, until: float) -> Iterator[float]:
    """Times at which calls arrive that do not wait for each other, so many a second."""
    now = 0.0
    while (now := now + random.expovariate(rate)) < until:
        yield now


def clients(
    simulation: Simulation, count: int, values: dict[str, Any], pause_s: float = 0.2
) -> None:
    """So many clients call again and again; one that is refused waits a moment."""

    def again() -> None:
        refused = len(simulation.outcomes.refused)

        def next_call() -> None:
            pause = pause_s if len(simulation.outcomes.refused) > refused else 0.0
            simulation.at(simulation.clock.now + pause + 1e-4, again)

        simulation.call(values, on_end=next_call)

    for number in range(count):
        simulation.at(simulation.clock.now + number * 1e-5, again)
