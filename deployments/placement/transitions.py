"""How one function moves between the shared host and a deployment of its own. This module says
which order to Ray comes next; ``controller`` gives it.

Theory of operation. Up: decided → its application is deployed without a route prefix (*starting*) →
its replica runs, the prefix is given (*adding_route*) → it answers. Down: decided → a host loads it
(*loading_in_host*) → the prefix is taken away (*removing_route*) → it is deleted (*deleting*). So a
process answers its calls at every moment. (Measured with eight clients: no call lost, none slower
than 0.14 s. With an application that was deployed with its prefix the clients waited 1.2 s for its
replica.)

An order to Ray may be lost, may fail after it was taken, or may be carried out after every
deadline. So no transition trusts that an order came about: each looks at the applications that Ray
has, and orders again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from deployments.observability.status_messages import waiting_reason
from deployments.placement.function_state import FunctionState, missing_resources
from deployments.placement.order_ledger import AGAIN_S, LANDED_S, RayOrder
from deployments.ray_support.serve_status import AppState
from deployments.scaling.tier_policy import (
    DEFAULT,
    Thresholds,
    TierHistory,
    TierTerms,
    choose_tier,
)
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.sections import worker_count

START_S: Final = 60.0
"""Longest start of a deployment of its own; the host serves meanwhile."""

ROUTE_S: Final = 15.0
"""Longest wait until Ray has given an application its prefix."""

UNROUTED_S: Final = 1.0
"""From a prefix given or taken away until the process that answered before may forget the function;
HAProxy has the new routes within 0.3 s, on two busy cores."""

WARM_S: Final = 10.0
"""Longest wait for a host to load a function that is demoted."""

ABSENT_S: Final = 2.0
"""An application that is not seen for so long counts as gone: the host answers meanwhile."""

STRAY_S: Final = 10.0
"""An application that should not be there is deleted after so long: `up` deletes in this time what
it moved to the host.
"""

LOST_S: Final = 150.0
"""The missing application of a function that always has its own is deployed again after so long:
`up` deletes it first and declares the functions last, and waits 120 s for what it deploys."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the placement controller sees of one function at this tick.

    Attributes:
        now: on the controller's clock, seconds.
        wall: seconds since the epoch.
        app: the function's Ray application, if Wakeful deployed it; None if there is none.
        free: free resources of the cluster, by Ray's names.
        is_loaded_in_host: a host has it loaded.
        is_name_taken: another application has its name.
        is_kept: it is to be awake without calls.
        is_to_sleep: it is to sleep as soon as it is idle.
        thresholds: where functions change their tier.
    """

    now: float
    wall: float
    app: AppState | None
    free: Mapping[str, float]
    is_loaded_in_host: bool
    is_name_taken: bool = False
    is_kept: bool = False
    is_to_sleep: bool = False
    thresholds: Thresholds = DEFAULT


def advance(state: FunctionState, seen: Observation) -> RayOrder | None:
    """Moves a function one transition on, and returns the order that this takes, if any."""
    if state.is_always_own:
        return _advance_always_own(state, seen)
    if state.crashes.is_quarantined and state.transition != "deleting":
        return _advance_quarantined(state, seen)
    is_answered_by_own = (
        state.tier == "own"
        if state.transition == "steady"
        else state.transition in ("updating", "loading_in_host")
    )
    if is_answered_by_own and _is_absent(state, seen):
        return None
    match state.transition:
        case "steady" if state.tier == "own":
            return _advance_own(state, seen)
        case "steady":
            return _advance_hosted(state, seen)
        case "starting":
            return _advance_starting(state, seen)
        case "adding_route":
            return _advance_adding_route(state, seen)
        case "updating":
            return _advance_updating(state, seen)
        case "loading_in_host":
            return _advance_loading_in_host(state, seen)
        case "removing_route":
            return _advance_removing_route(state, seen)
        case "deleting":
            return _advance_deleting(state, seen)
    return None


def adopt_deployment(state: FunctionState, seen: Observation) -> RayOrder:
    """Its deployment is from before a restart of the controller, with its prefix or without, its
    replica running or not. It gets both, which changes nothing where it has them."""
    assert seen.app is not None
    runs = seen.app.state == "ready"
    state.record_decision(
        "host → own: its deployment is from before the placement controller restarted", seen.wall
    )
    state.confirm_at = [seen.now + LANDED_S]
    state.enter("adding_route" if runs else "starting", seen.now)
    return RayOrder("deploy", state.name, routed=runs, why=state.decisions[-1].why)


def update_deployment(state: FunctionState, now: float) -> RayOrder:
    """Its deployment takes another version. Ray starts a replica of it next to the one that
    answers, which ends when the new one is ready.
    """
    if state.transition != "updating":  # else the version before that one still answers
        state.previous = state.ordered
    state.enter("updating", now)
    return RayOrder("deploy", state.name, routed=True, why="declared again with a change")


def remove_route(state: FunctionState, why: str, now: float) -> RayOrder:
    """From now on the host answers; the deployment is deleted when HAProxy has forgotten it."""
    state.enter("removing_route", now)
    state.set_tier("host", now)
    return RayOrder("deploy", state.name, routed=False, why=why)


def record_failure(state: FunctionState, message: str, now: float, wall: float) -> RayOrder | None:
    """A transition failed. After a failed promotion the host serves on, and what was deployed is
    deleted.
    """
    if state.transition == "updating":
        return _roll_back(state, message, now, wall)
    if state.transition not in ("starting", "adding_route"):
        state.record_decision(f"{state.transition}: {message}", wall, "refused")
        state.transition_since = now  # the order is given again, ``AGAIN_S`` after this
        return None
    state.failures += 1
    state.failed_at = now
    why = f"stays in the host: its own deployment did not start: {message}"
    state.record_decision(why, wall, "did not start")
    return _return_to_host(state, now)


def _advance_always_own(state: FunctionState, seen: Observation) -> RayOrder | None:
    """`up` makes its deployment; here only a lost one is deployed again."""
    if seen.app is not None or state.crashes.is_quarantined:
        state.mismatch_since = None
        return None if state.crashes.is_quarantined else _confirm(state, seen.now)
    if _mismatch_s(state, seen.now) > LOST_S and not seen.is_name_taken:
        state.mismatch_since = seen.now
        state.record_decision("its deployment was gone, and is deployed again", seen.wall, "gone")
        return RayOrder("deploy", state.name, routed=True, why=state.decisions[-1].why)
    return None


def _advance_quarantined(state: FunctionState, seen: Observation) -> RayOrder | None:
    """No process runs it: its deployment is deleted."""
    if seen.app is not None:
        return _delete(state, seen.now)
    if state.tier == "own" or state.transition != "steady":
        state.enter("steady", seen.now)
        state.set_tier("host", seen.now)
    return None


def _advance_own(state: FunctionState, seen: Observation) -> RayOrder | None:
    """A deployment of its own answers. After a crash it stays there until it is declared again."""
    if state.is_outdated:
        return update_deployment(state, seen.now)
    return _confirm(state, seen.now) or (None if state.crashes else _change_tier(state, seen))


def _confirm(state: FunctionState, now: float) -> RayOrder | None:
    """Orders once more what an older order may have undone."""
    is_due = any(at <= now for at in state.confirm_at)
    state.confirm_at = [at for at in state.confirm_at if at > now]
    if not is_due:
        return None
    return RayOrder("deploy", state.name, routed=True, why="what was ordered is ordered once more")


def _advance_hosted(state: FunctionState, seen: Observation) -> RayOrder | None:
    """The host answers, so it should have no application of its own."""
    if seen.app is not None:
        if seen.app.state == "draining" or _mismatch_s(state, seen.now) <= STRAY_S:
            return None
        state.record_decision(
            "its own deployment exists though the host serves it, and is deleted",
            seen.wall,
            "left over",
        )
        return _delete(state, seen.now)
    state.mismatch_since = None
    if seen.is_name_taken:
        state.record_decision(
            "host: an application of its name is on the cluster that Wakeful did not deploy; "
            "it is left alone",
            seen.wall,
            "name taken",
        )
        return None
    if state.crashes:
        return _promote(state, f"host → own: {state.crashes.last.how}", seen, "promote")
    return _change_tier(state, seen)


def _change_tier(state: FunctionState, seen: Observation) -> RayOrder | None:
    missing = missing_resources(state, seen.free)
    move = choose_tier(
        TierHistory(
            state.tier,
            state.tier_since,
            state.usage.samples,
            seen.now,
            missing,
            state.failures,
            state.failed_at,
        ),
        _tier_terms(state.spec, seen),
    )
    if missing and missing in move.why:
        state.missing_resources = missing
    if move.to == "own":
        return _promote(state, move.why, seen, move.kind)
    if not move.to or state.tier == "host":  # the host itself unloads what falls asleep there
        if move.to or state.missing_resources or state.failures:
            state.record_decision(move.why, seen.wall, move.kind)
        return None
    state.record_decision(move.why, seen.wall, move.kind)
    if move.to == "asleep":
        return remove_route(state, move.why, seen.now)
    state.enter("loading_in_host", seen.now)
    return None


def _tier_terms(spec: FunctionSpec, seen: Observation) -> TierTerms:
    terms = TierTerms.of(spec, worker_count(spec.resources.num_cpus), seen.thresholds)
    if seen.is_kept:  # what is idle goes back to the host, which keeps it
        return replace(terms, downscale_to_zero_delay_s=math.inf)
    return replace(terms, downscale_to_zero_delay_s=0.0) if seen.is_to_sleep else terms


def _promote(state: FunctionState, why: str, seen: Observation, kind: str) -> RayOrder:
    state.record_decision(why, seen.wall, kind)
    state.enter("starting", seen.now)
    return RayOrder("deploy", state.name, why=why)


def _advance_starting(state: FunctionState, seen: Observation) -> RayOrder | None:
    app = seen.app
    is_late = seen.now - state.transition_since > START_S
    if app is not None and app.state == "ready":
        if not state.usage.sequences:
            state.enter("adding_route", seen.now)
            promotions = (
                decision.why
                for decision in reversed(state.decisions)
                if decision.why.startswith("host → own")
            )
            return RayOrder("deploy", state.name, routed=True, why=next(promotions, ""))
        waits = (
            f"{state.usage.sequences} sequences have begun in the host, and would be lost by a move"
        )
        if is_late:
            return record_failure(state, waits, seen.now, seen.wall)
        why = f"host: its own deployment is ready and waits: {waits}"
        state.record_decision(why, seen.wall, "waits")
        return None
    if app is not None and app.state == "failed":
        return record_failure(state, app.message, seen.now, seen.wall)
    if is_late:
        message = app.message if app else "Ray does not know it."
        return record_failure(
            state, f"no replica within {START_S:.0f} s. {message}", seen.now, seen.wall
        )
    return None


def _advance_adding_route(state: FunctionState, seen: Observation) -> RayOrder | None:
    app = seen.app
    if app is not None and app.state == "ready":
        took_s = seen.wall - state.decisions[-1].at
        state.enter("steady", seen.now)
        state.set_tier("own", seen.now)
        state.failures = 0
        state.record_decision(
            f"own: its deployment answers, {took_s:.1f} s after it was decided", seen.wall
        )
        return None
    is_late = seen.now - state.transition_since > ROUTE_S
    if is_late or (app is not None and app.state == "failed"):
        message = app.message if app else "it vanished."
        return record_failure(state, message, seen.now, seen.wall)
    return None


def _advance_updating(state: FunctionState, seen: Observation) -> RayOrder | None:
    app = seen.app
    assert app is not None
    runs = app.state in ("ready", "asleep")
    if runs or app.state == "failed" or seen.now - state.transition_since > START_S:
        if state.is_outdated:  # declared again meanwhile
            state.previous = state.ordered if runs else state.previous
            return update_deployment(state, seen.now)
        if not runs:
            return _roll_back(state, app.message, seen.now, seen.wall)
        state.enter("steady", seen.now)
    return None


def _roll_back(state: FunctionState, message: str, now: float, wall: float) -> RayOrder:
    """The previous version answers, but Ray would not start it again if its process died: it is
    deployed once more. Where it is not known, the host takes over."""
    state.update_error = waiting_reason(message)
    if state.previous is None:
        state.record_decision(
            f"own → host: its new version is not taken: {state.update_error}", wall
        )
        return _return_to_host(state, now)
    state.enter("steady", now)
    state.declaration = state.previous
    state.record_decision(
        f"its new version is not taken, the one before serves on: {state.update_error}", wall
    )
    return RayOrder("deploy", state.name, routed=True, why=state.decisions[-1].why)


def _advance_loading_in_host(state: FunctionState, seen: Observation) -> RayOrder | None:
    if state.usage.sequences:
        why = f"{state.usage.sequences} sequences have begun, and would be lost by a move"
        _stay_own(state, why, seen)
    elif seen.is_loaded_in_host:
        return remove_route(state, state.decisions[-1].why, seen.now)
    elif seen.now - state.transition_since > WARM_S:
        reasons = "; ".join({report.reason for report in state.usage.reports if report.reason})
        end = f": {reasons}" if reasons else "."
        _stay_own(state, f"no host has loaded it within {WARM_S:.0f} s{end}", seen)
    return None


def _stay_own(state: FunctionState, why: str, seen: Observation) -> None:
    state.enter("steady", seen.now)
    state.tier_since = seen.now
    state.record_decision(f"stays own: {why}", seen.wall, "stays own")


def _is_absent(state: FunctionState, seen: Observation) -> bool:
    """Whether Ray does not have the deployment that is to answer; after ``ABSENT_S`` without it the
    host answers.
    """
    if seen.app is not None:
        state.mismatch_since = None
        return False
    if _mismatch_s(state, seen.now) > ABSENT_S:
        state.enter("steady", seen.now)
        state.set_tier("host", seen.now)
        state.mismatch_since = None
        state.record_decision("own → host: its deployment is gone", seen.wall)
    return True


def _advance_removing_route(state: FunctionState, seen: Observation) -> RayOrder | None:
    """Until HAProxy has forgotten it, which begins when Ray has taken the prefix away: with it
    deleted before that, calls go to a replica that is gone.
    """
    if seen.app is None:
        return _advance_deleting(state, seen)
    since_s = seen.now - state.transition_since
    if state.is_order_taken:
        return _delete(state, seen.now) if since_s > UNROUTED_S else None
    if since_s <= AGAIN_S:
        return None
    return remove_route(state, state.decisions[-1].why, seen.now)


def _advance_deleting(state: FunctionState, seen: Observation) -> RayOrder | None:
    """Until Ray has it no more; an order that was lost is given again."""
    if seen.app is None:
        state.enter("steady", seen.now)
        state.tier, state.ordered, state.mismatch_since = "host", None, None
        return None
    if seen.app.state == "draining" or seen.now - state.transition_since <= AGAIN_S:
        return None
    return _delete(state, seen.now)


def _return_to_host(state: FunctionState, now: float) -> RayOrder:
    state.set_tier("host", now)
    return _delete(state, now)


def _delete(state: FunctionState, now: float) -> RayOrder:
    state.enter("deleting", now)
    return RayOrder("delete", state.name)


def _mismatch_s(state: FunctionState, now: float) -> float:
    """For how long Ray's applications have differed from what the function should have."""
    if state.mismatch_since is None:
        state.mismatch_since = now
    return now - state.mismatch_since
