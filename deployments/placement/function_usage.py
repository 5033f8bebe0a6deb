"""What the processes that serve a function report of it, and samples of that for the policy of
tiers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from runtime.library.function_report import FunctionReport, UsageSample, add_usage

MAX_SAMPLES: Final = 240
"""Samples kept of a function; with a long ``downscale_delay_s`` they are thinned out instead of
growing in number.
"""

MAX_SILENT: Final = 16
"""Processes that report no more whose counters are remembered, of a function. Most have ended, and
none of their names comes again; one that paused, or was cut off, goes on where it was.
"""

_NO_REPORT: Final = FunctionReport()


class FunctionUsage:
    """What is reported of one function. Times are seconds of the controller's clock.

    Attributes:
        samples: what it did, oldest first.
        by_process: the last report of each process, by its id; ``at`` is when it came.

    Mutable state: these, and ``_busy_s`` and ``_calls`` (of all that were reported, over all loads
    and processes), ``_silent`` (the last reports of processes that send none, by their ids, the
    latest last).
    """

    __slots__ = ("_busy_s", "_calls", "_silent", "by_process", "samples")  # there are thousands

    def __init__(self) -> None:
        self.samples: deque[UsageSample] = deque(maxlen=MAX_SAMPLES)
        self.by_process: dict[str, FunctionReport] = {}
        self._busy_s = 0.0
        self._calls = 0
        self._silent: dict[str, FunctionReport] = {}

    @property
    def reports(self) -> list[FunctionReport]:
        """The last report of each process that serves it."""
        return list(self.by_process.values())

    @property
    def sequences(self) -> int:
        """Live sequences by the last reports: a move would end them."""
        return sum(report.sequences for report in self.by_process.values())

    def receive(self, source: str, report: FunctionReport, now: float) -> None:
        """Takes the report of one process. Its counters grow while the function is loaded and
        restart at 0 with each load. One that was silent has worked since its last report, and not
        in this moment: what it did before counts once.
        """
        before = self.by_process.get(source) or self._silent.pop(source, _NO_REPORT)
        busy_s, calls = report.busy_s - before.busy_s, report.calls - before.calls
        self._busy_s += busy_s if busy_s >= 0 else report.busy_s
        self._calls += calls if calls >= 0 else report.calls
        self.by_process[source] = replace(report, at=now)

    def drop(self, source: str) -> None:
        """A process has it no more."""
        self.by_process.pop(source, None)
        self._silent.pop(source, None)

    def drop_silent(self, before: float) -> None:
        """Drops the reports of processes that have sent none since."""
        for source in [name for name, report in self.by_process.items() if report.at < before]:
            self._silent[source] = self.by_process.pop(source)
        while len(self._silent) > MAX_SILENT:
            del self._silent[next(iter(self._silent))]

    def take_sample(self, now: float, min_interval_s: float) -> None:
        """Makes a sample of the last reports; it replaces the last sample while that is younger
        than ``min_interval_s``.
        """
        if not self.by_process:
            return
        sample = add_usage(now, self.reports, busy_s=self._busy_s, calls=self._calls)
        if len(self.samples) > 1 and now - self.samples[-2].at < min_interval_s:
            self.samples.pop()
        self.samples.append(sample)
