"""A call and its rows on their way through the stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from runtime.errors import DeadlineExceeded, WakefulError

TIMINGS = ("queue", "batch", "preprocess", "model", "postprocess")
"""What a call's time is made of, in the order of ``Server-Timing``."""


class Row:
    """One row: its values so far, or the error that ended it.

    Mutable state: ``values`` grows stage by stage; ``error`` is set once and ends the row; ``length``, ``cost`` and ``since``
    describe it to the batching policy while it waits; ``has_left`` is set once the batcher has counted it out.
    """

    __slots__ = ("call", "cost", "error", "has_left", "index", "length", "since", "values")

    def __init__(self, call: Call, index: int, values: dict[str, Any]) -> None:
        self.call = call
        self.index = index
        self.values = values
        self.error: WakefulError | None = None
        self.length: tuple[int, ...] = ()
        self.cost = 0
        self.since = 0.0
        self.has_left = False


class Call:
    """One caller's rows: answered when the last of them is.

    Args:
        rows_values: the validated request fields, one dict a row; not empty.
        request_id: names the call in the log.
        now: seconds, ``time.monotonic``.
        deadline: seconds on the same clock after which nothing more is computed for it.

    Mutable state: ``pending`` counts rows not yet answered (touched by one worker at a time under the batcher's lock),
    ``is_abandoned`` is set by the event loop when the caller left, ``timings`` adds up seconds by kind.
    """

    __slots__ = ("deadline", "is_abandoned", "on_done", "pending", "request_id", "rows", "started", "timings")

    def __init__(self, rows_values: Sequence[dict[str, Any]], *, request_id: str, now: float, deadline: float) -> None:
        self.rows = [Row(self, index, values) for index, values in enumerate(rows_values)]
        self.pending = len(self.rows)
        self.request_id = request_id
        self.started = now
        self.deadline = deadline
        self.is_abandoned = False
        self.on_done: Callable[[Call], None] = _nobody
        self.timings: dict[str, float] = dict.fromkeys(TIMINGS, 0.0)

    def is_over(self, now: float) -> bool:
        """Whether computing more for it is useless."""
        return self.is_abandoned or now > self.deadline


def _nobody(call: Call) -> None:
    """Who is told before anybody asked to be."""


def expired(call: Call) -> DeadlineExceeded:
    """The error of a row whose call ran out of time."""
    return DeadlineExceeded(
        f"not answered within {call.deadline - call.started:.3g} s; the function is busier than its request_timeout_s allows."
    )
