"""Calls of several processes of a cluster, on one page of metrics and in one access log."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.deployments.projects import HOST, Standing, function, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_calls_of_a_replica_and_of_the_host_are_seen_in_one_place(standing: Standing) -> None:
    """Each is counted once, in the process that computed it, and has a line in the file."""
    with standing.served(*HOST, function("seen_own"), function("seen_rare", least=0)) as client:

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
        assert client.get("/v2/models/seen_nowhere").status_code == 404
        page = client.get("/metrics").text
        (refused,) = re.findall(
            r'haproxy_frontend_http_responses_total\{process="haproxy",proxy="http_frontend",'
            r'code="4xx"\} (\d+)',
            page,
        )
        assert int(refused) >= 1
        assert [counts[name, str(status)] for name, status, _ in called] == [1, 1, 1]
        assert len({processes[name] for name, _, _ in called}) == 2
        lines: dict[str, dict[str, Any]] = {}

        def are_logged() -> bool:
            text = (standing.folder / "access.log").read_text()
            for line in map(json.loads, text.splitlines()):
                lines[line["id"]] = line
            return {request_id for _, _, request_id in called} <= lines.keys()

        wait_until(are_logged)
        for name, status, request_id in called:
            line = lines[request_id]
            assert (line["function"], line["status"]) == (name, status)
            assert line["replica"] == processes[name]
        assert lines[called[2][2]]["wake_ms"] > 0
