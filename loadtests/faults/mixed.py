"""Mixed traffic and mixed faults for a long time: nothing is lost, and no process grows."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import psutil

from loadtests import declare
from loadtests.command import say
from loadtests.exchanges import connect
from loadtests.faults.requests import POISON_MS, shipped, spread_ms, work_function
from loadtests.faults.run import CONTROLLER, HOST, Run
from loadtests.ledger import RECOVERY_S, Ledger, LedgerClient
from loadtests.samples import samples
from loadtests.server import Server
from loadtests.stages import Fault

RATES = {"work": 30.0, "embed": 6.0, "forecast": 6.0}
"""Arrivals a second of each function, at random."""

HUNG_S = 5.0
"""By then a replica that hangs gets no more requests."""

CALM_S = 10.0
"""At the end nothing is broken any more, so that everything can be answered."""

JUDGED_S, SLOPE_MIB, PER = 600.0, 1.0, 10_000
"""Most by which a process may grow each 10,000 requests; shorter runs do not judge: caches fill."""

LONG_LIFE = 36
"""Looks at a process, 5 s each, from which its growth can be told: three minutes."""

Held = dict[int, tuple[str, list[tuple[int, int]]]]
"""By process: its role, and requests sent so far with the bytes of its resident memory."""

TITLES = {
    HOST: "host",
    "ServeReplica:catalogue": "catalogue",
    "ServeReplica:embed": "replica",
    CONTROLLER: "controller",
    "ProxyActor": "fallback proxy",
}
"""Processes whose memory is watched, by their titles; no fault kills the replica of `embed`."""


mixed_work: dict[str, Any] = {
    "ms": lambda number: POISON_MS if number % 25 == 1 else spread_ms(number),
    "body_bytes": lambda number: {7: 60_000, 11: 200_000}.get(number % 50, 2000),
    "more": lambda number: {"leaves_after_s": 0.005} if number % 20 == 0 else {},
}
"""Some rows fail in their stage, some bodies are large, and too large to be replayed, and one of 20
callers leaves.
"""


def mixed_functions(version: int = 1, fault: Fault = "") -> list[declare.Application]:
    """`work` with two replicas, and two shipped functions."""
    one = {"min_replicas": 1, "max_replicas": 1}
    limits = {"max_ongoing_requests": 16, "max_queued_requests": 64}
    return [
        work_function(2, version=version, fault=fault, limits=limits),
        declare.like("embed", tier="own", autoscaling=one),
        declare.like("forecast"),
    ]


async def mixed(run: Run, amount: int) -> None:
    """All functions are called, every fault comes once in each round."""
    held: Held = {}
    faults: Counter[str] = Counter()
    async with connect(run.server.port, run.server.door) as session:
        clients = {
            "work": LedgerClient(run.ledger, session, run.work),
            "embed": LedgerClient(Ledger(), session, shipped("embed", samples("embed"))),
            "forecast": LedgerClient(Ledger(), session, shipped("forecast", samples("forecast"))),
        }
        ledgers = [client.ledger for client in clients.values()]
        async with asyncio.TaskGroup() as group:
            for name, client in clients.items():
                chance = random.Random(f"30 {name}")
                group.create_task(client.opened(RATES[name], amount, chance))
            group.create_task(_watch(run.server, ledgers, held, amount))
            group.create_task(_break(run, clients["work"], faults, amount))
    growths = [(role, growth(found)) for role, found in held.values() if len(found) >= LONG_LIFE]
    grown = ", ".join(f"{role} {slope:+.2f} MiB" for role, slope in growths)
    run.more += [
        ", ".join(f"{count} x {name}" for name, count in sorted(faults.items())),
        f"grown each {PER:,} requests: {grown or 'no process lived long enough to tell'}",
    ]
    run.note_latency()
    for ledger in ledgers[1:]:
        run.ledger.add(ledger)
    if amount >= JUDGED_S:
        run.missed += [f"{role}: memory" for role, slope in growths if slope > SLOPE_MIB]


async def _watch(server: Server, ledgers: Sequence[Ledger], held: Held, seconds: float) -> None:
    """Adds requests so far and resident memory of each watched process, every 5 s."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sent = sum(ledger.sent for ledger in ledgers)
        for process in await asyncio.to_thread(server.processes):
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline())
                for role in (role for title, role in TITLES.items() if title in command):
                    _, found = held.setdefault(process.pid, (role, []))
                    found.append((sent, process.memory_info().rss))
        await asyncio.sleep(min(5.0, max(0.0, until - time.monotonic())))


def growth(found: Sequence[tuple[int, int]]) -> float:
    """MiB each 10,000 requests by least squares, without the first minute."""
    sent, rss = np.array(found[12:], float).T
    return float(np.polyfit(sent, rss, 1)[0]) * PER / 2**20


async def _break(run: Run, client: LedgerClient, faults: Counter[str], seconds: float) -> None:
    """Every fault once in each round, in another order each time."""
    version, chance, waiting = 1, random.Random(30), list[str]()

    async def kill() -> None:
        await run.strike()

    async def hang() -> None:
        pid = await run.strike(signal.SIGSTOP)
        await asyncio.sleep(4 * HUNG_S)  # as long as an operator takes to kill it
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()

    async def change(fault: Fault) -> None:
        nonlocal version
        version += 1
        await run.up(*mixed_functions(version, fault))

    async def burst() -> None:
        with run.ledger.overload():
            await client.opened(600.0, 5.0)
        await asyncio.sleep(RECOVERY_S)

    kinds: dict[str, Callable[[], Awaitable[None]]] = {
        "killed replica": kill,
        "hung replica": hang,
        "new version": lambda: change(""),
        "bad version": lambda: change("raises on Ray"),
        "overload": burst,
        "killed controller": lambda: run.kill(CONTROLLER),
        "killed host": lambda: run.kill(HOST),
    }
    start = time.monotonic()
    while True:
        await asyncio.sleep(run.bench.pick(12, 2) * chance.uniform(0.5, 1.5))
        passed = time.monotonic() - start
        if passed > seconds - CALM_S:
            return
        waiting = waiting or chance.sample(sorted(kinds), len(kinds))
        name = waiting.pop()
        if name in ("killed controller", "killed host") and passed > seconds / 2:
            continue  # what replaces them is to live long enough for its growth to be seen
        say(f"{seconds - passed:.0f} s left: {name}")
        await kinds[name]()
        faults[name] += 1
