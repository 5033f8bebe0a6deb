"""A sample of a server is what its index and its metrics say of a function."""

from __future__ import annotations

import json

import httpx
import pytest

from deployments.loadtest.generator.server_samples import ServerWatch, count, read_samples
from deployments.loadtest.results.records import ServerSample

METRICS = """\
# HELP wakeful_rows_total Rows.
# TYPE wakeful_rows_total counter
wakeful_rows_total{function="f"} 70
wakeful_rows_total{function="g"} 7
wakeful_batch_rows_bucket{function="f",stage="a",le="1"} 3
wakeful_batch_rows_count{function="f",stage="a"} 9
wakeful_batch_rows_count{function="f",stage="b"} 4
wakeful_worker_seconds_total{function="f"} 1.5
wakeful_worker_seconds_total{function="f",replica="2"} 0.5
wakeful_function_wakes_total{function="f"} 2
wakeful_rows_waiting{function="f"} 5
wakeful_queue_seconds_sum{function="f"} 9
"""

FIRST = """\
wakeful_rows_total{function="f"} 50
wakeful_rows_total{function="g"} 7
wakeful_batch_rows_count{function="f",stage="a"} 5
wakeful_batch_rows_count{function="f",stage="b"} 4
wakeful_worker_seconds_total{function="f"} 1.0
wakeful_function_wakes_total{function="f"} 1
"""
"""The same a little earlier."""


def test_a_sample_of_each_function():
    """Counters since the first look; processes are added up, of stages the one with the most
    batches counts; a function that has not been called has nothing.
    """
    index = [
        {"name": "f", "state": "ready", "replicas": 2, "memory_bytes": 100},
        {"name": "g", "state": "asleep", "memory_bytes": 0},
        {"name": "h", "state": "ready"},
    ]
    counted = count(METRICS, count(FIRST, None))
    assert read_samples(3.0, index, counted, ["f", "g"]) == [
        ServerSample(3.0, "f", 2, 5, "ready", 1, 4, 20, 1.0, 100),
        ServerSample(3.0, "g", 0, 0, "asleep", 0, 0, 0, 0.0, 0),
    ]


def wakes(*pages: dict[str, int]) -> list[int]:
    """What is counted after each page, of wakes by process."""
    counted, found = None, []
    for page in pages:
        lines = (
            f'wakeful_function_wakes_total{{function="f",process="{process}"}} {value}\n'
            for process, value in page.items()
        )
        counted = count("".join(lines), counted)
        found.append(read_samples(0.0, [{"name": "f", "state": "ready"}], counted, ["f"])[0].wakes)
    return found


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ([{"a": 7}, {"a": 9}], [0, 2]),
        ([{"a": 10, "b": 10, "c": 10}, {"a": 10, "b": 11}, {"a": 11, "b": 11}], [0, 1, 2]),
        ([{"a": 10}, {"a": 2}, {"a": 3}], [0, 2, 3]),
        ([{"a": 10}, {"a": 10, "b": 1}], [0, 1]),
        ([{"a": 3}, {}, {"a": 4}], [0, 0, 1]),
    ],
    ids=["rises", "one ends", "begins again", "a new one", "not asked once"],
)
def test_a_counter_of_processes_that_come_and_go(pages: list[dict[str, int]], expected: list[int]):
    """Rises by what each did: a sum that falls since one has ended is no count that began again."""
    assert wakes(*pages) == expected


GOOD = {"name": "f", "state": "ready", "replicas": 1, "memory_bytes": 9}


@pytest.mark.parametrize(
    ("index", "metrics", "samples"),
    [
        ({"functions": [GOOD]}, METRICS, 1),
        ({"functions": [{**GOOD, "replicas": "2"}]}, METRICS, 0),
        ({"functions": [{**GOOD, "replicas": -1}]}, METRICS, 0),
        ({"functions": [{**GOOD, "memory_bytes": 1e300}]}, METRICS, 0),
        ({"functions": [{**GOOD, "state": ["ready"]}]}, METRICS, 0),
        ({"functions": ["f"]}, METRICS, 0),
        ([], METRICS, 0),
        ({"functions": [GOOD]}, 'wakeful_rows_total{function="f"} +Inf\n', 1),
        ({"functions": [GOOD]}, 'wakeful_rows_waiting{function="f"} NaN\n', 1),
        ({"functions": [GOOD]}, 'wakeful_worker_seconds_total{function="f"} 1e300\n', 1),
    ],
)
def test_a_server_that_says_what_cannot_be_says_nothing(index, metrics, samples):
    """What a load test asks it meanwhile is no number of it, and ends no load."""

    def answer(request):
        return httpx.Response(200, text=json.dumps(index) if request.url.path == "/" else metrics)

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://x") as client:
        watch = ServerWatch(client, ["f"])
        found = [*watch.sample(0.0), *watch.sample(1.0)]
    assert len(found) == 2 * samples
    for sample in found:
        numbers = [value for value in sample if isinstance(value, int | float)]
        assert all(0 <= value <= 1e15 for value in numbers)
