"""``Server-Timing`` of an answer, and the phases of a cold start in it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loadtests.bench.figures import Number

ENTRY = re.compile(r"([\w-]+);dur=([\d.]+)")
COLD = "cold_"
"""What the entries of a cold start's phases begin with; ``cold`` itself is the whole."""


def timings_ms(header: str) -> dict[str, float]:
    """Milliseconds by name."""
    return {name: float(value) for name, value in ENTRY.findall(header)}


def phases(what: str, colds: Sequence[dict[str, float]]) -> list[Number]:
    """A line for each phase of the cold starts, in their order, and one for what the server itself saw as the whole."""
    names = dict.fromkeys(name for cold in colds for name in cold if name.startswith(COLD))
    found = [(f"phase {name.removeprefix(COLD)}", name) for name in names] + [("as the server sees it", "cold")]
    return [Number(f"{what}, {said}", tuple(cold[name] for cold in colds if name in cold), "ms") for said, name in found]
