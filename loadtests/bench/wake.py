"""The benchmark of waking: functions sleep at zero and wake, in the host and as deployments of
their own. Each section starts a Wakeful of its own, and takes it down.

`wakeful bench wake` is ``python -m loadtests.bench.wake``.
"""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from loadtests import declare
from loadtests.bench.numbers import HEAD, Number
from loadtests.bench.throughput import memory_mb, problem
from loadtests.command import Bench, Table, say
from loadtests.exchanges import Exchange, connect, post, post_once, undisturbed
from loadtests.server import ChildFailed, Server, path_of

DELAY_S = 1.0
"""``downscale_to_zero_delay_s``: short, since every try waits for it."""

QUIET_S = 0.5
"""Between a function that is asleep and its next call: its unloading is done by then."""

OWN_DELAY_S = 3.0
"""Of a deployment, and its ``downscale_delay_s``; its policy looks back for 2 s at least."""

SPARED_S = 6.0
"""Quiet time of a deployment: its last replica has ended, and the process that the one before took
was replaced.
"""

REPORTED_S = 0.5
"""Until a new replica has reported its start to the catalogue."""

LATE_S = 20.0
"""How long after its delay a function may fall asleep; what is promised is half of it."""

HOSTED = {"WAKEFUL_PROMOTE_WORK": declare.KEPT}
"""Functions stay in the host."""

CROWD = 100
FEW, SOME, COPIES = 2, 8, 20
"""Functions of the servers that a thousand are compared with, and model files they all share."""


def shared(bench: Bench, name: str, p50_ms: float, worst_ms: float = math.inf) -> Iterator[Number]:
    """A shipped function that sleeps in the host, called once each time it is asleep."""
    function = declare.like(name, autoscaling=declare.sleepy(DELAY_S))
    with bench.serve(name, function, **HOSTED) as server:
        found = [
            first_call(server, name, declare.example(name))
            for _ in bench.rounds(f"{name} asleep", 20)
        ]
    what, void = f"`{name}` asleep: first answer over HTTP", unlike_first(found)
    note = f"{len(found)} tries, a new connection each"
    yield Number(f"{what}, p50", taken_ms(found), "ms", note, void, at_most=p50_ms)
    worst = (max(taken_ms(found), default=math.nan),)
    yield Number(f"{what}, worst", worst, "ms", void=void, at_most=worst_ms)
    timings = [exchange.timing_ms for exchange in found if exchange.is_cold]
    for phase in dict.fromkeys(name for timing in timings for name in timing if "cold" in name):
        text = f"phase {phase.removeprefix('cold_')}" if "_" in phase else "as the server sees it"
        rounds = [timing[phase] for timing in timings if phase in timing]
        yield Number(f"`{name}` asleep, {text}", rounds, "ms")


def own(bench: Bench) -> Iterator[Number]:
    """Deployments at zero: the shipped `embed`, and a function that computes nothing, which shows
    Ray's part of it; with a process that was started ahead, as by default, and without.
    """
    delays = declare.sleepy(OWN_DELAY_S, downscale_delay_s=OWN_DELAY_S)
    more: dict[str, Any] = {"tier": "own", "autoscaling": delays}
    graph = [{"stage": "answer", "python": "loadtests.stages:answer"}]
    functions = [
        declare.like("embed", "embed-own", **more),
        declare.function("trivial-own", graph, **more),
    ]
    for spares in (1, 0):
        kind = f"as an own deployment at zero{'' if spares else ', no spare process'}"
        limit_s = 1.3 if spares else math.inf
        with bench.serve("own", *functions, WAKEFUL_SPARE_PROCESSES=str(spares)) as server:
            calls = [
                (f"`embed` {kind}", "embed-own", declare.example("embed"), limit_s),
                (f"a function that computes nothing {kind}", "trivial-own", {"x": 1.5}, math.inf),
            ]
            for what, name, row, at_most in calls:
                yield from woken_replica(bench, server, what, name, row, at_most)


def woken_replica(
    bench: Bench, server: Server, what: str, name: str, row: dict[str, Any], at_most: float
) -> Iterator[Number]:
    """First answers of a deployment at zero, and the part until its replica began to load."""
    found, began = list[Exchange](), list[float]()
    for _ in bench.rounds(what, 8):
        found.append(first_call(server, name, row, SPARED_S))
        time.sleep(REPORTED_S)
        wake = server.entry(name)["last_wake"]
        began += [wake["at"] - found[-1].at] if wake else []
    void = next((str(one) for one in found if not one.is_good), "")
    taken, note = [exchange.seconds for exchange in found], f"{len(found)} tries"
    yield Number(f"{what}: first answer, p50", taken, "s", note, void, at_most=at_most)
    yield Number(f"{what}: of that, until its replica began to load", began, "s", void=void)


def at_zero(bench: Bench) -> Iterator[Number]:
    """Ten deployments at zero, while nothing happens; and what is left of them, and of those that
    took their place, once all are deleted.
    """
    graph = [{"stage": "answer", "python": "loadtests.stages:answer"}]
    more: dict[str, Any] = {"tier": "own", "autoscaling": declare.sleepy(OWN_DELAY_S)}
    base, log = declare.function("base", graph), bench.log("at-zero-up")
    rests: dict[str, float] = {}
    with bench.serve("at-zero", base) as server:

        def update(functions: Sequence[declare.Application]) -> None:
            file = declare.write(bench.folder / "at-zero-next.yaml", [base, *functions])
            arguments = ("up", "--detach", str(file), "--port", str(bench.port))
            if server.wakeful(*arguments, log=log) != 0:
                raise ChildFailed(f"`wakeful up` failed: {log.read_text()[-300:]}")

        rests["of one function in the host"] = at_rest(bench, server)[0]
        for index in bench.rounds("ten deployments", 3):
            update([declare.function(f"at-zero-{index}-{one}", graph, **more) for one in range(10)])
            if index == 0:
                rests["and of ten deployments at zero"] = at_rest(bench, server)[0]
            update([])
        rests["of one again, after thirty were deleted"] = at_rest(bench, server)[0]
    for what, cores in rests.items():
        yield Number(f"processor at rest, {what}", (cores * 100,), "% of a core")


def crowd(bench: Bench) -> Iterator[Number]:
    """A hundred first calls of `embed` at the same moment: one load for all of them."""

    async def together(port: int) -> list[Exchange]:
        async with connect(port) as session:
            await asyncio.gather(*(session.get("/v2/health/live") for _ in range(CROWD)))
            due = time.time()
            calls = (post(session, path_of("embed"), body) for _ in range(CROWD))
            return [exchange.since(due) for exchange in await asyncio.gather(*calls)]

    body = json.dumps(declare.example("embed")).encode()
    crowds = []
    function = declare.like("embed", autoscaling=declare.sleepy(DELAY_S))
    with bench.serve("crowd", function, **HOSTED) as server, undisturbed():
        for _ in bench.rounds("100 first calls at once", 5):
            await_sleep(server, "embed")
            crowds.append(asyncio.run(together(server.port)))
    what = "100 concurrent first calls to `embed` asleep"
    found = [exchange for one in crowds for exchange in one]
    bad = [exchange for exchange in found if not exchange.is_good]
    note = f"of {len(found)}" + (f"; first: {bad[0]}" if bad else "")
    yield Number(f"{what}: calls lost", (len(bad),), "", note, at_most=0)
    loads = max(sum(exchange.is_cold for exchange in one) for one in crowds)
    note = "most in a crowd; each load marks its first answer"
    yield Number(f"{what}: loads", (loads,), "", note, at_most=1)
    slowest = (max(taken_ms(found), default=math.nan),)
    note = f"of {len(crowds)} crowds, connections open before"
    yield Number(f"{what}: slowest", slowest, "ms", note, at_most=400)
    yield Number(f"{what}: p50", taken_ms(found), "ms")


def thousand(bench: Bench) -> Iterator[Number]:
    """A thousand copies of `forecast` asleep, over twenty model files: what they cost to bring up,
    while nothing happens, in memory, and the one that wakes.
    """
    many, root = bench.pick(1000, 60), bench.folder / "thousand"
    root.mkdir()
    for index in range(COPIES):
        shutil.copy("models/forecast/model.onnx", root / f"model-{index}.onnx")

    def served(count: int) -> AbstractContextManager[Server]:
        say(f"{count} functions")
        functions = [copy_of_forecast(index) for index in range(count)]
        roots = {"WAKEFUL_ROOT": str(root), "WAKEFUL_MODELS": str(root / "models")}
        return bench.serve(f"thousand-{count}", *functions, **roots, **HOSTED)

    def woken(server: Server, count: int) -> list[Exchange]:
        names = [f"forecast-{index * (count // SOME)}" for index in range(SOME)]
        return [
            first_call(server, names[index % SOME], declare.example("forecast"))
            for index in bench.rounds(f"one of {count}", 24)
        ]

    with served(many) as server:
        first_s = server.up_s
    with served(many) as server:
        up_s, idle, among_many = server.up_s, at_rest(bench, server), woken(server, many)
    with served(FEW) as server:
        pair = at_rest(bench, server)
    with served(SOME) as server:
        among_some = woken(server, SOME)
    what, note = f"`wakeful up`, {many:,} functions", f"{COPIES} copies of files"
    yield Number(f"{what}, probes cached", (up_s,), "s", note, at_most=15)
    yield Number(f"{what}, nothing known of them", (first_s,), "s")
    for count, (cores, rss_mb) in ((many, idle), (FEW, pair)):
        unit = "% of a core"
        yield Number(f"{count:,} functions asleep: processor", (cores * 100,), unit)
        yield Number(f"{count:,} functions asleep: RSS of all processes", (rss_mb,), "MB")
    more = ((idle[0] - pair[0]) * 100,)
    what = f"{many:,} functions asleep: processor above {FEW}"
    yield Number(what, more, "% of a core", at_most=3)
    each = ((idle[1] - pair[1]) * 1e3 / (many - FEW),)
    yield Number("memory of a sleeping function", each, "kB", at_most=50)
    void = unlike_first([*among_many, *among_some])
    found, fewer = taken_ms(among_many), taken_ms(among_some)
    yield Number(f"first answer of one of {many:,}", found, "ms", void=void)
    yield Number(f"first answer of one of {SOME}", fewer, "ms", void=void)
    ratio = (statistics.median(found) / statistics.median(fewer),) if found and fewer else ()
    what = f"first answer of one of {many:,}, over that of one of {SOME}"
    yield Number(what, ratio, "", "of the medians", void, at_most=1.2)


def copy_of_forecast(index: int) -> declare.Application:
    """One of the thousand."""
    model = f"model-{index % COPIES}.onnx"
    stages = declare.shipped()["forecast"]["graph"]
    graph = [{**stage, "onnx": model} if "onnx" in stage else stage for stage in stages]
    scaling = declare.sleepy(DELAY_S)
    return declare.like("forecast", f"forecast-{index}", graph=graph, autoscaling=scaling)


def at_rest(bench: Bench, server: Server) -> tuple[float, float]:
    """Cores that all processes use while nothing is called, and their resident memory, MB."""
    time.sleep(bench.pick(10, 2))
    before = {process: sum(process.cpu_times()[:2]) for process in server.processes()}
    start = time.perf_counter()
    time.sleep(bench.pick(30, 4))
    passed, alive = time.perf_counter() - start, [one for one in before if one.is_running()]
    spent = sum(sum(process.cpu_times()[:2]) - before[process] for process in alive)
    return spent / passed, memory_mb(alive)[0]


def taken_ms(found: Iterable[Exchange]) -> list[float]:
    """Milliseconds of the good ones, in their order."""
    return [exchange.seconds * 1e3 for exchange in found if exchange.is_good]


def first_call(
    server: Server, name: str, row: dict[str, Any], quiet_s: float = QUIET_S
) -> Exchange:
    """Waits until a function sleeps, and calls it on a new connection."""
    await_sleep(server, name, quiet_s)
    return post_once(server.port, path_of(name), row)


def await_sleep(server: Server, name: str, quiet_s: float = QUIET_S) -> None:
    """Waits until a function sleeps, and a moment more."""
    server.wait(name, "asleep", OWN_DELAY_S + LATE_S)
    time.sleep(quiet_s)


def unlike_first(found: Sequence[Exchange]) -> str:
    """Why these are not first answers of sleeping functions; empty when they are."""
    if bad := [exchange for exchange in found if not exchange.is_good]:
        return (
            f"{len(bad)} of {len(found)} failed, the first: {bad[0].status} {bad[0].body[:100]!r}"
        )
    warm = sum(not exchange.is_cold for exchange in found)
    return f"{warm} of {len(found)} found it awake" if warm else ""


TABLE = Table(
    "wakeful bench wake",
    HEAD,
    {
        "embed": lambda bench: shared(bench, "embed", 120, 250),
        "forecast": lambda bench: shared(bench, "forecast", 30),
        "own": own,
        "zero": at_zero,
        "crowd": crowd,
        "thousand": thousand,
    },
    problem,
    """Measure how functions sleep and wake, in the host and as deployments of their own.

    Each section starts a Wakeful of its own, in a state folder of its own, and takes it down.
    Prints a table, and writes it into docs/benchmarks.md when all of it was measured, validly and
    at full length. Exits 0 when every number is valid.
    """,
    "bench wake",
)

if __name__ == "__main__":
    TABLE.as_command()(prog_name="python -m loadtests.bench.wake")
