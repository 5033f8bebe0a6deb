"""A simulated machine: workers, memory, starts and loads take time. Every decision is made by the
functions that decide in production: ``tier_policy``, ``replica_policy``, ``demand``, ``capacity``
and the library's ``eviction_policy``.

The model: calls that wait leave in batches, which the engine's ``batching.policy`` chooses, and a
batch keeps one worker for as long as such batches took when they were measured
(``batch_times.FunctionCosts``). A function that was not measured has calls of fixed seconds, each
alone. The host has a worker for each core and gives a free one to the function that has used least
time; replicas of its own give a function workers of their own, and a call goes to the replica that
has fewest, whose queue it stays in. What runs shares ``shared_cores``, where they are said: a batch
beside others takes as much longer as was measured, the third that begins on two cores half as long
again, and calls on their way (HTTP, the event loop) and a replica that starts take from them as
well. Loading and starting take a fixed time; no more replicas of a function start at once than
there are cores, as in production. A call that is not answered before its deadline is none: where it
waits it is taken out. Nothing else fails.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from deployments.scaling.replica_policy import wanted_replicas
from deployments.scaling.simulation.arrivals import Arrival
from deployments.scaling.simulation.batch_times import FunctionCosts, slowdown
from deployments.scaling.simulation.simulated_function import SimulatedFunction, SimulatedPlace
from deployments.scaling.simulation.simulated_machine import MachineRoom, SimulatedMachine
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

STARTING_CORES: Final = 0.5
"""That a replica keeps busy while it starts: a start is a second of one core in two, most of it
imports (``scaling.capacity``).
"""

BESIDE_S: Final = 1.0
"""Over which the processor seconds that calls take beside their workers are averaged."""


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
        until: likewise, where it ends; what had come by then is answered. None: when no function
            changes any more without a call.
    """
    simulation = _Simulation(specs, machine, thresholds, since)
    simulation.run(arrivals, until)
    return [summary(function) for function in simulation.functions.values()], simulation.totals()


class _Simulation:
    """Mutable state: the clock (``now``), future events (``_events``), the functions, and what runs
    on the cores: batches (``_running``), replicas that start (``_starting``), calls on their way
    (``_beside``: cores, and when they were these); ``_over_at``, from when on time counts no more.
    """

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
        self._room = MachineRoom(machine.machines, machine.cpus, machine.gpus)
        for function in self.functions.values():
            self._place(function)
            function.target = function.ready = min(
                function.target, self._room.count_of(function.name)
            )
            function.match_replicas()
        self.most_bytes = self.most_machine_bytes = 0
        self._look_at_memory()
        self._dice = random.Random(machine.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ticks = 0
        self._running = self._starting = 0
        self._beside = (0.0, 0.0)
        self._since, self._over_at = since, math.inf
        if since:
            self._schedule(since, self._forget_results)
        self._delays = {
            name: function.spec.autoscaling.downscale_to_zero_delay_s
            for name, function in self.functions.items()
        }

    def totals(self) -> Totals:
        """Of all functions."""
        return Totals(
            min(self.now, self._over_at) - self._since,
            self.most_bytes,
            self.most_machine_bytes,
            sum(function.results.replica_s for function in self.functions.values()),
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
            self._answer_rest()
            return
        ends = last + 3600
        while self.now < ends and (
            self._events
            or any(not self._is_at_rest(function) for function in self.functions.values())
        ):
            self._run_until(self.now + TICK_S)

    def _answer_rest(self) -> None:
        """Runs on until what has come is answered, or its deadline has passed; nothing more comes,
        and the time counts for nothing: neither what it takes nor what policies decide in it.
        """
        self._over_at, functions = self.now, self.functions.values()
        most = self.most_bytes, self.most_machine_bytes
        decided = [(one.results.most_missing, len(one.results.decisions)) for one in functions]
        ends = self.now + max((one.spec.limits.request_timeout_s for one in functions), default=0.0)
        while self.now < ends and any(one.in_flight for one in functions):
            self._run_until(min(self.now + TICK_S, ends))
        self.most_bytes, self.most_machine_bytes = most
        for function, (missing, decisions) in zip(functions, decided, strict=True):
            function.results.expired += function.in_flight
            function.results.most_missing = missing
            del function.results.decisions[decisions:]

    def _forget_results(self) -> None:
        self.most_bytes = self.most_machine_bytes = 0
        self._look_at_memory()
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
        if self.now < self._over_at:
            for function in self.functions.values():
                function.pass_time(at, at - self.now)
        self.now = at
        self._ticks = max(self._ticks, int(at / TICK_S + 1e-6) - 1)

    def _schedule(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), action))

    def _arrive(self, function: SimulatedFunction, arrival: Arrival) -> None:
        if function.in_flight >= function.capacity:
            function.results.refused += 1
            return
        was_serving = function.is_serving
        if (
            function.tier == "host"
            and not function.is_loaded
            and function.step != "waking"
            and not self._load(function, "waking")
        ):
            return
        if function.tier == "own" and not function.target:
            if not self._count_fitting(function):
                function.results.refused += 1
                function.results.most_missing = max(function.results.most_missing, 1)
                return
            function.results.cold_starts += 1
            self._resize(function, 1, "0 → 1: a call")
        if not was_serving:
            function.results.cold_at.append(self.now)
        function.usage.on_call(self.now)
        function.results.accepted += 1
        function.accept(
            function.make_call(self.now, arrival.service_s, arrival.length, self.machine.service_s)
        )
        if function.costs is not None:
            self._beside = self._beside_cores() + function.costs.beside_cpu_s / BESIDE_S, self.now
        self._dispatch()

    def _load(self, function: SimulatedFunction, step: Literal["waking", "returning"]) -> bool:
        """Starts to load a function in the host; without room for it, the call that would have it
        woken is refused.
        """
        held = [
            LoadedFunction(
                other.name,
                self._bytes_of(other),
                other.usage.last_used,
                other.in_flight > 0 or bool(other.step),
            )
            for other in self.functions.values()
            if other is not function and (other.is_loaded or other.step in ("waking", "returning"))
        ]
        leaving = choose_evictions(
            self._bytes_of(function), self.machine.memory_bytes, held, name=function.name
        )
        if isinstance(leaving, NoRoom):
            function.results.refused += step == "waking"
            function.results.most_missing = max(function.results.most_missing, 1)
            function.record_decision(self.now, f"not loaded: {leaving.message}")
            return False
        for name in leaving:
            self.functions[name].is_loaded = False
            self.functions[name].record_decision(
                self.now, f"host → asleep: {function.name} needs the room"
            )
        function.step = step
        self._look_at_memory()
        function.results.cold_starts += step == "waking"
        known_s = function.costs.wake_s if function.costs is not None else None
        wake_s = self.machine.wake_s if known_s is None else known_s
        self._schedule(wake_s, lambda: self._on_loaded(function))
        return True

    def _on_loaded(self, function: SimulatedFunction) -> None:
        if function.step == "returning":
            function.target = function.ready = 0
            self._place(function)
        function.step, function.is_loaded, function.usage.last_used = "", True, self.now
        self._enter_tier(function, "host")

    def _enter_tier(self, function: SimulatedFunction, tier: Literal["host", "own"]) -> None:
        function.tier, function.since, function.scaling = tier, self.now, None
        function.usage.samples.clear()
        function.match_replicas()
        self._dispatch()

    def _dispatch(self) -> None:
        """Gives calls that wait to free workers."""
        for function in self.functions.values():
            for replica in (*function.replicas, *function.ending):
                while replica.queue:
                    idle = function.workers - replica.running
                    if idle <= 0 or not self._begin_batch(function, replica, idle - 1):
                        break
        while self._dispatch_in_host():
            pass

    def _dispatch_in_host(self) -> bool:
        """Gives a batch to a free worker of the host, if there are both."""
        free = self.machine.cores - sum(one.host.running for one in self.functions.values())
        if free <= 0:
            return False
        waiting = [
            function
            for function in self.functions.values()
            if function.host.queue
            and function.host.running < function.workers
            and (function.is_loaded or function.tier == "own")
        ]
        waiting.sort(key=lambda function: (function.host.running, function.usage.busy_s))
        return any(
            self._begin_batch(
                function, function.host, min(free, function.workers - function.host.running) - 1
            )
            for function in waiting
        )

    def _begin_batch(
        self, function: SimulatedFunction, place: SimulatedPlace, idle_workers: int
    ) -> bool:
        """A worker takes the batch that leaves now, if one does."""
        function.drop_expired(place.queue, self.now)
        if not place.queue:
            return False
        decision = choose(place.queue, function.batch_limits, self.now, idle_workers=idle_workers)
        if not isinstance(decision, Run):
            self._schedule(decision.until - self.now, self._dispatch)
            return False
        idle_s = place.idle_s(self.now)
        calls = place.take_batch(decision.positions)
        function.results.waits_s.extend(self.now - call.at for call in calls)
        self._running += 1
        seconds = function.usual_batch_s(calls, idle_s) * self._slowdown(function)
        seconds *= self._dice.choice(function.spread_of(calls))

        def finish() -> None:
            place.end_batch(self.now, len(calls))
            self._running -= 1
            function.on_finished(self.now, calls, seconds, self._dice)
            self._dispatch()

        self._schedule(seconds, finish)
        return True

    def _slowdown(self, function: SimulatedFunction) -> float:
        """How much longer a batch takes that begins now, since what runs shares cores."""
        machine = self.machine
        if machine.shared_cores is None:
            return 1.0
        wanted = self._running + STARTING_CORES * self._starting + self._beside_cores()
        crowded = 1.0 if function.costs is None else function.costs.crowded
        return slowdown(crowded, wanted / machine.machines, machine.shared_cores)

    def _beside_cores(self) -> float:
        """Cores that calls on their way keep busy, of late."""
        cores, at = self._beside
        return cores * math.exp((at - self.now) / BESIDE_S) if cores else 0.0

    def _tick(self) -> None:
        self._ticks += 1
        for function in self.functions.values():
            function.drop_all_expired(self.now)
            if function.tier == "own":
                self._scale(function)
            if (
                self._ticks % 5 == 0
                and not function.is_always_own
                and function.is_awake
                and not function.step
            ):
                function.usage.samples.append(function.take_usage_sample(self.now))
                self._change_tier(function)
        held = [
            LoadedFunction(
                function.name,
                0,
                function.usage.last_used,
                function.in_flight > 0 or bool(function.step),
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
        function.target, function.ready = replicas, min(function.ready, replicas)
        function.match_replicas()
        self._place(function)
        self._look_at_memory()
        function.record_decision(self.now, why)
        self._start_lacking(function)

    def _start_lacking(self, function: SimulatedFunction) -> None:
        """Starts replicas that are decided, as many at once as the scaling policy lets Ray start;
        the others follow when these run.
        """
        lacking = function.target - function.ready - function.starting
        more = min(lacking, self.machine.max_starting - function.starting)
        if more > 0:
            function.starting += more
            self._starting += more
            self._schedule(self.machine.start_s, lambda: self._on_started(function, more))

    def _on_started(self, function: SimulatedFunction, more: int) -> None:
        self._starting -= more
        function.starting -= more
        function.ready = min(function.target, function.ready + more)
        if function.step == "starting":
            function.step, function.is_loaded = "", False
            self._enter_tier(function, "own")
        function.match_replicas()
        self._start_lacking(function)
        self._dispatch()

    def _change_tier(self, function: SimulatedFunction) -> None:
        missing, cpus = "", function.spec.resources.num_cpus
        if not self._count_fitting(function):
            missing = f"{cpus:g} CPUs wanted, {self._room.most_free_cpus():g} free"
        samples = list(function.usage.samples)
        history = TierHistory(function.tier, function.since, samples, self.now, missing)
        move = choose_tier(history, TierTerms.of(function.spec, function.workers, self.thresholds))
        if move.kind == "no room":
            function.results.most_missing = max(function.results.most_missing, 1)
        if move.to == "own":
            function.step = "starting"
            self._resize(function, function.limits.min_replicas, move.why)
        elif move.to == "host" and self._load(function, "returning"):
            function.record_decision(self.now, move.why)
        elif move.to == "asleep" and function.tier == "own":
            self._sleep(function, move.why)

    def _sleep(self, function: SimulatedFunction, why: str) -> None:
        function.tier, function.is_loaded, function.target, function.ready = "host", False, 0, 0
        self._place(function)
        function.match_replicas()
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

    def _count_fitting(self, function: SimulatedFunction) -> int:
        fits = self._room.count_fitting(function.spec.resources)
        return function.spec.autoscaling.max_replicas if fits is None else fits

    def _place(self, function: SimulatedFunction) -> None:
        """Gives its replicas their room, or takes it back."""
        self._room.resize(
            function.name,
            function.spec.resources,
            function.target,
            self._bytes_of(function) + self.machine.process_bytes,
        )

    def _bytes_of(self, function: SimulatedFunction) -> int:
        """Of it, loaded once."""
        known = None if function.costs is None else function.costs.memory_bytes
        return self.machine.function_bytes if known is None else known

    def _look_at_memory(self) -> None:
        in_host = sum(
            self._bytes_of(function)
            for function in self.functions.values()
            if function.is_loaded or function.step in ("waking", "returning")
        )
        self.most_bytes = max(self.most_bytes, in_host + self._room.held_bytes())
        self.most_machine_bytes = max(self.most_machine_bytes, self._room.most_held_bytes(in_host))


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
