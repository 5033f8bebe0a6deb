"""A run as one HTML page: what is put into its template.

Names, codes and notes may be of a hostile server; ``shell`` has them be text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from deployments.loadtest.report.aggregates import view_functions
from deployments.loadtest.report.numbers import (
    format_ms,
    format_number,
    format_seconds,
    format_share,
)
from deployments.loadtest.report.sections import (
    Table,
    describe_functions,
    describe_generator,
    place_range,
)
from deployments.loadtest.report.shell import format_moment, render_page
from deployments.loadtest.results.comparison import (
    SHARE_NAMES,
    Comparison,
    Difference,
    compare,
)
from deployments.loadtest.results.dependence import ERROR
from deployments.loadtest.results.records import Run
from deployments.loadtest.results.statistics import (
    FunctionResult,
    RunResult,
    end_of,
    summarise,
)
from deployments.loadtest.results.verdict import PARTS, PromiseVerdict, Verdict
from runtime.system.messages import clip

MOST_ROWS: Final = 200
"""Of a table by function or promise."""

MOST_NOTES: Final = 30

MOST_MACHINE: Final = 20
"""Facts about the machine."""


def render(run: Run, verdict: Verdict, before: Run | None = None) -> str:
    """The page.

    Args:
        before: the run that this one is compared with.
    """
    result = summarise(run)
    comparison = None if before is None else compare(before, run)
    views = view_functions(run)
    return render_page(
        "report.html.jinja",
        names=clip(", ".join(view.name for view in views[:3])),
        began=format_moment(run.started),
        verdict=_headline(verdict, run),
        warnings=_warnings(run, comparison),
        tiles=_tiles(run, result),
        promises=[_promise_row(one) for one in verdict.promises[:MOST_ROWS]],
        interval_words=INTERVAL_WORDS,
        comparison=(
            None if before is None or comparison is None else _comparison(before, comparison)
        ),
        numbers=_numbers(result),
        number_notes=_number_notes(run, result),
        functions=describe_functions(run, views, before),
        other_functions=_others(len(result.functions) - len(views)),
        generator=describe_generator(run),
        about=_about(run),
        notes=[clip(note) for note in run.notes[:MOST_NOTES]],
    )


INTERVAL_WORDS: Final = (
    f"An interval is of {100 * (1 - 2 * ERROR):g} % and knows that neighbouring calls depend on"
    " each other. For a promise of latency, a call without a right answer counts as slower than"
    " any."
)


def _headline(verdict: Verdict, run: Run) -> dict[str, Any]:
    """The verdict in words; each promise that decides it on a line of its own, but for those that
    share the reason of a warning.
    """
    word = verdict.outcome or "DONE"
    head, _, _ = verdict.words.removeprefix(f"{word}: ").partition(". ")
    if len(verdict.promises) != 1:  # else it begins with the name of a function
        head = head[:1].upper() + head[1:]
    decisive = [one for one in verdict.promises if one.outcome == verdict.outcome]
    lines = [] if len(verdict.promises) == 1 else [one.words for one in decisive[:6]]
    if verdict.outcome == "PASS" or run.was_limited:
        lines = []
    return {
        "word": word,
        "tone": word.lower(),
        "sentence": clip(head if head.endswith((".", "…")) else f"{head}."),
        "lines": [clip(line) for line in lines],
    }


def _warnings(run: Run, comparison: Comparison | None) -> list[str]:
    said: list[str] = []
    if comparison is not None and comparison.has_regression:
        said.append(f"{comparison.count} than in the run before.")
    if run.was_limited:
        said.append(
            f"The generator was the limit, not the server: {run.was_limited}. What is measured is"
            " not the server's."
        )
    said += run.cautions[:MOST_NOTES]
    if run.is_partial:
        said.append("The run was ended before its time; this is what there was.")
    return [clip(text) for text in said]


def _tiles(run: Run, result: RunResult) -> list[dict[str, str]]:
    """The run in a few numbers; percentiles where there is one function, since those of several
    say nothing together.
    """
    functions = list(result.functions.values())
    right = sum(one.right for one in functions)
    calls = sum(one.calls for one in functions)
    tiles = [
        ("right answers / s", format_number(sum(one.throughput for one in functions))),
        ("answered right", format_share(right / calls) if calls else "–"),
    ]
    if len(functions) == 1:
        tiles += [
            (f"p{part * 100:g}", format_ms(1e3 * estimate.value))
            for part, estimate in functions[0].percentiles.items()
        ]
    else:
        tiles += [("functions", format_number(len(functions))), ("calls", f"{calls:,}")]
    warm = [one.warm for one in functions if one.warm is not None]
    if len(warm) == 1:
        tiles.append(("found warm", format_share(warm[0].value)))
    if run.server:
        tiles += [
            ("wakes", format_number(sum(one.wakes or 0 for one in functions))),
            ("replica-seconds", format_number(sum(one.replica_s or 0.0 for one in functions))),
        ]
    return [{"name": name, "value": value} for name, value in tiles]


def _promise_row(one: PromiseVerdict) -> dict[str, Any]:
    is_latency = one.name in PARTS
    words = format_ms if is_latency else format_share
    name = f"p{100 * PARTS[one.name]:g}" if is_latency else SHARE_WORDS[one.name]
    value, low, high = one.measured
    more = f"{format_seconds(one.seconds_more)} more" if one.seconds_more is not None else ""
    return {
        "function": clip(one.function),
        "promise": f"{name} {'≤' if is_latency else '≥'} {words(one.limit)}",
        "measured": words(value) if math.isfinite(value) else "no right answer",
        "interval": _interval(words, low, high),
        "range": place_range(*one.measured, one.limit, is_latency=is_latency),
        "outcome": one.outcome,
        "more": more,
    }


SHARE_WORDS: Final = {"success": "answered right", "warm": "found warm"}


def _interval(words: Callable[[float], str], low: float, high: float) -> str:
    if math.isfinite(high):
        return f"{words(low)} to {words(high)}"
    return f"{words(low)} or more" if math.isfinite(low) else "–"


def _comparison(before: Run, found: Comparison) -> dict[str, Any]:
    """What changed from one run to another, and what did not."""
    tone = "worse" if found.has_regression else "better" if found.changes else "same"
    if found.other_load:
        sentence, tone = found.words, "unsure"
    elif not found.changes:
        sentence = found.words
    else:
        sentence = f"{found.count}."
    worst_first = sorted(found.changes, key=lambda one: one.direction != "worse")
    others = [one for one in found.differences if not one.direction]
    return {
        "before": format_moment(before.started),
        "tone": tone,
        "sentence": clip(sentence),
        "lines": [clip(f"{caution}.") for caution in found.cautions[:MOST_NOTES]],
        "changes": [_difference_row(one) for one in worst_first[:MOST_ROWS]],
        "others": [_difference_row(one) for one in others[:MOST_ROWS]],
    }


def _difference_row(one: Difference) -> dict[str, str]:
    is_share = one.name in SHARE_NAMES
    before, now = one.before.value, one.after.value
    if is_share:
        change = f"{100 * (now - before):+.2f} points".replace("-", "−")
    else:
        change = f"{100 * (now / before - 1):+.1f} %".replace("-", "−") if before > 0 else "–"

    def words(value: float) -> str:
        return format_share(value) if is_share else format_ms(1e3 * value)

    return {
        "function": clip(one.function),
        "name": SHARE_WORDS.get(one.name, one.name),
        "before": words(before),
        "before_interval": _interval(words, one.before.low, one.before.high),
        "now": words(now),
        "now_interval": _interval(words, one.after.low, one.after.high),
        "change": change,
        "tone": one.direction or "same",
        "word": one.direction or "no change that counts",
    }


def _numbers(result: RunResult) -> Table:
    return Table(
        (
            *("Function", "Calls", "Right/s", "Good/s", "p50", "p95", "p99", "Longest"),
            *("Right", "Refused", "Warm", "Wakes", "Replica-s", "Worker-s", "Batch"),
        ),
        [_number_row(name, one) for name, one in list(result.functions.items())[:MOST_ROWS]],
    )


def _number_row(name: str, one: FunctionResult) -> Sequence[str]:
    return (
        clip(name),
        f"{one.calls:,}",
        format_number(one.throughput),
        format_number(one.goodput),
        *(format_ms(1e3 * estimate.value) for estimate in one.percentiles.values()),
        format_ms(1e3 * one.longest_s),
        format_share(one.success.value),
        f"{one.refused:,}",
        "–" if one.warm is None else format_share(one.warm.value),
        "–" if one.wakes is None else f"{one.wakes:,}",
        *(
            format_number(math.nan if number is None else number)
            for number in (one.replica_s, one.worker_s, one.batch_rows)
        ),
    )


def _number_notes(run: Run, result: RunResult) -> list[str]:
    said = [
        "Latencies are of right answers, from when each call was to be sent. Good: right answers"
        " within the longest latency that is promised. Batch: rows in one, on average."
    ]
    if run.warm_up_s > 0:
        said[0] += f" The first {format_seconds(run.warm_up_s)} count for nothing."
    for name, one in list(result.functions.items())[:MOST_ROWS]:
        if one.first:
            told = ", ".join(
                f"p{100 * part:g} {format_ms(1e3 * estimate.value)}"
                for part, estimate in one.first.items()
            )
            said.append(f"{clip(name)}: first items after {told}.")
    right = sum(call.is_right for call in run.calls)
    if run.cpu_s is not None and right:
        said.append(
            f"The server's processes used {format_number(run.cpu_s)} processor seconds:"
            f" {format_number(1000 * run.cpu_s / right)} for 1,000 right answers."
        )
    if result.cost_per_1000 is not None:
        prices = ", ".join(f"{unit} {price:g}" for unit, price in run.prices.items())
        said.append(
            f"1,000 right answers cost {format_number(result.cost_per_1000)}; by the hour {prices}."
        )
    return said


def _others(count: int) -> str:
    """About functions that are not drawn."""
    if count <= 0:
        return ""
    return f"{count} more with fewer calls are in the table above and in run.json."


def _about(run: Run) -> list[tuple[str, str]]:
    pairs = [
        ("Server", run.url),
        ("Load", run.shape),
        ("Calls", f"{len(run.calls):,} in {format_seconds(end_of(run))}"),
        ("Seed", str(run.seed)),
        *list(run.machine.items())[:MOST_MACHINE],
    ]
    return [(clip(name), clip(text)) for name, text in pairs]
