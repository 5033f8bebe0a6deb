"""A call and its rows on their way through the stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from runtime.errors import DeadlineExceeded, WakefulError

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
    """

    request_id: str = ""
    timeout_s: float = math.inf
    mark: int = 0
    alone: frozenset[int] = frozenset()
    refused: Mapping[int, WakefulError] | None = None


PLAIN: Final = Ask()
"""Nothing is said."""


class Row:
    """One row: its values so far, or the error that ended it.

    Mutable state: ``values`` grows stage by stage; ``error`` is set once and ends the row; ``length``, ``cost`` and ``since``
    describe it to the batching policy while it waits; ``alone`` (no other row shares a batch with it) is set before it waits;
    ``has_left`` is set once the batcher has counted it out.
    """

    __slots__ = ("alone", "call", "cost", "error", "has_left", "index", "length", "since", "values")

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
    ``is_abandoned`` is set by the event loop when the caller left, ``timings`` adds up seconds by kind.
    """

    __slots__ = ("deadline", "is_abandoned", "mark", "on_done", "pending", "request_id", "rows", "started", "timings")

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
        if row.error is None and row.call.is_over(now):
            row.error = expired(row.call)
        if row.error is None:
            left.append(row)
    return left


def expired(call: Call) -> DeadlineExceeded:
    """The error of a row whose call ran out of time."""
    return DeadlineExceeded(
        f"not answered within the {call.deadline - call.started:.3g} s that its caller and request_timeout_s left it. Send fewer rows, or "
        "call again when the function is less busy."
    )
