"""What waits for one page, and when it is given up."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from runtime.http.catalogue.console import streams
from runtime.http.catalogue.console.streams import (
    HEARTBEAT,
    MOST_WAITING,
    PageStream,
    StreamResponse,
    write_event,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The loop of the server."""
    return "asyncio"


def test_an_event_is_one_line_of_json():
    """Whatever its texts have in them."""
    text = write_event("log", {"text": "a\nb\r\ndata: c"})
    head, data, end, rest = text.split(b"\n")
    assert (head, end, rest) == (b"event: log", b"", b"")
    assert orjson.loads(data.removeprefix(b"data: ")) == {"text": "a\nb\r\ndata: c"}


async def test_a_page_gets_what_it_is_told_in_order():
    """And nothing after the end."""
    stream = PageStream(None, "")
    for text in (b"1", b"2"):
        stream.put(text)
    stream.end()
    stream.put(b"3")
    assert [await stream.next() for _ in range(3)] == [b"1", b"2", None]


async def test_a_silent_server_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch):
    """By a comment, as often as proxies want it."""
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.01)
    stream = PageStream(None, "")
    assert await stream.next() == HEARTBEAT
    stream.put(b"1")
    assert await stream.next() == b"1"


def test_a_page_that_does_not_read_is_given_up():
    """Before it has cost more than the texts that wait; they are dropped."""

    async def main() -> None:
        stream = PageStream(None, "")
        for _ in range(MOST_WAITING):
            stream.put(b"x")
        assert not stream.is_over
        stream.put(b"x")
        assert stream.is_over
        assert await stream.next() is None

    asyncio.run(main())


class Client:
    """What ASGI's server is to a response."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.has_left = asyncio.Event()

    async def receive(self) -> Any:
        """The request has no body; then it waits until the client leaves."""
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Waits while the client does not read."""
        await self.may_read.wait()
        self.sent.append(message)


async def test_a_response_ends_with_its_stream():
    """With its last message, and says so once."""
    client, stream, ended = Client(), PageStream(None, ""), []
    stream.put(b"1")
    stream.end()
    await StreamResponse(stream, ended.append)({}, client.receive, client.send)
    assert client.sent[0]["status"] == 200
    assert [message.get("body") for message in client.sent[1:]] == [b"1", b""]
    assert not client.sent[-1].get("more_body")
    assert ended == [stream]


async def test_a_response_may_have_an_end():
    """Of which its page is told, so that it opens the next one at once."""
    client, stream, ended = Client(), PageStream(None, ""), []
    async with asyncio.timeout(30):
        await StreamResponse(stream, ended.append, 0.01)({}, client.receive, client.send)
    bodies = [message.get("body") for message in client.sent[1:]]
    assert bodies == [write_event("closing", {"is_moving": True}), b""]
    assert ended == [stream]


async def test_a_response_ends_with_its_client():
    """At once, also while nothing is told."""
    client, stream, ended = Client(), PageStream(None, ""), []
    running = asyncio.create_task(
        StreamResponse(stream, ended.append)({}, client.receive, client.send)
    )
    await asyncio.sleep(0)
    client.has_left.set()
    async with asyncio.timeout(30):
        await running
    assert stream.is_over
    assert ended == [stream]


async def test_a_client_that_does_not_read_gets_no_last_message(monkeypatch: pytest.MonkeyPatch):
    """So its connection is cut; what it had is free."""
    monkeypatch.setattr(streams, "SEND_S", 0.01)
    client, stream, ended = Client(), PageStream(None, ""), []
    stream.put(b"1")

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            client.may_read.clear()
        await client.send(message)

    await StreamResponse(stream, ended.append)({}, client.receive, send)
    assert [message["type"] for message in client.sent] == ["http.response.start"]
    assert ended == [stream]
