"""One row of a function that streams: items are taken as they come.

``limits.request_timeout_s`` bounds the whole stream, ``limits.item_timeout_s`` the wait for each
item. A stream ends when its consumer stops taking: its generator is closed before or at its next
item, in the thread that would have run it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

from runtime.batching.calls import Call, CallOptions
from runtime.batching.stream import Stream
from runtime.errors import DeadlineExceeded
from runtime.execution.function import Function
from runtime.execution.sequence_store import SequenceCall, sequence_turn


class StreamSource:
    """The items of one call: ``async with StreamSource(function, row, options) as source:``, and in
    it ``take`` until it returns an empty list. Used on the function's event loop.

    Args:
        row: validated.

    Attributes:
        call: the call.
        count: items taken.

    Mutable state: ``count``; ``_due``, when the next item must be there; ``_stack`` and ``_turn``,
    which hold the lock of the call's sequence, if it is of one.

    Raises, on entering:
        WakefulError: as ``Function.run``.
    """

    call: Call

    def __init__(self, function: Function, row: dict[str, Any], options: CallOptions) -> None:
        self.count = 0
        self._due: float | None = None
        self._function = function
        self._stack = AsyncExitStack()
        self._turn: SequenceCall | None = None
        self._row = row
        self._options = options

    async def __aenter__(self) -> StreamSource:
        function, options = self._function, self._options
        for error in (options.refused or {}).values():
            raise error
        rows: Sequence[dict[str, Any]] = (self._row,)
        timeout_s = math.inf
        if function.sequences is not None:
            self._turn = await self._stack.enter_async_context(
                sequence_turn(function.sequences, function.spec, rows, options)
            )
            rows, timeout_s = self._turn.rows, self._turn.timeout_s
        self._stream = Stream(asyncio.get_running_loop(), options.request_id)
        try:
            self.call, self._answered = function.in_flight.begin(
                rows, options, stream=self._stream, timeout_s=timeout_s
            )
        except BaseException:
            await self._stack.aclose()
            raise
        self._answered.add_done_callback(self._on_answered)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.call.is_abandoned = True
        self._stream.close()
        await self._stack.aclose()

    async def take(self, for_s: float = math.inf) -> list[dict[str, Any]] | None:
        """The items that are there, or the next one; an empty list at the end.

        Args:
            for_s: longest wait. None is returned after it, and the next ``take`` waits on.

        Raises:
            WakefulError: what ended the stream, after the last item: the row's error, or
                DeadlineExceeded where the time is over for the next item or for all of them.
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
            raise DeadlineExceeded(
                f"the next item did not come within the {item_s} s of limits.item_timeout_s."
            ) from None
        self._due = None
        if items:
            self.count += len(items)
            return [self._function.item_of(item) for item in items]
        if not self._answered.done():  # the function was closed meanwhile
            self._answered.set_exception(
                DeadlineExceeded(
                    "the function ended before its stream did; call again, another answers."
                )
            )
        if (error := self._answered.result().rows[0].error) is not None:
            raise error
        # where the client disconnects or the stream fails, the sequence keeps its earlier state
        if self._turn is not None:
            self._turn.commit(self.call)
        return []

    def _on_answered(self, answered: asyncio.Future[Call]) -> None:
        """The call has ended, or its deadline has passed; ``take`` raises the error."""
        if not answered.cancelled():
            answered.exception()
        self._stream.close()
