"""What is new of functions between two looks, and which of it a page is told now. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from runtime.http.catalogue.console.shapes import Decision, Entry, EntryNumbers

NUMBERS: Final = frozenset(EntryNumbers.__annotations__)
"""Of an entry, what is told with the samples, and not at once."""

_AWAKE: Final = ("ready", "waking", "draining")

_OF_A_RUN: Final[Mapping[str, Any]] = {
    "is_quarantined": False,
    "tier": "run",
    "kept": False,
    "pinned": False,
    "doing": "",
    "update": "",
    "version": "",
    "device": None,
    "hop_ms": {},
    "in_flight": 0,
    "sequences": 0,
    "last_decision": "",
    "loads": 0,
}
"""What the index of a process that serves by itself does not say (``catalogue.app.Index``)."""


def to_entry(indexed: Mapping[str, Any], errors: Mapping[str, int]) -> Entry:
    """Return what is shown of a function.

    Args:
        indexed: as of ``runtime.http.catalogue.app.Index``.
        errors: of the last minute, by code.
    """
    entry: Any = {**_OF_A_RUN, **indexed, "errors": errors}
    entry.setdefault("replicas", int(entry["state"] in _AWAKE))
    return entry  # type: ignore[no-any-return]  # as ``Index`` has it


class PageChanges(NamedTuple):
    """What a page is told.

    Attributes:
        is_all: it forgets what it knew.
        functions: their entries.
        removed: names of those that are gone.
    """

    is_all: bool
    functions: list[Entry]
    removed: list[str]

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return self.is_all or bool(self.functions or self.removed)


def compare(
    sent: Mapping[str, Entry], now: Iterable[Entry], *, with_numbers: bool
) -> tuple[PageChanges, dict[str, Entry]]:
    """Return what a page is told that was sent these entries, and what it has then.

    Args:
        sent: by name, in the order of the page.
        now: all functions, in the order of the file. Where one is new, or the order is another, all
            are sent.
        with_numbers: whether those are told of which nothing but numbers has changed.
    """
    found = {entry["name"]: entry for entry in now}
    kept = [name for name in sent if name in found]
    if kept != list(found):
        return PageChanges(True, list(found.values()), []), found
    told = [
        entry
        for name, entry in found.items()
        if entry is not sent[name] and _has_changed(sent[name], entry, with_numbers=with_numbers)
    ]
    removed = [name for name in sent if name not in found]
    if not (told or removed):
        return PageChanges(False, [], []), dict(sent)
    after = {name: sent[name] for name in kept} | {entry["name"]: entry for entry in told}
    return PageChanges(False, told, removed), after


def _has_changed(before: Mapping[str, Any], now: Mapping[str, Any], *, with_numbers: bool) -> bool:
    if before == now:
        return False
    if with_numbers or before.keys() != now.keys():
        return True
    return any(before[key] != value for key, value in now.items() if key not in NUMBERS)


def describe_change(before: str, state: str, reason: str, load_s: float) -> str:
    """Return a change of a function's state as a decision about it is written.

    Args:
        before: the state until now.
        reason: why it is in the new one; may be empty.
        load_s: how long its load took, of one that is ready; 0: it is not known.
    """
    why = reason or (f"loaded in {load_s:.2f} s" if state == "ready" and load_s else "")
    return f"{before} → {state}{f': {why}' if why else ''}"


def new_decisions(
    told: Iterable[Mapping[str, Any]], known: Iterable[Mapping[str, Any]]
) -> list[Decision]:
    """Return the decisions that a page has not been told. One that is repeated has another time,
    and is told again.

    Args:
        told: what it was told until now.
        known: what there is, oldest first.
    """
    seen = {(one["at"], one["why"]) for one in told}
    return [
        {"at": one["at"], "why": one["why"]} for one in known if (one["at"], one["why"]) not in seen
    ]
