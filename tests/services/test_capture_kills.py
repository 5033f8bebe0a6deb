"""What is recorded while processes of a cluster are killed."""

from __future__ import annotations

import os
import signal

import httpx
import pytest

from deployments.ray_support import processes
from tests.deployments.projects import Standing, wait_until
from tests.services.recorded_calls import calls_of

pytestmark = pytest.mark.ray

STAGE = """\
def say(text: str) -> str:
    return text
"""

ORDERED = """\
  - {name: recorded_on, args: {graph: [{stage: s, python: "recorded_of_a_test:say"}]}}
"""


@pytest.mark.full
def test_what_an_operator_has_ordered_goes_on_when_the_catalogue_dies(standing: Standing) -> None:
    """Calls that come until another one is there are recorded too, and the order has its time."""
    (standing.folder / "recorded_of_a_test.py").write_text(STAGE)
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
