"""New versions under load: the good ones take over without a loss, the bad ones never take traffic."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.bench.children import Child, ChildFailed
from loadtests.bench.serving import HOST, WAKEFUL
from loadtests.bench.wake.callers import undisturbed
from loadtests.bench.wake.server import Wakeful, up
from loadtests.faults import work
from loadtests.faults.plan import ROOM, Setting
from loadtests.faults.row import Row
from loadtests.faults.stages import Fault
from loadtests.ledger.book import Book, p
from loadtests.ledger.callers import Client
from loadtests.ledger.outcome import End

BAD: tuple[Fault, ...] = ("raises on Ray", "raises", "dies on Ray")
"""What is wrong with the bad versions, in turn."""

UP_S = 120.0
"""Longest `wakeful up` of a version, good or bad."""

TAKEN_S = 15.0
"""Longest from the end of `up` to the first answer of the new version."""

RATIO = 1.5
"""Most by which the p95 may grow while versions change."""

CALLERS = 6
"""Below what two replicas answer at once, so that nobody waits for others."""


@dataclass(frozen=True, slots=True)
class Version:
    """One that was deployed.

    Attributes:
        code: how `up` ended.
        took_s: how long that took.
    """

    number: int
    fault: Fault
    code: int
    took_s: float


@dataclass(slots=True)
class Story:
    """What happened: when versions began to change, and which did."""

    began: float = 0.0
    versions: list[Version] = field(default_factory=list)


def redeploy(setting: Setting) -> Row:
    """Good versions, with the bad ones among them."""
    file = setting.file("redeploy", [work.declared(2)])
    with up(file, setting.port, setting.log("redeploy"), ROOM) as server, undisturbed():
        requests, book, story = work.Work("redeploy", work.spread_ms(10, 50)), Book(), Story()
        asyncio.run(_run(setting, server, requests, book, story))
    steady, changing = book.between(End.RIGHT, until=story.began), book.between(End.RIGHT, since=story.began)
    ratio = p(changing, 0.95) / p(steady, 0.95)
    good, bad = ([one for one in story.versions if bool(one.fault) is wrong] for wrong in (False, True))
    more = (
        f"{len(good)} good versions, `up` took at most {max((one.took_s for one in good), default=0):.1f} s; {len(bad)} bad ones",
        f"p95 {p(steady, 0.95) * 1e3:.0f} ms steady, {p(changing, 0.95) * 1e3:.0f} ms while changing ({ratio:.2f} x)",
        f"longest {max(changing, default=0):.2f} s",
    )
    missed = [*wrong_versions(story.versions, frozenset(requests.versions))]
    if not ratio <= RATIO:
        missed.append(f"p95 at most {RATIO} x steady")
    return Row(f"{len(good)} redeploys of a new good version, {len(bad)} of a bad one, under load", book.verdict(), more, tuple(missed))


def wrong_versions(versions: list[Version], answered: frozenset[int]) -> list[str]:
    """What is not as it was to be: `up` says whether a version is good, and only good ones answer."""
    found = []
    for one in versions:
        if (one.code != 0) is not bool(one.fault):
            found.append(f"`up` ended with {one.code} on version {one.number} ({one.fault or 'good'})")
        if (one.number in answered) is bool(one.fault):
            found.append(f"version {one.number} ({one.fault or 'good'}) {'answered' if one.fault else 'never answered'}")
    return found


async def _run(setting: Setting, server: Wakeful, requests: work.Work, book: Book, story: Story) -> None:
    plan = setting.plan
    async with Client(book, HOST, server.port, requests) as client:
        changes = asyncio.create_task(_change(setting, server, requests, story))
        await client.closed(CALLERS, lambda: not changes.done() or book.sent < plan.many)
        await changes


async def _change(setting: Setting, server: Wakeful, requests: work.Work, story: Story) -> None:
    plan = setting.plan
    await asyncio.sleep(plan.steady_s)
    story.began = time.time()
    for number, fault in enumerate(order(plan.redeploys, plan.bad), start=2):
        file = setting.file("redeploy", [work.declared(2, version=number, fault=fault)])
        began = time.perf_counter()
        code = await asyncio.to_thread(apply, server, file, setting.log("redeploy-up"))
        version = Version(number, fault, code, time.perf_counter() - began)
        story.versions.append(version)
        setting.say(f"version {number} ({fault or 'good'}): `up` took {version.took_s:.1f} s and ended with {code}")
        if not fault:
            await _taken(requests, number)


async def _taken(requests: work.Work, number: int) -> None:
    until = time.time() + TAKEN_S
    while number not in requests.versions and time.time() < until:
        await asyncio.sleep(0.05)


def order(good: int, bad: int) -> list[Fault]:
    """Good versions, the bad ones spread among them; a good one is last, if there are more good than bad ones.

    >>> order(4, 1)
    ['', '', 'raises on Ray', '', '']
    """
    faults: list[Fault] = [""] * good
    gap = good // (bad + 1)
    for index in reversed(range(bad)):
        faults.insert(gap * (index + 1), BAD[index % len(BAD)])
    return faults


def apply(server: Wakeful, file: Path, log: Path) -> int:
    """`wakeful up --detach` on a changed file; how it ended."""
    with Child([*WAKEFUL, "up", "--detach", str(file)], log, environ=server.environ) as command:
        try:
            return command.wait(UP_S)
        except ChildFailed:
            return -1
