"""The streams of one function: whose turn comes again, whose generator is closed, and what a stream is made of on the average."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from runtime.batching.rows import Call, Row

GRACE_S: Final = 1.0
"""How long generators may take to close when their function does."""


class Streams:
    """Of a batcher whose last segment gives items.

    Args:
        factor: rows of a segment a row of the function (``fanout``); its last becomes the items of a stream, smoothed.

    Mutable state: ``_open``, calls that have been submitted and not finished; single operations on a set, from any thread.
    """

    def __init__(self, factor: list[float]) -> None:
        self._factor = factor
        self._open: set[Call] = set()

    def open(self, call: Call) -> None:
        """It is submitted."""
        self._open.add(call)

    def turns(self, rows: Iterable[Row], resume: Callable[[list[Row]], None]) -> tuple[list[Row], list[Row]]:
        """After their turn: the rows that wait for the next one, and those that are at their end or have an error.

        Args:
            resume: called with a row that is in neither, which is parked, when there is room for its next item.
        """
        onward, done = [], []
        for row in rows:
            stream = row.call.stream
            if row.error is not None or stream is None or stream.has_ended:
                done.append(row)
            elif stream.goes_on(lambda row=row: resume([row])):  # type: ignore[misc]  # mypy reads no default of a lambda
                onward.append(row)
        return onward, done

    def close(self, rows: Iterable[Row]) -> None:
        """They leave the batcher, and generators that have not ended are closed here, in this thread."""
        for row in rows:
            stream = row.call.stream
            if stream is None or row.has_left:
                continue
            stream.close()
            self._open.discard(row.call)
            if stream.has_ended:
                self._factor[-1] += 0.1 * (stream.count - self._factor[-1])

    def end(self) -> None:
        """On the event loop: nobody waits any more for those that are open, and parked rows leave too."""
        for call in list(self._open):
            call.is_abandoned = True
            if call.stream is not None:
                call.stream.finish()
