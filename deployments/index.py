"""A function as people and programs are shown it: its state, where it runs, what it holds, when it last woke."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from deployments.reasons import reason
from deployments.seat import Seat, Words
from deployments.shares import Share

_BEST: Final = ("ready", "waking", "draining", "failed", "asleep")
"""Of several hosts, the state that says most for the next caller."""

LOST: Final = {"state": "failed", "replicas": 0, "message": "Ray does not know it; `wakeful up` deploys it again."}


def entry(seat: Seat, app: Words | None, shares: Sequence[Share] = ()) -> Words:
    """Everything ``status`` shows of one function, as plain data.

    Args:
        app: its Ray application, where it has one.
        shares: of the GPUs, that replicas of all functions have.

    Returns:
        ``name``, ``state``, ``tier``, ``replicas``, ``url``, ``part_of`` (the function whose stage it is, or empty), ``reason``,
        ``description``, ``device`` (what its models really run on, as ``runtime.running`` says it, or None while it is not loaded),
        ``hop_ms`` (what a call of a function in another process costs beyond what that takes, by its name), ``in_flight``,
        ``sequences`` (that live), ``memory_bytes``, ``last_wake`` (seconds by phase, or None), ``loads`` (by the processes that have it,
        since they started), ``doing`` (what is under way, or empty), ``last_decision``, ``version`` (the ``identity`` of what is loaded,
        the latest if there are several) and ``update`` (what becomes of another version: empty, ``loading``, or why it was not taken).
    """
    reports = [report for _, report in seat.said.values()]
    words = _own(seat, app, shares) if seat.tier == "own" else _shared(seat)
    serving = (report.get("reason", "") for report in reports if report.get("state") == "ready")
    words["reason"] = words["reason"] or next(filter(None, serving), "")
    return {
        "name": seat.name,
        **words,
        "version": max(reports, key=_began, default={}).get("version", ""),
        "update": "loading" if seat.step == "renewing" else seat.refusal or next(filter(None, (one.get("update") for one in reports)), ""),
        "tier": seat.tier,
        "url": seat.data["url"],
        "part_of": seat.data.get("part_of", ""),
        "description": seat.data["args"].get("description", ""),
        "device": max((one for one in reports if one.get("device")), key=_began, default={}).get("device"),
        "hop_ms": {name: hop for report in reports for name, hop in report.get("hop_ms", {}).items()},
        "in_flight": sum(report.get("in_flight", 0) for report in reports),
        "sequences": sum(report.get("sequences", 0) for report in reports),
        "memory_bytes": sum(report.get("memory_bytes", 0) for report in reports if report.get("state") in ("ready", "waking")),
        "last_wake": max((wake for report in reports if (wake := report.get("last_wake"))), key=lambda wake: wake["at"], default=None),
        "loads": sum(report.get("loads", 1) for report in reports),
        "doing": "" if seat.step == "settled" else seat.step,
        "last_decision": seat.decisions[-1].why if seat.decisions else "",
    }


def _began(report: Words) -> float:
    return float(report["last_wake"]["at"]) if report.get("last_wake") else 0.0


def host_entry(said: Words) -> Words:
    """A host: ``id``, ``address`` behind HAProxy, ``peers`` (hosts that it knows to live, itself included), ``used_bytes`` and
    ``budget_bytes`` of memory."""
    return {key: said.get(key) for key in ("id", "address", "peers", "used_bytes", "budget_bytes")}


def shares(seats: Iterable[Seat], apps: Mapping[str, Words]) -> list[Share]:
    """Of the GPUs, what each replica has; its device as it said itself."""
    found = []
    for seat in seats:
        num_gpus = seat.data["args"]["resources"]["num_gpus"]
        if num_gpus and seat.tier == "own":
            told = [report for _, report in seat.said.values() if report.get("gpus")]
            devices = [f"{report['node']}/{report['gpus'][0]}" if len(report["gpus"]) == 1 else "" for report in told]
            replicas = max(apps.get(seat.name, LOST)["replicas"], len(devices))
            found += [Share(seat.name, num_gpus, device) for device in [*devices, *[""] * (replicas - len(devices))]]
    return found


def _own(seat: Seat, app: Words | None, shares: Sequence[Share]) -> Words:
    found: Mapping[str, Any] = app or LOST
    wants = {key: seat.data["args"]["resources"][key] for key in ("num_cpus", "num_gpus")}
    said = found["message"] if found is LOST or not found["message"] else reason(found["message"], wants, shares)
    return {"state": found["state"], "replicas": found["replicas"], "reason": said}


def _shared(seat: Seat) -> Words:
    if seat.is_quarantined:
        return {"state": "failed", "replicas": 0, "reason": f"quarantined: {seat.record}"}
    reports = [report for _, report in seat.said.values()]
    best = min(reports, key=lambda report: _BEST.index(report["state"]), default={"state": "asleep", "reason": ""})
    return {"state": best["state"], "replicas": sum(report["state"] == "ready" for report in reports), "reason": best["reason"]}
