"""The autoscaling policies that Serve's controller asks at every tick, through Ray's public
interface: ``ServePolicy`` of each function, by ``deployments.scaling.replica_policy``, and
``HostPerNodePolicy`` of the shared hosts.

Calls do not pass through Ray Serve's request handling (``ingress/middleware``), so replicas count
for themselves (``Replica.record_autoscaling_stats``) and Ray carries the numbers here. The delays
are the policy's, Ray's own are set to nothing; Ray applies the limits once more, and wakes a
function at zero before it asks.

A policy object belongs to one deployment, and all of them live in the controller, whose loop they
must not hold up: what fits in the cluster (``capacity``) and the machines that there are are asked
for in threads, and decisions go to a file (``observability.logs``).

Ray pickles this module by value, once for each deployment: what policies share must be reached
through another module (``capacity.CAPACITY``).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from ray.serve.config import AutoscalingContext

from deployments.ingress import residency_signal
from deployments.ingress.wake_signal import ReplayTerms, WakeSignal
from deployments.observability.logs import DecisionLog
from deployments.ray_support.ray_internals import alive_nodes
from deployments.scaling import capacity
from deployments.scaling.capacity import CapacityRequest
from deployments.scaling.demand import LoadSample, ScalingLimits, WorkCounter, work_window_s
from deployments.scaling.replica_policy import ReplicaDecision, ReplicaState, wanted_replicas
from runtime.declaration.awake_hours import is_awake

CALLS_IN_FLIGHT: Final = "calls_in_flight"
WAITING_ROWS: Final = "waiting_rows"
BUSY_S: Final = "busy_s"
CALLS: Final = "calls"
ROW_S: Final = "row_s"
SEQUENCES: Final = "sequences"
RECORDED: Final = (CALLS_IN_FLIGHT, WAITING_ROWS, BUSY_S, CALLS, ROW_S, SEQUENCES)
"""What each replica records (``Replica.record_autoscaling_stats``): ``busy_s`` and ``calls`` only
grow, the others are of the moment.
"""

LEAVING_S: Final = 2.0
"""A replica that ends answers for a second or two more, through earlier processes of HAProxy, and
its numbers do not come any more.
"""


class StampedMetrics(Protocol):
    """One recorded number, as Ray carries it; ``timestamp`` is of the replica's wall clock."""

    timestamp: float
    value: float


RecordedMetrics = Mapping[str, Mapping[Any, Sequence[StampedMetrics]]]
"""Numbers by name and by replica, oldest first."""


class ServePolicy:
    """What ``autoscaling_config`` names; made by Ray, once for each version of a deployment.

    Args:
        limits: ``demand.declared_limits``; the least and the most replicas come from Ray with each
            question.
        needs: what a replica takes, by Ray's names of resources.
        prefix: of the function's calls; while it has no replica they signal that it is to wake.
        terms: fields of ``deployments.ingress.wake_signal.ReplayTerms``: how long they may wait for
            one, and how many.
        awake: hours within which it has a replica (``runtime.declaration.awake_hours``), or None.

    Mutable state: ``_state`` of ``replica_policy``, ``_work`` (what each replica has done so far),
    ``_ended_at`` (when one ended last), ``_decided`` (replicas; more than Ray knows while they
    start one after another), ``_missing`` (replicas at the last decision).
    """

    def __init__(
        self,
        limits: Mapping[str, Any],
        needs: Mapping[str, float],
        prefix: str = "",
        terms: Mapping[str, Any] | None = None,
        awake: str | None = None,
    ) -> None:
        self._limits = dict(limits)
        self._awake = awake
        self._needs = needs
        self._state: ReplicaState | None = None
        self._work: dict[Any, WorkCounter] = {}
        self._ended_at = float("-inf")
        self._decided = 0
        self._missing = 0
        self._decisions = DecisionLog.of_this_cluster()
        self._signal = WakeSignal(prefix, None if terms is None else ReplayTerms(**terms))

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """The number of replicas from now on, and no state for Ray to keep."""
        name, now = context.app_name or context.deployment_name, time.monotonic()
        current = max(self._decided, context.target_num_replicas)
        is_kept = residency_signal.is_pinned(name) or is_awake(self._awake, time.time())
        limits = ScalingLimits(
            max(context.capacity_adjusted_min_replicas, int(is_kept)),
            context.capacity_adjusted_max_replicas,
            **self._limits,
        )
        queued = max(
            context.total_queued_requests or 0.0,
            float(self._signal.was_signalled() and not current),
        )
        sample = self._take_sample(context.raw_metrics or {}, queued, limits, now)
        if not sample.in_flight and residency_signal.is_to_sleep(name):
            limits = replace(limits, downscale_to_zero_delay_s=0.0)
        fits = capacity.CAPACITY.count_fitting(self._needs, now) if sample.in_flight else None
        reclaim = capacity.CAPACITY.count_reclaimed(name, now)
        decision = wanted_replicas(
            sample, current, limits, self._state, now, fits=fits, reclaim=reclaim
        )
        self._state = decision.state
        capacity.CAPACITY.set_request(
            name,
            CapacityRequest(
                now,
                decision.missing,
                decision.surplus,
                decision.state.surplus_since or now,
                self._needs,
            ),
        )
        if decision.replicas > current:
            capacity.CAPACITY.reserve(self._needs, decision.replicas - current)
        elif decision.replicas < current and reclaim:
            capacity.CAPACITY.add_leaving(current - decision.replicas, now)
        self._write(name, current, decision)
        self._decided = decision.replicas
        may_run = context.current_num_replicas + capacity.CAPACITY.max_starting()
        return min(decision.replicas, max(context.target_num_replicas, may_run)), {}

    def _take_sample(
        self, recorded: RecordedMetrics, queued: float, limits: ScalingLimits, now: float
    ) -> LoadSample:
        """The latest numbers of all replicas, summed; ``queued`` calls wait for a replica."""
        latest = {
            name: {
                replica: series[-1] for replica, series in recorded.get(name, {}).items() if series
            }
            for name in RECORDED
        }
        rows_s = [point.value for point in latest[ROW_S].values() if point.value > 0]
        row_s = sum(rows_s) / len(rows_s) if rows_s else 0.0
        before, window_s = self._work, work_window_s(limits, row_s)
        self._work = {
            replica: before.get(replica, WorkCounter()).after(
                point.timestamp, point.value, latest[CALLS][replica].value, window_s
            )
            for replica, point in latest[BUSY_S].items()
        }
        if before.keys() - self._work.keys():
            self._ended_at = now
        return LoadSample(
            at=now,
            in_flight=sum(point.value for point in latest[CALLS_IN_FLIGHT].values()) + queued,
            waiting_rows=sum(point.value for point in latest[WAITING_ROWS].values()),
            work=sum(min(done.work, limits.workers) for done in self._work.values()),
            row_s=row_s,
            sequences=int(sum(point.value for point in latest[SEQUENCES].values())),
            is_used=any(
                done.calls > before.get(replica, WorkCounter()).calls
                for replica, done in self._work.items()
            ),
            is_settled=now - self._ended_at > window_s + LEAVING_S,
        )

    def _write(self, name: str, current: int, decision: ReplicaDecision) -> None:
        """Logs every change, and missing replicas when they are more than before."""
        if decision.replicas != current or decision.missing > self._missing:
            self._decisions.write(
                name,
                decision.why,
                replicas=decision.replicas,
                before=current,
                missing=decision.missing,
            )
        self._missing = decision.missing


COUNT_S: Final = 1.0
"""Age of a count that is renewed."""

MAX_HOSTS: Final = 1024
"""Ray wants a number."""

log = logging.getLogger("ray.serve")


class HostPerNodePolicy:
    """A shared host on each machine: as many as there are machines, as they join and are lost.
    ``autoscaling_config`` of the host names it; made by Ray.

    Args:
        hosts_per_node: hosts on each machine.
        cpus: a machine with fewer CPUs in all gets no host.
        nodes: the machines, as ``ray.nodes`` describes them; may take its time, and may fail.

    Mutable state: ``_machines`` (the last count, 0 before the first), ``_counted_at`` and
    ``_thread`` of the last count.
    """

    def __init__(
        self,
        hosts_per_node: int,
        cpus: float,
        nodes: Callable[[], Sequence[Mapping[str, Any]]] = alive_nodes,
    ) -> None:
        self._hosts_per_node = hosts_per_node
        self._cpus = cpus
        self._nodes = nodes
        self._machines = 0
        self._counted_at = float("-inf")
        self._thread: threading.Thread | None = None

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """The number of hosts from now on, and no state for Ray to keep."""
        if time.monotonic() - self._counted_at > COUNT_S and (
            self._thread is None or not self._thread.is_alive()
        ):
            self._counted_at = time.monotonic()
            self._thread = threading.Thread(
                target=self._count, name="wakeful-machines", daemon=True
            )
            self._thread.start()
        return (self._machines * self._hosts_per_node or context.target_num_replicas), {}

    def _count(self) -> None:
        try:
            self._machines = count_machines(self._nodes(), self._cpus)
        except Exception:
            log.exception("Ray does not say which machines there are; hosts stay as they are.")


def count_machines(nodes: Sequence[Mapping[str, Any]], cpus: float) -> int:
    """Machines that are alive and have so many CPUs in all; at least one."""
    able = [node for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0.0) >= cpus]
    return max(1, len(able))
