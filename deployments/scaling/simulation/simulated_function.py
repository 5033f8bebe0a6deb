"""One function in a simulation: where it is served, which calls wait for it, what it has done."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

from deployments.scaling.demand import (
    LoadSample,
    ScalingLimits,
    declared_limits,
    work_window_s,
)
from deployments.scaling.replica_policy import ReplicaState
from deployments.scaling.simulation.batch_times import EVEN, FunctionCosts, Spread
from deployments.scaling.simulation.simulated_results import SimulatedResults, SimulatedUsage
from deployments.scaling.tier_policy import Tier
from runtime.batching.policy import UNBATCHED, BatchLimits, Shape, python_batch_limits
from runtime.declaration.function_spec import DeclaredSpec
from runtime.library.function_report import UsageSample

NOTHING: Final = (0.0,)

SimulatedStep = Literal["", "waking", "starting", "returning"]
"""What is under way: the host loads it, its deployment starts, or the host loads it because it is
demoted.
"""


@dataclass(slots=True)
class SimulatedCall:
    """A call of one row, as ``runtime.batching.policy.Waiting`` has a row.

    Attributes:
        at: when it came.
        length: of its row; 0: nothing of it may be padded.
        service_s: for how long it keeps a worker, alone; None: as long as its batch takes.
    """

    at: float
    length: float = 0.0
    service_s: float | None = None

    @property
    def key(self) -> Hashable:
        """All rows of a function are of one kind."""
        return ()

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of its one tensor that may be padded."""
        return ((int(self.length),),) if self.length else ()

    @property
    def padded_size(self) -> int:
        """Of that tensor."""
        return int(self.length)

    @property
    def since(self) -> float:
        """When it began to wait."""
        return self.at

    @property
    def run_solo(self) -> bool:
        """Whether its seconds are its own."""
        return self.service_s is not None


@dataclass(slots=True)
class SimulatedPlace:
    """Where calls of one function are computed: the host, or one replica of its own. What was given
    to one place waits for its workers, however idle another is.

    Attributes:
        queue: calls that wait for a worker.
        running, computing: batches that workers run, and the calls in them.
        ended: when the last batch was done; minus infinity: there was none.
    """

    queue: list[SimulatedCall] = field(default_factory=list)
    running: int = 0
    computing: int = 0
    ended: float = -math.inf

    @property
    def in_flight(self) -> int:
        """Calls that it has."""
        return len(self.queue) + self.computing

    def idle_s(self, now: float) -> float:
        """For how long it has had nothing to do."""
        return 0.0 if self.running else now - self.ended

    def take_batch(self, positions: Sequence[int]) -> list[SimulatedCall]:
        """The calls at these places of the queue, which a worker takes now."""
        taken = [self.queue[at] for at in positions]
        if positions[-1] == len(positions) - 1 and isinstance(positions, range):
            del self.queue[: len(positions)]
        else:
            for at in sorted(positions, reverse=True):
                del self.queue[at]
        self.running += 1
        self.computing += len(taken)
        return taken

    def end_batch(self, now: float, calls: int) -> None:
        """A worker is done with so many calls."""
        self.running -= 1
        self.computing -= calls
        self.ended = now


@dataclass(slots=True)
class SimulatedFunction:
    """A simulated function.

    Attributes:
        workers: worker threads of a replica; in the host it uses at most as many.
        is_always_own: it has a deployment of its own from the start.
        costs: of its calls; None: each call has its own seconds, and runs alone.
        is_loaded: the host has it.
        target, ready, starting: replicas of its own that are decided, and those of them that run,
            and that start.
        host: its calls there; those that it has when the tier changes it answers.
        replicas: that take calls.
        ending: replicas that take no more, and have not answered all.
        parked: calls that wait for the first replica.
        in_flight: calls accepted and not answered.
        since: when the tier began.
        missing: replicas that are wanted and do not fit.
        usage: what policies see of its calls.
        results: what became of them.
    """

    spec: DeclaredSpec
    workers: int
    is_always_own: bool
    tier: Tier
    costs: FunctionCosts | None = None
    step: SimulatedStep = ""
    is_loaded: bool = False
    target: int = 0
    ready: int = 0
    starting: int = 0
    host: SimulatedPlace = field(default_factory=SimulatedPlace)
    replicas: list[SimulatedPlace] = field(default_factory=list)
    ending: list[SimulatedPlace] = field(default_factory=list)
    parked: list[SimulatedCall] = field(default_factory=list)
    in_flight: int = 0
    since: float = 0.0
    scaling: ReplicaState | None = None
    missing: int = 0
    usage: SimulatedUsage = field(default_factory=SimulatedUsage)
    results: SimulatedResults = field(default_factory=SimulatedResults)

    @property
    def name(self) -> str:
        """The function's name in its file."""
        return self.spec.name

    @property
    def waiting(self) -> int:
        """Calls that no worker has taken."""
        places = (self.host, *self.replicas, *self.ending)
        return len(self.parked) + sum(len(place.queue) for place in places)

    @property
    def is_awake(self) -> bool:
        """Whether it holds memory or calls, or a step is under way."""
        return self.is_loaded or self.target > 0 or bool(self.step) or self.in_flight > 0

    @property
    def is_serving(self) -> bool:
        """Whether a call that comes now finds it loaded."""
        return self.is_loaded if self.tier == "host" else self.ready > 0

    @property
    def capacity(self) -> int:
        """Calls that are accepted at once."""
        limits = self.spec.limits
        return (limits.max_ongoing_requests + limits.max_queued_requests) * max(1, self.ready)

    @property
    def limits(self) -> ScalingLimits:
        """For ``replica_policy``; a promoted function keeps one replica, since it is demoted
        instead of scaled to zero.
        """
        scaling = self.spec.autoscaling
        return ScalingLimits(
            scaling.min_replicas if self.is_always_own else max(1, scaling.min_replicas),
            scaling.max_replicas,
            **declared_limits(self.spec, self.workers),
        )

    @property
    def batch_limits(self) -> BatchLimits:
        """How its rows share a batch now."""
        if self.costs is None:
            return UNBATCHED
        if not self.costs.shares_runs:
            return python_batch_limits(self.usage.row_s)
        batching = self.spec.batching
        return BatchLimits(
            batching.max_batch_size,
            batching.batch_wait_timeout_s,
            batching.run_cost,
            batching.max_padding,
            batching.max_batch_cost,
        )

    def make_call(
        self, now: float, service_s: float | None, length: float | None, usual_s: float
    ) -> SimulatedCall:
        """A call that comes now.

        Args:
            service_s, length: as the trace has them.
            usual_s: seconds of a call where neither the trace nor ``costs`` say.
        """
        if self.costs is None or service_s is not None:
            return SimulatedCall(now, 0.0, usual_s if service_s is None else service_s)
        return SimulatedCall(now, self.costs.length if length is None else length)

    def accept(self, call: SimulatedCall) -> None:
        """Gives a call to its tier: of its replicas to the one that has fewest, as HAProxy does."""
        self.in_flight += 1
        if self.tier == "host":
            self.host.queue.append(call)
        elif not self.replicas:
            self.parked.append(call)
        else:
            min(self.replicas, key=lambda replica: replica.in_flight).queue.append(call)

    def drop_all_expired(self, now: float) -> None:
        """See ``drop_expired``, of all calls that wait."""
        self.drop_expired(self.parked, now)
        for place in (self.host, *self.replicas, *self.ending):
            self.drop_expired(place.queue, now)

    def drop_expired(self, queue: list[SimulatedCall], now: float) -> None:
        """Takes calls out that have waited until their deadline, as the engine does: these get 504,
        and keep no worker.

        Args:
            queue: in the order of arrival.
        """
        count = 0
        while count < len(queue) and self._is_late(now - queue[count].at):
            self._count_expired(queue[count])
            count += 1
        del queue[:count]
        self.in_flight -= count

    def _is_late(self, seconds: float) -> bool:
        return seconds > self.spec.limits.request_timeout_s

    def _count_expired(self, call: SimulatedCall) -> None:
        self.results.expired += call.at >= self.results.since

    def match_replicas(self) -> None:
        """Has as many replicas take calls as are ready; gives them the calls that waited for one,
        or the host, where it has none any more.
        """
        while len(self.replicas) < self.ready:
            self.replicas.append(SimulatedPlace())
        self.ending += self.replicas[self.ready :]
        del self.replicas[self.ready :]
        self.ending = [replica for replica in self.ending if replica.in_flight]
        if self.replicas or self.tier == "host":
            parked, self.parked = self.parked, []
            self.in_flight -= len(parked)
            for call in parked:
                self.accept(call)

    def usual_batch_s(self, calls: Sequence[SimulatedCall], idle_s: float) -> float:
        """Seconds of a worker for these calls, as a batch usually takes.

        Args:
            idle_s: for which the place had nothing to do before.
        """
        if calls[0].service_s is not None:
            return calls[0].service_s
        assert self.costs is not None
        length = max(call.length for call in calls)
        return self.costs.served_s(len(calls), length, idle_s)

    def spread_of(self, calls: Sequence[SimulatedCall]) -> Spread:
        """Seconds of such batches over what they usually take."""
        if self.costs is None or calls[0].run_solo:
            return EVEN
        return self.costs.times.spread_at(len(calls), max(call.length for call in calls))

    def on_finished(
        self, now: float, calls: Sequence[SimulatedCall], seconds: float, dice: Random
    ) -> None:
        """A batch is answered, which has kept a worker for so long."""
        self.in_flight -= len(calls)
        latencies_s = [now - call.at for call in calls]
        self.usage.on_finished(now, latencies_s, seconds)
        beside = NOTHING if self.costs is None else self.costs.beside
        results = self.results
        results.work_s += seconds
        results.batches += 1
        results.batch_rows += len(calls)
        for call, latency_s in zip(calls, latencies_s, strict=True):
            if self._is_late(latency_s):
                self._count_expired(call)
            else:
                results.answers.extend((call.at, latency_s + dice.choice(beside)))

    def take_load_sample(self, now: float) -> LoadSample:
        """For ``replica_policy``; the seconds of a row are smoothed as a batcher smooths them."""
        usage = self.usage
        work, is_used = usage.take_work(now, work_window_s(self.limits, usage.row_s))
        return LoadSample(now, self.in_flight, self.waiting, work, usage.row_s, is_used)

    def take_usage_sample(self, now: float) -> UsageSample:
        """For ``tier_policy``."""
        usage = self.usage
        return UsageSample(
            now,
            usage.busy_s,
            usage.calls,
            self.in_flight,
            self.waiting,
            now - usage.last_used,
            usage.p95_ms(),
        )

    def pass_time(self, now: float, seconds: float) -> None:
        """Counts time in the present state, up to now."""
        replicas, results = min(self.target, self.ready + self.starting), self.results
        results.replica_s += replicas * seconds
        results.tier_s[self.tier if self.is_loaded or self.target else "asleep"] += seconds
        results.most_replicas = max(results.most_replicas, replicas)
        results.most_missing = max(results.most_missing, self.missing)
        places = replicas or int(self.is_loaded)
        if not results.places or results.places[-1][1] != places:
            results.places.append((now - seconds, places))

    def forget_results(self, now: float) -> None:
        """What was seen so far counts for nothing; its state stays."""
        self.results = SimulatedResults(
            since=now, places=[(now, places) for _, places in self.results.places[-1:]]
        )

    def record_decision(self, now: float, why: str) -> None:
        """Keeps a decision."""
        self.results.decisions.append((now, why))
