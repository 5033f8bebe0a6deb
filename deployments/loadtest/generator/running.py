"""A load test from its plan to its ``Run``: the processes that send, and what is asked of the
server meanwhile.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from deployments.loadtest.asking import open_client
from deployments.loadtest.generator.local_server import Processes, ProcessorMeter
from deployments.loadtest.generator.plan import LoadPlan
from deployments.loadtest.generator.self_watch import find_limit
from deployments.loadtest.generator.server_samples import ServerWatch
from deployments.loadtest.generator.workers import GeneratorProcesses
from deployments.loadtest.results.comparison import LOAD_AVERAGE
from deployments.loadtest.results.records import CallRecord, Run, ServerSample

LOOK_S: Final = 0.1
"""Between two looks at whether it is to end."""

MOST_REASONS: Final = 5
"""Why calls had no right answer, that are told, the most frequent ones."""

SHOWN_CALLS: Final = 20_000
"""The last ones, of which the progress shows a percentile."""

SAMPLE_S: Final = 1.0
"""Between two samples of the server."""


@dataclass(slots=True)
class LoadProgress:
    """How far a load test is.

    Attributes:
        seconds: passed; negative: it has not begun.
        whole_s: that it takes.
        warm_up_s: of it that counts for nothing.
        calls: that were answered or given up.
        errors: of them without a right answer.
        latencies_s: of the last ones after the warm-up.
        codes: of the errors.

    Mutable state: all but ``whole_s`` and ``warm_up_s``.
    """

    whole_s: float
    warm_up_s: float
    seconds: float = -1.0
    calls: int = 0
    errors: int = 0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=SHOWN_CALLS))
    codes: Counter[str] = field(default_factory=Counter)

    def add(self, records: Sequence[CallRecord]) -> None:
        """Count calls."""
        self.calls += len(records)
        for record in records:
            if not record.is_right:
                self.errors += 1
                self.codes[record.code or str(record.status)] += 1
            if record.intended >= self.warm_up_s:
                self.latencies_s.append(record.latency_s)

    @property
    def p95_s(self) -> float | None:
        """Of the latencies; None without any."""
        latencies = list(self.latencies_s)
        return float(np.percentile(latencies, 95)) if latencies else None


OnProgress = Callable[[LoadProgress], object]


def run_load(
    plan: LoadPlan,
    *,
    processes: Processes | None = None,
    on_progress: OnProgress = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Run:
    """Send what a plan says, and return what came of it.

    Args:
        processes: of the server, where it is on this machine.
        on_progress: called ten times a second.
        should_stop: asked as often; once it is so, the load ends with what there is.

    Raises:
        GeneratorFailed: a process that sends ended before its time.
        KeyboardInterrupt: it was to end before it had begun; nothing was sent.
    """
    records: list[CallRecord] = []
    progress = LoadProgress(plan.shape.seconds, plan.warm_up_s)

    def take(some: Sequence[CallRecord]) -> None:
        records.extend(some)
        progress.add(some)

    stopped: float | None = None
    meter = None if processes is None else ProcessorMeter(processes)
    with GeneratorProcesses(plan, take) as workers, _Sampling(plan, meter) as sampling:
        if should_stop():
            raise KeyboardInterrupt
        workers.begin()
        started = time.time() + workers.began - time.monotonic()
        sampling.follow(workers.began)
        while not workers.is_done:
            time.sleep(LOOK_S)
            progress.seconds = time.monotonic() - workers.began
            on_progress(progress)
            if stopped is None and should_stop():
                stopped = max(progress.seconds, 0.0)
                workers.stop()
    seconds = plan.shape.seconds if stopped is None else min(stopped, plan.shape.seconds)
    limit = find_limit(workers.samples, workers.late, workers.unsent, len(records), plan.most_lag_s)
    reasons = [f"{why} ({count} x)" for why, count in workers.reasons.most_common(MOST_REASONS)]
    records.sort(key=lambda record: record.intended)
    return Run(
        url=plan.url,
        shape=str(plan.shape),
        rates=plan.shape.average_rates,
        seconds=seconds,
        warm_up_s=min(plan.warm_up_s, seconds),
        seed=plan.seed,
        started=started,
        machine=describe_machine(),
        promises=plan.promises,
        calls=records,
        server=sampling.samples,
        generator=workers.samples,
        cpu_s=None if meter is None else meter.seconds,
        was_limited=limit,
        is_partial=stopped is not None,
        notes=(
            *plan.notes,
            *_bound_note(plan, workers.waited),
            *_ended_note(records, is_partial=stopped is not None),
            *sampling.notes,
            *reasons,
        ),
        cautions=plan.cautions,
        prices=plan.prices,
        sent=plan.sent,
    )


def _ended_note(records: Sequence[CallRecord], *, is_partial: bool) -> tuple[str, ...]:
    ended = sum(record.was_ended for record in records)
    if not ended:
        return ()
    if is_partial:
        when = "when the load was ended; they count as not answered"
    else:
        when = (
            "in sequences that went on for too long after the load; what would have become of them"
            " is not known"
        )
    return (f"{ended:,} calls were under way {when}.",)


def _bound_note(plan: LoadPlan, waited: int) -> tuple[str, ...]:
    if not waited:
        return ()
    return (
        f"{waited:,} calls waited for one of {plan.processes * plan.connections:,} connections;"
        " they count from when they were to be sent.",
    )


class _Sampling:
    """Asks the server for samples, once a second, in a thread: a server that answers late keeps
    nothing else waiting. What a load does lies between the first of them, which is taken before any
    call is sent, and the last, which is taken after every answer.

    Attributes:
        samples: in the order of time.

    Mutable state: ``samples``; ``_ended``, that no more are wanted; ``_thread``, None until the
    load begins.
    """

    def __init__(self, plan: LoadPlan, meter: ProcessorMeter | None) -> None:
        self.samples: list[ServerSample] = []
        self._meter = meter
        self._client = open_client(plan.url, plan.headers, plan.trust)
        self._watch = ServerWatch(self._client, plan.calls.keys())
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> _Sampling:
        self._look(0.0)
        return self

    def follow(self, began: float) -> None:
        """Go on asking, from the beginning of the load on (a moment of ``time.monotonic``)."""
        self._thread = threading.Thread(
            target=self._run, args=(began,), daemon=True, name="load test samples"
        )
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._client.close()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the samples."""
        return () if self.samples else ("the server gave no samples of itself.",)

    def _run(self, began: float) -> None:
        at = time.monotonic()
        while not self._ended.wait(max(0.0, at + SAMPLE_S - time.monotonic())):
            at = time.monotonic()
            self._look(at - began)
        self._look(time.monotonic() - began)

    def _look(self, at: float) -> None:
        if self._meter is not None:
            self._meter.look()
        self.samples += self._watch.sample(at)


def describe_machine() -> dict[str, str]:
    """Where the load was sent from, in words: a number without its machine means little."""
    cores = os.cpu_count() or 1
    busy = f"{os.getloadavg()[0]:.1f}"
    return {
        "cores": str(cores),
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "wakeful": importlib.metadata.version("wakeful"),
        LOAD_AVERAGE: busy,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
