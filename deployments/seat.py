"""One function as the owner of placement knows it: what it was seen doing, what was decided, what is under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from runtime.tiers import Tier, Use

Words = dict[str, Any]

Step = Literal["settled", "starting", "routing", "renewing", "warming", "unrouting", "deleting"]
"""What is under way: a deployment of its own starts without a prefix, is given it; takes another version of the function; the host loads
it, the deployment loses its prefix, is deleted."""

MOST_LOOKS: Final = 240
"""Looks kept of a function; with a long ``downscale_delay_s`` they are thinned out instead of growing."""

MOST_DECISIONS: Final = 50

MOST_CRIMES: Final = 20
"""The last ones are kept; nobody commits more, for less is enough for quarantine."""

CRIMES: Final = 4
"""So many within ``CRIME_S``, and nobody runs the function any more. One row brings down two processes before it is refused itself
(``runtime/witness/condemned``): it takes two such rows."""

CRIME_S: Final = 600.0

COUNTERS: Final = ("busy_s", "calls")
"""Of a report: they grow while a function is loaded and begin anew with each load."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Something decided.

    Attributes:
        at: seconds since the epoch: people read it.
        why: with its numbers: ``host → own: 1.3 cores of work over 4 s``.
    """

    at: float
    why: str

    def words(self) -> Words:
        """As plain data."""
        return {"at": self.at, "why": self.why}


@dataclass(frozen=True, slots=True)
class Crime:
    """A process that the function brought down.

    Attributes:
        at: seconds since the epoch when somebody noticed.
        how: for people.
        is_certain: false when it was only at work in more than one that were killed.
    """

    at: float
    how: str
    is_certain: bool = True


@dataclass(slots=True)
class Seat:
    """A declared function and where it is served.

    Attributes:
        data: ``name``, ``url`` (its prefix), ``args`` (its declaration), ``fixed`` (a deployment of its own from the start), ``identity``,
            ``memory_bytes`` and ``probed`` of the probe, as ``up`` said them.
        former: ``data`` as it was declared before, while it is being renewed, to go back to.
        refusal: why its deployment did not take the version that was declared last; empty when it did.
        tier: who answers its calls now.
        step: what is under way.
        since: when the tier began, and the step, on the owner's clock.
        ordered_at: when Ray had taken the last order about it, on the owner's clock.
        looks: what it did, oldest first.
        said: the last report of each process that has it, by the process's id, with the time it came.
        failures, failed_at: promotions that failed one after another.
        crimes: processes that it brought down, in their order.
        lacks: what is missing for a deployment of its own that it has earned; empty when nothing is, or it has not.
        suspected: when processes died that it was at work in, of which nothing more is known; seconds since the epoch.
    """

    data: Words
    former: Words = field(default_factory=dict)
    refusal: str = ""
    tier: Tier = "host"
    step: Step = "settled"
    since: float = 0.0
    step_since: float = 0.0
    ordered_at: float = 0.0
    looks: deque[Use] = field(default_factory=lambda: deque(maxlen=MOST_LOOKS))
    decisions: deque[Decision] = field(default_factory=lambda: deque(maxlen=MOST_DECISIONS))
    said: dict[str, tuple[float, Words]] = field(default_factory=dict)
    failures: int = 0
    failed_at: float = 0.0
    lacks: str = ""
    crimes: deque[Crime] = field(default_factory=lambda: deque(maxlen=MOST_CRIMES))
    suspected: list[float] = field(default_factory=list)
    _totals: Words = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0.0))

    @property
    def name(self) -> str:
        """Its name, and its application's."""
        name: str = self.data["name"]
        return name

    @property
    def fixed(self) -> bool:
        """Whether it has a deployment of its own from the start and for good."""
        return bool(self.data["fixed"])

    @property
    def is_quarantined(self) -> bool:
        """Whether nobody runs it any more, until it is declared anew. To be killed from outside makes nobody guilty enough for that."""
        at = [crime.at for crime in self.crimes if crime.is_certain]
        return any(last - first <= CRIME_S for first, last in zip(at, at[CRIMES - 1 :], strict=False))

    @property
    def record(self) -> str:
        """Its crimes in words."""
        return "; ".join(crime.how for crime in self.crimes)

    def heard(self, source: str, report: Words, now: float) -> None:
        """Takes the report of one process."""
        before = self.said.get(source, (0.0, {}))[1]
        for counter in COUNTERS:
            grown = report.get(counter, 0) - before.get(counter, 0)
            self._totals[counter] += grown if grown >= 0 else report.get(counter, 0)
        self.said[source] = (now, report)

    def forget(self, before: float) -> None:
        """Drops the reports of processes that have not been heard of since."""
        for source in [source for source, (at, _) in self.said.items() if at < before]:
            del self.said[source]

    def look(self, now: float, least_s: float) -> None:
        """Makes a look of what the processes said last; the last one is replaced while it is younger than ``least_s``."""
        reports = [report for _, report in self.said.values()]
        if not reports:
            return
        p95 = [report["p95_ms"] for report in reports if report.get("p95_ms") is not None]
        use = Use(
            at=now,
            busy_s=self._totals["busy_s"],
            calls=int(self._totals["calls"]),
            in_flight=sum(report.get("in_flight", 0) for report in reports),
            waiting_rows=sum(report.get("waiting_rows", 0) for report in reports),
            sequences=sum(report.get("sequences", 0) for report in reports),
            idle_s=min(report.get("idle_s", 0.0) for report in reports),
            p95_ms=max(p95, default=None),
        )
        if len(self.looks) > 1 and now - self.looks[-2].at < least_s:
            self.looks.pop()
        self.looks.append(use)

    def decided(self, why: str, wall: float) -> None:
        """Keeps a decision in words; the same one said again and again is kept once, with its last time."""
        if self.decisions and self.decisions[-1].why == why:
            self.decisions.pop()
        self.decisions.append(Decision(wall, why))


def fits(seat: Seat, free: Mapping[str, float]) -> Literal[True] | str:
    """Whether a replica finds room, or what is missing.

    Args:
        free: resources of the cluster that nobody has, by Ray's names.
    """
    wanted: Words = seat.data["args"]["resources"]
    needs = {"CPU": wanted["num_cpus"], "GPU": wanted["num_gpus"], "memory": (wanted.get("memory_mb") or 0) * 1024 * 1024}
    lacking = [f"{most:g} {name} are needed and {free.get(name, 0):g} free" for name, most in needs.items() if most > free.get(name, 0)]
    return " and ".join(lacking) or True
