"""Reports of a process that serves functions: when they are sent to the placement controller, what
a replica reports, and what processes that crashed have left in the state folder: the next process
that starts on the machine reports it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import psutil
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.control.orders import ProcessOrders
from deployments.control.process_reports import HaproxyReport, ProcessReport, ReplicaReport
from deployments.ray_support.state_dir import hold_lock, process_state_dir
from runtime.batching.health.worker_threads import slots_of
from runtime.declaration.function_spec import version_hash
from runtime.execution.function import Function
from runtime.library.cold_start import ColdStart
from runtime.library.entry_report import add_loaded
from runtime.library.function_report import FunctionReport
from runtime.system.crash import CrashRecorder, CrashReport, RowQuarantine, reports
from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.metrics import Metrics
from runtime.system.telemetry.recent import RecentCalls
from runtime.system.telemetry.recent_failures import RecentFailures

logger = logging.getLogger("wakeful.heartbeat")

REPORT_S: Final = 1.0
"""Between two reports. One costs both sides a millisecond or two; every second is often enough to
decide by, and 0.3 % of a core.
"""

CHANGED_REPORT_S: Final = 0.1
"""Least time between two reports when something has changed: a hundred functions that wake at once
are reported together.
"""

ANSWER_S: Final = 5.0
"""Longest wait for the controller. It may be starting, restarting or busy deploying; the next
report says all of it again.
"""

REPORTS_PER_METRICS: Final = 5
"""One report in so many carries metrics: Prometheus scrapes no more often than each five seconds.
"""


class Heartbeat:
    """Sends ``make_report()`` to the placement controller at once, every second, and within 0.1 s
    of ``notify_changed()``; passes the controller's orders to ``on_orders``. Runs on the event loop
    of the process.

    Args:
        controller: the application that the controller lives in; empty when there is none: then no
            report is sent.
        read_haproxy: returns what the HAProxy of this machine tells, if this process is the one to
            report it; called in a thread, and may take a second.

    Mutable state: ``_handle`` to the controller, from when it was found until it does not answer;
    ``_changed``, set by ``notify_changed``; ``_sent``, reports so far.
    """

    def __init__(
        self,
        controller: str,
        make_report: Callable[[], ProcessReport],
        on_orders: Callable[[Any], None],
        read_haproxy: Callable[[], HaproxyReport | None] = lambda: None,
    ) -> None:
        self._read_haproxy = read_haproxy
        self._sent = 0
        self._controller = controller
        self._make_report = make_report
        self._on_orders = on_orders
        self._handle: DeploymentHandle[Any] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="heartbeat")
        self._changed = asyncio.Event()
        self._task = (
            asyncio.get_running_loop().create_task(self._run(), name="heartbeat")
            if controller
            else None
        )

    def notify_changed(self) -> None:
        """Something has changed that the controller should know before the next second."""
        self._changed.set()

    async def close(self) -> None:
        """Sends no further report. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                # `wait_for` of Python 3.11 loses a cancellation that comes with the answer
                async with asyncio.timeout(ANSWER_S):
                    orders = await self._send()
                self._on_orders(orders)
            except (RayServeException, TimeoutError) as error:
                self._handle = None
                logger.info("the placement controller does not answer: %s", error or "too slow")
            except Exception:  # Ray raises many types for an actor that died; this task goes on
                self._handle = None
                logger.warning("a report failed; the next one says all of it again", exc_info=True)
            await asyncio.sleep(CHANGED_REPORT_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_S - CHANGED_REPORT_S):
                    await self._changed.wait()

    @property
    def has_controller(self) -> bool:
        """Whether there is a controller to report to."""
        return bool(self._controller)

    async def ask(self, method: str, *args: Any) -> Any:
        """What the controller's application answers to a call of a method of it.

        Raises:
            RayServeException, RayError: it is not there, or has failed.
        """
        if self._handle is None:
            # waits for Serve's controller, so in no thread of the pool that loads use
            self._handle = await asyncio.get_running_loop().run_in_executor(
                self._pool, serve.get_app_handle, self._controller
            )
        return await getattr(self._handle, method).remote(*args)

    async def _send(self) -> ProcessOrders:
        self._sent += 1
        haproxy = None
        if self._sent % REPORTS_PER_METRICS == 1:
            loop = asyncio.get_running_loop()
            haproxy = await loop.run_in_executor(self._pool, self._read_haproxy)
        # made at last: what has to wait is old when it arrives
        report = replace(self._make_report(), haproxy=haproxy)
        orders: ProcessOrders = await self.ask("receive_report", report)
        return orders


@dataclass(frozen=True, slots=True)
class AssignedGpu:
    """What Ray gave this process.

    Attributes:
        ids: of whole or shared devices, as the driver numbers them on this node.
        node: the node's id in Ray.
    """

    ids: tuple[str, ...]
    node: str


class ReplicaReporter:
    """Makes the reports of one replica.

    Args:
        source: the replica's id.
        function: loaded.
        why: the decision that made this deployment; empty where the declaration did.
        began: when its constructor began, seconds since the epoch.
        gpus: devices that Ray gave the process.
        counters: of the process.

    Mutable state: ``_reports``, reports made so far; ``_recent`` and ``_failures``.
    """

    budget_bytes: Final = None
    """Ray says what a replica may hold."""

    def __init__(
        self,
        source: str,
        function: Function,
        *,
        why: str,
        began: float,
        gpus: AssignedGpu,
        counters: ProcessCounters,
    ) -> None:
        self._source = source
        self._function = function
        self._why = why
        self._gpus = gpus
        self._version = version_hash(function.spec)
        took_s = time.time() - began
        self._wake = ColdStart(function.spec.name, began, dict(function.load_s), took_s)
        self._reports = 0
        self._metrics = Metrics(self, counters)
        self._recent = RecentCalls(counters, time.monotonic())
        self._failures = RecentFailures()
        counters.tell_failed(self._failures.record)
        for phase, seconds in {**function.load_s, "total": took_s}.items():
            self._metrics.wake_s.labels(phase).observe(seconds)
        self._metrics.wakes.labels("ok").inc()
        function.counters.record_wake(took_s)
        function.counters.attach(function, self.used_bytes())

    def make_report(
        self, crashes: tuple[CrashReport, ...], hop_ms: Mapping[str, float]
    ) -> ReplicaReport:
        """One report; every few of them carry the metrics."""
        function = self._function
        self._reports += 1
        now = time.monotonic()
        self._recent.look(now)
        memory_bytes = self.used_bytes()
        function.counters.hold_memory(memory_bytes)
        is_busy = function.in_flight.calls or function.sequence_count
        report = FunctionReport(
            state="ready",
            reason=function.trouble or function.note,
            version=self._version,
            gpus=self._gpus.ids,
            node=self._gpus.node,
            idle_s=0.0 if is_busy else now - function.in_flight.last_used,
            memory_bytes=memory_bytes,
            last_wake=self._wake,
            hop_ms=dict(hop_ms),  # Ray pickles it later, in another thread
            minute=self._recent.of(function.counters, now),
            failures=self._failures.of(function.spec.name),
        )
        return ReplicaReport(
            id=self._source,
            name=function.spec.name,
            function=add_loaded(report, function),
            pid=os.getpid(),
            crashes=crashes,
            why=self._why,
            metrics=self._metrics.text().decode()
            if self._reports % REPORTS_PER_METRICS == 1
            else "",
        )

    def counts(self) -> dict[str, int]:
        """For its metrics: one function, loaded."""
        return {"ready": 1}

    def used_bytes(self) -> int:
        """Resident memory of the process."""
        size: int = psutil.Process().memory_info().rss
        return size


def crash_folder() -> Path:
    """The folder of the crash recorders, where every process of this machine's cluster finds it."""
    return process_state_dir() / "hosts"


def crash_recorder(threads: int, spare: int = 0) -> CrashRecorder:
    """The recorder of this process, for so many worker threads. The folder stays as long as the
    process (``state_dir.hold_lock``).
    """
    hold_lock()
    return CrashRecorder(crash_folder(), slots=slots_of(threads, spare))


def row_quarantine() -> RowQuarantine:
    """The rows that crashed one process after another, for the calls of this process."""
    return RowQuarantine(crash_folder())


def find_crash_reports() -> tuple[CrashReport, ...]:
    """The crashes that the placement controller does not know yet."""
    return tuple(reports.read_crash_reports(crash_folder()))


def mark_all_reported(crashes: Iterable[CrashReport]) -> None:
    """The placement controller knows these crashes now."""
    for crash in crashes:
        reports.mark_reported(crash_folder(), crash.key)
