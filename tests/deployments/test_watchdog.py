"""Processes that were stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from deployments import watchdog
from deployments.rayenv import MARK
from deployments.watchdog import SILENT_S, Watchdog, kill_stopped, silent


@pytest.fixture
def child(tmp_path) -> Iterator[subprocess.Popen[str]]:
    """A process of a cluster."""
    command = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]
    with subprocess.Popen(command, env={**os.environ, MARK: str(tmp_path)}, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def stop(child: subprocess.Popen[str]) -> None:
    """Stopped, as the kernel sees it."""
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)


def test_who_misses_two_beats_is_silent():
    """One may be late."""
    assert silent({1: 10.0, 2: 10.0 - SILENT_S, 3: 9.9 - SILENT_S}, 10.0) == [3]


def test_only_what_is_stopped_and_ours_is_killed(child, tmp_path):
    """Not who is merely silent, not another cluster's, not who is gone."""
    assert kill_stopped(tmp_path, [child.pid]) == []
    stop(child)
    assert kill_stopped(tmp_path / "other", [child.pid]) == []
    assert kill_stopped(tmp_path, [child.pid]) == [child.pid]
    assert child.wait(10) == -signal.SIGKILL
    assert kill_stopped(tmp_path, [child.pid]) == []


def test_a_process_that_is_stopped_falls_silent_and_is_killed(child, tmp_path, monkeypatch):
    """Whoever goes on talking lives."""
    monkeypatch.setattr(watchdog, "LOOK_S", 0.01)
    monkeypatch.setattr(watchdog, "SILENT_S", 0.05)

    async def watch() -> None:
        watching = Watchdog(tmp_path)
        watching.heard(child.pid)
        stop(child)
        assert await asyncio.to_thread(child.wait, 10) == -signal.SIGKILL
        await watching.close()
        await watching.close()

    asyncio.run(watch())
    assert not psutil.pid_exists(child.pid)


def test_nobody_is_watched_on_a_cluster_that_is_not_ours(monkeypatch):
    """A process's id says nothing there."""
    monkeypatch.delenv(MARK, raising=False)

    async def watch() -> None:
        watching = Watchdog.of_this_cluster()
        watching.heard(1)
        await watching.close()

    asyncio.run(watch())
