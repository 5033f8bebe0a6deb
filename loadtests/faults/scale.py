"""From one replica to four, back, to none and up again, under arrivals at random: nobody is turned away on the way."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadtests.bench.serving import HOST
from loadtests.bench.wake.callers import undisturbed
from loadtests.bench.wake.server import Wakeful, up
from loadtests.faults import work
from loadtests.faults.plan import ROOM, Setting
from loadtests.faults.row import Row
from loadtests.ledger.book import Book, p
from loadtests.ledger.callers import Client
from loadtests.ledger.outcome import End

ROW_MS = 50.0
FEW, MANY = 4.0, 55.0
"""Arrivals a second that one replica of one worker answers, and that take four."""

RATES = (FEW, MANY, FEW, 0.0)
"""One after the other, and again from the first: 1, 4, 1, 0, and 1 again."""

ROUNDS = 4
"""Times that all of them come, at full length; fewer when there is not the time for a replica to come and go."""

SHORTEST_S = 15.0
"""Of a rate: a replica goes ``DELAY_S`` after it was needed last."""

DELAY_S = 5.0
MOST = 4
SEED = 4
LOOK_S = 0.2


@dataclass(slots=True)
class Seen:
    """How many replicas there were, each number with how often it was seen, in order without repetition."""

    order: list[int] = field(default_factory=list)

    def see(self, replicas: int) -> None:
        """A look."""
        if not self.order or self.order[-1] != replicas:
            self.order.append(replicas)


def scale(setting: Setting) -> Row:
    """Rates by turns; each begins while replicas of the one before still come or go."""
    autoscaling = {
        "min_replicas": 0,
        "initial_replicas": 1,
        "max_replicas": MOST,
        "downscale_delay_s": DELAY_S,
        "downscale_to_zero_delay_s": DELAY_S,
    }
    file = setting.file("scale", [work.declared(0, 1, tier="own", autoscaling=autoscaling)])
    with up(file, setting.port, setting.log("scale"), ROOM) as server, undisturbed():
        requests, book, seen = work.Work("scale", lambda _: ROW_MS), Book(), Seen()
        asyncio.run(_run(setting, server, requests, book, seen))
    right = book.between(End.RIGHT)
    more = (
        f"replicas {' → '.join(map(str, seen.order))}",
        f"{len(requests.pids)} processes answered",
        f"p50 {p(right, 0.5) * 1e3:.0f} ms, p99 {p(right, 0.99):.2f} s, longest {max(right, default=0):.2f} s",
    )
    missed = () if {0, 1, MOST} <= set(seen.order) else (f"0, 1 and {MOST} replicas",)
    return Row(f"scale 1 → 4 → 1 → 0 → 1 under random traffic for {setting.plan.scale_s:g} s", book.verdict(), more, missed)


async def _run(setting: Setting, server: Wakeful, requests: work.Work, book: Book, seen: Seen) -> None:
    seconds = setting.plan.scale_s
    each_s = max(SHORTEST_S, seconds / len(RATES) / ROUNDS)
    async with Client(book, HOST, server.port, requests) as client:
        looks = asyncio.create_task(_look(server, seen, time.monotonic() + seconds))
        await client.opened(lambda at: rate(at, each_s), seconds, random.Random(SEED))
        await looks


def rate(at_s: float, each_s: float, rates: Sequence[float] = RATES) -> float:
    """Arrivals a second at some time.

    >>> [rate(at, 10.0, (1.0, 2.0)) for at in (0.0, 10.0, 25.0)]
    [1.0, 2.0, 1.0]
    """
    return rates[int(at_s / each_s) % len(rates)]


async def _look(server: Wakeful, seen: Seen, until: float) -> None:
    while time.monotonic() < until:
        entry: Mapping[str, int] = await asyncio.to_thread(server.entry, work.NAME)
        seen.see(entry["replicas"])
        await asyncio.sleep(LOOK_S)
