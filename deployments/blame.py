"""Whose fault a process's death is, and what the callers of that function are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from deployments.seat import Seat, Words

SUSPICION_S: Final = 600.0
"""Two unexplained deaths within these, the same function at work in both: it is taken for the reason."""


def blame(death: Words, seats: Mapping[str, Seat], now: float) -> Iterator[tuple[str, str]]:
    """The functions that brought a process down, and how; a suspect is remembered, and guilty the second time.

    Args:
        death: ``culprits``, ``suspects`` (at work when it died of nothing known) and ``words`` (how), as ``runtime.witness`` tells.
    """
    for name in death["culprits"]:
        if name in seats:
            yield name, death["words"]
    for name in death["suspects"]:
        if name in seats and name not in death["culprits"]:
            seat = seats[name]
            before = [at for at in seat.suspected if at > now - SUSPICION_S]
            seat.suspected = [*before, now]
            if before:
                yield name, f"{death['words']}, and it was at work in {len(before) + 1} processes that ended so"


def verdict(seat: Seat) -> str:
    """What the host tells callers of a function that it does not run any more."""
    said = "; ".join(seat.crimes)
    if seat.is_quarantined:
        return f"it is quarantined: {said}. Change the function and run `wakeful up` again."
    return f"{said}. It gets a deployment of its own, which is starting."
