"""What a load test measured, by function: percentiles and shares with their intervals, errors,
wakes and what it cost. Intervals know that neighbouring calls depend on each other, see
``dependence``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from deployments.loadtest.results.dependence import (
    Estimate,
    Flags,
    Seconds,
    as_array,
    estimate_percentile,
    estimate_share,
)
from deployments.loadtest.results.records import CallRecord, Promise, Run, ServerSample

PERCENTILES: Final = (0.5, 0.95, 0.99)

WINDOWS: Final = 40
"""That a run is cut into, to see when it no longer warms up."""

FEWEST_WINDOWS: Final = 8

FEWEST_CALLS: Final = 10
"""Of a window: a median of fewer says little."""

GROWTH_WINDOWS: Final = 10

REFUSED: Final = frozenset({429, 503})
"""Statuses of a call that the server did not take."""

HOUR_S: Final = 3600.0

GB: Final = 1e9


@dataclass(frozen=True, slots=True)
class CallColumns:
    """The calls of one function, in the order of ``intended``, a column each.

    Attributes:
        latency_s: from when a call was to be sent until its answer was read.
        until_right_s: the same; infinity for a call without a right answer.
        is_warm: of the calls that say so.
    """

    intended: npt.NDArray[np.float64]
    latency_s: Seconds
    until_right_s: Seconds
    is_right: Flags
    is_warm: Flags


class WarmUp(NamedTuple):
    """How long a run took until its latencies no longer changed.

    Attributes:
        seconds: from its beginning, at most half of the run; 0 where it was warm at once.
        is_over: False: latencies still changed afterwards.
    """

    seconds: float
    is_over: bool


@dataclass(frozen=True, slots=True)
class FunctionResult:
    """What was measured of one function.

    Attributes:
        calls, right: those intended after the warm-up, and those of them with a right answer.
        seconds: for which they were intended (``seconds_of``).
        percentiles: of the latency of right answers in seconds, by part: 0.5, 0.95, 0.99.
        first: the same of the time until the first item of answers that stream; empty: none does.
        longest_s: of right answers; nan without one.
        success, warm: shares; ``warm`` is None where no answer says so.
        throughput: right answers a second.
        goodput: of those, the ones within the longest latency that is promised, a second.
        errors: calls by code, the most frequent first; ``http_502`` where the answer has none.
        refused: of these, those that the server did not take (429, 503).
        wakes, replica_s, worker_s, batch_rows: of the server's samples after the warm-up: wakes,
            seconds of replicas, seconds of workers that computed, mean rows of a batch (nan without
            one). The first three are None where the server did not say enough of itself.
    """

    calls: int
    right: int
    seconds: float
    percentiles: Mapping[float, Estimate]
    first: Mapping[float, Estimate]
    longest_s: float
    success: Estimate
    warm: Estimate | None
    throughput: float
    goodput: float
    errors: Mapping[str, int]
    refused: int
    wakes: int | None
    replica_s: float | None
    worker_s: float | None
    batch_rows: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """What was measured in a run.

    Attributes:
        functions: by name, also those without a call that were promised something.
        cpu_s: processor seconds of the server; None: it is elsewhere.
        cost_per_1000: right answers, in the currency of the run's prices; None where it is not
            known.
    """

    functions: Mapping[str, FunctionResult]
    cpu_s: float | None
    cost_per_1000: float | None


def summarise(run: Run) -> RunResult:
    """What was measured in a run, its warm-up apart."""
    functions = {name: _summarise(run, name) for name in function_names(run)}
    return RunResult(functions, run.cpu_s, _cost_per_1000(run))


def _cost_per_1000(run: Run) -> float | None:
    """Of right answers. What processes use is of the whole run, so it is divided by all of them."""
    answered = sum(call.is_right for call in run.calls)
    if not (run.prices and answered) or ("cpu" in run.prices and run.cpu_s is None):
        return None
    if "memory" in run.prices and not run.server:
        return None
    held: dict[str, list[ServerSample]] = {}
    for sample in run.server:
        held.setdefault(sample.function, []).append(sample)
    end = end_of(run)
    gb_s = sum(integrate(of, end, lambda one: one.memory_bytes) for of in held.values()) / GB
    hours = {"cpu": (run.cpu_s or 0.0) / HOUR_S, "memory": gb_s / HOUR_S}
    return 1000 / answered * sum(price * hours[unit] for unit, price in run.prices.items())


def function_names(run: Run) -> list[str]:
    """Every function that was called or promised something, in the order of the alphabet."""
    return sorted({*run.rates, *run.promises, *{call.function for call in run.calls}})


def end_of(run: Run, function: str | None = None) -> float:
    """Until when calls were intended, of one function or of all: sequences go on after the load,
    and those of one function are no time of another.
    """
    last = (call.intended for call in run.calls if function in (None, call.function))
    return max(run.seconds, max(last, default=0.0))


def seconds_of(run: Run, function: str) -> float:
    """For how long calls of a function were intended, the warm-up apart."""
    return max(end_of(run, function) - run.warm_up_s, 0.0)


def without_ended(run: Run) -> Run:
    """The run without the calls of which nothing is known, since it was ended before they were
    answered; the same run where there are none.
    """
    known = [call for call in run.calls if not call.was_ended]
    return run if len(known) == len(run.calls) else replace(run, calls=known)


def call_columns(run: Run, function: str) -> CallColumns:
    """The calls of a function after the warm-up."""
    return make_columns(
        [call for call in run.calls if call.function == function and call.intended >= run.warm_up_s]
    )


def make_columns(calls: Sequence[CallRecord]) -> CallColumns:
    """Calls as columns; they are put in the order of ``intended``."""
    intended = as_array(call.intended for call in calls)
    order = np.argsort(intended, kind="stable")
    latency = as_array(call.latency_s for call in calls)[order]
    is_right = np.fromiter((call.is_right for call in calls), dtype=np.bool_)[order]
    return CallColumns(
        intended[order],
        latency,
        np.where(is_right, latency, np.inf),
        is_right,
        np.array(
            [calls[index].is_warm for index in order if calls[index].is_warm is not None],
            dtype=np.bool_,
        ),
    )


def longest_promise_s(promise: Promise) -> float:
    """The longest latency that is promised, seconds; infinity where none is."""
    limits = [
        limit
        for limit in (promise.latency_p50_ms, promise.latency_p95_ms, promise.latency_p99_ms)
        if limit is not None
    ]
    return max(limits) / 1000 if limits else math.inf


def find_warm_up(calls: Sequence[CallRecord]) -> WarmUp:
    """How long calls at one rate took until their latencies no longer changed: the longest of the
    functions. Of a shape that changes its rate it says nothing.

    The beginning that is left out is the one after which windows of the run agree best: the least
    standard error of what remains (MSER; White, *An Effective Truncation Heuristic for Bias
    Reduction in Simulation Output*, 1997), of the medians of windows of as many calls, and of
    their 90th percentiles. It is left out only where it differs from what remains by more than
    windows do among themselves.
    """
    by_function: dict[str, list[CallRecord]] = {}
    for call in calls:
        by_function.setdefault(call.function, []).append(call)
    found = [_function_warm_up(make_columns(one)) for one in by_function.values()]
    return WarmUp(
        max((one.seconds for one in found), default=0.0), all(one.is_over for one in found)
    )


def _function_warm_up(columns: CallColumns) -> WarmUp:
    windows = min(len(columns.intended) // FEWEST_CALLS, WINDOWS)
    if windows < FEWEST_WINDOWS:
        return WarmUp(0.0, is_over=True)
    latencies = np.log(np.maximum(columns.latency_s, 1e-6))
    bounds = np.linspace(0, len(latencies), windows + 1).astype(int)
    by_part = [
        np.array([np.quantile(latencies[a:b], part) for a, b in pairwise(bounds)])
        for part in (0.5, 0.9)
    ]
    cut = max(map(_cut_beginning, by_part))
    seconds = float(columns.intended[bounds[cut]]) if cut else 0.0
    return WarmUp(seconds, is_over=_agree(by_part[0][cut:]))


def _cut_beginning(values: npt.NDArray[np.float64]) -> int:
    """How many windows at the beginning are unlike the rest; at most half."""
    count = len(values)
    errors = [float(values[first:].var()) / (count - first) for first in range(count // 2 + 1)]
    cut = int(np.argmin(errors))
    if not cut:
        return 0
    rest = values[cut:]
    is_unlike = abs(float(values[:cut].mean() - rest.mean())) > 3 * float(rest.std(ddof=1))
    return cut if is_unlike else 0


def _agree(values: npt.NDArray[np.float64]) -> bool:
    """Whether the quarters of what remains differ no more than the windows of one of them do."""
    quarters = np.array_split(values, 4)
    means = [float(quarter.mean()) for quarter in quarters]
    spread = float(np.median([quarter.std() for quarter in quarters]))
    return max(means) - min(means) <= max(3 * spread, math.log(1.1))


def keeps_growing(columns: CallColumns) -> bool:
    """Whether latency grows all along, as where calls come faster than they are answered: nearly
    every later window of the run is slower than every earlier one, and the last are half as slow
    again as the first.
    """
    latencies = columns.latency_s
    if len(latencies) < GROWTH_WINDOWS * FEWEST_CALLS:
        return False
    medians = np.array([np.median(part) for part in np.array_split(latencies, GROWTH_WINDOWS)])
    pairs = [(a, b) for index, a in enumerate(medians) for b in medians[index + 1 :]]
    rising = sum(b > a for a, b in pairs) / len(pairs)
    return bool(rising >= 0.9 and medians[-2:].mean() > 1.5 * medians[:2].mean())


def _summarise(run: Run, name: str) -> FunctionResult:
    columns = call_columns(run, name)
    seconds = seconds_of(run, name)
    calls = [c for c in run.calls if c.function == name and c.intended >= run.warm_up_s]
    right = columns.latency_s[columns.is_right]
    first = as_array(c.first - c.intended for c in calls if c.is_right and c.first is not None)
    promise = run.promises.get(name, Promise())
    good = int(np.count_nonzero(columns.until_right_s <= longest_promise_s(promise)))
    if math.isinf(longest_promise_s(promise)):
        good = len(right)
    errors = Counter(call.code or f"http_{call.status}" for call in calls if not call.is_right)
    samples = samples_of(run, name)
    return FunctionResult(
        calls=len(calls),
        right=len(right),
        seconds=seconds,
        percentiles=_percentiles(right, seconds),
        first=_percentiles(first, seconds) if len(first) else {},
        longest_s=float(right.max()) if len(right) else math.nan,
        success=share_estimate(columns.is_right),
        warm=share_estimate(columns.is_warm) if len(columns.is_warm) else None,
        throughput=len(right) / seconds if seconds else 0.0,
        goodput=good / seconds if seconds else 0.0,
        errors=dict(errors.most_common()),
        refused=sum(call.status in REFUSED for call in calls if not call.is_right),
        wakes=samples[-1].wakes - samples[0].wakes if len(samples) > 1 else None,
        replica_s=replica_seconds(samples, end_of(run, name)) if samples else None,
        worker_s=samples[-1].busy_s - samples[0].busy_s if len(samples) > 1 else None,
        batch_rows=_mean_batch(samples),
    )


def _percentiles(latencies: Seconds, seconds: float) -> dict[float, Estimate]:
    return {part: estimate_percentile(latencies, part, seconds) for part in PERCENTILES}


def share_estimate(flags: Flags) -> Estimate:
    """The share of calls with the flag, and its interval; nan of no calls."""
    if not len(flags):
        return Estimate(math.nan, 0.0, 1.0)
    share = estimate_share(flags)
    return Estimate(share.value, *share.interval())


def samples_of(run: Run, name: str) -> list[ServerSample]:
    """What the server said of a function after the warm-up; the last of the warm-up stands for its
    end.
    """
    samples = [sample for sample in run.server if sample.function == name]
    counted = [sample for sample in samples if sample.at >= run.warm_up_s]
    if before := samples[: len(samples) - len(counted)]:
        counted.insert(0, before[-1]._replace(at=run.warm_up_s))
    return counted


def replica_seconds(samples: Sequence[ServerSample], seconds: float) -> float:
    """Seconds of replicas, of samples of one function in the order of time, until the end of a run
    of so many seconds.
    """
    return integrate(samples, seconds, lambda sample: sample.replicas)


def integrate(
    samples: Sequence[ServerSample], seconds: float, held: Callable[[ServerSample], float]
) -> float:
    """What is held, times the seconds for which it is: each sample counts until the next."""
    ends = [*(sample.at for sample in samples[1:]), seconds] if samples else []
    return sum(
        held(sample) * max(min(end, seconds) - sample.at, 0.0)
        for sample, end in zip(samples, ends, strict=True)
    )


def _mean_batch(samples: Sequence[ServerSample]) -> float:
    batches = samples[-1].batches - samples[0].batches if samples else 0
    return (samples[-1].rows - samples[0].rows) / batches if batches else math.nan
