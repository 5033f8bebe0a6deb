"""Looks at functions, and tells open pages what is new: once for all that see the same.

Theory of operation. One task looks again and again. While no page is open it takes what was counted
each ``SHORT_S`` for the history, and nothing else. While one is, it looks at the functions each
``poll_s``, and within ``LEAST_S`` of a change that it is told of (``notify_changed``); each
``SAMPLE_S`` it takes what was counted, and tells numbers. Pages that see the same (a key's
functions, or everything) are one *audience*: what they are told is compared with what the audience
was told before, and written once. A page that opens is told what its audience knows. Logs,
decisions and errors of functions that pages show are read by another task, since disks may be slow.

A look that fails is logged, and the next one is made in its time: the pages show what they have.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from runtime.errors import Draining, NotFound, TooManyConsoles
from runtime.http.catalogue.console.audiences import Audience, ShownFunction
from runtime.http.catalogue.console.changes import compare, new_decisions, to_entry
from runtime.http.catalogue.console.history import (
    LENGTHS,
    LONG_S,
    SAMPLE_S,
    SHORT_S,
    CountHistory,
)
from runtime.http.catalogue.console.shapes import Decision, Entry, FailedCall, LogLine
from runtime.http.catalogue.console.sources import ConsoleSources
from runtime.http.catalogue.console.streams import PageStream, write_event
from runtime.http.catalogue.key_view import KeyView
from runtime.system.telemetry.recent_failures import RecentFailure

logger = logging.getLogger("wakeful.console")

LEAST_S: Final = 0.25
"""Between two looks, however much changes."""

LOG_S: Final = 1.0
"""Between two looks at logs, decisions and errors of functions that are shown."""

MOST_STREAMS: Final = 64
"""Pages that are open at once, at one process."""

MOST_LINES: Final = 300
"""Lines of a log that a page which opens is told, the last ones."""

AGAIN: Final = 2
"""Steps of a history that are told once more with the next one."""

FAILED_S: Final = 2.0
"""After a look that failed."""

FIRST_S: Final = 1.5
"""From the beginning of a history until what was counted is asked for first, before a step is over:
what an older process answers first is of the past. By then those that began together answer.
"""


def next_look_s(
    now: float,
    *,
    looked_at: float,
    counted_at: float,
    poll_s: float,
    is_dirty: bool,
    has_streams: bool,
) -> float:
    """Return the seconds until there is something to do.

    Args:
        now, looked_at, counted_at: seconds since the epoch: now, and at the last looks.
        poll_s: between two looks at functions while nothing says that something has changed.
        is_dirty: something has.
        has_streams: pages are open.
    """
    step_s = SAMPLE_S if has_streams else SHORT_S
    if now < counted_at:  # the clock was set back
        return 0.0
    wait_s = (counted_at // step_s + 1) * step_s - now
    if has_streams:
        look_at = looked_at + (LEAST_S if is_dirty else max(LEAST_S, poll_s))
        wait_s = min(wait_s, look_at - now)
    return max(0.0, wait_s)


class ConsoleFeed:
    """Tells pages what is new. Used on one event loop.

    Args:
        sources: where it has that from.
        clock: seconds since the epoch.

    Attributes:
        history: of what was counted.

    Mutable state: ``_audiences`` (by view), ``_shown`` (by view and function); ``_entries`` (at the
    last look), ``_errors`` (of the last minute); ``_looked_at``, ``_counted_at`` and
    ``_logged_at``, seconds since the epoch; ``_first_at``, likewise, when what was counted is to be
    asked for first, infinite once it was; ``_is_dirty`` (something has changed since the look),
    ``_woken`` (there may be something to do); ``_task``, and ``_telling``, which reads logs, from
    its first time on; ``_is_closed``.
    """

    def __init__(
        self,
        sources: ConsoleSources,
        clock: Callable[[], float] = time.time,
    ) -> None:
        now = clock()
        self.history = CountHistory(now)
        self._sources = sources
        self._clock = clock
        self._audiences: dict[KeyView | None, Audience] = {}
        self._shown: dict[tuple[KeyView | None, str], ShownFunction] = {}
        self._entries: list[Entry] = []
        self._errors: Mapping[str, Mapping[str, int]] = {}
        self._looked_at = self._logged_at = 0.0
        self._counted_at = now
        self._first_at = now + FIRST_S
        self._is_dirty = False
        self._woken = asyncio.Event()
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def streams(self) -> int:
        """Pages that are open."""
        return sum(len(audience.streams) for audience in self._audiences.values())

    def start(self) -> None:
        """Look from now on, until ``close``. Idempotent."""
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name="console")

    def notify_changed(self) -> None:
        """A function's state has changed; it costs nothing while no page is open."""
        if not self._is_dirty:
            self._is_dirty = True
            if self._audiences:
                self._woken.set()

    def end_streams(self) -> None:
        """The server ends: pages are told so, and reconnect."""
        self._is_closed = True
        self._close_all(is_moving=False)

    def move_streams(self) -> None:
        """What leads pages here has been replaced, and would stay for them: they reconnect."""
        self._close_all(is_moving=True)

    def _close_all(self, *, is_moving: bool) -> None:
        for audience in list(self._audiences.values()):
            for stream in list(audience.streams):
                stream.close(is_moving=is_moving)

    async def close(self) -> None:
        """End all of it. Idempotent."""
        self.end_streams()
        tasks = [task for task in (self._task, self._telling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Pages.

    async def open(self, view: KeyView | None, function: str) -> PageStream:
        """Return what a page is told from now on; the caller ends it with ``forget``.

        Args:
            function: that it shows; empty: none.

        Raises:
            NotFound: no such function is there for it to see.
            TooManyConsoles: as many pages are open as may be.
            Draining: the server ends.
        """
        self._refuse_stream()
        await self.look()
        if function:
            self.require(view, function)
        self._refuse_stream()
        self.start()
        stream = PageStream(view, function)
        audience = self._audiences.get(view)
        if audience is None:
            audience = self._audiences[view] = Audience(view)
            _, audience.sent = compare({}, self._seen(view), with_numbers=True)
        self._tell_first(audience, stream)
        audience.streams.add(stream)  # nothing is told of between
        try:
            if audience.server is None:
                audience.server = audience.server_as_seen(await self._sources.server())
            stream.put(write_event("server", audience.server))
            if function:
                await self._show(audience, stream)
        except BaseException:
            self.forget(stream)
            raise
        self._woken.set()
        return stream

    def forget(self, stream: PageStream) -> None:
        """A page is closed. Idempotent."""
        view = stream.view
        if (audience := self._audiences.get(view)) is not None:
            audience.streams.discard(stream)
            if not audience.streams:
                del self._audiences[view]
        if (shown := self._shown.get((view, stream.function))) is not None:
            shown.streams.discard(stream)
            shown.told.discard(stream)
            if not shown.streams:
                del self._shown[view, stream.function]

    def require(self, view: KeyView | None, function: str) -> Entry:
        """Return a function's entry at the last look.

        Raises:
            NotFound: there is none, or it is not seen.
        """
        if view is not None:
            stage_of = {entry["name"]: entry["part_of"] for entry in self._entries}
            view.require(stage_of.get(function) or function)
        for entry in self._seen(view):
            if entry["name"] == function:
                return entry
        raise NotFound("no function is named so.")

    async def look(self) -> None:
        """Look now, for a request, unless that was done within ``LEAST_S`` and nothing has changed
        since: however many requests there are, there are few looks.
        """
        async with self._looking:
            if self._is_dirty or not 0.0 <= self._clock() - self._looked_at < LEAST_S:
                await self._look(with_numbers=False)

    async def decisions_and_errors(
        self, view: KeyView | None, function: str
    ) -> tuple[list[Decision], list[FailedCall]]:
        """Return what is known of one function now."""
        news = await self._sources.told.news(function)
        decisions, failures = list(news.decisions), _failed_calls(news.failures)
        if view is None:
            return decisions, failures
        return (
            cast("list[Decision]", view.texts(decisions, "why", self._entries)),
            cast("list[FailedCall]", view.texts(failures, "message", self._entries)),
        )

    def _refuse_stream(self) -> None:
        if self._is_closed:
            raise Draining(
                "this server is ending and takes nothing new; call again, another one answers.",
                retry_after_s=1,
            )
        if self.streams >= MOST_STREAMS:
            raise TooManyConsoles(
                f"{MOST_STREAMS} pages of the console are open, as many as may be. Close one, or"
                " look at `/`, which is JSON for programs.",
                retry_after_s=10,
            )

    def _tell_first(self, audience: Audience, stream: PageStream) -> None:
        everything = {"all": True, "functions": list(audience.sent.values()), "removed": []}
        stream.put(write_event("functions", everything))
        names = _names(stream.view)
        stream.put(write_event("samples", self.history.samples(LENGTHS[SAMPLE_S], names)))

    async def _show(self, audience: Audience, stream: PageStream) -> None:
        """A page shows a function: it is told what others know that show it, or all there is."""
        key = stream.view, stream.function
        shown = self._shown.get(key)
        if shown is None:
            open_log, no_log = self._sources.facts.open_log, self._sources.facts.no_log
            log = None if open_log is None else open_log(stream.function)
            shown = self._shown[key] = ShownFunction(stream.function, audience, log, no_log)
        shown.streams.add(stream)
        async with shown.lock:
            if not shown.is_known:
                await self._learn(shown)
            stream.put(write_event("decisions", {"decisions": shown.decisions}))
            stream.put(write_event("errors", {"errors": shown.failures}))
            first = {"all": True, "lines": shown.lines, "why": shown.no_log}
            stream.put(write_event("log", first))
            shown.told.add(stream)

    # Looks.

    @property
    def _keeps_history(self) -> bool:
        return bool(self._audiences) or self._sources.told.keeps_history()

    async def _run(self) -> None:
        while not self._is_closed:
            now = self._clock()
            wait_s = next_look_s(
                now,
                looked_at=self._looked_at,
                counted_at=self._counted_at,
                poll_s=self._sources.poll_s(),
                is_dirty=self._is_dirty,
                has_streams=bool(self._audiences),
            )
            if self._keeps_history:
                wait_s = min(wait_s, max(0.0, self._first_at - now))
            if wait_s:
                # a page that opens, or a change, may be something to do earlier
                self._woken.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._woken.wait()
                continue
            try:
                await self._do_due()
            except Exception:  # of any source; the pages show what they have
                logger.warning("the console got no answer; it asks again", exc_info=True)
                await asyncio.sleep(FAILED_S)

    async def _do_due(self) -> None:
        now = self._clock()
        step_s = SAMPLE_S if self._audiences else SHORT_S
        over: Mapping[int, float] = {}
        if now < self._counted_at:  # the clock was set back
            if now < self._counted_at - SHORT_S:
                # what is known is of a time to come, and nothing would be added until it has come
                self._begin_again(now)
                self.move_streams()
            self._counted_at = self._looked_at = self._logged_at = now
        elif now // step_s > self._counted_at // step_s or now >= self._first_at:
            self._counted_at = now
            over = await self._count(now)
        if not self._audiences:
            return
        async with self._looking:
            await self._look(with_numbers=SAMPLE_S in over)
        if over:
            await self._tell_numbers(over)
        is_telling = self._telling is not None and not self._telling.done()
        if self._shown and not is_telling and now >= self._logged_at + LOG_S:
            self._logged_at = now
            loop = asyncio.get_running_loop()
            self._telling = loop.create_task(self._tell_all_news(), name="console news")

    async def _count(self, now: float) -> Mapping[int, float]:
        """Take what was counted; return which steps are over, as of ``CountHistory.look``."""
        if not self._keeps_history:
            self._begin_again(now)
            return {}
        told = await self._sources.told.counts()
        self._first_at = math.inf
        over = self.history.look(now, told.counted, told.awake, told.earlier)
        self._errors = self.history.errors_of_last_minute()  # also for a page that opens next
        return over

    def _begin_again(self, now: float) -> None:
        self.history, self._errors = CountHistory(now), {}
        self._first_at = now + FIRST_S
        self._sources.told.begin()

    async def _look(self, *, with_numbers: bool) -> None:
        """See what has changed of functions, and tell it; one at a time."""
        self._is_dirty = False
        indexed = await self._sources.index()
        self._looked_at = self._clock()
        self._entries = [to_entry(one, self._errors.get(one["name"], {})) for one in indexed]
        for view, audience in list(self._audiences.items()):
            seen = self._seen(view)
            changes, audience.sent = compare(audience.sent, seen, with_numbers=with_numbers)
            if changes:
                told = {
                    "all": changes.is_all,
                    "functions": changes.functions,
                    "removed": changes.removed,
                }
                audience.tell(write_event("functions", told))

    def _seen(self, view: KeyView | None) -> list[Entry]:
        if view is None:
            return self._entries
        return cast("list[Entry]", view.entries(self._entries))

    async def _tell_numbers(self, over: Mapping[int, float]) -> None:
        """Steps are over: samples, the history of functions that are shown, and the machines."""
        if (began := over.get(SAMPLE_S)) is not None:
            steps = int(self._counted_at // SAMPLE_S - began // SAMPLE_S)
            for view, audience in list(self._audiences.items()):
                told = self.history.samples(min(steps, LENGTHS[SAMPLE_S]), _names(view))
                audience.tell(write_event("samples", told))
        for shown in list(self._shown.values()):
            for step_s in (SHORT_S, LONG_S):
                if step_s in over:
                    after = over[step_s] - AGAIN * step_s
                    new = self.history.of(shown.name, step_s, after)
                    shown.audience.tell(write_event("history", new), shown.told)
        server = await self._sources.server()
        for audience in list(self._audiences.values()):
            seen = audience.server_as_seen(server)
            if seen != audience.server:
                audience.server = seen
                audience.tell(write_event("server", seen))

    async def _learn(self, shown: ShownFunction) -> list[LogLine]:
        """Ask what is known of a function that pages show; return the lines that are new."""
        decisions, failures = await self.decisions_and_errors(shown.audience.view, shown.name)
        shown.decisions, shown.failures = decisions, failures
        log, is_first = shown.log, not shown.is_known
        shown.is_known = True
        if log is None:
            return []
        lines = await asyncio.to_thread(log.read_last if is_first else log.read_new)
        if (view := shown.audience.view) is not None:
            lines = cast("list[LogLine]", view.texts(lines, "text", self._entries))
        shown.lines = [*shown.lines, *lines][-MOST_LINES:]
        return lines

    async def _tell_all_news(self) -> None:
        """Tell pages what is new of the functions that they show."""
        try:
            for shown in list(self._shown.values()):
                await self._tell_news(shown)
        except Exception:  # as of ``_run``
            logger.warning("the console got no answer; it asks again", exc_info=True)
            await asyncio.sleep(FAILED_S)

    async def _tell_news(self, shown: ShownFunction) -> None:
        """Tell the pages that show a function what is new of it."""
        async with shown.lock:
            decisions, failures = shown.decisions, shown.failures
            lines, streams = await self._learn(shown), shown.told
        if new := new_decisions(decisions, shown.decisions):
            shown.audience.tell(write_event("decisions", {"decisions": new}), streams)
        if failed := [one for one in shown.failures if one not in failures]:
            shown.audience.tell(write_event("errors", {"errors": failed}), streams)
        if lines:
            told = {"all": False, "lines": lines, "why": ""}
            shown.audience.tell(write_event("log", told), streams)


def _names(view: KeyView | None) -> frozenset[str] | None:
    return None if view is None else view.functions


def _failed_calls(failures: Sequence[RecentFailure]) -> list[FailedCall]:
    return [
        {
            "at": one.at,
            "code": one.code,
            "status": one.status,
            "message": one.message,
            "id": one.id,
        }
        for one in failures
    ]
