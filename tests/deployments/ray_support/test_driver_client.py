"""The process that talks to Ray, as a command sees it: however it ends, the command learns of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deployments.ray_support import driver_client
from deployments.ray_support.driver_client import DriverClient, RayError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def client(tmp_path) -> Iterator[DriverClient]:
    """Its process has begun to import Ray, which takes longer than a test needs."""
    log, ray_logs = tmp_path / "driver.log", tmp_path / "ray"
    with DriverClient(variables={}, log=log, folder=str(ROOT), ray_logs=ray_logs) as client:
        yield client


def test_a_process_that_has_ended_before_its_request_is_reported(client, tmp_path):
    """With both places where the reason may be, and without a broken pipe at the end."""
    client.kill()
    client._child.wait()
    with pytest.raises(RayError, match="did not start") as error:
        list(client.ask("status", "127.0.0.1:1"))
    assert f"{tmp_path}/driver.log; Ray's own logs are in {tmp_path}/ray." in str(error.value)
    client.close()


def test_a_cluster_that_does_not_answer_in_time_is_said_to_be_the_reason(client, monkeypatch):
    """Ray itself would go on trying."""
    monkeypatch.setattr(driver_client, "CONNECT_S", 0.0)
    with pytest.raises(RayError, match=r"could not connect to 127\.0\.0\.1:1 within 0 s"):
        list(client.ask("status", "127.0.0.1:1"))


def test_a_process_that_is_killed_has_not_failed_to_connect(client):
    """Another thread may do so while this one reads events."""
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: list(client.ask("status", "127.0.0.1:1")))
        client.kill()
        with pytest.raises(RayError, match=r"did not start|ended unasked"):
            reading.result()


def test_an_interrupted_command_ends_without_waiting_for_the_connection(client):
    """Python waits for threads at its end, unless they are daemons."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def ask() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        list(client.ask("status", "127.0.0.1:1"))

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            ask()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    for timer in threading.enumerate():
        if isinstance(timer, threading.Timer):
            timer.join(10)
            assert not timer.is_alive()
