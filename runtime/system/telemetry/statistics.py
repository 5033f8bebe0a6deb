"""The counts of functions as Triton's *statistics extension* has them: what its clients, and
perf_analyzer, ask for at ``/v2/models/NAME/stats``.

What there is no such thing of here is 0: answers from a cache. The time of a call's parts is that
of ``Server-Timing``: a batch's making and the stages before the models are ``compute_input``, the
models ``compute_infer``, the stages behind them ``compute_output``.
"""

from __future__ import annotations

import math
import operator
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from types import MappingProxyType
from typing import Any, Final, Self

from runtime.system.telemetry.counters import (
    FAILED,
    FunctionCounters,
    ProcessCounters,
    told_apart,
)

VERSION = "1"
"""The only one of each function, in the protocol's word."""


@dataclass(frozen=True, slots=True)
class FunctionStatistics:
    """What was counted of one function, in one process or in several together.

    Attributes:
        succeeded, failed: calls over HTTP, with an answer and with an error.
        computed: those whose rows were computed.
        rows: accepted, those from other functions among them.
        total_s, failed_s: seconds of all calls, and of those that failed.
        queue_s, input_s, infer_s, output_s: seconds of the computed ones by part.
        batches: by rows of a batch of its last stage that makes batches: how many, and their
            seconds.
        executions: all of these, and the calls that were computed while no stage made any.
        last_at: when the last call was over, seconds since the epoch; 0: there was none.
        wakes: cold starts.
        seconds: calls by their seconds, a count for each bucket of ``counters.SECONDS`` and one for
            what is above all; empty: there was none.
        errors: calls that were answered with an error, by its code.
    """

    succeeded: int = 0
    failed: int = 0
    computed: int = 0
    rows: int = 0
    total_s: float = 0.0
    failed_s: float = 0.0
    queue_s: float = 0.0
    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0
    executions: int = 0
    batches: Mapping[int, tuple[int, float]] = field(default_factory=lambda: MappingProxyType({}))
    last_at: float = 0.0
    wakes: int = 0
    seconds: tuple[int, ...] = ()
    errors: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, counters: FunctionCounters) -> Self:
        """What one process has counted, as far as it is counted now."""
        calls = counters.calls
        codes, batches = dict(calls.codes), dict(counters.final_batches)
        failed = sum(count for code, count in codes.items() if code >= FAILED)
        since = time.monotonic() - calls.answered_at
        return cls(
            succeeded=sum(codes.values()) - failed,
            failed=failed,
            computed=calls.computed,
            rows=counters.rows,
            total_s=calls.total_s.sum,
            failed_s=calls.failed_s,
            queue_s=calls.queue_s.sum,
            input_s=calls.batch_s.sum + calls.before_s,
            infer_s=calls.model_s.sum,
            output_s=calls.behind_s,
            executions=sum(count for count, _ in batches.values()) + calls.unbatched,
            batches=batches,
            last_at=time.time() - since if calls.answered_at else 0.0,
            wakes=counters.wakes,
            seconds=tuple(calls.total_s.counts) if calls.answered_at else (),
            errors=dict(calls.errors),
        )

    @classmethod
    def from_list(cls, data: Iterable[Any]) -> Self:
        """Return what ``to_list`` was made from, in another process."""
        numbers, (batches, last_at, seconds, errors) = data
        return cls(
            **dict(zip(SUMS, numbers, strict=True)),
            batches={rows: (count, took_s) for rows, count, took_s in batches},
            last_at=last_at,
            seconds=tuple(seconds),
            errors=errors,
        )

    def to_list(self) -> list[Any]:
        """Plain data, for another process."""
        numbers = [getattr(self, name) for name in SUMS]
        batches = [[rows, *of] for rows, of in self.batches.items()]
        return [numbers, [batches, self.last_at, list(self.seconds), dict(self.errors)]]

    def __add__(self, other: FunctionStatistics) -> FunctionStatistics:
        batches = dict(self.batches)
        for rows, (count, seconds) in other.batches.items():
            before, before_s = batches.get(rows, (0, 0.0))
            batches[rows] = before + count, before_s + seconds
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        return replace(
            self,
            **sums,
            batches=batches,
            last_at=max(self.last_at, other.last_at),
            seconds=_add_counts(self.seconds, other.seconds),
            errors=dict(Counter(self.errors) + Counter(other.errors)),
        )

    def to_triton(self, name: str) -> dict[str, Any]:
        """An element of ``model_stats``, of the function of that name."""
        return {
            "name": name,
            "version": VERSION,
            "last_inference": round(self.last_at * 1000),
            "inference_count": self.rows,
            "execution_count": self.executions,
            "inference_stats": {
                "success": _duration(self.succeeded, self.total_s - self.failed_s),
                "fail": _duration(self.failed, self.failed_s),
                "queue": _duration(self.computed, self.queue_s),
                "compute_input": _duration(self.computed, self.input_s),
                "compute_infer": _duration(self.computed, self.infer_s),
                "compute_output": _duration(self.computed, self.output_s),
                "cache_hit": _duration(0, 0.0),
                "cache_miss": _duration(0, 0.0),
            },
            "batch_stats": [
                {
                    "batch_size": rows,
                    "compute_input": _duration(count, 0.0),
                    "compute_infer": _duration(count, seconds),
                    "compute_output": _duration(count, 0.0),
                }
                for rows, (count, seconds) in sorted(self.batches.items())
            ],
            "memory_usage": [],
        }


CALLS: Final = ("succeeded", "failed", "computed", "rows", "executions", "wakes")
SUMS: Final = (*CALLS, "total_s", "failed_s", "queue_s", "input_s", "infer_s", "output_s")


def has_forgotten(before: FunctionStatistics, now: FunctionStatistics) -> bool:
    """Whether what a process has counted of a function is not in what it has counted now: it
    forgets a function that leaves it, and counts one that comes back from nothing.
    """
    return (
        any(getattr(now, name) < getattr(before, name) for name in CALLS)
        or any(count > now.errors.get(code, 0) for code, count in before.errors.items())
        or any(map(operator.gt, before.seconds, now.seconds or repeat(0)))
    )


@dataclass(frozen=True, slots=True)
class StatisticsReport:
    """What one process reports to another of what it has counted, as plain data.

    Attributes:
        functions: by name, as of ``FunctionStatistics.to_list``.
        age_s: seconds since the process began to count, from nothing. No time of day: clocks of
            machines differ. Infinite: it does not say.
        is_whole: functions that are not among these have counted nothing; else these are the ones
            that were called lately.
    """

    functions: Mapping[str, list[Any]] = field(default_factory=dict)
    age_s: float = math.inf
    is_whole: bool = False

    @classmethod
    def of(cls, counters: ProcessCounters, since: float = 0.0) -> Self:
        """What a process reports of functions, those that were called since, as of
        ``time.monotonic``; 0: of all.
        """
        functions = {
            one.name: FunctionStatistics.of(one).to_list()
            for one in counters
            if one.calls.answered_at >= since
        }
        return cls(functions, time.monotonic() - counters.began_at, is_whole=not since)

    @classmethod
    def of_one(cls, counters: ProcessCounters, name: str) -> Self:
        """What a process reports of a function."""
        one = counters.find(name)
        functions = {} if one is None else {name: FunctionStatistics.of(one).to_list()}
        return cls(functions, time.monotonic() - counters.began_at)


def has_earlier_counts(age_s: float, since_s: float) -> bool:
    """Whether a process may have counted something before a time.

    Args:
        age_s: as of ``StatisticsReport``.
        since_s: seconds since that time. A process seems younger by as long as its report is under
            way: milliseconds, and up to 5 s, the longest wait for an answer, where the receiver is
            busy. Of one that began so shortly before that time all is taken for later.
    """
    return age_s > since_s


SILENT_S: Final = 30.0
"""A process that has reported nothing for so long has ended as a rule, or was cut off and reports
again. While no report comes at all, as to a table that was stopped itself, this time stands still.
"""

PAUSE_S: Final = 15.0
"""Between two reports, of whatever processes, from which on it has heard of none; ``run --workers``
asks each 10 s.
"""

SILENT_PROCESSES: Final = 500
SILENT_FUNCTIONS: Final = 20_000
"""Of processes that are silent so many are kept, and of functions that they have counted: what one
of them reports again takes the place of what it had reported. Of further ones, the longest silent
first, the counts alone are kept, and what they would report again is counted twice. A function of
a process takes one or two kilobytes, and 10 µs of each sum of it; one that has failed with 64 codes
6.6 KB, and 29 µs.
"""

ENDED_S: Final = 3600.0
"""One that is silent for so long has ended, likewise. Where the table has heard of none, this time
begins anew.
"""


def surplus_of(silent: Sequence[int]) -> int:
    """Return how many of the processes that are silent are too many, the first ones.

    Args:
        silent: functions that each has counted, the longest silent first.
    """
    kept = 0
    for place, functions in enumerate(reversed(silent)):
        kept += functions
        if place == SILENT_PROCESSES or kept > SILENT_FUNCTIONS:
            return len(silent) - place
    return 0


MOST_REMOVED: Final = 2000
"""Names of functions that were removed, the last ones: processes may report of them for a while."""


@dataclass(slots=True)
class _ProcessStatistics:
    """What one process has reported. Mutable state: all of it.

    Attributes:
        counted: by function.
        earlier: what of that it had counted before the table's time, likewise.
        is_known: whatever is not in ``earlier`` was counted after.
        reported_at: when it has reported last.
        age_s: of that report.
    """

    counted: dict[str, FunctionStatistics] = field(default_factory=dict)
    earlier: dict[str, FunctionStatistics] = field(default_factory=dict)
    is_known: bool = False
    reported_at: float = 0.0
    age_s: float = 0.0


class StatisticsTable:
    """What all processes have reported that serve the functions, in the one that adds it up: since
    they began to count (``all``), and what of that is earlier than a time (``earlier``).

    Args:
        now: that time, seconds as of ``time.monotonic``.

    Mutable state: ``_since`` (processes that began before it may have counted before), ``_active``
    (by process), ``_silent`` (likewise, those that have reported nothing for ``SILENT_S``, the
    longest silent first), ``_ended`` (of all processes that are gone together), ``_heard_at`` and
    ``_resumed_at`` (of the last report, and of the first after a pause), ``_declared`` and
    ``_removed`` (the names of functions that there are, and of the last that there were),
    ``_sums`` and ``_changed`` (of all processes by function, and the names that are added up anew),
    ``_earlier`` (likewise of the earlier counts; None: they have changed), ``_codes`` (of errors
    that are told apart, by function).
    """

    def __init__(self, now: float) -> None:
        self._since = self._heard_at = self._resumed_at = now
        self._active: dict[str, _ProcessStatistics] = {}
        self._silent: dict[str, _ProcessStatistics] = {}
        self._ended = _ProcessStatistics()
        self._declared: frozenset[str] = frozenset()
        self._removed: dict[str, None] = {}
        self._sums: dict[str, FunctionStatistics] = {}
        self._changed: set[str] = set()
        self._codes: dict[str, set[str]] = {}
        self._earlier: dict[str, FunctionStatistics] | None = None

    def begin(self, now: float) -> None:
        """What was counted until now is of the time before."""
        self._since, self._earlier = now, None
        for one in self._processes():
            one.earlier, one.is_known = dict(one.counted), False

    def keep(self, process: str, report: StatisticsReport, now: float) -> None:
        """A process has reported what it has counted of some functions. A report that comes after
        one that was made later is left out: it would take back what was counted between.
        """
        one = self._active.get(process) or self._silent.pop(process, None) or _ProcessStatistics()
        self._active[process], one.reported_at = one, now
        if report.age_s < one.age_s:
            return
        one.age_s = report.age_s
        counted = {
            name: self._bound_codes(name, FunctionStatistics.from_list(data))
            for name, data in report.functions.items()
            if name not in self._removed
        }
        if report.is_whole:
            counted |= dict.fromkeys(one.counted.keys() - counted.keys(), FunctionStatistics())
        changed = {
            name: found
            for name, found in counted.items()
            if name not in one.counted or _counts(found) != _counts(one.counted[name])
        }
        self._changed.update(changed)
        for name in changed.keys() & one.counted.keys():
            if has_forgotten(one.counted[name], changed[name]):
                self._end(one, name)
        one.counted.update(counted)
        if not one.is_known:
            has_earlier = has_earlier_counts(report.age_s, now - self._since)
            one.is_known = report.is_whole or not has_earlier
            if has_earlier:
                one.earlier.update(counted)
                self._earlier = None
        self._end_silent(now)

    def _bound_codes(self, name: str, found: FunctionStatistics) -> FunctionStatistics:
        """Those that are told apart are the same of each process, whichever is heard of first: so
        no sum of a code falls.
        """
        if not found.errors:
            return found
        known, errors = self._codes.setdefault(name, set()), Counter[str]()
        for code, count in found.errors.items():
            counted_by = told_apart(code, known)
            known.add(counted_by)
            errors[counted_by] += count
        return replace(found, errors=dict(errors))

    def _end(self, one: _ProcessStatistics, name: str) -> None:
        """The past takes what a process has counted of a function; the sums of all stay what they
        are.
        """
        past = self._ended
        for ended, counts in ((past.counted, one.counted), (past.earlier, one.earlier)):
            if name in counts:
                _add_to(ended, {name: counts[name]})
                counts[name] = FunctionStatistics()

    def _end_silent(self, now: float) -> None:
        if now - self._heard_at > PAUSE_S:
            self._resumed_at = now
        self._heard_at, last = now, now - SILENT_S
        if last < self._resumed_at:
            return
        silent = [process for process, one in self._active.items() if one.reported_at < last]
        if silent:
            self._silent |= {process: self._active.pop(process) for process in silent}
            surplus = surplus_of([len(one.counted) for one in self._silent.values()])
        elif self._silent:  # one a report: its functions may be many
            first = next(iter(self._silent.values()))
            surplus = int(max(first.reported_at, self._resumed_at) < now - ENDED_S)
        else:
            return
        for process in list(self._silent)[:surplus]:
            ended = self._silent.pop(process)
            for name in ended.counted:
                self._end(ended, name)
            # If it reports again it is not known, and what it has reported is counted already. It
            # began before it reported last; a process that began later is another.
            self._since = max(self._since, ended.reported_at)

    def is_known(self, process: str) -> bool:
        """Whether it is known what a process had counted before."""
        one = self._active.get(process)
        return one is not None and one.is_known

    def declare(self, names: Iterable[str]) -> None:
        """There are these functions: the counts of others are forgotten, and those of functions
        that there were are not taken from a process that reports of them because it does not know
        yet. They would be calls of a function that has the same name later. Of one that is new a
        process may report sooner than it is declared here, and that counts.
        """
        declared = frozenset(names)
        removed = [one for one in (*self._removed, *self._declared) if one not in declared]
        self._removed = dict.fromkeys(removed[-MOST_REMOVED:])
        self._declared, self._earlier = declared, None
        for one in self._processes():
            for counted in (one.counted, one.earlier):
                for name in counted.keys() - declared:
                    del counted[name]
        for name in self._sums.keys() - declared:
            del self._sums[name]
        for name in self._codes.keys() - declared:
            del self._codes[name]
        self._changed &= declared

    def _processes(self) -> list[_ProcessStatistics]:
        return [self._ended, *self._silent.values(), *self._active.values()]

    def of(self, name: str) -> FunctionStatistics:
        """A function in all processes together."""
        found = [one.counted[name] for one in self._processes() if name in one.counted]
        return sum(found, start=FunctionStatistics())

    def all(self) -> Mapping[str, FunctionStatistics]:
        """Every function that was counted anywhere, likewise. Those alone are added up that were
        called since they were asked for: all 1,000 of four processes take 50 to 110 ms, and the
        catalogue, which has one event loop, is asked at each look.
        """
        for name in self._changed:
            self._sums[name] = self.of(name)
        self._changed.clear()
        return self._sums

    def earlier(self) -> Mapping[str, FunctionStatistics]:
        """What of ``all`` was counted before the table's time, of functions that had been. Added up
        when it has changed, which is seldom.
        """
        if self._earlier is None:
            self._earlier = {}
            for one in self._processes():
                _add_to(self._earlier, one.earlier)
        return self._earlier


def _add_to(
    found: dict[str, FunctionStatistics], counted: Mapping[str, FunctionStatistics]
) -> None:
    for name, one in counted.items():
        found[name] = found[name] + one if name in found else one


_counts = operator.attrgetter(*SUMS, "batches", "seconds", "errors")
"""All but ``last_at``, which is another at each reading by what two clocks differ."""

ReadStatistics = Callable[[str], Awaitable[Mapping[str, FunctionStatistics]]]
"""Returns what was counted of the function of that name, or, for an empty one, of all that clients
may call, by name.
"""


def model_statistics(found: Mapping[str, FunctionStatistics]) -> dict[str, Any]:
    """The answer of Triton's statistics extension."""
    return {"model_stats": [one.to_triton(name) for name, one in found.items()]}


def _add_counts(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Of the same buckets, or of none."""
    return tuple(map(operator.add, one, other)) if one and other else one or other


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": max(0, round(seconds * 1e9))}
