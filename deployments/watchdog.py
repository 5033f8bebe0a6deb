"""A process that was stopped (SIGSTOP, a frozen container) answers nobody and holds the calls it had: it is killed, so that Ray replaces
it and HAProxy gives its calls to another.

Ray asks for health, and stops asking after three failures; but it ends who is unhealthy politely, and waits for that as long as the
function's deadline (measured: 43.8 s from the stop to the first answer). Who has only much to do is not touched: stopped is a state that
the kernel tells, and the silence of a process only says where to look.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import psutil

from deployments import processes
from deployments.rayenv import MARK

logger = logging.getLogger("wakeful.watchdog")

SILENT_S: Final = 2.0
"""A beat comes once a second; after two that did not, somebody looks."""

LOOK_S: Final = 0.5

FORGOTTEN_S: Final = 60.0
"""Who was not stopped in so long has ended, or talks to another owner."""


class Watchdog:
    """Hears who lives, and looks at who falls silent.

    Args:
        home: the state folder of this cluster, whose processes are all on this machine; None watches nobody.

    Mutable state: ``_heard``, when each process was heard last, by its id.
    """

    def __init__(self, home: Path | None) -> None:
        self._home = home
        self._heard: dict[int, float] = {}
        self._task = asyncio.get_running_loop().create_task(self._run(home), name="watchdog") if home else None

    @classmethod
    def of_this_cluster(cls) -> Watchdog:
        """On a cluster that is not ours, a process's id may be another's on another machine."""
        home = os.environ.get(MARK, "")
        return cls(Path(home) if home else None)

    def heard(self, pid: int) -> None:
        """It lives."""
        if self._home is not None:
            self._heard[pid] = time.monotonic()

    async def close(self) -> None:
        """Watches nobody any more. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, home: Path) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            self._heard = {pid: at for pid, at in self._heard.items() if now - at < FORGOTTEN_S}
            if pids := silent(self._heard, now):
                for pid in await asyncio.to_thread(kill_stopped, home, pids):
                    logger.warning("process %d was stopped, and has been killed: its calls go to others", pid)
                    self._heard.pop(pid, None)


def silent(heard: Mapping[int, float], now: float) -> list[int]:
    """Who has missed two beats."""
    return [pid for pid, at in heard.items() if now - at > SILENT_S]


def kill_stopped(home: Path, pids: Iterable[int]) -> list[int]:
    """Kills those of them that are stopped and that belong to the cluster; a debugger's are left to it."""
    killed = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_STOPPED and processes.belongs(process, str(home)):
                process.kill()
                killed.append(pid)
    return killed
