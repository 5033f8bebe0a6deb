"""The ledger: what was sent and what each request came to, with enough kept of the lost ones to find out why."""

from __future__ import annotations

import contextlib
import math
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from loadtests.bench.figures import percentile
from loadtests.http1 import Phase
from loadtests.ledger.outcome import End, Exchange, Outcome, Request, classify

KEPT = 200
"""Lost requests whose details are kept; all are counted."""

SAID_BYTES = 400
"""Of a lost request's answer."""

RECOVERY_S = 5.0
"""How long after an overload requests may still be refused for it."""

REASONS = 20
"""Different reasons that a verdict names, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A lost request, for whoever looks for the reason."""

    id: str
    path: str
    sent_bytes: int
    reason: str
    at: float
    seconds: float
    phase: Phase
    status: int
    before: int
    answer: str
    server: dict[str, str]

    @classmethod
    def of(cls, request: Request, exchange: Exchange, reason: str) -> Lost:
        """From the facts."""
        said = exchange.body[:SAID_BYTES].decode(errors="replace")
        known = (request.id, request.path, len(request.body), reason, exchange.at, exchange.seconds)
        return cls(*known, exchange.phase, exchange.status, exchange.before, said, dict(exchange.headers))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sums.

    Attributes:
        sent: requests that were begun.
        reasons: of those refused and lost, with how often.
        examples: details of lost ones, the first that there were.
    """

    sent: int
    right: int
    refused: int
    cancelled: int
    lost: int
    reasons: dict[str, int] = field(default_factory=dict)
    examples: tuple[Lost, ...] = ()

    @property
    def unaccounted(self) -> int:
        """Sent, and come to none of the four ends."""
        return self.sent - self.right - self.refused - self.cancelled - self.lost

    @property
    def is_good(self) -> bool:
        """Nothing is lost, everything sent is accounted for, and something was answered: an empty test proves nothing."""
        return self.lost == 0 and self.unaccounted == 0 and self.right > 0

    def __str__(self) -> str:
        parts = [f"{self.sent:,} sent", f"{self.right:,} right", f"{self.refused:,} refused", f"{self.cancelled:,} cancelled"]
        parts.append(f"{self.lost:,} lost")
        if self.unaccounted:
            parts.append(f"{self.unaccounted:,} UNACCOUNTED")
        return ", ".join(parts) + "".join(f"; {count:,} x {reason}" for reason, count in self.reasons.items())

    def __add__(self, other: Verdict) -> Verdict:
        """Both together."""
        return Verdict(
            self.sent + other.sent,
            self.right + other.right,
            self.refused + other.refused,
            self.cancelled + other.cancelled,
            self.lost + other.lost,
            dict(Counter(self.reasons) + Counter(other.reasons)),
            (*self.examples, *other.examples)[:KEPT],
        )


class Spans:
    """Times of overload, seconds since the epoch, in the order in which they began; the last may not have ended yet."""

    # Mutable state: the list.

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    def begin(self, now: float) -> None:
        """From now on there is overload."""
        self._spans.append((now, math.inf))

    def end(self, now: float) -> None:
        """It ends now; what came before goes on."""
        began, _ = self._spans[-1]
        self._spans[-1] = (began, now)

    def touch(self, since: float, until: float) -> bool:
        """Whether there was overload in some of that time."""
        return any(began <= until and since <= ended for began, ended in reversed(self._spans))


class Book:
    """Keeps the account of any number of callers, on one event loop.

    Each request is entered twice: ``sent`` when it begins, ``enter`` when it came to its end.
    """

    # Mutable state: the counts, the times of each end (seconds since the epoch, and how long it took), the lost ones, the overloads.

    def __init__(self) -> None:
        self.sent = 0
        self._ends: Counter[End] = Counter()
        self._reasons: Counter[str] = Counter()
        self._lost: list[Lost] = []
        self._times = {end: (array("d"), array("d")) for end in End}
        self._overloads = Spans()

    def __repr__(self) -> str:
        return f"<Book: {self.verdict()}>"

    def begin(self) -> None:
        """A request is about to be sent."""
        self.sent += 1

    def enter(self, request: Request, exchange: Exchange) -> Outcome:
        """Its end. Called once for each ``begin``."""
        until = exchange.at + exchange.seconds
        outcome = classify(request, exchange, is_calm=not self._overloads.touch(exchange.at, until))
        self._ends[outcome.end] += 1
        begins, seconds = self._times[outcome.end]
        begins.append(exchange.at)
        seconds.append(exchange.seconds)
        if outcome.reason:
            self._reasons[f"{outcome.end}: {outcome.reason}"] += 1
        if outcome.end is End.LOST and len(self._lost) < KEPT:
            self._lost.append(Lost.of(request, exchange, outcome.reason))
        return outcome

    @contextlib.contextmanager
    def overload(self) -> Iterator[None]:
        """In this time, and for ``RECOVERY_S`` after it, refusals are in order."""
        self._overloads.begin(time.time())
        try:
            yield
        finally:
            self._overloads.end(time.time() + RECOVERY_S)

    def count(self, end: End) -> int:
        """How many came to that end so far."""
        return self._ends[end]

    def between(self, end: End, since: float = -math.inf, until: float = math.inf) -> list[float]:
        """The seconds of those of that end that were sent in that time."""
        return [took for at, took in zip(*self._times[end], strict=True) if since <= at < until]

    def times(self, end: End) -> list[tuple[float, float]]:
        """When those of that end were sent, seconds since the epoch, and how long they took."""
        return list(zip(*self._times[end], strict=True))

    def sent_between(self, since: float, until: float) -> int:
        """How many that have come to an end were sent in that time."""
        return sum(since <= at < until for begins, _ in self._times.values() for at in begins)

    def verdict(self) -> Verdict:
        """The sums so far; to be called good only after every caller has come back."""
        right, refused, cancelled, lost = (self._ends[end] for end in (End.RIGHT, End.REFUSED, End.CANCELLED, End.LOST))
        return Verdict(self.sent, right, refused, cancelled, lost, dict(self._reasons.most_common(REASONS)), tuple(self._lost))


def p(seconds: Sequence[float], share: float) -> float:
    """A percentile; NaN of nothing."""
    return percentile(seconds, share) if seconds else math.nan
