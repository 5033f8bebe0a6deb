"""Answers of several rows, and how large they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np

from runtime.errors import FunctionError, WakefulError
from runtime.http.bodies.offloading import LARGE_BYTES
from runtime.protocol import InferRequest, InferResponse, dumps
from runtime.protocol.json_text import MAX_DEPTH
from runtime.protocol.row_codec import encode_rows

Outcome = dict[str, Any] | WakefulError

VALUE_BYTES: Final = 16
"""Of JSON text that take as long to write as a number, or as eight characters."""

COPIED_BYTES: Final = 32
"""Of arrays that are copied while a byte of JSON is written: 8 MiB take milliseconds."""


def write_rows(outcomes: Sequence[Outcome], request_id: str) -> bytes:
    """Return a JSON array of each row's answer, errors in the error form. A row that JSON cannot
    carry fails alone, as by any other fault.

    A large array is written a row at a time, so that other threads run in between.

    Args:
        request_id: repeated in errors.
    """
    if answer_size(outcomes) >= LARGE_BYTES:
        return _write_one_by_one(outcomes, request_id)
    try:
        return dumps(
            [row.element(request_id) if isinstance(row, WakefulError) else row for row in outcomes]
        )
    except FunctionError:
        return _write_one_by_one(outcomes, request_id)


def write_lines(outcomes: Sequence[Outcome], request_id: str) -> bytes:
    """As ``write_rows``, with a line of JSON for each row."""
    return b"".join([b"%b\n" % _write_row(row, request_id) for row in outcomes])


def encode_outcomes(outcomes: Sequence[Outcome]) -> Sequence[bytes | memoryview]:
    """Return the answer to another function, not joined; a row that cannot go to another process
    fails alone.
    """
    try:
        return encode_rows(outcomes)
    except FunctionError:
        return encode_rows([_to_serializable(outcome) for outcome in outcomes])


def _to_serializable(outcome: Outcome) -> Outcome:
    try:
        encode_rows([outcome])
    except FunctionError as error:
        return error
    return outcome


def _write_one_by_one(outcomes: Sequence[Outcome], request_id: str) -> bytes:
    return b"[%b]" % b",".join([_write_row(row, request_id) for row in outcomes])


def _write_row(outcome: Outcome, request_id: str) -> bytes:
    if isinstance(outcome, WakefulError):
        return dumps(outcome.element(request_id))
    try:
        return dumps(outcome)
    except FunctionError as error:
        return dumps(error.element(request_id))


def answer_size(outcomes: Sequence[Outcome]) -> int:
    """Return about how many bytes of JSON rows are, judged by the first of them, and by the first
    element of a list in it.
    """
    first = next((row for row in outcomes if isinstance(row, Mapping)), {})
    return len(outcomes) * sum(map(_count_values, first.values())) * VALUE_BYTES


def response_size(response: InferResponse, request: InferRequest) -> int:
    """Return the bytes of JSON that take as long to write as a response: its values in JSON, and
    its texts in any form.
    """
    binary = {output.name for output in request.outputs if output.binary}
    if request.binary_default and not request.outputs:
        binary = set(response.outputs)
    outputs = response.outputs.items()
    return VALUE_BYTES * sum(
        array.size for name, array in outputs if name not in binary or array.dtype.hasobject
    )


def tensors_size(rows: Sequence[Mapping[str, Any]], names: Collection[str]) -> int:
    """Return the bytes of JSON that take as long to write as tensors of the rows' values take to
    make, judged by the first row: values in lists, and arrays that are copied.
    """
    values = [rows[0][name] for name in names if name in rows[0]]
    copied_bytes = (
        sum(value.nbytes for value in values if isinstance(value, np.ndarray))
        if len(rows) > 1
        else 0
    )
    in_lists = sum(_count_values(value) for value in values if not isinstance(value, np.ndarray))
    return len(rows) * (in_lists * VALUE_BYTES + copied_bytes // COPIED_BYTES)


def _count_values(value: Any, depth: int = 0) -> int:
    if isinstance(value, np.ndarray):
        return value.size
    if isinstance(value, list) and depth < MAX_DEPTH:  # one may contain itself
        return len(value) * _count_values(value[0], depth + 1) if value else 1
    return 1 + len(value) // 8 if isinstance(value, str | bytes) else 1
