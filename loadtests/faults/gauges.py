"""What long-lived processes hold while requests come and go: memory, open files, threads, and how fast that grows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psutil

from loadtests.bench.wake.server import Wakeful

TITLES = {
    "ServeReplica:host": "host",
    "ServeReplica:catalogue": "catalogue",
    "ServeReplica:embed": "replica",
    "ServeController": "controller",
    "HAProxyManager": "HAProxy's manager",
    "ProxyActor": "fallback proxy",
}
"""Part of a command line, to what the process is."""

MIB = 1 << 20
PER = 10_000
"""Requests that a slope is for."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process held.

    Attributes:
        at: seconds, ``time.monotonic``.
        requests: sent so far, to all functions.
    """

    at: float
    requests: int
    rss_bytes: int
    files: int
    threads: int


@dataclass(frozen=True, slots=True)
class Growth:
    """How a process grew over the time in which it was looked at.

    Attributes:
        slope_mib: of resident memory, MiB each 10,000 requests.
        files, threads: more at the end than at the begin.
    """

    role: str
    pid: int
    slope_mib: float
    files: int
    threads: int

    def __str__(self) -> str:
        return f"{self.role} {self.slope_mib:+.2f} MiB, {self.files:+d} files, {self.threads:+d} threads"


@dataclass(slots=True)
class Gauges:
    """The samples of each process that has a role."""

    samples: dict[tuple[str, int], list[Sample]] = field(default_factory=dict)

    def look(self, server: Wakeful, requests: int) -> None:
        """Adds one sample a process. Reads /proc; takes some tens of milliseconds."""
        for process in server.processes():
            try:
                with process.oneshot():
                    role = role_of(process.name(), process.cmdline())
                    if role:
                        held = Sample(time.monotonic(), requests, process.memory_info().rss, process.num_fds(), process.num_threads())
                        self.samples.setdefault((role, process.pid), []).append(held)
            except psutil.Error:
                continue

    def growths(self, warm_s: float, least_s: float) -> Iterator[Growth]:
        """Of each process that was looked at for so long, without its first seconds."""
        for (role, pid), samples in self.samples.items():
            warm = [one for one in samples if one.at >= samples[0].at + warm_s]
            if len(warm) >= 3 and warm[-1].at - warm[0].at >= least_s:
                yield growth(role, pid, warm)


def role_of(name: str, command: Sequence[str]) -> str:
    """What a process is; empty for one that is not looked at."""
    said = " ".join(command)
    return next((role for title, role in TITLES.items() if title in said), name if name in ("raylet", "gcs_server") else "")


def growth(role: str, pid: int, samples: Sequence[Sample]) -> Growth:
    """The slope by least squares, and the difference between the medians of the first third and the last."""
    requests = [float(one.requests) for one in samples]
    slope = statistics.linear_regression(requests, [float(one.rss_bytes) for one in samples]).slope if len(set(requests)) > 1 else 0.0
    third = max(1, len(samples) // 3)

    def more(of: Sequence[int]) -> int:
        return round(statistics.median(of[-third:]) - statistics.median(of[:third]))

    files, threads = more([one.files for one in samples]), more([one.threads for one in samples])
    return Growth(role, pid, slope * PER / MIB, files, threads)
