"""A stage that yields: a generator in worker threads, one item at a time, or an asynchronous one on
the event loop.

It is the last of its graph, and alone in its segment. Its items go to the call's ``Stream``. A run
before the function is ready has no stream: it takes the first ``BUFFER`` items to show that the
stage works.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any, Final

from runtime.batching.bisection import BatchSizeCap, to_row_error
from runtime.batching.calls import Row, add_timing, deadline_error
from runtime.batching.reservation import CURRENT_ROW
from runtime.batching.streams.stream import BUFFER, Item, Stream
from runtime.execution.stages.python_stage import PythonStage, is_task_cancelled

_END: Final = object()


class GeneratorStage(PythonStage):
    """As ``PythonStage``, for a generator's signature."""

    def run(self, rows: Sequence[Row]) -> BatchSizeCap | None:
        """In a worker thread: the next item of each row. After the last, the stream
        ``has_ended``.
        """
        began = time.perf_counter()
        for row in rows:
            CURRENT_ROW.set(row)
            try:
                self._run_one_item(row)
            except BaseException as error:  # sys.exit included
                row.error = to_row_error(error, row, self.name)
            finally:
                CURRENT_ROW.set(None)
        add_timing(rows, self._kind, time.perf_counter() - began)
        return None

    async def run_on_loop(self, row: Row) -> None:
        """On the event loop: all items, as there is space for them. It ends early when the stream
        is closed.
        """
        stream = row.call.stream
        if stream is not None and stream.is_closed:
            row.error = deadline_error(row.call)
            return
        pump = asyncio.ensure_future(self._drive_async(row, stream))
        if stream is not None:
            stream.pump = pump
        try:
            await pump
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():  # the deadline of this row has passed
                raise
            row.error = row.error or deadline_error(row.call)

    def _run_one_item(self, row: Row) -> None:
        stream = row.call.stream
        if stream is None:
            self._warm_up_run(row)
            return
        if not stream.has_begun:
            stream.begin(iter(self.call(*self._arguments(row))))
        result = next(stream.source, _END)
        if result is _END:
            stream.end()
        else:
            stream.put(self._item(row, result))

    def _warm_up_run(self, row: Row) -> None:
        source = self.call(*self._arguments(row))
        try:
            for result in itertools.islice(source, BUFFER):
                self._item(row, result)
        finally:
            if hasattr(source, "close"):
                source.close()

    async def _drive_async(self, row: Row, stream: Stream | None) -> None:
        source: Any = None
        CURRENT_ROW.set(row)  # of this task's context
        try:
            source = aiter(self.call(*self._arguments(row)))
            for _ in itertools.count() if stream is not None else range(BUFFER):
                if stream is not None:
                    await stream.wait_for_space()
                began = time.perf_counter()
                result = await anext(source, _END)
                add_timing((row,), self._kind, time.perf_counter() - began)
                if result is _END:
                    break
                item = self._item(row, result)
                if stream is not None:
                    stream.put(item)
            if stream is not None:
                stream.end()
        # any exception of a user's code is the row's error, sys.exit included
        except BaseException as error:
            if is_task_cancelled(error):
                raise
            row.error = to_row_error(error, row, self.name)
        finally:
            if hasattr(source, "aclose"):
                await self._close_source(source, row)

    async def _close_source(self, source: Any, row: Row) -> None:
        try:
            await source.aclose()
        except BaseException as error:  # a user's `finally`
            if is_task_cancelled(error):
                raise
            row.error = row.error or to_row_error(error, row, self.name)

    def _item(self, row: Row, result: Any) -> Item:
        """The item of a yielded result; the row keeps the values of the last one."""
        item = dict(self._named(result))
        row.values.update(item)
        return item
