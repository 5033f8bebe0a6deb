"""Each call whose time has come has a record, and its reason is the true one."""

from __future__ import annotations

import asyncio
import errno
import json
import math
import socket
import time
from dataclasses import replace

import gevent
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deployments.loadtest.calls.load_call import LoadCall
from deployments.loadtest.generator import connections
from deployments.loadtest.generator.connections import NoAnswer, Server
from deployments.loadtest.generator.open_loop import OpenLoop
from tests.serving import free_port


class AnythingIsRight:
    """Implements ``Checks``."""

    def check(self, call, body, headers):
        """Nothing is wrong."""


def loop_of(port, *, timeout_s=30.0, most=10):
    """A loop, and the records that it gives."""
    records = []
    loop = OpenLoop(
        Server(f"http://127.0.0.1:{port}"),
        AnythingIsRight(),
        lambda record, call, why: records.append(record),
        began=0.0,
        most=most,
        timeout_s=timeout_s,
        most_lag_s=60.0,
        name="test",
    )
    return loop, records


CALL = LoadCall("f", "/f", b"{}")


async def answer(request):
    """Right at once."""
    return JSONResponse({})


@pytest.fixture
def port(serve):
    """Of a server that answers at once."""
    return serve(Starlette(routes=[Route("/f", answer, methods=["POST"])]))


def test_a_call_that_is_late_when_it_is_submitted_is_given_up_and_recorded(port):
    """Its greenlet has not run yet when calls that have taken too long are ended."""
    loop, records = loop_of(port, timeout_s=0.001)
    for number in range(5):
        loop.submit(time.monotonic() - 1.0, number, CALL)
    loop.drain(0.0)
    assert [record.code for record in records] == ["timeout"] * 5


def test_an_answer_after_the_time_of_its_call_is_none(serve):
    """Whether or not the sweep was quick enough to end the call."""

    async def late(request):
        await asyncio.sleep(0.3)
        return JSONResponse({})

    port = serve(Starlette(routes=[Route("/f", late, methods=["POST"])]))
    loop, records = loop_of(port, timeout_s=0.1)
    loop.submit(time.monotonic(), 0, CALL)
    loop.drain(30.0)
    assert [(record.status, record.code) for record in records] == [(0, "timeout")]


def test_calls_under_way_at_the_end_are_no_timeouts():
    """Their own time is not over: what became of them is not known. Those whose time is, are."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop, records = loop_of(listener.getsockname()[1], most=1)
        for number in range(2):  # one under way, one that waits for its connection
            loop.submit(time.monotonic(), number, CALL)
        loop.submit(time.monotonic() - 60.0, 2, CALL)
        gevent.sleep(0)
        loop.drain(0.01)
    assert sorted(record.code for record in records) == ["ended", "ended", "timeout"]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EMFILE, "unsent"),
        (errno.EADDRNOTAVAIL, "unsent"),
        (errno.ECONNREFUSED, "refused"),
        (errno.EHOSTUNREACH, "refused"),
    ],
)
def test_a_connection_that_this_machine_cannot_open(monkeypatch, number, reason):
    """Is not the server's refusal, and is counted."""

    def fail(*_):
        raise OSError(number, "it cannot")

    monkeypatch.setattr(connections.gevent.socket, "socket", fail)
    loop, records = loop_of(1)
    with pytest.raises(NoAnswer, match=reason):
        Server("http://127.0.0.1:1").take()
    loop.submit(time.monotonic(), 0, CALL)
    loop.drain(30.0)
    assert [record.code for record in records] == [reason]
    assert loop.unsent == (reason == "unsent")


def test_a_host_with_an_address_at_which_nothing_listens(port, monkeypatch):
    """The next one is called, and from then on alone."""
    found = [(socket.AF_INET, 1, 6, "", ("127.0.0.1", at)) for at in (free_port(), port)]
    monkeypatch.setattr(connections.socket, "getaddrinfo", lambda *_, **__: found)
    loop, records = loop_of(port)
    for number in range(3):
        loop.submit(time.monotonic(), number, CALL)
    loop.drain(30.0)
    assert [record.status for record in records] == [200] * 3


@pytest.mark.parametrize(
    ("timing", "is_warm", "stages"),
    [
        ("queue;dur=1, batch;dur=2, total;dur=4", True, {"queue": 0.003}),
        ("model;dur=1, total;dur=4, wake;dur=80", False, {"model": 0.001, "cold": 0.08}),
        ("total;dur=4, wake;dur=80, cold;dur=90, cold_read;dur=3", False, {"cold": 0.08}),
        ("wake;dur=80", False, {"cold": 0.08}),
        ("queue;dur=1.2.3, model;dur=4, total;dur=5", True, {"model": 0.004}),
        (f"queue;dur={'9' * 400}, total;dur=5", True, {}),
        ("queue;dur=., model;dur=nan, post;dur=1e3, total;dur=5", True, {}),
        ("model;dur=1.2000000000000002, total;dur=5", True, {"model": 0.0012}),
        ("queue;dur=999999999, " * 1100 + "total;dur=5", True, {"queue": 1e6}),
        ("cdn-cache;dur=4", None, {}),
        ("", None, {}),
    ],
)
def test_whether_a_call_found_its_function_loaded(serve, timing, is_warm, stages):
    """By its own wait for the wake, and not by the record of the wake, which one answer has."""

    async def timed(request):
        return JSONResponse({}, headers={"server-timing": timing})

    loop, records = loop_of(serve(Starlette(routes=[Route("/f", timed, methods=["POST"])])))
    loop.submit(time.monotonic(), 0, CALL)
    loop.drain(30.0)
    (record,) = records
    assert record.is_warm is is_warm
    assert record.stages == pytest.approx(stages)


def test_the_parts_of_a_stream_are_those_of_all_of_it(serve):
    """Its last event has them; those of its head end with the first item."""
    end = {"items": 1, "server_timing": "queue;dur=1, model;dur=90, total;dur=95"}
    text = f"data: 1\n\nevent: done\ndata: {json.dumps(end)}\n\n"

    async def stream(request):
        head = {"server-timing": "queue;dur=1, model;dur=2, total;dur=3, wake;dur=40"}
        return Response(text, headers=head, media_type="text/event-stream")

    loop, records = loop_of(serve(Starlette(routes=[Route("/f", stream, methods=["POST"])])))
    loop.submit(time.monotonic(), 0, replace(CALL, wire="stream"))
    loop.drain(30.0)
    (record,) = records
    assert record.is_warm is False
    assert record.stages == pytest.approx({"queue": 0.001, "model": 0.09, "cold": 0.04})


def test_an_answer_that_cannot_be_read_is_a_wrong_one(serve):
    """Whatever it is that nothing expects: its call has a record, and those that wait are sent."""
    deep = b'{"error": "it nests", "code": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    answers = iter([Response(deep, 500)])

    async def answer_once(request):
        return next(answers, JSONResponse({}))

    port = serve(Starlette(routes=[Route("/f", answer_once, methods=["POST"])]))
    loop, records = loop_of(port, most=1)
    for number in range(3):
        loop.submit(time.monotonic(), number, CALL)
    loop.drain(30.0)
    assert [record.is_right for record in records] == [False, True, True]


def test_a_wait_for_answers_ends_when_it_is_told_to():
    """As by Ctrl-C while the last answers are awaited: it looks again and again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop, records = loop_of(listener.getsockname()[1], timeout_s=3600.0)
        loop.submit(time.monotonic(), 0, CALL)
        looks = iter([math.inf] * 3)
        loop.drain(3600.0, lambda: next(looks, 0.0))
    assert [record.code for record in records] == ["ended"]
