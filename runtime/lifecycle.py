"""When a loaded function sleeps, who yields its memory, when a failed load is tried again: decisions from values and ``now``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.errors import NoRoom

LONGEST_BACKOFF_S = 60.0
"""A function that fails to load is tried once a minute at most, and no later than that after its fault is gone."""

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Held:
    """A function that is loaded, or being loaded, as these decisions see it.

    Attributes:
        name: the function's.
        bytes: memory it holds or will hold; 0 when nobody knows.
        last_used: seconds, ``time.monotonic``: when its last call ended, or when it was loaded.
        is_busy: it has calls, waits for its load, or is to stay: never unloaded.
    """

    name: str
    bytes: int
    last_used: float
    is_busy: bool


def room(wanted: int, budget: int, held: Sequence[Held], *, name: str = "the function", excess: int = 0) -> tuple[str, ...] | NoRoom:
    """Who is to be unloaded so that a function fits: the longest idle first, never a busy one.

    Args:
        wanted: bytes that one more function will hold.
        budget: bytes that all may hold together.
        held: everybody else who holds memory.
        name: who wants to be loaded, for the message.
        excess: bytes that the process has grown by beyond what ``held`` accounts for (batches larger than at warm-up, what the
            allocator keeps). It makes idle functions yield earlier; it is never a reason to refuse.

    Returns:
        Names to unload, none when there is room; or the error of a caller for whom there is none.
    """
    busy = sum(one.bytes for one in held if one.is_busy)
    if busy + wanted > budget:
        return _no_room(name, wanted, budget, held)
    missing = sum(one.bytes for one in held) + excess + wanted - budget
    leaving: list[str] = []
    for one in sorted((one for one in held if not one.is_busy), key=lambda one: one.last_used):
        if missing <= 0:
            break
        leaving.append(one.name)
        missing -= one.bytes
    return tuple(leaving)


def _no_room(name: str, wanted: int, budget: int, held: Sequence[Held]) -> NoRoom:
    holders = sorted((one for one in held if one.is_busy and one.bytes), key=lambda one: -one.bytes)
    if wanted > budget:
        told = f"{name} takes {_mb(wanted)} and all functions together may hold {_mb(budget)}."
    else:
        said = ", ".join(f"{one.name} {_mb(one.bytes)}" for one in holders[:5])
        more = f" and {len(holders) - 5} more" if len(holders) > 5 else ""
        busy = sum(one.bytes for one in holders)
        told = f"{name} takes {_mb(wanted)}, {_mb(budget - busy)} of {_mb(budget)} are not held by busy functions ({said}{more})."
    return NoRoom(f"{told} Call again later, or raise WAKEFUL_MEMORY_MB.", retry_after_s=1)


def _mb(size: int) -> str:
    return f"{size / MB:.0f} MB"


def sleepy(held: Sequence[Held], delays: Mapping[str, float], now: float) -> tuple[str, ...]:
    """Who has been idle for as long as its ``downscale_to_zero_delay_s``, by name in ``delays``."""
    return tuple(one.name for one in held if not one.is_busy and now - one.last_used >= delays[one.name])


def due(held: Sequence[Held], delays: Mapping[str, float], now: float) -> float:
    """When ``sleepy`` is to be asked again, seconds on the clock of ``now``; infinite when nobody will ever sleep.

    A busy function may become idle at once, so it is due its delay from now at the earliest.
    """
    return min(((now if one.is_busy else one.last_used) + delays[one.name] for one in held), default=math.inf)


def backoff_s(failures: int) -> float:
    """Seconds from the last of so many failed loads in a row to the next attempt: 1, 2, 4 and so on to a minute."""
    return min(LONGEST_BACKOFF_S, 2.0 ** min(failures - 1, 16))
