"""A body that is read while its function wakes, by requests without a transport: what the wake holds
is given back whatever becomes of the body.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runtime.errors import MalformedBody, WakefulError
from runtime.http.exchange import AnyResponse, ClientDisconnected, Request
from runtime.http.library_handler import LibraryHandler
from tests.sleepers import Served, obedient, run, serving

PATH = "/v2/models/f"


class Sent(Request):
    """A request whose body comes once the function is loaded.

    Args:
        body: or what is wrong with it.
    """

    def __init__(self, served: Served, body: bytes | Exception) -> None:
        super().__init__("POST", PATH, [(b"content-type", b"application/json")])
        self.served, self.given, self.watched = served, body, 0

    async def _receive_body(self, *args: Any, **more: Any) -> bytes:
        while self.served.library.entries.require("f").function is None:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        if isinstance(self.given, Exception):
            raise self.given
        return self.given

    def watch(self) -> None:
        """See ``Request``."""
        self.watched += 1


@pytest.mark.parametrize(
    "body",
    [b'{"n": 1}', MalformedBody("no"), ClientDisconnected(), ZeroDivisionError()],
    ids=["it comes", "it is none", "its client disconnects", "it fails"],
)
def test_a_wake_is_given_back_whatever_becomes_of_the_body(tmp_path, body):
    """The function may sleep again, and no bytes are held."""

    async def work(served: Served) -> None:
        handler, request = LibraryHandler(served.library), Sent(served, body)
        answer: AnyResponse | None = None
        if isinstance(body, ClientDisconnected | ZeroDivisionError):
            with pytest.raises(type(body)):
                await handler.handle(request)
        else:
            answer = await handler.handle(request)
        request.end()
        entry = served.library.entries.find(PATH)
        assert entry is not None
        assert served.library.entries.require("f").function is not None
        assert (entry.is_busy, entry.leases.count, handler.exchanges) == (False, 0, 0)
        assert handler.body_budget.held == 0
        if isinstance(body, bytes):
            assert answer is not None
            assert getattr(answer, "status", 0) == 200
            assert request.watched == 1  # its client may disconnect while it is computed
        elif isinstance(body, WakefulError):
            assert getattr(answer, "status", 0) == 400

    run(serving(tmp_path, obedient("f", "waking")), work)
