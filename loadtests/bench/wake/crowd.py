"""A sleeping function that many call: a hundred at the same moment, two hundred a second, ten functions just when they fall asleep."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

from loadtests.bench.figures import Number, Target
from loadtests.bench.wake import declare
from loadtests.bench.wake.asleep import DELAY_S, QUIET_S
from loadtests.bench.wake.callers import arriving, together, undisturbed
from loadtests.bench.wake.calls import Answer, Caller
from loadtests.bench.wake.outcome import lost, slowest, taken_ms
from loadtests.bench.wake.plan import Bench
from loadtests.bench.wake.server import LATE_S, Wakeful, up

CROWD, PER_S, STREAM_S = 100, 200.0, 5.0
TEN = 10
SEED = 0


def at_once(bench: Bench) -> Iterator[Number]:
    """A hundred first calls of `embed` at the same moment: one load for all of them."""
    crowds: list[list[Answer]] = []
    with embedding(bench, "crowd") as server:
        for _ in bench.rounds("100 first calls at once", bench.plan.crowds):
            asleep(server)
            with undisturbed():
                crowds.append(asyncio.run(together(server.port, server.urls["embed"], body(bench), CROWD)))
    what = "100 concurrent first calls to `embed` asleep"
    answers = [answer for crowd in crowds for answer in crowd]
    yield lost(what, answers)
    loads = max(sum(answer.was_cold for answer in crowd) for crowd in crowds)
    yield Number(f"{what}: loads", (loads,), "", Target("at most", 1), "most in a crowd; each load marks its first answer")
    yield slowest(what, answers, 400, f"of {len(crowds)} crowds, connections open before")
    yield Number(f"{what}: p50", taken_ms(answers), "ms")


def stream(bench: Bench) -> Iterator[Number]:
    """Calls that arrive at a sleeping `embed` at 200 a second, whatever it does."""
    streams: list[list[Answer]] = []
    with embedding(bench, "stream") as server:
        for _ in bench.rounds("200 calls a second", bench.plan.streams):
            asleep(server)
            with undisturbed():
                streams.append(asyncio.run(arriving(server.port, server.urls["embed"], body(bench), PER_S, STREAM_S)))
    what = f"{PER_S:.0f} req/s for {STREAM_S:.0f} s at `embed` asleep"
    answers = [answer for one in streams for answer in one]
    yield lost(what, answers)
    yield slowest(what, answers, 600, f"of {len(streams)} times, from when each call was due")
    void = "" if all(any(answer.was_cold for answer in one) for one in streams) else "it was awake"
    yield Number(f"{what}: p50", taken_ms(answers), "ms", void=void)


def gaps(bench: Bench) -> Iterator[Number]:
    """Single calls of ten functions at random gaps around the delay after which they sleep: many come while one is being unloaded."""
    names = [f"forecast-{index}" for index in range(TEN)]
    file = bench.file("gaps", [bench.like("forecast", name, autoscaling=declare.sleepy(DELAY_S)) for name in names])
    call = json.dumps(bench.example("forecast")).encode()

    async def one(port: int, path: str, dice: random.Random) -> list[Answer]:
        answers = []
        for _ in range(bench.plan.singles):
            await asyncio.sleep(DELAY_S * dice.uniform(0.7, 1.3))
            async with Caller(port) as caller:
                answers.append(await caller.post(path, call))
        return answers

    async def all_of_them(server: Wakeful) -> list[Answer]:
        found = await asyncio.gather(*(one(server.port, server.urls[name], random.Random(f"{SEED} {name}")) for name in names))
        return [answer for answers in found for answer in answers]

    with up(file, bench.port, bench.log("gaps"), {"WAKEFUL_PROMOTE_WORK": declare.KEPT}) as server:
        bench.say(f"{TEN} functions, {bench.plan.singles} single calls each")
        answers = asyncio.run(all_of_them(server))
    what = f"{TEN * bench.plan.singles:,} single requests with gaps of 0.7 to 1.3 s around a delay of {DELAY_S:.0f} s, ten functions"
    cold, warm = ([answer for answer in answers if answer.was_cold is was_cold] for was_cold in (True, False))
    void = "" if cold and warm else f"{len(cold)} of {len(answers)} calls woke a function: not around the delay"
    yield lost(what, answers, f"{len(cold)} of them woke a function")
    yield Number(f"{what}: p50 of those that woke it", taken_ms(cold), "ms", void=void)
    yield slowest(what, answers)


def embedding(bench: Bench, name: str) -> AbstractContextManager[Wakeful]:
    """A server with `embed`, which sleeps soon."""
    file = bench.file(name, [bench.like("embed", autoscaling=declare.sleepy(DELAY_S))])
    return up(file, bench.port, bench.log(name), {"WAKEFUL_PROMOTE_WORK": declare.KEPT})


def asleep(server: Wakeful) -> None:
    """Waits until `embed` is, and a moment more."""
    server.wait("embed", "asleep", DELAY_S + LATE_S)
    time.sleep(QUIET_S)


def body(bench: Bench) -> bytes:
    """A call of `embed`."""
    return json.dumps(bench.example("embed")).encode()
