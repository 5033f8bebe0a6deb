"""Answers that are taken as they come: the items of one row of a function that streams, and the
rows of a call, in order, as they are done.

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
from itertools import islice
from types import TracebackType
from typing import Any

from runtime.batching.calls import Call, CallOptions, Row
from runtime.batching.streams.stream import Stream
from runtime.errors import DeadlineExceeded, WakefulError
from runtime.execution.function import Function, rows_to_run
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
        if function.sequences is not None:
            self._turn = await self._stack.enter_async_context(
                sequence_turn(function.sequences, function.spec, rows, options)
            )
            rows, options = self._turn.rows, self._turn.options
        self._stream = Stream(asyncio.get_running_loop(), options.request_id)
        try:
            self.call, self._answered = function.in_flight.begin(rows, options, stream=self._stream)
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


class RowsSource:
    """The outcomes of a call's rows, in order, as they are done. The call is begun at once;
    ``close`` ends it. Used on the function's event loop.

    That a row is done is seen when it is looked at: a signal for each row would be paid by every
    call of many rows, also where nothing looks at them before the last.

    Args:
        checked: as of ``Function.run_rows``, of a function that keeps no sequences.

    Attributes:
        call: None: no row is run.

    Mutable state: ``_taken``, how many of ``_rows`` were; the values of these are let go.

    Raises:
        WakefulError: as ``InFlight.begin``; it concerns all rows.
    """

    def __init__(
        self,
        function: Function,
        checked: Sequence[dict[str, Any] | WakefulError],
        options: CallOptions,
    ) -> None:
        checked, good = rows_to_run(checked, options)
        self.call: Call | None = None
        self._answered: asyncio.Future[Call] | None = None
        if good:
            self.call, self._answered = function.in_flight.begin(
                list(good.values()), options, list(good)
            )
        self._function = function
        run = iter(self.call.rows if self.call is not None else ())
        self._rows: list[Row | WakefulError] = [
            one if isinstance(one, WakefulError) else next(run) for one in checked
        ]
        self._taken = 0

    @property
    def is_at_end(self) -> bool:
        """Whether every outcome was taken."""
        return self._taken == len(self._rows)

    def close(self) -> None:
        """Ends the call: what of it is not computed is dropped. Idempotent."""
        if self.call is not None:
            self.call.is_abandoned = True

    async def take(self, for_s: float) -> list[dict[str, Any] | WakefulError]:
        """The outcomes that are there, of the rows that come next; none where the next one is not
        done.

        Args:
            for_s: longest wait for the last row.

        Raises:
            WakefulError: what ended the call, before any outcome was taken; after that it is the
                outcome of each row that it left undone.
        """
        answered = self._answered
        ended: BaseException | None = None
        if answered is not None:
            if not answered.done():
                await asyncio.wait((answered,), timeout=for_s)
            ended = answered.exception() if answered.done() else None
        if ended is not None and (not self._taken or not isinstance(ended, WakefulError)):
            raise ended
        return self.take_done(ended)

    def take_done(self, ended: WakefulError | None = None) -> list[dict[str, Any] | WakefulError]:
        """The outcomes that are there.

        Args:
            ended: the outcome of rows that are not done; None: they are waited for.
        """
        found: list[dict[str, Any] | WakefulError] = []
        outcome_of = self._function.outcome_of
        for row in islice(self._rows, self._taken, None):
            if not isinstance(row, Row):
                found.append(row)
            elif row.has_left:
                found.append(outcome_of(row))
                row.values = {}
            elif ended is not None:
                found.append(ended)
            else:
                break
        self._taken += len(found)
        return found
