"""A run as the few numbers that are drawn: however many calls it has, some hundreds a function.

Pure functions of records. Times are seconds from the beginning of the run, latencies milliseconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deployments.loadtest.results.records import CallRecord, Promise, Run, ServerSample

Floats = NDArray[np.float64]

WINDOW_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
"""Lengths of a window. The server is looked at once a second: shorter ones would not see it."""

MOST_WINDOWS: Final = 150

FEWEST_CALLS: Final = 30
"""In a window, on average, so that its p95 is not its longest; fewer where it would be too long."""

FEWEST_WINDOWS: Final = 30

MOST_FUNCTIONS: Final = 12
"""That are drawn, those with the most calls; the verdict has all."""

MOST_CODES: Final = 20

MOST_DOTS: Final = 8_000
"""Calls of a function that are drawn as dots, evenly chosen."""

BINS: Final = 70

PERCENTILES: Final = (50.0, 95.0, 99.0)

RANKS: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)

STAGES: Final = ("cold", "queue", "pre", "model", "post")
"""In the order in which a call goes through them; others follow."""


@dataclass(frozen=True, slots=True)
class Windows:
    """A function over time; each array has a number for each window.

    Attributes:
        starts: of the windows, seconds.
        length_s: of each.
        right, failed: calls, by when they were intended.
        percentiles: latencies of right answers by percentile, ms; NaN where there was none.
        replicas, waiting_rows: the most that were seen, or what was seen last; NaN before that.
        wakes: that were counted in it.
        batch_rows: rows in a batch, on average; NaN where nothing was computed.
    """

    starts: Floats
    length_s: float
    right: Floats
    failed: Floats
    percentiles: dict[float, Floats]
    replicas: Floats
    waiting_rows: Floats
    wakes: Floats
    batch_rows: Floats


@dataclass(frozen=True, slots=True)
class LatencyDistribution:
    """Latencies of right answers.

    Attributes:
        edges: of the bins of the histogram, ms, evenly spaced on a logarithmic axis.
        shares: of the calls in each bin.
        ranks: percentiles, from 0 to below 100, dense at the end.
        latencies: at these ranks, ms.
        percentiles: latencies of ``RANKS``, as far as there are calls beyond them, ms.
    """

    edges: Floats
    shares: Floats
    ranks: Floats
    latencies: Floats
    percentiles: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class StageTime:
    """Where the time of right answers went.

    Attributes:
        name: a part of the server, or ``outside`` for what it does not account for: the network,
            and waiting for a connection.
        mean_ms: of all right answers.
        p95_ms: of those that say it.
        share: of the mean latency.
    """

    name: str
    mean_ms: float
    p95_ms: float
    share: float


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Calls that failed in one way; ``status`` 0: no answer."""

    status: int
    code: str
    count: int
    share: float
    first_s: float
    last_s: float


@dataclass(frozen=True, slots=True)
class Dots:
    """Some calls one by one: when, ms, and whether each failed or found the function asleep."""

    at: Floats
    latency_ms: Floats
    has_failed: NDArray[np.bool_]
    was_cold: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FunctionView:
    """One function as it is drawn.

    Attributes:
        distribution: None where no answer was right.
        other_errors: calls that failed in ways beyond ``MOST_CODES``.
    """

    name: str
    promise: Promise
    calls: int
    windows: Windows
    dots: Dots
    distribution: LatencyDistribution | None
    stages: Sequence[StageTime]
    errors: Sequence[ErrorGroup]
    other_errors: int


@dataclass(frozen=True, slots=True)
class GeneratorView:
    """The generator over time: lag in ms (the longest in a window), processor (the highest share of
    a core), calls under way (the most)."""

    starts: Floats
    length_s: float
    lag_ms: Floats
    cpu: Floats
    in_flight: Floats


def view_functions(run: Run) -> list[FunctionView]:
    """The functions with the most calls, in the order of the run's rates."""
    calls: dict[str, list[CallRecord]] = {}
    for call in run.calls:
        calls.setdefault(call.function, []).append(call)
    samples: dict[str, list[ServerSample]] = {}
    for sample in run.server:
        samples.setdefault(sample.function, []).append(sample)
    order = list(dict.fromkeys([*run.rates, *calls]))
    busiest = sorted(order, key=lambda name: -len(calls.get(name, ())))[:MOST_FUNCTIONS]
    return [
        _view(run, name, calls.get(name, []), samples.get(name, []))
        for name in order
        if name in busiest
    ]


def view_generator(run: Run) -> GeneratorView:
    """Its watch on itself."""
    starts, length_s = window_starts(run, len(run.calls))
    at = _floats(sample.at for sample in run.generator)
    where = _window_of(at, starts, length_s)

    def highest(values: Floats) -> Floats:
        return _highest(where, values, len(starts))

    return GeneratorView(
        starts,
        length_s,
        highest(_floats(sample.lag_s * 1e3 for sample in run.generator)),
        highest(_floats(sample.cpu for sample in run.generator)),
        highest(_floats(sample.in_flight for sample in run.generator)),
    )


def window_starts(run: Run, calls: int) -> tuple[Floats, float]:
    """The beginnings of the windows for so many calls of a run, and their length in seconds."""
    last = max((call.intended for call in run.calls), default=0.0)
    # sequences go on after the load; less than a second of that is of the last window
    end = max(last if run.is_partial else max(run.seconds, int(last)), 1.0)
    length = next(
        (
            length
            for length in WINDOW_S
            if end / length <= MOST_WINDOWS
            and (calls * length / end >= FEWEST_CALLS or end / length <= FEWEST_WINDOWS)
        ),
        end / MOST_WINDOWS,
    )
    count = max(1, int(np.ceil(end / length - 1e-9)))
    return np.arange(count, dtype=np.float64) * length, float(length)


def _view(
    run: Run, name: str, calls: Sequence[CallRecord], samples: Sequence[ServerSample]
) -> FunctionView:
    intended = _floats(call.intended for call in calls)
    latency_ms = _floats(call.latency_s * 1e3 for call in calls)
    is_right = np.fromiter((call.is_right for call in calls), bool, len(calls))
    measured = is_right & (intended >= run.warm_up_s)
    if not measured.any():
        measured = is_right
    errors, others = _errors(calls)
    return FunctionView(
        name=name,
        promise=run.promises.get(name, Promise()),
        calls=len(calls),
        windows=_windows(run, intended, latency_ms, is_right, samples),
        dots=_dots(calls, intended, latency_ms, is_right),
        distribution=distribute(latency_ms[measured]),
        stages=_stage_times(calls, latency_ms, measured),
        errors=errors,
        other_errors=others,
    )


def _windows(
    run: Run,
    intended: Floats,
    latency_ms: Floats,
    is_right: NDArray[np.bool_],
    samples: Sequence[ServerSample],
) -> Windows:
    starts, length_s = window_starts(run, len(intended))
    count = len(starts)
    where = _window_of(intended, starts, length_s)
    right = np.bincount(where[is_right], minlength=count).astype(float)
    percentiles = {
        rank: _percentile_by_window(where[is_right], latency_ms[is_right], right, rank)
        for rank in PERCENTILES
    }
    seen = _window_of(_floats(sample.at for sample in samples), starts, length_s)
    wakes = _steps(sample.wakes for sample in samples)
    batches = _added(seen, _steps(sample.batches for sample in samples), count)
    rows = _added(seen, _steps(sample.rows for sample in samples), count)
    with np.errstate(divide="ignore", invalid="ignore"):
        batch_rows = np.where(batches > 0, rows / batches, np.nan)
    return Windows(
        starts=starts,
        length_s=length_s,
        right=right,
        failed=np.bincount(where[~is_right], minlength=count).astype(float),
        percentiles=percentiles,
        replicas=_held(_highest(seen, _floats(sample.replicas for sample in samples), count)),
        waiting_rows=_held(
            _highest(seen, _floats(sample.waiting_rows for sample in samples), count)
        ),
        wakes=_added(seen, wakes, count),
        batch_rows=batch_rows,
    )


def _percentile_by_window(
    where: NDArray[np.intp], latency_ms: Floats, counts: Floats, rank: float
) -> Floats:
    """One percentile of each window; NaN for an empty one."""
    ordered = latency_ms[np.lexsort((latency_ms, where))]
    ends = np.cumsum(counts).astype(int)
    found = np.full(len(counts), np.nan)
    for number, end in enumerate(ends):
        if (size := int(counts[number])) > 0:
            found[number] = ordered[end - size + max(0, math.ceil(size * rank / 100) - 1)]
    return found


def distribute(latency_ms: Floats) -> LatencyDistribution | None:
    """The distribution of some latencies; None of none."""
    positive = np.maximum(latency_ms, 1e-3)
    if not len(positive):
        return None
    lowest, highest = float(positive.min()), float(positive.max())
    edges = np.geomspace(lowest / 1.05, highest * 1.05, BINS + 1)
    counts, _ = np.histogram(positive, edges)
    furthest = max(2.0, float(np.log10(len(positive))))
    ranks = 100 * (1 - np.logspace(0, -furthest, 160))
    # the definition of a percentile is that of the verdict, so that a page has one p95
    told = [rank for rank in RANKS if rank <= ranks[-1] + 1e-9]
    latencies = np.percentile(positive, [*ranks, *told], method="inverted_cdf")
    return LatencyDistribution(
        edges,
        counts / len(positive),
        ranks,
        latencies[: len(ranks)],
        dict(zip(told, latencies[len(ranks) :].tolist(), strict=True)),
    )


def _stage_times(
    calls: Sequence[CallRecord], latency_ms: Floats, measured: NDArray[np.bool_]
) -> list[StageTime]:
    kept = [call for call, is_measured in zip(calls, measured, strict=True) if is_measured]
    names = Counter(name for call in kept for name, took in call.stages.items() if took > 0)
    if not names:
        return []
    order = [name for name in STAGES if name in names]
    order += [name for name, _ in names.most_common(20) if name not in STAGES]
    total = float(latency_ms[measured].sum())
    columns = {
        name: _floats(call.stages.get(name, np.nan) * 1e3 for call in kept) for name in order
    }
    outside = latency_ms[measured] - sum(np.nan_to_num(column) for column in columns.values())
    columns["outside"] = np.maximum(outside, 0.0)
    return [
        StageTime(
            name,
            float(np.nansum(column)) / len(kept),
            float(np.nanpercentile(column, 95)),
            float(np.nansum(column)) / total if total > 0 else 0.0,
        )
        for name, column in columns.items()
    ]


def _errors(calls: Sequence[CallRecord]) -> tuple[list[ErrorGroup], int]:
    groups: dict[tuple[int, str], list[float]] = {}
    for call in calls:
        if not call.is_right:
            groups.setdefault((call.status, call.code), []).append(call.intended)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [
        ErrorGroup(status, code, len(times), len(times) / len(calls), min(times), max(times))
        for (status, code), times in ordered[:MOST_CODES]
    ], sum(len(times) for _, times in ordered[MOST_CODES:])


def _dots(
    calls: Sequence[CallRecord],
    intended: Floats,
    latency_ms: Floats,
    is_right: NDArray[np.bool_],
) -> Dots:
    """Evenly chosen calls, and all of the rare ones as far as there is room."""
    was_cold = np.fromiter((call.is_warm is False for call in calls), bool, len(calls))
    rare = np.flatnonzero(~is_right | was_cold)
    usual = np.flatnonzero(is_right & ~was_cold)
    chosen = np.sort(np.concatenate([_thin(rare, MOST_DOTS // 4), _thin(usual, MOST_DOTS)]))
    return Dots(intended[chosen], latency_ms[chosen], ~is_right[chosen], was_cold[chosen])


def _thin(indices: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    if len(indices) <= most:
        return indices
    evenly = np.linspace(0, len(indices) - 1, most).astype(np.intp)
    return np.take(indices, evenly)


def _floats(values: Any) -> Floats:
    return np.fromiter(values, np.float64)


def _window_of(at: Floats, starts: Floats, length_s: float) -> NDArray[np.intp]:
    """The number of the window of each time; what is after the end is of the last one."""
    window: NDArray[np.intp] = np.clip(at / length_s, 0, len(starts) - 1).astype(np.intp)
    return window


def _steps(counts: Any) -> Floats:
    """What a counter gained from one sample to the next."""
    values = _floats(counts)
    return np.diff(values, prepend=values[:1])


def _added(where: NDArray[np.intp], values: Floats, count: int) -> Floats:
    return np.bincount(where, weights=values, minlength=count).astype(np.float64)


def _highest(where: NDArray[np.intp], values: Floats, count: int) -> Floats:
    """The highest value of each window; NaN for one without any."""
    found = np.full(count, -np.inf)
    np.maximum.at(found, where, values)
    return np.where(np.isfinite(found), found, np.nan)


def _held(values: Floats) -> Floats:
    """What is not known is what was known last."""
    last = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), 0))
    return np.take(values, last)
