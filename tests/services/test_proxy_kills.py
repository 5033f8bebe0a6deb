"""SIGKILL of what stands between clients and replicas: it is back in seconds, nothing is said that is
not so, and what was asleep wakes.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from deployments.ray_support import processes
from tests.deployments.projects import HOST, Standing, function, wait_until

pytestmark = pytest.mark.ray

NAMES = {
    "HAProxy": "haproxy",
    "its manager": "ray::HAProxyMana",
    "the proxy that holds calls": "ray::ProxyActor",
    "the controller": "ray::ServeContro",
}

KILLS = [
    ("the proxy that holds calls",),  # first: what sleeps sleeps
    ("HAProxy",),
    *(
        pytest.param(names, marks=pytest.mark.full)
        for names in (
            ("its manager",),
            ("the controller",),
            ("the controller", "its manager"),
            ("HAProxy", "its manager"),
            ("the proxy that holds calls", "the controller"),
        )
    ),
]


@pytest.fixture(scope="module")
def client(standing: Standing) -> Iterator[httpx.Client]:
    """Of a function that has a replica, and of one that sleeps until the first kill."""
    asleep, awake = (
        function("asleep_behind", least=0, more="tier: own"),
        function("awake_behind", more="tier: own"),
    )
    with standing.served(*HOST, asleep, awake) as client:
        yield client


@pytest.mark.parametrize("names", KILLS, ids=" and ".join)
def test_what_dies_before_the_replicas_is_back(
    client: httpx.Client, standing: Standing, names: tuple[str, ...]
) -> None:
    """One connection a call, as a client has that comes anew. Until then calls find no server, or
    one that says when to call again; never that a declared function is none.
    """
    wait_until(lambda: client.post("/v2/models/awake_behind", json={"name": "x"}).is_success)
    killed = [
        process for name in names for process in processes.by_name(standing.home.path, NAMES[name])
    ]
    assert len(killed) >= len(names)
    for process in killed:
        os.kill(process.pid, signal.SIGKILL)
    seen = [
        answer
        for path in ("/v2/models/awake_behind", "/v2/models/asleep_behind")
        for answer in _answers(f"{standing.url}{path}")
    ]
    assert {answer.status_code for answer in seen} <= {200, 503}
    for answer in seen:
        if answer.status_code == 503:
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["code"] == "unavailable"
    # whatever was killed is another process now, and is not killed once more
    wait_until(lambda: _are_replaced(standing, names, {process.pid for process in killed}))


def _answers(url: str) -> list[httpx.Response]:
    """Of calls until three in a row are answered with 200; of those that find no server, none."""
    answers: list[httpx.Response] = []
    until = time.monotonic() + 60
    while [answer.status_code for answer in answers[-3:]] != [200] * 3:
        assert time.monotonic() < until, [answer.text for answer in answers[-3:]]
        try:
            answers.append(httpx.post(url, json={"name": "x"}, timeout=30))
        except httpx.TransportError:
            time.sleep(0.02)
            continue
        if answers[-1].status_code != 200:
            time.sleep(0.05)
    return answers


def _are_replaced(standing: Standing, names: tuple[str, ...], before: set[int]) -> bool:
    return all(
        {process.pid for process in processes.by_name(standing.home.path, NAMES[name])} - before
        for name in names
    )
