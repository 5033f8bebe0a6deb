"""Answers in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Send

from runtime.http.bodies import chunks
from runtime.http.exchange import Response, json_response


def test_a_long_binary_answer_is_sent_in_pieces(monkeypatch) -> None:
    """The server copies each before it writes it; what is short stays whole."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Response([b"head", memoryview(b"0123456789"), b""]).send_to(send))
    assert dict(sent[0]["headers"])[b"content-length"] == b"14"
    assert [(bytes(message["body"]), message["more_body"]) for message in sent[1:]] == [
        (b"head", True), (b"0123", True), (b"4567", True), (b"89", True), (b"", False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        lambda send: json_response(b"0123456789").send_to(send),
        lambda send: Response([b"01", memoryview(b"23456789")]).send_to(send),
    ],
    ids=["text", "tensors"],
)
def test_everything_else_has_its_turn_between_the_pieces_of_a_long_answer(
    monkeypatch, answer: Callable[[Send], Awaitable[None]]
) -> None:
    """Also where the client reads as fast as this writes, and no piece waits for the one before."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4)
    order: list[bytes | str] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            order.append(bytes(message["body"]))

    async def sent() -> None:
        loop = asyncio.get_running_loop()

        def turn() -> None:
            order.append("turn")
            loop.call_soon(turn)

        loop.call_soon(turn)
        await answer(send)

    asyncio.run(sent())
    long = [index for index, what in enumerate(order) if len(what) == 4 and what != "turn"]
    assert len(long) == 2
    assert all(order[index + 1] == "turn" for index in long), order
