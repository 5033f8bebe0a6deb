"""A batch that fails is run again in halves: the rows at fault end alone, the others are answered as if nothing had been.

One bad row of ``n`` costs at most ``2 * ceil(log2(n))`` more runs. Three kinds of failure are told apart:

- *A row's*, until the opposite is known: halved down to the rows that fail by themselves; each gets its own error.
- *Memory's* (``MemoryError``; ONNX Runtime's is made one in ``onnx/session``): halved as well, and what proved too large is kept in mind
  for the next batches (``batching/ceiling``). A run that held a row which is too large by itself says nothing of the others.
- *A device's* (``DeviceLost``): no half can run either, so none is tried.

What would break it: a run that leaves its rows changed although it failed. A second run must start from what the first was given, so
results are put into ``Row.values`` after the last of them is there, and a stage may not change what it is given (``runtime/stages``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from runtime.batching.ceiling import Ceiling, below
from runtime.batching.rows import Row, wanted
from runtime.errors import DeviceLost, FunctionError, RequestError, RowTooLarge, WakefulError

logger = logging.getLogger("wakeful.function")


def halving(rows: Sequence[Row], run: Callable[[Sequence[Row]], None], stage: str) -> Ceiling | None:
    """Runs rows without an error together; on failure each half by itself, down to the row at fault. Who left meanwhile is left out.

    Returns:
        What batches are to be kept to, when memory had no room for these together and had for each by itself; None as a rule.
    """
    rows = wanted(rows, time.monotonic())
    if not rows:
        return None
    try:
        run(rows)
    except BaseException as error:  # a library's or a user's, sys.exit included; its rows get it, one by one
        if len(rows) == 1 or isinstance(error, DeviceLost):
            for row in rows:
                row.error = as_row_error(error, row, stage)
            return None
        is_memory = isinstance(error, MemoryError)
    else:
        return None
    return _halves(rows, run, stage, is_memory=is_memory)


def _halves(rows: Sequence[Row], run: Callable[[Sequence[Row]], None], stage: str, *, is_memory: bool) -> Ceiling | None:
    """Outside the ``except``: the failed run's frames, and the arrays they hold, are gone before memory is asked for again."""
    middle = len(rows) // 2
    first, second = halving(rows[:middle], run, stage), halving(rows[middle:], run, stage)
    if first is not None or second is not None:
        now = time.monotonic()
        return first.lowered(second, now) if first is not None else second
    if is_memory and not any(isinstance(row.error, RowTooLarge) for row in rows):
        logger.warning("stage %r: memory has no room for %d rows at once; they were run in halves", stage, len(rows))
        return below(rows, time.monotonic())
    return None


def as_row_error(error: BaseException, row: Row, stage: str) -> WakefulError:
    """What the caller sees: a stage's own refusal as it is, anything else as a fault of the function, told whole to the log only."""
    if isinstance(error, RequestError | DeviceLost):
        return error
    logger.error("request %s, row %d: stage %r failed", row.call.request_id, row.index, stage, exc_info=error)
    if isinstance(error, MemoryError):
        return RowTooLarge(f"stage {stage!r} has not enough memory for this row, even alone; send a smaller one.")
    return FunctionError(f"stage {stage!r} failed on this row; the function's log has the reason under the request id.")
