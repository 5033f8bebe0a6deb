"""What a replica with a function of its own tells the owner of placement."""

from __future__ import annotations

import os
import time
from typing import Any, Final

import psutil

from deployments.gpus import Assigned
from deployments.seat import Words
from deployments.telemetry import BEATS
from runtime.function import Function
from runtime.metrics import Metrics
from runtime.spec import identity


class Telling:
    """The reports of one replica.

    Args:
        source: the replica's id.
        function: loaded.
        why: the decision that made this deployment; empty where the declaration did.
        began: when its constructor began, seconds since the epoch.
        gpus: that Ray gave the process.

    Mutable state: ``_told``, reports made so far.
    """

    budget_bytes: Final = None
    """What a replica may hold is for Ray to say."""

    def __init__(self, source: str, function: Function, *, why: str, began: float, gpus: Assigned) -> None:
        self._source = source
        self._function = function
        self._why = why
        self._gpus = gpus
        self._version = identity(function.spec)
        took_s = time.time() - began
        self._wake = {"name": function.spec.name, "at": began, "phases": dict(function.load_s), "total_s": took_s}
        self._told = 0
        self._metrics = Metrics(self)
        for phase, seconds in {**function.load_s, "total": took_s}.items():
            self._metrics.wake_s.labels(phase).observe(seconds)
        self._metrics.wakes.labels("ok").inc()

    def words(self, deaths: list[dict[str, Any]]) -> Words:
        """One report, as ``placement`` takes it; every few of them carry the metrics."""
        function = self._function
        self._told += 1
        metrics = {"metrics": self._metrics.text().decode()} if self._told % BEATS == 1 else {}
        return {
            "kind": "own",
            "id": self._source,
            "pid": os.getpid(),
            "function": function.spec.name,
            "why": self._why,
            "version": self._version,
            "state": "ready",
            "reason": function.origin.astray,
            "deaths": deaths,
            "device": function.running.words(),
            "gpus": list(self._gpus.ids),
            "node": self._gpus.node,
            "in_flight": function.in_flight,
            "waiting_rows": function.waiting,
            "calls": function.calls,
            "busy_s": function.busy_s,
            "sequences": function.sequences,
            "idle_s": 0.0 if function.in_flight or function.sequences else time.monotonic() - function.last_used,
            "memory_bytes": self.used_bytes(),
            "last_wake": self._wake,
            **metrics,
        }

    def counts(self) -> dict[str, int]:
        """For its metrics: one function, loaded."""
        return {"ready": 1}

    def used_bytes(self) -> int:
        """Resident memory of the process."""
        size: int = psutil.Process().memory_info().rss
        return size
