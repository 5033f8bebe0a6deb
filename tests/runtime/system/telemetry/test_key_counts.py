"""Requests by key: what is counted, and how much of it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.function_metrics import write_metrics
from runtime.system.telemetry.key_counts import MAX_KEYS, OTHER_KEYS, KeyCounts


def test_requests_are_counted_by_class_of_status():
    """A stream of codes must not make as many series."""
    counts = KeyCounts()
    for status in (200, 204, 404, 429, 499, 503):
        counts.record("ops", status)
    counts.record("ci", 200)
    assert sorted(counts.read()) == [
        ("ci", "2xx", 1),
        ("ops", "2xx", 2),
        ("ops", "4xx", 3),
        ("ops", "5xx", 1),
    ]


def test_names_are_bounded():
    """Of more there is one number; those that were there first go on."""
    counts = KeyCounts()
    for number in range(MAX_KEYS + 50):
        counts.record(f"k{number}", 200)
    counts.record("k0", 200)
    found = {one.key: one.requests for one in counts.read()}
    assert len(found) == MAX_KEYS + 1
    assert (found["k0"], found[OTHER_KEYS]) == (2, 50)


def test_they_stand_on_the_page_of_metrics():
    """A name is a label, whatever letters it has."""
    counters = ProcessCounters()
    counters.keys.record('a"b\\c', 200)
    (family,) = [
        one
        for one in text_string_to_metric_families(write_metrics(counters))
        if one.name == "wakeful_key_requests"
    ]
    assert [(one.labels, one.value) for one in family.samples] == [
        ({"key": 'a"b\\c', "code": "2xx"}, 1.0)
    ]
