"""What is wrong with the threads of one function, and what becomes of batches that they do not come
back from.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any, NamedTuple, Protocol

from runtime.batching.calls import Call, Row, deadline_error
from runtime.batching.fair_queue import FunctionShare
from runtime.batching.queues import Batch, SegmentProtocol
from runtime.system.telemetry.counters import FunctionCounters

logger = logging.getLogger("wakeful.function")


class ThreadUser(Protocol):
    """What runs batches of the function on threads: its batcher, or a stage with its own."""

    @property
    def share(self) -> FunctionShare: ...


class ThreadPool(Protocol):
    """The threads; see ``runtime.batching.workers.Workers``."""

    @property
    def ended_thread(self) -> str: ...
    def late_fixes(self, source: Any, now: float) -> tuple[dict[Call, str], str]: ...


class Renewal(NamedTuple):
    """Where a worker is that does not come back, and so what another constructs anew that takes its
    place.

    Attributes:
        segment: by its index.
        stage: that it is in; empty: it is in none.
        name: of the stage, or of the segment, for messages.
    """

    segment: int
    stage: str
    name: str


class FunctionHealth:
    """Of one function. In any thread, but for ``late_fixes``.

    Args:
        name: the function's.
        segments: in order.
        counters: count what hangs.
        finish: lets rows leave that have an error.
        close_streams: called with rows that have left, in the thread that was in their generators;
            None: it has none.

    Attributes:
        timeout_s: the longest that a call waits; a batch that takes longer is overdue
            (``runtime.batching.health.hangs``).
        construct_s: seconds that its stages took to construct when it was loaded.
        gone: the rows of batches that were let go of while a thread has them; nearly always none.

    Mutable state: ``_pools``, set once; ``gone``, under ``_lock``; ``_is_closing``.
    """

    def __init__(
        self,
        name: str,
        segments: Sequence[SegmentProtocol],
        counters: FunctionCounters,
        finish: Callable[[Sequence[Row]], None],
        close_streams: Callable[[Iterable[Row]], None] | None,
    ) -> None:
        self.timeout_s = math.inf
        self.construct_s = 0.0
        self._name = name
        self._segments = segments
        self._counters = counters
        self._finish = finish
        self._close_streams = close_streams
        self._pools: Sequence[tuple[ThreadUser, ThreadPool]] = ()
        self.gone: list[list[Row]] = []
        self._is_closing = False
        self._lock = threading.Lock()

    def watch(self, pools: Iterable[tuple[ThreadUser, ThreadPool]]) -> None:
        """Its batches run on these threads."""
        self._pools = tuple(pools)

    def close(self) -> None:
        """The function takes no more calls: nothing is constructed for it any more."""
        self._is_closing = True

    def forget(self) -> None:
        """Keep the function no longer; once no rows are inside."""
        self._pools, self._finish, self._close_streams = (), _ignore_rows, None

    @property
    def trouble(self) -> str:
        """Why it cannot answer: a thread has died, or all that it may have hang; empty when all is
        well.
        """
        for user, pool in self._pools:
            if trouble := user.share.trouble or pool.ended_thread:
                return trouble
        return ""

    @property
    def abandoned(self) -> int:
        """Its threads that were given up and have not come back; others have their places."""
        return sum(user.share.abandoned for user, _ in self._pools)

    def late_fixes(self, now: float, on_loop: dict[Call, str]) -> Callable[[Call], str]:
        """What callers are told to do whose calls are late by now, where a stage that has not
        returned is the reason; else nothing.

        Args:
            on_loop: the same, of calls in a stage on the event loop.
        """
        own, others = dict(on_loop), ""
        for user, pool in self._pools:
            of_calls, of_others = pool.late_fixes(user, now)
            own |= of_calls
            others = others or of_others
        return lambda call: own.get(call, others)

    def segment(self, batch: Batch) -> SegmentProtocol:
        """Return what runs the batch, of which a worker knows the number."""
        return self._segments[batch[0]]

    def renewal(self, batch: Batch, frames: Sequence[FrameType]) -> Renewal:
        """Where a thread with these frames is in a batch."""
        segment = self.segment(batch)
        stage = segment.stage_in(frames)
        return Renewal(batch[0], stage, stage or segment.name)

    def renew(self, renewal: Renewal) -> None:
        """In a worker that takes the place of one which does not come back: the stage that this one
        is in gets a new object, since it may hold a lock of the old one's, or have left that half
        changed. Where it is in none, all stages of its segment do.
        """
        if self._is_closing:
            return
        try:
            self._segments[renewal.segment].renew(renewal.stage)
        except Exception:  # of an ``__init__``: the stage keeps the object that it has
            logger.exception("%s: a stage was not constructed anew", self._name)

    def let_go(self, batch: Batch) -> None:
        """The rows of a batch leave, as late as their calls are, while a thread has them. Nothing
        happens where they have left.
        """
        rows = batch[1]
        outer = [row.parent or row for row in rows]
        if all(row.has_left for row in outer):
            return
        with self._lock:
            self.gone.append(rows)
            self._counters.hangs += 1
        for row in outer:
            row.error = row.error or deadline_error(row.call)
        self._finish(outer)

    def has_let_go(self, rows: list[Row]) -> bool:
        """In a thread, after a batch: whether it was let go of, and nothing is to come of it."""
        if not self.gone:
            return False
        with self._lock:
            at = next((at for at, one in enumerate(self.gone) if one is rows), None)
            if at is None:
                return False
            del self.gone[at]
        if self._close_streams is not None:
            self._close_streams(rows)
        return True


def _ignore_rows(_: Sequence[Row]) -> None:
    """Of a function that is closed: no row is inside."""
