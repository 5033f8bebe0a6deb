"""`embed` moved to a deployment of its own under eight callers, and back to the host, again and again: what the callers notice.

Load moves it, as it would in life: the callers pace fast until it has earned its deployment, then slowly until it is handed back.
The calls of one rate before each decision, answered by the host, are what those during the promotion are held against.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from loadtests.bench.children import ChildFailed
from loadtests.bench.figures import Number, Target
from loadtests.bench.wake import declare
from loadtests.bench.wake.callers import Pacers, undisturbed
from loadtests.bench.wake.calls import Answer, Caller
from loadtests.bench.wake.outcome import lost, p99_ms, ratios, slowest
from loadtests.bench.wake.plan import Bench
from loadtests.bench.wake.server import up

CALLERS = 8
FAST_S, SLOW_S = 0.04, 1.0
"""Gaps of each caller: 200 calls a second, a third of a core of work; 8 a second, a hundredth."""

PROMOTE_WORK = "0.15"
"""Cores of work that earn a deployment: half of what the fast callers make. A quarter of it hands back."""

DOWN_S, ASLEEP_S = 4.0, 600.0
"""``downscale_delay_s`` as short as the window that counts, and no sleep in between."""

AFTER_S = 1.0
"""What still counts as during the move, since HAProxy and the host settle; and what does not count yet after the callers' rate changed."""

CALM_S = 3.0
"""After `up`, before the first round."""

LOOK_S = 0.25
MOVE_S = 90.0
"""Longest wait for a move, the seconds that decide on it included."""

PROMOTED, ANSWERS, BACK = "host → own: ", "own: its deployment answers", "own → host: "
FAILED = "stays in the host"

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Round:
    """One way up and down; times in seconds since the epoch.

    Attributes:
        fast: the callers began to pace fast.
        decided, answered: the promotion was decided on, and its deployment answers.
        slow: the callers began to pace slowly.
        back, settled: it was decided to hand back, and the deployment is gone.
    """

    fast: float
    decided: float
    answered: float
    slow: float
    back: float
    settled: float


def promotion(bench: Bench) -> Iterator[Number]:
    """As many rounds as planned, on one server."""
    file = bench.file("promotion", [bench.like("embed", autoscaling=declare.sleepy(ASLEEP_S, downscale_delay_s=DOWN_S))])
    with up(file, bench.port, bench.log("promotion"), {"WAKEFUL_PROMOTE_WORK": PROMOTE_WORK}) as server, undisturbed():
        body = bench.example("embed")
        server.post("embed", body)
        rounds, answers = asyncio.run(moved(bench, server.port, server.urls["embed"], json.dumps(body).encode()))
    yield from numbers(rounds, answers)


async def moved(bench: Bench, port: int, path: str, body: bytes) -> tuple[list[Round], list[Answer]]:
    """The rounds, and every call that was made."""
    rounds = []
    async with Caller(port) as watch, Pacers(port, path, body, CALLERS, SLOW_S) as pacers:
        await asyncio.sleep(CALM_S)
        for _ in bench.rounds("promotion and back", bench.plan.promotions):
            fast, pacers.gap_s = time.time(), FAST_S
            decided, answered = await decisions(watch, fast, PROMOTED, ANSWERS)
            await asyncio.sleep(AFTER_S)
            slow, pacers.gap_s = time.time(), SLOW_S
            (back,) = await decisions(watch, slow, BACK)
            settled = await until(watch, lambda entry: time.time() if entry["tier"] == "host" and not entry["doing"] else None)
            rounds.append(Round(fast, decided, answered, slow, back, settled))
    return rounds, pacers.answers


async def decisions(watch: Caller, since: float, *wanted: str) -> list[float]:
    """When these were decided, each after the one before.

    Raises:
        ChildFailed: they were not in time, or the promotion failed.
    """

    def found(entry: dict[str, Any]) -> list[float] | None:
        later = [decision for decision in entry["decisions"] if decision["at"] >= since]
        if failed := [decision["why"] for decision in later if decision["why"].startswith(FAILED)]:
            raise ChildFailed(f"a promotion failed: {failed[0]}")
        times = [next((decision["at"] for decision in later if decision["why"].startswith(words)), 0.0) for words in wanted]
        return times if all(times) else None

    return await until(watch, found)


async def until(watch: Caller, look: Callable[[dict[str, Any]], Found | None]) -> Found:
    """What ``look`` finds in the catalogue's entry.

    Raises:
        ChildFailed: nothing, in time.
    """
    last: Any = None
    deadline = time.monotonic() + MOVE_S
    while time.monotonic() < deadline:
        answer = await watch.get("/functions/embed")
        if answer.is_good:
            last = answer.json()
            if (found := look(last)) is not None:
                return found
        await asyncio.sleep(LOOK_S)
    raise ChildFailed(f"no move of `embed` within {MOVE_S:g} s; last: {(last or {}).get('last_decision', answer.body[:200])}")


def numbers(rounds: list[Round], answers: list[Answer]) -> Iterator[Number]:
    """What the callers noticed."""

    def between(begin: float, end: float) -> list[Answer]:
        return [answer for answer in answers if begin <= answer.at < end]

    host = [between(one.fast + AFTER_S, one.decided) for one in rounds]
    during = [between(one.decided, one.answered + AFTER_S) for one in rounds]
    handed = [between(one.back, one.settled) for one in rounds]
    what = "`embed` promoted under 8 callers and handed back"
    yield lost(what, answers, f"{len(rounds)} times")
    steady, moving = p99_ms(flat(host)), p99_ms(flat(during))
    note = "all rounds together"
    yield Number(f"{what}: p99 in the host before it", steady, "ms", note=f"{note}, {len(flat(host))} calls at 200 req/s")
    yield Number(f"{what}: p99 during the promotion", moving, "ms", note=f"{note}, {len(flat(during))} calls")
    yield Number(f"{what}: p99 during it, over that in the host", ratios(moving, steady), "", Target("at most", 1.5))
    yield slowest(what, flat([*during, *handed]), 300, "while it moves, either way")
    yield slowest(f"{what}, whenever", answers)
    taken = tuple(one.answered - one.decided for one in rounds)
    yield Number(f"{what}: own replica serving, from the decision", taken, "s", Target("at most", 3))
    yield Number(f"{what}: its deployment gone, from the decision to hand back", tuple(one.settled - one.back for one in rounds), "s")


def flat(many: list[list[Answer]]) -> list[Answer]:
    """One list of all."""
    return [answer for one in many for answer in one]
