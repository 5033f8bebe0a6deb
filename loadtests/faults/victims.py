"""Who is killed: processes of the cluster under test that have just answered, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import psutil

from loadtests.bench.children import ChildFailed
from loadtests.bench.wake.server import Wakeful

SERVING_S = 30.0
"""Longest wait for somebody who serves: a replica that is replaced needs a few seconds."""

LOOK_S = 0.02

CONTROLLER = "ServeController"
HOST = "ServeReplica:host"
"""Titles of processes that are killed by what they are, and not by whom they answered."""


@dataclass(frozen=True, slots=True)
class Killed:
    """A process that was killed.

    Attributes:
        at: when, seconds since the epoch.
    """

    pid: int
    at: float


def latest(answered: Mapping[int, float], since: float, dead: Collection[int]) -> int | None:
    """Who answered last, of those that have answered since then and were not killed.

    >>> latest({1: 10.0, 2: 12.0}, 11.0, frozenset())
    2
    """
    alive = {pid: at for pid, at in answered.items() if at >= since and pid not in dead}
    return max(alive, key=lambda pid: alive[pid], default=None)


async def kill_serving(
    server: Wakeful, answered: Mapping[int, float], every_s: float, times: int, say: Callable[[str], None]
) -> list[Killed]:
    """Kills so many, one after the other, whoever has just answered.

    Raises:
        ChildFailed: nobody answered for ``SERVING_S``.
    """
    killed: list[Killed] = []
    for index in range(times):
        await asyncio.sleep(every_s)
        pid = await strike_serving(server, answered, {one.pid for one in killed}, signal.SIGKILL)
        killed.append(Killed(pid, time.time()))
        say(f"killed {pid}, {index + 1} of {times}")
    return killed


async def strike_serving(server: Wakeful, answered: Mapping[int, float], dead: Collection[int], number: signal.Signals) -> int:
    """Sends a signal to a process that answers from now on, and to none of ``dead``; its id.

    Raises:
        ChildFailed: nobody answers within ``SERVING_S``.
    """
    since = time.time()
    while time.time() < since + SERVING_S:
        pid = latest(answered, since, dead)
        if pid is not None and await asyncio.to_thread(strike, server, pid, number):
            return pid
        await asyncio.sleep(LOOK_S)
    raise ChildFailed(f"nobody answered for {SERVING_S:g} s, so there is nobody to kill.")


def strike(server: Wakeful, pid: int, number: signal.Signals) -> bool:
    """Sends a signal to a process if it belongs to the cluster under test and still is there; whether it was sent."""
    if pid not in {process.pid for process in server.processes()}:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


async def kill_named(server: Wakeful, title: str) -> None:
    """Kills the processes of a title.

    Raises:
        ChildFailed: there is none.
    """
    found = await asyncio.to_thread(named, server, title)
    if not found:
        raise ChildFailed(f"no process of the title {title}, so there is nothing to kill.")
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def named(server: Wakeful, title: str) -> list[psutil.Process]:
    """The cluster's processes whose command line contains a title, such as ``ServeController``."""
    found = []
    for process in server.processes():
        with contextlib.suppress(psutil.Error):
            if title in " ".join(process.cmdline()):
                found.append(process)
    return found
