"""What ``wakeful plan`` predicts beside what comes: a `day` of ten minutes is sent to Wakeful on
Ray, with the same calls at the same times as were planned for, and the two are compared.

    python -m loadtests.loadtest.planned            # a quarter of an hour, a machine at rest
    python -m loadtests.loadtest.planned --quick    # shows that it works

The function is the shipped `embed` with a text of a page, one worker a replica: at its busiest the
day asks for as much as one core does, so that it is promoted, scales to two and back, and the
generator and Ray have the rest of two cores. What a call takes over HTTP is measured at the server,
through HAProxy, before the day begins. With ``--keep`` the profile and the run stay in that folder.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from deployments.loadtest.arrivals import make_arrivals, parse_shape
from deployments.loadtest.calls.making import make_call
from deployments.loadtest.generator.plan import LoadPlan
from deployments.loadtest.generator.running import run_load
from deployments.loadtest.preparation import ask_functions
from deployments.loadtest.results.files import write_run
from deployments.loadtest.results.records import Run, ServerSample
from deployments.scaling.planning.costs import Prices
from deployments.scaling.planning.measure import measure, process_bytes
from deployments.scaling.planning.needs import make_plan
from deployments.scaling.planning.profiles import (
    Profile,
    make_profile,
    this_machine,
    write_profile,
)
from deployments.scaling.planning.traffic import PlannedTraffic
from deployments.scaling.planning.traffic_plan import FunctionPlan, MachineSize
from deployments.scaling.planning.words import between
from loadtests import declare
from loadtests.bench.numbers import HEAD, Number, percentile
from loadtests.bench.texts import write_texts
from loadtests.bench.throughput import MODEL, problem
from loadtests.command import Bench, Table, say
from loadtests.server import ChildFailed, Server, poll
from runtime.declaration import config_file
from runtime.graph.resolve import ResolvedConfig, resolve
from runtime.settings import Settings

NAME: Final = "embed"

TOKENS: Final = 120

WORK: Final = 0.45
"""Cores of work that the day asks for on average: twice that at its peak, so that two cores have
time for the generator and for Ray. At 0.55 one call in a hundred was sent too late there.
"""

ASLEEP_S: Final = 150.0
"""Longest wait for the function to sleep after it was measured; its delay is a minute."""

REPLICA_S_WITHIN: Final = 0.15
P95_WITHIN: Final = 0.20


def day(bench: Bench) -> Iterator[Number]:
    """A day of ten minutes: prediction, measurement and one by the other."""
    seconds = float(bench.pick(600, 120))
    ((text, _),) = write_texts(MODEL.with_name("tokenizer.json"), [TOKENS])
    declared = declare.like(
        NAME,
        example={"text": text},
        resources={"num_cpus": 1},
        autoscaling={"min_replicas": 0, "max_replicas": 2},
        slo={"latency_p95_ms": 100},
    )
    file = declare.write(bench.folder / "day.yaml", [declared])
    config, settings = _resolved(file)
    with bench.start(file, bench.port, bench.log("day"), {}) as server:
        say("profile")
        profile = _profile(config, settings, server, bench.pick(30, 5))
        _wait_asleep(server)
        row_s = profile.functions[NAME].batches[0].seconds
        shape = parse_shape("day", {}, {NAME: WORK / row_s}, seconds)
        say(f"{shape}: {WORK / row_s:.0f} calls a second for {seconds:.0f} s")
        function = ask_functions(server.url)[NAME]
        call = make_call(function, {"text": text})
        run = run_load(LoadPlan(server.url, {NAME: (call,)}, {NAME: function.form}, shape))
    write_profile(profile, bench.folder / "profile.json")
    write_run(run, bench.folder / "run")
    arrivals = list(make_arrivals(shape, 0))
    traffic = PlannedTraffic(str(shape), arrivals, 0.0, seconds)
    machine = this_machine()
    size = MachineSize(machine.cores, machine.memory_bytes, 0, settings.cpus_per_core)
    specs = {spec.name: spec for spec in config.functions}
    planned = make_plan(specs, profile, traffic, size, Prices(), machines=1).functions[0]
    yield from compare(planned, run, seconds)


def compare(planned: FunctionPlan, run: Run, seconds: float) -> Iterator[Number]:
    """The two, each number beside the other."""
    calls = [call for call in run.calls if call.function == planned.function]
    right = [call.latency_s for call in calls if call.is_right]
    warm = [call.is_warm for call in calls if call.is_warm is not None]
    void = run.was_limited or ("" if right else "no call was answered")
    pairs = (
        ("replica-seconds", "s", planned.held_s,
         held_s(run.server, planned.function, seconds), REPLICA_S_WITHIN),
        ("p95", "ms", 1000 * planned.p95_s, 1000 * percentile(right, 0.95), P95_WITHIN),
        ("p50", "ms", 1000 * planned.p50_s, 1000 * percentile(right, 0.5), math.inf),
        ("p99", "ms", 1000 * planned.p99_s, 1000 * percentile(right, 0.99), math.inf),
        ("worker's time of a row", "ms", 1000 * planned.work_s / max(1, planned.calls),
         1000 * row_s(run.server, planned.function), math.inf),
    )  # fmt: skip
    for what, unit, predicted, measured, within in pairs:
        note = between(planned, what) if what in planned.ranges else ""
        yield Number(f"{what}, predicted", [predicted], unit, note)
        yield Number(f"{what}, measured", [measured], unit, void=void)
        ratio = predicted / measured if measured else math.nan
        yield Number(
            f"{what}, predicted over measured",
            [ratio],
            void=void,
            at_least=1 - within,
            at_most=1 + within,
        )
    yield Number("calls, predicted", [float(planned.calls)])
    yield Number("calls, answered", [float(len(right))], note=f"of {len(calls)} sent")
    share = sum(warm) / len(warm) if warm else math.nan
    yield Number("warm share, predicted", [planned.warm])
    yield Number("warm share, measured", [share])


def held_s(samples: Sequence[ServerSample], function: str, seconds: float) -> float:
    """Seconds of all replicas of a function together, by what the server said: each number holds
    until the next.
    """
    seen = sorted((one.at, one.replicas) for one in samples if one.function == function)
    ends = [*(at for at, _ in seen[1:]), seconds]
    return sum(
        replicas * max(0.0, min(end, seconds) - at)
        for (at, replicas), end in zip(seen, ends, strict=False)
    )


def row_s(samples: Sequence[ServerSample], function: str) -> float:
    """Seconds of a worker that a row took, by what the server counted; its counts begin anew when
    the function loads, so a fall is left out. NaN of no rows.
    """
    seen = sorted((one.at, one.busy_s, one.rows) for one in samples if one.function == function)
    grown = [
        (after[1] - before[1], after[2] - before[2])
        for before, after in itertools.pairwise(seen)
        if after[1] >= before[1] and after[2] >= before[2]
    ]
    rows = sum(more for _, more in grown)
    return sum(busy_s for busy_s, _ in grown) / rows if rows else math.nan


def _wait_asleep(server: Server) -> None:
    """Until the function sleeps, as the planned day begins. By the index, which wakes nothing.

    Raises:
        ChildFailed: it does not in time.
    """
    entry: dict[str, object] = {}
    for _ in poll(ASLEEP_S, every_s=0.5):
        index = server.client.get("/", headers={"accept": "application/json"}).json()
        entry = next(one for one in index["functions"] if one["name"] == NAME)
        if entry["state"] == "asleep":
            return
    raise ChildFailed(f"{NAME} is not asleep after {ASLEEP_S:g} s: {entry}")


def _resolved(file: Path) -> tuple[ResolvedConfig, Settings]:
    """The file as its server reads it: models of the working folder."""
    settings = replace(Settings.read(file=file), root=Path.cwd(), models=Path.cwd() / "models")
    return resolve(config_file.read(file), settings), settings


def _profile(config: ResolvedConfig, settings: Settings, server: Server, seconds: float) -> Profile:
    held = process_bytes()
    found = dict(measure(config, settings, [NAME], seconds=seconds, url=server.url))
    return make_profile(found, this_machine(), held)


TABLE = Table(
    "python -m loadtests.loadtest.planned",
    HEAD,
    {"day": day},
    problem,
    """Predict what a day of ten minutes needs, send it, and compare.

    Starts Wakeful on Ray with one function, profiles it there, waits until it sleeps, sends the
    calls of `--shape day`, and runs the same calls through `wakeful plan`. Prints a table of both.
    """,
)

if __name__ == "__main__":
    TABLE.as_command()(prog_name="python -m loadtests.loadtest.planned")
