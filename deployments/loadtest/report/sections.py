"""The parts of the page about one function and about the generator: charts, and tables of the same
numbers for a page without scripts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from deployments.loadtest.report.aggregates import (
    PERCENTILES,
    RANKS,
    FunctionView,
    GeneratorView,
    StageTime,
    view_functions,
    view_generator,
)
from deployments.loadtest.report.charts import draw_distribution, draw_generator, draw_over_time
from deployments.loadtest.report.numbers import (
    format_clock,
    format_ms,
    format_number,
    format_seconds,
    format_share,
)
from deployments.loadtest.results.records import NO_ANSWER, Run
from deployments.loadtest.results.statistics import end_of
from runtime.system.messages import clip

STAGE_WORDS: Final = {
    "cold": "waiting until the function was loaded",
    "queue": "waiting for a worker",
    "pre": "stages before the model",
    "model": "the model",
    "post": "stages after the model",
    "outside": "the network, and the server around the function",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Cells of text; the first of a row is its head."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]] = field(default=())


def place_range(
    value: float, low: float, high: float, limit: float, *, is_latency: bool
) -> dict[str, float] | None:
    """Where an interval, its estimate and the promise are drawn, in per cent of the width; None:
    one of them is no number.
    """
    if not all(map(math.isfinite, (value, low, limit))):
        return None
    high = high if math.isfinite(high) else max(value, limit) * 1.3
    end = max(high, limit) * 1.12 if is_latency else 1.0
    begin = 0.0 if is_latency else max(0.0, 1 - 1.25 * (1 - min(low, limit, value)) - 1e-4)
    if end <= begin:
        return None

    def place(at: float) -> float:
        return round(min(100.0, max(0.0, 100 * (at - begin) / (end - begin))), 2)

    return {
        "low": place(low),
        "width": round(place(high) - place(low), 2),
        "at": place(value),
        "bound": place(limit),
    }


def describe_functions(
    run: Run, views: Sequence[FunctionView], before: Run | None
) -> list[dict[str, Any]]:
    """A section for each function that is drawn."""
    earlier = {view.name: view for view in view_functions(before)} if before else {}
    return [
        _function(run, view, earlier.get(view.name), number) for number, view in enumerate(views, 1)
    ]


def _function(
    run: Run, view: FunctionView, earlier: FunctionView | None, number: int
) -> dict[str, Any]:
    key = f"function-{number}"
    then = earlier.distribution if earlier else None
    has_dots = len(view.dots.at) > 0
    now = view.distribution
    return {
        "id": key,
        "name": clip(view.name),
        "calls": f"{view.calls:,} calls",
        "legend": [
            *((f"p{rank:.0f}", f"p{rank:.0f}", True) for rank in PERCENTILES),
            *([("dots", "single calls", True)] if has_dots else []),
            ("right", "answered right", False),
            ("failed", "failed", False),
        ],
        "over_time": draw_over_time(view, run.warm_up_s, f"{key}-time"),
        "window": format_seconds(view.windows.length_s),
        "windows": _windows_table(view),
        "distribution": draw_distribution(now, view.promise, f"{key}-share", then) if now else [],
        "has_before": then is not None,
        "ranks": _ranks_table(view, earlier),
        "stages": _stage_rows(view.stages),
        "errors": _errors_table(view, end_of(run)),
    }


def _windows_table(view: FunctionView) -> Table:
    windows = view.windows
    has_server = bool(np.isfinite(windows.replicas).any())
    seconds = float(windows.starts[-1] + windows.length_s)
    rows = []
    for at in range(len(windows.starts)):
        start = float(windows.starts[at])
        row = [
            f"{format_clock(start, seconds)} to {format_clock(start + windows.length_s, seconds)}",
            *(format_ms(float(windows.percentiles[rank][at])) for rank in PERCENTILES),
            format_number(float(windows.right[at]) / windows.length_s),
            f"{windows.failed[at]:.0f}",
        ]
        if has_server:
            row += [
                format_number(float(windows.replicas[at])),
                f"{windows.wakes[at]:.0f}",
                format_number(float(windows.waiting_rows[at])),
                format_number(float(windows.batch_rows[at])),
            ]
        rows.append(row)
    server = ("Replicas", "Wakes", "Rows that wait", "Rows in a batch") if has_server else ()
    return Table(("Time", "p50", "p95", "p99", "Right a second", "Failed", *server), rows)


def _ranks_table(view: FunctionView, earlier: FunctionView | None) -> Table:
    """Percentiles that the number of calls can tell, side by side with those of an earlier run."""
    told = [("this run", view.distribution)]
    if earlier is not None and earlier.distribution is not None:
        told.append(("the run before", earlier.distribution))
    shown = [
        rank
        for rank in RANKS
        if all(one is not None and rank in one.percentiles for _, one in told)
    ]
    return Table(
        ("", *(f"p{rank:g}" for rank in shown)),
        [
            (
                name,
                *(format_ms(one.percentiles[rank]) for rank in shown),
            )
            for name, one in told
            if one is not None
        ],
    )


def _stage_rows(stages: Sequence[StageTime]) -> list[dict[str, Any]]:
    return [
        {
            "name": clip(stage.name),
            "words": STAGE_WORDS.get(stage.name, ""),
            "grow": round(max(stage.share, 0.0), 4),
            "share": format_share(stage.share),
            "mean": format_ms(stage.mean_ms),
            "p95": format_ms(stage.p95_ms),
        }
        for stage in stages
    ]


def _errors_table(view: FunctionView, seconds: float) -> Table:
    rows = [
        (
            clip(error.code) or f"http_{error.status}",
            "no answer" if error.status == NO_ANSWER else str(error.status),
            f"{error.count:,}",
            format_share(error.share),
            format_clock(round(error.first_s, 1), seconds),
            format_clock(round(error.last_s, 1), seconds),
        )
        for error in view.errors
    ]
    if view.other_errors:
        rows.append(("others", "", f"{view.other_errors:,}", "", "", ""))
    return Table(("Code", "Status", "Calls", "Of all", "First", "Last"), rows)


def describe_generator(run: Run) -> dict[str, Any] | None:
    """The section of the generator; None where it did not watch itself."""
    if not run.generator:
        return None
    view = view_generator(run)
    lag = max(sample.lag_s for sample in run.generator) * 1e3
    busiest = max(sample.cpu for sample in run.generator)
    limit = "It was the limit." if run.was_limited else "It was not the limit."
    return {
        "words": (
            f"{limit} It sent each call at most {format_ms(lag)} late where a connection was free,"
            f" and its busiest process used up to {busiest * 100:.0f} % of a core."
        ),
        "drawings": draw_generator(view, "generator"),
        "window": format_seconds(view.length_s),
        "windows": _generator_table(view),
    }


def _generator_table(view: GeneratorView) -> Table:
    seconds = float(view.starts[-1] + view.length_s)
    return Table(
        ("Time", "Lag, the longest", "Of one core", "Calls under way"),
        [
            (
                format_clock(float(start), seconds),
                format_ms(float(view.lag_ms[at])),
                f"{view.cpu[at] * 100:.0f} %" if math.isfinite(view.cpu[at]) else "–",
                format_number(float(view.in_flight[at])),
            )
            for at, start in enumerate(view.starts)
        ],
    )
