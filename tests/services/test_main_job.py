"""What Wakeful is for, on whatever Ray is installed: `tests.contracts` runs it with each release that
is taken. Other tests show each part of it, and more of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from deployments.ray_support.assumptions import RUNNING
from runtime.system.assumptions import faults
from tests.deployments.projects import HOST, Project, function, state, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.full]

STAGE = """\
import time

def nap(number: int) -> dict[str, int]:
    time.sleep(0.1)
    return {{"number": number, "version": {version}}}
"""

OWN = function("nap", "naps:nap", least=1, scaling=", max_replicas: 2", more="tier: own")
CALLERS = 24


@contextmanager
def calling(url: str) -> Iterator[list[httpx.Response]]:
    """Callers that call again when they were answered; gives the answers so far."""
    answers: list[httpx.Response] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            answers.append(client.post(url, json={"number": 1}))

    with httpx.Client(timeout=60, limits=httpx.Limits(max_connections=None)) as client:
        threads = [threading.Thread(target=call) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_a_file_is_served_scaled_updated_and_taken_down(project: Project, monkeypatch):
    """A function wakes in the host; one of its own grows under load, and no call is lost when it is
    updated meanwhile; nothing is left in the end.
    """
    project.more["WAKEFUL_LOGICAL_CPUS_PER_CORE"] = "16"
    monkeypatch.setenv("TMPDIR", project.short)
    code = project.folder / "naps.py"
    code.write_text(STAGE.format(version=1))
    applications = (*HOST, function("rare", least=0), OWN)
    with project.served(*applications) as client:
        assert faults(RUNNING) == []
        assert state(client, "rare")["state"] == "asleep"
        answer = client.post("/v2/models/rare", json={"name": "a"})
        assert answer.json()["said"] == "a"
        assert "asked by a" in project.run("logs", "rare").stdout
        with calling(f"{project.url}/v2/models/nap") as answers:
            wait_until(lambda: state(client, "nap")["replicas"] == 2)
            code.write_text(STAGE.format(version=2))
            outcome = project.run("up", "--detach")
            assert outcome.returncode == 0, outcome.stderr
            wait_until(lambda: answers[-1].json().get("version") == 2)
        lost = [one.text for one in answers if one.status_code != 200]
        assert not lost, lost[:3]
        versions = [one.json()["version"] for one in answers]
        assert versions[0] == 1
        assert versions[-1] == 2
