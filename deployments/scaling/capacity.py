"""What still fits in the cluster, which functions lack replicas and which have more than they need;
shared by the policies of one Serve controller.

Ray is asked in a thread, since its answer takes a call to another process and the controller's loop
must not wait: every ``CALM_S`` while there is traffic, every second while a function lacks
replicas, and not at all otherwise. It is asked machine by machine: two halves of what a replica
needs, free on two machines, hold no replica.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deployments.ray_support.ray_internals import free_by_node
from deployments.scaling.replica_policy import choose_yielding, count_fitting
from runtime.system.cores import usable_cores

CALM_S: Final = 10.0
"""Age at which an answer is renewed while there is traffic: a step up then needs no question first.
"""

PRESSED_S: Final = 1.0
"""Likewise, while a function lacks replicas."""

OLD_S: Final = 30.0
"""An answer older than this is none."""

SILENT_S: Final = 2.0
"""A request that is not repeated for ten ticks of the controller is of a function that is gone."""

LEAVING_S: Final = 10.0
"""A replica that was given up answers what it has before its resources are free; until then no
other function is asked for them.
"""

log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class CapacityRequest:
    """What a function requested last.

    Attributes:
        at: when.
        missing: replicas that it lacks.
        surplus: replicas that it has and does not need.
        surplus_since: since when.
        needs: resources of a replica.
    """

    at: float
    missing: int
    surplus: int
    surplus_since: float
    needs: Mapping[str, float]


class ClusterCapacity:
    """The free resources, and the requests for them.

    Mutable state: ``_free``, the last answer less what was reserved since, and ``_fetched_at``,
    when it came, guarded by ``_lock``. On the controller's loop: ``_requests`` by function,
    ``_leaving`` (when, how many were given up), ``_asked_at`` and ``_thread`` of the last question.

    Args:
        fetch_free: returns what is free, by resource, of each machine of the cluster; may take its
            time, and may fail.
    """

    def __init__(
        self, fetch_free: Callable[[], Sequence[Mapping[str, float]]] = free_by_node
    ) -> None:
        self._fetch_free = fetch_free
        self._lock = threading.Lock()
        self._free: list[dict[str, float]] = []
        self._fetched_at = float("-inf")
        self._requests: dict[str, CapacityRequest] = {}
        self._leaving: list[tuple[float, int]] = []
        self._asked_at = float("-inf")
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        unmet = {
            name: request.missing for name, request in self._requests.items() if request.missing
        }
        return f"<ClusterCapacity {self._free}: unmet {unmet}>"

    def count_fitting(self, needs: Mapping[str, float], now: float) -> int | None:
        """How many replicas with such needs would fit; None when that is not known. Never waits; a
        new answer may be on its way.
        """
        if now - self._asked_at > (PRESSED_S if self._unmet_requests(now) else CALM_S):
            self.refresh()
        with self._lock:
            return (
                None
                if now - self._fetched_at > OLD_S or not needs
                else sum(count_fitting(free, needs) for free in self._free)
            )

    def max_starting(self) -> int:
        """Replicas that may be starting at once: one for each core, where all machines have as
        many. A start is a second of one core, most of it imports: five at once on two cores come
        late all together, two at a time and the first two serve in half that time."""
        with self._lock:
            machines = len(self._free)
        return max(1, machines) * usable_cores()

    def reserve(self, needs: Mapping[str, float], count: int) -> None:
        """So many replicas start: until Ray is asked again, their needs are not free."""
        with self._lock:
            for _ in range(count if self._free else 0):
                roomiest = max(self._free, key=lambda free: count_fitting(free, needs))
                for name, amount in needs.items():
                    roomiest[name] = roomiest.get(name, 0.0) - amount

    def add_leaving(self, count: int, now: float) -> None:
        """So many replicas were reclaimed; their resources are free when they have answered what
        they have.
        """
        self._leaving.append((now, count))

    def set_request(self, name: str, request: CapacityRequest) -> None:
        """What a function lacks, or has and does not need, now."""
        if request.missing or request.surplus:
            self._requests[name] = request
        else:
            self._requests.pop(name, None)

    def count_reclaimed(self, name: str, now: float) -> int:
        """Surplus replicas that a function is to give up for functions that lack some."""
        unmet = self._unmet_requests(now)
        scarce = {resource for request in unmet for resource in request.needs}
        surpluses = [
            (other, request.surplus_since, request.surplus)
            for other, request in self._requests.items()
            if now - request.at <= SILENT_S and scarce & set(request.needs)
        ]
        self._leaving = [(at, count) for at, count in self._leaving if now - at <= LEAVING_S]
        missing = sum(request.missing for request in unmet) - sum(
            count for _, count in self._leaving
        )
        return choose_yielding(surpluses, missing).get(name, 0)

    def refresh(self) -> threading.Thread:
        """Asks again, in a thread; returns that thread, or the one that is still asking."""
        if self._thread is None or not self._thread.is_alive():
            self._asked_at = time.monotonic()
            self._thread = threading.Thread(
                target=self._fetch, name="wakeful-capacity", daemon=True
            )
            self._thread.start()
        return self._thread

    def _unmet_requests(self, now: float) -> list[CapacityRequest]:
        return [
            request
            for request in self._requests.values()
            if request.missing and now - request.at <= SILENT_S
        ]

    def _fetch(self) -> None:
        try:
            free = [dict(node) for node in self._fetch_free()]
        except Exception:
            log.exception(
                "Ray does not say what is free; scaling goes on without knowing what fits."
            )
            return
        with self._lock:
            self._fetched_at, self._free = time.monotonic(), free


CAPACITY: Final = ClusterCapacity()
"""Of this process: Ray makes the policies one by one, and they share nothing else."""
