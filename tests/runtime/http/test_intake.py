"""Large bodies that go past the server into memory of their own."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import uvicorn

from runtime.errors import DeadlineExceeded
from runtime.http import exchange, intake
from runtime.http.bodies import Parcel
from runtime.http.caller import Caller, Disconnected
from runtime.http.patience import Patience

MEGABYTES = np.random.default_rng(0).integers(0, 256, 5 << 20, np.uint8).tobytes()
AT = 137
"""Where the tensors of these bodies begin."""


class Bodies:
    """Answers with what a body was like, and remembers how each exchange ended.

    A caller's ``x-allowed`` is the time that he has, in seconds.
    """

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.has_ended = threading.Condition()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One exchange."""
        allowed_s = float(exchange.header(scope, b"x-allowed") or 20)
        ended = "answered"
        try:
            async with Caller(scope, receive, Patience(time.monotonic(), allowed_s)) as caller:
                body = await caller.body(1 << 26, Parcel((), lambda: 1), AT)
            address = np.frombuffer(body, np.uint8).ctypes.data if len(body) else 0
            is_aligned = isinstance(body, memoryview) and body.readonly and (address + AT) % intake.ALIGNED == 0
            text = b"%d %d %s" % (len(body), zlib.crc32(body), b"direct" if is_aligned else type(body).__name__.encode())
            await exchange.send_json(send, text)
        except Disconnected:
            ended = "left"
        except DeadlineExceeded as error:
            ended = "late"
            await exchange.send_error(send, error, "id")
        with self.has_ended:
            self.ended.append(ended)
            self.has_ended.notify_all()

    def wait_for(self, *ended: str) -> None:
        """Until so many exchanges have ended, and so."""
        with self.has_ended:
            assert self.has_ended.wait_for(lambda: len(self.ended) >= len(ended), 10), self.ended
        assert self.ended == list(ended)


@contextmanager
def serving(loop: str) -> Iterator[tuple[Bodies, int]]:
    """uvicorn in a thread."""
    app, listener = Bodies(), socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, loop=loop, http="httptools", lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: server.run([listener]))
    thread.start()
    try:
        yield app, listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(params=["uvloop", "asyncio"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Bodies, int]]:
    """By the loop that serves, and by Python's own."""
    with serving(request.param) as found:
        yield found


def head(length: int, *more: bytes) -> bytes:
    """Of a request."""
    return b"\r\n".join([b"POST / HTTP/1.1", b"host: x", b"content-length: %d" % length, *more, b"", b""])


def answer(stream: Any) -> tuple[int, bytes]:
    """The next status and body on a connection."""
    status = int(stream.readline().split()[1])
    length = 0
    while (line := stream.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        length = int(value) if name == b"content-length" else length
    return status, stream.read(length)


def said(body: bytes, how: bytes = b"direct") -> tuple[int, bytes]:
    """What is answered to a body."""
    return 200, b"%d %d %s" % (len(body), zlib.crc32(body), how)


@contextmanager
def connected(port: int) -> Iterator[tuple[socket.socket, Any]]:
    """A connection, and what is read from it."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection, connection.makefile("rb") as stream:
        yield connection, stream


def test_a_body_is_whole_aligned_and_the_next_request_untouched(served: tuple[Bodies, int]) -> None:
    """Large ones and small ones on one connection, each with the next already behind it; one in two parts."""
    _, port = served
    small = b"x" * 1000
    with connected(port) as (connection, stream):
        sending = b"".join([head(len(body)) + body for body in (MEGABYTES, small, MEGABYTES[1:], small)])
        sender = threading.Thread(target=connection.sendall, args=(sending,))
        sender.start()
        assert [answer(stream) for _ in range(4)] == [said(MEGABYTES), said(small, b"bytes"), said(MEGABYTES[1:]), said(small, b"bytes")]
        sender.join()
        connection.sendall(head(len(MEGABYTES)))
        connection.sendall(MEGABYTES[:1000])
        connection.sendall(MEGABYTES[1000:])
        assert answer(stream) == said(MEGABYTES)


def test_a_caller_who_asks_first_is_told_to_go_on(served: tuple[Bodies, int]) -> None:
    """As curl does with what is larger than a megabyte."""
    _, port = served
    with connected(port) as (connection, stream):
        connection.sendall(head(len(MEGABYTES), b"expect: 100-continue"))
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert stream.readline() == b"\r\n"
        connection.sendall(MEGABYTES)
        assert answer(stream) == said(MEGABYTES)


def test_a_caller_who_leaves_in_the_middle_is_gone(served: tuple[Bodies, int]) -> None:
    """And the next one is served."""
    app, port = served
    with connected(port) as (connection, _):
        connection.sendall(head(len(MEGABYTES)) + MEGABYTES[: 1 << 20])
    app.wait_for("left")
    with connected(port) as (connection, stream):
        connection.sendall(head(len(MEGABYTES)) + MEGABYTES)
        assert answer(stream) == said(MEGABYTES)


def test_a_caller_who_is_late_is_answered_and_may_go_on(served: tuple[Bodies, int]) -> None:
    """The rest of his body is thrown away, and the request behind it is a request."""
    app, port = served
    with connected(port) as (connection, stream):
        connection.sendall(head(len(MEGABYTES), b"x-allowed: 0.3") + MEGABYTES[: 1 << 20])
        status, _ = answer(stream)
        assert status == 504
        connection.sendall(MEGABYTES[1 << 20 :] + head(len(MEGABYTES)) + MEGABYTES)
        assert answer(stream) == said(MEGABYTES)
    app.wait_for("late", "answered")


def test_other_servers_are_left_alone() -> None:
    """A `receive` that is not uvicorn's is asked for messages."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": MEGABYTES, "more_body": False}

    async def body() -> bytes | memoryview:
        scope = {"headers": [(b"content-length", b"%d" % len(MEGABYTES))]}
        async with Caller(scope, receive, Patience(time.monotonic(), 5)) as caller:
            return await caller.body(1 << 26, Parcel((), lambda: 1), AT)

    assert not intake.reads(receive)
    assert asyncio.run(body()) is MEGABYTES


def test_memory_is_used_again_when_nobody_has_it() -> None:
    """Not while a part of it is in use, nor for what is much smaller; and no more of it is kept than is allowed."""
    spare = intake.Spare(1_000_000)

    def address(memory: memoryview) -> int:
        return np.frombuffer(memory, np.uint8).ctypes.data

    first = intake.memory_for(400_000, AT, spare)
    at = address(first)
    part = np.frombuffer(first, np.uint8, 10, 1000)
    del first
    second = intake.memory_for(400_000, AT, spare)
    assert address(second) != at
    del part
    assert address(intake.memory_for(400_000, AT, spare)) == at
    assert address(intake.memory_for(100_000, AT, spare)) not in (at, address(second))
    large = intake.memory_for(900_000, AT, spare)
    assert spare.held_bytes <= 1_000_000
    assert (address(large) + AT) % intake.ALIGNED == 0
