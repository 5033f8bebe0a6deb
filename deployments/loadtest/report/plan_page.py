"""A plan as one HTML page: what is put into its template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from deployments.loadtest.report.aggregates import MOST_FUNCTIONS
from deployments.loadtest.report.numbers import (
    format_clock,
    format_ms,
    format_number,
    format_seconds,
    format_share,
)
from deployments.loadtest.report.plan_charts import draw_plan
from deployments.loadtest.report.sections import Table, place_range
from deployments.loadtest.report.shell import render_page
from deployments.scaling.planning import words
from deployments.scaling.planning.profiles import Profile
from deployments.scaling.planning.traffic_plan import FunctionPlan, TrafficPlan
from runtime.system.messages import clip

MOST_ROWS: Final = 200
"""Of a table by function or promise."""

MOST_NOTES: Final = 60

RANGE_WORDS: Final = (
    "A range is what several runs of the same kind of traffic came to. UNSURE: the promise lies"
    " within it."
)


def render_plan(plan: TrafficPlan, profile: Profile, doubts: Sequence[str]) -> str:
    """The page.

    Args:
        profile: that it was made of.
        doubts: why the profile's numbers may be of something else.
    """
    busiest = sorted(plan.functions, key=lambda one: -one.calls)[:MOST_FUNCTIONS]
    names = {one.function for one in busiest}
    drawn = [one for one in plan.functions if one.function in names]
    sentence = words.sentence_of(plan)
    return render_page(
        "plan.html.jinja",
        names=clip(", ".join(one.function for one in drawn[:3])),
        traffic=clip(plan.traffic),
        verdict={
            "word": plan.outcome,
            "tone": plan.outcome.lower(),
            "sentence": clip(sentence[:1].upper() + sentence[1:]),
            "lines": [],
        },
        warnings=[clip(doubt) for doubt in doubts],
        tiles=_tiles(plan),
        promises=list(_promise_rows(plan))[:MOST_ROWS],
        range_words=RANGE_WORDS if plan.runs > 1 else "It was run once: no range is known.",
        numbers=_numbers(plan),
        totals=[clip(line) for line in words.totals_of(plan)],
        functions=[_function(plan, one, number) for number, one in enumerate(drawn, 1)],
        other_functions=_others(len(plan.functions) - len(drawn)),
        about=_about(plan, profile),
        notes=[clip(note) for note in plan.notes[:MOST_NOTES]],
    )


def _tiles(plan: TrafficPlan) -> list[dict[str, str]]:
    tiles = [
        ("machines", str(plan.machines)),
        ("calls / s", format_number(sum(one.rate for one in plan.functions))),
        ("replica-seconds", format_number(sum(one.held_s for one in plan.functions))),
        ("wakes", f"{sum(one.wakes for one in plan.functions):,}"),
    ]
    if len(plan.functions) == 1 and plan.functions[0].rate:
        one = plan.functions[0]
        tiles[2:2] = [
            ("p50", format_ms(1e3 * one.p50_s)),
            ("p95", format_ms(1e3 * one.p95_s)),
            ("p99", format_ms(1e3 * one.p99_s)),
        ]
        tiles.append(("found warm", format_share(one.warm)))
    if plan.used is not None and plan.whole is not None:
        tiles += [
            ("1,000 calls, used", words.per_1000(plan.used)),
            ("a month, used", words.month(plan.used)),
            ("a month, machines", words.month(plan.whole)),
        ]
    return [{"name": name, "value": value} for name, value in tiles]


def _promise_rows(plan: TrafficPlan) -> Iterator[dict[str, Any]]:
    for one in plan.functions:
        for name, bound in one.promised.items():
            is_latency = name in one.latencies_s
            value = one.latencies_s[name] if is_latency else one.shares[name]
            spread = one.ranges.get(name)
            low, high = (value, value) if spread is None else (spread.low, spread.high)
            sign = "≤" if is_latency else "≥"
            broken = "FAIL" if name in one.broken else "PASS"
            yield {
                "function": clip(one.function),
                "promise": f"{name} {sign} {words.promise_words(name, bound)}",
                "measured": words.promise_words(name, value),
                "interval": words.NONE if spread is None else words.range_words(spread),
                "range": place_range(value, low, high, bound, is_latency=is_latency),
                "outcome": "UNSURE" if name in one.unsure else broken,
                "more": "",
            }


def _numbers(plan: TrafficPlan) -> Table:
    columns = words.columns_of(plan)
    return Table(
        ("Function", *(head for head, _ in columns)),
        [
            (clip(one.function), *(clip(cell(one)) for _, cell in columns))
            for one in plan.functions[:MOST_ROWS]
        ],
    )


def _function(plan: TrafficPlan, one: FunctionPlan, number: int) -> dict[str, Any]:
    key = f"function-{number}"
    return {
        "id": key,
        "name": clip(one.function),
        "calls": f"{one.calls:,} calls",
        "legend": [
            ("right", "calls", False),
            ("replicas", "replicas", False),
            ("p95", "p95, and what is promised", True),
            ("now", "found warm", False),
        ],
        "over_time": draw_plan(one, plan.seconds, f"{key}-time"),
        "window": format_seconds(plan.seconds / len(one.moments)),
        "windows": _windows(plan, one),
    }


def _windows(plan: TrafficPlan, one: FunctionPlan) -> Table:
    width = plan.seconds / len(one.moments)
    return Table(
        ("Time", "Calls a second", "Replicas", "p95", "Found warm"),
        [
            (
                f"{format_clock(round(at * width, 1), plan.seconds)} to"
                f" {format_clock(round((at + 1) * width, 1), plan.seconds)}",
                format_number(moment.rate),
                format_number(moment.places),
                words.NONE if moment.p95_s is None else format_ms(1e3 * moment.p95_s),
                words.NONE if moment.warm is None else format_share(moment.warm),
            )
            for at, moment in enumerate(one.moments)
        ],
    )


def _others(count: int) -> str:
    """About functions that are not drawn."""
    return f"{count} more with fewer calls are in the table above." if count > 0 else ""


def _about(plan: TrafficPlan, profile: Profile) -> list[tuple[str, str]]:
    machine = profile.machine
    pairs = [
        ("Traffic", f"{plan.traffic}; {format_seconds(plan.seconds)} of it"),
        ("Machines", f"{plan.machines} of {words.machine_words(plan.size)}"),
        ("Profile", f"of {profile.made}"),
        ("Measured on", f"{machine.processor}, {machine.cores} cores"),
        *machine.versions.items(),
    ]
    return [(clip(name), clip(text)) for name, text in pairs]
