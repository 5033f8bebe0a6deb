"""The machines of a simulation, and what replicas take of them: each lies on one machine, and a
share of a GPU on one of its GPUs, however much is free on all of them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from deployments.scaling.simulation.batch_times import FunctionCosts
from runtime.declaration.sections import ResourcesSpec

_EPSILON: Final = 1e-9

HOST_CPUS: Final = 1.0
"""Of the first machine, for the shared host."""


@dataclass(frozen=True, slots=True)
class SimulatedMachine:
    """What a simulation assumes of one machine, and how many there are.

    Attributes:
        cores: worker threads of the host.
        cpus: logical CPUs that Ray has of a machine; the host takes one.
        memory_bytes: what functions loaded in the host may hold together.
        function_bytes, process_bytes: memory of one function, and of a replica's process besides.
        service_s: seconds of a worker that a call takes, where neither the trace nor ``costs`` say.
        wake_s, start_s: of a load in the host, of a replica's start.
        gpus: of a machine.
        machines: of this size; the host is on the first.
        shared_cores: that the workers of a machine's replicas and of the host have together; None:
            each has one of its own.
        costs: by function, what was measured of it.
        seed: of the spread of batches and of what calls take beside them.
    """

    cores: int = 2
    cpus: float = 8.0
    memory_bytes: int = 2_000_000_000
    function_bytes: int = 60_000_000
    process_bytes: int = 200_000_000
    service_s: float = 0.02
    wake_s: float = 0.1
    start_s: float = 2.0
    gpus: int = 0
    machines: int = 1
    shared_cores: float | None = None
    costs: Mapping[str, FunctionCosts] = field(default_factory=dict)
    seed: int = 0

    @property
    def max_starting(self) -> int:
        """Replicas of a function that may be starting at once (``scaling.capacity``)."""
        return self.machines * self.cores


@dataclass(slots=True, eq=False)
class _Machine:
    """What is free of one, and the memory that its replicas hold."""

    cpus: float
    gpus: list[float]
    held_bytes: int = 0

    def count_fitting(self, needs: ResourcesSpec) -> int:
        """Replicas with such needs, of which there is at least one, that still fit."""
        counts = []
        if needs.num_cpus:
            counts.append(int(self.cpus / needs.num_cpus + _EPSILON))
        if needs.num_gpus >= 1:
            whole = sum(free > 1 - _EPSILON for free in self.gpus)
            counts.append(int(whole / needs.num_gpus + _EPSILON))
        elif needs.num_gpus:
            counts.append(sum(int(free / needs.num_gpus + _EPSILON) for free in self.gpus))
        return max(0, min(counts))

    def change(self, needs: ResourcesSpec, gpus: tuple[int, ...], count: int) -> None:
        """Takes from what is free, or gives back with a negative count."""
        self.cpus -= count * needs.num_cpus
        for index in gpus:
            self.gpus[index] -= count * min(1.0, needs.num_gpus)

    def choose_gpus(self, needs: ResourcesSpec) -> tuple[int, ...]:
        """The fullest that have the room."""
        share = min(1.0, needs.num_gpus)
        fitting = [index for index, free in enumerate(self.gpus) if free >= share - _EPSILON]
        fitting.sort(key=lambda index: self.gpus[index])
        return tuple(fitting[: max(1, round(needs.num_gpus))]) if share else ()


@dataclass(frozen=True, slots=True)
class _Placed:
    machine: _Machine
    gpus: tuple[int, ...]


@dataclass(slots=True)
class MachineRoom:
    """Machines of one size.

    Mutable state: ``machines``, what is free of each; ``placed``, where replicas lie, by function.

    Attributes:
        count: of machines.
        cpus, gpus: of each.
    """

    count: int
    cpus: float
    gpus: int
    machines: list[_Machine] = field(init=False)
    placed: dict[str, list[_Placed]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.machines = [_Machine(self.cpus, [1.0] * self.gpus) for _ in range(self.count)]
        self.machines[0].cpus -= HOST_CPUS

    def count_fitting(self, needs: ResourcesSpec) -> int | None:
        """How many more replicas with such needs fit; None: as many as are wanted."""
        if not needs.num_cpus and not needs.num_gpus:
            return None
        return sum(machine.count_fitting(needs) for machine in self.machines)

    def most_free_cpus(self) -> float:
        """Of the machine that has most."""
        return max(machine.cpus for machine in self.machines)

    def resize(self, name: str, needs: ResourcesSpec, replicas: int, each_bytes: int) -> None:
        """A function has so many replicas, each of which holds so much memory; no more than fit."""
        placed = self.placed.setdefault(name, [])
        while len(placed) < replicas:
            machine = self._roomiest(needs)
            if machine is None:
                return
            gpus = machine.choose_gpus(needs)
            machine.change(needs, gpus, 1)
            machine.held_bytes += each_bytes
            placed.append(_Placed(machine, gpus))
        while len(placed) > replicas:
            last = placed.pop()
            last.machine.change(needs, last.gpus, -1)
            last.machine.held_bytes -= each_bytes

    def count_of(self, name: str) -> int:
        """Replicas of a function that have room."""
        return len(self.placed.get(name, ()))

    def most_held_bytes(self, in_host: int) -> int:
        """Of one machine, with what the host holds on the first."""
        held = [machine.held_bytes for machine in self.machines]
        return max(held[0] + in_host, *held[1:], 0)

    def held_bytes(self) -> int:
        """Of all machines together, without the host."""
        return sum(machine.held_bytes for machine in self.machines)

    def _roomiest(self, needs: ResourcesSpec) -> _Machine | None:
        """Where most such replicas fit, of these where least memory is held."""
        if not needs.num_cpus and not needs.num_gpus:
            return min(self.machines, key=lambda machine: machine.held_bytes)
        best = max(
            self.machines, key=lambda machine: (machine.count_fitting(needs), -machine.held_bytes)
        )
        return best if best.count_fitting(needs) else None
