"""The processes of a cluster, found by the mark in their environment and ended by id.

Names and parents do not identify them: workers and HAProxy outlive a Ray that was killed, and other
Rays may run on this machine. The mark does, since a child inherits it.
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

from deployments.ray_support.environment import MARK

RAY_PROCESSES: Final = ("gcs_server", "raylet")
"""Ray's control store and its manager of this machine."""

ACTOR_TITLE: Final = "ray::"
"""Before the class of the actor in the title of its process. The kernel keeps 15 characters of a
title as the process's name.
"""

REPLICA_PROCESS: Final = "ray::ServeRepli"
"""A replica of any application."""

MANAGER_PROCESS: Final = "ray::HAProxyMan"
"""What starts and reloads HAProxy (``serve_proxies.HAProxyManager``)."""

CONTROLLER: Final = "SERVE_CONTROLLER_ACTOR"
"""The name of Serve's controller in Ray's list of actors."""

POLL_S: Final = 0.05

END_S: Final = 10.0
"""A killed process ends at once unless the kernel holds it."""


def cluster_processes(home: Path) -> list[psutil.Process]:
    """The live processes that belong to this state folder; never this process or an ancestor of
    it.
    """
    above = {process.pid for process in psutil.Process().parents()} | {os.getpid()}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in above and belongs_to(process, str(home))
    ]


def is_running(home: Path) -> bool:
    """Whether the cluster answers: its control store and its raylet are alive."""
    return len(ray_processes(home)) == len(RAY_PROCESSES)


def ray_processes(home: Path) -> list[psutil.Process]:
    """Ray's own processes on this machine, without which the others end."""
    return [process for process in cluster_processes(home) if _name(process) in RAY_PROCESSES]


def by_name(home: Path, beginning: str) -> list[psutil.Process]:
    """The processes of the cluster whose name begins so."""
    return [process for process in cluster_processes(home) if _name(process).startswith(beginning)]


def end_processes(home: Path) -> int:
    """Kills every process of the cluster, whatever state it is in.

    Nothing is lost: requests were drained before, or no client waits for them any more, and no
    process keeps data. With SIGTERM Ray's processes take four seconds, and start each other again
    meanwhile.

    Returns:
        how many there were.
    """
    count = 0
    until = time.monotonic() + END_S
    with shielded_from_signals():
        while (found := cluster_processes(home)) and time.monotonic() < until:
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    # psutil looks whether the id still is the same process's: one that was reused
                    # is not hit
                    process.kill()
            count = max(count, len(found))
            time.sleep(POLL_S)  # what was being started while we looked is found by the next look
    return count


@contextlib.contextmanager
def shielded_from_signals() -> Iterator[None]:
    """Holds back Ctrl-C and similar signals until the end of the block, so that it is not left half
    done."""
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def belongs_to(process: psutil.Process, home: str) -> bool:
    """Whether a process belongs to the cluster of a state folder."""
    try:
        if process.uids().real != os.getuid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        environment = _environment(process)
        if f"{MARK}={home}".encode() in environment.split(b"\0"):
            return True
        # A process that writes its title over its variables, as Ray's do, may have lost the mark:
        # its log files show it.
        return environment.startswith(b"\0") and any(
            file.path.startswith(f"{home}/ray/") for file in process.open_files()
        )
    except (psutil.Error, OSError):
        return False


def _environment(process: psutil.Process) -> bytes:
    """Variables as ``NAME=value``, ended by zeros. psutil's own reader stops at the gap that a
    title leaves.
    """
    if psutil.LINUX:
        return Path(f"/proc/{process.pid}/environ").read_bytes()
    return "".join(f"{name}={value}\0" for name, value in process.environ().items()).encode()


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""
