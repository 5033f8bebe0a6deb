"""The thread that looks after the others: workers that do not come back from a stage, and
coroutines that hold the event loop.

It looks four times a second while a stage runs, or may on the loop, and once while none does; a
call pays nothing for it. The log gets one record for each worker that hangs, with its stack, and
for each stage that holds the loop one a minute.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from runtime.batching.fair_queue import FunctionShare
from runtime.batching.health.function_health import FunctionHealth, Renewal
from runtime.batching.health.hangs import (
    LOOK_S,
    BusyWorker,
    Verdict,
    can_answer,
    construct_limit_s,
    judge,
)
from runtime.batching.health.loop_watch import LoopUser, LoopWatch, log_for
from runtime.batching.health.stacks import frames_of, stage_lines
from runtime.system.crash import CrashRecorder

logger = logging.getLogger("wakeful.function")

IDLE_LOOK_S: Final = 1.0
"""Between two looks while no stage runs."""


class HangingFunction(Protocol):
    """A function whose workers are looked after (``BatchSource``)."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def share(self) -> FunctionShare: ...
    @property
    def health(self) -> FunctionHealth: ...


class RunningBatch(NamedTuple):
    """A worker in a batch, as the watchdog is told of it.

    Attributes:
        worker: names the worker until it comes back; its ``index`` is its slot of the crash
            recorder, and ``is_abandoned`` says that it was given up and has not come back.
        function: whose batch it is.
        batch: what the worker has; None: it makes the function ready for other batches.
        thread_id: of the worker.
        began: seconds, ``time.monotonic``.
        has_callers: a caller waits for one of its rows.
        renewal: what it constructs, where it has no batch.
    """

    worker: Any
    function: HangingFunction
    batch: Any
    thread_id: int
    began: float
    has_callers: bool
    renewal: Renewal | None = None

    @property
    def limit_s(self) -> float:
        """Seconds from which on it is overdue."""
        if self.batch is None:
            return construct_limit_s(self.function.health.construct_s)
        return self.function.health.timeout_s

    def find_renewal(self) -> Renewal:
        """What the worker that takes its place constructs."""
        if self.renewal is not None:
            return self.renewal
        return self.function.health.renewal(self.batch, frames_of(self.thread_id))

    def describe(self) -> tuple[str, list[str]]:
        """What the worker is in, for messages, and its stack, lines from the outermost."""
        frames = frames_of(self.thread_id)
        if self.renewal is not None:
            return f"`__init__` of stage {self.renewal.name!r}", stage_lines(frames)
        segment = self.function.health.segment(self.batch)
        return f"stage {segment.stage_in(frames) or segment.name!r}", stage_lines(frames)


class WatchedWorkers(Protocol):
    """The workers of a process, as the watchdog uses them; in any thread.

    ``replace`` gives a worker up: another thread takes its place. Where the worker has come back
    meanwhile nothing happens, and it returns False.

    Attributes:
        crash_recorder: records what the threads run, if anything does.
    """

    @property
    def crash_recorder(self) -> CrashRecorder | None: ...

    @property
    def thread_count(self) -> int: ...
    @property
    def abandoned_count(self) -> int: ...
    def running(self, now: float) -> tuple[Sequence[RunningBatch], bool]: ...
    def replace(self, batch: RunningBatch) -> bool: ...


BLAME: Final = "a stage does not return"
"""What crash reports say of a process that ended for it."""

Report = Callable[[str, str], object]
"""Called with the label of a function, and a reason."""


class Watchdog:
    """Looks after the workers of a process from ``start`` until ``stop``.

    Attributes:
        hang: why a function has no worker left, since all that it may have hang; empty when all is
            well.
        on_hang: called by this thread when that begins.
        on_loop_hung: likewise, while a coroutine holds the event loop and every call is over.

    Mutable state: ``_loops`` and ``_pools`` (what runs on event loops, and other watchdogs), under
    ``_lock``. Of its thread: ``hang``, ``_troubled`` (the functions without a worker), ``_ran`` (by
    worker, the begin of its batch and the seconds that were seen to pass in it), ``_logged``
    (workers whose hang is in the log), ``_looked`` (when it looked last), ``_loop``
    (``LoopWatch``).
    """

    def __init__(self, workers: WatchedWorkers) -> None:
        self.hang = ""
        self.on_hang: Report = _no_report
        self.on_loop_hung: Report = _no_report
        self._workers = workers
        self._lock = threading.Lock()
        self._loops: weakref.WeakSet[LoopUser] = weakref.WeakSet()
        self._pools: weakref.WeakSet[Watchdog] = weakref.WeakSet()
        self._troubled: list[FunctionShare] = []
        self._ran: dict[Any, tuple[float, float]] = {}
        self._logged: set[Any] = set()
        self._given_up: dict[Any, tuple[RunningBatch, float]] = {}
        self._looked = time.monotonic()
        self._loop = LoopWatch()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wakeful-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End; the thread does so at its next look. It reports nothing more."""
        self._stopping.set()
        self.on_hang = self.on_loop_hung = _no_report

    def watch_loop(self, tasks: LoopUser) -> None:
        """Look after the event loop while these run on it."""
        with self._lock:
            self._loops.add(tasks)

    def watch_threads(self, others: Watchdog, crash_slot: Callable[[], int | None]) -> None:
        """Look after the threads of one stage as well, in this thread: where they hang, the process
        does.

        Args:
            crash_slot: returns where the crash recorder has what they run, if it does.
        """

        def on_hang(label: str, reason: str) -> None:
            if self._workers.crash_recorder is not None and (slot := crash_slot()) is not None:
                self._workers.crash_recorder.blame(slot, BLAME)
            self.on_hang(label, reason)

        others.on_hang = on_hang
        with self._lock:
            self._pools.add(others)

    def find_hang(self) -> str:
        """``hang``, of threads of stages as well."""
        return self.hang or next(filter(None, (other.hang for other in self._others())), "")

    def _others(self) -> list[Watchdog]:
        with self._lock:
            return list(self._pools)

    def _run(self) -> None:
        wait_s = IDLE_LOOK_S
        while not self._stopping.wait(wait_s):
            try:
                now = time.monotonic()
                is_busy = [one.look(now) for one in (self, *self._others())]
                wait_s = LOOK_S if any(is_busy) else IDLE_LOOK_S
            except Exception:  # our bug: what it looks after goes on
                logger.exception("the watchdog failed; it goes on")

    def look(self, now: float) -> bool:
        """Look once; returns whether anything runs."""
        passed_s = min(max(0.0, now - self._looked), 2 * IDLE_LOOK_S)
        self._looked = now
        batches, has_waiting = self._workers.running(now)
        self._ran = {
            batch.worker: (batch.began, self._ran_s(batch, passed_s, now)) for batch in batches
        }
        self._logged &= self._ran.keys()
        in_all = self._workers.abandoned_count
        stuck: dict[HangingFunction, list[RunningBatch]] = {}
        for batch in batches:
            function = batch.function
            worker = BusyWorker(self._ran[batch.worker][1], batch.limit_s, batch.has_callers)
            verdict = judge(
                worker, has_waiting=has_waiting, abandoned=function.share.abandoned, in_all=in_all
            )
            if worker.is_hung and batch.worker not in self._logged:
                self._log(batch, verdict, now)
            if verdict == "stuck":
                stuck.setdefault(function, []).append(batch)
            elif verdict == "replace" and self._workers.replace(batch):
                in_all += 1
                if batch.worker not in self._logged:
                    self._given_up[batch.worker] = batch, self._ran[batch.worker][1]
            else:
                continue
            if batch.batch is not None:
                function.health.let_go(batch.batch)
        self._log_given_up(passed_s, now)
        self._report(stuck, now)
        with self._lock:
            users = list(self._loops)
        if (held := self._loop.look(users, now)) is not None:
            self.on_loop_hung(*held)
        return bool(batches or users)

    def _log_given_up(self, passed_s: float, now: float) -> None:
        """Workers that were given up before they were known to hang, since rows waited."""
        for worker, (batch, ran_s) in list(self._given_up.items()):
            ran_s += passed_s
            self._given_up[worker] = batch, ran_s
            if not worker.is_abandoned:  # it has come back
                del self._given_up[worker]
            elif BusyWorker(ran_s, batch.limit_s, False).is_hung:
                del self._given_up[worker]
                self._log(batch, "replace", now)

    def _ran_s(self, batch: RunningBatch, passed_s: float, now: float) -> float:
        began, ran_s = self._ran.get(batch.worker, (math.nan, 0.0))
        return min(now - batch.began, (ran_s if began == batch.began else 0.0) + passed_s)

    def _log(self, batch: RunningBatch, verdict: Verdict, now: float) -> None:
        self._logged.add(batch.worker)
        function, (what, lines) = batch.function, batch.describe()
        then = {
            "replace": "Another thread has its place.",
            "stuck": f"{function.share.abandoned} threads of the function were given up before, and"
            " no more are.",
        }.get(verdict, "")
        log_for(
            function.name,
            f"{what} of {function.name!r} has not returned for {now - batch.began:.0f} s; its"
            f" callers have left or got 504. {then} It is here:\n" + "\n".join(lines),
        )

    def _report(self, stuck: dict[HangingFunction, list[RunningBatch]], now: float) -> None:
        """Which functions have no worker left, and why."""
        threads, in_all = self._workers.thread_count, sum(map(len, stuck.values()))
        troubles = {}
        for function, batches in stuck.items():
            share = function.share
            if not can_answer(len(batches), share.max_workers, threads, in_all):
                what, _ = batches[0].describe()
                troubles[function] = (
                    f"{what} of {function.name!r} has not returned for"
                    f" {now - batches[0].began:.0f} s, nor have {share.abandoned} threads before"
                    " it; the log says where."
                )
        for before in self._troubled:
            before.trouble = ""
        for function, why in troubles.items():
            function.share.trouble = why
        self._troubled = [function.share for function in troubles]
        was, self.hang = self.hang, next(iter(troubles.values()), "")
        crash_recorder = self._workers.crash_recorder
        if self.hang and not was:
            function = next(iter(troubles))
            if crash_recorder is not None:
                crash_recorder.blame(stuck[function][0].worker.index, BLAME)
            self.on_hang(function.label, self.hang)
        elif was and not self.hang and crash_recorder is not None:
            crash_recorder.absolve()


def _no_report(label: str, reason: str) -> None:
    """Default callback: does nothing."""
