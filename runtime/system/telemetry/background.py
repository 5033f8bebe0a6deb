"""Writes what happened away from the event loop, in a thread of its own.

The event loop appends to a queue and goes on. The thread gathers for a while once there is
something, takes all that is there, and sleeps otherwise. What does not fit the queue is dropped and
counted: a full disk or a collector that is away must not make calls wait, nor take memory without
bound.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

logger = logging.getLogger("wakeful.telemetry")

GATHER_S: Final = 0.1
"""Records are written together for so long: a write each would cost the thread, and with it the
event loop, more than all the rest of a record.
"""

MAX_QUEUED: Final = 20_000
"""Records; two seconds of the most calls that a process answers, some 10 MB."""

WARN_S: Final = 60.0
"""Time between two lines of log that say that writing fails."""

Record = TypeVar("Record")


class BackgroundWriter(Generic[Record]):
    """A queue, and the thread that empties it.

    Args:
        name: of the thread, and in the log.
        write: takes records in their order, in the thread; what it raises loses these records.
        on_drop: called with how many records were lost, in any thread.
        max_queued: records that may wait; a quarter of them is not gathered any longer.
        gather_s: records are written together for so long.
        idle_s: where no record comes, ``write`` is called with none after each so many seconds, and
            once more at the end; None: it is not.

    Mutable state: ``_queue`` (the event loop appends, the thread takes), ``_has_records`` (wakes
    the thread), ``_is_urgent`` (ends the gathering) and ``_is_closed``.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[Sequence[Record]], object],
        on_drop: Callable[[int], object],
        *,
        max_queued: int = MAX_QUEUED,
        gather_s: float = GATHER_S,
        idle_s: float | None = None,
    ) -> None:
        self._name = name
        self._write = write
        self._on_drop = on_drop
        self._max_queued = max_queued
        self._max_gathered = max_queued // 4
        self._gather_s = gather_s
        self._idle_s = idle_s
        self._queue: deque[Record] = deque()
        self._has_records = threading.Event()
        self._is_urgent = threading.Event()
        self._is_closed = False
        self._warned = float("-inf")
        self._thread = threading.Thread(target=self._run, name=f"wakeful-{name}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<BackgroundWriter {self._name}: {len(self._queue)} queued>"

    @property
    def is_full(self) -> bool:
        """Whether the next record is dropped."""
        return len(self._queue) >= self._max_queued

    def put(self, record: Record) -> None:
        """Have a record written; returns at once, and drops it where the queue is full."""
        queued = len(self._queue)
        if queued >= self._max_queued:
            self._on_drop(1)
            return
        self._queue.append(record)
        if not self._has_records.is_set():
            self._has_records.set()
        if queued == self._max_gathered:
            self._is_urgent.set()

    def close(self, timeout_s: float) -> None:
        """Write what is queued and end the thread, within ``timeout_s``. Idempotent."""
        self._is_closed = True
        self._is_urgent.set()
        self._has_records.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            if self._has_records.wait(self._idle_s):
                self._is_urgent.wait(self._gather_s)
            self._has_records.clear()
            self._is_urgent.clear()
            is_last = self._is_closed  # what was put before ``close`` is in the queue
            records = [self._queue.popleft() for _ in range(len(self._queue))]
            if records or self._idle_s is not None:
                self._write_all(records)
            if is_last:
                return

    def _write_all(self, records: Sequence[Record]) -> None:
        try:
            self._write(records)
        except Exception as error:  # whatever a disk or a collector raises; calls go on
            self._on_drop(len(records))
            now = time.monotonic()
            if now - self._warned >= WARN_S:
                self._warned = now
                logger.warning(
                    "%s: %d records are lost: %s: %s",
                    self._name,
                    len(records),
                    type(error).__name__,
                    error,
                )
