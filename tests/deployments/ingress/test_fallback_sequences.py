"""Sequences through Serve's proxy: a call reaches the replica that has its sequence, whichever one
Serve chooses first.
"""

from __future__ import annotations

import itertools
import time

import httpx
import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from deployments.ingress.replay import ReplayProxy
from deployments.ingress.sequence_routing import (
    LEARNS_S,
    REPLICA,
    SEQUENCE,
    FallbackSequences,
)
from deployments.ingress.wake_signal import ReplayTerms
from runtime.errors import DeadlineExceeded

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    """The one event loop that serves."""
    return "asyncio"


class Serve:
    """Two replicas, asked in turn."""

    def __init__(self) -> None:
        self.replicas = itertools.cycle(
            FallbackSequences(JSONResponse({"by": name}), name) for name in ("one", "two")
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await next(self.replicas)(scope, receive, send)


@pytest.fixture
async def client():
    """A client of the proxy, which holds calls for a second."""
    proxy = ReplayProxy(Serve())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await proxy(
            scope,
            receive,
            send,
            prefix="/f",
            terms=ReplayTerms(10.0, 4 << 20, 3, 8 << 20),
            deadline=time.monotonic() + 1,
            expired_error=DeadlineExceeded("late.", retry_after_s=1),
        )

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://proxy"
    ) as client:
        yield client


def word(ago_s: float) -> str:
    """Of a sequence that began so long ago."""
    return str(round((time.time() - ago_s) * 1e6))


async def test_a_start_says_which_replica_has_the_sequence(client):
    """HAProxy knows only that the proxy answered. A call of no sequence says nothing."""
    for name in ("one", "two"):
        answer = await client.post("/f", headers={SEQUENCE: word(0)})
        assert (answer.json(), answer.headers[REPLICA]) == ({"by": name}, name)
    assert REPLICA not in (await client.post("/f")).headers


async def test_a_call_reaches_the_replica_of_its_sequence(client):
    """The other one does not answer it."""
    for name in ("two", "two", "one", "one"):
        answer = await client.post("/f", headers={SEQUENCE: word(1), REPLICA: name})
        assert answer.json() == {"by": name}


async def test_a_sequence_without_its_replica_is_not_waited_for(client):
    """Any replica answers: it does not know the sequence."""
    headers = {SEQUENCE: word(LEARNS_S), REPLICA: "gone"}
    assert (await client.post("/f", headers=headers)).json() == {"by": "one"}
    headers = {SEQUENCE: word(0), REPLICA: "gone"}
    assert (await client.post("/f", headers=headers)).status_code == 504
