"""The console over HTTP: the page, what it shows, and what its buttons do.

The page and its files say nothing of the server, and are open: the page asks its reader for a key
where one is wanted. All else is for this page alone: a browser says of a request of another site's
page where it comes from, and such a request is refused, whatever ``http.cors`` lets other pages do.
What changes a function's state carries the page's token besides, which no other page can read.
"""

from __future__ import annotations

import asyncio
import hmac
import importlib.metadata
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.errors import Forbidden, NotFound, WrongDatatype
from runtime.http.catalogue.console.details import describe_function
from runtime.http.catalogue.console.feed import ConsoleFeed
from runtime.http.catalogue.console.history import LONG_S, SHORT_S
from runtime.http.catalogue.console.page import ServedFile, console_page
from runtime.http.catalogue.console.shapes import PageSession
from runtime.http.catalogue.console.sources import ConsoleSources
from runtime.http.catalogue.console.streams import KEYED_S, StreamResponse
from runtime.http.catalogue.key_view import KeyView
from runtime.http.cors import is_foreign
from runtime.http.request_headers import key_name, key_scopes
from runtime.protocol.json_text import dumps

TOKEN: Final = b"x-console-token"

VERBS: Final[Mapping[str, str]] = MappingProxyType(
    {"wake": "load", "sleep": "unload", "pin": "pin", "unpin": "unpin"}
)
"""What the page's buttons do, in the words of the repository routes."""

Act = Callable[[Request, str, str], Awaitable[None]]
"""Does what a repository route does: of a request, the name of a function and the route's verb."""

_KEPT: Final = {"cache-control": "public, max-age=31536000, immutable"}
_SAFE: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class Console:
    """The console of a server.

    Args:
        sources: where it has what it shows.

    Attributes:
        feed: what tells its pages; the owner starts and closes it.
    """

    def __init__(self, sources: ConsoleSources) -> None:
        self.feed = ConsoleFeed(sources)
        self._sources = sources

    def routes(self, act: Act) -> list[Route]:
        """Return the routes.

        Args:
            act: raises a ``WakefulError`` where it cannot be done, or not for this request.
        """

        async def change(request: Request) -> Response:
            self._require_page(request)
            self._require_token(request)
            verb = VERBS.get(request.path_params["verb"])
            if verb is None:
                raise HTTPException(404)
            try:
                await act(request, request.path_params["name"], verb)
            finally:
                self.feed.notify_changed()
            return _json({})

        return [
            Route("/console", self._get_page),
            Route("/console/assets/{path:path}", self._get_asset),
            Route("/console/session", self._get_session),
            Route("/console/events", self._get_events),
            Route("/console/functions/{name}", self._get_function),
            Route("/console/functions/{name}/{verb}", change, methods=["POST"]),
        ]

    # The page.

    async def _get_page(self, request: Request) -> Response:
        page = await asyncio.to_thread(console_page)
        headers = {"content-security-policy": page.policy, "cache-control": "no-cache"}
        return _send_file(request, page.html, headers)

    async def _get_asset(self, request: Request) -> Response:
        page = await asyncio.to_thread(console_page)
        found = page.files.get(request.path_params["path"])
        if found is None:  # it is open without a key: no function is named, as elsewhere
            raise NotFound("the console has no such file.")
        return _send_file(request, found, _KEPT)

    # What it shows.

    async def _get_session(self, request: Request) -> Response:
        self._require_page(request)
        page = await asyncio.to_thread(console_page)
        fields = _fields(request)
        scopes = key_scopes(fields)
        session: PageSession = {
            "token": self._sources.facts.token,
            "version": importlib.metadata.version("wakeful"),
            "assets": page.digest,
            "kind": self._sources.kind,
            "can": ["call", "look", "operate"] if scopes is None else list(scopes),
            "key": key_name(fields),
            "asks_for_keys": bool(key_name(fields)),
        }
        return _json(session)

    async def _get_events(self, request: Request) -> Response:
        self._require_page(request)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        function = request.query_params.get("function", "")
        stream = await self.feed.open(_view(request), function)
        lasts_s = KEYED_S if key_name(_fields(request)) else None
        return StreamResponse(stream, self.feed.forget, lasts_s)

    async def _get_function(self, request: Request) -> Response:
        self._require_page(request)
        name, view, step_s = request.path_params["name"], _view(request), _read_step(request)
        await self.feed.look()
        entry = self.feed.require(view, name)
        declared = await asyncio.to_thread(self._sources.describe, name)
        if declared is None:
            raise NotFound("no function is named so.")
        seen = None if view is None else view.functions
        details = describe_function(declared, entry, seen=seen)
        decisions, errors = await self.feed.decisions_and_errors(view, name)
        details["history"] = self.feed.history.of(name, step_s)
        details["decisions"], details["errors"] = decisions, errors
        return _json(details)

    # Whose request it is.

    def _require_page(self, request: Request) -> None:
        if is_foreign(request.method, request.url.path, _fields(request), pages=()):
            raise Forbidden(
                "this is for the page at `console` alone, and a page of another site has sent it."
            )

    def _require_token(self, request: Request) -> None:
        sent = _fields(request).get(TOKEN, b"")
        if not hmac.compare_digest(sent, self._sources.facts.token.encode()):
            raise Forbidden(
                "the header `x-console-token` is wanted, with the `token` of `console/session`."
                " Programs use /v2/repository/models/NAME/load, unload, pin and unpin."
            )


def _read_step(request: Request) -> int:
    step = request.query_params.get("step", str(SHORT_S))
    if step not in (str(SHORT_S), str(LONG_S)):
        raise WrongDatatype(f"{SHORT_S} or {LONG_S} is wanted.", where="step")
    return int(step)


def _fields(request: Request) -> Mapping[bytes, bytes]:
    return dict(reversed(request.scope["headers"]))


def _view(request: Request) -> KeyView | None:
    return KeyView.of(request.scope["headers"])


def _json(content: Any) -> Response:
    headers = {"cache-control": "no-store", **_SAFE}
    return Response(dumps(content), media_type="application/json", headers=headers)


def _send_file(request: Request, file: ServedFile, headers: Mapping[str, str]) -> Response:
    coding = file.choose(request.headers.getlist("accept-encoding"))
    named = {"content-encoding": coding} if coding else {}
    return Response(
        file.codings[coding],
        media_type=file.media_type,
        headers={**headers, **_SAFE, "vary": "accept-encoding", **named},
    )
