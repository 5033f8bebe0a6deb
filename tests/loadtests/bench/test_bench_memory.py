"""Which processes belong to a cluster."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil

from loadtests.bench import memory
from loadtests.bench.memory import Seen, members

TITLE, BENCH = 0, 10
FAMILY = [
    Seen(pid=BENCH, parent=1, session=BENCH, is_marked=False),
    Seen(pid=20, parent=1, session=20, is_marked=True),  # raylet, its parent gone
    Seen(pid=21, parent=20, session=20, is_marked=False),  # a worker that wrote its title over its environment
    Seen(pid=22, parent=1, session=20, is_marked=False),  # an orphan of that session
    Seen(pid=23, parent=22, session=23, is_marked=False),  # and its child, in a session of its own
    Seen(pid=24, parent=1, session=23, is_marked=False),
    Seen(pid=30, parent=BENCH, session=BENCH, is_marked=False),  # the load generator
    Seen(pid=31, parent=BENCH, session=BENCH, is_marked=True),  # a command we started and that is in our session
    Seen(pid=40, parent=1, session=0, is_marked=False),
]


def test_kin_and_sessions_of_marked_processes_belong() -> None:
    """The mark is found again through parents and sessions, and stops at the benchmark's own."""
    assert members(FAMILY, frozenset({0, 1, BENCH})) == {20, 21, 22, 23, 24, 31}


def test_nothing_marked_is_nothing_found() -> None:
    """A machine with other people's processes has no members."""
    assert members([Seen(5, 1, 5, False), Seen(6, 5, 5, False)], frozenset({0, 1})) == set()


def test_a_marked_process_and_its_child_are_found_and_measured() -> None:
    """The child has another environment and another session; memory is that of both."""
    grandchild = f"import subprocess, sys; subprocess.Popen([{sys.executable!r}, '-c', 'input()'], env={{}}, start_new_session=True).wait()"
    run = f"test-{os.getpid()}"
    with subprocess.Popen([sys.executable, "-c", grandchild], env={memory.MARK: run}, stdin=subprocess.PIPE) as process:
        while len(memory.cluster_processes(run)) < 2:
            assert process.poll() is None
        held = memory.measure(memory.cluster_processes(run))
        assert process.stdin is not None
        process.stdin.close()
    assert len(held.names) == 2
    assert 0 < held.pss_bytes <= held.rss_bytes
    assert memory.cluster_processes(run) == []
    assert memory.measure([psutil.Process()]).rss_bytes > 0
