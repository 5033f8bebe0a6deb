"""What was counted of functions, by steps of time, in bounded memory. Pure: counts and clocks in,
lists out.

Theory of operation. A *look* has the counts of each function, which only grow, and the time. What
was counted since the look before belongs to the steps between the two (``share_steps``): as a rule
one step, whose end the look is. A function has numbers from the first look at which something of it
had changed, so one that sleeps costs nothing, and what has not been called for six hours is
forgotten. A function's numbers take 15 KB, and 2 KB for each code of its errors.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from runtime.http.catalogue.console.shapes import History, Number, Sample, Samples
from runtime.system.telemetry.counters import OTHER_CODE
from runtime.system.telemetry.recent import quantile
from runtime.system.telemetry.statistics import FunctionStatistics

SAMPLE_S: Final = 5
SHORT_S: Final = 10
LONG_S: Final = 60

LENGTHS: Final[Mapping[int, int]] = MappingProxyType({SAMPLE_S: 12, SHORT_S: 180, LONG_S: 360})
"""Steps that are kept, by their seconds: the last minute, half hour and six hours."""

MOST_SHARED: Final = 3
"""Steps that one look may be of. One that comes later, since the process was stopped, say, tells
nothing of when it was that something happened."""

MOST_CODES: Final = 16
"""Errors of a function that are told apart in one resolution, of ``counters.MAX_CODES``: each takes
2 KB here.
"""

_NAN: Final = math.nan
"""Of what was not measured."""


class Counts(NamedTuple):
    """What was counted of a function, until a time or within one.

    Attributes:
        seconds: calls by ``counters.SECONDS``; empty: none.
        batches: of its last stage that makes batches, and their rows together.
    """

    calls: int = 0
    errors: Mapping[str, int] = MappingProxyType({})
    seconds: tuple[int, ...] = ()
    batches: int = 0
    batch_rows: int = 0
    wakes: int = 0

    @classmethod
    def of(cls, counted: FunctionStatistics) -> Self:
        """As the processes that serve it have counted."""
        sizes = counted.batches.items()
        return cls(
            counted.succeeded + counted.failed,
            counted.errors,
            counted.seconds,
            sum(count for _, (count, _) in sizes),
            sum(rows * count for rows, (count, _) in sizes),
            counted.wakes,
        )

    def since(self, before: Counts) -> Counts:
        """Return what was counted after that; nothing where a count has become less."""
        if self == before:
            return NOTHING
        buckets = before.seconds or (0,) * len(self.seconds)
        errors = {code: count - before.errors.get(code, 0) for code, count in self.errors.items()}
        return Counts(
            max(0, self.calls - before.calls),
            {code: count for code, count in errors.items() if count > 0},
            tuple(max(0, now - then) for now, then in zip(self.seconds, buckets, strict=False)),
            max(0, self.batches - before.batches),
            max(0, self.batch_rows - before.batch_rows),
            max(0, self.wakes - before.wakes),
        )


NOTHING: Final = Counts()


def share_steps(before: float, at: float, step_s: int) -> tuple[range, bool]:
    """Return the steps that are over at a look and were not at the look before, as numbers since
    the epoch, and whether they have equal parts of what was counted between. Otherwise that belongs
    to the last of them, and of the others nothing is known. A clock that begins in 1970 and is set
    right has a few hundred million of them.
    """
    steps = range(int(before // step_s), int(at // step_s))
    return steps, len(steps) <= MOST_SHARED


class StepRing:
    """The numbers of one function, of steps of one length.

    Args:
        length: steps that are kept.
        first: the first step, as a number since the epoch.

    Mutable state: ``_columns``, a list for each quantity, a step's place is its number modulo the
    length; ``_errors``, likewise by code; ``_first`` and ``_last``, the steps that are known.
    """

    COLUMNS: Final = ("calls", "p50_ms", "p95_ms", "batch_rows", "wakes", "replicas")

    __slots__ = ("_columns", "_errors", "_first", "_last", "_length")

    def __init__(self, length: int, first: int) -> None:
        self._length = length
        self._columns = {name: array("f", bytes(4 * length)) for name in self.COLUMNS}
        self._errors: dict[str, array[float]] = {}
        self._first, self._last = first, first - 1

    @property
    def last(self) -> int:
        """The last step that is known."""
        return self._last

    def add(self, step: int, counts: Counts, part: float, replicas: int) -> None:
        """Write a step behind all that are known.

        Args:
            counts: of this step and others like it.
            part: of them that is this step's; 0: it is not known what there was.
        """
        self._fill_to(step - 1)
        p50_s, p95_s = quantile(counts.seconds, 0.5), quantile(counts.seconds, 0.95)
        self._write(
            step,
            calls=counts.calls * part if part else _NAN,
            p50_ms=_NAN if p50_s is None or not part else p50_s * 1000,
            p95_ms=_NAN if p95_s is None or not part else p95_s * 1000,
            batch_rows=counts.batch_rows / counts.batches if counts.batches and part else _NAN,
            wakes=counts.wakes * part if part else _NAN,
            replicas=replicas,
        )
        if part:
            for code, count in counts.errors.items():
                self._add_error(step, code, count * part)

    def _fill_to(self, step: int) -> None:
        """Nothing happened in the steps until this one."""
        for empty in range(max(self._last + 1, step - self._length + 1), step + 1):
            self._write(
                empty,
                calls=0.0,
                p50_ms=_NAN,
                p95_ms=_NAN,
                batch_rows=_NAN,
                wakes=0.0,
                replicas=0.0,
            )

    def _write(self, step: int, **values: float) -> None:
        place = step % self._length
        for name, value in values.items():
            self._columns[name][place] = value
        for counts in self._errors.values():
            counts[place] = 0.0
        self._last = step
        self._first = max(self._first, step - self._length + 1)

    def _add_error(self, step: int, code: str, count: float) -> None:
        if code not in self._errors:
            self._errors = {known: counts for known, counts in self._errors.items() if any(counts)}
            if len(self._errors) >= MOST_CODES - 1:
                code = OTHER_CODE
        counts = self._errors.setdefault(code, array("f", bytes(4 * self._length)))
        counts[step % self._length] += count

    def columns(self, after: int, until: int) -> tuple[int, dict[str, list[Number]]]:
        """Return the first of the steps after one and until another, and the lists of those that
        are known; nothing happened in those behind them.
        """
        begin = max(self._first, after + 1, until - self._length + 1)
        known = range(begin, min(self._last, until) + 1)
        quiet = max(0, until - max(self._last, begin - 1))
        found: dict[str, list[Number]] = {
            name: [_shown(column[step % self._length]) for step in known]
            + [0 if name in ("calls", "wakes", "replicas") else None] * quiet
            for name, column in self._columns.items()
        }
        return begin, found

    def errors(self, after: int, until: int) -> dict[str, list[Number]]:
        """Return the lists of errors by code, of the same steps; without those that had none."""
        begin, end = max(self._first, after + 1, until - self._length + 1), min(self._last, until)
        lists: dict[str, list[Number]] = {
            code: [_shown(counts[step % self._length]) for step in range(begin, end + 1)]
            + [0] * max(0, until - max(self._last, begin - 1))
            for code, counts in self._errors.items()
        }
        return {code: counts for code, counts in lists.items() if any(counts)}


def _shown(value: float) -> Number:
    """A whole number as one, others with four digits."""
    if math.isnan(value):
        return None
    return int(value) if value == int(value) else float(f"{value:.4g}")


@dataclass(slots=True)
class FunctionNumbers:
    """The numbers of one function.

    Attributes:
        rings: by seconds of a step.
        before: what was counted at the last look at which a step of that length was over.

    Mutable state: all of it.
    """

    rings: dict[int, StepRing]
    before: dict[int, Counts] = field(default_factory=dict)


class CountHistory:
    """The numbers of all functions.

    Args:
        at: now, seconds since the epoch.

    Mutable state: ``_functions`` (by name), ``_looked_at`` (by seconds of a step, when one was over
    last), ``_before`` (the counts of functions that had numbers).
    """

    def __init__(self, at: float) -> None:
        self._functions: dict[str, FunctionNumbers] = {}
        self._before: dict[str, Counts] = {}
        self._looked_at = dict.fromkeys(LENGTHS, at)

    def __len__(self) -> int:
        """Return the number of functions that have numbers."""
        return len(self._functions)

    def look(
        self,
        at: float,
        counted: Mapping[str, FunctionStatistics],
        awake: Mapping[str, int],
        earlier: Mapping[str, FunctionStatistics] = MappingProxyType({}),
    ) -> dict[int, float]:
        """Take the counts of a look. Return of which lengths steps are over now that were not
        before, in seconds, and when the first of those steps began.

        Args:
            at: seconds since the epoch; where the clock was set back, nothing is taken until it has
                been there before.
            counted: of functions that have counted anything.
            awake: processes that have a function loaded, of those that any has.
            earlier: what of ``counted`` was before the history, as far as it is heard of now: no
                traffic, whenever it comes.
        """
        over = {
            step_s: float(before // step_s * step_s)
            for step_s, before in self._looked_at.items()
            if at // step_s > before // step_s
        }
        if not over:
            return {}
        counts = _count(counted, earlier)
        for name in counts.keys() | awake.keys():
            self._begin(name, counts.get(name, NOTHING), awake.get(name, 0))
        for step_s in over:
            steps, is_shared = share_steps(self._looked_at[step_s], at, step_s)
            self._looked_at[step_s] = at
            steps = steps[-LENGTHS[step_s] :]  # of a range, however long it is
            for name, numbers in self._functions.items():
                _take(
                    numbers,
                    step_s,
                    steps,
                    counts.get(name, numbers.before[step_s]),
                    awake.get(name, 0),
                    is_shared=is_shared,
                )
        self._forget(at)
        return over

    def _begin(self, name: str, counts: Counts, replicas: int) -> None:
        """Something happens to a function that had no numbers yet."""
        if name in self._functions:
            return
        before = self._before.get(name, NOTHING)
        if not (replicas or counts != before):
            return
        self._before.pop(name, None)
        rings = {
            step_s: StepRing(length, int(self._looked_at[step_s] // step_s))
            for step_s, length in LENGTHS.items()
        }
        self._functions[name] = FunctionNumbers(rings, dict.fromkeys(LENGTHS, before))

    def _forget(self, at: float) -> None:
        oldest = int(at // LONG_S) - LENGTHS[LONG_S]
        for name, numbers in list(self._functions.items()):
            if numbers.rings[LONG_S].last < oldest:
                self._before[name] = numbers.before[LONG_S]
                del self._functions[name]

    def keep(self, names: Collection[str]) -> None:
        """Forget the functions that are not among these."""
        for known in (self._functions, self._before):
            for name in known.keys() - set(names):
                del known[name]

    # What is shown.

    def of(self, name: str, step_s: int, after: float = 0.0) -> History:
        """Return what is known of a function.

        Args:
            after: steps that ended until then are left out, seconds since the epoch.
        """
        until = int(self._looked_at[step_s] // step_s) - 1
        numbers, begin = self._functions.get(name), until + 1
        columns: dict[str, list[Number]] = {one: [] for one in StepRing.COLUMNS}
        errors: dict[str, list[Number]] = {}
        if numbers is not None:
            last = int(after // step_s) - 1
            begin, columns = numbers.rings[step_s].columns(last, until)
            errors = numbers.rings[step_s].errors(last, until)
        return {
            "step_s": step_s,
            "from": float(begin * step_s),
            "calls": columns["calls"],
            "errors": errors,
            "p50_ms": columns["p50_ms"],
            "p95_ms": columns["p95_ms"],
            "batch_rows": columns["batch_rows"],
            "wakes": columns["wakes"],
            "replicas": columns["replicas"],
        }

    def samples(self, steps: int, names: Collection[str] | None = None) -> Samples:
        """Return the last steps of all functions that had a call in them.

        Args:
            names: functions that may be named; None: any.
        """
        until = int(self._looked_at[SAMPLE_S] // SAMPLE_S) - 1
        found: dict[str, Sample] = {}
        for name, numbers in self._functions.items():
            if names is not None and name not in names:
                continue
            ring = numbers.rings[SAMPLE_S]
            begin, columns = ring.columns(until - steps, until)
            if any(columns["calls"]):
                errors = ring.errors(until - steps, until)
                found[name] = _sample(columns, errors.values(), begin - (until - steps + 1))
        return {
            "step_s": SAMPLE_S,
            "from": float((until - steps + 1) * SAMPLE_S),
            "steps": steps,
            "functions": found,
        }

    def errors_of_last_minute(self) -> dict[str, dict[str, int]]:
        """Return the errors of the last minute by function and code, of functions that had any."""
        until = int(self._looked_at[SAMPLE_S] // SAMPLE_S) - 1
        found: dict[str, dict[str, int]] = {}
        for name, numbers in self._functions.items():
            errors = numbers.rings[SAMPLE_S].errors(until - LENGTHS[SAMPLE_S], until)
            if errors:
                found[name] = {
                    code: max(1, round(sum(count or 0 for count in counts)))
                    for code, counts in errors.items()
                }
        return found


def _count(
    counted: Mapping[str, FunctionStatistics], earlier: Mapping[str, FunctionStatistics]
) -> dict[str, Counts]:
    """Return what was counted of each function since the history began."""
    counts = {name: Counts.of(one) for name, one in counted.items()}
    for name in counts.keys() & earlier.keys():
        counts[name] = counts[name].since(Counts.of(earlier[name]))
    return counts


def _take(
    numbers: FunctionNumbers,
    step_s: int,
    steps: Sequence[int],
    counts: Counts,
    replicas: int,
    *,
    is_shared: bool,
) -> None:
    """Write what one function has counted into steps; nothing where nothing happened."""
    counted = NOTHING
    if counts != numbers.before[step_s]:
        counted = counts.since(numbers.before[step_s])
        numbers.before[step_s] = counts
    elif not replicas:
        return
    for step in steps:
        part = 1 / len(steps) if is_shared else float(step == steps[-1])
        numbers.rings[step_s].add(step, counted, part, replicas)


def _sample(
    columns: Mapping[str, list[Number]], errors: Iterable[list[Number]], missing: int
) -> Sample:
    """Of a function's last steps; before the first ``missing`` of them it had no numbers."""
    calls = columns["calls"]
    by_step = [sum(one or 0 for one in step) for step in zip(*errors, strict=True)]
    failed = [
        _per_second(wrong) if ended else None
        for ended, wrong in zip(calls, by_step or [0] * len(calls), strict=True)
    ]
    quiet: list[Number] = [None] * missing
    return {
        "calls_per_s": [*quiet, *(_per_second(ended) if ended else None for ended in calls)],
        "p50_ms": [*quiet, *columns["p50_ms"]],
        "p95_ms": [*quiet, *columns["p95_ms"]],
        "errors_per_s": [*quiet, *failed],
    }


def _per_second(count: float) -> float:
    return float(f"{count / SAMPLE_S:.4g}")
