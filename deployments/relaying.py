"""Another host's answer, given on to the caller: whole, or as it comes where it streams."""

from __future__ import annotations

import asyncio
from typing import Final

import httpx
from starlette.types import Send

from deployments.standby import lengthen

_KEPT_HERE: Final = frozenset({b"connection", b"transfer-encoding", b"content-length", b"date", b"server", b"x-request-id", b"host"})


class Relay:
    """One answer.

    Attributes:
        has_begun: the caller has some of it, so nobody else may answer him.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def run(self, answer: httpx.Response, wait: asyncio.Timeout) -> None:
        """Gives it on.

        Args:
            answer: its head has been read.
            wait: of the call's deadline.

        Raises:
            httpx.TransportError: the other host is gone.
        """
        headers = [(key, value) for key, value in answer.headers.raw if key.lower() not in _KEPT_HERE]
        if "content-length" in answer.headers:
            content = await answer.aread()
            self.has_begun = True
            length = (b"content-length", b"%d" % len(content))
            await self._send({"type": "http.response.start", "status": answer.status_code, "headers": [*headers, length]})
            await self._send({"type": "http.response.body", "body": content})
            return
        lengthen(wait)
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        async for chunk in answer.aiter_raw():
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})
