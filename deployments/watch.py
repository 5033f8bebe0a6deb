"""What becomes of another version of functions that the host, or the owner of placement, is to load: the catalogue is asked until it is
decided."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from deployments.routing import index

POLL_S: Final = 0.1

DECIDED_S: Final = 60.0
"""Longest wait; the version before serves meanwhile, and afterwards as long as the other one loads."""

AWAKE: Final = ("ready", "waking", "draining")


def serving(entries: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Of the catalogue's entries, those that have a version loaded: who sleeps takes another one by waking."""
    return frozenset(entry["name"] for entry in entries if entry["state"] in AWAKE)


def decided(entry: Mapping[str, Any], version: str) -> bool:
    """Whether it is known if a function takes ``version``, or it fell asleep and will take it when it wakes."""
    if entry["update"] == "loading":
        return False
    return bool(entry["update"]) or entry["version"] == version or entry["state"] not in AWAKE


def refused(url: str, versions: Mapping[str, str], *, timeout_s: float = DECIDED_S) -> dict[str, str]:
    """Waits for functions that take other versions.

    Args:
        url: of the server.
        versions: the ``identity`` that each is to take, by name.

    Returns:
        why not, of those that did not take it.
    """
    until = time.monotonic() + timeout_s
    left = dict(versions)
    why: dict[str, str] = {}
    while left:
        for entry in index(url) or ():  # None while the catalogue restarts
            if entry["name"] in left and decided(entry, left[entry["name"]]):
                del left[entry["name"]]
                why[entry["name"]] = entry["update"]
        if time.monotonic() > until:
            why |= dict.fromkeys(left, f"it has not loaded within {timeout_s:g} s.")
            break
        time.sleep(POLL_S)
    return {name: reason for name, reason in why.items() if reason}
