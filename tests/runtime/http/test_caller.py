"""The caller of one exchange: slow, gone, or too generous."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from runtime.errors import DeadlineExceeded, Overloaded, SlowUpload, TooLarge, UnsupportedMediaType
from runtime.http import caller
from runtime.http.bodies import Parcel, Room
from runtime.http.caller import Caller, Disconnected
from runtime.http.patience import Patience

Receive = Callable[[], Awaitable[dict[str, Any]]]


def sends(*messages: dict[str, Any]) -> Receive:
    """A caller who sends these, and then nothing more."""
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


async def served(
    receive: Receive, *, headers: list[tuple[bytes, bytes]] = (), works: bool = False, allowed_s: float = 30.0, held: int = 0
) -> bytes:
    """His body, after work that never ends if ``works``, where others hold so many of 20 bytes."""
    room = Room(lambda: 20)
    room.held = held
    patience = Patience(time.monotonic(), allowed_s)
    async with Caller({"type": "http", "headers": list(headers)}, receive, patience) as one:
        body = await one.body(10, Parcel((room,), lambda: 1))
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
        ([part(b"")], [(b"content-encoding", b"gzip")], UnsupportedMediaType),
        ([part(b"x", more=True), GONE], [], Disconnected),
    ],
)
def test_what_is_not_read(messages, headers, error):
    """Too large by its pieces or by what it says, compressed, or never finished."""
    with pytest.raises(error):
        asyncio.run(served(sends(*messages), headers=headers))


def test_a_slow_upload_ends(monkeypatch):
    """A body that does not come is 408, and the task goes on uncancelled."""
    monkeypatch.setattr(caller, "UPLOAD_TIMEOUT_S", 0.01)
    with pytest.raises(SlowUpload):
        asyncio.run(served(sends(part(b"x", more=True))))


def test_a_body_slower_than_its_caller_ends():
    """His time is over before the body is there: 504, not 408."""
    with pytest.raises(DeadlineExceeded):
        asyncio.run(served(sends(part(b"x", more=True)), allowed_s=0.01))


def test_a_body_without_room_is_not_read():
    """By what it says before a byte of it came, or as it comes."""
    unread = sends()
    with pytest.raises(Overloaded):
        asyncio.run(served(unread, headers=[(b"content-length", b"10")], held=11))
    with pytest.raises(Overloaded):
        asyncio.run(served(sends(part(b"x" * 5, more=True), part(b"x" * 5)), held=11))
    assert asyncio.run(served(sends(part(b"x" * 9)), headers=[(b"content-length", b"9")], held=11)) == b"x" * 9


def test_a_caller_who_leaves_ends_the_work(monkeypatch):
    """What is awaited for him is cancelled, and the cancellation does not leave the block."""
    monkeypatch.setattr(caller, "WATCH_AFTER_S", 0.01)
    with pytest.raises(Disconnected):
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
