"""Answers as text; a row that JSON cannot carry fails alone, like by any other fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from runtime.errors import FunctionError, WakefulError
from runtime.wire import InferRequest, InferResponse, dumps

Outcome = dict[str, Any] | WakefulError

LARGE_VALUES: Final = 16 << 10
"""Numbers, or eights of characters, from which an answer is large: some 256 KiB of text."""


def rows_text(outcomes: Sequence[Outcome], identity: str) -> bytes:
    """A JSON array of what each row is answered with, errors in the error form.

    A large one is written a row at a time, so that other threads run in between.

    Args:
        identity: the request's id, which errors repeat.
    """
    if is_large(outcomes):
        return _apart(outcomes, identity)
    try:
        return dumps([row.body(identity) if isinstance(row, WakefulError) else row for row in outcomes])
    except FunctionError:
        return _apart(outcomes, identity)


def is_large(outcomes: Sequence[Outcome]) -> bool:
    """Whether rows make a large answer, by the first of them, and a list in it by its first element."""
    first = next((row for row in outcomes if not isinstance(row, WakefulError)), {})
    return len(outcomes) * sum(map(_values, first.values())) >= LARGE_VALUES


def is_long(response: InferResponse, request: InferRequest) -> bool:
    """Whether writing a response takes long: many values in JSON."""
    binary = {output.name for output in request.outputs if output.binary}
    if request.binary_default and not request.outputs:
        return False
    return sum(array.size for name, array in response.outputs.items() if name not in binary) >= LARGE_VALUES


def _apart(outcomes: Sequence[Outcome], identity: str) -> bytes:
    return b"[%b]" % b",".join([_row_text(row, identity) for row in outcomes])


def _values(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.size
    if isinstance(value, list):
        return len(value) * _values(value[0]) if value else 1
    return 1 + len(value) // 8 if isinstance(value, str | bytes) else 1


def _row_text(outcome: Outcome, identity: str) -> bytes:
    if isinstance(outcome, WakefulError):
        return dumps(outcome.body(identity))
    try:
        return dumps(outcome)
    except FunctionError as error:
        return dumps(error.body(identity))
