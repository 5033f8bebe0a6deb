"""Whether a run kept what its functions promise: PASS, FAIL, or UNSURE where it was too short to
tell.

A promise holds where the share of calls that break it is at most what it allows: 5 % of a p95, one
in a thousand of ``success: 0.999``. PASS: so few calls broke it that, if it did not hold, so few
would have been seen at most once in 50 runs. FAIL: the same the other way round; with several
promises in one run, each of which may err, by Holm's procedure (*A Simple Sequentially Rejective
Multiple Test Procedure*, 1979), so that a run whose promises all hold fails at most once in 50. For
PASS nothing has to be added: all must pass.

A call without a right answer breaks every promise of latency. ``success: 1`` and ``warm: 1`` are
not of a probability, so the run itself decides them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from deployments.loadtest.results.dependence import (
    ERROR,
    Breaches,
    Estimate,
    Share,
    count_breaches,
    estimate_percentile,
    estimate_share,
    estimate_slower,
    needed_seconds,
    stall_calls_of,
    times_until,
)
from deployments.loadtest.results.records import Promise, Run
from deployments.loadtest.results.statistics import (
    CallColumns,
    call_columns,
    function_names,
    keeps_growing,
    seconds_of,
    without_ended,
)

Outcome = Literal["PASS", "FAIL", "UNSURE"]

EXIT_STATUS: Final[Mapping[Outcome, int]] = {"PASS": 0, "FAIL": 1, "UNSURE": 2}

PARTS: Final[Mapping[str, float]] = {
    "latency_p50_ms": 0.5,
    "latency_p95_ms": 0.95,
    "latency_p99_ms": 0.99,
}
"""The share of calls that a promise of latency is about."""

SHARES: Final = ("success", "warm")

LONGEST_S: Final = 86400.0
"""More than a day is not advised: what a run could not tell in that time is a question of the
promise.
"""

MOST_NAMED: Final = 3
"""Promises that the sentence of a run names."""

PARTIAL: Final = " It was ended before its time."

GROWS: Final = "latency grew all along: calls come faster than they are answered"

UNDER_WAY: Final = "calls were under way when it was ended"

SURE_ERROR: Final = 0.0026
"""Of an interval that is to be clear of the promise after the advised time: with it the run decides
in four of five cases, where the estimate is right.
"""


@dataclass(frozen=True, slots=True)
class PromiseVerdict:
    """One promise of one function.

    Attributes:
        name: ``latency_p95_ms``, ``success``, …
        limit: that is promised, in the promise's unit.
        measured: the same of the run, with its interval of 96 %.
        seconds_more: for UNSURE, how much longer at this rate would decide it, four times of five;
            None: not within a day, or not by a longer run.
        breaches: the calls that break it.
        words: one sentence.
    """

    function: str
    name: str
    limit: float
    measured: Estimate
    outcome: Outcome
    seconds_more: float | None
    breaches: Breaches
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a run.

    Attributes:
        outcome: None: nothing was promised.
        promises: by function and in the order of the declaration.
        seconds_more: what the longest of the unsure promises needs; None: none is unsure, or more
            time does not help.
        words: in a sentence or two.
        is_growing: at one rate, the latency of a function grew all along.
    """

    outcome: Outcome | None
    promises: Sequence[PromiseVerdict]
    seconds_more: float | None
    words: str
    is_growing: bool = False

    @property
    def exit_status(self) -> int:
        """0: all promises hold, or there is none; 1: one does not; 2: the run cannot tell."""
        return EXIT_STATUS[self.outcome] if self.outcome else 0


class _Evidence(NamedTuple):
    """What the calls say of a promise.

    Attributes:
        share: of calls that break it.
    """

    function: str
    name: str
    limit: float
    measured: Estimate
    share: Share
    breaches: Breaches
    seconds: float
    doubt: str

    @property
    def allowed(self) -> float:
        """The share of calls that may break it."""
        return self.breaches.allowed


def judge(run: Run) -> Verdict:
    """Whether the run kept the promises of its functions. Calls that were under way when it was
    ended may have broken each, and need not have: they let nothing pass, and nothing fail.
    """
    evidence = _gather_all(run)
    failed = _failed(evidence)
    if (known := without_ended(run)) is not run:
        failed &= _failed(_gather_all(known))
    promises = [_decide(run, one, has_failed=index in failed) for index, one in enumerate(evidence)]
    return _conclude(run, promises, is_growing=any(one.doubt == GROWS for one in evidence))


def shortest_seconds(promise: Promise, rate: float) -> float:
    """How long calls at a rate must at least go on, warm-up apart, to show that the promise holds;
    0 where nothing is promised that needs time, infinite without calls.
    """
    needed = [
        needed_seconds(part, rate, is_latency=True)
        for name, part in PARTS.items()
        if getattr(promise, name) is not None
    ] + [
        needed_seconds(share, rate, is_latency=False)
        for name in SHARES
        if (share := getattr(promise, name)) is not None and share < 1
    ]
    return max(needed, default=0.0)


def promised(promise: Promise) -> list[tuple[str, float]]:
    """Names and limits of what is promised, in the order of the declaration."""
    return [
        (name, limit) for name in (*PARTS, *SHARES) if (limit := getattr(promise, name)) is not None
    ]


def _gather_all(run: Run) -> list[_Evidence]:
    return [
        one
        for function in function_names(run)
        if (promise := run.promises.get(function)) is not None
        for one in _gather(run, function, promise)
    ]


def _gather(run: Run, function: str, promise: Promise) -> list[_Evidence]:
    columns = call_columns(run, function)
    seconds = seconds_of(run, function)
    doubt = _doubt(run, columns)
    stall_calls = stall_calls_of(columns.until_right_s, seconds)
    found = []
    for name, limit in promised(promise):
        if name in PARTS:
            part = PARTS[name]
            measured = estimate_percentile(columns.until_right_s, part, seconds)
            share = estimate_slower(columns.until_right_s, limit / 1000, stall_calls)
            in_ms = Estimate(*(1000 * value for value in measured))
            breaches = count_breaches(columns.until_right_s > limit / 1000, 1 - part)
            found.append(_Evidence(function, name, limit, in_ms, share, breaches, seconds, doubt))
            continue
        flags = columns.is_right if name == "success" else columns.is_warm
        share = estimate_share(~flags)
        low, high = share.interval()
        value = 1 - share.value if len(flags) else math.nan
        measured = Estimate(value, 1 - high, 1 - low)
        breaches = count_breaches(~flags, 1 - limit)
        found.append(_Evidence(function, name, limit, measured, share, breaches, seconds, doubt))
    return found


def _doubt(run: Run, columns: CallColumns) -> str:
    """Why a run does not show what its numbers say; empty where it does."""
    if run.was_limited:
        return f"the generator was the limit, not the server: {run.was_limited}"
    if run.shape.startswith("steady") and keeps_growing(columns):
        return GROWS
    return ""


def _failed(evidence: Sequence[_Evidence]) -> set[int]:
    """Places of the promises that surely do not hold, by Holm's procedure; of those that the run
    itself decides, the broken ones.
    """
    chances = sorted(
        (one.share.chance_of_more(one.allowed), index)
        for index, one in enumerate(evidence)
        if one.share.independent and one.allowed
    )
    failed = {index for index, one in enumerate(evidence) if not one.allowed and one.share.value}
    for rank, (chance, index) in enumerate(chances):
        if chance > ERROR / (len(chances) - rank):
            break
        failed.add(index)
    return failed


def _decide(run: Run, one: _Evidence, *, has_failed: bool) -> PromiseVerdict:
    share, allowed = one.share, one.allowed
    more: float | None = None
    outcome: Outcome
    if not share.independent:
        outcome, why = "UNSURE", _why_empty(one)
    elif allowed == 0 and (has_failed or not share.value) and not run.was_limited:
        outcome = "FAIL" if has_failed else "PASS"
        why = "of this run; none can show it for all time"
    elif has_failed and not run.was_limited:
        outcome, why = "FAIL", ""
    elif share.interval()[1] <= allowed and not one.doubt:
        outcome, why = "PASS", ""
    else:
        outcome, more = "UNSURE", None if one.doubt else seconds_more(share, allowed, one.seconds)
        why = one.doubt or (_advise(more) if allowed else UNDER_WAY)
    words = describe(one.function, one.name, one.limit, one.measured)
    return PromiseVerdict(
        one.function,
        one.name,
        one.limit,
        one.measured,
        outcome,
        more,
        one.breaches,
        f"{words}; {why}." if why else f"{words}.",
    )


def seconds_more(share: Share, allowed: float, seconds: float) -> float | None:
    """How much longer a run of so many seconds would have to be to decide, four times of five,
    where its share of calls stays what it is; None: not within a day.
    """

    def is_decided(times: float) -> bool:
        low, high = share.repeated(times).interval(SURE_ERROR)
        return high <= allowed or low > allowed

    if seconds <= 0:
        return None
    times = times_until(is_decided, max(LONGEST_S / seconds, 1.0))
    return None if times is None else max((times - 1) * seconds, 1.0)


def describe(function: str, name: str, limit: float, measured: Estimate) -> str:
    """A promise beside what was measured: ``embed: p95 48 ms (46 to 51), 50 ms promised``."""
    value, low, high = measured
    if math.isnan(value):
        return f"{function}: {name} is promised"
    if name in PARTS:
        wide = f"{_ms(low)} to {_ms(high)}" if math.isfinite(high) else f"{_ms(low)} or more"
        what = f"p{100 * PARTS[name]:g}"
        if not math.isfinite(value):
            return f"{function}: {what} is no right answer, {_ms(limit)} ms promised"
        return f"{function}: {what} {_ms(value)} ms ({wide}), {_ms(limit)} ms promised"
    kind = "answered right" if name == "success" else "found warm"
    shares = f"{_percent(value)} ({_percent(low)} to {_percent(high)})"
    return f"{function}: {shares} {kind}, {_percent(limit)} promised"


def duration(seconds: float) -> str:
    """Seconds in words, rounded up: ``40 s``, ``12 min``."""
    return f"{math.ceil(seconds)} s" if seconds < 600 else f"{math.ceil(seconds / 60)} min"


def _why_empty(one: _Evidence) -> str:
    if one.name == "warm":
        return "no answer says whether its function was loaded"
    return "no call was sent"


def _advise(more: float | None) -> str:
    if more is None:
        return "what was measured is so near to the promise that a day would not tell"
    return f"{duration(more)} more at this rate would probably tell"


def _conclude(run: Run, promises: Sequence[PromiseVerdict], *, is_growing: bool) -> Verdict:
    if not promises:
        words = "Nothing is promised: no function that was called has an `slo`."
        return Verdict(None, promises, None, words)
    by_outcome: dict[Outcome, list[PromiseVerdict]] = {"FAIL": [], "UNSURE": [], "PASS": []}
    for one in promises:
        by_outcome[one.outcome].append(one)
    outcome = next(kind for kind, ones in by_outcome.items() if ones)
    decisive = by_outcome[outcome]
    needs = [one.seconds_more for one in by_outcome["UNSURE"]]
    more = None if None in needs else max((need for need in needs if need), default=None)
    count = f"{len(decisive)} of {len(promises)} promises"
    if outcome == "PASS":
        words = (
            f"PASS: all {len(promises)} promises hold."
            if len(promises) > 1
            else f"PASS: {promises[0].words}"
        )
    elif outcome == "FAIL":
        words = f"FAIL: {count} {'does' if len(decisive) == 1 else 'do'} not hold. " + " ".join(
            one.words for one in decisive[:MOST_NAMED]
        )
    else:
        words = f"UNSURE: the run does not tell of {count}. " + " ".join(
            one.words for one in decisive[:MOST_NAMED]
        )
    words += PARTIAL if run.is_partial else ""
    return Verdict(outcome, promises, more, words, is_growing)


def _ms(value: float) -> str:
    """Milliseconds with three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _percent(share: float) -> str:
    """A share as per cent, with as many digits as tell it from a whole; never rounded to it."""
    for digits in range(1, 6):
        text = f"{100 * share:.{digits}f}"
        if float(text) not in (0.0, 100.0) or share in (0.0, 1.0):
            return f"{float(text):g} %"
    return f"{100 * share:g} %"
