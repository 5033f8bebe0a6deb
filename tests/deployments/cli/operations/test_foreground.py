"""A command in the foreground: what signals do, and what the end of a cluster does."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deployments.cli.operations import foreground
from deployments.cli.operations.foreground import (
    GONE_S,
    INTERRUPTED,
    SignalCounter,
    count_signals,
    stay_attached,
)
from deployments.cli.operations.up import ENDING
from deployments.cluster.cluster import Cluster
from deployments.ray_support.state_dir import ClusterState, StateDir, StateDirBusy


def test_a_down_from_another_terminal_may_take_longer_than_ray(capsys):
    """An `up` in the foreground sees Ray gone, and waits for that command's end."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        state_dir = StateDir(Path(short) / "w")
        state_dir.prepare()
        state_dir.save(ClusterState("own", "127.0.0.1:1", "127.0.0.1", 1, "", "/", "/"))
        holds = threading.Event()

        def down() -> None:
            with state_dir.lock():
                holds.set()
                time.sleep(1.5)
                state_dir.clear()

        other = threading.Thread(target=down)
        other.start()
        holds.wait(10)
        assert stay_attached(state_dir, 0.0, SignalCounter(), ENDING) == 0
        other.join()
    assert capsys.readouterr().out == "taken down from elsewhere.\n"


def test_a_down_from_another_terminal_may_end_between_a_look_and_the_lock(monkeypatch, capsys):
    monkeypatch.setattr(Cluster, "liveness_check", lambda self: lambda: False)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        state_dir = EndsOnceSeen(Path(short) / "w")
        state_dir.prepare()
        state_dir.save(ClusterState("own", "127.0.0.1:1", "127.0.0.1", 1, "", "/", "/"))
        assert stay_attached(state_dir, 0.0, SignalCounter(), ENDING) == 0
    assert capsys.readouterr().out == "taken down from elsewhere.\n"


class EndsOnceSeen(StateDir):
    """One whose cluster another command takes down right after a reader saw it."""

    def load(self) -> ClusterState | None:
        up = super().load()
        self.clear()
        return up


@pytest.fixture
def attached(monkeypatch) -> Iterator[StateDir]:
    """A state folder in which something is up whose Ray lives."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        state_dir = StateDir(Path(short) / "w")
        state_dir.prepare()
        state_dir.save(ClusterState("own", "127.0.0.1:1", "127.0.0.1", 1, "", "/", "/"))
        monkeypatch.setattr(Cluster, "liveness_check", lambda self: lambda: True)
        yield state_dir


@pytest.mark.parametrize(("more", "status"), [(0, 0), (1, INTERRUPTED)])
def test_a_second_signal_ends_the_wait_that_the_first_began(attached, monkeypatch, more, status):
    """The time to drain is handed on; the status says whether the wait was cut."""
    signals, seen = SignalCounter(), []

    def down(self: Cluster, *, drain_s: float, should_stop: Callable[[], bool]) -> bool:
        seen.append((drain_s, should_stop()))
        for _ in range(more):
            signals(signal.SIGINT, None)
        seen.append((drain_s, should_stop()))
        return True

    monkeypatch.setattr(Cluster, "down", down)
    signals(signal.SIGINT, None)
    assert stay_attached(attached, 7.0, signals, ENDING) == status
    assert seen == [(7.0, False), (7.0, bool(more))]


def test_a_down_elsewhere_that_never_ends_is_not_waited_for(attached, clock, monkeypatch):
    """After half a minute the command says what holds the folder."""
    monkeypatch.setattr(Cluster, "liveness_check", lambda self: lambda: False)
    monkeypatch.setattr(foreground.time, "sleep", clock.advance)
    began = clock()
    with attached.lock(), pytest.raises(StateDirBusy):
        stay_attached(attached, 0.0, SignalCounter(), ENDING)
    assert GONE_S < clock() - began < GONE_S + 5


def test_signals_are_counted_within_and_mean_what_they_did_outside():
    """After an error too."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with suppress(ZeroDivisionError), count_signals() as signals:
        for number in numbers:
            signal.raise_signal(number)
        assert signals.count == 3
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in numbers] == before


def test_under_nohup_the_end_of_the_terminal_stays_ignored():
    """A command that was told to survive its terminal does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with count_signals() as signals:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
            assert signals.count == 1
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
