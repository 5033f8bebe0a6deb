"""Five times what can be answered: the rest is refused at once, what is answered stays what it was, and it is over when it is over."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtests.bench.serving import HOST
from loadtests.bench.wake.callers import undisturbed
from loadtests.bench.wake.server import Wakeful, up
from loadtests.faults import work
from loadtests.faults.plan import ROOM, Setting
from loadtests.faults.row import Row
from loadtests.ledger.book import RECOVERY_S, Book, p
from loadtests.ledger.callers import Client, steadily
from loadtests.ledger.outcome import End

TIMES = 5
"""Of the peak."""

ROW_MS = 20.0
WORKERS = 4
LIMITS = {"max_ongoing_requests": 16, "max_queued_requests": 32}
CALLERS = 16
"""Enough to keep the workers busy, and never refused."""

CALM = 0.5
"""Of the peak, before and after."""

GOODPUT, REFUSAL_S = 0.9, 0.05
SLOW, FEW = 2.0, 0.1
"""Times the usual p95: an answer that took longer is slow; more than this share of them in a second says that it is not over yet."""

Times = Sequence[tuple[float, float]]


@dataclass(slots=True)
class Spell:
    """What was measured: the peak, a second; when the overload began, ended and was to be over."""

    peak: float = 0.0
    calm: float = 0.0
    began: float = 0.0
    ended: float = 0.0


def overload(setting: Setting) -> Row:
    """Peak, calm, overload, calm."""
    file = setting.file("overload", [work.declared(1, WORKERS, limits=LIMITS)])
    with up(file, setting.port, setting.log("overload"), ROOM) as server, undisturbed():
        requests, book, spell = work.Work("overload", lambda _: ROW_MS, body_bytes=lambda _: 200), Book(), Spell()
        asyncio.run(_run(setting, server, requests, book, spell))
    seconds = spell.ended - spell.began
    goodput = len(book.between(End.RIGHT, spell.began, spell.ended)) / seconds / spell.peak
    refusals = book.between(End.REFUSED)
    refused_s = p(refusals, 0.99)
    usual_s = p(book.between(End.RIGHT, spell.calm, spell.began), 0.95)
    over_s = recovered_s(spell.ended, book.times(End.RIGHT), book.times(End.REFUSED), SLOW * usual_s)
    more = (
        f"peak {spell.peak:.0f}/s, offered {book.sent_between(spell.began, spell.ended) / seconds:.0f}/s",
        f"goodput {goodput:.2f} of the peak",
        f"refusals' p50 {p(refusals, 0.5) * 1e3:.1f} ms, p99 {refused_s * 1e3:.1f} ms",
        f"recovered after {over_s:.1f} s",
    )
    bounds = {
        f"goodput at least {GOODPUT}": goodput >= GOODPUT,
        f"refusals' p99 under {REFUSAL_S * 1e3:.0f} ms": refused_s < REFUSAL_S,
        f"recovered within {RECOVERY_S:g} s": over_s <= RECOVERY_S,
    }
    missed = tuple(bound for bound, holds in bounds.items() if not holds)
    return Row(f"{TIMES} x overload for {setting.plan.overload_s:g} s", book.verdict(), more, missed)


def recovered_s(ended: float, right: Times, refused: Times, slow_s: float) -> float:
    """From the end of the overload to the first second that is as usual: nothing refused, few answers slow. Infinite if there is none.

    Args:
        right, refused: when each was sent, and how long it took.
    """
    fast, bad = Counter[int](), Counter[int]()
    for at, took in right:
        (bad if took > slow_s else fast)[math.floor(at - ended)] += 1
    turned_away = {math.floor(at - ended) for at, _ in refused}
    usual = (second for second in sorted(fast) if second not in turned_away and bad[second] <= FEW * fast[second])
    return next((float(second) for second in usual if second >= 0), math.inf)


async def _run(setting: Setting, server: Wakeful, requests: work.Work, book: Book, spell: Spell) -> None:
    plan = setting.plan
    async with Client(book, HOST, server.port, requests) as client:
        await client.closed(CALLERS, _for(1.0))  # the connections, and what the first calls of a process cost
        began = time.time()
        await client.closed(CALLERS, _for(plan.steady_s))
        spell.peak = len(book.between(End.RIGHT, began)) / (time.time() - began)
        spell.calm = time.time()
        await client.opened(steadily(CALM * spell.peak), plan.steady_s)
        setting.say(f"peak {spell.peak:.0f}/s; {TIMES} times that for {plan.overload_s:g} s")
        with book.overload():
            spell.began = time.time()
            await client.opened(steadily(TIMES * spell.peak), plan.overload_s)
            spell.ended = time.time()
        await client.opened(steadily(CALM * spell.peak), max(plan.steady_s, 2 * RECOVERY_S))


def _for(seconds: float) -> Callable[[], bool]:
    until = time.time() + seconds
    return lambda: time.time() < until
