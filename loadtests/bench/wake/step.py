"""From 1 connection to 48 and back, on a function with a deployment of its own: when more are decided, serve, and go again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from loadtests.bench.children import ChildFailed
from loadtests.bench.figures import Number, Target
from loadtests.bench.wake import declare
from loadtests.bench.wake.callers import Pacers, undisturbed
from loadtests.bench.wake.calls import Answer
from loadtests.bench.wake.outcome import lost, slowest
from loadtests.bench.wake.plan import Bench
from loadtests.bench.wake.server import Wakeful, up

FEW, MANY = 1, 48
MOST = 6
"""``max_replicas``."""

CALM_S = 6.0
"""With one connection before the step, so that the policy has seen a steady load."""

LOAD_S = 12.0
"""With all connections, beyond ``downscale_delay_s``: time enough to change its mind, if it did."""

LOOK_S = 0.2
AGAIN_S = 10.0
"""Beyond ``downscale_delay_s``, until it is back at one replica."""

LATE_S = 30.0
"""How much later it may be before the section is given up."""

ROOM = {"WAKEFUL_LOGICAL_CPUS_PER_CORE": "8"}
"""Six replicas find room on one core; they sleep."""


@dataclass(frozen=True, slots=True)
class Step:
    """Times in seconds since the epoch: 48 connections began, one was left, and one replica was decided and left."""

    up: float
    down: float
    alone: float


def step(bench: Bench) -> Iterator[Number]:
    """One step up, and one down."""
    delay_s = bench.plan.step_delay_s
    graph = [{"stage": "work", "python": "loadtests.bench.wake.stages:work"}]
    autoscaling = {"min_replicas": 1, "max_replicas": MOST, "downscale_delay_s": delay_s}
    function = declare.function("work", graph, tier="own", autoscaling=autoscaling, batching={"max_batch_size": 1})
    with up(bench.file("step", [function]), bench.port, bench.log("step"), ROOM) as server, undisturbed():
        bench.say(f"{FEW} to {MANY} connections, {delay_s + LOAD_S:.0f} s, and back")
        found, answers = asyncio.run(stepped(server, delay_s))
        decided = server.scaled("work", found.up)
    yield from numbers(found, answers, decided, delay_s)


async def stepped(server: Wakeful, delay_s: float) -> tuple[Step, list[Answer]]:
    """Steps; every call that was made.

    Raises:
        ChildFailed: it did not come back to one replica.
    """
    async with Pacers(server.port, server.urls["work"], json.dumps({"x": 1.5}).encode(), FEW) as pacers:
        await asyncio.sleep(CALM_S)
        up_at = time.time()
        pacers.set_count(MANY)
        await asyncio.sleep(delay_s + LOAD_S)
        down_at = time.time()
        pacers.set_count(FEW)
        while time.time() < down_at + delay_s + AGAIN_S + LATE_S:
            await asyncio.sleep(LOOK_S)
            told = await asyncio.to_thread(server.entry, "work")
            if told["replicas"] == 1 and [one for one in server.scaled("work", down_at) if one["replicas"] == 1]:
                return Step(up_at, down_at, time.time()), pacers.answers
    raise ChildFailed(f"not back at one replica after {time.time() - down_at:.0f} s: {server.scaled('work', up_at)}")


def numbers(found: Step, answers: list[Answer], decided: list[dict[str, Any]], delay_s: float) -> Iterator[Number]:
    """What was decided, in time or not."""
    what = f"{FEW} to {MANY} connections on 1 s of work per 10 rows"
    more = [one for one in decided if one["replicas"] > one["before"]]
    ups = [one for one in more if one["at"] < found.down]
    first = (ups[0]["at"] - found.up,) if ups else ()
    why = ups[0]["why"] if ups else "nothing was decided"
    yield lost(what, answers)
    yield Number(f"{what}: target decided", first, "s", Target("at most", 1), why)
    yield Number(
        f"{what}: a second replica answers", serving(found, answers), "s", Target("at most", 2.5), f"{pids(answers)} answered in all"
    )
    yield Number(f"{what}: replicas wanted at most", (max((one["replicas"] for one in ups), default=1),), "")
    target = Target("at most", delay_s + AGAIN_S)
    yield Number(f"{what}: back at 1", (found.alone - found.down,), "s", target, f"downscale_delay_s {delay_s:g}")
    turns = [one["why"] for one in decided if (one["replicas"] > one["before"]) is (one["at"] >= found.down)]
    yield Number(f"{what}: reversals", (len(turns),), "", Target("at most", 0), turns[0] if turns else f"{len(decided)} decisions")
    yield slowest(f"{what}, whenever", answers)


def serving(found: Step, answers: list[Answer]) -> tuple[float, ...]:
    """Seconds from the step to the first answer of another process than before it."""
    before = {answer.json()["pid"] for answer in answers if answer.is_good and answer.at < found.up}
    others = [a.at + a.seconds - found.up for a in answers if a.is_good and a.at >= found.up and a.json()["pid"] not in before]
    return (min(others),) if others else ()


def pids(answers: list[Answer]) -> int:
    """Processes that answered."""
    return len({answer.json()["pid"] for answer in answers if answer.is_good})
