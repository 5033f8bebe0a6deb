"""Whose fault a process's death is, and what the callers of that function are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from deployments.seat import Crime, Seat, Words

SUSPICION_S: Final = 600.0
"""Two unexplained deaths within these, the same function at work in both: it is taken for the reason."""


def blame(death: Words, seats: Mapping[str, Seat]) -> Iterator[tuple[str, Crime]]:
    """The functions that brought a process down, and how; a suspect is remembered, and guilty the second time.

    Args:
        death: ``pid``, ``at``, ``culprits``, ``suspects`` (at work when it died of nothing known) and ``words`` (how), as
            ``runtime.witness`` tells.
    """
    at, how = death["at"], f"it brought down process {death['pid']} ({death['words']}"
    for name in death["culprits"]:
        if name in seats:
            yield name, Crime(at, f"{how})")
    for name in death["suspects"]:
        if name in seats and name not in death["culprits"]:
            seat = seats[name]
            before = [earlier for earlier in seat.suspected if earlier > at - SUSPICION_S]
            seat.suspected = [*before, at]
            if before:
                yield name, Crime(at, f"{how}, and it was at work in {len(before) + 1} processes that ended so)", is_certain=False)


def verdict(seat: Seat) -> str:
    """What the host tells callers of a function that it does not run any more; empty while it goes on.

    Who has brought a process down is on its way to a deployment of its own. Until that answers the host serves it: its callers are
    many, and the row that did it is run alone or not at all.
    """
    return f"it is quarantined: {seat.record}. Change the function and run `wakeful up` again." if seat.is_quarantined else ""
