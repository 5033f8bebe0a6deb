"""A machine in a replay: workers, memory, starts and loads take time; the policies are the real ones.

The model: a call takes its seconds of one worker, alone (no batches, which would make it cheaper). The host has a worker for each core
and gives a free one to the function that has used it least; replicas of its own give a function workers of their own, which do not
crowd each other. Loading and starting take a fixed time. Nothing fails.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from runtime.errors import NoRoom
from runtime.lifecycle import Held, room, sleepy
from runtime.onnx.options import workers
from runtime.replay.seat import Call, Seat
from runtime.replay.summary import Summary, Totals, summary
from runtime.replay.trace import Arrival
from runtime.scaling import wanted
from runtime.spec import FunctionSpec
from runtime.tiers import DEFAULT, Thresholds, choose

TICK_S: Final = 0.2
"""The controller's: replicas are decided as often, tiers each fifth time."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a replay assumes.

    Attributes:
        cores: worker threads of the host.
        cpus: logical CPUs that Ray has; the host takes one.
        memory_bytes: what functions loaded in the host may hold together.
        function_bytes, process_bytes: what one function holds, and a replica's process besides.
        service_s: seconds of a worker that a call takes, where the trace does not say.
        wake_s, start_s: of a load in the host, of a replica.
    """

    cores: int = 2
    cpus: float = 8.0
    memory_bytes: int = 2_000_000_000
    function_bytes: int = 60_000_000
    process_bytes: int = 200_000_000
    service_s: float = 0.02
    wake_s: float = 0.1
    start_s: float = 2.0


def replay(
    specs: Sequence[FunctionSpec], arrivals: Sequence[Arrival], machine: Machine, thresholds: Thresholds = DEFAULT
) -> tuple[list[Summary], Totals]:
    """Runs arrivals, in the order of time, until everything sleeps or is as idle as it will be."""
    simulation = _Simulation(specs, machine, thresholds)
    simulation.run(arrivals)
    return [summary(seat) for seat in simulation.seats.values()], simulation.totals()


class _Simulation:
    """Mutable state: the clock, what happens next (``_events``), and the seats."""

    def __init__(self, specs: Iterable[FunctionSpec], machine: Machine, thresholds: Thresholds) -> None:
        self.machine, self.thresholds = machine, thresholds
        self.seats = {spec.name: _seat(spec) for spec in specs}
        self.now = 0.0
        self.most_bytes = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ticks = 0
        self._ends = 0.0
        self._delays = {name: seat.spec.autoscaling.downscale_to_zero_delay_s for name, seat in self.seats.items()}

    def totals(self) -> Totals:
        """Of all functions."""
        return Totals(self.now, self.most_bytes, sum(seat.replica_s for seat in self.seats.values()))

    def run(self, arrivals: Sequence[Arrival]) -> None:
        """Everything that happens, in order; afterwards an hour at most for what has to fall asleep."""
        last = arrivals[-1].at if arrivals else 0.0
        self._ends = last + 3600
        for arrival in arrivals:
            self._until(arrival.at)
            self._arrive(self.seats[arrival.function], arrival.service_s)
        while self.now < self._ends and (self._events or any(not self._rests(seat) for seat in self.seats.values())):
            self._until(self.now + TICK_S)

    def _until(self, at: float) -> None:
        """Events and ticks up to a time; while everybody sleeps, the clock jumps."""
        while True:
            awake = any(seat.is_awake for seat in self.seats.values())
            tick = (self._ticks + 1) * TICK_S if awake else at
            following = min(tick, self._events[0][0] if self._events else at, at)
            self._pass(following)
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            if awake and self.now >= tick:
                self._tick()
            if self.now >= at:
                return

    def _pass(self, at: float) -> None:
        for seat in self.seats.values():
            seat.pass_time(at - self.now)
        self.now = at
        self._ticks = max(self._ticks, int(at / TICK_S + 1e-6) - 1)
        self.most_bytes = max(self.most_bytes, self._bytes())

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), action))

    def _arrive(self, seat: Seat, service_s: float | None) -> None:
        if seat.in_flight >= seat.capacity:
            seat.refused += 1
            return
        if seat.tier == "host" and not seat.is_loaded and seat.step != "waking" and not self._load(seat, "waking"):
            return
        if seat.tier == "own" and not seat.target:
            seat.cold_starts += 1
            self._resize(seat, 1, "0 → 1: a call")
        seat.calls += 1
        seat.last_used = self.now
        seat.queue.append(Call(self.now, self.machine.service_s if service_s is None else service_s))
        self._dispatch()

    def _load(self, seat: Seat, step: Literal["waking", "returning"]) -> bool:
        """Begins to load a function in the host, or counts the call as refused."""
        held = [
            Held(other.name, self.machine.function_bytes, other.last_used, other.in_flight > 0 or bool(other.step))
            for other in self.seats.values()
            if other is not seat and (other.is_loaded or other.step in ("waking", "returning"))
        ]
        leaving = room(self.machine.function_bytes, self.machine.memory_bytes, held, name=seat.name)
        if isinstance(leaving, NoRoom):
            seat.refused += 1
            seat.decided(self.now, f"not loaded: {leaving.message}")
            return False
        for name in leaving:
            self.seats[name].is_loaded = False
            self.seats[name].decided(self.now, f"host → asleep: {seat.name} needs the room")
        seat.step = step
        seat.cold_starts += step == "waking"
        self._after(self.machine.wake_s, lambda: self._loaded(seat))
        return True

    def _loaded(self, seat: Seat) -> None:
        if seat.step == "returning":
            seat.leaving, seat.running = seat.leaving + seat.running, 0
            seat.target = seat.ready = 0
        seat.step, seat.is_loaded, seat.last_used = "", True, self.now
        self._enter(seat, "host")

    def _enter(self, seat: Seat, tier: Literal["host", "own"]) -> None:
        seat.tier, seat.since, seat.scaling = tier, self.now, None
        seat.looks.clear()
        self._dispatch()

    def _dispatch(self) -> None:
        """Gives waiting calls to free workers."""
        for seat in self.seats.values():
            while seat.tier == "own" and seat.queue and seat.running < seat.ready * seat.workers:
                self._begin(seat)
        while True:
            waiting = [
                seat
                for seat in self.seats.values()
                if seat.tier == "host" and seat.is_loaded and seat.queue and seat.running < seat.workers
            ]
            crowd = sum(seat.running for seat in self.seats.values() if seat.tier == "host")
            if not waiting or crowd >= self.machine.cores:
                return
            self._begin(min(waiting, key=lambda seat: (seat.running, seat.busy_s)))

    def _begin(self, seat: Seat) -> None:
        call, tier, since = seat.queue.popleft(), seat.tier, seat.since
        seat.running += 1
        seat.waits_s.append(self.now - call.at)

        def finish() -> None:
            if (seat.tier, seat.since) == (tier, since):
                seat.running -= 1
            else:
                seat.leaving -= 1
            seat.finished(self.now, call)
            self._dispatch()

        self._after(call.service_s, finish)

    def _tick(self) -> None:
        self._ticks += 1
        for seat in self.seats.values():
            if seat.tier == "own":
                self._scale(seat)
            if self._ticks % 5 == 0 and not seat.fixed and seat.is_awake and not seat.step:
                seat.looks.append(seat.use(self.now))
                self._move(seat)
        held = [Held(seat.name, 0, seat.last_used, seat.in_flight > 0 or bool(seat.step)) for seat in self.seats.values() if seat.is_loaded]
        for name in sleepy(held, self._delays, self.now):
            self._sleep(self.seats[name], f"host → asleep: no call for {self._delays[name]:g} s")

    def _scale(self, seat: Seat) -> None:
        decision = wanted(seat.look(self.now), seat.target, seat.bounds, seat.scaling, self.now, fits=self._fits(seat))
        seat.scaling = decision.state
        if decision.replicas != seat.target:
            self._resize(seat, decision.replicas, decision.why)
        elif decision.missing > seat.missing:
            seat.decided(self.now, decision.why)
        seat.missing = decision.missing

    def _resize(self, seat: Seat, replicas: int, why: str) -> None:
        more = replicas - seat.target
        seat.target, seat.ready = replicas, min(seat.ready, replicas)
        seat.decided(self.now, why)
        if more > 0:
            self._after(self.machine.start_s, lambda: self._started(seat, more))

    def _started(self, seat: Seat, more: int) -> None:
        if seat.step == "starting":
            seat.step, seat.is_loaded = "", False
            seat.leaving, seat.running = seat.leaving + seat.running, 0
            self._enter(seat, "own")
        seat.ready = min(seat.target, seat.ready + more)
        self._dispatch()

    def _move(self, seat: Seat) -> None:
        scaling, cpus = seat.spec.autoscaling, seat.spec.resources.num_cpus
        move = choose(
            seat.tier,
            list(seat.looks),
            self.now,
            since=seat.since,
            workers=seat.workers,
            downscale_delay_s=scaling.downscale_delay_s,
            downscale_to_zero_delay_s=scaling.downscale_to_zero_delay_s,
            slo_p95_ms=seat.spec.slo.latency_p95_ms,
            fits=True if self._fits(seat) else f"{cpus:g} CPUs wanted, {self._free():g} free",
            thresholds=self.thresholds,
        )
        if move.to == "own":
            seat.step = "starting"
            self._resize(seat, seat.bounds.min_replicas, move.why)
        elif move.to == "host" and self._load(seat, "returning"):
            seat.decided(self.now, move.why)
        elif move.to == "asleep" and seat.tier == "own":
            self._sleep(seat, move.why)

    def _sleep(self, seat: Seat, why: str) -> None:
        seat.tier, seat.is_loaded, seat.target, seat.ready = "host", False, 0, 0
        seat.decided(self.now, why)

    def _rests(self, seat: Seat) -> bool:
        """Nothing will change any more without a call."""
        least = seat.spec.autoscaling.min_replicas if seat.fixed else 0
        return not seat.is_loaded and seat.target <= least and not seat.step and not seat.in_flight

    def _free(self) -> float:
        return self.machine.cpus - 1 - sum(seat.target * seat.spec.resources.num_cpus for seat in self.seats.values())

    def _fits(self, seat: Seat) -> int:
        cpus = seat.spec.resources.num_cpus
        return max(0, int(self._free() / cpus + 1e-9)) if cpus else seat.spec.autoscaling.max_replicas

    def _bytes(self) -> int:
        one, process = self.machine.function_bytes, self.machine.process_bytes
        return sum(one * (seat.is_loaded or seat.step == "waking") + seat.target * (one + process) for seat in self.seats.values())


def _seat(spec: FunctionSpec) -> Seat:
    scaling = spec.autoscaling
    fixed = spec.tier == "own" or scaling.min_replicas > 0 or spec.resources.num_gpus > 0
    first = (scaling.min_replicas if scaling.initial_replicas is None else scaling.initial_replicas) if fixed else 0
    return Seat(spec, workers(spec.resources.num_cpus), fixed, "own" if fixed else "host", target=first, ready=first)
