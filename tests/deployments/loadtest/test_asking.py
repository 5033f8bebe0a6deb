"""What a server says of itself is read no further and no longer than it may be."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from deployments.loadtest import asking
from deployments.loadtest.asking import ask


class Parts(httpx.SyncByteStream):
    """A body that comes in parts without an end; it counts them."""

    def __init__(self) -> None:
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.sent < 10_000:
            self.sent += 1
            yield b"0" * 100


def client_of(answer: httpx.Response) -> httpx.Client:
    """Of a server that gives one answer."""
    return httpx.Client(base_url="http://test", transport=httpx.MockTransport(lambda _: answer))


def test_an_answer_is_read():
    """With its status."""
    answer = ask(client_of(httpx.Response(404, json={"a": "é"})), "/", 5.0)
    assert (answer.status_code, answer.json()) == (404, {"a": "é"})
    with pytest.raises(httpx.HTTPStatusError):
        answer.raise_for_status()


def test_an_answer_that_is_too_large_is_not_read_on(monkeypatch: pytest.MonkeyPatch):
    """It might be anything."""
    monkeypatch.setattr(asking, "MOST_BYTES", 1000)
    parts = Parts()
    with pytest.raises(httpx.HTTPError, match="more than"):
        ask(client_of(httpx.Response(200, stream=parts)), "/", 5.0)
    assert parts.sent == 11


def test_an_answer_that_takes_too_long_is_not_awaited():
    """Though each part of it comes in time."""
    parts = Parts()
    with pytest.raises(httpx.HTTPError, match="not whole"):
        ask(client_of(httpx.Response(200, stream=parts)), "/", 0.0)
    assert parts.sent == 1
