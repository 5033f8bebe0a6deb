"""When a batch leaves and which rows are in it: pure functions of the waiting rows and of ``now``.

Rules:

1. Work-conserving. A batch leaves the moment a worker is free, unless ``batch_wait_timeout_s`` asks
   to wait for batch-mates; idle time is never spent in the hope of a fuller batch. While all
   workers are busy the queue grows by itself, and so do batches.
2. The oldest row always leaves first, so no row waits for ever for batch-mates of its length.
3. Only rows of one key share a batch: their tensors have identical shapes, but for axes that may be
   padded.
4. Padding must pay. A row joins a batch when the padding this adds costs less than the run it saves
   (``run_cost``), and padding never exceeds ``max_padding`` of a batch; each input that is padded
   keeps these bounds. Measured on an int8 MiniLM with texts of 4 to 200 tokens: batches of 32 in
   arrival order 41 rows/s, one by one 174, near-equal lengths 178.
5. Batches are bounded by rows and, for ragged rows, by padded elements: a long batch delays all
   rows after it.
6. Idle workers share. With one more worker free, half of the waiting rows are left to it: two rows
   on two cores beat two in a batch.
7. A row with ``run_solo`` (it was running when a process died) leaves by itself, the moment it is
   the oldest, and joins no batch.

What would break it: a key that leaves out an axis that is not padded (rule 3), or a clock that runs
backwards (rule 1).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

Shape = tuple[int, ...]


class Waiting(Protocol):
    """What the policy knows of a waiting row."""

    @property
    def key(self) -> Hashable:
        """Rows with different keys never share a batch. Rows of one key have the same number of
        shapes, each of the same rank.
        """

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of its ragged tensors, each once; empty for rows of fixed shape."""

    @property
    def padded_size(self) -> int:
        """Elements of the row's largest ragged tensor; 0 for rows of fixed shape."""

    @property
    def since(self) -> float:
        """When it began to wait, seconds, ``time.monotonic``."""

    @property
    def run_solo(self) -> bool:
        """Whether it shares a batch with no other row."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The declared ``batching`` of a function; see ``BatchingSpec`` for defaults and reasons.

    Attributes:
        max_batch_size: rows a model call.
        batch_wait_timeout_s: longest wait of the oldest row for batch-mates; 0: it leaves at once.
        run_cost: padded elements that cost as much as starting another run; a row that adds more
            padding waits for a run of its own.
        max_padding: share of a batch that may be padding, 0 to 1.
        max_batch_cost: padded elements a batch may hold; None does not limit it. A single row may
            always leave.
        before_models: its rows may fill the batch of a later model, and go before a model whose
            batch is not full.
    """

    max_batch_size: int = 32
    batch_wait_timeout_s: float = 0.0
    run_cost: int = 8
    max_padding: float = 0.25
    max_batch_cost: int | None = None
    before_models: bool = False


UNBATCHED = BatchLimits(max_batch_size=1)
"""A model without a rows axis: each row is a run of its own."""

_PYTHON_BATCH_S = 0.002
_PYTHON_BATCH_ROWS = 8
"""Rows that may have to wait for a slow row of their batch while other workers are idle."""


def python_batch_limits(row_s: float) -> BatchLimits:
    """The limits of stages that take one row at a time: about two milliseconds' worth of rows and
    at most eight, so that quick rows share a hop into a thread, and slow rows are left to other
    workers and answered as they are done.

    Args:
        row_s: seconds a row takes, smoothed; 0 when not known yet.
    """
    return _PYTHON_LIMITS[
        max(1, min(_PYTHON_BATCH_ROWS, int(_PYTHON_BATCH_S / row_s))) if row_s else 1
    ]


_PYTHON_LIMITS = [
    BatchLimits(max_batch_size=max(1, size)) for size in range(_PYTHON_BATCH_ROWS + 1)
]


@dataclass(frozen=True, slots=True)
class Run:
    """The rows at these positions of the queue run now."""

    positions: Sequence[int]


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """No batch leaves before ``until`` (seconds, ``time.monotonic``) unless more rows arrive."""

    until: float


NOTHING_DUE = WaitUntil(math.inf)
_FIRST = Run(range(1))

MOST_LOOKED_AT = 4096
"""Rows of a queue among which a ragged batch is chosen: the oldest. The choice is made while the
workers of all functions wait for the lock. Among 32,768 rows of 400 lengths it took 20 to 40 ms,
with neighbours late by 225 ms; with as many rows of a length as a batch has, more gain nothing.
"""


def choose(
    queue: Sequence[Waiting], limits: BatchLimits, now: float, *, idle_workers: int = 0
) -> Run | WaitUntil:
    """Which waiting rows leave together.

    Args:
        queue: rows in order of arrival.
        idle_workers: idle workers in addition to the one that asks.
    """
    if not queue:
        return NOTHING_DUE
    if queue[0].run_solo:
        return _FIRST
    positions = _batch_positions(queue, limits)
    due = queue[0].since + limits.batch_wait_timeout_s
    if len(positions) < limits.max_batch_size and now < due:
        return WaitUntil(due)
    if idle_workers and len(queue) <= limits.max_batch_size:
        positions = positions[: math.ceil(len(queue) / (idle_workers + 1))]
    return Run(positions)


def is_full(queue: Sequence[Waiting], limits: BatchLimits) -> bool:
    """Whether the waiting rows fill a batch, so that waiting for more gains nothing: by their
    number, or the oldest row by its own padded size.
    """
    return len(queue) >= limits.max_batch_size or (
        limits.max_batch_cost is not None and queue[0].padded_size >= limits.max_batch_cost
    )


def _batch_positions(queue: Sequence[Waiting], limits: BatchLimits) -> Sequence[int]:
    """Positions of the oldest row and of the rows that may share its batch, nearest lengths
    first.
    """
    head = queue[0]
    if not head.shapes:
        return range(_count_before_solo(queue, min(len(queue), limits.max_batch_size)))
    alike = _alike(queue, limits)
    most_cost = math.inf if limits.max_batch_cost is None else limits.max_batch_cost
    chosen, largest = [0], head.padded_size
    batch = [(shape, size := math.prod(shape), size, 0) for shape in head.shapes]
    for i in alike:
        count = len(chosen) + 1
        if count > limits.max_batch_size or count * largest > most_cost:
            break  # it is full, and no row makes it narrower
        if (wider := _with_row(batch, queue[i].shapes, count, limits, most_cost)) is not None:
            chosen.append(i)
            batch = wider
            largest = max(elements for _, elements, _, _ in batch)
    return chosen


def _alike(queue: Sequence[Waiting], limits: BatchLimits) -> list[int]:
    """Positions of rows that may share the oldest row's batch, nearest lengths first, of the
    ``MOST_LOOKED_AT`` oldest; without those that rule 4 keeps out of any batch of it.

    A row that is shorter adds at least the difference in padding. A longer one adds what it is
    longer than the widest, for each row before it; so the widest grows by ``run_cost``, a half of
    it, a third and so on at most.
    """
    head = queue[0]
    key, cost = head.key, head.padded_size
    alike = [
        i
        for i in range(1, min(len(queue), MOST_LOOKED_AT))
        if queue[i].key == key and not queue[i].run_solo
    ]
    if len(head.shapes) == 1:  # else another input may be the largest one of a row
        longest = cost + limits.run_cost * _harmonic(limits.max_batch_size)
        shortest = cost - limits.run_cost
        alike = [i for i in alike if shortest <= queue[i].padded_size <= longest]
    alike.sort(key=lambda i: abs(queue[i].padded_size - cost))
    return alike


@functools.cache
def _harmonic(rows: int) -> float:
    return sum(1 / n for n in range(1, rows)) + 1e-9


_Padded = tuple[Shape, int, int, int]
"""One ragged input in a batch: the widest shape, its elements, the elements of all rows that are
not padding, and those that are.
"""


def _with_row(
    batch: list[_Padded], shapes: Sequence[Shape], count: int, limits: BatchLimits, most_cost: float
) -> list[_Padded] | None:
    """The batch with one more row, ``count`` in all; None if it is too large or has too much
    padding, or if the padding that the row adds costs more than a run of its own. A loop without
    helpers: it runs for each waiting row.
    """
    joined = []
    for (widest, elements, filled, before), shape in zip(batch, shapes, strict=True):
        if shape == widest:
            filled += elements
        else:
            widest = tuple(map(max, widest, shape))
            filled += math.prod(shape)
            elements = math.prod(widest)
        size = elements * count
        padding = size - filled
        if (
            size > most_cost
            or padding - before > limits.run_cost
            or padding > limits.max_padding * size
        ):
            return None
        joined.append((widest, elements, filled, padding))
    return joined


def _count_before_solo(queue: Sequence[Waiting], most: int) -> int:
    """How many of the first ``most`` rows come before one with ``run_solo``. A plain loop: every
    batch pays for it.
    """
    for i in range(most):
        if queue[i].run_solo:
            return i
    return most
