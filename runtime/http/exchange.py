"""One HTTP exchange in plain ASGI: what its headers say, an answer or the error form out.

The hot routes use this instead of Starlette's Request and Response, which cost as much again as the rest of a short call.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence

from starlette.types import Scope, Send

from runtime import media
from runtime.batching.rows import TIMINGS, Call
from runtime.errors import WakefulError
from runtime.wire.jsontext import dumps

logger = logging.getLogger("wakeful.http")

Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
BINARY: Header = (b"content-type", b"application/octet-stream")

ID_LENGTH = 128
"""Of a request's id; the rest is cut off."""


def header(scope: Scope, name: bytes) -> bytes:
    """The first header of that name (lower case), empty when there is none."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return b""


def headers(scope: Scope, name: bytes) -> list[str]:
    """Every header of that name (lower case)."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def request_id(scope: Scope) -> str:
    """The caller's ``x-request-id``, or the one that the edge gave the request; printable and bounded."""
    text = header(scope, b"x-request-id")[:ID_LENGTH].decode("latin-1")
    return text if text.isprintable() else ""


async def send_json(send: Send, body: bytes, headers: Sequence[Header] = (), status: int = 200) -> None:
    """A whole JSON answer."""
    await send({"type": "http.response.start", "status": status, "headers": [JSON, (b"content-length", b"%d" % len(body)), *headers]})
    await send({"type": "http.response.body", "body": body})


async def send_chunks(send: Send, chunks: Sequence[bytes | memoryview], headers: Sequence[Header]) -> None:
    """A binary answer of several buffers, none of them joined here."""
    length = sum(len(chunk) for chunk in chunks)
    await send({"type": "http.response.start", "status": 200, "headers": [BINARY, (b"content-length", b"%d" % length), *headers]})
    for index, chunk in enumerate(chunks, 1):
        await send({"type": "http.response.body", "body": chunk, "more_body": index < len(chunks)})


def shown(error: Exception, identity: str) -> WakefulError:
    """What the caller sees of an error: one that is not of our tree reaches him as its request id only, and the log whole."""
    if isinstance(error, WakefulError):
        return error
    logger.error("request %s failed", identity, exc_info=error)
    return WakefulError("something failed here that is not the request's fault; the log has it under the request id.")


async def send_error(send: Send, error: Exception, identity: str) -> None:
    """The error form of what is ``shown``."""
    error = shown(error, identity)
    extra: list[Header] = []
    if error.retry_after_s is not None:
        extra.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    await send_json(send, dumps(error.body(identity)), extra, error.status)


def is_raw(scope: Scope, accepts: Sequence[str]) -> bool:
    """Whether the body is taken as it is, by what it says it is; False: it is JSON.

    Raises:
        UnsupportedMediaType: it says it is neither, with what to send.
    """
    return media.is_raw(header(scope, b"content-type").decode("latin-1"), accepts)


_TIMING = ", ".join([*(f"{name};dur=%.3f" for name in TIMINGS), "total;dur=%.3f"]).encode()


def server_timing(call: Call | None) -> Header:
    """``Server-Timing`` in milliseconds: what the call's time was made of, and the total."""
    if call is None:
        return (b"server-timing", b"total;dur=0")
    times = [call.timings[name] * 1000 for name in TIMINGS]
    return (b"server-timing", _TIMING % (*times, (time.monotonic() - call.started) * 1000))


def with_timing(sent: Sequence[Header], entries: bytes) -> list[Header]:
    """The headers of an answer with more entries in its ``Server-Timing``."""
    timing = b", ".join([*(value for name, value in sent if name == b"server-timing"), entries])
    return [*(pair for pair in sent if pair[0] != b"server-timing"), (b"server-timing", timing)]
