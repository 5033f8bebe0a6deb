"""Recorded calls on a cluster: of the host, of replicas and by task, in one file a function."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from deployments.loadtest.calls.captures import CapturedCall, read_capture
from deployments.ray_support import processes
from runtime.errors import DeclarationError
from tests.deployments.projects import Standing, wait_until

pytestmark = pytest.mark.ray

STAGES = """\
import os
from typing import Annotated, TypedDict
import numpy as np
from numpy.typing import NDArray
from wakeful import Rows, Shape

class Said(TypedDict):
    said: str
    pid: int

def say(text: str, image: str = "") -> Said:
    return {"said": text, "pid": os.getpid()}

class Embedded(TypedDict):
    embedding: Rows[Annotated[NDArray[np.float32], Shape(2)]]

def embed(text: Rows[str]) -> Embedded:
    return {"embedding": [np.zeros(2, np.float32) for _ in text]}
"""

FILE = """\
  - {name: recorded, args: {graph: [{stage: s, python: "recorded_of_a_test:say"}], capture: {omit: [image]}}}
  - name: recorded_own
    args:
      graph: [{stage: s, python: "recorded_of_a_test:say"}]
      autoscaling: {min_replicas: 2, max_replicas: 2}
      capture: {rate: 1}
  - {name: recorded_caller, args: {graph: [{stage: s, function: recorded_own}], capture: {rate: 1}}}
  - name: recorded_task
    args:
      task: embedding
      graph: [{stage: s, python: "recorded_of_a_test:embed"}]
      capture: {rate: 1}
"""


def calls_of(standing: Standing, name: str) -> list[CapturedCall]:
    """What is recorded until now; none, too, of a file that has just begun."""
    with contextlib.suppress(DeclarationError):
        return list(read_capture(standing.folder / "captures" / f"{name}.jsonl").calls)
    return []


def test_calls_of_all_processes_are_in_one_file_in_order(standing: Standing) -> None:
    """As they were sent, by the client's own ids; what a function calls is not among them. A
    command begins and ends it where nothing is declared.
    """
    (standing.folder / "recorded_of_a_test.py").write_text(STAGES)

    def recorded(name: str) -> list[CapturedCall]:
        return calls_of(standing, name)

    with standing.served(FILE) as client:

        def call(name: str, number: int) -> int:
            answer = client.post(
                f"/v2/models/{name}",
                json={"text": str(number), "image": "canary"},
                headers={"x-request-id": f"{name}-{number}"},
            )
            assert answer.status_code == 200, answer.text
            found: int = answer.json()["pid"]
            return found

        begun = standing.run("capture", "recorded", "--rate", "1", "--for", "600", "--json")
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
        lines = (standing.folder / "captures" / "recorded_own.jsonl").read_text().splitlines()
        times = [json.loads(line)["at"] for line in lines[1:]]
        assert times == sorted(times)
        (caller,), (task,) = recorded("recorded_caller"), recorded("recorded_task")
        assert json.loads(caller.body or b"") == {"text": "0", "image": "canary"}
        assert task.path == "/v1/embeddings"
        assert json.loads(task.body or b"") == {"input": "a b", "model": "recorded_task"}
        ended = standing.run("capture", "recorded", "--off")
        assert "No call of recorded is recorded" in ended.stdout
        assert "canary" not in (standing.folder / "captures" / "recorded.jsonl").read_text()
        assert 'wakeful_captured_calls_total{process="catalogue",function="recorded_own"} 60' in (
            client.get("/metrics").text
        )


ORDERED = """\
  - {name: recorded_on, args: {graph: [{stage: s, python: "recorded_of_a_test:say"}]}}
"""


@pytest.mark.full
def test_what_an_operator_has_ordered_goes_on_when_the_catalogue_dies(standing: Standing) -> None:
    """Calls that come until another one is there are recorded too, and the order has its time."""
    (standing.folder / "recorded_of_a_test.py").write_text(STAGES)
    sent: list[str] = []

    def recorded() -> set[str]:
        return {one.id for one in calls_of(standing, "recorded_on")}

    with standing.served(ORDERED) as client:
        path = "/v2/repository/models/recorded_on/capture"

        def call() -> None:
            sent.append(f"on-{len(sent)}")
            headers = {"x-request-id": sent[-1]}
            answer = client.post("/v2/models/recorded_on", json={"text": "a"}, headers=headers)
            assert answer.status_code == 200, answer.text

        def begins() -> bool:
            call()  # the host has its orders with its next report
            return bool(recorded())

        def is_back() -> bool:
            try:
                answer = client.get(path)
            except httpx.TransportError:
                return False
            return answer.status_code == 200 and answer.json()["until"] == begun["until"]

        begun = client.post(path, json={"rate": 1, "for_s": 600}).raise_for_status().json()
        wait_until(begins)
        killed = processes.by_name(standing.home.path, "ray::ServeReplica:catalogue")
        assert killed
        for process in killed:
            os.kill(process.pid, signal.SIGKILL)
        after = len(sent)
        for _ in range(5):
            call()
        wait_until(is_back)
        call()
        wait_until(lambda: recorded() >= set(sent[after:]))
        ended = standing.run("capture", "recorded_on", "--off")
        assert "No call of recorded_on is recorded" in ended.stdout
