"""A stage that yields: a generator in worker threads, one item a turn, or an asynchronous one on the event loop.

It is the last of its graph, and alone in its segment. What it gives goes to the call's ``Stream``; without one, which is a run before
the function is ready, the first ``batching.stream.BUFFER`` items show that it works.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any, Final

from runtime.batching.ceiling import Ceiling
from runtime.batching.rows import Row, expired
from runtime.batching.stream import BUFFER, Item, Stream
from runtime.halving import as_row_error
from runtime.stages import PythonStage, charge

_END: Final = object()


class YieldingStage(PythonStage):
    """As ``PythonStage``, for a signature that ``streams``."""

    def run(self, rows: Sequence[Row]) -> Ceiling | None:
        """In a worker thread: the next item of each row. Behind the last, the stream ``has_ended``."""
        began = time.perf_counter()
        for row in rows:
            try:
                self._run_a_turn(row)
            except BaseException as error:  # sys.exit included
                row.error = as_row_error(error, row, self.name)
        charge(rows, self._kind, time.perf_counter() - began)
        return None

    async def run_on_loop(self, row: Row) -> None:
        """On the event loop: all items, as there is room for them. It ends early when the caller leaves."""
        stream = row.call.stream
        if stream is not None and stream.is_over:
            row.error = expired(row.call)
            return
        pump = asyncio.ensure_future(self._pump(row, stream))
        if stream is not None:
            stream.pump = pump
        try:
            await pump
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():  # it is this row's time that is over
                raise
            row.error = expired(row.call)

    def _run_a_turn(self, row: Row) -> None:
        stream = row.call.stream
        if stream is None:
            self._try(row)
            return
        if not stream.has_begun:
            stream.begin(iter(self._call(*self._taken(row))))
        result = next(stream.source, _END)
        if result is _END:
            stream.end()
        else:
            stream.give(self._item(row, result))

    def _try(self, row: Row) -> None:
        source = self._call(*self._taken(row))
        try:
            for result in itertools.islice(source, BUFFER):
                self._item(row, result)
        finally:
            if hasattr(source, "close"):
                source.close()

    async def _pump(self, row: Row, stream: Stream | None) -> None:
        source: Any = None
        try:
            source = aiter(self._call(*self._taken(row)))
            for _ in itertools.count() if stream is not None else range(BUFFER):
                if stream is not None:
                    await stream.has_room()
                began = time.perf_counter()
                result = await anext(source, _END)
                charge((row,), self._kind, time.perf_counter() - began)
                if result is _END:
                    break
                item = self._item(row, result)
                if stream is not None:
                    stream.give(item)
            if stream is not None:
                stream.end()
        except Exception as error:  # whatever a user's code raises is the row's fate
            row.error = as_row_error(error, row, self.name)
        finally:
            if hasattr(source, "aclose"):
                await self._closed(source, row)

    async def _closed(self, source: Any, row: Row) -> None:
        try:
            await source.aclose()
        except Exception as error:  # a user's `finally`
            row.error = row.error or as_row_error(error, row, self.name)

    def _item(self, row: Row, result: Any) -> Item:
        """The row keeps the values of the last item."""
        item = {self._single: result} if self._single is not None else {value: result[name] for name, value in self._gives}
        row.values.update(item)
        return item
