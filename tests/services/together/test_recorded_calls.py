"""Recorded calls on a cluster: of the host, of replicas and by task, in one file a function."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from deployments.loadtest.calls.captures import CapturedCall
from tests.deployments.projects import Standing, wait_until
from tests.services.recorded_calls import calls_of

pytestmark = pytest.mark.ray


def test_calls_of_all_processes_are_in_one_file_in_order(up: Standing) -> None:
    """As they were sent, by the client's own ids; what a function calls is not among them. A
    command begins and ends it where nothing is declared.
    """

    def recorded(name: str) -> list[CapturedCall]:
        return calls_of(up, name)

    with httpx.Client(base_url=up.url, timeout=30) as client:

        def call(name: str, number: int) -> int:
            answer = client.post(
                f"/v2/models/{name}",
                json={"text": str(number), "image": "canary"},
                headers={"x-request-id": f"{name}-{number}"},
            )
            assert answer.status_code == 200, answer.text
            found: int = answer.json()["pid"]
            return found

        begun = up.run("capture", "recorded", "--rate", "1", "--for", "600", "--json")
        assert begun.returncode == 0, begun.stderr
        assert json.loads(begun.stdout)["rate"] == 1
        with ThreadPoolExecutor(8) as pool:
            pids = set(pool.map(lambda number: call("recorded_own", number), range(60)))
        assert len(pids) == 2
        call("recorded_caller", 0)
        answer = client.post("/v1/embeddings", json={"input": "a b", "model": "recorded_task"})
        assert answer.status_code == 200, answer.text

        sent = 0

        def host_records() -> bool:
            nonlocal sent
            call("recorded", sent)  # the host has its orders with its next report
            sent += 1
            return bool(recorded("recorded"))

        wait_until(host_records)
        wait_until(lambda: len(recorded("recorded_own")) == 60)
        wait_until(lambda: recorded("recorded_caller") and recorded("recorded_task") != [])
        own = recorded("recorded_own")
        assert {one.id for one in own} == {f"recorded_own-{number}" for number in range(60)}
        lines = (up.folder / "captures" / "recorded_own.jsonl").read_text().splitlines()
        times = [json.loads(line)["at"] for line in lines[1:]]
        assert times == sorted(times)
        (caller,), (task,) = recorded("recorded_caller"), recorded("recorded_task")
        assert json.loads(caller.body or b"") == {"text": "0", "image": "canary"}
        assert task.path == "/v1/embeddings"
        assert json.loads(task.body or b"") == {"input": "a b", "model": "recorded_task"}
        ended = up.run("capture", "recorded", "--off")
        assert "No call of recorded is recorded" in ended.stdout
        assert "canary" not in (up.folder / "captures" / "recorded.jsonl").read_text()
        assert 'wakeful_captured_calls_total{process="catalogue",function="recorded_own"} 60' in (
            client.get("/metrics").text
        )
