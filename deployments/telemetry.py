"""The metrics of all processes as one page: each sends its own with its reports, and the catalogue adds whose they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

BEATS: Final = 5
"""Reports carry metrics every so many beats: nobody scrapes more often than each five seconds."""

PROCESS: Final = "process"
"""The label that says whose a number is: the id of a replica. Ray draws a new one for each, so the values are as many as processes."""


class Counted(Protocol):
    """Who knows every declared function."""

    def counts(self) -> dict[str, int]: ...


class Telemetry(Collector):
    """What processes sent last.

    Mutable state: ``texts`` (Prometheus' text form by process) is replaced by its owner.
    """

    def __init__(self, counted: Counted) -> None:
        self.texts: Mapping[str, str] = {}
        self._counted = counted
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """One page of all."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks a collector: families of the same name are one, their samples told apart by ``process``."""
        functions = GaugeMetricFamily(
            "wakeful_declared_functions", "Declared functions by `state`, on the whole cluster.", labels=["state"]
        )
        for state, count in sorted(self._counted.counts().items()):
            functions.add_metric([state], count)
        yield functions
        merged: dict[str, Metric] = {}
        for process, text in self.texts.items():
            for family in text_string_to_metric_families(text):
                into = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    into.samples.append(sample._replace(labels={**sample.labels, PROCESS: process}))
        yield from merged.values()
