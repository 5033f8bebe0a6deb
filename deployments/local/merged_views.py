"""What several processes say of the functions that they all serve, as one: pure functions of plain
data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

Entry = dict[str, Any]
"""A function, as ``runtime.http.catalogue.app.Index`` has it."""

_ORDER: Final = ("failed", "ready", "waking", "draining", "asleep")
"""Of several states the first one is told: calls of a function that failed anywhere may fail, and
one that is ready anywhere answers.
"""

_AWAKE: Final = ("ready", "waking", "draining")

_SUMS: Final = ("in_flight", "sequences", "loads", "memory_bytes")


def merge_indexes(indexes: Sequence[Sequence[Entry]]) -> list[Entry]:
    """Return every function once, in the order of the first index, with ``replicas``: the processes
    in which it is awake.

    Args:
        indexes: of each process that has answered, one at least.
    """
    by_name: dict[str, list[Entry]] = {entry["name"]: [] for entry in indexes[0]}
    for index in indexes:
        for entry in index:
            if entry["name"] in by_name:
                by_name[entry["name"]].append(entry)
    return [_merge(entries) for entries in by_name.values()]


def _merge(entries: Sequence[Entry]) -> Entry:
    told = min(entries, key=lambda entry: _rank(entry["state"]))
    alike = sum(entry["state"] == told["state"] for entry in entries)
    reason = told["reason"]
    if reason and alike < len(entries):
        reason = f"in {alike} of {len(entries)} processes: {reason}"
    wakes = [entry["last_wake"] for entry in entries if entry["last_wake"] is not None]
    return {
        **told,
        "reason": reason,
        "replicas": sum(entry["state"] in _AWAKE for entry in entries),
        "kept": any(entry["kept"] for entry in entries),
        "pinned": any(entry["pinned"] for entry in entries),
        **{key: sum(entry[key] for entry in entries) for key in _SUMS},
        "is_quarantined": any(entry["is_quarantined"] for entry in entries),
        "last_wake": max(wakes, key=lambda wake: wake["at"], default=None),
    }


def _rank(state: str) -> int:
    return _ORDER.index(state) if state in _ORDER else -1


def count_states(index: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the number of functions by state."""
    counts: dict[str, int] = {}
    for entry in index:
        counts[entry["state"]] = counts.get(entry["state"], 0) + 1
    return counts
