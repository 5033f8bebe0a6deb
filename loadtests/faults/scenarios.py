"""The scenarios, as the table of docs/reliability.md has them."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from loadtests import declare
from loadtests.bench.numbers import percentile
from loadtests.bench.texts import write_texts
from loadtests.command import Bench, Section, Start, Table, absent, say
from loadtests.faults.mixed import mixed, mixed_functions, mixed_work
from loadtests.faults.requests import (
    PoisonedBatches,
    WorkRequests,
    model_row,
    work_function,
)
from loadtests.faults.run import CONTROLLER, Run, play
from loadtests.faults.updates import story_functions, updates
from loadtests.ledger import RECOVERY_S, End, Ledger, Make, client_of
from loadtests.server import local, up
from loadtests.stages import Fault

BAD: tuple[Fault, ...] = ("raises on Ray", "raises", "dies on Ray")
"""What is wrong with the bad versions, in turn."""

KILL_EVERY_S = 3.0
"""From one replica's death to the next."""

MANY, FEW_CALLS = (20_000, 1_500), (2_000, 200)
"""Requests at least of a whole run and of a quick one, where two replicas serve, or one."""

TAKEN_S = 15.0
"""Longest from the end of `up` to the first answer of the new version."""

RATIO = 1.5
"""Most by which the p95 may grow while versions change."""

MODEL = Path("models/minilm/model.int8.onnx")
SIZES = (8, 32)
"""Batches with a poisoned row."""

MOST, DELAY_S = 4, 5.0
"""``max_replicas`` and ``downscale_delay_s`` of the function that scales."""

RATES = (4.0, 55.0, 4.0, 0.0)
"""Arrivals a second by turns, that take 1, 4, 1 and 0 replicas of one worker."""

TIMES, CALM = 5, 0.5
"""Of the peak: the overload, and the load before and after it."""

GOODPUT, REFUSAL_S, SLOW, FEW = 0.9, 0.05, 2.0, 0.1
"""Bounds of an overload: right answers of the peak; refusals' p99; times the usual p95 that is
slow; and the share of slow answers in a second that says that it is not over yet.
"""

Times = Sequence[tuple[float, float]]


async def kills(run: Run, amount: int, callers: int, least: tuple[int, int]) -> None:
    """SIGKILL of the replica that answered last, again and again."""

    async def kill() -> None:
        for index in range(amount):
            await asyncio.sleep(KILL_EVERY_S)
            say(f"killed {await run.strike()}, {index + 1} of {amount}")

    start = time.time()
    await run.under_load(callers, run.bench.pick(*least), kill())
    rate = len(run.ledger.seconds(End.RIGHT)) / (time.time() - start)
    run.more += [f"{amount} kills, {len(run.work.pids)} processes answered", f"{rate:.0f}/s"]
    run.note_latency()


async def redeploy(run: Run, amount: int) -> None:
    """New versions under load: good ones take over without a loss, bad ones never take traffic."""
    began, took = math.inf, list[float]()

    async def change() -> None:
        nonlocal began
        await asyncio.sleep(steady_s(run))
        began = time.time()
        for number, fault in enumerate(version_order(amount, bad_of(amount)), start=2):
            ordered, version = time.time(), f"version {number} ({fault or 'good'})"
            code = await run.up(work_function(2, version=number, fault=fault))
            took.append(time.time() - ordered)
            say(f"{version}: `up` ended with {code}")
            until = time.time() + (0 if fault else TAKEN_S)
            while number not in run.work.versions and time.time() < until:
                await asyncio.sleep(0.05)
            if bool(code) is not bool(fault):
                run.missed.append(f"`up` ended with {code} on {version}")
            if (number in run.work.versions) is bool(fault):
                run.missed.append(f"{version} answered or did not")

    await run.under_load(6, run.bench.pick(*MANY), change())
    steady = run.ledger.seconds(End.RIGHT, until=began)
    changing = run.ledger.seconds(End.RIGHT, since=began)
    usual, later = percentile(steady, 0.95) * 1e3, percentile(changing, 0.95) * 1e3
    run.more += [
        f"`up` took at most {max(took):.1f} s",
        f"p95 {usual:.0f} ms steady, {later:.0f} ms while changing ({later / usual:.2f} x)",
        f"longest {max(changing, default=0):.2f} s",
    ]
    run.missed += [] if later <= RATIO * usual else [f"p95 at most {RATIO} x steady"]


def bad_of(good: int) -> int:
    """Bad versions beside so many good ones."""
    return max(1, good * 3 // 10)


def version_order(good: int, bad: int) -> list[Fault]:
    """Good versions with bad ones spread among them.

    >>> version_order(4, 1)
    ['', '', 'raises on Ray', '', '']
    """
    faults: list[Fault] = [""] * good
    gap = good // (bad + 1)
    for index in reversed(range(bad)):
        faults.insert(gap * (index + 1), BAD[index % len(BAD)])
    return faults


async def controller(run: Run, amount: int) -> None:
    """Kills it; data flows on, and functions that sleep are woken in time or refused clearly."""
    woken = Ledger()

    async def wake(name: str) -> None:
        requests = WorkRequests(f"woken-{name}", lambda _: 1.0, name=name)
        async with client_of(woken, run.server.port, requests, run.server.door) as client:
            await client.call()

    async def kill() -> None:
        for index in range(amount):
            await asyncio.sleep(10.0 if index else steady_s(run))
            await run.kill(CONTROLLER)
            say(f"killed the controller, {index + 1} of {amount}")
            if index == 0:  # they are asleep only once
                with woken.overload():
                    await asyncio.gather(wake("hosted"), wake("own"))

    await run.under_load(8, run.bench.pick(*MANY) // 4, kill())
    slowest = max(woken.seconds(End.RIGHT), default=0)
    run.more.append(
        f"of {woken.sent} calls to functions asleep {woken.ends[End.RIGHT]} answered, slowest "
        f"{slowest:.1f} s, {woken.ends[End.REFUSED]} refused"
    )
    run.note_latency()
    run.ledger.add(woken)


async def overload(run: Run, amount: int) -> None:
    """Peak, calm, overload, calm: the rest is refused at once, what is answered stays what it was,
    and it is over when it is over.
    """
    ledger, steady = run.ledger, steady_s(run)

    def for_s(seconds: float) -> Callable[[], bool]:
        until = time.time() + seconds
        return lambda: time.time() < until

    async with run.client() as client:
        await client.closed(16, for_s(1.0))  # connections, and first calls of a process
        began = time.time()
        await client.closed(16, for_s(steady))
        peak = len(ledger.seconds(End.RIGHT, began)) / (time.time() - began)
        calm = time.time()
        await client.opened(CALM * peak, steady)
        say(f"peak {peak:.0f}/s; {TIMES} times that for {amount} s")
        with ledger.overload():
            began = time.time()
            await client.opened(TIMES * peak, amount)
            ended = time.time()
        await client.opened(CALM * peak, max(steady, 2 * RECOVERY_S))
    offered = sum(len(ledger.seconds(end, began, ended)) for end in End) / (ended - began)
    goodput = len(ledger.seconds(End.RIGHT, began, ended)) / (ended - began) / peak
    refusals = ledger.seconds(End.REFUSED)
    usual_s = percentile(ledger.seconds(End.RIGHT, calm, began), 0.95)
    right, refused = ledger.times(End.RIGHT), ledger.times(End.REFUSED)
    over_s = recovered_s(ended, right, refused, SLOW * usual_s)
    p50, p99 = percentile(refusals, 0.5), percentile(refusals, 0.99)
    run.more += [
        f"peak {peak:.0f}/s, offered {offered:.0f}/s", f"goodput {goodput:.2f} of the peak",
        f"refusals' p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms",
        f"recovered after {over_s:.1f} s",
    ]  # fmt: skip
    bounds = {
        f"goodput at least {GOODPUT}": goodput >= GOODPUT,
        f"refusals' p99 under {REFUSAL_S * 1e3:.0f} ms": p99 < REFUSAL_S,
        f"recovered within {RECOVERY_S:g} s": over_s <= RECOVERY_S,
    }
    run.missed += [bound for bound, holds in bounds.items() if not holds]


def recovered_s(ended: float, right: Times, refused: Times, slow_s: float) -> float:
    """From the end of an overload to the first second that is as usual: nothing refused, few
    answers slow. Infinite if there is none.

    Args:
        right, refused: when each was sent, and how long it took.
    """
    fast, slow = Counter[int](), Counter[int]()
    for at, took in right:
        (slow if took > slow_s else fast)[math.floor(at - ended)] += 1
    unusual = {math.floor(at - ended) for at, _ in refused}
    unusual |= {second for second in slow if slow[second] > FEW * fast[second]}
    return min((second for second in fast.keys() - unusual if second >= 0), default=math.inf)


async def scale(run: Run, amount: int) -> None:
    """Rates by turns; each begins while replicas of the one before still come or go."""
    each_s, order = max(15.0, amount / len(RATES) / 4), list[int]()

    async def look() -> None:
        until = time.monotonic() + amount
        while time.monotonic() < until:
            entry: Mapping[str, int] = await asyncio.to_thread(run.server.entry, "work")
            if order[-1:] != [entry["replicas"]]:
                order.append(entry["replicas"])
            await asyncio.sleep(0.2)

    chance = random.Random(4)
    async with run.client() as client, asyncio.TaskGroup() as group:
        group.create_task(look())
        for rate in RATES * round(amount / each_s / len(RATES)):
            await (client.opened(rate, each_s, chance) if rate else asyncio.sleep(each_s))
    run.more += [
        f"replicas {' → '.join(map(str, order))}", f"{len(run.work.pids)} processes answered",
    ]  # fmt: skip
    run.note_latency()
    run.missed += [] if {0, 1, MOST} <= set(order) else [f"0, 1 and {MOST} replicas"]


async def poison(run: Run, amount: int) -> None:
    """A poisoned row in every batch fails alone, and its neighbours are answered as if alone."""
    texts = [ids for _, ids in write_texts(MODEL.with_name("tokenizer.json"), [14] * 64)]

    async def ask(callers: int, make: Make, least: int) -> None:
        ledger = Ledger()
        async with client_of(ledger, run.server.port, make, run.server.door) as client:
            await client.closed(callers, lambda: ledger.sent < least)
        run.ledger.add(ledger)

    for size in SIZES:
        name, count = f"minilm-{size}", amount // len(SIZES)
        solo = [run.server.post(name, model_row(ids)) for ids in texts]
        requests = PoisonedBatches(size, texts, solo)
        await ask(2, requests.batch, count)
        await ask(4 * size, requests.single, count * size // 10)
    run.more.append("neighbours within 0.0001 of their solo answers")


def minilm(size: int) -> declare.Application:
    """The model alone, so that the rows of a call are a batch; one worker, so that it is whole."""
    pad = dict.fromkeys(model_row([]), 0)
    graph = [{"stage": "model", "onnx": str(MODEL), "pad": pad}]
    more = {"batching": {"max_batch_size": size, "max_padding": 1.0}, "resources": {"num_cpus": 1}}
    return declare.function(f"minilm-{size}", graph, example=model_row([101, 102]), **more)


def sleepers() -> list[declare.Application]:
    """Two functions asleep for good: in the host, and as a deployment at zero."""
    scaling = declare.sleepy(3600)
    tiers = {"hosted": "auto", "own": "own"}
    return [work_function(0, 1, name=n, tier=t, autoscaling=scaling) for n, t in tiers.items()]


def steady_s(run: Run) -> float:
    """Seconds before something is done, to know what is usual."""
    return run.bench.pick(20, 4)


def scenario(
    name: str, fault: str, functions: Callable[[], list[declare.Application]],
    act: Callable[[Run, int], Coroutine[Any, Any, None]], full: int, quick: int,
    start: Start = up, **work: Any,
) -> Section:  # fmt: skip
    """A scenario as a section of the table.

    Args:
        fault: in words; the amount's place is in braces.
        full, quick: the amount of a whole run, and of a quick one.
    """

    def section(bench: Bench) -> list[Run]:
        amount = bench.pick(full, quick)
        words = fault.format(amount, bad=bad_of(amount), minutes=amount / 60)
        here = replace(bench, start=start)
        return play(here, name, words, functions(), lambda run: act(run, amount), **work)

    return section


SCALING = {
    "min_replicas": 0, "initial_replicas": 1, "max_replicas": MOST, "downscale_delay_s": DELAY_S,
    "downscale_to_zero_delay_s": DELAY_S,
}  # fmt: skip
LIMITS = {"max_ongoing_requests": 16, "max_queued_requests": 32}
KILLED = f"SIGKILL of a serving replica every {KILL_EVERY_S:g} s"

SCENARIOS = {
    "kill2": scenario(
        "kill2", f"{KILLED}, 2 replicas, 2 kB bodies", lambda: [work_function(2)],
        partial(kills, callers=16, least=MANY), 20, 5,
    ),
    "kill1": scenario(
        "kill1", f"{KILLED}, 1 replica, 2 kB bodies", lambda: [work_function(1)],
        partial(kills, callers=8, least=FEW_CALLS), 20, 5,
    ),
    "redeploy": scenario(
        "redeploy", "{} redeploys of a new good version, {bad} of a bad one, under load",
        lambda: [work_function(2)], redeploy, 10, 2,
    ),
    "poison": scenario(
        "poison", "one poisoned row in every batch of 8 and of 32, {:,} batches",
        lambda: [minilm(size) for size in SIZES], poison, 5_000, 100,
        local,  # Ray has no part in what a row's company does
    ),
    "overload": scenario(
        "overload", "5 x overload for {} s", lambda: [work_function(1, limits=LIMITS)],
        overload, 60, 10, ms=lambda _: 20.0, body_bytes=lambda _: 200,
    ),
    "late": scenario(
        "late", "5 x overload for {} s of a function that answers 40 calls within its deadline",
        lambda: [work_function(1, 1, limits={"request_timeout_s": 2.0})],
        overload, 60, 10, local, ms=lambda _: 50.0, body_bytes=lambda _: 200,
    ),
    "controller": scenario(
        "controller", "controller SIGKILL under load", lambda: [work_function(2), *sleepers()],
        controller, 3, 1,
    ),
    "scale": scenario(
        "scale", "scale 1 → 4 → 1 → 0 → 1 under random traffic for {} s",
        lambda: [work_function(0, 1, tier="own", autoscaling=SCALING)],
        scale, 600, 60, ms=lambda _: 50.0,
    ),
    "updates": scenario(
        "updates", "{} random updates of callers, callees, parts, names and prefixes, with kills",
        story_functions, updates, 60, 4,
    ),
    "mixed": scenario(
        "mixed", "{minutes:g} minutes of mixed traffic and mixed faults", mixed_functions,
        mixed, 1800, 90, **mixed_work,
    ),
}  # fmt: skip


def problem(names: frozenset[str]) -> str:
    """Which models the chosen scenarios lack; empty when they lack none."""
    minilm = [MODEL, MODEL.with_name("tokenizer.json")] if names & {"poison", "mixed"} else []
    forecast = [Path("models/forecast/model.onnx")] if "mixed" in names else []
    return absent([*minilm, *forecast])


TABLE = Table(
    "python -m loadtests.faults",
    "| fault | requests | lost | more |\n|---|---|---|---|",
    SCENARIOS,
    problem,
    """Break things under load, and count what becomes of every request.

    Each scenario starts a Wakeful of its own, in a state folder of its own, and takes it down.
    Prints a table; facts of lost requests are in NAME.lost of the folder of --keep, a JSON object a
    line. Exits 0 when no request was lost and every scenario ran to its end.
    """,
    can_be_closed=True,
)
