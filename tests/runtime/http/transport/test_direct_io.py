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
import uvloop

from runtime.batching.reservation import BodyReservation, ByteBudget
from runtime.errors import DeadlineExceeded, Overloaded
from runtime.http.asgi import AsgiRequest
from runtime.http.exchange import ClientDisconnected, error_response, json_response
from runtime.http.request_headers import RequestDeadline
from runtime.http.transport import direct_io
from runtime.http.transport.protocol import UVICORN

MEGABYTES = np.random.default_rng(0).integers(0, 256, 5 << 20, np.uint8).tobytes()
AT = 137
"""Where the tensors of these bodies begin."""


class Bodies:
    """Answers with what a body was like, and remembers how each exchange ended.

    A client's ``x-allowed`` is the time that it has, in seconds.
    """

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.body_budget = ByteBudget(lambda: 8 << 20)
        self.has_ended = threading.Condition()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One exchange."""
        request = AsgiRequest(scope, receive)
        deadline = RequestDeadline(time.monotonic(), float(request.get(b"x-allowed") or 20))
        ended, parcel = "answered", BodyReservation((self.body_budget,), lambda: 1)
        try:
            with request:
                body = await request.read_body(1 << 26, parcel, deadline, AT)
            address = np.frombuffer(body, np.uint8).ctypes.data if len(body) else 0
            is_aligned = (
                isinstance(body, memoryview)
                and body.readonly
                and (address + AT) % direct_io.ALIGNMENT == 0
            )
            text = b"%d %d %s" % (
                len(body),
                zlib.crc32(body),
                b"direct" if is_aligned else type(body).__name__.encode(),
            )
            await json_response(text).send_to(send)
        except ClientDisconnected:
            ended = "left"
        except DeadlineExceeded as error:
            ended = "late"
            await error_response(error, "id").send_to(send)
        except Overloaded as error:
            ended = "refused"
            await error_response(error, "id").send_to(send)
        finally:
            parcel.end()
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
    config = uvicorn.Config(app, **UVICORN, lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    # some releases choose the loop for the whole process, when they run it themselves
    run = uvloop.run if loop == "uvloop" else asyncio.run
    thread = threading.Thread(target=lambda: run(server.serve([listener])))
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
    return b"\r\n".join(
        [b"POST / HTTP/1.1", b"host: x", b"content-length: %d" % length, *more, b"", b""]
    )


def answer(stream: Any) -> tuple[int, bytes]:
    """The next status and body on a connection."""
    status = int(stream.readline().split()[1])
    length = 0
    while (line := stream.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        length = int(value) if name == b"content-length" else length
    return status, stream.read(length)


def reply_of(body: bytes, how: bytes = b"direct") -> tuple[int, bytes]:
    """What is answered to a body."""
    return 200, b"%d %d %s" % (len(body), zlib.crc32(body), how)


@contextmanager
def connected(port: int) -> Iterator[tuple[socket.socket, Any]]:
    """A connection, and what is read from it."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as connection,
        connection.makefile("rb") as stream,
    ):
        yield connection, stream


def test_a_body_is_whole_aligned_and_the_next_request_untouched(served: tuple[Bodies, int]) -> None:
    """Large ones and small ones on one connection, each with the next already behind it; one in two
    parts.
    """
    _, port = served
    small = b"x" * 1000
    with connected(port) as (connection, stream):
        sending = b"".join(
            [head(len(body)) + body for body in (MEGABYTES, small, MEGABYTES[1:], small)]
        )
        sender = threading.Thread(target=connection.sendall, args=(sending,))
        sender.start()
        assert [answer(stream) for _ in range(4)] == [
            reply_of(MEGABYTES),
            reply_of(small, b"bytes"),
            reply_of(MEGABYTES[1:]),
            reply_of(small, b"bytes"),
        ]
        sender.join()
        connection.sendall(head(len(MEGABYTES)))
        connection.sendall(MEGABYTES[:1000])
        connection.sendall(MEGABYTES[1000:])
        assert answer(stream) == reply_of(MEGABYTES)


def test_a_client_that_expects_100_continue_gets_it(served: tuple[Bodies, int]) -> None:
    """As curl does with what is larger than a megabyte."""
    _, port = served
    with connected(port) as (connection, stream):
        connection.sendall(head(len(MEGABYTES), b"expect: 100-continue"))
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert stream.readline() == b"\r\n"
        connection.sendall(MEGABYTES)
        assert answer(stream) == reply_of(MEGABYTES)


def test_a_client_that_leaves_in_the_middle_is_gone(served: tuple[Bodies, int]) -> None:
    """And the next one is served."""
    app, port = served
    with connected(port) as (connection, _):
        connection.sendall(head(len(MEGABYTES)) + MEGABYTES[: 1 << 20])
    app.wait_for("left")
    with connected(port) as (connection, stream):
        connection.sendall(head(len(MEGABYTES)) + MEGABYTES)
        assert answer(stream) == reply_of(MEGABYTES)


def test_a_client_that_is_late_is_answered_and_may_go_on(served: tuple[Bodies, int]) -> None:
    """The rest of its body is thrown away, and the request after it is a request."""
    app, port = served
    with connected(port) as (connection, stream):
        connection.sendall(head(len(MEGABYTES), b"x-allowed: 0.3") + MEGABYTES[: 1 << 20])
        status, _ = answer(stream)
        assert status == 504
        connection.sendall(MEGABYTES[1 << 20 :] + head(len(MEGABYTES)) + MEGABYTES)
        assert answer(stream) == reply_of(MEGABYTES)
    app.wait_for("late", "answered")


def test_what_has_come_takes_memory_and_no_more(served: tuple[Bodies, int]) -> None:
    """One that has declared 5 MB and sent 1 holds one; when two together are too many, the one that
    grows is refused and goes on.
    """
    app, port = served
    with connected(port) as (idle, waiting), connected(port) as (connection, stream):
        idle.sendall(head(len(MEGABYTES)) + MEGABYTES[: 4 << 20])
        ends_at = time.monotonic() + 10
        while app.body_budget.held < 4 << 20 and time.monotonic() < ends_at:
            time.sleep(0.005)
        assert app.body_budget.held == 4 << 20
        connection.sendall(head(3 << 20) + MEGABYTES[: 3 << 20])
        assert answer(stream) == reply_of(MEGABYTES[: 3 << 20])
        # 4 + 5 are more than 8, and that is known before it is read
        connection.sendall(head(len(MEGABYTES)))
        assert answer(stream)[0] == 429
        # all 8 are held now
        connection.sendall(MEGABYTES + head(4 << 20) + MEGABYTES[: (4 << 20) - 1])
        while app.body_budget.held < (8 << 20) - 1 and time.monotonic() < ends_at:
            time.sleep(0.005)
        idle.sendall(MEGABYTES[4 << 20 :] + head(1000) + MEGABYTES[:1000])
        assert answer(waiting)[0] == 429
        assert answer(waiting) == reply_of(MEGABYTES[:1000], b"bytes")
        connection.sendall(MEGABYTES[(4 << 20) - 1 : 4 << 20])
        assert answer(stream) == reply_of(MEGABYTES[: 4 << 20])
    app.wait_for("answered", "refused", "refused", "answered", "answered")
    assert app.body_budget.held == 0


def test_other_servers_are_left_alone() -> None:
    """A `receive` that is not uvicorn's is called for messages."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": MEGABYTES, "more_body": False}

    async def body() -> bytes | memoryview:
        headers = [(b"content-length", b"%d" % len(MEGABYTES))]
        scope = {"method": "POST", "path": "/", "headers": headers}
        deadline = RequestDeadline(time.monotonic(), 5)
        with AsgiRequest(scope, receive) as request:
            return await request.read_body(1 << 26, BodyReservation((), lambda: 1), deadline, AT)

    assert not direct_io.can_read_directly(receive)
    assert asyncio.run(body()) is MEGABYTES


def test_memory_is_used_again_once_it_is_free() -> None:
    """Not while a part of it is in use, nor for what is much smaller; and no more of it is kept
    than is allowed.
    """
    pool = direct_io.BufferPool(1_000_000)

    def address(memory: memoryview) -> int:
        return np.frombuffer(memory, np.uint8).ctypes.data

    first = direct_io.aligned_memory(400_000, AT, pool)
    at = address(first)
    part = np.frombuffer(first, np.uint8, 10, 1000)
    del first
    second = direct_io.aligned_memory(400_000, AT, pool)
    assert address(second) != at
    del part
    assert address(direct_io.aligned_memory(400_000, AT, pool)) == at
    assert address(direct_io.aligned_memory(100_000, AT, pool)) not in (at, address(second))
    large = direct_io.aligned_memory(900_000, AT, pool)
    assert pool.held_bytes <= 1_000_000
    assert (address(large) + AT) % direct_io.ALIGNMENT == 0


def test_one_turn_of_the_event_loop_reads_two_megabytes_at_most() -> None:
    """uvloop takes a buffer 32 times before other work has its turn, while there is something to
    read.
    """
    assert 32 * direct_io.MAX_READ_BYTES <= 2 << 20
