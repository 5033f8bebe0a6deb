"""The ledger: every request comes to exactly one of four ends, and the account shows which.

Answered right, refused with a reason, cancelled by its client; anything else is lost. The client
never sends a request twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

import aiohttp

from deployments.loadtest.calls.answers import WrongAnswer
from loadtests.exchanges import LATE, Exchange, connect, post
from loadtests.samples import Check
from loadtests.server import OPEN, Door

REPLAYABLE_BYTES = 64 * 1024
"""Largest body that may not be refused without overload: HAProxy keeps it for another replica."""

PATIENCE_S = 32.0
"""How long the client waits: the server answers somehow by the deadline of a function, 30 s."""

RECOVERY_S = 5.0
"""How long after an overload requests may still be refused for it."""

KEPT = 200
"""Lost requests whose details are kept; all are counted."""


class End(StrEnum):
    """What a request comes to, one of these each."""

    RIGHT = "right"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, and what the right answer is.

    Attributes:
        id: of this request alone; travels as ``x-request-id``.
        body: JSON.
        leaves_after_s: the client goes on purpose, if there is no answer by then.
        refusal: the ``code`` that is the right answer, of a request made to be refused.
    """

    id: str
    path: str
    body: bytes
    check: Check = field(repr=False)
    leaves_after_s: float = math.inf
    refusal: str = ""


Make = Callable[[int], Request]
"""The request of a number; each number is asked for once."""


def classify(request: Request, exchange: Exchange, *, is_calm: bool) -> tuple[End, str]:
    """The end of a request and, unless it is right or cancelled, its reason in words that can be
    counted.

    Args:
        is_calm: nothing was overloaded while it was under way, so that no request of a replayable
            size may be refused.
    """
    if exchange.error:
        if exchange.error == LATE and request.leaves_after_s <= PATIENCE_S:
            return End.CANCELLED, ""
        return End.LOST, f"{exchange.error} {'in the body' if exchange.status else 'at first'}"
    if exchange.status == 200:
        if request.refusal:
            return End.LOST, f"answered where {request.refusal} was due"
        try:
            request.check(json.loads(exchange.body))
        except (WrongAnswer, ValueError, KeyError, TypeError) as error:
            return End.LOST, f"wrong answer: {type(error).__name__}: {str(error)[:80]}"
        return End.RIGHT, ""
    code = error_code(exchange.body)
    if not code:
        return End.LOST, f"{exchange.status} not in the form of errors"
    if code == request.refusal:
        return End.RIGHT, ""
    refusal, after = f"{exchange.status} {code}", exchange.headers.get("retry-after", "")
    if exchange.status in (429, 503) and not (after.isdecimal() and int(after) >= 1):
        return End.LOST, f"{refusal} without Retry-After"
    if is_calm and len(request.body) <= REPLAYABLE_BYTES:
        return End.LOST, f"{refusal} without overload"
    return End.REFUSED, refusal


def error_code(body: bytes) -> str:
    """``code`` of an error in our form; empty when it is not in that form."""
    try:
        error = json.loads(body)
    except ValueError:
        return ""
    is_ours = isinstance(error, dict) and error.get("error") and isinstance(error["error"], str)
    return str(error["code"]) if is_ours and isinstance(error.get("code"), str) else ""


class Ledger:
    """The account of any number of callers, on one event loop.

    Attributes:
        sent: requests that were begun.
        ends: how many came to each.
        reasons: of those refused and lost, with how often.
        examples: facts of lost ones, the first that there were.
    """

    # Mutable state: the attributes; when each request of an end was sent (seconds since the epoch)
    # and how long it took; the spans of overload.

    def __init__(self) -> None:
        self.sent = 0
        self.ends: Counter[End] = Counter()
        self.reasons: Counter[str] = Counter()
        self.examples: list[dict[str, Any]] = []
        self._times: dict[End, list[tuple[float, float]]] = {end: [] for end in End}
        self._overloads: list[tuple[float, float]] = []

    @property
    def is_good(self) -> bool:
        """Nothing is lost, everything sent is accounted for, and something was answered: an empty
        test proves nothing. To be asked after every caller has come back.
        """
        is_whole = self.ends.total() == self.sent
        return is_whole and self.ends[End.LOST] == 0 and self.ends[End.RIGHT] > 0

    def enter(self, request: Request, exchange: Exchange) -> End:
        """The end of a request that was counted in ``sent`` when it was begun."""
        until = exchange.at + exchange.seconds
        is_calm = not any(a <= until and exchange.at <= b for a, b in self._overloads)
        end, reason = classify(request, exchange, is_calm=is_calm)
        self.ends[end] += 1
        self._times[end].append((exchange.at, exchange.seconds))
        if reason:
            self.reasons[f"{end}: {reason}"] += 1
        if end is End.LOST and len(self.examples) < KEPT:
            facts = {"id": request.id, "path": request.path, "sent_bytes": len(request.body)}
            answer = exchange.body[:400].decode(errors="replace")
            facts |= {"reason": reason, "at": exchange.at, "seconds": exchange.seconds}
            facts |= {"status": exchange.status, "headers": dict(exchange.headers)}
            self.examples.append({**facts, "answer": answer})
        return end

    def add(self, other: Ledger) -> None:
        """Takes over another account, but for its times."""
        self.sent += other.sent
        self.ends += other.ends
        self.reasons += other.reasons
        self.examples += other.examples[: KEPT - len(self.examples)]

    @contextlib.contextmanager
    def overload(self) -> Iterator[None]:
        """In this time, and for ``RECOVERY_S`` after it, refusals are in order."""
        began, index = time.time(), len(self._overloads)
        self._overloads.append((began, math.inf))
        try:
            yield
        finally:
            self._overloads[index] = (began, time.time() + RECOVERY_S)

    def times(self, end: End) -> list[tuple[float, float]]:
        """When those of an end were sent, and how long they took."""
        return self._times[end]

    def seconds(self, end: End, since: float = -math.inf, until: float = math.inf) -> list[float]:
        """How long those of an end took that were sent in some span."""
        return [took for at, took in self._times[end] if since <= at < until]


class LedgerClient:
    """Sends to one server and keeps the ledger; numbers of requests go on from load to load.

    Args:
        make: makes the request of a number.
    """

    # Mutable state: the number of the next request.

    def __init__(self, ledger: Ledger, session: aiohttp.ClientSession, make: Make) -> None:
        self.ledger = ledger
        self._session = session
        self._make = make
        self._numbers = itertools.count()

    async def closed(self, callers: int, goes_on: Callable[[], bool]) -> None:
        """So many callers, each asking again as soon as it is answered, until ``goes_on`` is false.
        All have come back afterwards.
        """

        async def repeat() -> None:
            while goes_on():
                await self.call()

        await asyncio.gather(*(repeat() for _ in range(callers)))

    async def opened(self, per_s: float, seconds: float, random: Random | None = None) -> None:
        """Arrivals at a rate, none waiting for another. All are answered afterwards.

        Args:
            random: gaps as of independent callers; even gaps without.
        """
        start, due_s = time.time(), 0.0
        async with asyncio.TaskGroup() as group:
            while due_s < seconds:
                if (wait_s := start + due_s - time.time()) > 0:
                    await asyncio.sleep(wait_s)
                group.create_task(self.call(start + due_s))
                due_s += random.expovariate(per_s) if random else 1 / per_s

    async def call(self, due: float | None = None) -> End:
        """One request.

        Args:
            due: when it was to be sent, seconds since the epoch: its time counts from then.
        """
        request = self._make(next(self._numbers))
        headers, patience_s = {"x-request-id": request.id}, min(PATIENCE_S, request.leaves_after_s)
        self.ledger.sent += 1
        exchange = await post(self._session, request.path, request.body, headers, patience_s)
        return self.ledger.enter(request, exchange if due is None else exchange.since(due))


@contextlib.asynccontextmanager
async def client_of(
    ledger: Ledger, port: int, make: Make, door: Door = OPEN
) -> AsyncIterator[LedgerClient]:
    """A client of a server on loopback."""
    async with connect(port, door) as session:
        yield LedgerClient(ledger, session, make)
