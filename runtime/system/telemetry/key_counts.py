"""Requests by the name of the key that they came with.

A number of its own, and no label of the others: those have a series for each function and code
already, and keys would multiply them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_KEYS: Final = 200
"""Names that are counted apart in a process; there may be far more keys."""

OTHER_KEYS: Final = "*"
"""The label of all others together; no key's name has such a character."""


class KeyRequests(NamedTuple):
    """Requests with one key whose answers had one class of status, ``2xx`` to ``5xx``."""

    key: str
    statuses: str
    requests: int


class KeyCounts:
    """What is counted by key in one process. Mutable state: ``_counts``, on the event loop."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[int, int]] = {}

    def record(self, key: str, status: int) -> None:
        """Count a request that is over, by the status of its answer."""
        counts = self._counts.get(key)
        if counts is None:
            if len(self._counts) >= MAX_KEYS:
                key = OTHER_KEYS
            counts = self._counts.setdefault(key, {})
        first = status // 100
        counts[first] = counts.get(first, 0) + 1

    def read(self) -> list[KeyRequests]:
        """Return the counts, in any thread."""
        return [
            KeyRequests(key, f"{first}xx", count)
            for key, counts in list(self._counts.items())
            for first, count in list(counts.items())
        ]
