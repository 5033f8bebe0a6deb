"""SIGKILL of the Serve controller under load: data still flows, and who is asleep is woken in time or says that he cannot."""

from __future__ import annotations

import asyncio

from loadtests.bench.serving import HOST
from loadtests.bench.wake import declare
from loadtests.bench.wake.callers import undisturbed
from loadtests.bench.wake.server import Wakeful, up
from loadtests.faults import victims, work
from loadtests.faults.plan import ROOM, Setting
from loadtests.faults.row import Row
from loadtests.ledger.book import Book, p
from loadtests.ledger.callers import Client
from loadtests.ledger.outcome import End

SLEEPERS = {"hosted": "auto", "own": "own"}
"""Functions that sleep, with their tiers: in the shared host, and as a deployment at zero."""

CALLERS = 8
GAP_S = 10.0
"""Between two kills: by then the next one is up."""


def controller(setting: Setting) -> Row:
    """Kills it, and calls functions that sleep while it is dead."""
    sleepers = [work.declared(0, 1, name=name, tier=tier, autoscaling=declare.sleepy(3600)) for name, tier in SLEEPERS.items()]
    file = setting.file("controller", [work.declared(2), *sleepers])
    with up(file, setting.port, setting.log("controller"), ROOM) as server, undisturbed():
        requests, book, woken = work.Work("controller", work.spread_ms(10, 50)), Book(), Book()
        kills = asyncio.run(_run(setting, server, requests, book, woken))
    right, asleep = book.between(End.RIGHT), woken.verdict()
    more = (
        f"{kills} kills",
        f"p99 {p(right, 0.99):.2f} s, longest {max(right, default=0):.2f} s",
        f"of {asleep.sent} calls to functions asleep {asleep.right} answered, slowest {max(woken.between(End.RIGHT), default=0):.1f} s, "
        f"{asleep.refused} refused",
    )
    return Row("controller SIGKILL under load", book.verdict() + asleep, more)


async def _run(setting: Setting, server: Wakeful, requests: work.Work, book: Book, woken: Book) -> int:
    async with Client(book, HOST, server.port, requests) as client:
        killer = asyncio.create_task(_kill(setting, server, woken))
        await client.closed(CALLERS, lambda: not killer.done() or book.sent < setting.plan.controller)
        return await killer


async def _kill(setting: Setting, server: Wakeful, woken: Book) -> int:
    kills = setting.plan.controllers
    for index in range(kills):
        await asyncio.sleep(setting.plan.steady_s if index == 0 else GAP_S)
        await victims.kill_named(server, victims.CONTROLLER)
        setting.say(f"killed the controller, {index + 1} of {kills}")
        if index == 0:  # they are asleep only once
            await _wake(server, woken)
    return kills


async def _wake(server: Wakeful, woken: Book) -> None:
    """One call of each; a refusal is in order if it says so clearly."""
    with woken.overload():
        async with asyncio.TaskGroup() as group:
            for name in SLEEPERS:
                requests = work.Work(f"woken-{name}", lambda _: 1.0, path=server.urls[name])
                group.create_task(_call(server, woken, requests))


async def _call(server: Wakeful, woken: Book, requests: work.Work) -> None:
    async with Client(woken, HOST, server.port, requests) as client:
        await client.one()
