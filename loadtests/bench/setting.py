"""What every experiment is given: how long to measure, the bare limit, the texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.bare import BareLoop
from loadtests.bench.texts import Text


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to measure.

    Attributes:
        rounds: alternating rounds of each comparison.
        load_s: one run of wrk.
        bare_s: one run of the bare loop at one batch size or policy.
        probes: requests of one round on one connection.
        starts: times that `wakeful up` is started.
    """

    rounds: int
    load_s: float
    bare_s: float
    probes: int
    starts: int


FULL = Pace(rounds=3, load_s=10, bare_s=2, probes=5000, starts=3)
QUICK = Pace(rounds=1, load_s=2, bare_s=0.3, probes=300, starts=1)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every experiment needs.

    Attributes:
        pace: how long to measure.
        bare: ONNX Runtime alone.
        short: texts of one length, all of 14 tokens.
        mixed: texts of 4 to 200 tokens.
        folder: where the output of the processes goes.
        say: progress, for whoever waits.
    """

    pace: Pace
    bare: BareLoop
    short: Sequence[Text]
    mixed: Sequence[Text]
    folder: Path
    say: Callable[[str], None]

    def rounds(self, what: str) -> Iterator[int]:
        """Counts the rounds, saying so."""
        for number in range(1, self.pace.rounds + 1):
            self.say(f"{what}: round {number} of {self.pace.rounds}")
            yield number
