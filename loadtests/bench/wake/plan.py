"""How much of everything is measured, and what every section is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.bench.wake import declare


@dataclass(frozen=True, slots=True)
class Plan:
    """How much.

    Attributes:
        tries: first calls of a sleeping function in the host.
        own_tries: first calls of a deployment at zero.
        crowds: times that a hundred callers come at once.
        streams: times that calls arrive at a rate.
        promotions: times that a function is promoted and handed back.
        rounds: alternating rounds of a comparison, each ``load_s`` long.
        singles: single calls of each of ten functions, at random gaps.
        functions: declared at once.
        idle_s: how long the processor time of idle processes is counted, after ``settle_s``.
        wakes: first calls among many functions and among a few.
        large: functions that do not fit into memory together; ``room`` of them do.
        step_delay_s: ``downscale_delay_s`` of the function whose load steps up and down.
    """

    tries: int
    own_tries: int
    crowds: int
    streams: int
    promotions: int
    rounds: int
    load_s: float
    singles: int
    functions: int
    idle_s: float
    settle_s: float
    wakes: int
    large: int
    room: int
    step_delay_s: float


FULL = Plan(
    tries=20,
    own_tries=8,
    crowds=5,
    streams=3,
    promotions=20,
    rounds=5,
    load_s=10,
    singles=100,
    functions=1000,
    idle_s=30,
    settle_s=10,
    wakes=24,
    large=50,
    room=10,
    step_delay_s=20,
)
QUICK = Plan(
    tries=4,
    own_tries=2,
    crowds=1,
    streams=1,
    promotions=1,
    rounds=1,
    load_s=3,
    singles=10,
    functions=60,
    idle_s=4,
    settle_s=2,
    wakes=4,
    large=6,
    room=2,
    step_delay_s=6,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every section needs.

    Attributes:
        plan: how much to measure.
        shipped: the applications of the shipped file, by name.
        forecast: the file of the small model.
        port: HTTP port on loopback, free before the run.
        folder: of this run; files to serve, and output of processes.
        say: progress, for whoever waits.
    """

    plan: Plan
    shipped: Mapping[str, declare.Application]
    forecast: Path
    port: int
    folder: Path
    say: Callable[[str], None]

    def like(self, shipped: str, name: str = "", **changes: Any) -> declare.Application:
        """A function of the shipped file under a name, with other sections of its ``args``."""
        return declare.like(self.shipped[shipped], name or shipped, **changes)

    def file(self, name: str, functions: Sequence[declare.Application]) -> Path:
        """Writes a file to serve; its name is the section's."""
        return declare.write(self.folder / f"{name}.yaml", functions)

    def log(self, name: str) -> Path:
        """Where the output of a section's processes goes."""
        return self.folder / f"{name}.log"

    def example(self, shipped: str) -> dict[str, Any]:
        """The call that the shipped file shows for a function."""
        found: dict[str, Any] = self.shipped[shipped]["args"]["example"]
        return found

    def rounds(self, what: str, count: int) -> Iterator[int]:
        """Counts from 0, saying so."""
        for index in range(count):
            self.say(f"{what}: {index + 1} of {count}")
            yield index
