"""Processes started ahead: a replica that is placed in one is ready a second sooner. When to ask Ray for how many."""

from __future__ import annotations

from typing import Final

KEEP_ALIVE_S: Final = 3600.0
"""How long Ray keeps an unused one; asked for again a little before."""

START_S: Final = 1.5
"""From asking for a process until it can be taken, on two cores."""

CALM_S: Final = 3.0
"""From a replica's start until its process is replaced: that takes a second of a core, which the replica's callers need first."""


class Spares:
    """Times in seconds since the epoch, as replicas tell when they began.

    Args:
        count: unused processes to have; 0 keeps none.

    Mutable state: ``_ready`` (from when each unused process can be taken), ``_missing`` (when each is to be asked for), ``_until`` (when
    Ray ends those that nobody took).
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._ready: list[float] = []
        self._missing: list[float] = []
        self._until = 0.0

    def taken(self, began: float, now: float) -> None:
        """A replica began then; if an unused process was there, that was it."""
        there = [ready for ready in self._ready if ready <= began]
        if there:
            self._ready.remove(min(there))
            self._missing.append(now + CALM_S)

    def wanted(self, now: float) -> int:
        """How many to ask for now."""
        if now >= self._until:
            self._until, self._missing = now + KEEP_ALIVE_S - 60, []
            self._ready = [now + START_S] * self._count
            return self._count
        due = [at for at in self._missing if at <= now]
        self._missing = [at for at in self._missing if at > now]
        self._ready += [now + START_S] * len(due)
        return len(due)
