"""A simulated machine: workers, memory, starts and loads take time. Every decision is made by the
functions that decide in production: ``tier_policy``, ``replica_policy``, ``demand``, ``capacity``
and the library's ``eviction_policy``.

The model: calls that wait leave in batches, which the engine's ``batching.policy`` chooses, and a
batch keeps one worker for as long as such batches took when they were measured
(``batch_times.FunctionCosts``). A function that was not measured has calls of fixed seconds, each
alone. The host has a worker for each core and gives a free one to the function that has used least
time; replicas of its own give a function workers of their own, which take calls from one queue.
Batches crowd each other where ``shared_cores`` says so: the third that begins on two cores takes
half as long again. Loading and starting take a fixed time. Nothing fails.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from deployments.scaling.replica_policy import count_fitting, wanted_replicas
from deployments.scaling.simulation.arrivals import Arrival
from deployments.scaling.simulation.batch_times import FunctionCosts
from deployments.scaling.simulation.simulated_function import SimulatedFunction
from deployments.scaling.simulation.summaries import Summary, Totals, summary
from deployments.scaling.tier_policy import (
    DEFAULT,
    Thresholds,
    TierHistory,
    TierTerms,
    choose_tier,
    needs_own_deployment,
)
from runtime.batching.policy import Run, choose
from runtime.declaration.function_spec import DeclaredSpec
from runtime.declaration.sections import worker_count
from runtime.errors import NoRoom
from runtime.library.eviction_policy import LoadedFunction, choose_evictions, idle_functions

TICK_S: Final = 0.2
"""Of Serve's controller: replicas are decided at each tick, tiers at each fifth."""


@dataclass(frozen=True, slots=True)
class SimulatedMachine:
    """What a simulation assumes.

    Attributes:
        cores: worker threads of the host.
        cpus: logical CPUs that Ray has; the host takes one.
        memory_bytes: what functions loaded in the host may hold together.
        function_bytes, process_bytes: memory of one function, and of a replica's process besides.
        service_s: seconds of a worker that a call takes, where neither the trace nor ``costs`` say.
        wake_s, start_s: of a load in the host, of a replica's start.
        gpus: that Ray has.
        shared_cores: that the workers of all replicas and of the host have together; None: each
            has one of its own.
        costs: by function, what was measured of it.
        seed: of the spread of batches.
    """

    cores: int = 2
    cpus: float = 8.0
    memory_bytes: int = 2_000_000_000
    function_bytes: int = 60_000_000
    process_bytes: int = 200_000_000
    service_s: float = 0.02
    wake_s: float = 0.1
    start_s: float = 2.0
    gpus: float = 0.0
    shared_cores: float | None = None
    costs: Mapping[str, FunctionCosts] = field(default_factory=dict)
    seed: int = 0


def replay(
    specs: Sequence[DeclaredSpec],
    arrivals: Iterable[Arrival],
    machine: SimulatedMachine,
    thresholds: Thresholds = DEFAULT,
    *,
    since: float = 0.0,
    until: float | None = None,
) -> tuple[list[Summary], Totals]:
    """Runs arrivals, in the order of time.

    Args:
        since: seconds of the trace; what happens before counts for nothing.
        until: likewise, where it ends; None: when no function changes any more without a call.
    """
    simulation = _Simulation(specs, machine, thresholds, since)
    simulation.run(arrivals, until)
    return [summary(function) for function in simulation.functions.values()], simulation.totals()


class _Simulation:
    """Mutable state: the clock (``now``), future events (``_events``), and the functions."""

    def __init__(
        self,
        specs: Iterable[DeclaredSpec],
        machine: SimulatedMachine,
        thresholds: Thresholds,
        since: float,
    ) -> None:
        self.machine, self.thresholds = machine, thresholds
        self.functions = {
            spec.name: _simulate_function(spec, machine.costs.get(spec.name)) for spec in specs
        }
        self.now = 0.0
        self.most_bytes = self._used_bytes()
        self._dice = random.Random(machine.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ticks = 0
        self._since = since
        if since:
            self._schedule(since, self._forget_results)
        self._delays = {
            name: function.spec.autoscaling.downscale_to_zero_delay_s
            for name, function in self.functions.items()
        }

    def totals(self) -> Totals:
        """Of all functions."""
        return Totals(
            self.now - self._since,
            self.most_bytes,
            sum(function.replica_s for function in self.functions.values()),
        )

    def run(self, arrivals: Iterable[Arrival], until: float | None) -> None:
        """All events in order; then, without an end, an hour at most until functions sleep."""
        last = 0.0
        for arrival in arrivals:
            last = arrival.at
            if until is not None and last > until:
                break
            self._run_until(last)
            self._arrive(self.functions[arrival.function], arrival)
        if until is not None:
            self._run_until(max(until, self.now))
            return
        ends = last + 3600
        while self.now < ends and (
            self._events
            or any(not self._is_at_rest(function) for function in self.functions.values())
        ):
            self._run_until(self.now + TICK_S)

    def _forget_results(self) -> None:
        self.most_bytes = self._used_bytes()
        for function in self.functions.values():
            function.forget_results(self.now)

    def _run_until(self, at: float) -> None:
        """Events and ticks up to a time; while all functions sleep, the clock jumps."""
        while True:
            awake = any(function.is_awake for function in self.functions.values())
            tick = (self._ticks + 1) * TICK_S if awake else at
            following = min(tick, self._events[0][0] if self._events else at, at)
            self._advance_clock(following)
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            if awake and self.now >= tick:
                self._tick()
            if self.now >= at:
                return

    def _advance_clock(self, at: float) -> None:
        for function in self.functions.values():
            function.pass_time(at, at - self.now)
        self.now = at
        self._ticks = max(self._ticks, int(at / TICK_S + 1e-6) - 1)

    def _schedule(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), action))

    def _arrive(self, function: SimulatedFunction, arrival: Arrival) -> None:
        if function.in_flight >= function.capacity:
            function.refused += 1
            return
        function.cold_calls += not function.is_serving
        if (
            function.tier == "host"
            and not function.is_loaded
            and function.step != "waking"
            and not self._load(function, "waking")
        ):
            return
        if function.tier == "own" and not function.target:
            function.cold_starts += 1
            self._resize(function, 1, "0 → 1: a call")
        function.calls += 1
        function.accepted += 1
        function.last_used = self.now
        function.queue.append(
            function.make_call(self.now, arrival.service_s, arrival.length, self.machine.service_s)
        )
        self._dispatch()

    def _load(self, function: SimulatedFunction, step: Literal["waking", "returning"]) -> bool:
        """Starts to load a function in the host, or counts the call as refused."""
        held = [
            LoadedFunction(
                other.name,
                self._bytes_of(other),
                other.last_used,
                other.in_flight > 0 or bool(other.step),
            )
            for other in self.functions.values()
            if other is not function and (other.is_loaded or other.step in ("waking", "returning"))
        ]
        leaving = choose_evictions(
            self._bytes_of(function), self.machine.memory_bytes, held, name=function.name
        )
        if isinstance(leaving, NoRoom):
            function.refused += 1
            function.most_missing = max(function.most_missing, 1)
            function.record_decision(self.now, f"not loaded: {leaving.message}")
            return False
        for name in leaving:
            self.functions[name].is_loaded = False
            self.functions[name].record_decision(
                self.now, f"host → asleep: {function.name} needs the room"
            )
        function.step = step
        self.most_bytes = max(self.most_bytes, self._used_bytes())
        function.cold_starts += step == "waking"
        known_s = function.costs.wake_s if function.costs is not None else None
        wake_s = self.machine.wake_s if known_s is None else known_s
        self._schedule(wake_s, lambda: self._on_loaded(function))
        return True

    def _on_loaded(self, function: SimulatedFunction) -> None:
        if function.step == "returning":
            function.leave_tier()
            function.target = function.ready = 0
        function.step, function.is_loaded, function.last_used = "", True, self.now
        self._enter_tier(function, "host")

    def _enter_tier(self, function: SimulatedFunction, tier: Literal["host", "own"]) -> None:
        function.tier, function.since, function.scaling = tier, self.now, None
        function.samples.clear()
        self._dispatch()

    def _dispatch(self) -> None:
        """Gives calls that wait to free workers."""
        for function in self.functions.values():
            while function.tier == "own" and function.queue:
                idle = function.ready * function.workers - function.running
                if idle <= 0 or not self._begin_batch(function, idle - 1):
                    break
        while self._dispatch_in_host():
            pass

    def _dispatch_in_host(self) -> bool:
        """Gives a batch to a free worker of the host, if there are both."""
        here = [function for function in self.functions.values() if function.tier == "host"]
        free = self.machine.cores - sum(function.running for function in here)
        if free <= 0:
            return False
        waiting = [
            function
            for function in here
            if function.is_loaded and function.queue and function.running < function.workers
        ]
        waiting.sort(key=lambda function: (function.running, function.busy_s))
        return any(
            self._begin_batch(function, min(free, function.workers - function.running) - 1)
            for function in waiting
        )

    def _begin_batch(self, function: SimulatedFunction, idle_workers: int) -> bool:
        """A worker takes the batch that leaves now, if one does."""
        decision = choose(
            function.queue, function.batch_limits, self.now, idle_workers=idle_workers
        )
        if not isinstance(decision, Run):
            self._schedule(decision.until - self.now, self._dispatch)
            return False
        calls = function.take_batch(decision.positions, self.now)
        tier, since = function.tier, function.since
        seconds = function.usual_batch_s(calls) * self._crowding()
        if function.costs is not None and not calls[0].run_solo:
            seconds *= self._dice.choice(function.costs.spread)

        def finish() -> None:
            if (function.tier, function.since) == (tier, since):
                function.running -= 1
                function.computing -= len(calls)
            else:
                function.leaving -= len(calls)
            function.on_finished(self.now, calls, seconds)
            self._dispatch()

        self._schedule(seconds, finish)
        return True

    def _crowding(self) -> float:
        """How much longer a batch takes that begins now, since workers share cores."""
        if self.machine.shared_cores is None:
            return 1.0
        running = sum(function.running for function in self.functions.values())
        return max(1.0, running / self.machine.shared_cores)

    def _tick(self) -> None:
        self._ticks += 1
        for function in self.functions.values():
            if function.tier == "own":
                self._scale(function)
            if (
                self._ticks % 5 == 0
                and not function.is_always_own
                and function.is_awake
                and not function.step
            ):
                function.samples.append(function.take_usage_sample(self.now))
                self._change_tier(function)
        held = [
            LoadedFunction(
                function.name, 0, function.last_used, function.in_flight > 0 or bool(function.step)
            )
            for function in self.functions.values()
            if function.is_loaded
        ]
        for name in idle_functions(held, self._delays, self.now):
            self._sleep(
                self.functions[name], f"host → asleep: no call for {self._delays[name]:g} s"
            )

    def _scale(self, function: SimulatedFunction) -> None:
        decision = wanted_replicas(
            function.take_load_sample(self.now),
            function.target,
            function.limits,
            function.scaling,
            self.now,
            fits=self._count_fitting(function),
        )
        function.scaling = decision.state
        if decision.replicas != function.target:
            self._resize(function, decision.replicas, decision.why)
        elif decision.missing > function.missing:
            function.record_decision(self.now, decision.why)
        function.missing = decision.missing

    def _resize(self, function: SimulatedFunction, replicas: int, why: str) -> None:
        more = replicas - function.target
        function.target, function.ready = replicas, min(function.ready, replicas)
        self.most_bytes = max(self.most_bytes, self._used_bytes())
        function.record_decision(self.now, why)
        if more > 0:
            self._schedule(self.machine.start_s, lambda: self._on_started(function, more))

    def _on_started(self, function: SimulatedFunction, more: int) -> None:
        if function.step == "starting":
            function.step, function.is_loaded = "", False
            function.leave_tier()
            self._enter_tier(function, "own")
        function.ready = min(function.target, function.ready + more)
        self._dispatch()

    def _change_tier(self, function: SimulatedFunction) -> None:
        missing, cpus = "", function.spec.resources.num_cpus
        if not self._count_fitting(function):
            missing = f"{cpus:g} CPUs wanted, {self._free_cpus():g} free"
        history = TierHistory(function.tier, function.since, function.samples, self.now, missing)
        move = choose_tier(history, TierTerms.of(function.spec, function.workers, self.thresholds))
        if move.kind == "no room":
            function.most_missing = max(function.most_missing, 1)
        if move.to == "own":
            function.step = "starting"
            self._resize(function, function.limits.min_replicas, move.why)
        elif move.to == "host" and self._load(function, "returning"):
            function.record_decision(self.now, move.why)
        elif move.to == "asleep" and function.tier == "own":
            self._sleep(function, move.why)

    def _sleep(self, function: SimulatedFunction, why: str) -> None:
        function.tier, function.is_loaded, function.target, function.ready = "host", False, 0, 0
        function.record_decision(self.now, why)

    def _is_at_rest(self, function: SimulatedFunction) -> bool:
        """Whether nothing changes any more without a call."""
        least = function.spec.autoscaling.min_replicas if function.is_always_own else 0
        return (
            not function.is_loaded
            and function.target <= least
            and not function.step
            and not function.in_flight
        )

    def _free_cpus(self) -> float:
        return (
            self.machine.cpus
            - 1
            - sum(
                function.target * function.spec.resources.num_cpus
                for function in self.functions.values()
            )
        )

    def _free_gpus(self) -> float:
        return self.machine.gpus - sum(
            function.target * function.spec.resources.num_gpus
            for function in self.functions.values()
        )

    def _count_fitting(self, function: SimulatedFunction) -> int:
        resources = function.spec.resources
        needs = {"CPU": resources.num_cpus, "GPU": resources.num_gpus}
        needs = {name: amount for name, amount in needs.items() if amount}
        if not needs:
            return function.spec.autoscaling.max_replicas
        return count_fitting({"CPU": self._free_cpus(), "GPU": self._free_gpus()}, needs)

    def _bytes_of(self, function: SimulatedFunction) -> int:
        """Of it, loaded once."""
        known = None if function.costs is None else function.costs.memory_bytes
        return self.machine.function_bytes if known is None else known

    def _used_bytes(self) -> int:
        return sum(
            self._bytes_of(function) * (function.is_loaded or function.step == "waking")
            + function.target * (self._bytes_of(function) + self.machine.process_bytes)
            for function in self.functions.values()
        )


def _simulate_function(spec: DeclaredSpec, costs: FunctionCosts | None) -> SimulatedFunction:
    scaling = spec.autoscaling
    is_always_own = needs_own_deployment(spec)
    first = (
        (scaling.min_replicas if scaling.initial_replicas is None else scaling.initial_replicas)
        if is_always_own
        else 0
    )
    return SimulatedFunction(
        spec,
        worker_count(spec.resources.num_cpus),
        is_always_own,
        "own" if is_always_own else "host",
        costs,
        target=first,
        ready=first,
    )
