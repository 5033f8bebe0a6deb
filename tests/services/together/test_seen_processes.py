"""Calls of several processes of a cluster, on one page of metrics, in one access log and in Triton's
statistics.
"""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.deployments.projects import Standing, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_calls_of_a_replica_and_of_the_host_are_seen_in_one_place(
    up: Standing, client: httpx.Client
) -> None:
    """Each is counted once, in the process that computed it, and has a line in the file."""

    def call(name: str, body: dict[str, Any]) -> tuple[int, str]:
        answer = client.post(f"/v2/models/{name}", json=body)
        return answer.status_code, answer.headers["x-request-id"]

    called = [
        ("seen_own", *call("seen_own", {"name": "a"})),
        ("seen_own", *call("seen_own", {"name": 1})),
        ("seen_rare", *call("seen_rare", {"name": "a"})),
    ]
    assert [status for _, status, _ in called] == [200, 400, 200]
    counts: dict[tuple[str, str], float] = {}
    processes: dict[str, str] = {}

    def are_counted() -> bool:
        for family in text_string_to_metric_families(client.get("/metrics").text):
            for sample in family.samples:
                if sample.name == "wakeful_requests_total":
                    name = sample.labels["function"]
                    counts[name, sample.labels["code"]] = sample.value
                    processes[name] = sample.labels["process"]
        return {(name, str(status)) for name, status, _ in called} <= counts.keys()

    wait_until(are_counted)

    def is_refusal_counted() -> bool:
        """By the HAProxy that tells; an older one may have the client's connection still."""
        assert client.get("/v2/models/seen_nowhere").status_code == 404
        (refused,) = re.findall(
            r'haproxy_frontend_http_responses_total\{process="haproxy",proxy="http_frontend",'
            r'code="4xx"\} (\d+)',
            client.get("/metrics").text,
        )
        return int(refused) >= 1

    wait_until(is_refusal_counted)
    assert [counts[name, str(status)] for name, status, _ in called] == [1, 1, 1]
    assert len({processes[name] for name, _, _ in called}) == 2
    lines: dict[str, dict[str, Any]] = {}

    def are_logged() -> bool:
        text = (up.folder / "access.log").read_text()
        for line in map(json.loads, text.splitlines()):
            lines[line["id"]] = line
        return {request_id for _, _, request_id in called} <= lines.keys()

    wait_until(are_logged)
    for name, status, request_id in called:
        line = lines[request_id]
        assert (line["function"], line["status"]) == (name, status)
        assert line["replica"] == processes[name]
    assert lines[called[2][2]]["wake_ms"] > 0


def test_statistics_are_those_of_all_processes(client: httpx.Client) -> None:
    """Of a replica, of the host, and of all from either; of a model too that lay elsewhere, whose
    digest only the lock has.
    """
    for name, count in (("counted_own", 3), ("counted_rare", 2)):
        for _ in range(count):
            client.post(f"/v2/models/{name}", json={"name": "a"}).raise_for_status()
    assert client.post("/v2/models/counted_own", json={"name": 1}).status_code == 400
    row = client.post("/v2/models/counted_model", json={"x": [1, 2, 3]})
    assert row.json() == {"y": [2, 4, 6]}

    def read(path: str) -> dict[str, Any]:
        answer = client.get(f"/v2/models/{path}")
        assert answer.status_code == 200, answer.text
        return {one["name"]: one for one in answer.json()["model_stats"]}

    (found,) = read("counted_own/versions/1/stats").values()
    parts = found["inference_stats"]
    assert (parts["success"]["count"], parts["fail"]["count"]) == (3, 1)
    assert read("counted_rare/stats")["counted_rare"]["inference_count"] == 2
    wait_until(
        lambda: (
            {
                name: one["inference_stats"]["success"]["count"]
                for name, one in read("stats").items()
                if name.startswith("counted")
            }
            == {"counted_own": 3, "counted_rare": 2, "counted_model": 1}
        )
    )
    config = client.get("/v2/models/counted_model/config").json()
    assert (config["platform"], config["input"][0]["dims"]) == ("onnxruntime_onnx", [3])
    assert client.get("/v2/models/counted_own/config").json()["backend"] == "python"
