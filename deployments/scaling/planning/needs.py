"""What a traffic needs: the calls run through the production policies on machines of one size, one
more each time until all fits; and what that costs.

Two costs, since there are two ways to pay. *Used*: what functions hold while they hold it, as where
many share a cluster: the CPUs and the share of a GPU of each replica, worker seconds in the shared
host, memory. *Machines*: all of them, all the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deployments.scaling.planning.profiles import Profile
from deployments.scaling.planning.traffic import PlannedTraffic, rows_of
from deployments.scaling.simulation import SimulatedMachine, Summary, Totals, quantile, replay
from runtime.declaration.function_spec import FunctionSpec, with_live_settings
from runtime.errors import RequestError

MONTH_S: Final = 730 * 3600.0
"""A twelfth of a year of 365 days."""

GB: Final = 1e9

MOST_MACHINES: Final = 64
"""That are tried. Each try is a run through all calls."""

HOST_SHARE: Final = 0.5
"""Of a machine's memory, what functions in its host may hold together by default."""

START_S: Final = 2.0
"""Until a replica on Ray answers, which no profile measures; ``scaling.demand`` counts with it."""

COLUMNS: Final = 60
"""Into which the time is cut for a plot."""

UNITS: Final = {
    "cpu": "a core for an hour",
    "gpu": "a GPU for an hour",
    "memory": "a GB for an hour",
}


@dataclass(frozen=True, slots=True)
class MachineSize:
    """A machine of the plan.

    Attributes:
        cores: for computing.
        cpus_per_core: logical CPUs that Ray has for each (``LOGICAL_CPUS_PER_CORE``).
    """

    cores: int
    memory_bytes: int
    gpus: int = 0
    cpus_per_core: float = 4.0

    @property
    def cpus(self) -> int:
        """Logical CPUs, as Ray counts them."""
        return math.ceil(self.cores * self.cpus_per_core)


@dataclass(frozen=True, slots=True)
class Prices:
    """By the hour: of a core, of a GPU, of a GB of memory. None: not given."""

    cpu: float | None = None
    gpu: float | None = None
    memory: float | None = None

    @property
    def are_given(self) -> bool:
        """Whether there is any."""
        return any(price is not None for price in (self.cpu, self.gpu, self.memory))

    def of(self, cpu_s: float, gpu_s: float, gb_s: float) -> float:
        """The price of so many seconds of each."""
        parts = ((self.cpu, cpu_s), (self.gpu, gpu_s), (self.memory, gb_s))
        return sum((price or 0.0) * seconds for price, seconds in parts) / 3600


def parse_prices(text: str) -> Prices:
    """``cpu=0.04,gpu=1.2,memory=0.005``.

    Raises:
        RequestError: an unknown unit, one twice, or what is no price.
    """
    found: dict[str, float] = {}
    known = ", ".join(f"{unit} ({words})" for unit, words in UNITS.items())
    for part in filter(None, (part.strip() for part in text.split(","))):
        unit, _, number = part.partition("=")
        unit = unit.strip()
        if unit not in UNITS:
            raise RequestError(f"there is no unit {unit!r}; there are {known}.", where="--price")
        if unit in found:
            raise RequestError(f"{unit!r} has two prices. Give it one.", where="--price")
        try:
            price = float(number)
        except ValueError:
            price = math.nan
        if not (math.isfinite(price) and price >= 0):
            raise RequestError(
                f"{part!r} is given, {unit}=PRICE is wanted, for {UNITS[unit]}: {unit}=0.04.",
                where="--price",
            )
        found[unit] = price
    return Prices(**found)


@dataclass(frozen=True, slots=True)
class Costs:
    """In the currency of the prices.

    Attributes:
        per_1000: calls.
        month: of traffic like this.
    """

    per_1000: float
    month: float


@dataclass(frozen=True, slots=True)
class Moment:
    """A part of the time, for a plot.

    Attributes:
        at: seconds of the traffic, where it begins.
        rate: calls a second.
        places: that serve: replicas, or 1 in the host, on average.
        p95_s: of the calls that came in it; None: there were none.
    """

    at: float
    rate: float
    places: float
    p95_s: float | None


@dataclass(frozen=True, slots=True)
class FunctionPlan:
    """What one function needs.

    Attributes:
        rate: answered calls a second.
        refused: calls.
        warm: share of the calls that found it loaded.
        p50_s, p95_s, p99_s: from a call's arrival to its answer.
        promised: what ``slo`` promises: ``p50``, ``p95``, ``p99`` in seconds at most; ``success``
            and ``warm``, shares at least.
        replicas: the most of its own at once; 0: it stays in the host.
        missing: the most that were wanted and did not fit.
        replica_s, host_s, asleep_s: seconds of its own replicas together, in the host, and asleep.
        batch_rows: of a batch, on average.
        work_s: worker seconds.
        memory_bytes: that it holds at its peak, the processes of its replicas included.
        used: None: no price was given.
    """

    function: str
    calls: int
    rate: float
    refused: int
    wakes: int
    warm: float
    p50_s: float
    p95_s: float
    p99_s: float
    promised: Mapping[str, float]
    replicas: int
    missing: int
    replica_s: float
    host_s: float
    asleep_s: float
    batch_rows: float
    work_s: float
    memory_bytes: int
    used: Costs | None
    moments: tuple[Moment, ...]

    @property
    def holds(self) -> bool:
        """Whether what is promised holds; where no share of right answers is, none is refused."""
        return not self.broken and not (self.refused and "success" not in self.promised)

    @property
    def broken(self) -> tuple[str, ...]:
        """Which promises do not hold."""
        taken = {"p50": self.p50_s, "p95": self.p95_s, "p99": self.p99_s}
        share = {"success": self.calls / max(1, self.calls + self.refused), "warm": self.warm}
        return tuple(
            name
            for name, bound in self.promised.items()
            if (taken[name] > bound if name in taken else share[name] < bound)
        )


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """What a traffic needs.

    Attributes:
        traffic: in words.
        seconds: of it that were looked at.
        machines: of ``size``.
        is_enough: all that was wanted fits on them.
        most_bytes: of functions and replicas together, at one moment.
        used, whole: costs of what is used, and of the machines; None: no price was given.
        notes: what the numbers do not say, and why they may be of something else.
    """

    traffic: str
    seconds: float
    machines: int
    size: MachineSize
    is_enough: bool
    most_bytes: int
    functions: tuple[FunctionPlan, ...]
    used: Costs | None
    whole: Costs | None
    notes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether everything that is promised holds."""
        return self.is_enough and all(function.holds for function in self.functions)


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
        RequestError: one takes GPUs that the machines do not have, or have no price.
    """
    called = [specs[name] for name in traffic.functions]
    measured = {spec.name: profile.function(spec.name) for spec in called}
    for spec in called:
        _refuse_machine(spec, size, prices)
    assumed = SimulatedMachine(
        cores=size.cores,
        process_bytes=profile.process_bytes,
        start_s=start_s,
        costs={name: one.costs() for name, one in measured.items()},
        seed=seed,
    )
    for count in range(machines or 1, (machines or MOST_MACHINES) + 1):
        summaries, totals = replay(
            called,
            traffic.arrivals,
            _on_machines(assumed, size, count),
            since=traffic.since,
            until=traffic.until,
        )
        is_enough = _is_enough(called, summaries, totals, size, count)
        if is_enough:
            break
    longest = {
        name: float(max(batch.length for batch in one.batches)) for name, one in measured.items()
    }
    notes = [
        *rows_of(traffic.arrivals, longest),
        *(f"{name}: {note}" for name, one in measured.items() for note in one.notes),
        f"assumed: a replica of its own answers {start_s:g} s after it was decided. Not known here:"
        " what HAProxy adds, memory of Ray's own processes, other machines than the profile's.",
    ]
    functions = tuple(
        _plan_function(specs[summary.function], summary, traffic, profile, prices)
        for summary in summaries
    )
    return TrafficPlan(
        traffic=traffic.words,
        seconds=traffic.seconds,
        machines=count,
        size=size,
        is_enough=is_enough,
        most_bytes=totals.most_bytes,
        functions=functions,
        used=_sum_used(functions),
        whole=_cost_machines(size, count, prices, traffic.seconds, functions),
        notes=tuple(notes),
    )


def _refuse_machine(spec: FunctionSpec, size: MachineSize, prices: Prices) -> None:
    """Raises why a replica fits on no machine of this size, or has no price."""
    needs = spec.resources
    for what, wanted, has, option in (
        ("CPUs", needs.num_cpus, size.cpus, "cores=8"),
        ("GPUs", needs.num_gpus, float(size.gpus), "gpus=1"),
    ):
        if wanted > has:
            raise RequestError(
                f"{spec.name!r} takes {wanted:g} {what} of one machine, and the planned ones have"
                f" {has:g}. `--machine {option}` says what they have.",
                where="--machine",
            )
    if needs.num_gpus and prices.are_given and prices.gpu is None:
        raise RequestError(
            f"{spec.name!r} takes a GPU, and a GPU has no price. Add it: gpu=1.2.", where="--price"
        )


def _on_machines(assumed: SimulatedMachine, size: MachineSize, count: int) -> SimulatedMachine:
    return replace(
        assumed,
        cpus=float(size.cpus * count),
        memory_bytes=int(HOST_SHARE * size.memory_bytes),
        gpus=float(size.gpus * count),
        shared_cores=float(size.cores * count),
    )


def _is_enough(
    called: Sequence[FunctionSpec],
    summaries: Sequence[Summary],
    totals: Totals,
    size: MachineSize,
    machines: int,
) -> bool:
    """Whether the replicas that are declared fit beside the host's CPU, all that were wanted later
    found room, and so did the memory of all.
    """
    declared = [(spec.autoscaling.min_replicas, spec.resources) for spec in called]
    cpus = 1 + sum(count * needs.num_cpus for count, needs in declared)
    gpus = sum(count * needs.num_gpus for count, needs in declared)
    return (
        cpus <= size.cpus * machines
        and gpus <= size.gpus * machines
        and totals.most_bytes <= size.memory_bytes * machines
        and not any(summary.missing for summary in summaries)
    )


def _plan_function(
    spec: FunctionSpec, summary: Summary, traffic: PlannedTraffic, profile: Profile, prices: Prices
) -> FunctionPlan:
    one = profile.function(spec.name)
    seconds, answered = traffic.seconds, len(summary.answers)
    replica_bytes = one.memory_bytes + profile.process_bytes
    used = None
    if prices.are_given:
        price = prices.of(
            spec.resources.num_cpus * summary.replica_s + _host_work_s(summary),
            spec.resources.num_gpus * summary.replica_s,
            (one.memory_bytes * summary.host_s + replica_bytes * summary.replica_s) / GB,
        )
        used = _costs(price, summary.calls, seconds)
    return FunctionPlan(
        function=spec.name,
        calls=summary.calls,
        rate=answered / seconds,
        refused=summary.refused,
        wakes=summary.cold_starts,
        warm=1 - summary.cold_calls / summary.calls if summary.calls else 1.0,
        p50_s=summary.latency_p50_s,
        p95_s=summary.latency_p95_s,
        p99_s=summary.latency_p99_s,
        promised=_promised(spec),
        replicas=summary.replicas,
        missing=summary.missing,
        replica_s=summary.replica_s,
        host_s=summary.host_s,
        asleep_s=summary.asleep_s,
        batch_rows=summary.batch_rows,
        work_s=summary.work_s,
        memory_bytes=max(one.memory_bytes, summary.replicas * replica_bytes),
        used=used,
        moments=moments_of(summary, traffic.since, traffic.until),
    )


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


def moments_of(summary: Summary, since: float, until: float) -> tuple[Moment, ...]:
    """The time in ``COLUMNS`` parts."""
    width = (until - since) / COLUMNS
    latencies: list[list[float]] = [[] for _ in range(COLUMNS)]
    for at, latency_s in summary.answers:
        if since <= at < until:
            latencies[min(COLUMNS - 1, int((at - since) / width))].append(latency_s)
    places = _mean_places(summary.places, since, width)
    return tuple(
        Moment(
            round(since + index * width, 3),
            len(found) / width,
            places[index],
            quantile(sorted(found), 0.95) if found else None,
        )
        for index, found in enumerate(latencies)
    )


def _mean_places(changes: Sequence[tuple[float, int]], since: float, width: float) -> list[float]:
    """Of each part of the time, out of when the number changed and to what."""
    held = [0.0] * COLUMNS
    until = since + COLUMNS * width
    ends = [at for at, _ in changes[1:]] + [until]
    for (began, places), ended in zip(changes, ends, strict=True):
        for index in range(COLUMNS):
            start = since + index * width
            held[index] += places * max(0.0, min(ended, start + width) - max(began, start))
    return [places_s / width for places_s in held]


def _costs(price: float, calls: int, seconds: float) -> Costs:
    return Costs(1000 * price / calls if calls else 0.0, price * MONTH_S / seconds)


def _sum_used(functions: Sequence[FunctionPlan]) -> Costs | None:
    used = [one.used for one in functions if one.used is not None]
    if not used:
        return None
    calls = sum(one.calls for one in functions)
    whole = sum(one.used.per_1000 * one.calls for one in functions if one.used is not None)
    return Costs(whole / calls if calls else 0.0, sum(cost.month for cost in used))


def _cost_machines(
    size: MachineSize,
    machines: int,
    prices: Prices,
    seconds: float,
    functions: Sequence[FunctionPlan],
) -> Costs | None:
    if not prices.are_given:
        return None
    held_s = machines * seconds
    price = prices.of(size.cores * held_s, size.gpus * held_s, size.memory_bytes / GB * held_s)
    return _costs(price, sum(one.calls for one in functions), seconds)
