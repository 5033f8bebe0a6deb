"""The caller of one exchange: slow, gone, or too generous."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from runtime.batching.reservation import BodyReservation, ByteBudget
from runtime.errors import DeadlineExceeded, Overloaded, SlowUpload, TooLarge, UnsupportedMediaType
from runtime.http import asgi
from runtime.http.asgi import AsgiRequest
from runtime.http.bodies import chunks
from runtime.http.exchange import ClientDisconnected
from runtime.http.request_headers import RequestDeadline

Receive = Callable[[], Awaitable[dict[str, Any]]]


def sends(*messages: dict[str, Any]) -> Receive:
    """A client that sends these, and then nothing more."""
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return receive


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    """A piece of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    """Of a request."""
    return {"type": "http", "method": "POST", "path": "/f", "headers": list(headers)}


async def served(
    receive: Receive,
    *,
    headers: list[tuple[bytes, bytes]] = (),
    works: bool = False,
    allowed_s: float = 30.0,
    held: int = 0,
) -> bytes:
    """Its body, after work that never ends if ``works``, where others hold so many of 20 bytes."""
    budget = ByteBudget(lambda: 20)
    budget.held = held
    deadline = RequestDeadline(time.monotonic(), allowed_s)
    with AsgiRequest(scope(*headers), receive) as request:
        body = await request.read_body(10, BodyReservation((budget,), lambda: 1), deadline)
        if works:
            await asyncio.Event().wait()
        return body


def test_a_body_in_pieces_is_one():
    """Pieces are joined, a body in one piece is not copied."""
    assert asyncio.run(served(sends(part(b"ab", more=True), part(b"cd")))) == b"abcd"


@pytest.mark.parametrize(
    ("messages", "headers", "error"),
    [
        ([part(b"x" * 11)], [], TooLarge),
        ([part(b"x" * 6, more=True), part(b"x" * 6)], [], TooLarge),
        ([], [(b"content-length", b"11")], TooLarge),
        ([part(b"")], [(b"content-encoding", b"br")], UnsupportedMediaType),
        ([part(b"x", more=True), GONE], [], ClientDisconnected),
    ],
)
def test_what_is_not_read(messages, headers, error):
    """Too large by its pieces or by what it says, compressed, or never finished."""
    with pytest.raises(error):
        asyncio.run(served(sends(*messages), headers=headers))


def test_a_slow_upload_ends(monkeypatch):
    """A body that does not come is 408, and the task goes on uncancelled."""
    monkeypatch.setattr(asgi, "UPLOAD_TIMEOUT_S", 0.01)
    with pytest.raises(SlowUpload):
        asyncio.run(served(sends(part(b"x", more=True))))


def test_a_body_slower_than_its_caller_ends():
    """Its deadline passes before the body is there: 504, not 408."""
    with pytest.raises(DeadlineExceeded):
        asyncio.run(served(sends(part(b"x", more=True)), allowed_s=0.01))


def test_a_body_beyond_the_budget_is_not_read():
    """By what it says before a byte of it came, or as it comes."""
    unread = sends()
    with pytest.raises(Overloaded):
        asyncio.run(served(unread, headers=[(b"content-length", b"10")], held=11))
    with pytest.raises(Overloaded):
        asyncio.run(served(sends(part(b"x" * 5, more=True), part(b"x" * 5)), held=11))
    assert (
        asyncio.run(served(sends(part(b"x" * 9)), headers=[(b"content-length", b"9")], held=11))
        == b"x" * 9
    )


def test_a_body_that_is_declared_and_does_not_come_takes_no_memory():
    """Four connections that declared the most and sent nothing stopped a function for 30 s."""

    async def main() -> tuple[int, int]:
        budget = ByteBudget(lambda: 100)

        async def reads(receive: Receive) -> bytes:
            with AsgiRequest(scope((b"content-length", b"90")), receive) as request:
                deadline = RequestDeadline(time.monotonic(), 30)
                return await request.read_body(100, BodyReservation((budget,), lambda: 1), deadline)

        idle = [
            asyncio.create_task(reads(sends(*first))) for first in ([], [], [part(b"x", more=True)])
        ]
        await asyncio.sleep(0.01)
        held = budget.held
        body = await reads(sends(part(b"x" * 90)))
        for one in idle:
            one.cancel()
        await asyncio.gather(*idle, return_exceptions=True)
        return held, len(body)

    assert asyncio.run(main()) == (1, 90)


def test_a_long_body_in_pieces_is_joined_beside_the_loop(monkeypatch):
    """And is the same."""
    monkeypatch.setattr(chunks, "JOIN_IN_THREAD_BYTES", 4)
    assert (
        asyncio.run(
            served(
                sends(
                    part(b"ab", more=True), part(b"", more=True), part(b"cd", more=True), part(b"")
                )
            )
        )
        == b"abcd"
    )


def test_a_disconnect_ends_the_work(monkeypatch):
    """What is awaited for it is cancelled, and the cancellation does not leave the block."""
    monkeypatch.setattr(asgi, "WATCH_AFTER_S", 0.01)
    with pytest.raises(ClientDisconnected):
        asyncio.run(served(sends(part(b"x"), GONE), works=True))


def test_a_cancellation_from_elsewhere_stays_one():
    """Only what ended here is turned into an exception of ours."""

    async def main() -> None:
        task = asyncio.create_task(served(sends(part(b"x")), works=True))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
