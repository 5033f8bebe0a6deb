"""Numbers of one process for Prometheus: of its memory and its wakes, and by function
(``function_metrics``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.function_metrics import MAX_DETAILED, write_metrics

CONTENT_TYPE = CONTENT_TYPE_LATEST

_WAKE_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.06, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds; close together around a tenth of a second, where a small model wakes."""


class MetricsSource(Protocol):
    """The source of gauges at the moment of a scrape: counts of functions by state, and bytes."""

    def counts(self) -> dict[str, int]: ...
    def used_bytes(self) -> int: ...
    @property
    def budget_bytes(self) -> int | None: ...


class Metrics:
    """The metrics of a library, in a registry of their own: two libraries in one process do not
    meet.

    Args:
        looked: asked at each scrape.
        counters: of its functions.
        max_detailed: as of ``write_metrics``.

    Attributes:
        wake_s: seconds of a cold start by ``phase``, and ``total``.
        wakes: cold starts by ``outcome``: ok, failed, no_room.
        unloads: by ``reason``: idle, room, released, changed, quarantined, broken, closed.
    """

    def __init__(
        self,
        looked: MetricsSource,
        counters: ProcessCounters,
        max_detailed: int = MAX_DETAILED,
    ) -> None:
        self._counters = counters
        self._max_detailed = max_detailed
        self.registry = CollectorRegistry()
        self.wake_s = Histogram(
            "wakeful_cold_start_seconds",
            "Seconds of a cold start, by `phase`: each phase, and `total`.",
            ["phase"],
            buckets=_WAKE_BUCKETS,
            registry=self.registry,
        )
        self.wakes = Counter(
            "wakeful_wakes",
            "Cold starts by `outcome`: ok, failed, no_room.",
            ["outcome"],
            registry=self.registry,
        )
        self.unloads = Counter(
            "wakeful_unloads",
            "Functions unloaded, by `reason`: idle, room, released, changed, quarantined, broken,"
            " closed.",
            ["reason"],
            registry=self.registry,
        )
        self.registry.register(_Present(looked))
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        """Everything in Prometheus' text form, of type ``CONTENT_TYPE``."""
        by_function = write_metrics(self._counters, self._max_detailed)
        return generate_latest(self.registry) + by_function.encode()


class _Present:
    """Gauges that are read at the moment of a scrape, and cost nothing until then."""

    def __init__(self, looked: MetricsSource) -> None:
        self._looked = looked

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks a collector."""
        functions = GaugeMetricFamily(
            "wakeful_functions",
            "Declared functions by `state`: asleep, waking, ready, draining, failed.",
            labels=["state"],
        )
        for state, count in self._looked.counts().items():
            functions.add_metric([state], count)
        yield functions
        yield GaugeMetricFamily(
            "wakeful_memory_used_bytes",
            "Bytes of memory that loaded functions hold; pages of mapped files are not among them.",
            value=self._looked.used_bytes(),
        )
        if self._looked.budget_bytes is not None:
            yield GaugeMetricFamily(
                "wakeful_memory_budget_bytes",
                "Bytes of memory that they may hold.",
                value=self._looked.budget_bytes,
            )
