"""The ledger: each request comes to one of four ends, and the account is whole."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from random import Random
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deployments.loadtest.calls.answers import WrongAnswer
from loadtests import exchanges
from loadtests.exchanges import Exchange
from loadtests.ledger import (
    KEPT,
    REPLAYABLE_BYTES,
    End,
    Ledger,
    Request,
    classify,
    client_of,
    error_code,
)
from loadtests.server import free_port


def check(answer: Any) -> None:
    """Four is right."""
    if answer["x"] != 4:
        raise WrongAnswer(f"{answer['x']}, not 4")


def asked(size: int = 10, refusal: str = "") -> Request:
    """A request with a body of so many bytes."""
    return Request("r-1", "/f", b" " * size, check, refusal=refusal)


def answered(status: int, body: Any, **headers: str) -> Exchange:
    """A whole answer."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Exchange(0.0, 0.1, status, fields, json.dumps(body).encode())


def error(code: str) -> dict[str, str]:
    """In our form."""
    return {"error": "what, where, how to fix", "code": code, "where": "", "request_id": "r-1"}


LARGE = asked(REPLAYABLE_BYTES + 1)
LEAVING = Request("r-1", "/f", b"", check, leaves_after_s=0.1)
BROKEN = Exchange(0.0, 0.1, error="closed")
LATE = Exchange(0.0, 0.1, error=exchanges.LATE)
CUT = Exchange(0.0, 0.1, 200, {}, b'{"x": 4', "closed")
BARE = Exchange(0.0, 0.1, 500, {}, b"Internal Server Error")


@pytest.mark.parametrize(
    ("request_", "exchange", "is_calm", "end", "reason"),
    [
        (asked(), answered(200, {"x": 4}), True, End.RIGHT, ""),
        (asked(), answered(200, {"x": 5}), True, End.LOST, "wrong answer: WrongAnswer: 5, not 4"),
        (asked(), answered(200, {"y": 4}), True, End.LOST, "wrong answer: KeyError: 'x'"),
        (
            asked(),
            answered(200, None),
            True,
            End.LOST,
            "wrong answer: TypeError: 'NoneType' object is not subscriptable",
        ),
        (
            asked(refusal="function_failed"),
            answered(500, error("function_failed")),
            True,
            End.RIGHT,
            "",
        ),
        (
            asked(refusal="function_failed"),
            answered(500, error("internal")),
            True,
            End.LOST,
            "500 internal without overload",
        ),
        (
            asked(refusal="function_failed"),
            answered(200, {"x": 4}),
            True,
            End.LOST,
            "answered where function_failed was due",
        ),
        (
            asked(),
            answered(429, error("overloaded"), retry_after="1"),
            False,
            End.REFUSED,
            "429 overloaded",
        ),
        (
            asked(),
            answered(429, error("overloaded"), retry_after="1"),
            True,
            End.LOST,
            "429 overloaded without overload",
        ),
        (
            LARGE,
            answered(503, error("draining"), retry_after="2"),
            True,
            End.REFUSED,
            "503 draining",
        ),
        (
            LARGE,
            answered(503, error("draining")),
            True,
            End.LOST,
            "503 draining without Retry-After",
        ),
        (
            LARGE,
            answered(503, error("draining"), retry_after="soon"),
            False,
            End.LOST,
            "503 draining without Retry-After",
        ),
        (
            asked(),
            answered(504, error("deadline_exceeded")),
            False,
            End.REFUSED,
            "504 deadline_exceeded",
        ),
        (
            asked(),
            answered(504, error("deadline_exceeded")),
            True,
            End.LOST,
            "504 deadline_exceeded without overload",
        ),
        (LARGE, BARE, False, End.LOST, "500 not in the form of errors"),
        (
            LARGE,
            answered(503, {"error": "no code"}, retry_after="1"),
            False,
            End.LOST,
            "503 not in the form of errors",
        ),
        (asked(), BROKEN, False, End.LOST, "closed at first"),
        (asked(), CUT, False, End.LOST, "closed in the body"),
        (asked(), LATE, True, End.LOST, "no answer in time at first"),
        (LEAVING, LATE, True, End.CANCELLED, ""),
        *(
            (
                LARGE,
                answered(429, error("overloaded"), retry_after=said),
                False,
                End.LOST,
                "429 overloaded without Retry-After",
            )
            for said in ("0", "-1", "1.5", "")
        ),
    ],
)
def test_each_exchange_has_one_end(
    request_: Request, exchange: Exchange, is_calm: bool, end: End, reason: str
) -> None:
    """The client's own doing first, then what did not come, then what came."""
    assert classify(request_, exchange, is_calm=is_calm) == (end, reason)


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


@pytest.mark.parametrize(
    ("ends", "is_good"),
    [
        ({End.RIGHT: 3}, True),
        ({End.RIGHT: 1, End.REFUSED: 1, End.CANCELLED: 1}, True),
        ({End.RIGHT: 2, End.LOST: 1}, False),
        ({End.REFUSED: 3}, False),
        ({End.RIGHT: 2}, False),
    ],
    ids=["right", "refused and cancelled", "lost", "none answered", "unaccounted"],
)
def test_only_a_whole_account_without_a_loss_is_good(ends: dict[End, int], is_good: bool) -> None:
    """An empty test proves nothing, nor does one that forgot a request."""
    ledger = Ledger()
    assert not ledger.is_good
    ledger.sent, ledger.ends = 3, Counter(ends)
    assert ledger.is_good is is_good


def test_lost_requests_are_all_counted_and_some_are_kept() -> None:
    """With their reasons and facts; two accounts add up."""
    both, other = Ledger(), Ledger()
    for ledger in (both, other):
        for _ in range(KEPT + 5):
            ledger.sent += 1
            ledger.enter(asked(), BROKEN)
    both.add(other)
    assert both.sent == both.ends[End.LOST] == 2 * KEPT + 10
    assert both.reasons == {"lost: closed at first": 2 * KEPT + 10}
    assert len(both.examples) == KEPT
    assert both.examples[0]["reason"] == "closed at first"


def test_a_refusal_is_in_order_during_an_overload_and_shortly_after() -> None:
    """Before and later it is a loss."""

    def refused(at: float) -> Exchange:
        body = json.dumps(error("overloaded")).encode()
        return Exchange(at, 0.01, 429, {"retry-after": "1"}, body)

    ledger, now = Ledger(), time.time()
    assert ledger.enter(asked(), refused(now - 1)) is End.LOST
    with ledger.overload():
        assert ledger.enter(asked(), refused(time.time())) is End.REFUSED
    assert ledger.enter(asked(), refused(time.time() + 1)) is End.REFUSED
    assert ledger.enter(asked(), refused(time.time() + 60)) is End.LOST


@pytest.mark.parametrize(
    ("dice", "least", "most"), [(None, 100, 100), (Random(0), 70, 130)], ids=["even", "random"]
)
def test_arrivals_do_not_wait_for_each_other(
    serve: Any, dice: Random | None, least: int, most: int
) -> None:
    """They come at the rate, however long each takes, and all are answered."""

    async def answer(_request: HttpRequest) -> Response:
        await asyncio.sleep(0.3)
        return JSONResponse({"x": 4})

    async def run(port: int) -> Ledger:
        ledger = Ledger()
        async with client_of(ledger, port, lambda n: Request(f"r-{n}", "/f", b"{}", check)) as load:
            await load.opened(200.0, 0.5, dice)
        return ledger

    port = serve(Starlette(routes=[Route("/f", answer, methods=["POST"])]))
    ledger = asyncio.run(run(port))
    assert ledger.is_good
    assert least <= ledger.sent <= most


def test_a_client_keeps_the_account_of_a_real_server(serve: Any) -> None:
    """Right and wrong answers, a refusal, a client that leaves, a connection that breaks."""

    async def answer(request: HttpRequest) -> Response:
        match request.headers["x-request-id"]:
            case "r-0":
                return JSONResponse({"x": 4})
            case "r-1":
                return JSONResponse({"x": 5})
            case "r-2":
                return JSONResponse(error("overloaded"), 429, {"retry-after": "1"})
            case _:
                await asyncio.sleep(1)
                return JSONResponse({"x": 4})

    def make(number: int) -> Request:
        leaves_after_s = 0.05 if number == 3 else math.inf
        return Request(f"r-{number}", "/f", b"{}", check, leaves_after_s=leaves_after_s)

    async def run(port: int, calls: int) -> Ledger:
        ledger = Ledger()
        async with client_of(ledger, port, make) as client:
            with ledger.overload():
                await client.closed(1, lambda: ledger.sent < calls)
        return ledger

    port = serve(Starlette(routes=[Route("/f", answer, methods=["POST"])]))
    assert asyncio.run(run(port, 4)).ends == dict.fromkeys(End, 1)
    unreachable = asyncio.run(run(free_port(), 1))
    assert unreachable.reasons == {"lost: ClientConnectorError at first": 1}


def test_a_request_is_never_sent_twice() -> None:
    """A server that closes a kept-alive connection instead of answering sees each request once."""
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            seen.append(head.partition("x-request-id: ")[2].split("\r\n")[0])
            await reader.readexactly(2)
            if len(seen) == 1:
                writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{"x": 4}')
            else:
                writer.transport.abort()
                return

    async def run() -> Ledger:
        ledger = Ledger()
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            made = client_of(ledger, port, lambda n: Request(f"r-{n}", "/f", b"{}", check))
            async with made as client:
                await client.closed(1, lambda: ledger.sent < 2)
        return ledger

    assert asyncio.run(run()).ends == Counter({End.RIGHT: 1, End.LOST: 1})
    assert seen == ["r-0", "r-1"]
