"""What an exchange comes to: exactly one of four ends, with a reason that can be counted."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from loadtests.answers import WrongAnswer
from loadtests.http1 import Phase
from loadtests.ledger.outcome import REPLAYABLE_BYTES, End, Exchange, Request, classify, error_code, retry_after_s


def check(answer: Any) -> None:
    """Four is right."""
    if answer["x"] != 4:
        raise WrongAnswer(f"{answer['x']}, not 4")


def asked(size: int = 10, refusal: str = "") -> Request:
    """A request with a body of so many bytes."""
    return Request("r-1", "/f", b" " * size, check, refusal=refusal)


def answered(status: int, body: Any, **headers: str) -> Exchange:
    """A whole answer."""
    return Exchange(
        0.0, 0.1, Phase.DONE, status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode()
    )


def error(code: str) -> dict[str, str]:
    """In our form."""
    return {"error": "what, where, how to fix", "code": code, "where": "", "request_id": "r-1"}


LARGE = asked(REPLAYABLE_BYTES + 1)
BROKEN = Exchange(0.0, 0.1, Phase.HEAD, error="closed")
LEFT = Exchange(0.0, 0.1, Phase.HEAD, error="no answer in time", has_left=True)
CUT = Exchange(0.0, 0.1, Phase.BODY, 200, {}, b'{"x": 4', "closed")
BARE = Exchange(0.0, 0.1, Phase.DONE, 500, {}, b"Internal Server Error")


@pytest.mark.parametrize(
    ("request_", "exchange", "is_calm", "end", "reason"),
    [
        (asked(), answered(200, {"x": 4}), True, End.RIGHT, ""),
        (asked(), answered(200, {"x": 5}), True, End.LOST, "wrong answer: WrongAnswer: 5, not 4"),
        (asked(), answered(200, {"y": 4}), True, End.LOST, "wrong answer: KeyError: 'x'"),
        (asked(), answered(200, None), True, End.LOST, "wrong answer: TypeError: 'NoneType' object is not subscriptable"),
        (asked(refusal="function_failed"), answered(500, error("function_failed")), True, End.RIGHT, ""),
        (asked(refusal="function_failed"), answered(500, error("internal")), True, End.LOST, "500 internal without overload"),
        (asked(refusal="function_failed"), answered(200, {"x": 4}), True, End.LOST, "answered where function_failed was due"),
        (asked(), answered(429, error("overloaded"), retry_after="1"), False, End.REFUSED, "429 overloaded"),
        (asked(), answered(429, error("overloaded"), retry_after="1"), True, End.LOST, "429 overloaded without overload"),
        (LARGE, answered(503, error("draining"), retry_after="2"), True, End.REFUSED, "503 draining"),
        (LARGE, answered(503, error("draining")), True, End.LOST, "503 draining without Retry-After"),
        (LARGE, answered(503, error("draining"), retry_after="soon"), False, End.LOST, "503 draining without Retry-After"),
        (asked(), answered(504, error("deadline_exceeded")), False, End.REFUSED, "504 deadline_exceeded"),
        (asked(), answered(504, error("deadline_exceeded")), True, End.LOST, "504 deadline_exceeded without overload"),
        (LARGE, BARE, False, End.LOST, "500 not in the form of errors"),
        (LARGE, answered(503, {"error": "no code"}, retry_after="1"), False, End.LOST, "503 not in the form of errors"),
        (asked(), BROKEN, False, End.LOST, "closed at head"),
        (asked(), CUT, False, End.LOST, "closed at body"),
        (asked(), LEFT, True, End.CANCELLED, ""),
    ],
)
def test_each_exchange_has_one_end(request_: Request, exchange: Exchange, is_calm: bool, end: End, reason: str) -> None:
    """The caller's own doing first, then what did not come, then what came."""
    outcome = classify(request_, exchange, is_calm=is_calm)
    assert (outcome.end, outcome.reason) == (end, reason)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": "it failed", "code": "internal"}', "internal"),
        (b'{"error": "", "code": "internal"}', ""),
        (b'{"error": "it failed", "code": 5}', ""),
        (b'["error", "code"]', ""),
        (b"Internal Server Error", ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
def test_an_error_is_ours_if_it_says_what_and_has_a_code(body: bytes, code: str) -> None:
    """Anything else has no code."""
    assert error_code(body) == code


@pytest.mark.parametrize(("said", "seconds"), [("1", 1), ("30", 30), ("0", None), ("-1", None), ("1.5", None), ("", None)])
def test_retry_after_is_a_whole_number_of_seconds(said: str, seconds: int | None) -> None:
    """At least one, so that nobody comes back at once."""
    assert retry_after_s({"retry-after": said}) == seconds


def test_a_client_waits_beyond_the_deadline_unless_it_means_to_leave() -> None:
    """The server gets time to say that it is late."""
    assert asked().patience_s == 32.0
    assert Request("r", "/", b"", check, leaves_after_s=0.5).patience_s == 0.5
    assert math.isinf(asked().leaves_after_s)
