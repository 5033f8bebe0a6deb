"""Mixed traffic and mixed faults for a long time: nothing is lost, and nothing grows."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtests.bench.serving import HOST
from loadtests.bench.wake import declare
from loadtests.bench.wake.callers import undisturbed
from loadtests.bench.wake.server import Wakeful, up
from loadtests.faults import shipped, victims, work
from loadtests.faults.gauges import Gauges, Growth
from loadtests.faults.plan import ROOM, Setting
from loadtests.faults.redeploy import apply
from loadtests.faults.row import Row
from loadtests.faults.stages import Fault as Wrong
from loadtests.ledger.book import RECOVERY_S, Book, Verdict, p
from loadtests.ledger.callers import Client, Make, steadily
from loadtests.ledger.outcome import End

RATES = {"work": 30.0, "embed": 6.0, "forecast": 6.0}
"""Arrivals a second of each function, at random."""

LEAVES_EACH, LEAVES_AFTER_S = 20, 0.005
POISON_EACH = 25
"""Of the requests to `work`: one in so many has a caller who leaves, one in so many fails in its stage."""

LARGE_EACH = 50
SIZES = {7: 60_000, 11: 200_000}
"""Of so many requests to `work`, two that are larger: one that must be replayed and one that may be refused."""

BURST_PER_S, BURST_S = 600.0, 5.0
"""Several times what `work` answers."""

HUNG_S = 5.0
"""By then a replica that hangs gets no more requests."""

CALM_S = 10.0
"""At the end nothing is broken any more, so that everything can be answered."""

WARM_S = 60.0
"""In which a process may still grow."""

SLOPE_MIB = 1.0
"""Most by which resident memory may grow each 10,000 requests."""

JUDGED_S = 600.0
"""Below that a run says what grew and does not judge it: caches still fill."""

MORE_FILES, MORE_THREADS = 8, 4
"""Still called flat: connections that are open at the moment come and go."""

EARLY = frozenset({"killed controller", "killed host"})
"""Faults of the first half only: what they replace is to live long enough afterwards for its growth to be seen."""

SEED = 30


@dataclass(slots=True)
class Mix:
    """What is under way: the books by function, the version of `work`, which faults there were, and when replicas began to hang."""

    server: Wakeful
    requests: work.Work
    books: Mapping[str, Book]
    clients: Mapping[str, Client]
    random: random.Random
    version: int = 1
    faults: Counter[str] = field(default_factory=Counter)
    hung: list[float] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)


Fault = Callable[[Setting, Mix], Awaitable[None]]


def mixed(setting: Setting) -> Row:
    """The shipped functions, one of them with a replica that nobody kills, so that its memory can be watched."""
    shipped_functions = declare.shipped(setting.models.parent / "serve_config.yaml")
    functions = [
        declared_work(1),
        declare.like(shipped_functions["embed"], "embed", tier="own", autoscaling={"min_replicas": 1, "max_replicas": 1}),
        declare.like(shipped_functions["forecast"], "forecast"),
    ]
    rest = functions[1:]
    with up(setting.file("mixed", functions), setting.port, setting.log("mixed"), ROOM) as server, undisturbed():
        requests = work.Work("mixed", _ms, _bytes, request=_leaves)
        books, gauges = {name: Book() for name in RATES}, Gauges()
        mix = asyncio.run(_run(setting, server, requests, books, gauges, rest))
    verdict = sum((book.verdict() for book in books.values()), Verdict(0, 0, 0, 0, 0))
    seconds = setting.plan.mixed_s
    growths = list(gauges.growths(min(WARM_S, seconds / 6), seconds / 3))
    right = books["work"].between(End.RIGHT)
    more = (
        ", ".join(f"{count} x {name}" for name, count in sorted(mix.faults.items())),
        f"{HUNG_S:g} s after a replica hung the slowest call took {after_hangs_s(books['work'], mix.hung):.1f} s",
        f"`work` p50 {p(right, 0.5) * 1e3:.0f} ms, p99 {p(right, 0.99):.2f} s",
        f"grown each 10,000 requests, and in all: {', '.join(map(str, growths)) or 'nobody lived long enough to tell'}",
    )
    return Row(
        f"{seconds / 60:g} minutes of mixed traffic and mixed faults", verdict, more, tuple(grown(growths)) if seconds >= JUDGED_S else ()
    )


def after_hangs_s(book: Book, hung: Sequence[float]) -> float:
    """Longest of the calls that were sent when a replica that hung should have been taken out."""
    spans = [book.between(End.RIGHT, at + HUNG_S, at + 4 * HUNG_S) for at in hung]
    return max((max(span, default=0.0) for span in spans), default=0.0)


def grown(growths: list[Growth]) -> list[str]:
    """Which processes grew."""
    found = []
    for one in growths:
        if one.slope_mib > SLOPE_MIB:
            found.append(f"{one.role}: memory")
        if one.files > MORE_FILES or one.threads > MORE_THREADS:
            found.append(f"{one.role}: files or threads")
    return found


def declared_work(version: int, fault: Wrong = "") -> declare.Application:
    """Two replicas."""
    return work.declared(2, version=version, fault=fault, limits={"max_ongoing_requests": 16, "max_queued_requests": 64})


def _ms(number: int) -> float:
    return work.POISON if number % POISON_EACH == 1 else work.spread_ms(10, 50)(number)


def _bytes(number: int) -> int:
    return SIZES.get(number % LARGE_EACH, 2000)


def _leaves(number: int) -> Mapping[str, Any]:
    return {"leaves_after_s": LEAVES_AFTER_S} if number % LEAVES_EACH == 0 else {}


async def _run(
    setting: Setting, server: Wakeful, requests: work.Work, books: Mapping[str, Book], gauges: Gauges, rest: list[declare.Application]
) -> Mix:
    seconds, chance = setting.plan.mixed_s, random.Random(SEED)
    makes: dict[str, Make] = {"work": requests, "embed": shipped.embed("embed"), "forecast": shipped.forecast("forecast")}
    async with contextlib.AsyncExitStack() as stack:
        clients = {name: await stack.enter_async_context(Client(books[name], HOST, server.port, make)) for name, make in makes.items()}
        mix = Mix(server, requests, books, clients, chance)
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for name, client in clients.items():
                group.create_task(client.opened(steadily(RATES[name]), seconds, random.Random(f"{SEED} {name}")))
            group.create_task(_look(mix, gauges, until))
            group.create_task(_break(setting, mix, rest, until))
    return mix


async def _look(mix: Mix, gauges: Gauges, until: float) -> None:
    while time.monotonic() < until:
        await asyncio.to_thread(gauges.look, mix.server, sum(book.sent for book in mix.books.values()))
        await asyncio.sleep(min(5.0, max(0.0, until - time.monotonic())))


async def _break(setting: Setting, mix: Mix, rest: list[declare.Application], until: float) -> None:
    """Every fault once in each round, in another order each time."""
    faults: dict[str, Fault] = {
        "killed replica": _kill,
        "hung replica": _hang,
        "new version": lambda setting, mix: _redeploy(setting, mix, rest, ""),
        "bad version": lambda setting, mix: _redeploy(setting, mix, rest, "raises on Ray"),
        "overload": _burst,
        "killed controller": _kill_controller,
        "killed host": _kill_host,
    }
    waiting: list[str] = []
    middle = (time.monotonic() + until) / 2
    while True:
        await asyncio.sleep(setting.plan.gap_s * mix.random.uniform(0.5, 1.5))
        if time.monotonic() > until - CALM_S:
            return
        if not waiting:
            waiting = mix.random.sample(sorted(faults), len(faults))
        name = waiting.pop()
        if name in EARLY and time.monotonic() > middle:
            continue
        setting.say(f"{until - time.monotonic():.0f} s left: {name}")
        await faults[name](setting, mix)
        mix.faults[name] += 1


async def _kill(_setting: Setting, mix: Mix) -> None:
    mix.dead.add(await victims.strike_serving(mix.server, mix.requests.pids, mix.dead, signal.SIGKILL))


async def _hang(_setting: Setting, mix: Mix) -> None:
    """Stops a replica; one that nobody has replaced after some time is killed, as an operator would."""
    pid = await victims.strike_serving(mix.server, mix.requests.pids, mix.dead, signal.SIGSTOP)
    mix.hung.append(time.time())
    mix.dead.add(pid)
    await asyncio.sleep(4 * HUNG_S)
    await asyncio.to_thread(victims.strike, mix.server, pid, signal.SIGKILL)


async def _redeploy(setting: Setting, mix: Mix, rest: list[declare.Application], fault: Wrong) -> None:
    mix.version += 1
    file = setting.file("mixed", [declared_work(mix.version, fault), *rest])
    await asyncio.to_thread(apply, mix.server, file, setting.log("mixed-up"))


async def _burst(_setting: Setting, mix: Mix) -> None:
    with mix.books["work"].overload():
        await mix.clients["work"].opened(steadily(BURST_PER_S), BURST_S)
    await asyncio.sleep(RECOVERY_S)


async def _kill_controller(_setting: Setting, mix: Mix) -> None:
    await victims.kill_named(mix.server, victims.CONTROLLER)


async def _kill_host(_setting: Setting, mix: Mix) -> None:
    await victims.kill_named(mix.server, victims.HOST)
