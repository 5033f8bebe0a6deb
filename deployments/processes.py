"""The processes of a cluster of ours, found by the mark in their environment and ended by id.

Names and parents do not tell: workers and HAProxy outlive a Ray that was killed, and other Rays may run on this machine.
The mark does, since a child inherits it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from deployments.rayenv import MARK

HEART: Final = ("gcs_server", "raylet")
"""Ray's control store and its manager of this machine."""

POLL_S: Final = 0.05

END_S: Final = 10.0
"""A killed process goes at once unless the kernel holds it."""


def ours(home: Path) -> list[psutil.Process]:
    """The living processes that belong to this state folder; never this one or one that it came from."""
    above = {process.pid for process in psutil.Process().parents()} | {os.getpid()}
    return [process for process in psutil.process_iter() if process.pid not in above and belongs(process, str(home))]


def is_running(home: Path) -> bool:
    """Whether the cluster can be talked to: its control store and its raylet live."""
    return len(heart(home)) == len(HEART)


def heart(home: Path) -> list[psutil.Process]:
    """Ray's own processes on this machine, without which the others end."""
    return [process for process in ours(home) if _name(process) in HEART]


def named(home: Path, beginning: str) -> list[psutil.Process]:
    """Those of ours whose name begins so."""
    return [process for process in ours(home) if _name(process).startswith(beginning)]


def end(home: Path) -> int:
    """Kill every process of the cluster, whatever state it is in.

    Nothing is lost: requests were drained before, or nobody waits for them any more, and no process keeps anything that we need.
    Asked politely, Ray's take four seconds, and would start each other anew meanwhile.

    Returns:
        how many there were.
    """
    count = 0
    until = time.monotonic() + END_S
    with undisturbed():
        while (found := ours(home)) and time.monotonic() < until:
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()  # psutil looks whether the id still is the same process's: one that was reused is not hit
            count = max(count, len(found))
            time.sleep(POLL_S)  # what was being started while we looked is found by the next look
    return count


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and its like wait until the end of it, which is near: half an end is none."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that ended and that its parent has not asked for does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def belongs(process: psutil.Process, home: str) -> bool:
    """Whether a process is one of the cluster of a state folder."""
    try:
        if process.uids().real != os.getuid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        environment = _environment(process)
        if f"{MARK}={home}".encode() in environment.split(b"\0"):
            return True
        # A process that writes its title over its variables, as Ray's do, may have lost the mark: its log files tell.
        return environment.startswith(b"\0") and any(file.path.startswith(f"{home}/ray/") for file in process.open_files())
    except (psutil.Error, OSError):
        return False


def _environment(process: psutil.Process) -> bytes:
    """Variables as ``NAME=value``, ended by zeros. psutil's own reader stops at the gap that a title leaves."""
    if psutil.LINUX:
        return Path(f"/proc/{process.pid}/environ").read_bytes()
    return "".join(f"{name}={value}\0" for name, value in process.environ().items()).encode()


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""
