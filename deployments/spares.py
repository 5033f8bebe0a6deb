"""Processes started ahead: a replica that is placed in one is ready a second sooner."""

from __future__ import annotations

from typing import Final

KEEP_ALIVE_S: Final = 3600
"""How long Ray keeps an unused one; asked for again a little before."""


class Spares:
    """When to ask for how many.

    Args:
        count: unused processes to have; 0 keeps none.

    Mutable state: ``_replicas`` seen last, and when the unused ones end (``_until``).
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._replicas = 0
        self._until = 0.0

    def wanted(self, replicas: int, now: float) -> int:
        """How many to ask for now.

        Args:
            replicas: of all functions, starting and running: each that came since has taken one, as far as there were.
        """
        came, self._replicas = replicas - self._replicas, replicas
        if now >= self._until:
            self._until = now + KEEP_ALIVE_S - 60
            return self._count
        return max(0, min(came, self._count))
