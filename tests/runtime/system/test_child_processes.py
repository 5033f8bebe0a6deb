"""A process that is to end with its parent does, however that ends; one that ends with its input
is ended by that; and how one ended, in words.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time

import psutil
import pytest

from runtime.system.child_processes import end_by_closing, explain_exit, wait_or_kill

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no system ends them")

START = """
import os, signal, subprocess, sys, time
from runtime.system.child_processes import ending_with_parent
ends = ending_with_parent(signal.SIGTERM)
wait = [sys.executable, "-c", "import time; time.sleep(60)"]
"""

ENDING = (
    START
    + """
print(subprocess.Popen(wait, preexec_fn=ends).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
)

LATE = (
    START
    + """
if os.fork():
    os.wait()
else:  # another than the parent that is meant, as where that has ended
    print(subprocess.run(wait, preexec_fn=ends).returncode, flush=True)
"""
)


def output_of(program: str) -> int:
    """The number that a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=60, check=False
    )
    return int(done.stdout)


def is_running(pid: int) -> bool:
    """Whether a process does; in a container its end may never be looked at."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@on_linux
def test_a_program_ends_when_its_parent_is_killed():
    """The system tells it."""
    pid, until = output_of(ENDING), time.monotonic() + 30
    while is_running(pid):
        assert time.monotonic() < until, "it goes on"
        time.sleep(0.02)


@on_linux
def test_a_program_whose_parent_has_ended_before_does_not_begin():
    """The system would not tell it any more."""
    assert output_of(LATE) == 1


@pytest.mark.parametrize(
    ("program", "limit_s", "status"),
    [
        ("import sys; sys.stdin.read(); sys.exit(3)", 60.0, 3),
        ("import sys; sys.exit(4)", 60.0, 4),
        ("import time; time.sleep(60)", 0.0, -signal.SIGKILL),
    ],
)
@pytest.mark.parametrize("is_written", [True, False])
def test_a_process_ends_with_its_input_or_is_killed(
    program: str, limit_s: float, status: int, is_written: bool
) -> None:
    """Also one that has ended before, with input that it never read; its pipes are closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if is_written:
        process.stdin.write(b"not flushed")
    if status == 4:
        process.stdout.read()
    end_by_closing(process, limit_s)
    assert process.returncode == status
    assert process.stdin.closed
    assert process.stdout.closed
    assert wait_or_kill(process, 0.0) == status


@pytest.mark.parametrize(
    ("status", "out_of_memory", "explanation"),
    [
        (0, False, "exit status 0"),
        (3, False, "exit status 3"),
        (-11, False, "SIGSEGV (Segmentation fault)"),
        (-6, True, "SIGABRT"),
        (-9, True, "out of memory"),
        (-9, False, "SIGKILL"),
        (-40, False, "died of signal 40"),
    ],
)
def test_an_exit_is_explained_by_its_status(
    status: int, out_of_memory: bool, explanation: str
) -> None:
    """Exit codes, signals, and the system's own doing."""
    assert explanation in explain_exit(status, out_of_memory=out_of_memory)
