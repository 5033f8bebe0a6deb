"""One process with everything imported, which forks a bounded child for each probe: a fork takes milliseconds, a start a second.

It reads one request from its standard input, a line of JSON, and writes one line of JSON for each job as it ends. Its input stays open as
long as it is wanted: at its end every child is ended, and so is this.

The theory of the bounds: a child is ended at its time limit, and when its own memory passes the limit. If all together pass the limit,
the largest goes, and is run again when it has the machine for itself.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runtime.probe import child, words
from runtime.probe.forked import Forked
from runtime.secrets import Secrets
from runtime.settings import Settings
from runtime.spec import FunctionSpec

LOOK_S: Final = 0.02
"""Between two looks at the children's memory: filling it, a core gets a hundred megabytes further meanwhile."""


@dataclass(frozen=True, slots=True)
class Job:
    """A function to probe.

    Attributes:
        began: when it was first begun, 0 before.
        alone: it is to have the machine for itself.
        loads: its models are prepared, or were tried to be; the function is to be loaded.
    """

    index: int
    spec: FunctionSpec
    began: float = 0.0
    alone: bool = False
    loads: bool = False


@dataclass(slots=True)
class Running:
    """A job's child; ``ended_for`` says why it was ended by us, ``again`` that it is no fault of the job's."""

    job: Job
    child: Forked
    ended_for: str = ""
    again: bool = False


class Nursery:
    """Runs jobs, ``parallel`` at once.

    Mutable state: ``_waiting`` (jobs not begun) and ``_running`` (those that have a child).
    """

    def __init__(self, settings: Settings, *, timeout_s: float, memory_bytes: int, parallel: int) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._parallel = parallel
        self._selector = selectors.DefaultSelector()
        self._waiting: deque[Job] = deque()
        self._running: list[Running] = []

    def run(self, jobs: list[Job]) -> None:
        """Until all are done, or the standard input ends."""
        self._waiting.extend(jobs)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        try:
            while self._waiting or self._running:
                self._start_what_fits()
                for key, _ in self._selector.select(LOOK_S):
                    if key.data is None:
                        return
                    if not key.data.read(key.fd):
                        self._selector.unregister(key.fd)
                self._bound(time.monotonic())
                self._reap()
        finally:
            for running in self._running:
                running.child.end()

    def _start_what_fits(self) -> None:
        while self._waiting and len(self._running) < self._parallel:
            if self._running and (self._waiting[0].alone or self._running[0].job.alone):
                return
            job = self._waiting.popleft()
            self._start(Job(job.index, job.spec, job.began or time.monotonic(), job.alone, child.is_prepared(job.spec, self._settings)))

    def _start(self, job: Job) -> None:
        def work() -> dict[str, Any]:
            if job.loads:
                return child.load(job.spec, self._settings, self._timeout_s)
            child.prepare_models(job.spec, self._settings)
            return {}

        running = Running(job, Forked(work))
        self._running.append(running)
        for fd in running.child.fds:
            self._selector.register(fd, selectors.EVENT_READ, running.child)

    def _bound(self, now: float) -> None:
        """Ends children that are past a limit."""
        held = [running.child.held_bytes() for running in self._running]
        for running, own in zip(self._running, held, strict=True):
            if now - running.child.began > self._timeout_s:
                self._end(running, words.too_slow(self._timeout_s))
            elif own > self._memory_bytes:
                self._end(running, words.too_large(own, self._memory_bytes))
        if sum(held) > self._memory_bytes and len(held) > 1:
            largest = self._running[held.index(max(held))]
            if not largest.ended_for:
                largest.again = True
                self._end(largest, "it is run again, alone")

    def _end(self, running: Running, why: str) -> None:
        running.ended_for = running.ended_for or why
        running.child.end()

    def _reap(self) -> None:
        for running in tuple(self._running):
            fds = running.child.fds
            status = running.child.status()
            if status is not None:
                for fd in fds:
                    if fd in self._selector.get_map():
                        self._selector.unregister(fd)
                self._running.remove(running)
                self._ended(running, status)

    def _ended(self, running: Running, status: int) -> None:
        job = running.job
        if running.again:
            self._waiting.append(Job(job.index, job.spec, job.began, alone=True))
        elif not job.loads:  # prepared well or not: the load decides
            self._start(Job(job.index, job.spec, job.began, job.alone, loads=True))
        else:
            print(json.dumps({"index": job.index, "took_s": time.monotonic() - job.began, **_outcome(running, status)}), flush=True)


def _outcome(running: Running, status: int) -> dict[str, Any]:
    """What the child found out, or what became of it."""
    written = bytes(running.child.written)
    if status == 0 and running.child.result and not running.ended_for:
        data: dict[str, Any] = json.loads(bytes(running.child.result))
        return {**data, "error": words.with_tail(data["error"], written)} if "error" in data else data
    why = running.ended_for or words.death(status, out_of_memory=running.child.out_of_memory)
    return {"error": words.with_tail(why, written)}


def main() -> None:
    """The process; ``sys.path`` is set already."""
    line = bytearray()
    while not line.endswith(b"\n"):  # past the stream's buffer: the selector watches what comes after
        part = os.read(sys.stdin.fileno(), 1 << 20)
        if not part:
            return
        line += part
    request = json.loads(line)
    settings = Settings(
        Path(request["root"]), Path(request["models"]), gpu_memory_mb=request["gpu_memory_mb"], secrets=Secrets(**request["secrets"])
    )
    jobs = [Job(job["index"], FunctionSpec.from_args(job["name"], job["route_prefix"], job["args"])) for job in request["jobs"]]
    gc.collect()
    gc.freeze()  # a collection in a child would write to every object of this process, and so copy them all
    nursery = Nursery(settings, timeout_s=request["timeout_s"], memory_bytes=request["memory_bytes"], parallel=request["parallel"])
    nursery.run(jobs)
