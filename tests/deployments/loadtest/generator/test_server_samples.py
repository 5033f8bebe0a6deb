"""A sample of a server is what its index and its metrics say of a function."""

from __future__ import annotations

from deployments.loadtest.generator.server_samples import read_samples
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


def test_a_sample_of_each_function():
    """Processes are added up, of stages the one with the most batches counts; a function that has
    not been called has nothing.
    """
    index = [
        {"name": "f", "state": "ready", "replicas": 2, "memory_bytes": 100},
        {"name": "g", "state": "asleep", "memory_bytes": 0},
        {"name": "h", "state": "ready"},
    ]
    assert read_samples(3.0, index, METRICS, ["f", "g"]) == [
        ServerSample(3.0, "f", 2, 5, "ready", 2, 9, 70, 2.0, 100),
        ServerSample(3.0, "g", 0, 0, "asleep", 0, 0, 7, 0.0, 0),
    ]
