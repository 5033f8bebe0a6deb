"""The open streams of a function whose last segment yields items: which rows wait for their next
item, and which have ended.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from runtime.batching.calls import Call, Row


class OpenStreams:
    """The open streams of a batcher whose last segment yields items.

    Args:
        factor: rows of a segment a row of the function (``RowRouter``); the last one becomes the
            items of a stream, smoothed.

    Mutable state: ``_open``, calls that have been submitted and not finished; single operations on
    a set, from any thread.
    """

    def __init__(self, factor: list[float]) -> None:
        self._factor = factor
        self._open: set[Call] = set()

    def add(self, call: Call) -> None:
        """A call is submitted."""
        self._open.add(call)

    def requeue(
        self, rows: Iterable[Row], resume: Callable[[list[Row]], None]
    ) -> tuple[list[Row], list[Row]]:
        """After each row has given an item: the rows that wait for their next item, and those that
        have ended or have an error.

        Args:
            resume: called with a row that is in neither list, which is parked, when there is space
                for its next item.
        """
        again, done = [], []
        for row in rows:
            stream = row.call.stream
            if row.error is not None or stream is None or stream.has_ended:
                done.append(row)
            elif stream.should_continue(functools.partial(resume, [row])):
                again.append(row)
        return again, done

    def remove(self, rows: Iterable[Row]) -> None:
        """Rows leave the batcher; generators that have not ended are closed here, in this
        thread.
        """
        for row in rows:
            stream = row.call.stream
            if stream is None or row.has_left:
                continue
            stream.close_source()
            self._open.discard(row.call)
            if stream.has_ended:
                self._factor[-1] += 0.1 * (stream.count - self._factor[-1])

    def close_sources(self, rows: Iterable[Row]) -> None:
        """Rows have left while a thread was in their generators, and it has come back: closes them,
        in that thread.
        """
        for row in rows:
            if row.call.stream is not None:
                row.call.stream.close_source()

    def close_all(self) -> None:
        """On the event loop: closes the open streams, so that their rows leave, parked ones too."""
        for call in list(self._open):
            call.is_abandoned = True
            if call.stream is not None:
                call.stream.close()
