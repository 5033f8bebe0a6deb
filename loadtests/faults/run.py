"""One run of a scenario: the server that it breaks, the load, the account, and its line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from loadtests import declare
from loadtests.bench.numbers import percentile
from loadtests.command import Bench, cell
from loadtests.exchanges import undisturbed
from loadtests.faults.requests import WorkRequests
from loadtests.ledger import End, Ledger, LedgerClient, client_of
from loadtests.server import ChildFailed, Server

SERVING_S = 30.0
"""Longest wait for a replica that answers: one that is replaced needs a few seconds."""

REASONS = 20
"""Different reasons of refusals and losses that a line names, the most frequent first."""

CONTROLLER, HOST = "ServeController", "ServeReplica:host"
"""Titles of processes that are killed by what they are, and not by whether they answered."""


@dataclass(slots=True)
class Run:
    """A scenario at work on one event loop, and a line of the table of faults.

    Attributes:
        fault: in words.
        work: makes the requests of the function `work`, and knows which processes answered.
        ledger: the account of `work`, to which others are added in the end.
        dead: processes that were killed or stopped.
        more: what else was measured, each in a few words.
        missed: bounds that do not hold.
    """

    bench: Bench
    server: Server
    fault: str
    work: WorkRequests
    ledger: Ledger = field(default_factory=Ledger)
    dead: set[int] = field(default_factory=set)
    more: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """``void`` when something was lost."""
        return "void" if not self.ledger.is_good else "missed" if self.missed else "met"

    def __str__(self) -> str:
        reasons = self.ledger.reasons.most_common(REASONS)
        parts = [f"**missed**: {bound}" for bound in self.missed]
        parts += [f"{count:,} x {reason}" for reason, count in reasons]
        lost = self.ledger.ends[End.LOST]
        count, text = f"**{lost:,}**" if lost else "0", cell("; ".join([*parts, *self.more]), 1200)
        return f"| {cell(self.fault)} | {self.ledger.sent:,} | {count} | {text} |"

    @property
    def log(self) -> Path:
        """Where the output of processes goes."""
        return self.bench.log(self.work.tag)

    def client(self) -> AbstractAsyncContextManager[LedgerClient]:
        """Sends requests of `work`."""
        return client_of(self.ledger, self.server.port, self.work, self.server.door)

    async def up(self, *functions: declare.Application) -> int:
        """`wakeful up` of other functions; how it ended."""
        file = declare.write(
            self.bench.folder / f"{self.work.tag}.yaml", functions, self.server.door.http
        )
        arguments = ("up", "--detach", str(file))
        return await asyncio.to_thread(self.server.wakeful, *arguments, log=self.log)

    def note_latency(self) -> None:
        """Adds how long right answers took."""
        right = self.ledger.seconds(End.RIGHT)
        p50, p99, longest = percentile(right, 0.5), percentile(right, 0.99), max(right, default=0)
        self.more.append(f"p50 {p50 * 1e3:.0f} ms, p99 {p99:.2f} s, longest {longest:.2f} s")

    async def under_load(self, callers: int, least: int, breaking: Awaitable[None]) -> None:
        """Callers ask until everything is broken that is to be, and ``least`` were sent."""
        async with self.client() as client:
            task = asyncio.ensure_future(breaking)
            await client.closed(callers, lambda: not task.done() or self.ledger.sent < least)
            await task

    async def strike(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Sends a signal to the process of the server that answered last; its id.

        Raises:
            ChildFailed: none answers within ``SERVING_S``.
        """
        since, pids = time.time(), self.work.pids
        while time.time() < since + SERVING_S:
            await asyncio.sleep(0.02)
            answered = {pid for pid, at in pids.items() if at >= since} - self.dead
            if answered:
                ours = {process.pid for process in await asyncio.to_thread(self.server.processes)}
                for pid in sorted(answered & ours, key=pids.__getitem__)[-1:]:
                    self.dead.add(pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
                        return pid
        raise ChildFailed(f"no process answered for {SERVING_S:g} s, so there is none to kill.")

    async def kill(self, title: str) -> None:
        """Kills the processes of a title.

        Raises:
            ChildFailed: there is none.
        """
        found = await asyncio.to_thread(self.server.titled, title)
        if not found:
            raise ChildFailed(f"no process of the title {title}, so there is nothing to kill.")
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def play(
    bench: Bench, name: str, fault: str, functions: Iterable[declare.Application],
    scenario: Callable[[Run], Coroutine[Any, Any, None]], **work: Any,
) -> list[Run]:  # fmt: skip
    """Starts a Wakeful, breaks it, takes it down.

    Args:
        work: how the requests of `work` are made.
    """
    with bench.serve(name, *functions, **declare.ROOM) as server, undisturbed():
        run = Run(bench, server, fault, WorkRequests(name, **work))
        asyncio.run(scenario(run))
    facts = "".join(f"{json.dumps(example)}\n" for example in run.ledger.examples)
    (bench.folder / f"{name}.lost").write_text(facts)
    return [run]
