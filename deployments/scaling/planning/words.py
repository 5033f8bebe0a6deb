"""A plan in words and as a table, for the terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from deployments.scaling.planning.costs import Costs
from deployments.scaling.planning.traffic_plan import FunctionPlan, MachineSize, Range, TrafficPlan

NONE = "–"
"""Where there is no number."""

Column = tuple[str, Callable[[FunctionPlan], str]]


def columns_of(plan: TrafficPlan) -> Sequence[Column]:
    """The table by function: heads beside its name, and what stands beneath."""
    columns: list[Column] = [
        ("calls/s", lambda one: f"{one.rate:.3g}"),
        ("p50, p95, p99", latencies),
    ]
    if plan.runs > 1:
        columns.append(("p95 between", lambda one: between(one, "p95")))
    columns += [
        ("promised", promises),
        ("warm", lambda one: f"{100 * one.warm:.4g} %" if one.calls else NONE),
        ("wakes", lambda one: str(one.wakes)),
        ("refused", lambda one: str(one.refused)),
    ]
    if any(one.expired for one in plan.functions):
        columns.append(("expired", lambda one: str(one.expired)))
    columns += [
        ("replicas", lambda one: str(one.replicas) if one.replicas else "host"),
        ("replica-s", lambda one: f"{one.held_s:.0f}"),
        ("batch", lambda one: f"{one.batch_rows:.2g}"),
        ("memory", lambda one: f"{one.memory_bytes / 1e6:.0f} MB"),
    ]
    if any(one.num_gpus for one in plan.functions):
        columns.append(("GPUs", gpu_shares))
    if plan.used is not None:
        columns += [
            ("1,000 calls", lambda one: per_1000(one.used)),
            ("month", lambda one: month(one.used)),
        ]
        if any(one.num_gpus for one in plan.functions):
            columns.append(("of it GPU", lambda one: gpu_month(one.used)))
    return columns


def sentence_of(plan: TrafficPlan) -> str:
    """Whether what is promised holds, and if not, why."""
    unsure = list(doubtful_of(plan))
    if plan.outcome == "PASS":
        return "it holds."
    if plan.outcome == "UNSURE":
        return f"it may hold or not: {'; '.join(unsure)}."
    return f"it does not hold: {'; '.join([*faults_of(plan), *unsure])}."


def faults_of(plan: TrafficPlan) -> Iterator[str]:
    """What does not hold."""
    if not plan.is_enough:
        yield "more machines are wanted"
    for one in plan.functions:
        if broken := [name for name in one.broken if name not in one.unsure]:
            yield f"{one.function} does not keep its {', '.join(broken)}"
        if one.refused:
            yield f"{one.function} refuses {one.refused} calls; raise its max_replicas or limits"
        if one.expired:
            yield (
                f"{one.function} does not answer {one.expired} calls within its request_timeout_s;"
                " raise its min_replicas or max_replicas, or that"
            )


def doubtful_of(plan: TrafficPlan) -> Iterator[str]:
    """Which promises may hold or not."""
    for one in plan.functions:
        for name in one.unsure:
            bound = duration(one.promised[name])
            yield f"{name} of {one.function} is {between(one, name)}, {bound} promised"


def totals_of(plan: TrafficPlan) -> Iterator[str]:
    """What all functions need together."""
    fits = "" if plan.is_enough else ": not everything that is wanted fits on them"
    yield (
        f"machines: {plan.machines} of {machine_words(plan.size)};"
        f" {plan.most_bytes / 1e6:.0f} MB at most{fits}"
    )
    for what, costs in (("what is used", plan.used), ("whole machines", plan.whole)):
        if costs is not None:
            gpus = f", {gpu_month(costs)} of it for GPUs" if costs.gpu_month else ""
            yield f"cost by {what}: {per_1000(costs)} for 1,000 calls, {month(costs)} a month{gpus}"


def machine_words(size: MachineSize) -> str:
    """``2 cores, 8 GB, 1 GPU``."""
    gpus = f", {size.gpus} GPU{'s' if size.gpus > 1 else ''}" if size.gpus else ""
    return f"{size.cores} cores, {size.memory_bytes / 1e9:.3g} GB{gpus}"


def latencies(one: FunctionPlan) -> str:
    """The three percentiles."""
    if not one.rate:
        return NONE
    return ", ".join(map(duration, (one.p50_s, one.p95_s, one.p99_s)))


def between(one: FunctionPlan, name: str) -> str:
    """The range of a latency: ``40 to 52 ms``."""
    found = one.ranges.get(name)
    return NONE if found is None or not one.rate else range_words(found)


def range_words(found: Range) -> str:
    """Of seconds."""
    low, high = duration(found.low), duration(found.high)
    if low == high:
        return low
    unit = high[high.index(" ") :]
    return f"{low.removesuffix(unit)} to {high}"


def promises(one: FunctionPlan) -> str:
    """What ``slo`` promises."""
    return ", ".join(f"{name} {promise_words(name, one.promised[name])}" for name in one.promised)


def promise_words(name: str, bound: float) -> str:
    """A promised latency, or share."""
    return duration(bound) if name.startswith("p") else f"{100 * bound:g} %"


def gpu_shares(one: FunctionPlan) -> str:
    """Replicas and what each takes: ``4 x 0.25``."""
    return f"{one.replicas} x {one.num_gpus:g}" if one.num_gpus else NONE


def per_1000(costs: Costs | None) -> str:
    """Of 1,000 calls."""
    return NONE if costs is None or costs.per_1000 is None else f"{costs.per_1000:,.4g}"


def month(costs: Costs | None) -> str:
    """What a month costs, to the cent."""
    return NONE if costs is None else f"{costs.month:,.2f}"


def gpu_month(costs: Costs | None) -> str:
    """The part of a month's costs that GPUs have, to the cent."""
    return NONE if costs is None else f"{costs.gpu_month:,.2f}"


def duration(seconds: float) -> str:
    """``12.3 ms``, ``1.24 s``."""
    if seconds == math.inf:
        return "no answer"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
