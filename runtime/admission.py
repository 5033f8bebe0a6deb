"""Admit a call, and its body, or refuse it at once: pure functions of what is in flight."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runtime.errors import Overloaded, TooLarge

IN_FLIGHT = 4
"""Rows in flight that a replica holds, as a multiple of ``max_rows``, and bytes, of ``max_body_bytes``: a largest call is being
computed, another waits, and small ones still find room beside both."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a replica has in flight: accepted and not yet answered."""

    calls: int
    rows: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """What it may have.

    Attributes:
        calls: ``max_ongoing_requests`` and ``max_queued_requests`` together.
        rows: see ``IN_FLIGHT``.
        workers: threads that compute.
        bytes: of bodies.
    """

    calls: int
    rows: int
    workers: int
    bytes: int


def refusal(load: Load, capacity: Capacity, rows: int, row_s: float) -> Overloaded | None:
    """Why a call of ``rows`` rows is not admitted now; None when it is.

    Args:
        row_s: seconds of one worker that a row takes; with the rows in flight it makes ``Retry-After``.
    """
    if load.calls < capacity.calls and (load.rows == 0 or load.rows + rows <= capacity.rows):
        return None
    wait_s = backlog_s(load.rows, row_s, capacity.workers)
    return Overloaded(
        f"{load.calls} calls with {load.rows} rows are in flight, {capacity.calls} calls and {capacity.rows} rows are taken at once. "
        f"Call again in {wait_s} s, or raise limits.max_queued_requests.",
        retry_after_s=wait_s,
    )


def backlog_s(rows: int, row_s: float, workers: int) -> int:
    """Whole seconds, one at least, that so many rows take so many workers at ``row_s`` seconds a row."""
    return max(1, math.ceil(rows * row_s / workers))


def bytes_refusal(held: int, own: int, more: int, most: float, wait_s: float) -> Overloaded | None:
    """Why ``more`` bytes of a body are not taken now; None when they are.

    A body that has the room to itself always finds it: how large one may be is limited elsewhere.

    Args:
        held: bytes of bodies in the room, this one's among them.
        own: bytes of this body.
        most: bytes that the room holds.
        wait_s: becomes ``Retry-After``.
    """
    if held == own or held + more <= most:
        return None
    return Overloaded(
        f"{held} bytes of bodies are in flight and {more} more are sent, {most:.0f} are held at once. Call again in {wait_s:.0f} s, "
        "or raise limits.max_ongoing_bytes.",
        retry_after_s=wait_s,
    )


def refuse_too_many(rows: int, max_rows: int) -> None:
    """Raises TooLarge for a request of more rows than the function takes."""
    if rows > max_rows:
        raise TooLarge(f"{rows} rows are more than the {max_rows} of limits.max_rows; send them in parts.")
