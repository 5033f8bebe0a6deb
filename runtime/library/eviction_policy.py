"""Decides when a loaded function is unloaded, which functions give up memory, and when a failed
load is tried again: pure functions of values and ``now``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.errors import NoRoom

MAX_BACKOFF_S = 60.0
"""A function that fails to load is tried once a minute at most, and no later than that after its
fault is gone.
"""

MB = 1_000_000

LEAST_UNKNOWN = 32 * MB
"""Of a function whose size is not known: a small model. A hundred of them at once are no reason to
load one after another where a machine has memory."""

MAX_HOLDERS_SHOWN = 5
"""Busy functions that the message of ``NoRoom`` names."""


@dataclass(frozen=True, slots=True)
class LoadedFunction:
    """What the policy knows of a function that is loaded or being loaded.

    Attributes:
        name: the function's.
        bytes: memory it holds or will hold; 0 when it is unknown.
        last_used: seconds, ``time.monotonic``: when its last call ended, or when it was loaded.
        is_busy: it has calls, is waited for, or is pinned: it is never unloaded.
    """

    name: str
    bytes: int
    last_used: float
    is_busy: bool


def choose_evictions(
    size: int,
    budget: int,
    loaded: Sequence[LoadedFunction],
    *,
    name: str = "the function",
    excess: int = 0,
) -> tuple[str, ...] | NoRoom:
    """Return the functions to unload, least recently used first, so that one of ``size`` bytes fits
    in ``budget``. Busy functions are never chosen.

    Args:
        size: bytes that one more function will hold.
        budget: bytes that all may hold together.
        loaded: all other functions that hold memory.
        name: the function to be loaded, for the message.
        excess: bytes that the process has grown by beyond what ``loaded`` accounts for (batches
            larger than at warm-up, what the allocator keeps). It makes idle functions yield
            earlier; it is never a reason to refuse.

    Returns:
        Names to unload, none when there is memory; or the error of the callers when the idle
        functions are not enough.
    """
    busy_bytes = sum(function.bytes for function in loaded if function.is_busy)
    if busy_bytes + size > budget:
        return _insufficient_memory(name, size, budget, loaded)
    missing = sum(function.bytes for function in loaded) + excess + size - budget
    evictions: list[str] = []
    idle = (function for function in loaded if not function.is_busy)
    for function in sorted(idle, key=lambda function: function.last_used):
        if missing <= 0:
            break
        evictions.append(function.name)
        missing -= function.bytes
    return tuple(evictions)


def may_load_unknown(used: int, budget: int, loading: int, largest: int | None) -> bool:
    """Whether a function of unknown size may load now, beside others of unknown size that load.
    Their memory counts only once they are loaded, so each is taken to be as large as the largest
    that is known, and not smaller than ``LEAST_UNKNOWN``.

    Args:
        used: bytes that the process holds, or will with what has reserved them.
        budget: bytes that all functions may hold together.
        loading: functions of unknown size that load.
        largest: bytes of the largest function that was ever loaded; None: no size is known, and one
            loads by itself.
    """
    if not loading:
        return True
    return largest is not None and used + (loading + 1) * unknown_bytes(largest) <= budget


def unknown_bytes(largest: int | None) -> int:
    """What a function of unknown size is taken to hold; ``largest`` as of ``may_load_unknown``."""
    return max(LEAST_UNKNOWN, largest or 0)


def _insufficient_memory(
    name: str, size: int, budget: int, loaded: Sequence[LoadedFunction]
) -> NoRoom:
    if size > budget:
        message = (
            f"{name} takes {_mb(size)} and all functions of one process together may hold "
            f"{_mb(budget)}."
        )
    else:
        holders = sorted(
            (function for function in loaded if function.is_busy and function.bytes),
            key=lambda function: -function.bytes,
        )
        shown = ", ".join(f"{h.name} {_mb(h.bytes)}" for h in holders[:MAX_HOLDERS_SHOWN])
        hidden = len(holders) - MAX_HOLDERS_SHOWN
        more = f" and {hidden} more" if hidden > 0 else ""
        free = budget - sum(holder.bytes for holder in holders)
        message = (
            f"{name} takes {_mb(size)}, {_mb(free)} of {_mb(budget)} are not held by busy "
            f"functions ({shown}{more})."
        )
    return NoRoom(
        f"{message} Call again later, or raise WAKEFUL_MEMORY_MB, of which "
        "each of several processes has its part.",
        retry_after_s=1,
    )


def _mb(size: int) -> str:
    return f"{size / MB:.0f} MB"


def idle_functions(
    loaded: Sequence[LoadedFunction], delays: Mapping[str, float], now: float
) -> tuple[str, ...]:
    """Return the names of functions that have been idle for their delay, in seconds by name."""
    return tuple(
        function.name
        for function in loaded
        if not function.is_busy and now - function.last_used >= delays[function.name]
    )


def next_idle_deadline(
    loaded: Sequence[LoadedFunction], delays: Mapping[str, float], now: float
) -> float:
    """Return when ``idle_functions`` is to be called again, in seconds on the clock of ``now``;
    infinity when no function can become idle.

    A busy function may become idle at once, so it is due its delay from now at the earliest.
    """
    return min(
        (
            (now if function.is_busy else function.last_used) + delays[function.name]
            for function in loaded
        ),
        default=math.inf,
    )


def backoff_s(failures: int) -> float:
    """Return the seconds from the last of so many failed loads in a row to the next attempt: 1, 2,
    4 and so on to a minute.
    """
    return min(MAX_BACKOFF_S, 2.0 ** min(failures - 1, 16))
