"""A line of the table of faults: what was done, how many requests, how many were lost, what else was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from loadtests.bench.report import cell
from loadtests.ledger.book import Verdict

HEAD = "| fault | requests | lost | more |\n|---|---|---|---|"
MORE_CHARACTERS = 1200


@dataclass(frozen=True, slots=True)
class Row:
    """What a scenario came to.

    Attributes:
        fault: in words.
        more: what else was measured, each in a few words.
        missed: of that, what does not keep its bound.
        failed: why the scenario could not be run to its end; empty otherwise.
    """

    fault: str
    verdict: Verdict
    more: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    failed: str = ""

    @property
    def is_good(self) -> bool:
        """It ran to its end and nothing was lost."""
        return self.verdict.is_good and not self.failed

    def __str__(self) -> str:
        reasons = [f"{count:,} x {reason}" for reason, count in self.verdict.reasons.items()]
        missed = [f"**missed**: {what}" for what in self.missed]
        failed = [f"**failed**: {self.failed}"] if self.failed else []
        said = "; ".join([*failed, *missed, *reasons, *self.more])
        lost = f"**{self.verdict.lost:,}**" if self.verdict.lost else "0"
        return f"| {cell(self.fault)} | {self.verdict.sent:,} | {lost} | {cell(said, MORE_CHARACTERS)} |"


def table(rows: Sequence[Row]) -> str:
    """All of them."""
    return "\n".join([HEAD, *map(str, rows)])


def details(row: Row) -> str:
    """The lost requests that were kept, one JSON object a line."""
    return "".join(json.dumps(asdict(lost)) + "\n" for lost in row.verdict.examples)
