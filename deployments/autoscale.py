"""Scaling by our own policy, through Ray's public interface for one: Ray asks at every tick of its controller, ``runtime.scaling`` answers.

Calls do not pass through Ray Serve's request handling (``edge``), so replicas count for themselves (``Replica.record_autoscaling_stats``)
and Ray carries the numbers here. The delays are the policy's, Ray's own are set to nothing; Ray applies the bounds once more, and wakes
a function at zero before it asks.

A policy object belongs to one deployment, and all of them live in the controller, whose loop they must not hold up: what fits in the
cluster is asked for in a thread (``room``), and decisions go to a file (``decisions``).

Ray pickles this module by value, once for each deployment: what policies share must be reached through another module (``room.ROOM``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from ray.serve.config import AutoscalingContext

from deployments import room
from deployments.bell import Bell
from deployments.decisions import Decisions
from deployments.room import Claim
from runtime.demand import Bounds, Done, Look, work_window_s
from runtime.scaling import Decision, State, wanted

CALLS_IN_FLIGHT: Final = "calls_in_flight"
WAITING_ROWS: Final = "waiting_rows"
BUSY_S: Final = "busy_s"
CALLS: Final = "calls"
ROW_S: Final = "row_s"
SEQUENCES: Final = "sequences"
RECORDED: Final = (CALLS_IN_FLIGHT, WAITING_ROWS, BUSY_S, CALLS, ROW_S, SEQUENCES)

"""What each replica records (``Replica.record_autoscaling_stats``): ``busy_s`` and ``calls`` only grow, the others are of the moment."""

LEAVING_S: Final = 2.0
"""A replica that ends answers for a second or two more, through HAProxy's processes of before, and nobody counts that."""


class Stamped(Protocol):
    """One recorded number, as Ray carries it; ``timestamp`` is of the replica's wall clock."""

    timestamp: float
    value: float


Recorded = Mapping[str, Mapping[Any, Sequence[Stamped]]]
"""Numbers by name and by replica, oldest first."""


class Policy:
    """What ``autoscaling_config`` names; made by Ray, once for each version of a deployment.

    Args:
        bounds: fields of ``runtime.demand.Bounds``; the least and the most replicas come from Ray with each question.
        needs: what a replica takes, by Ray's names of resources.
        prefix: of the function's calls, which ring for it while it has no replica.
        timeout_s: how long they may wait for one.
        name: the application's, by which the bell is taken down when it is deleted.

    Mutable state: what ``scaling`` remembers, what each replica has done so far, when one ended last, how many replicas are decided
    (more than Ray knows of while they start one after another), and how many were missing last.
    """

    def __init__(
        self, bounds: Mapping[str, Any], needs: Mapping[str, float], prefix: str = "", timeout_s: float = 0.0, name: str = ""
    ) -> None:
        self._declared = dict(bounds)
        self._needs = needs
        self._state: State | None = None
        self._done: dict[Any, Done] = {}
        self._ended_at = float("-inf")
        self._decided = 0
        self._missing = 0
        self._decisions = Decisions.of_this_cluster()
        self._bell = Bell(prefix, timeout_s, name)

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """Replicas from now on; nothing is kept by Ray."""
        name, now = context.app_name or context.deployment_name, time.monotonic()
        current = max(self._decided, context.target_num_replicas)
        bounds = Bounds(context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas, **self._declared)
        queued = max(context.total_queued_requests or 0.0, float(self._bell.rang() and not current))
        look = self._look(context.raw_metrics or {}, queued, bounds, now)
        fits = room.ROOM.fits(self._needs, now) if look.in_flight else None
        asked = room.ROOM.asked(name, now)
        decision = wanted(look, current, bounds, self._state, now, fits=fits, asked=asked)
        self._state = decision.state
        room.ROOM.tell(name, Claim(now, decision.missing, decision.spare, decision.state.spare_at or now, self._needs))
        if decision.replicas > current:
            room.ROOM.take(self._needs, decision.replicas - current)
        elif decision.replicas < current and asked:
            room.ROOM.give(current - decision.replicas, now)
        self._write(name, current, decision)
        self._decided = decision.replicas
        return min(decision.replicas, max(context.target_num_replicas, context.current_num_replicas + room.ROOM.starts())), {}

    def _look(self, recorded: Recorded, queued: float, bounds: Bounds, now: float) -> Look:
        """The latest numbers of all replicas, summed; ``queued`` calls wait for a replica."""
        latest = {name: {replica: series[-1] for replica, series in recorded.get(name, {}).items() if series} for name in RECORDED}
        rows_s = [point.value for point in latest[ROW_S].values() if point.value > 0]
        row_s = sum(rows_s) / len(rows_s) if rows_s else 0.0
        before, window_s = self._done, work_window_s(bounds, row_s)
        self._done = {
            replica: before.get(replica, Done()).after(point.timestamp, point.value, latest[CALLS][replica].value, window_s)
            for replica, point in latest[BUSY_S].items()
        }
        if before.keys() - self._done.keys():
            self._ended_at = now
        return Look(
            at=now,
            in_flight=sum(point.value for point in latest[CALLS_IN_FLIGHT].values()) + queued,
            waiting_rows=sum(point.value for point in latest[WAITING_ROWS].values()),
            work=sum(min(done.work, bounds.workers) for done in self._done.values()),
            row_s=row_s,
            sequences=int(sum(point.value for point in latest[SEQUENCES].values())),
            is_used=any(done.calls > before.get(replica, Done()).calls for replica, done in self._done.items()),
            is_settled=now - self._ended_at > window_s + LEAVING_S,
        )

    def _write(self, name: str, current: int, decision: Decision) -> None:
        """Every change, and a lack of room when it is new."""
        if decision.replicas != current or decision.missing > self._missing:
            self._decisions.write(name, decision.why, replicas=decision.replicas, before=current, missing=decision.missing)
        self._missing = decision.missing
