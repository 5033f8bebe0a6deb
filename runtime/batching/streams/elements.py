"""The elements of one row whose answers go to the caller as they are done (``stream: true`` on the
last stage, which runs over ``each``).

The elements are inner rows like those of any ``each`` (``runtime.batching.fan_out``): they wait and
share batches with the elements of all callers. What each of them gives is an item of the call's
``Stream``, in order, or as they are done with their index.

Rules:

1. At most ``Window.most`` elements are begun and not taken by the caller: being computed, done and
   waiting for an earlier one, or unread. A client that reads slowly costs these, and no worker.
2. Until one is done, only ``Window.first`` are begun: as many as can be computed at once. A first
   element that shared its batch with thirty others would come as late as all of them.
3. An element that fails ends the stream with its error. In order, the items before it are sent
   first, whichever was done first; elements that are not begun are left out.
4. The outer row is done when no inner row of it is under way: it leaves the batcher once.

Theory of operation: an inner row is finished in the thread that ran it, and space is found on the
event loop, where the consumer takes. Both ask ``ElementStream`` what is to be begun next, under its
lock; what they are told, they route. What would break it: an element that is begun, and neither
finished nor routed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from runtime.batching.calls import Row, cancelled_row_error
from runtime.batching.policy import BatchLimits
from runtime.batching.streams.stream import Item, Stream
from runtime.errors import WakefulError

INDEX: Final = "index"
"""The name of an element's place in items that come as they are done."""


class Window(NamedTuple):
    """How many elements of a row are under way.

    Attributes:
        first: until one is done.
        most: from then on, those that are done and not taken included.
    """

    first: int
    most: int


LEAST_WINDOW: Final = 64
"""Elements under way, where batches are smaller."""

LOOP_WINDOW: Final = 128
"""Of coroutines: they wait for others, and so do as many calls."""

CALLS_WINDOW: Final = 16
"""Of calls to another function, each with one element: it takes so many beside those of others
(``limits.max_ongoing_requests`` is 128).
"""


class WindowSegment(Protocol):
    """What must be known of the segments that the elements go through.

    Attributes:
        calls: it is another function.
        threads: of its own; 0: workers run it.
    """

    @property
    def batch_limits(self) -> BatchLimits | None: ...
    @property
    def on_loop(self) -> bool: ...
    @property
    def calls(self) -> bool: ...
    @property
    def threads(self) -> int: ...


def choose_window(segments: Sequence[WindowSegment], workers: int) -> Window:
    """The window of elements that go through these segments: two full batches, so that one fills
    while another runs.

    Args:
        workers: of the function.
    """
    if any(one.calls for one in segments):
        return Window(1, CALLS_WINDOW)
    sizes = [one.batch_limits.max_batch_size for one in segments if one.batch_limits is not None]
    threads = [one.threads for one in segments]
    most = max(LEAST_WINDOW, 2 * max(sizes, default=1), 2 * max(threads), 2 * workers)
    if segments[0].on_loop:
        most = max(most, LOOP_WINDOW)
        return Window(most, most)
    return Window(segments[0].threads or workers, most)


class ElementStream:
    """The elements of one row.

    Args:
        row: outer; its call has a stream.
        count: of its elements.
        make: makes the inner row of an element.
        names: of the values that an item has.
        ordered: in order; otherwise each item has its ``INDEX``.
        on_space: called on the event loop when more elements may be begun (``begin``).

    Attributes:
        left: elements that are not begun.

    Mutable state, under ``_lock``: ``left``; ``_running`` (begun and not finished); ``_sent``
    (items put); ``_held`` (by number, what is done while an earlier one is not); ``_has_finished``
    (one is); ``_has_failed`` (one has: none is begun any more); ``_is_over``.
    """

    def __init__(
        self,
        row: Row,
        count: int,
        make: Callable[[int], Row],
        names: Iterable[str],
        window: Window,
        on_space: Callable[[Row], None],
        *,
        ordered: bool,
    ) -> None:
        assert row.call.stream is not None
        self.left = count
        self._stream: Stream = row.call.stream
        self._row = row
        self._count = count
        self._make = make
        self._names = tuple(names)
        self._window = window
        self._on_space = on_space
        self._ordered = ordered
        self._lock = threading.Lock()
        self._running = self._sent = 0
        self._held: dict[int, Item | WakefulError] = {}
        self._has_finished = self._has_failed = self._is_over = False

    def begin(self) -> tuple[list[Row], bool]:
        """The inner rows that are to be routed now, and whether the outer row is done, which is
        said once.
        """
        with self._lock:
            return self._next_rows(), self._ends()

    def finish(self, inner: Row) -> tuple[list[Row], bool]:
        """An inner row has its values or its error; then as ``begin``."""
        with self._lock:
            self._running -= 1
            self._has_finished = True
            self._has_failed = self._has_failed or inner.error is not None
            self._held[inner.number] = inner.error or self._item(inner)
            if self._ordered:
                while self._row.error is None and self._sent in self._held:
                    self._put(self._held.pop(self._sent))
            else:
                self._put(self._held.pop(inner.number))
            return self._next_rows(), self._ends()

    def _item(self, inner: Row) -> Item:
        values = inner.values
        item = {name: values[name] for name in self._names if name in values}
        return item if self._ordered else {INDEX: inner.number, **item}

    def _put(self, item: Item | WakefulError) -> None:
        if self._row.error is not None:
            return
        if isinstance(item, WakefulError):
            self._row.error = item
        else:
            self._sent += 1
            self._stream.put(item)

    def _next_rows(self) -> list[Row]:
        rows: list[Row] = []
        while self.left and not self._has_failed:
            row, is_closed = self._row, self._stream.is_closed
            if is_closed or row.error is not None or row.is_over(time.monotonic()):
                self.left = 0
                break
            most = self._window.most if self._has_finished else self._window.first
            unread = self._stream.unread
            free = most - self._running - len(self._held) - unread
            if free <= 0:
                if unread and not self._stream.on_taken(lambda: self._on_space(self._row)):
                    continue  # taken meanwhile
                break
            begun = min(free, self.left)
            first = self._count - self.left
            rows += map(self._make, range(first, first + begun))
            self.left -= begun
            self._running += begun
        return rows

    def _ends(self) -> bool:
        if self._is_over or self._running or (self.left and not self._has_failed):
            return False
        self._is_over = True
        self.left = 0
        if self._row.error is None and self._sent < self._count:
            self._row.error = cancelled_row_error(self._row)
        self._held.clear()
        self._on_space = _ignore_row  # the batcher's, which has this one's row
        return True


def _ignore_row(_: Row) -> None:
    """No more elements are begun."""
