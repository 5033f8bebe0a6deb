"""Processes we start are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from loadtests.bench import children
from loadtests.bench.children import Child, ChildFailed, Overdue, end, ended_in_order

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


def python(code: str) -> list[str]:
    """A command that runs some lines."""
    return [sys.executable, "-c", code]


def test_lines_go_to_a_piped_child_and_come_back(tmp_path: Path) -> None:
    """The end of its output is a failure that quotes its log."""
    echo = "import sys; print(input().upper(), flush=True); sys.exit('that was all')"
    with Child(python(echo), tmp_path / "log", piped=True) as child:
        child.send("hello")
        assert child.receive() == "HELLO"
        with pytest.raises(ChildFailed, match=r"(?s)\(exit 1\).*that was all"):
            child.receive()


def test_an_answer_that_does_not_come_is_not_waited_for_forever(tmp_path: Path) -> None:
    """Half a line is no answer."""
    with Child(python("print('half', end='', flush=True); input()"), tmp_path / "log", piped=True) as child:
        with pytest.raises(ChildFailed, match="no answer after"):
            child.receive(0.2)
        child.send("go on")
        with pytest.raises(ChildFailed, match="ended without an answer"):
            child.receive()


def test_a_child_that_ignores_the_request_to_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing twice is the same as once."""
    monkeypatch.setattr(children, "GRACE_S", 0.2)
    child = Child(python(STUBBORN), tmp_path / "log", piped=True)
    child.receive()
    child.close()
    child.close()
    assert child.state == "exit -9"


def test_a_wait_has_an_end(tmp_path: Path) -> None:
    """The child still runs, is named, and is ended by the block."""
    with Child(python("import signal; signal.pause()"), tmp_path / "log") as child, pytest.raises(ChildFailed, match="still running after"):
        child.wait(0.05)
    assert not child.is_running


def test_processes_that_are_not_children_are_ended_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked first, then killed; one that is gone already is no error."""
    monkeypatch.setattr(children, "GRACE_S", 0.2)
    with subprocess.Popen(python(STUBBORN), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = psutil.Process(process.pid)
        end([found])
        assert process.wait(5) == -9
    end([found])


def test_a_termination_signal_unwinds_like_ctrl_c() -> None:
    """So that the blocks that end children run; afterwards the signal means what it meant."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), ended_in_order(60):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_time_allowed_ends_a_wait() -> None:
    """Wherever the benchmark waits at that moment."""
    with pytest.raises(Overdue, match=r"not done after 0\.05 s"), ended_in_order(0.05):
        signal.pause()
