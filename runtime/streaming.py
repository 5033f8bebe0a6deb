"""One row of a function that streams, answered item by item to a caller who takes them as they come.

``limits.request_timeout_s`` bounds the whole stream, ``limits.item_timeout_s`` the wait for each item. A stream whose caller stops taking
ends: its generator is closed before or at its next item, in the thread that would have run it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

from runtime.batching.rows import Ask, Call
from runtime.batching.stream import Stream
from runtime.errors import DeadlineExceeded
from runtime.function import Function
from runtime.sequenced import Mine, in_turn


class Streaming:
    """``async with Streaming(function, row, ask) as streaming:``, and within it ``take`` until it gives nothing.

    Args:
        row: validated.

    Attributes:
        call: the call.
        count: items taken.

    Mutable state: ``count``; ``_due``, when the item that is waited for must be there; ``_turn`` and ``_mine``, the call's in its sequence,
    if it is of one.

    Raises, at its beginning:
        WakefulError: as ``Function.run``, or the row's if ``ask`` refuses it.
    """

    call: Call

    def __init__(self, function: Function, row: dict[str, Any], ask: Ask) -> None:
        self.count = 0
        self._due: float | None = None
        self._function = function
        self._turn = AsyncExitStack()
        self._mine: Mine | None = None
        self._row = row
        self._ask = ask

    async def __aenter__(self) -> Streaming:
        for error in (self._ask.refused or {}).values():
            raise error
        rows: Sequence[dict[str, Any]] = (self._row,)
        if self._function.keeper is not None:
            self._mine = await self._turn.enter_async_context(in_turn(self._function.keeper, self._function.spec, rows, self._ask))
            rows, self._ask = self._mine.rows, self._mine.ask
        try:
            return self._begin(rows)
        except BaseException:
            await self._turn.aclose()
            raise

    def _begin(self, rows: Sequence[dict[str, Any]]) -> Streaming:
        self._stream = Stream(asyncio.get_running_loop(), self._ask.request_id)
        self.call, self._answered, self._timer = self._function.begin(rows, self._ask, stream=self._stream)
        self._answered.add_done_callback(self._ended)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()
        self.call.is_abandoned = True
        self._stream.finish()
        await self._turn.aclose()

    async def take(self, for_s: float = math.inf) -> list[dict[str, Any]] | None:
        """The items that are there, or the next one; an empty list at the end.

        Args:
            for_s: longest wait; None comes back behind it, and whoever asks again waits on.

        Raises:
            WakefulError: what ended it, behind the last item that came before: the row's error, or
            DeadlineExceeded: the time is over for the next item or for all of them.
        """
        now, item_s = time.monotonic(), self._function.spec.limits.item_timeout_s
        if self._due is None:
            self._due = now + (math.inf if item_s is None else item_s)
        wait_s = min(for_s, self._due - now)
        try:
            async with asyncio.timeout(None if wait_s == math.inf else wait_s):
                items = await self._stream.take()
        except TimeoutError:
            if wait_s == for_s:
                return None
            raise DeadlineExceeded(f"the next item did not come within the {item_s} s of limits.item_timeout_s.") from None
        self._due = None
        if items:
            self.count += len(items)
            return [self._function.item_of(item) for item in items]
        if not self._answered.done():  # the function is closed under it
            self._answered.set_exception(DeadlineExceeded("the function ended before its stream did; call again, another answers."))
        if (error := self._answered.result().rows[0].error) is not None:
            raise error
        if self._mine is not None:  # a sequence whose caller leaves, or whose stream fails, is as it was before
            self._mine.keep(self.call)
        return []

    def _ended(self, answered: asyncio.Future[Call]) -> None:
        """By its end, or by its deadline, whose error is ``take``'s to raise."""
        if not answered.cancelled():
            answered.exception()
        self._stream.finish()
