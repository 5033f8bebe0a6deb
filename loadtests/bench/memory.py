"""Which processes belong to a cluster we started, and what they hold.

`wakeful up --detach` leaves its processes without a parent, and some of them overwrite their environment with their title. So a
process belongs if it carries our mark in its environment, or descends from one that belongs, or is in the session of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import psutil

MARK = "LOADTESTS_RUN"
"""Environment variable that the processes of a run inherit; its value is the run's id."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A process as far as membership goes.

    Attributes:
        session: id of its session (``setsid``), 0 if unknown.
        is_marked: whether the run's id stands in its environment.
    """

    pid: int
    parent: int
    session: int
    is_marked: bool


def members(seen: Iterable[Seen], ours: frozenset[int]) -> set[int]:
    """The ids of the cluster's processes.

    Args:
        seen: every process of the machine.
        ours: process and session ids that are not the cluster's, whatever their kinship: the benchmark's own.
    """
    others = [process for process in seen if process.pid not in ours]
    found = {process.pid for process in others if process.is_marked}
    while True:
        sessions = {process.session for process in others if process.pid in found} - ours - {0}
        grown = found | {p.pid for p in others if p.parent in found or p.session in sessions}
        if grown == found:
            return found
        found = grown


def look(run: str) -> Iterator[Seen]:
    """Every process of the machine; one whose environment we may not read counts as unmarked."""
    for process in psutil.process_iter():
        try:
            yield Seen(process.pid, process.ppid(), os.getsid(process.pid), is_marked(process, run))
        except (psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            continue


def is_marked(process: psutil.Process, run: str) -> bool:
    """Whether the process started with our mark in its environment."""
    try:
        return bool(process.environ().get(MARK) == run)
    except (psutil.AccessDenied, psutil.ZombieProcess):
        return False


def cluster_processes(run: str) -> list[psutil.Process]:
    """The processes of the run that are alive now, our own children excepted."""
    me = psutil.Process()
    ours = frozenset({0, 1, me.pid, os.getsid(0), *(p.pid for p in me.parents())})
    found = []
    for pid in sorted(members(look(run), ours)):
        try:
            found.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    return found


@dataclass(frozen=True, slots=True)
class Memory:
    """What processes hold together.

    Attributes:
        rss_bytes: resident memory; what they share counts once for each.
        pss_bytes: proportional: what they share counts once.
        names: number of processes by name.
    """

    rss_bytes: int
    pss_bytes: int
    names: tuple[str, ...]


def measure(processes: Iterable[psutil.Process]) -> Memory:
    """Sums over the processes that are still there."""
    rss = pss = 0
    names = []
    for process in processes:
        try:
            info = process.memory_full_info()
            names.append(process.name())
        except psutil.NoSuchProcess:
            continue
        rss += info.rss
        pss += info.pss
    return Memory(rss, pss, tuple(sorted(names)))
