"""Runs a batch that failed again in halves: the rows at fault fail alone, the others are answered.

One bad row of ``n`` costs at most ``2 * ceil(log2(n))`` more runs. There are four kinds of failure:

- *Of a row*, unless it is known to be another: halved down to the rows that fail by themselves;
  each gets its own error.
- *Of memory* (``MemoryError``; ``runtime.onnx.session`` makes one of ONNX Runtime's): halved as
  well, and later batches are capped (``BatchSizeCap``). A run that held a row which is too large by
  itself proves nothing for the others.
- *Of a device* (``DeviceLost``): no half can run either, so none is tried.
- *Of an upstream* (``UpstreamError``): it does not answer for a half either, and is not called
  again; all rows get the error.

What would break it: a run that leaves its rows changed although it failed. A second run must start
from the values of the first, so results are put into ``Row.values`` after the last of them is
there, and a stage may not change its arguments (``runtime.execution.stages``).

After a batch was too large for memory, batches are capped at half its size, and at twice as much
each minute from then on. How much fits depends on what else is in memory at that moment, so a cap
is not kept for good. It needs no reset: it is a function of when it was found and of ``now``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from runtime.artifacts.tracebacks import add_note, error_place, notes_of
from runtime.batching.calls import Row, Trial, rows_still_needed
from runtime.batching.health.failure_log import log_failure
from runtime.batching.policy import BatchLimits, Waiting
from runtime.errors import (
    CallError,
    DeviceLost,
    FunctionError,
    Overloaded,
    RequestError,
    RowTooLarge,
    UpstreamError,
    WakefulError,
)

logger = logging.getLogger("wakeful.function")


def run_bisecting(
    rows: Sequence[Row], run: Callable[[Sequence[Row]], None], stage: str
) -> BatchSizeCap | None:
    """Runs rows without an error together; on failure each half by itself, down to the row at
    fault. Rows whose call is over meanwhile are left out.

    Returns:
        The cap of later batches, where memory ran out for these rows together and not for each by
        itself; None otherwise.
    """
    rows = rows_still_needed(rows, time.monotonic())
    if not rows:
        return None
    try:
        run(rows)
    # a library's error or a user's, sys.exit included: the rows get it, one by one
    except BaseException as error:
        if len(rows) == 1 or isinstance(error, DeviceLost | UpstreamError):
            for row in rows:
                row.error = to_row_error(error, row, stage)
            return None
        is_memory = isinstance(error, MemoryError)
    else:
        return None
    return _halves(rows, run, stage, is_memory=is_memory)


def _halves(
    rows: Sequence[Row], run: Callable[[Sequence[Row]], None], stage: str, *, is_memory: bool
) -> BatchSizeCap | None:
    """Runs each half. Outside the ``except``: the frames of the failed run, and the arrays they
    hold, are freed before memory is allocated again.
    """
    middle = len(rows) // 2
    first, second = (
        run_bisecting(rows[:middle], run, stage),
        run_bisecting(rows[middle:], run, stage),
    )
    if first is not None or second is not None:
        now = time.monotonic()
        return first.min_with(second, now) if first is not None else second
    if is_memory and not any(isinstance(row.error, RowTooLarge) for row in rows):
        logger.warning(
            "stage %r: memory has no room for %d rows at once; they were run in halves",
            stage,
            len(rows),
        )
        return cap_after_oom(rows, time.monotonic())
    return None


def to_row_error(error: BaseException, row: Row, stage: str) -> WakefulError:
    """The error that the client gets: a stage's own refusal, or that of a function which it called,
    as it is; anything else as a fault of the function, whose details only the log has.
    """
    if isinstance(error, RequestError | UpstreamError | Overloaded | DeviceLost):
        return error
    if isinstance(error, CallError) and error.refusal is not None:
        return error.refusal
    if isinstance(row.call, Trial):
        return _trial_error(error, stage)
    # what a stage returned is not what it declares; the error says all there is to say
    if isinstance(error, FunctionError):
        log_failure(row, f"stage {stage!r}", error, text=f"{error.message}{notes_of(error)}")
        return error
    log_failure(row, f"stage {stage!r} failed", error)
    if isinstance(error, MemoryError):
        return RowTooLarge(
            f"stage {stage!r} has not enough memory for this row, even alone; send a smaller one."
        )
    return FunctionError(
        f"stage {stage!r} failed on this row; the log has the reason under the request id."
    )


def _trial_error(error: BaseException, stage: str) -> FunctionError:
    """With the author's line, and the reason as notes, which the load logs."""
    if isinstance(error, FunctionError):
        return error
    where = error_place(error)
    kind = RowTooLarge if isinstance(error, MemoryError) else FunctionError
    found = kind(
        f"stage {stage!r} failed{f' ({where})' if where else ', and the log has the reason'}."
    )
    add_note(found, error)
    return found


HOLD_S = 60.0
"""How long a cap holds before twice as much is tried. A failed try costs a run of each half, once a
minute.
"""

_MAX_DOUBLINGS = 8
"""Doublings after which a cap has no effect."""


@dataclass(frozen=True, slots=True)
class BatchSizeCap:
    """Caps the batches of one segment after memory ran out.

    Attributes:
        rows: rows a batch, for rows of fixed shape; None for ragged rows.
        padded_size: padded elements a batch, for ragged rows: 32 short ones fit where 16 long ones
            do not. None for rows of fixed shape.
        since: when memory ran out, seconds, ``time.monotonic``.
    """

    rows: int | None
    padded_size: int | None
    since: float

    def cut(self, limits: BatchLimits, now: float) -> BatchLimits:
        """The limits that hold now; the same object where the cap has no effect any more."""
        rows, cost = (
            _least(self._grown(self.rows, now), limits.max_batch_size),
            _least(self._grown(self.padded_size, now), limits.max_batch_cost),
        )
        if rows == limits.max_batch_size and cost == limits.max_batch_cost:
            return limits
        return replace(limits, max_batch_size=rows or 1, max_batch_cost=cost)

    def min_with(self, other: BatchSizeCap | None, now: float) -> BatchSizeCap:
        """This cap, just found, combined with what is left of an earlier one: a second worker's
        batch may have left before the first one failed.
        """
        if other is None:
            return self
        rows, cost = (
            _least(self.rows, other._grown(other.rows, now)),
            _least(self.padded_size, other._grown(other.padded_size, now)),
        )
        return BatchSizeCap(rows, cost, now)

    def _grown(self, limit: int | None, now: float) -> int | None:
        doublings = int((now - self.since) / HOLD_S)
        return None if limit is None or doublings >= _MAX_DOUBLINGS else limit << doublings


def cap_after_oom(rows: Sequence[Waiting], now: float) -> BatchSizeCap:
    """The cap after memory ran out for these rows in one batch: two or more."""
    if not rows[0].shapes:
        return BatchSizeCap(max(1, len(rows) // 2), None, now)
    widest = [map(max, *shapes) for shapes in zip(*(row.shapes for row in rows), strict=False)]
    return BatchSizeCap(None, max(1, max(map(math.prod, widest)) * len(rows) // 2), now)


def _least(one: int | None, other: int | None) -> int | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)
