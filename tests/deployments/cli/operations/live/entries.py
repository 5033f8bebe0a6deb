"""Entries of functions as the console is sent them."""

from __future__ import annotations

from typing import Any

ASLEEP = {
    "state": "asleep",
    "is_quarantined": False,
    "reason": "",
    "tier": "run",
    "replicas": 0,
    "part_of": "",
    "kept": False,
    "pinned": False,
    "doing": "",
    "memory_bytes": 0,
    "last_wake": None,
    "last_decision": "",
    "errors": {},
    "last_minute": {"calls": 0, "calls_per_s": 0.0, "errors": 0, "p50_ms": None, "p95_ms": None},
}
"""What a table reads of one that sleeps (``runtime.http.catalogue.console.shapes.Entry``)."""


def entry(name: str, **more: Any) -> dict[str, Any]:
    """One that sleeps, but for what is said."""
    return {"name": name, "url": f"/v2/models/{name}", **ASLEEP, **more}
