"""A function as ``/functions`` and ``wakeful status`` show it: its state, where it runs, what it
holds, its last cold start.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from deployments.control.process_reports import HostReport
from deployments.observability.status_messages import GpuShare, waiting_reason
from deployments.placement.function_state import FunctionState
from deployments.ray_support.serve_status import AppState
from runtime.library.function_report import FunctionReport
from runtime.system.telemetry.recent import merge_traffic

_MOST_USEFUL_FIRST: Final = ("ready", "waking", "draining", "failed", "asleep")
"""Of several hosts, the state that says most about the next call."""

PageData = dict[str, Any]
"""JSON data of a page."""

LOST: Final = AppState("", "failed", message="Ray does not know it; `wakeful up` deploys it again.")
"""In the place of an application that should be there."""


def function_entry(
    state: FunctionState,
    app: AppState | None,
    shares: Sequence[GpuShare] = (),
    kept: Container[str] = (),
    pinned: Container[str] = (),
) -> PageData:
    """Everything that is shown of one function, as plain data.

    Args:
        app: its Ray application, where it has one.
        shares: of the GPUs, that replicas of all functions have.
        kept: names of functions that are kept awake for now.
        pinned: of those that an operator keeps so.

    Returns:
        ``name``, ``state``, ``tier``, ``replicas``, ``url``, ``part_of`` (the function whose stage
        it is, or empty), ``kept`` (it is kept awake for now), ``pinned`` (by a pin),
        ``is_quarantined``, ``reason`` (why it is in that state), ``description``, ``device`` (what
        its models run on, as ``DeviceReport`` says it, or None while it is not loaded), ``hop_ms``
        (what a call of a function in another process costs beyond the function's own time, by its
        name), ``in_flight``, ``sequences`` (live ones), ``memory_bytes``, ``last_wake`` (seconds by
        phase, or None), ``last_minute`` (as of ``Traffic``), ``loads``
        (by the processes that have it, since they started), ``doing``
        (the transition under way, or empty), ``last_decision``, ``version`` (the version hash of
        what is loaded, the latest if there are several) and ``update`` (what becomes of another
        version: empty, ``loading``, or why it was not taken).
    """
    reports, where = state.usage.reports, shown_state(state, app, shares)
    serving = (report.reason for report in reports if report.state == "ready")
    where["reason"] = where["reason"] or next(filter(None, serving), "")
    latest = max(reports, key=lambda report: report.loaded_at, default=FunctionReport())
    on_devices = [report for report in reports if report.device is not None]
    on = max(on_devices, key=lambda report: report.loaded_at, default=FunctionReport()).device
    return {
        "name": state.name,
        **where,
        "version": latest.version,
        "update": _update(state, reports),
        "tier": state.tier,
        "url": state.declaration.url,
        "part_of": state.declaration.part_of,
        "kept": state.name in kept,
        "pinned": state.name in pinned,
        "is_quarantined": state.crashes.is_quarantined,
        "description": state.declaration.args.get("description", ""),
        "device": on and asdict(on),
        "hop_ms": {name: hop for report in reports for name, hop in report.hop_ms.items()},
        "in_flight": sum(report.in_flight for report in reports),
        "sequences": state.usage.sequences,
        "memory_bytes": sum(
            report.memory_bytes for report in reports if report.state in ("ready", "waking")
        ),
        "last_wake": latest.last_wake and latest.last_wake.to_dict(),
        "last_minute": merge_traffic(
            report.minute for report in reports if report.minute is not None
        ).to_dict(),
        "loads": sum(report.loads for report in reports),
        "doing": "" if state.transition == "steady" else state.transition,
        "last_decision": state.decisions[-1].why if state.decisions else "",
    }


def shown_state(
    state: FunctionState, app: AppState | None, shares: Sequence[GpuShare] = ()
) -> PageData:
    """``state``, ``replicas`` and ``reason`` of a function, as of ``function_entry``."""
    where = _own(state, app, shares) if state.tier == "own" else _shared(state.usage.reports)
    if state.crashes.is_quarantined:
        where |= {"state": "failed", "reason": f"quarantined: {state.crashes.summary}"}
    return where


def _update(state: FunctionState, reports: Sequence[FunctionReport]) -> str:
    if state.transition == "updating":
        return "loading"
    return state.update_error or next(filter(None, (report.update for report in reports)), "")


def host_entry(report: HostReport) -> PageData:
    """A host: ``id``, ``address`` behind HAProxy, ``peers`` (live hosts that it knows, itself
    included), ``used_bytes`` and ``budget_bytes`` of memory."""
    return {
        "id": report.id,
        "address": report.address,
        "peers": report.peers,
        "used_bytes": report.used_bytes,
        "budget_bytes": report.budget_bytes,
    }


def gpu_allocations(
    states: Iterable[FunctionState], apps: Mapping[str, AppState]
) -> list[GpuShare]:
    """The part of the GPUs that each replica has, and its device where the replica reported it."""
    shares = []
    for state in states:
        if state.tier != "own" or not (num_gpus := state.spec.resources.num_gpus):
            continue
        devices = [
            f"{report.node}/{report.gpus[0]}" if len(report.gpus) == 1 else ""
            for report in state.usage.reports
            if report.gpus
        ]
        replicas = max(apps.get(state.name, LOST).replicas, len(devices))
        unknown = [""] * (replicas - len(devices))
        shares += [GpuShare(state.name, num_gpus, device) for device in [*devices, *unknown]]
    return shares


def _own(state: FunctionState, app: AppState | None, shares: Sequence[GpuShare]) -> PageData:
    shown = app or LOST
    resources = state.spec.resources
    wants = {"num_cpus": resources.num_cpus, "num_gpus": resources.num_gpus}
    reason = shown.message
    if app and reason:
        reason = waiting_reason(reason, wants, shares)
    return {"state": shown.state, "replicas": shown.replicas, "reason": reason}


def _shared(reports: Sequence[FunctionReport]) -> PageData:
    best = min(
        reports,
        key=lambda report: _MOST_USEFUL_FIRST.index(report.state),
        default=FunctionReport(state="asleep"),
    )
    return {
        "state": best.state,
        "replicas": sum(report.state == "ready" for report in reports),
        "reason": best.reason,
    }
