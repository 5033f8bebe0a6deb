"""What the log gets of rows that fail: one record, with its traceback, for all rows of a call that
fail at the same place, and the count of the others when the call is done.

A record for each row filled a disk at a caller's will: 1,024 rows of 12 bytes wrote 540 kB.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from runtime.artifacts.tracebacks import error_place
from runtime.batching.calls import Call, Row

MOST_PLACES: Final = 8
"""Of a call, with a record of their own; what fails elsewhere is only counted."""

_OTHER: Final = "at other places"

_COUNTING = threading.Lock()
"""Rows of one call fail in several threads."""

logger = logging.getLogger("wakeful.function")


def log_failure(row: Row, what: str, error: BaseException, *, text: str = "") -> None:
    """Log that a row failed, unless one of its call has failed so before; ``log_counts`` says how
    many more there were.

    Args:
        what: has failed: ``stage 's' failed``.
        text: says all that there is to say; the record has no traceback then.
    """
    if _is_first(row.call, f"{what}: {type(error).__name__} {text or error_place(error)}"):
        logger.error(
            "request %s, row %d: %s",
            row.call.request_id,
            row.index,
            text or what,
            exc_info=None if text else error,
        )


def log_counts(call: Call) -> None:
    """Log how many rows of a call failed in addition to those that have a record. Called once, when
    the call is done.
    """
    for place, count in (call.failures or {}).items():
        if count > 1 or place == _OTHER:
            logger.error(
                "request %s: %d more rows failed: %s",
                call.request_id,
                count - (place != _OTHER),
                place,
            )


def _is_first(call: Call, place: str) -> bool:
    with _COUNTING:
        if call.failures is None:
            call.failures = {}
        if place not in call.failures and len(call.failures) >= MOST_PLACES:
            place = _OTHER
        call.failures[place] = call.failures.get(place, 0) + 1
        return call.failures[place] == 1 and place != _OTHER
