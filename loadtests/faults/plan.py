"""How much of everything is done, and what every scenario is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.wake import declare

ROOM = {"WAKEFUL_LOGICAL_CPUS_PER_CORE": "16"}
"""The workers of these functions sleep while they work: many of them find room on a few cores."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much.

    Attributes:
        kills: of a serving replica, one each ``kill_every_s``.
        many: requests at least, while replicas are killed or versions change.
        few: requests at least, where there is one replica.
        redeploys: of new good versions; ``bad`` of bad ones.
        batches: with a poisoned row.
        steady_s: before something is done, to know what is usual.
        overload_s: of five times what can be answered.
        controller: requests at least, while the controller is killed so many times: ``controllers``.
        scale_s: of random traffic.
        mixed_s: of everything; ``gap_s`` from the end of one fault to the next, about.
    """

    kills: int
    kill_every_s: float
    many: int
    few: int
    redeploys: int
    bad: int
    batches: int
    steady_s: float
    overload_s: float
    controller: int
    controllers: int
    scale_s: float
    mixed_s: float
    gap_s: float


FULL = Plan(
    kills=20,
    kill_every_s=3,
    many=20_000,
    few=2_000,
    redeploys=10,
    bad=3,
    batches=5_000,
    steady_s=20,
    overload_s=60,
    controller=5_000,
    controllers=3,
    scale_s=600,
    mixed_s=1800,
    gap_s=12,
)
QUICK = Plan(
    kills=5,
    kill_every_s=3,
    many=1_500,
    few=200,
    redeploys=2,
    bad=1,
    batches=100,
    steady_s=4,
    overload_s=10,
    controller=500,
    controllers=1,
    scale_s=60,
    mixed_s=90,
    gap_s=2,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What every scenario needs.

    Attributes:
        plan: how much is done.
        port: HTTP port on loopback, free before the run.
        folder: of this run; files to serve, and output of processes.
        models: folder of `wakeful models pull`.
        say: progress, for whoever waits.
    """

    plan: Plan
    port: int
    folder: Path
    models: Path
    say: Callable[[str], None]

    def file(self, name: str, functions: Sequence[declare.Application]) -> Path:
        """Writes a file to serve."""
        return declare.write(self.folder / f"{name}.yaml", functions)

    def log(self, name: str) -> Path:
        """Where the output of a scenario's processes goes."""
        return self.folder / f"{name}.log"
