"""Exchanges that are kept one by one, alone and many at once, against a small server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from loadtests.bench.serving import free_port
from loadtests.bench.wake.callers import Pacers, arriving, together
from loadtests.bench.wake.calls import Answer, Caller, call_once
from loadtests.bench.wake.timing import phases, timings_ms

COLD = "total;dur=5.5, cold;dur=60.250, cold_read;dur=1.000, cold_session;dur=30.000"


def app() -> Starlette:
    """Wakes on its first call, refuses `/busy`, and does not say how long `/stream` is."""
    turns: list[int] = []

    async def function(request: Request) -> Response:
        turns.append(request.client.port if request.client else 0)
        timing = {"Server-Timing": COLD if len(turns) == 1 else "total;dur=1.0"}
        return Response(json.dumps({"turn": len(turns), "ports": len(set(turns)), **await request.json()}), headers=timing)

    async def busy(_request: Request) -> Response:
        return Response("busy", 429)

    async def stream(_request: Request) -> Response:
        return StreamingResponse(iter([b"a"]))

    async def look(_request: Request) -> Response:
        return Response(json.dumps({"turns": len(turns)}))

    routes = [Route("/f", function, methods=["POST"]), Route("/busy", busy, methods=["POST"]), Route("/stream", stream, methods=["POST"])]
    return Starlette(routes=[*routes, Route("/look", look)])


def test_an_answer_knows_whether_it_woke_the_function(serve: Callable[[Starlette], int]) -> None:
    """By Server-Timing, whose phases are told in their order; looking is an exchange, too."""
    port = serve(app())
    first, second = (call_once(port, "/f", b'{"x": 1}') for _ in range(2))
    assert (first.is_good, first.was_cold, first.json()["x"]) == (True, True, 1)
    assert (second.is_good, second.was_cold, second.json()["turn"]) == (True, False, 2)
    numbers = phases("`f`", [dict(first.timing)])
    assert [(number.name, number.value) for number in numbers] == [
        ("`f`, phase read", 1.0),
        ("`f`, phase session", 30.0),
        ("`f`, as the server sees it", 60.25),
    ]


async def several(port: int) -> tuple[list[Answer], Answer]:
    """Three calls and a look over one connection."""
    async with Caller(port) as caller:
        return [await caller.post("/f", b"{}") for _ in range(3)], await caller.get("/look")


def test_a_connection_is_kept(serve: Callable[[Starlette], int]) -> None:
    """From one call to the next."""
    calls, look = asyncio.run(several(serve(app())))
    assert [call.json()["ports"] for call in calls] == [1, 1, 1]
    assert look.json() == {"turns": 3}


@pytest.mark.parametrize(("path", "status", "said"), [("/busy", 429, "busy"), ("/nowhere", 404, "Not Found")])
def test_what_was_not_served_is_an_answer_that_is_not_good(serve: Callable[[Starlette], int], path: str, status: int, said: str) -> None:
    """It is counted as lost, and says why."""
    answer = call_once(serve(app()), path, b"{}")
    assert (answer.status, answer.is_good) == (status, False)
    assert said in answer.body.decode()


def test_an_answer_in_pieces_is_whole(serve: Callable[[Starlette], int]) -> None:
    """Its length is not known before its end."""
    answer = call_once(serve(app()), "/stream", b"{}")
    assert (answer.is_good, answer.body) == (True, b"a")


def test_nobody_there_is_an_answer_of_status_0() -> None:
    """A refused connection loses one call, and not the run."""
    answer = call_once(free_port(), "/f", b"{}")
    assert (answer.status, answer.is_good) == (0, False)
    assert "Error" in answer.body.decode()


def test_a_crowd_and_a_stream_are_kept_whole(serve: Callable[[Starlette], int]) -> None:
    """One answer a call; the crowd has a connection each."""
    port = serve(app())
    crowd = asyncio.run(together(port, "/f", b"{}", 20))
    assert sorted(answer.json()["turn"] for answer in crowd) == list(range(1, 21))
    assert max(answer.json()["ports"] for answer in crowd) == 20
    stream = asyncio.run(arriving(port, "/f", b"{}", 1000, 0.05))
    assert [answer.is_good for answer in stream] == [True] * 50
    assert [answer.at for answer in stream] == sorted(answer.at for answer in stream)


def test_an_answer_counts_from_when_it_was_due() -> None:
    """A client that was late does not make the server faster."""
    answer = Answer(200, at=100.5, seconds=0.25, timing={}, body=b"").since(100.0)
    assert (answer.at, answer.seconds) == (100.0, 0.75)


async def paced(port: int) -> tuple[int, int]:
    """Connections that two pacers, and then one more, have used."""
    used = []
    async with Pacers(port, "/f", b"{}", 2) as pacers:
        for count in (2, 3):
            pacers.set_count(count)
            while not (pacers.answers and pacers.answers[-1].json()["ports"] == count):
                await asyncio.sleep(0)
            used.append(count)
        pacers.set_count(1)
    return len(used), sum(not answer.is_good for answer in pacers.answers)


def test_pacers_call_again_and_again_and_change_their_number(serve: Callable[[Starlette], int]) -> None:
    """Until the block ends; nothing that was sent is left without its answer."""
    assert asyncio.run(paced(serve(app()))) == (2, 0)


def test_timings_are_read_by_name() -> None:
    """Entries without a duration are not times."""
    assert timings_ms("queue;dur=1.5, miss, total;dur=20") == {"queue": 1.5, "total": 20.0}
    assert timings_ms("") == {}
