"""A call and its rows on their way through the stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from runtime.batching.stream import Stream
from runtime.errors import DeadlineExceeded, WakefulError
from runtime.sequences import InSequence

TIMINGS = ("queue", "batch", "preprocess", "model", "postprocess")
"""What a call's time is made of, in the order of ``Server-Timing``."""


class Ask(NamedTuple):
    """What a caller, or the edge, says of a call beside its rows. A tuple, since every call makes one.

    Attributes:
        request_id: names the call in the log.
        timeout_s: seconds from now that the caller waits; lowers ``request_timeout_s``, never raises it.
        mark: fingerprint of the body (48 bits), 0 if unknown; with a row's index it names the row to the witness.
        alone: indexes, in the body, of rows that run in batches of their own: they were at work when a process died.
        refused: rows that are not run, by index, and the error that each of them gets instead; None: every row is run.
        sequence: that the call belongs to; None: it names none.
    """

    request_id: str = ""
    timeout_s: float = math.inf
    mark: int = 0
    alone: frozenset[int] = frozenset()
    refused: Mapping[int, WakefulError] | None = None
    sequence: InSequence | None = None


PLAIN: Final = Ask()
"""Nothing is said."""


class Row:
    """One row: its values so far, or the error that ended it.

    Mutable state: ``values`` grows stage by stage; ``error`` is set once and ends the row; ``length``, ``cost`` and ``since``
    describe it to the batching policy while it waits; ``alone`` (no other row shares a batch with it) is set before it waits;
    ``has_left`` is set once the batcher has counted it out. While it is fanned out (``fanout``), ``inner`` are its inner rows and ``left``
    counts those still under way; an inner row has a ``parent`` and is one ``until`` that segment.
    """

    __slots__ = (
        "alone",
        "call",
        "cost",
        "error",
        "has_left",
        "index",
        "inner",
        "left",
        "length",
        "parent",
        "since",
        "until",
        "values",
    )

    def __init__(self, call: Call, index: int, values: dict[str, Any]) -> None:
        self.call = call
        self.index = index
        self.values = values
        self.error: WakefulError | None = None
        self.length: tuple[int, ...] = ()
        self.cost = 0
        self.since = 0.0
        self.alone = False
        self.has_left = False
        self.parent: Row | None = None
        self.inner: tuple[Row, ...] = ()
        self.left = 0
        self.until = 0

    @property
    def share(self) -> int:
        """How many rows wait beside it for the same call, itself included."""
        parent = self.parent
        return len(self.call.rows) if parent is None else len(self.call.rows) * max(1, len(parent.inner))

    def is_over(self, now: float) -> bool:
        """Whether computing more for it is useless: its call is over, or the row failed that it is a part of."""
        return self.call.is_over(now) or (self.parent is not None and self.parent.error is not None)

    @property
    def mark(self) -> int:
        """64 bits that name it to the witness: the call's mark and its index; 0 if the call has none."""
        mark = self.call.mark
        return mark << 16 | min(self.index, 0xFFFF) if mark else 0


class Call:
    """One caller's rows: answered when the last of them is.

    Args:
        rows_values: the validated request fields, one dict a row; not empty.
        indexes: of the rows in the body, where rows of it are not among them; None: 0, 1, 2 …
        request_id: names the call in the log.
        now: seconds, ``time.monotonic``.
        deadline: seconds on the same clock after which nothing more is computed for it.
        mark: fingerprint of the body, 0 if unknown.

    Mutable state: ``pending`` counts rows not yet answered (touched by one worker at a time under the batcher's lock),
    ``is_abandoned`` is set by the event loop when the caller left, ``timings`` adds up seconds by kind. ``stream`` is set before it is
    submitted, where its one row is answered item by item.
    """

    __slots__ = ("deadline", "is_abandoned", "mark", "on_done", "pending", "request_id", "rows", "started", "stream", "timings")

    def __init__(
        self,
        rows_values: Sequence[dict[str, Any]],
        *,
        request_id: str,
        now: float,
        deadline: float,
        mark: int = 0,
        indexes: Sequence[int] | None = None,
    ) -> None:
        numbered = enumerate(rows_values) if indexes is None else zip(indexes, rows_values, strict=True)
        self.rows = [Row(self, index, values) for index, values in numbered]
        self.pending = len(self.rows)
        self.request_id = request_id
        self.started = now
        self.deadline = deadline
        self.mark = mark
        self.is_abandoned = False
        self.stream: Stream | None = None
        self.on_done: Callable[[Call], None] = _nobody
        self.timings: dict[str, float] = dict.fromkeys(TIMINGS, 0.0)

    def is_over(self, now: float) -> bool:
        """Whether computing more for it is useless."""
        return self.is_abandoned or now > self.deadline


def _nobody(call: Call) -> None:
    """Who is told before anybody asked to be."""


def wanted(rows: Iterable[Row], now: float) -> list[Row]:
    """Those that are still to be computed: rows whose call is over get its error, rows that have one are left out."""
    left = []
    for row in rows:
        if row.error is None and row.is_over(now):
            row.error = moot(row)
        if row.error is None:
            left.append(row)
    return left


def moot(row: Row) -> WakefulError:
    """The error of a row for which computing more is useless."""
    whole = row.parent
    return whole.error if whole is not None and whole.error is not None else expired(row.call)


def expired(call: Call) -> DeadlineExceeded:
    """The error of a row whose call ran out of time."""
    if call.stream is not None:
        return DeadlineExceeded(
            f"the stream was not at its end after the {call.deadline - call.started:.3g} s that its caller and request_timeout_s left the "
            "whole of it. Raise limits.request_timeout_s, or ask for less."
        )
    return DeadlineExceeded(
        f"not answered within the {call.deadline - call.started:.3g} s that its caller and request_timeout_s left it. Send fewer rows, or "
        "call again when the function is less busy."
    )
