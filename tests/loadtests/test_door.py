"""A server behind TLS and keys, and clients of load tests that come by them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loadtests import declare
from loadtests.faults.requests import WorkRequests, work_function
from loadtests.ledger import End, Ledger, client_of
from loadtests.server import OPEN, Door, closed, free_port, local

pytestmark = [pytest.mark.slow, pytest.mark.full]


def test_calls_come_by_tls_with_a_key_and_none_comes_without(tmp_path: Path) -> None:
    """The account says which."""
    door = closed(tmp_path)
    file = declare.write(tmp_path / "serve_config.yaml", [work_function(1)], door.http)

    async def ends(port: int, by: Door) -> Ledger:
        ledger = Ledger()
        async with client_of(ledger, port, WorkRequests("door", lambda _: 1.0), by) as client:
            await client.closed(2, lambda: ledger.sent < 4)
        return ledger

    with local(file, free_port(), tmp_path / "log", declare.ROOM, door=door) as server:
        assert server.url.startswith("https://")
        assert asyncio.run(ends(server.port, door)).is_good
        keyless = asyncio.run(ends(server.port, Door(context=door.context)))
        assert keyless.ends.keys() == {End.LOST}
        assert {reason.split()[2] for reason in keyless.reasons} == {"unauthorized"}
        assert asyncio.run(ends(server.port, OPEN)).ends.keys() == {End.LOST}
