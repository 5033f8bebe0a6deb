"""Scaling on Ray: a step of callers up and down, with replicas that sleep instead of computing, so
that two cores carry three.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from deployments.observability.logs import read_decisions
from tests.deployments.projects import Project, Standing, function, wait_until

pytestmark = pytest.mark.ray

STAGE = """\
import time

def nap(number: int) -> dict[str, int]:
    time.sleep(0.1)
    return {"number": number}
"""

MORE = "tier: own"

DELAY_S = 3


@pytest.fixture
def napping(standing: Standing) -> Iterator[Standing]:
    """One function, up, with a replica of its own and resources for three."""
    (standing.folder / "naps_of_a_test.py").write_text(STAGE)
    scaling = f", max_replicas: 3, downscale_delay_s: {DELAY_S}"
    with standing.served(
        function("nap", "naps_of_a_test:nap", least=1, scaling=scaling, more=MORE)
    ):
        yield standing


@contextmanager
def calling(url: str, callers: int) -> Iterator[list[int]]:
    """So many callers, each calling again when it was answered; gives the statuses so far."""
    statuses: list[int] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            statuses.append(client.post(url, json={"number": 1}).status_code)

    with httpx.Client(timeout=60, limits=httpx.Limits(max_connections=None)) as client:
        threads = [threading.Thread(target=call) for _ in range(callers)]
        for thread in threads:
            thread.start()
        try:
            yield statuses
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def decided(
    project: Project, holds: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    """The decisions about the function, once that holds of them."""

    def decisions() -> list[dict[str, Any]]:
        return read_decisions(project.home.path, "nap")

    wait_until(lambda: holds(decisions()))
    return decisions()


def test_a_step_is_answered_once_and_taken_back_once(napping):
    """From 1 to 48 callers all three are decided at once, with the reason; afterwards it goes back
    to one, and nothing in between.
    """
    url = f"{napping.url}/v2/models/nap"
    with calling(url, 1) as quiet:
        wait_until(lambda: len(quiet) >= 10)  # by then it is known how long a row takes
        with calling(url, 47) as busy:
            up = decided(napping, lambda decisions: bool(decisions))[0]
            assert (up["before"], up["replicas"]) == (1, 3)
            assert "a replica wanted, panic window" in up["why"]
            wait_until(lambda: len(busy) > 250)  # one replica answers ten a second
        ended = time.time()
        decisions = decided(napping, lambda decisions: decisions[-1]["replicas"] == 1)
    assert decisions[-1]["at"] - ended > DELAY_S - 1
    replicas = [decision["replicas"] for decision in decisions]
    assert replicas == sorted(replicas, reverse=True), "it turned round in between"
    assert set(quiet + busy) == {200}
