"""``/openapi.json``: what is served, described for programs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.http.catalogue.openapi import Describe, OpenApiText


def openapi_routes(describe: Describe, paths: Sequence[str]) -> list[Route]:
    """Return the routes.

    Args:
        paths: of the catalogue's other routes.
    """
    return [Route("/openapi.json", _Document(OpenApiText(describe, paths)).answer)]


class _Document:
    """Written in a thread, by one request at a time.

    Mutable state: ``_lock``.
    """

    def __init__(self, text: OpenApiText) -> None:
        self._text = text
        self._lock = asyncio.Lock()

    async def answer(self, request: Request) -> Response:
        """Send the document, unless the client has this one."""
        async with self._lock:
            text, tag = await asyncio.to_thread(self._text.read)
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(text, media_type="application/json", headers=headers)
