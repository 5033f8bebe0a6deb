"""What a traffic needs, as ``needs.make_plan`` found it: by function and in all, what is promised
beside it, and how sure it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deployments.scaling.planning.costs import Costs
from deployments.scaling.planning.moments import Moment

Outcome = Literal["PASS", "FAIL", "UNSURE"]
"""PASS: all that is promised holds; UNSURE: a promised latency lies within its range."""


@dataclass(frozen=True, slots=True)
class MachineSize:
    """A machine of the plan.

    Attributes:
        cores: for computing.
        cpus_per_core: logical CPUs that Ray has for each (``LOGICAL_CPUS_PER_CORE``).
        host_mb: what functions in its host may hold together (``memory_mb``); None: half of the
            memory.
    """

    cores: int
    memory_bytes: int
    gpus: int = 0
    cpus_per_core: float = 4.0
    host_mb: int | None = None

    @property
    def cpus(self) -> int:
        """Logical CPUs, as Ray counts them."""
        return math.ceil(self.cores * self.cpus_per_core)

    @property
    def host_bytes(self) -> int:
        """What functions in its host may hold together."""
        return self.memory_bytes // 2 if self.host_mb is None else self.host_mb * 1_000_000


@dataclass(frozen=True, slots=True)
class Range:
    """What a number was in several runs.

    Attributes:
        low, high: the smallest and the largest.
    """

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class FunctionPlan:
    """What one function needs.

    Attributes:
        rate: answered calls a second.
        refused: calls.
        expired: calls that are answered with 504, since their deadline has passed.
        warm: share of the calls that found it loaded.
        p50_s, p95_s, p99_s: from a call's arrival to its answer; infinite where that many have none
            before their deadline, 0 where no call came.
        ranges: of these, by ``p50``, ``p95``, ``p99``, and of ``held_s``; empty: it was run once.
        promised: what ``slo`` promises: ``p50``, ``p95``, ``p99`` in seconds at most; ``success``
            and ``warm``, shares at least.
        replicas: the most of its own at once; 0: it stays in the host.
        missing: the most that were wanted and did not fit.
        replica_s, host_s, asleep_s: seconds of its own replicas together, in the host, and asleep.
        batch_rows: of a batch, on average.
        work_s: worker seconds.
        num_gpus: that a replica takes.
        memory_bytes: that it holds at its peak, the processes of its replicas included.
        used: None: no price was given.
    """

    function: str
    calls: int
    rate: float
    refused: int
    expired: int
    wakes: int
    warm: float
    p50_s: float
    p95_s: float
    p99_s: float
    ranges: Mapping[str, Range]
    promised: Mapping[str, float]
    replicas: int
    missing: int
    replica_s: float
    host_s: float
    asleep_s: float
    batch_rows: float
    work_s: float
    num_gpus: float
    memory_bytes: int
    used: Costs | None
    moments: tuple[Moment, ...]

    @property
    def held_s(self) -> float:
        """Seconds of replicas, where the host counts as one."""
        return self.replica_s + self.host_s

    @property
    def gpu_s(self) -> float:
        """GPU seconds that its replicas hold."""
        return self.num_gpus * self.replica_s

    @property
    def holds(self) -> bool:
        """Whether what is promised holds; where no share of right answers is, none is refused or
        expires.
        """
        return not self.broken and not (self.failed and "success" not in self.promised)

    @property
    def failed(self) -> int:
        """Calls without an answer."""
        return self.refused + self.expired

    @property
    def latencies_s(self) -> Mapping[str, float]:
        """By the names of what is promised."""
        return {"p50": self.p50_s, "p95": self.p95_s, "p99": self.p99_s}

    @property
    def shares(self) -> Mapping[str, float]:
        """Likewise: of calls that were answered, and that found it warm."""
        whole = max(1, self.calls + self.refused)
        return {"success": max(0.0, 1 - self.failed / whole), "warm": self.warm}

    @property
    def broken(self) -> tuple[str, ...]:
        """Which promises do not hold."""
        taken, shares = self.latencies_s, self.shares
        return tuple(
            name
            for name, bound in self.promised.items()
            if (taken[name] > bound if name in taken else shares[name] < bound)
        )

    @property
    def unsure(self) -> tuple[str, ...]:
        """Which promised latencies lie within their range: they may hold or not."""
        return tuple(
            name
            for name, bound in self.promised.items()
            if name in self.ranges and self.ranges[name].low <= bound < self.ranges[name].high
        )

    @property
    def outcome(self) -> Outcome:
        """In a word."""
        if set(self.broken) - set(self.unsure) or (self.failed and "success" not in self.promised):
            return "FAIL"
        return "UNSURE" if self.unsure else "PASS"


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """What a traffic needs.

    Attributes:
        traffic: in words.
        seconds: of it that were looked at.
        machines: of ``size``.
        is_enough: all that was wanted fits on them.
        most_bytes: of functions and replicas together, at one moment.
        runs: of the calls, each with other arrivals and batches; 1: ranges are not known.
        used, whole: costs of what is used, and of the machines; None: no price was given.
        notes: what the numbers do not say, and why they may be of something else.
    """

    traffic: str
    seconds: float
    machines: int
    size: MachineSize
    is_enough: bool
    most_bytes: int
    runs: int
    functions: tuple[FunctionPlan, ...]
    used: Costs | None
    whole: Costs | None
    notes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether everything that is promised holds."""
        return self.is_enough and all(function.holds for function in self.functions)

    @property
    def outcome(self) -> Outcome:
        """In a word."""
        found = {function.outcome for function in self.functions}
        if not self.is_enough or "FAIL" in found:
            return "FAIL"
        return "UNSURE" if "UNSURE" in found else "PASS"
