"""Runs calls through the production policies on machines of one size, as few of them as all fits
on, and says what that needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deployments.scaling.planning.costs import GB, Prices, cost_of, sum_costs
from deployments.scaling.planning.moments import moments_of
from deployments.scaling.planning.profiles import FunctionProfile, Profile
from deployments.scaling.planning.traffic import MOST_CALLS, PlannedTraffic, rows_of
from deployments.scaling.planning.traffic_plan import (
    FunctionPlan,
    MachineSize,
    Range,
    TrafficPlan,
)
from deployments.scaling.simulation import (
    Arrival,
    SimulatedMachine,
    Summary,
    Totals,
    replay,
)
from runtime.declaration.function_spec import FunctionSpec, with_live_settings
from runtime.errors import RequestError

MOST_MACHINES: Final = 64
"""That are tried."""

START_S: Final = 2.0
"""Until a replica on Ray answers, which no profile measures; ``scaling.demand`` counts with it."""

OTHER_RUNS: Final = ((1, -1), (2, 1), (3, -1), (4, 1))
"""Seeds beside the plan's, and whether batches are faster or slower there, by the profile's drift:
what comes of them is the range of a number.
"""

TICKS: Final = 5.0
"""Looks of a policy a second, each of which takes as long to run through as a call."""


def promising(spec: FunctionSpec, p95_ms: float) -> FunctionSpec:
    """The function with another p95 promised, which its scaling then aims at; another percentile
    that would contradict it is promised no more.
    """
    slo = spec.slo.model_dump(exclude_none=True)
    if slo.get("latency_p50_ms", 0.0) > p95_ms:
        del slo["latency_p50_ms"]
    if slo.get("latency_p99_ms", math.inf) < p95_ms:
        del slo["latency_p99_ms"]
    return with_live_settings(spec, {"slo": {**slo, "latency_p95_ms": p95_ms}})


@dataclass(frozen=True, slots=True)
class _Try:
    """What came of so many machines."""

    machines: int
    summaries: Sequence[Summary]
    totals: Totals
    is_enough: bool


def make_plan(
    specs: Mapping[str, FunctionSpec],
    profile: Profile,
    traffic: PlannedTraffic,
    size: MachineSize,
    prices: Prices,
    *,
    machines: int | None = None,
    start_s: float = START_S,
    seed: int = 0,
) -> TrafficPlan:
    """Runs the traffic through the policies.

    Args:
        specs: of the file, by name.
        machines: how many there are; None: as few as all fits on, one at least.

    Raises:
        NotFound: a function of the traffic was not profiled.
        RequestError: one takes what no such machine has, or a GPU that has no price.
    """
    called = [specs[name] for name in traffic.functions]
    measured = {spec.name: profile.function(spec.name) for spec in called}
    for spec in called:
        _refuse_machine(
            spec, measured[spec.name].memory_bytes + profile.process_bytes, size, prices
        )
    assumed = SimulatedMachine(
        cores=size.cores,
        cpus=float(size.cpus),
        memory_bytes=size.host_bytes,
        gpus=size.gpus,
        shared_cores=float(size.cores),
        process_bytes=profile.process_bytes,
        start_s=start_s,
        costs={name: one.costs() for name, one in measured.items()},
        seed=seed,
    )

    def run_on(count: int) -> _Try:
        summaries, totals = _run(called, traffic, traffic.arrivals, assumed, count)
        is_enough = totals.most_machine_bytes <= size.memory_bytes and not any(
            summary.missing for summary in summaries
        )
        return _Try(count, summaries, totals, is_enough)

    found = run_on(machines) if machines else fewest_enough(run_on)
    others = list(_other_runs(called, measured, traffic, assumed, found.machines))
    functions = tuple(
        _plan_function(
            specs[summary.function],
            summary,
            [run[summary.function] for run in others],
            traffic,
            profile,
            prices,
        )
        for summary in found.summaries
    )
    held_s = found.machines * traffic.seconds
    calls = sum(one.calls for one in functions)
    return TrafficPlan(
        traffic=traffic.words,
        seconds=traffic.seconds,
        machines=found.machines,
        size=size,
        is_enough=found.is_enough,
        most_bytes=found.totals.most_bytes,
        runs=1 + len(others),
        functions=functions,
        used=sum_costs([(one.used, one.calls) for one in functions], traffic.seconds),
        whole=cost_of(
            prices,
            size.cores * held_s,
            size.gpus * held_s,
            size.memory_bytes / GB * held_s,
            calls=calls,
            seconds=traffic.seconds,
        ),
        notes=tuple(_notes(specs, measured, traffic, start_s, 1 + len(others))),
    )


def fewest_enough(run_on: Callable[[int], _Try]) -> _Try:
    """The try with the fewest machines on which all fits, by doubling and halving; with the most
    that are tried where they are not enough.
    """
    low, found = 0, run_on(1)
    while not found.is_enough and found.machines < MOST_MACHINES:
        low, found = found.machines, run_on(min(2 * found.machines, MOST_MACHINES))
    while found.is_enough and found.machines - low > 1:
        between = run_on((low + found.machines) // 2)
        if between.is_enough:
            found = between
        else:
            low = between.machines
    return found


def _run(
    called: Sequence[FunctionSpec],
    traffic: PlannedTraffic,
    arrivals: Sequence[Arrival],
    assumed: SimulatedMachine,
    machines: int,
) -> tuple[Sequence[Summary], Totals]:
    on_machines = replace(assumed, machines=machines)
    return replay(called, arrivals, on_machines, since=traffic.since, until=traffic.until)


def _other_runs(
    called: Sequence[FunctionSpec],
    measured: Mapping[str, FunctionProfile],
    traffic: PlannedTraffic,
    assumed: SimulatedMachine,
    machines: int,
) -> Iterator[Mapping[str, Summary]]:
    """The same traffic with other arrivals, where they are made up, and batches that are faster or
    slower; as many times as there is time for.
    """
    effort = len(traffic.arrivals) + TICKS * traffic.until
    count = int(MOST_CALLS / effort) - 1
    for more, sign in OTHER_RUNS[: count if count > 1 else 0]:
        seed = assumed.seed + more
        costs = {name: one.costs(1 + sign * one.drift) for name, one in measured.items()}
        summaries, _ = _run(
            called,
            traffic,
            traffic.again(seed) if traffic.again is not None else traffic.arrivals,
            replace(assumed, seed=seed, costs=costs),
            machines,
        )
        yield {summary.function: summary for summary in summaries}


def _notes(
    specs: Mapping[str, FunctionSpec],
    measured: Mapping[str, FunctionProfile],
    traffic: PlannedTraffic,
    start_s: float,
    runs: int,
) -> Iterator[str]:
    """What the numbers do not say."""
    longest = {
        name: float(max(batch.length for batch in one.batches)) for name, one in measured.items()
    }
    yield from rows_of(traffic.arrivals, longest)
    for name, one in measured.items():
        yield from (f"{name}: {note}" for note in one.notes)
    kept = [
        f"{spec.name} {spec.autoscaling.min_replicas}"
        for spec in specs.values()
        if spec.autoscaling.min_replicas and spec.name not in measured
    ]
    if kept:
        yield (
            "not planned, since this traffic does not call them, though they keep replicas:"
            f" {', '.join(kept)}."
        )
    if runs > 1:
        drift = max(one.drift for one in measured.values())
        what = "other arrivals and batches" if traffic.again is not None else "other batches"
        yield (
            f"a range is that of {runs} runs with {what}, up to {100 * drift:.1f} % faster or"
            " slower, as rounds of the profile were. What the model leaves out comes on top."
        )
    else:
        yield "run once, since it is long: how sure the numbers are is not known."
    unknown = ["memory of Ray's own processes", "other machines than the profile's"]
    if any(one.http == "in process" for one in measured.values()):
        unknown.insert(0, "what HAProxy adds (`wakeful profile --url` measures it)")
    yield (
        f"assumed: a replica of its own answers {start_s:g} s after it was decided. Not known here:"
        f" {', '.join(unknown)}."
    )


def _refuse_machine(
    spec: FunctionSpec, replica_bytes: int, size: MachineSize, prices: Prices
) -> None:
    """Raises why a replica fits on no machine of this size, or has no price."""
    needs = spec.resources
    for what, wanted, has, option in (
        ("CPUs", needs.num_cpus, float(size.cpus), "cores=8"),
        ("GPUs", needs.num_gpus, float(size.gpus), "gpus=1"),
        ("GB of memory", replica_bytes / GB, size.memory_bytes / GB, "memory=16"),
    ):
        if wanted > has:
            raise RequestError(
                f"{spec.name!r} takes {wanted:.3g} {what} of one machine, and the planned ones have"
                f" {has:.3g}. `--machine {option}` says what they have.",
                where="--machine",
            )
    if needs.num_gpus and prices.are_given and prices.gpu is None:
        raise RequestError(
            f"{spec.name!r} takes a GPU, and a GPU has no price. Add it: gpu=1.2.", where="--price"
        )


def _plan_function(
    spec: FunctionSpec,
    summary: Summary,
    others: Sequence[Summary],
    traffic: PlannedTraffic,
    profile: Profile,
    prices: Prices,
) -> FunctionPlan:
    one = profile.function(spec.name)
    replica_bytes = one.memory_bytes + profile.process_bytes
    return FunctionPlan(
        function=spec.name,
        calls=summary.calls,
        rate=len(summary.answers) / traffic.seconds,
        refused=summary.refused,
        expired=summary.expired,
        wakes=summary.cold_starts,
        warm=1 - summary.cold_calls / summary.calls if summary.calls else 1.0,
        p50_s=summary.latency_p50_s,
        p95_s=summary.latency_p95_s,
        p99_s=summary.latency_p99_s,
        ranges=_ranges([summary, *others]) if others else {},
        promised=_promised(spec),
        replicas=summary.replicas,
        missing=summary.missing,
        replica_s=summary.replica_s,
        host_s=summary.host_s,
        asleep_s=summary.asleep_s,
        batch_rows=summary.batch_rows,
        work_s=summary.work_s,
        num_gpus=spec.resources.num_gpus,
        memory_bytes=max(one.memory_bytes, summary.replicas * replica_bytes),
        used=cost_of(
            prices,
            spec.resources.num_cpus * summary.replica_s + _host_work_s(summary),
            spec.resources.num_gpus * summary.replica_s,
            (one.memory_bytes * summary.host_s + replica_bytes * summary.replica_s) / GB,
            calls=summary.calls,
            seconds=traffic.seconds,
        ),
        moments=moments_of(summary, traffic.since, traffic.until),
    )


def _ranges(runs: Sequence[Summary]) -> dict[str, Range]:
    numbers = {
        "p50": [run.latency_p50_s for run in runs],
        "p95": [run.latency_p95_s for run in runs],
        "p99": [run.latency_p99_s for run in runs],
        "held_s": [run.replica_s + run.host_s for run in runs],
    }
    return {name: Range(min(values), max(values)) for name, values in numbers.items()}


def _promised(spec: FunctionSpec) -> dict[str, float]:
    slo = spec.slo
    latencies_ms = {
        "p50": slo.latency_p50_ms,
        "p95": slo.latency_p95_ms,
        "p99": slo.latency_p99_ms,
    }
    found = {name: bound / 1000 for name, bound in latencies_ms.items() if bound is not None}
    shares = {"success": slo.success, "warm": slo.warm}
    return found | {name: bound for name, bound in shares.items() if bound is not None}


def _host_work_s(summary: Summary) -> float:
    """Worker seconds of its calls in the host, by the share of its time there."""
    awake_s = summary.host_s + summary.own_s
    return summary.work_s * summary.host_s / awake_s if awake_s else 0.0
