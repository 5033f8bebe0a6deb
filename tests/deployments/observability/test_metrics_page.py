"""Metrics of several processes as one page."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from deployments.observability.metrics_page import write_metrics_page
from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.metrics import Metrics


class Looked:
    """A process with functions."""

    budget_bytes = 100

    def counts(self) -> dict[str, int]:
        """By state."""
        return {"ready": 1, "asleep": 2}

    def used_bytes(self) -> int:
        """Bytes held."""
        return 10


def test_families_of_the_same_name_are_one_with_a_label_for_the_process():
    """A counter of two processes is one family with two samples, and the page can be read again."""
    processes = {name: Metrics(Looked(), ProcessCounters()) for name in "ab"}
    processes["b"].wakes.labels("ok").inc(3)
    texts = {name: metrics.text().decode() for name, metrics in processes.items()}
    page = write_metrics_page(Looked().counts(), texts).decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert [
        (s.labels["process"], s.value)
        for s in families["wakeful_wakes"].samples
        if s.name.endswith("_total")
    ] == [("b", 3.0)]
    assert {s.labels["process"] for s in families["wakeful_memory_used_bytes"].samples} == {
        "a",
        "b",
    }
    assert {s.labels["state"]: s.value for s in families["wakeful_declared_functions"].samples} == {
        "ready": 1.0,
        "asleep": 2.0,
    }
