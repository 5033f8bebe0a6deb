"""What became of a request: the facts of its exchange, and which of the four ends they are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from loadtests.answers import WrongAnswer
from loadtests.http1 import Phase

REPLAYABLE_BYTES = 64 * 1024
"""Largest body that may not be refused where there is no overload: it is small enough to be kept and sent to another replica."""

SLACK_S = 2.0
"""How long after its deadline a request may still be answered before the client gives it up."""

AGAIN_LATER = (429, 503)
"""Refusals that have to say when to come again."""


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
        check: given the decoded answer of status 200; raises ``WrongAnswer``.
        deadline_s: by which the server answers somehow; the client waits ``SLACK_S`` longer.
        leaves_after_s: the client goes on purpose, if there is no answer by then.
        refusal: the ``code`` that is the right answer, of a request made to be refused.
        headers: beside those that every request has.
    """

    id: str
    path: str
    body: bytes
    check: Callable[[Any], None] = field(repr=False)
    deadline_s: float = 30.0
    leaves_after_s: float = math.inf
    refusal: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def patience_s(self) -> float:
        """How long the client waits at the most."""
        return min(self.deadline_s + SLACK_S, self.leaves_after_s)


@dataclass(frozen=True, slots=True)
class Exchange:
    """The facts of one exchange.

    Attributes:
        at: when it was sent, or was to be sent, seconds since the epoch.
        seconds: from then to its end.
        phase: where it ended; ``DONE`` when there is a whole answer.
        status: HTTP's; 0 when none came.
        headers: of the answer, names in lower case.
        body: of the answer, as far as it came.
        error: what ended it before it was done.
        has_left: that was the client itself, on purpose.
        before: exchanges done on the same connection before this one.
    """

    at: float
    seconds: float
    phase: Phase
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""
    has_left: bool = False
    before: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """An end and, but for a right answer, its reason: refused or lost, in words that can be counted."""

    end: End
    reason: str = ""


def classify(request: Request, exchange: Exchange, *, is_calm: bool) -> Outcome:
    """The end of a request.

    Args:
        is_calm: nothing was overloaded while it was under way, so that no request of a replayable size may be refused.
    """
    if exchange.has_left:
        return Outcome(End.CANCELLED)
    if exchange.phase is not Phase.DONE:
        return Outcome(End.LOST, f"{exchange.error or 'broken'} at {exchange.phase}")
    if exchange.status == 200:
        return _answered(request, exchange)
    return _refused(request, exchange, is_calm=is_calm)


def _answered(request: Request, exchange: Exchange) -> Outcome:
    if request.refusal:
        return Outcome(End.LOST, f"answered where {request.refusal} was due")
    try:
        request.check(json.loads(exchange.body))
    except (WrongAnswer, ValueError, KeyError, TypeError) as error:
        return Outcome(End.LOST, f"wrong answer: {type(error).__name__}: {str(error)[:80]}")
    return Outcome(End.RIGHT)


def _refused(request: Request, exchange: Exchange, *, is_calm: bool) -> Outcome:
    code = error_code(exchange.body)
    if not code:
        return Outcome(End.LOST, f"{exchange.status} not in the form of errors")
    if code == request.refusal:
        return Outcome(End.RIGHT)
    said = f"{exchange.status} {code}"
    if exchange.status in AGAIN_LATER and retry_after_s(exchange.headers) is None:
        return Outcome(End.LOST, f"{said} without Retry-After")
    if is_calm and len(request.body) <= REPLAYABLE_BYTES:
        return Outcome(End.LOST, f"{said} without overload")
    return Outcome(End.REFUSED, said)


def error_code(body: bytes) -> str:
    """``code`` of an error in our form; empty when it is not in that form."""
    try:
        told = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(told, dict) or not all(isinstance(told.get(key), str) and told[key] for key in ("error", "code")):
        return ""
    return str(told["code"])


def retry_after_s(headers: Mapping[str, str]) -> int | None:
    """Whole seconds of ``Retry-After``, at least 1; None when it does not say so."""
    said = headers.get("retry-after", "")
    return int(said) if said.isdecimal() and int(said) >= 1 else None
