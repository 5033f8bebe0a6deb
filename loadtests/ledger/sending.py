"""Sends a request once and says what came of it, whatever comes."""

from __future__ import annotations

import asyncio
import time

from loadtests.http1 import BROKEN, Connection
from loadtests.ledger.outcome import Exchange, Request


async def send(connection: Connection, request: Request) -> Exchange:
    """The facts. The connection is closed unless all went well."""
    at, start = time.time(), time.perf_counter()
    headers = {"x-request-id": request.id, **request.headers}
    error, has_left, before = "", False, connection.done
    try:
        async with asyncio.timeout(request.patience_s):
            await connection.exchange("POST", request.path, request.body, headers)
    except TimeoutError:
        error, has_left = "no answer in time", request.leaves_after_s <= request.patience_s
    except asyncio.IncompleteReadError:
        error = "closed"
    except BROKEN as broken:
        error = type(broken).__name__
    seconds = time.perf_counter() - start
    if error:
        connection.close()
    return Exchange(at, seconds, connection.phase, connection.status, connection.headers, connection.body, error, has_left, before)
