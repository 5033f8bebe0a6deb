"""Processes of a cluster are those with its mark, whatever their name and their parent
is.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deployments.ray_support import processes
from deployments.ray_support.environment import MARK, inherited_variables

SLEEPER = "print(flush=True); import time; time.sleep(60)"


def start(home: Path, code: str = SLEEPER) -> subprocess.Popen[bytes]:
    """A process that is under way, marked as one of that state folder."""
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        env=inherited_variables({MARK: str(home)}),
        stdout=subprocess.PIPE,
    )
    assert child.stdout
    child.stdout.readline()
    return child


@pytest.fixture
def sleepers(tmp_path):
    """One process of ours, and one of another state folder."""
    with start(tmp_path / "a") as mine, start(tmp_path / "b") as other:
        yield mine, other
        for child in (mine, other):
            child.kill()


def test_only_processes_of_the_same_state_folder_are_ours(tmp_path, sleepers):
    """Another cluster of the same user is not touched, nor is this process."""
    mine, _ = sleepers
    assert [process.pid for process in processes.cluster_processes(tmp_path / "a")] == [mine.pid]


def test_ending_kills_the_cluster_and_no_other_process(tmp_path, sleepers):
    """It returns how many there were; the second time there are none."""
    mine, other = sleepers
    assert processes.end_processes(tmp_path / "a") == 1
    assert mine.wait(10) < 0
    assert other.poll() is None
    assert processes.end_processes(tmp_path / "a") == 0


def test_a_child_whose_parent_is_gone_is_still_ours(tmp_path):
    """As HAProxy is when Ray was killed."""
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}])"
    with start(tmp_path, orphan) as parent:
        parent.wait(10)
        assert processes.end_processes(tmp_path) == 1


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="titles are written over the environment on Linux"
)
def test_a_process_that_wrote_its_title_over_the_mark_is_known_by_its_logs(tmp_path):
    """Ray's do, and how much of the environment is lost depends on its length; one without such a
    file is not ours.
    """
    log = tmp_path / "ray" / "worker.log"
    log.parent.mkdir()
    titled = (
        f"import ray._raylet; ray._raylet.setproctitle('ray::Agent'); log = open({str(log)!r}, "
        f"'w'); {SLEEPER}"
    )
    with (
        start(tmp_path, titled) as mine,
        start(tmp_path / "b", titled.replace(str(log), "/dev/null")) as other,
    ):
        found = [process.pid for process in processes.cluster_processes(tmp_path)]
        mine.kill()
        other.kill()
    assert found == [mine.pid]


def test_a_cluster_without_its_heart_is_not_running(tmp_path, sleepers):
    """Marked processes alone are remains."""
    assert not processes.is_running(tmp_path / "a")
