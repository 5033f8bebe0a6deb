"""Open pages that see the same, and what they have been told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from runtime.http.catalogue.console.shapes import Decision, Entry, FailedCall, LogLine, ShownServer
from runtime.http.catalogue.console.sources import LogTail
from runtime.http.catalogue.console.streams import PageStream
from runtime.http.catalogue.key_view import KeyView


class Audience:
    """Pages that see the same. Mutable state: all of it.

    Attributes:
        sent: what they were told of functions, by name, in their order.
        server: what they were told of the server; empty: nothing yet.
        streams: the pages.
    """

    def __init__(self, view: KeyView | None) -> None:
        self.view = view
        self.sent: dict[str, Entry] = {}
        self.server: ShownServer | None = None
        self.streams: set[PageStream] = set()

    def tell(self, text: bytes, to: Iterable[PageStream] | None = None) -> None:
        """Tell them all, or these."""
        for stream in list(self.streams if to is None else to):
            stream.put(text)

    def server_as_seen(self, server: ShownServer) -> ShownServer:
        """Return what they may know of it: a key of some functions is told of no machine."""
        if self.view is None:
            return server
        return {"kind": server["kind"], "machines": [], "lacks": []}


class ShownFunction:
    """A function that pages of one audience show.

    Args:
        log: of the function; None: there is none.

    Mutable state: under ``lock`` what they were told: ``decisions``, ``failures``, ``lines`` (the
    last ones of its log), and ``is_known`` (it was asked for once); ``streams``, the pages, and
    ``told``, those of them that know what was known.
    """

    def __init__(self, name: str, audience: Audience, log: LogTail | None, no_log: str) -> None:
        self.name = name
        self.audience = audience
        self.no_log = "" if log else no_log
        self.log = log
        self.decisions: list[Decision] = []
        self.failures: list[FailedCall] = []
        self.lines: list[LogLine] = []
        self.is_known = False
        self.lock = asyncio.Lock()
        self.streams: set[PageStream] = set()
        self.told: set[PageStream] = set()
