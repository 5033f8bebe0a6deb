"""What is served, described: ``/openapi.json`` for programs, ``/docs`` for people.

The page is Swagger UI, which ships in ``assets/``: nothing comes from elsewhere, and the page may
load nothing from elsewhere. Its files are named with a hash of their content, so that a browser
keeps them until another version is served.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.http.catalogue.key_view import KeyView
from runtime.http.catalogue.openapi import Describe, OpenApiText

ASSETS: Final = Path(__file__).parent / "assets"

_MEDIA_TYPES: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "docs.js": "text/javascript",
}
"""The files of the page."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    " media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
_SAFETY: Final = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


def openapi_routes(describe: Describe, paths: Sequence[str]) -> list[Route]:
    """Return the routes.

    Args:
        paths: of the catalogue's other routes.
    """
    return [
        Route("/openapi.json", _Document(OpenApiText(describe, paths)).answer),
        Route("/docs", _get_page),
        Route("/docs/{file}", _get_asset),
    ]


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
            view = KeyView.of(request.scope["headers"])
            seen = None if view is None else view.functions
            text, tag = await asyncio.to_thread(self._text.read, seen)
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(text, media_type="application/json", headers=headers)


class _Asset(NamedTuple):
    """A file of the page."""

    content: bytes
    media_type: str


class _Page(NamedTuple):
    """The page, and its files by the names that it has for them."""

    html: bytes
    assets: dict[str, _Asset]


@functools.cache
def _page() -> _Page:
    """Read once a process: two megabytes, which a process has that is asked for the page."""
    html, assets = (ASSETS / "docs.html").read_text(encoding="utf-8"), {}
    for name, media_type in _MEDIA_TYPES.items():
        content = (ASSETS / name).read_bytes()
        stem, _, suffix = name.rpartition(".")
        known = f"{stem}.{hashlib.sha256(content).hexdigest()[:16]}.{suffix}"
        assets[known] = _Asset(content, media_type)
        html = html.replace(f'"docs/{name}"', f'"docs/{known}"')
    return _Page(html.encode(), assets)


async def _get_page(request: Request) -> Response:
    page = await asyncio.to_thread(_page)
    headers = {"content-security-policy": _POLICY, "cache-control": "no-cache", **_SAFETY}
    return Response(page.html, media_type="text/html", headers=headers)


async def _get_asset(request: Request) -> Response:
    page = await asyncio.to_thread(_page)
    asset = page.assets.get(request.path_params["file"])
    if asset is None:
        raise HTTPException(404)
    headers = {"cache-control": "public, max-age=31536000, immutable", **_SAFETY}
    return Response(asset.content, media_type=asset.media_type, headers=headers)
