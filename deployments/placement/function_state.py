"""What the placement controller knows of one function: its declaration, what it was seen doing,
what was decided, which transition is under way, and which crashes it caused; and which functions
are kept awake.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, Final, Literal

from deployments.control.declarations import FunctionDeclaration
from deployments.scaling.tier_policy import Tier
from runtime.declaration.awake_hours import is_awake
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import NotFound
from runtime.library.function_report import FunctionReport, UsageSample, add_usage
from runtime.system.crash.reports import CrashReport
from runtime.system.messages import did_you_mean

Transition = Literal[
    "steady",
    "starting",
    "adding_route",
    "updating",
    "loading_in_host",
    "removing_route",
    "deleting",
]
"""What is under way. Up: a deployment of its own starts without a prefix (``starting``) and is
given it (``adding_route``). Down: the host loads the function (``loading_in_host``), the deployment
loses its prefix (``removing_route``) and is deleted (``deleting``). ``updating``: it takes another
version."""

MAX_SAMPLES: Final = 240
"""Samples kept of a function; with a long ``downscale_delay_s`` they are thinned out instead of
growing in number.
"""

MAX_DECISIONS: Final = 50

MAX_CRASHES: Final = 20
"""The last ones are kept. No function causes more: fewer are enough for quarantine."""

CRASHES_TO_QUARANTINE: Final = 4
"""After so many within ``CRASH_WINDOW_S`` no process runs the function any more. One row crashes
two processes before it is refused itself (``runtime.system.crash.quarantine``): it takes two such
rows.
"""

CRASH_WINDOW_S: Final = 600.0

NO_REPORT: Final = FunctionReport()

SUSPICION_S: Final = 600.0
"""Two unexplained crashes within these, with the same function running in both: it is taken for the
cause.
"""


@dataclass(frozen=True, slots=True)
class PlacementDecision:
    """One decision.

    Attributes:
        at: seconds since the epoch: people read it.
        why: with its numbers: ``host → own: 1.3 cores of work over 4 s``.
        kind: of what may be decided again and again while nothing changes, with other numbers;
            empty for what happens once.
    """

    at: float
    why: str
    kind: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for people."""
        return {"at": self.at, "why": self.why}


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """A process that the function crashed.

    Attributes:
        at: seconds since the epoch when the crash was noticed.
        how: for people.
        is_certain: false when the function only ran in more than one process that was killed.
    """

    at: float
    how: str
    is_certain: bool = True


@dataclass(slots=True)
class FunctionState:
    """A declared function and where it is served. Times are seconds of the controller's clock,
    unless they say otherwise.

    Attributes:
        declaration: as ``wakeful up`` declared it last, or the version to go back to.
        ordered: the declaration that Ray was last ordered to deploy; None when there was no order,
            or it is not known.
        previous: the declaration before, during an update, to go back to.
        confirm_at: when its deployment is to be ordered once more as it is to be, which changes
            nothing where it is so: an order that failed, or was given before a restart, may have
            come about in part or late.
        mismatch_since: since when Ray has an application that should not be, or none where one
            should; None while all is right.
        update_error: why its deployment did not take the version that was declared last; empty when
            it did.
        tier: where its calls are answered now.
        tier_since: when the tier began.
        transition: what is under way.
        transition_since: when that began, or its order was carried out or refused.
        is_order_taken: Ray has carried out the order of the transition.
        samples: what it did, oldest first.
        last_reports: the last one of each process, by its id; ``at`` is when it came.
        failures, failed_at: promotions that failed one after another.
        missing_resources: what a deployment of its own lacks, in words, if it has earned one; empty
            when nothing is missing.
        crashes: processes that it crashed, oldest first.
        suspected_at: when processes in which it ran ended for no known cause; seconds since the
            epoch.
    """

    declaration: FunctionDeclaration
    previous: FunctionDeclaration | None = None
    ordered: FunctionDeclaration | None = None
    confirm_at: list[float] = field(default_factory=list)
    mismatch_since: float | None = None
    update_error: str = ""
    tier: Tier = "host"
    tier_since: float = 0.0
    transition: Transition = "steady"
    transition_since: float = 0.0
    is_order_taken: bool = False
    samples: deque[UsageSample] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))
    decisions: deque[PlacementDecision] = field(default_factory=lambda: deque(maxlen=MAX_DECISIONS))
    last_reports: dict[str, FunctionReport] = field(default_factory=dict)
    failures: int = 0
    failed_at: float = 0.0
    missing_resources: str = ""
    crashes: deque[CrashRecord] = field(default_factory=lambda: deque(maxlen=MAX_CRASHES))
    suspected_at: list[float] = field(default_factory=list)
    _busy_s: float = 0.0
    _calls: int = 0

    @property
    def name(self) -> str:
        """Its name, and its application's."""
        return self.declaration.name

    @property
    def spec(self) -> FunctionSpec:
        """Its parsed declaration."""
        return self.declaration.spec

    @property
    def is_always_own(self) -> bool:
        """Whether it has a deployment of its own from the start and for good."""
        return self.declaration.is_always_own

    @property
    def reports(self) -> list[FunctionReport]:
        """The last report of each process that serves it."""
        return list(self.last_reports.values())

    @property
    def is_asleep(self) -> bool:
        """Whether no process reports it and nothing is to be done about it."""
        is_hosted = self.tier == "host" and self.transition == "steady"
        return is_hosted and not self.last_reports and not self.crashes

    @property
    def is_quarantined(self) -> bool:
        """Whether no process runs it until it is declared again with a change. Processes that were
        killed from outside do not count.
        """
        at = [crash.at for crash in self.crashes if crash.is_certain]
        return any(
            last - first <= CRASH_WINDOW_S
            for first, last in zip(at, at[CRASHES_TO_QUARANTINE - 1 :], strict=False)
        )

    @property
    def is_outdated(self) -> bool:
        """Whether its declaration has changed since its deployment was ordered."""
        if self.ordered is None:
            return True
        is_same = self.ordered is self.declaration or self.ordered.hash == self.declaration.hash
        return not is_same

    @property
    def sequences(self) -> int:
        """Live sequences by the last reports: a move would end them."""
        return sum(report.sequences for report in self.reports)

    @property
    def crash_summary(self) -> str:
        """Its crashes in words."""
        return "; ".join(crash.how for crash in self.crashes)

    def receive_report(self, source: str, report: FunctionReport, now: float) -> None:
        """Takes the report of one process. Its counters grow while the function is loaded and
        restart at 0 with each load.
        """
        before = self.last_reports.get(source, NO_REPORT)
        busy_s, calls = report.busy_s - before.busy_s, report.calls - before.calls
        self._busy_s += busy_s if busy_s >= 0 else report.busy_s
        self._calls += calls if calls >= 0 else report.calls
        self.last_reports[source] = replace(report, at=now)

    def drop_silent(self, before: float) -> None:
        """Drops the reports of processes that have sent none since."""
        for source in [name for name, report in self.last_reports.items() if report.at < before]:
            del self.last_reports[source]

    def take_sample(self, now: float, min_interval_s: float) -> None:
        """Makes a sample of the last reports; it replaces the last sample while that is younger
        than ``min_interval_s``.
        """
        reports = self.reports
        if not reports:
            return
        sample = add_usage(now, reports, busy_s=self._busy_s, calls=self._calls)
        if len(self.samples) > 1 and now - self.samples[-2].at < min_interval_s:
            self.samples.pop()
        self.samples.append(sample)

    def record_decision(self, why: str, wall: float, kind: str = "") -> None:
        """Keeps a decision; one that is repeated is kept once, with its last time and numbers.

        Repeated is what has a ``kind`` and was decided since something happened that has none (it
        was promoted, crashed a process); else what says the same as the last one.

        Args:
            wall: seconds since the epoch.
        """
        before: list[PlacementDecision] = []
        if kind:
            since = takewhile(lambda one: one.kind, reversed(self.decisions))
            before = [one for one in since if one.kind == kind]
        elif self.decisions and self.decisions[-1].why == why:
            before = [self.decisions[-1]]
        for one in before:
            self.decisions.remove(one)
        self.decisions.append(PlacementDecision(wall, why, kind))

    def enter(self, transition: Transition, now: float) -> None:
        """Begins a transition, or ends one (``steady``)."""
        self.transition, self.transition_since, self.is_order_taken = transition, now, False

    def on_order_taken(self, now: float) -> None:
        """Ray has carried out the order of the transition under way; what it does about it begins
        now.
        """
        if self.transition != "steady":
            self.transition_since, self.is_order_taken = now, True

    def set_tier(self, tier: Tier, now: float) -> None:
        """Another tier answers its calls from now on."""
        self.tier, self.tier_since = tier, now


class KeptFunctions:
    """Which functions are awake without calls, and which an operator has told to sleep, by name.
    ``placement`` and ``transitions`` act on it for functions in a host or promoted, the scaling
    policy for those that always have deployments of their own.

    Hours are read from the declarations as they were sent: to parse all of a large file
    takes seconds, and most functions sleep.

    Args:
        pinned: as persisted before a restart.

    Attributes:
        pinned: names; ``pin`` and ``unpin`` change them.
        sleeping: names of functions that are to sleep as soon as they are idle, while the request
            that says so waits.
    """

    def __init__(self, pinned: Iterable[str] = ()) -> None:
        self.pinned: set[str] = set(pinned)
        self.sleeping: set[str] = set()
        self._hours: dict[str, str] = {}

    def declare(self, declarations: Iterable[FunctionDeclaration]) -> None:
        """Take other declared functions; the pin of one that is gone is gone with it."""
        declared = {one.name: one.args for one in declarations}
        self.pinned &= declared.keys()
        self._hours = {
            name: hours
            for name, args in declared.items()
            if (hours := (args.get("autoscaling") or {}).get("awake"))
        }

    def names(self, wall: float) -> frozenset[str]:
        """Return the functions that are to be awake.

        Args:
            wall: seconds since the epoch.
        """
        awake = (name for name, hours in self._hours.items() if is_awake(hours, wall))
        return frozenset(self.pinned).union(awake)


def require_state(states: Mapping[str, FunctionState], name: str) -> FunctionState:
    """The state of a function that a client names.

    Raises:
        NotFound: no such function is declared.
    """
    if name not in states:
        raise NotFound(f"no function is named so{did_you_mean(name[:128], states) or '.'}")
    return states[name]


def missing_resources(state: FunctionState, free: Mapping[str, float]) -> str:
    """What a replica of its own lacks, in words; empty when it has room.

    Args:
        free: free resources of the cluster, by Ray's names.
    """
    resources = state.spec.resources
    needs = {
        "CPU": resources.num_cpus,
        "GPU": resources.num_gpus,
        "memory": (resources.memory_mb or 0) * 1024 * 1024,
    }
    return " and ".join(
        f"{need:g} {name} are needed and {free.get(name, 0):g} free"
        for name, need in needs.items()
        if need > free.get(name, 0)
    )


def attribute_crash(
    crash: CrashReport, states: Mapping[str, FunctionState]
) -> Iterator[tuple[str, CrashRecord]]:
    """The functions that crashed a process, and how. A suspect is remembered, and is the cause the
    second time. A crash of another version than the declared one does not count.
    """
    how = f"it brought down process {crash.pid} ({crash.words}"
    for name in crash.culprits:
        if name in states and _ran_declared_version(crash, states[name]):
            yield name, CrashRecord(crash.at, f"{how})")
    for name in crash.suspects:
        state = states.get(name)
        if state is None or name in crash.culprits or not _ran_declared_version(crash, state):
            continue
        recent = [at for at in state.suspected_at if at > crash.at - SUSPICION_S]
        state.suspected_at = [*recent, crash.at]
        if recent:
            how_often = f"and it was at work in {len(recent) + 1} processes that ended so"
            yield name, CrashRecord(crash.at, f"{how}, {how_often})", is_certain=False)


def _ran_declared_version(crash: CrashReport, state: FunctionState) -> bool:
    """Whether the declared version was running; yes where the versions are not known."""
    versions = crash.versions.get(state.name, ())
    return not versions or state.declaration.version in versions


def quarantine_message(state: FunctionState) -> str:
    """The message for clients of a quarantined function, from the host or a replica; empty while
    the function may run.

    A function that has crashed a process is on its way to a deployment of its own. Until that
    answers the host serves it: its clients are many, and the row that did it is run alone or not at
    all.
    """
    if not state.is_quarantined:
        return ""
    return (
        f"it is quarantined: {state.crash_summary}. Change the function and run `wakeful up` again."
    )
