"""SIGKILL of a serving replica again and again, with another one beside it or with none."""

from __future__ import annotations

import asyncio
import time

from loadtests.bench.wake.callers import undisturbed
from loadtests.bench.wake.server import Wakeful, up
from loadtests.faults import victims, work
from loadtests.faults.plan import ROOM, Setting
from loadtests.faults.row import Row
from loadtests.ledger.book import Book, p
from loadtests.ledger.callers import Client
from loadtests.ledger.outcome import End

CALLERS = 16
"""Twice the workers of two replicas: while one is gone, the other has a queue."""


def two(setting: Setting) -> Row:
    """Two replicas, so that somebody is there for the replay."""
    return _killed(setting, "kill2", replicas=2, callers=CALLERS, least=setting.plan.many)


def one(setting: Setting) -> Row:
    """One replica: what it had accepted waits for the next."""
    return _killed(setting, "kill1", replicas=1, callers=CALLERS // 2, least=setting.plan.few)


def _killed(setting: Setting, name: str, replicas: int, callers: int, least: int) -> Row:
    plan = setting.plan
    file = setting.file(name, [work.declared(replicas)])
    with up(file, setting.port, setting.log(name), ROOM) as server, undisturbed():
        requests, book = work.Work(name, work.spread_ms(10, 50)), Book()
        start = time.time()
        killed = asyncio.run(_run(setting, server, requests, book, callers, least))
        passed_s = time.time() - start
    right = book.between(End.RIGHT)
    more = (
        f"{len(killed)} kills, {len(requests.pids)} processes answered",
        f"{len(right) / passed_s:.0f}/s",
        f"p50 {p(right, 0.5) * 1e3:.0f} ms, p99 {p(right, 0.99):.2f} s, longest {max(right, default=0):.2f} s",
    )
    return Row(
        f"SIGKILL of a serving replica every {plan.kill_every_s:g} s, {replicas} replica{'s' if replicas > 1 else ''}, 2 kB bodies",
        book.verdict(),
        more,
    )


async def _run(setting: Setting, server: Wakeful, requests: work.Work, book: Book, callers: int, least: int) -> list[victims.Killed]:
    plan = setting.plan
    async with Client(book, "127.0.0.1", server.port, requests) as client:
        killer = asyncio.create_task(victims.kill_serving(server, requests.pids, plan.kill_every_s, plan.kills, setting.say))
        await client.closed(callers, lambda: not killer.done() or book.sent < least)
        return await killer
