"""Every function of a library behind one application: whose prefix a path is under answers, and wakes for it."""

from __future__ import annotations

import math
import time
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.errors import NotFound, WakefulError
from runtime.holding import Holding
from runtime.http import exchange
from runtime.http.aside import Aside
from runtime.http.bodies import Room
from runtime.http.catalogue_app import catalogue as catalogue_of
from runtime.http.function_app import FunctionApp, other
from runtime.http.patience import Patience, patience_of
from runtime.library import Library
from runtime.witness.condemned import Condemned
from runtime.wording import did_you_mean

BODIES: Final = 2
"""Bodies in flight may hold the memory that functions may hold, over this: a quarter of what was free, where functions have half."""


class LibraryApp:
    """The longest prefix on whole path segments wins, as in HAProxy. ``scope["path"]`` is the whole path, wherever this is mounted.

    Args:
        library: not closed here.
        catalogue: whether the rest of the URLs is the catalogue's; otherwise a path that is no function's is 404.
        condemned: as of ``FunctionApp``.

    Attributes:
        room: for the bodies in flight of all functions.
        prefix: where it is mounted, for who serves it; nothing here depends on it.
        exchanges: HTTP exchanges that have begun and not ended, those that wait for a wake included.
    """

    def __init__(self, library: Library, *, catalogue: bool = False, condemned: Condemned | None = None) -> None:
        self._library = library
        self._condemned = condemned
        self._aside = Aside()
        self.room = Room(lambda: math.inf if library.budget_bytes is None else library.budget_bytes / BODIES)
        self._rest: ASGIApp = catalogue_of(self._index, metrics=library.metrics.text) if catalogue else self._nobody
        self.prefix = ""
        self.exchanges = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One exchange, or the lifespan."""
        if scope["type"] != "http":
            await other(scope, receive, send)
            return
        holding = self._library.find(scope["path"])
        if holding is None:
            await self._rest(scope, receive, send)
            return
        began = time.monotonic()
        patience = patience_of(dict(scope["headers"]), holding.spec.limits.request_timeout_s, began, time.time())
        self.exchanges += 1
        try:
            if holding.function is None:
                await self._wake(holding, scope, receive, send, began, patience)
                return
            holding.lease()
            streams = holding.function.streams  # how long a stream lasts says nothing of how soon one is answered
            try:
                await self._answer(holding, scope, receive, send, patience)
            finally:
                self._library.leave(holding, began)
            if scope["method"] == "POST" and not streams:
                holding.note(began, holding.last_used)
        finally:
            self.exchanges -= 1

    async def _answer(self, holding: Holding, scope: Scope, receive: Receive, send: Send, patience: Patience) -> None:
        """The function is loaded and leased."""
        app = holding.app
        if app is None:
            assert holding.function is not None
            app = holding.app = FunctionApp(holding.function, self._condemned, room=self.room, aside=self._aside)
        await app({**scope, "root_path": holding.spec.route_prefix}, receive, send, patience)

    async def _wake(self, asleep: Holding, scope: Scope, receive: Receive, send: Send, began: float, patience: Patience) -> None:
        """Waits for the function; the first answer after its cold start says what that was made of."""
        try:
            left_s = patience.left_s(began)
            if left_s <= 0:
                raise patience.over()
            holding = await self._library.awake(asleep.name, arrived=began, timeout_s=left_s)
        except WakefulError as error:
            await exchange.send_error(send, error, exchange.request_id(scope))
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start" and (record := self._library.answered(holding)) is not None:
                message["headers"] = exchange.with_timing(message["headers"], record.server_timing())
            await send(message)

        try:
            await self._answer(holding, scope, receive, told, patience)
        finally:
            self._library.answered(holding)  # a caller who left without an answer
            self._library.leave(holding, began)

    async def _nobody(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        hint = did_you_mean(path[:128], self._library.near(path))
        error = NotFound(f"no function answers here{hint or '; the catalogue lists those that are declared.'}")
        await exchange.send_error(send, error, exchange.request_id(scope))

    async def _index(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "state": (state := self._library.state(name)).state, "url": spec.route_prefix, "reason": state.reason,
             "description": spec.description}
            for name, spec in self._library.specs.items()
        ]  # fmt: skip
