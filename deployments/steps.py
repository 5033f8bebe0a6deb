"""The steps of one function between the shared host and a deployment of its own; what comes next is asked for, nothing is done here.

Up: decided → its application is deployed without a route prefix (*starting*) → its replica runs, the prefix is given (*routing*) →
it answers. Down: decided → a host loads it (*warming*) → the prefix is taken away (*unrouting*) → it is deleted (*deleting*).
So there is always somebody to answer. (Measured with eight callers: no call lost, none slower than 0.14 s; an application that was
deployed with its prefix made them wait 1.2 s for its replica.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from deployments.reasons import reason
from deployments.seat import Seat, Step, Words, fits
from runtime.onnx.options import workers
from runtime.tiers import Move, Thresholds, choose

START_S: Final = 60.0
"""Longest start of a deployment of its own; the host serves meanwhile."""

ROUTE_S: Final = 15.0
"""Longest wait for Ray to take a prefix over."""

UNROUTED_S: Final = 1.0
"""From a prefix given or taken away until whoever answered behind it before may forget it; HAProxy is told within 0.3 s, on two busy
cores."""

WARM_S: Final = 10.0
"""Longest wait for a host to load what is handed back."""


@dataclass(frozen=True, slots=True)
class Do:
    """One thing for Ray.

    Attributes:
        kind: deploy the function's application (again), or delete it.
        routed: deployed with its prefix, or without.
        why: of the decision, told to the replica.
    """

    kind: Literal["deploy", "delete"]
    name: str
    routed: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a step is decided by, beside the seat.

    Attributes:
        now: on the owner's clock, seconds.
        wall: seconds since the epoch.
        app: the function's Ray application: ``state``, ``replicas``, ``message``; None if there is none.
        free: resources of the cluster that nobody has, by Ray's names.
        is_warm: a host has it loaded.
    """

    now: float
    wall: float
    app: Words | None
    free: Mapping[str, float]
    is_warm: bool


def step(seat: Seat, sight: Sight, thresholds: Thresholds) -> Do | None:
    """The next step of a function that may move; its seat remembers it."""
    if seat.is_quarantined:
        return None if sight.app is None or seat.step == "deleting" else _delete(seat, sight)
    match seat.step:
        case "settled":
            return _settled(seat, sight, thresholds)
        case "starting":
            return _starting(seat, sight)
        case "routing":
            return _routing(seat, sight)
        case "renewing":
            return _renewing(seat, sight)
        case "warming":
            return _warming(seat, sight)
        case "unrouting" if sight.now - seat.step_since > UNROUTED_S:
            return _delete(seat, sight)
    return None


def renew(seat: Seat, former: Words, now: float) -> Do:
    """Its deployment takes another version; Ray starts that beside the one that answers, which goes when the other is ready."""
    if seat.step != "renewing":  # else the version that answers is still the one before that
        seat.former = former
    to(seat, "renewing", now)
    return Do("deploy", seat.name, routed=True, why="declared anew")


def unroute(seat: Seat, why: str, now: float) -> Do:
    """From now on the host answers; the deployment goes when HAProxy has forgotten it."""
    to(seat, "unrouting", now)
    seat.tier, seat.since = "host", now
    return Do("deploy", seat.name, routed=False, why=why)


def fail(seat: Seat, message: str, now: float, wall: float) -> Do | None:
    """A step failed. On the way up the host goes on, and what was deployed goes."""
    if seat.step == "renewing":
        return _keep(seat, message, now, wall)
    if seat.step not in ("starting", "routing"):
        seat.decided(f"{seat.step}: {message}", wall)
        return None
    seat.failures += 1
    seat.failed_at = now
    seat.decided(f"stays in the host: its own deployment did not start: {message}", wall)
    to(seat, "deleting", now)
    seat.tier, seat.since = "host", now
    return Do("delete", seat.name)


def to(seat: Seat, step: Step, now: float) -> None:
    """Enters a step."""
    seat.step, seat.step_since = step, now


def _settled(seat: Seat, sight: Sight, thresholds: Thresholds) -> Do | None:
    if seat.tier == "own" and sight.app is None:
        seat.tier, seat.since = "host", sight.now
        seat.decided("own → host: its deployment is gone", sight.wall)
        return None
    if seat.crimes:
        return None if seat.tier == "own" else _promote(seat, f"host → own: {seat.crimes[-1].how}", sight)
    room = fits(seat, sight.free)
    move = _choose(seat, sight.now, room, thresholds)
    seat.lacks = room if isinstance(room, str) and room in move.why else ""
    if move.to == "own":
        return _promote(seat, move.why, sight)
    if not move.to or seat.tier == "host":  # who falls asleep in the host needs nobody here
        if move.to or seat.lacks or seat.failures:
            seat.decided(move.why, sight.wall)
        return None
    seat.decided(move.why, sight.wall)
    if move.to == "asleep":
        return unroute(seat, move.why, sight.now)
    to(seat, "warming", sight.now)
    return None


def _choose(seat: Seat, now: float, room: Literal[True] | str, thresholds: Thresholds) -> Move:
    args = seat.data["args"]
    return choose(
        seat.tier,
        list(seat.looks),
        now,
        since=seat.since,
        workers=workers(args["resources"]["num_cpus"]),
        downscale_delay_s=args["autoscaling"]["downscale_delay_s"],
        downscale_to_zero_delay_s=args["autoscaling"]["downscale_to_zero_delay_s"],
        slo_p95_ms=args["slo"].get("latency_p95_ms"),
        fits=room,
        failures=seat.failures,
        failed_at=seat.failed_at,
        thresholds=thresholds,
    )


def _promote(seat: Seat, why: str, sight: Sight) -> Do:
    seat.decided(why, sight.wall)
    to(seat, "starting", sight.now)
    return Do("deploy", seat.name, why=why)


def _starting(seat: Seat, sight: Sight) -> Do | None:
    app = sight.app
    if app is not None and app["state"] == "ready":
        to(seat, "routing", sight.now)
        return Do("deploy", seat.name, routed=True, why=seat.decisions[-1].why)
    if app is not None and app["state"] == "failed":
        return fail(seat, app["message"], sight.now, sight.wall)
    if sight.now - seat.step_since > START_S:
        return fail(seat, f"no replica within {START_S:.0f} s. {app['message'] if app else 'Ray does not know it.'}", sight.now, sight.wall)
    return None


def _routing(seat: Seat, sight: Sight) -> Do | None:
    app = sight.app
    if app is not None and app["state"] == "ready":
        took_s = sight.wall - seat.decisions[-1].at
        to(seat, "settled", sight.now)
        seat.tier, seat.since, seat.failures = "own", sight.now, 0
        seat.decided(f"own: its deployment answers, {took_s:.1f} s after it was decided", sight.wall)
        return None
    if sight.now - seat.step_since > ROUTE_S or (app is not None and app["state"] == "failed"):
        return fail(seat, app["message"] if app else "it vanished.", sight.now, sight.wall)
    return None


def _renewing(seat: Seat, sight: Sight) -> Do | None:
    app = sight.app
    if app is not None and app["state"] in ("ready", "asleep"):
        to(seat, "settled", sight.now)
        return None
    if app is None or app["state"] == "failed" or sight.now - seat.step_since > START_S:
        return _keep(seat, app["message"] if app else "its deployment is gone", sight.now, sight.wall)
    return None


def _keep(seat: Seat, message: str, now: float, wall: float) -> Do:
    """The version before answers, but Ray would not start it again if its process died: it is deployed once more."""
    to(seat, "settled", now)
    seat.data, seat.refusal = seat.former, reason(message)
    seat.decided(f"its new version is not taken, the one before serves on: {seat.refusal}", wall)
    return Do("deploy", seat.name, routed=True, why=seat.decisions[-1].why)


def _warming(seat: Seat, sight: Sight) -> Do | None:
    if sight.is_warm:
        return unroute(seat, seat.decisions[-1].why, sight.now)
    if sight.now - seat.step_since > WARM_S:
        to(seat, "settled", sight.now)
        seat.since = sight.now
        reasons = "; ".join({str(of["reason"]) for _, of in seat.said.values() if of.get("reason")})
        seat.decided(f"stays own: no host has loaded it within {WARM_S:.0f} s{': ' if reasons else '.'}{reasons}", sight.wall)
    return None


def _delete(seat: Seat, sight: Sight) -> Do:
    to(seat, "deleting", sight.now)
    return Do("delete", seat.name)
