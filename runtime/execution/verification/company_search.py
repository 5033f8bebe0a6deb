"""Searches for a company that changes an answer: random rows, and rows near an edge.

What mixes rows may be hidden behind a threshold, a rounding, the larger of two: most rows answer
the same whatever is beside them, and those close to the edge do not. Between two rows whose answers
differ, halving finds rows as close to it as one likes.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from runtime.execution.verification.company_trials import FAILS, CompanyTrials, TriedRow
from runtime.execution.verification.trial_rows import (
    MOST,
    Array,
    Resize,
    Tensors,
    between,
    draw_row,
    is_padding,
    resize,
)
from runtime.types.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is searched.

    Attributes:
        companies: runs of several rows.
        rows: random rows that they are made of.
        edges: edges that are looked for; each takes ``HALVINGS`` runs.
        limit_s: seconds of processor time, and ten times as many of the clock, after which no run
            is begun; a model for which that counts is large, and large ones have moved after a few.
    """

    companies: int
    rows: int
    edges: int
    limit_s: float


DEEP: Final = Effort(2500, 400, 40, 5.0)
"""Where the graph computes across rows."""

PADDED: Final = Effort(1500, 300, 20, 0.4)
"""Where rows are padded."""

HALVINGS: Final = 16
MAX_BYTES: Final = 16 << 20
"""Of the random rows' inputs."""

RUN_SIZES: Final = (2, 3, 5, 12, 24)
"""Rows of a run: of few, none hides what another shows; of many, the least and the most lie further
apart.
"""

LENGTH: Final = 24
"""Longest padded row that is tried, unless twice the length that is known is longer."""

LEAST: Final = 8
"""Random rows that are drawn however large they are."""


class CompanySearch:
    """A search with one model.

    Args:
        inputs: of the model.
        most: rows that may share a run, at least 2.
        row: a row that it runs on, whose values and shapes the others are like.
        pad: by padded input, its number; rows of other lengths share runs then. None: rows of one
            shape do.
        masks: inputs that keep their values.
    """

    def __init__(
        self,
        trials: CompanyTrials,
        inputs: Sequence[TensorSpec],
        row: Tensors,
        *,
        most: int,
        pad: Mapping[str, float] | None = None,
        masks: Collection[str] = (),
    ) -> None:
        self._trials = trials
        self._resized = [spec for spec in inputs if pad is None or spec.name in pad]
        self._row = row
        self._most = most
        self._pad = pad
        self._masks = masks
        self._random = np.random.default_rng(3)
        self._largest: dict[str, int] = {}

    def find_change(self, effort: Effort) -> str:
        """As ``CompanyTrials.find_change``; empty where nothing was found."""
        spent = _Stopwatch()
        for name, array in self._row.items():
            if array.dtype.kind in "iu" and name not in self._masks:
                self._largest[name] = self._find_largest(name, spent, effort.limit_s / 4)
        pools: dict[Any, list[TriedRow]] = {}
        for tried in self._draw_rows(effort):
            pools.setdefault(self._shapes(tried.row), []).append(tried)
            if spent() > effort.limit_s / 3:
                break
        choices = [pool for pool in pools.values() if len(pool) > 1]
        for at in range(effort.edges if choices else 0):
            if spent() > effort.limit_s / 2:
                break
            pool = choices[at % len(choices)]
            pool += self._find_edge(pool[int(self._random.integers(len(pool)))])
        for at in range(effort.companies if choices else 0):
            pool = choices[at % len(choices)]
            size = min(self._most, int(self._random.choice(RUN_SIZES)))
            places = self._random.integers(0, len(pool), size)
            change = self._trials.find_change([pool[place] for place in places])
            if change and change != FAILS:
                return change
            if spent() > effort.limit_s:
                break
        return ""

    def _shapes(self, row: Tensors) -> tuple[tuple[int, ...], ...]:
        """What rows of a run have in common."""
        return () if self._pad is not None else tuple(array.shape for array in row.values())

    def _draw_rows(self, effort: Effort) -> Iterator[TriedRow]:
        """Random rows that the model runs on, as many as the memory for them allows."""
        used = 0
        for at in range(2 * effort.rows):
            change = SIZES[at % len(SIZES)]
            if self._pad is not None:
                change = self._draw_length()
            sized = resize(self._row, self._resized, change)
            drawn = self._draw_like(sized)
            used += sum(array.nbytes for array in drawn.values())
            if at >= effort.rows or (used > MAX_BYTES and at >= LEAST):
                return
            if not is_padding(drawn, self._pad or {}):
                tried = self._trials.run_alone(drawn)
                if tried is not None:
                    yield tried

    def _draw_like(self, row: Tensors) -> Tensors:
        return draw_row(row, self._random, self._masks, self._largest)

    def _draw_length(self) -> Resize:
        """Of a padded row, from 1 to twice the length that is known, or to ``LENGTH``; short ones
        are as many as long ones.
        """
        if self._random.random() < 0.2:
            short = int(self._random.integers(1, 3, endpoint=True))
            return lambda _: short
        part = float(self._random.uniform())
        return lambda size: round(max(LENGTH, 2 * size) ** part)

    def _find_largest(self, name: str, spent: _Stopwatch, limit_s: float) -> int:
        """The largest integer that an input takes, such as the last place of a table; at most
        ``MOST``.
        """
        row = resize(self._row, self._resized, lambda _: 1)
        if self._trials.run_alone(row) is None:
            row = self._row
        array = row[name]
        low, high = int(array.max(initial=0)), min(MOST, int(np.iinfo(array.dtype).max))
        middle = high
        while low < high and spent() < limit_s:
            found = self._trials.run_alone({**row, name: np.full_like(array, middle)})
            low, high = (middle, high) if found is not None else (low, middle - 1)
            middle = (low + high + 1) // 2
        return low

    def _find_edge(self, one: TriedRow) -> list[TriedRow]:
        """Rows that come closer and closer to one where an answer jumps, from both sides."""
        other = self._trials.run_alone(self._draw_like(one.row))
        place = None if other is None else self._choose_number(one.answer, other.answer)
        if other is None or place is None:
            return []
        found = []
        for _ in range(HALVINGS):
            middle = self._trials.run_alone(between(one.row, other.row))
            if middle is None or middle.answer[place[0]].shape != one.answer[place[0]].shape:
                break
            found.append(middle)
            if _distance(one, middle, place) >= _distance(middle, other, place):
                other = middle
            else:
                one = middle
        return found[2::3]

    def _choose_number(
        self, one: Sequence[Array], other: Sequence[Array]
    ) -> tuple[int, int] | None:
        """A random number in which two answers differ: the output, and its place there."""
        places = [
            (index, int(place))
            for index, (left, right) in enumerate(zip(one, other, strict=True))
            if left.shape == right.shape
            and left.dtype.kind in "fiub"
            and index not in self._trials.random
            for place in np.flatnonzero(left != right)[:64]
        ]
        return places[int(self._random.integers(len(places)))] if places else None


SIZES: Final[Sequence[Resize]] = (
    lambda size: size,
    lambda size: size,
    lambda _: 1,
    lambda _: 3,
    lambda _: 7,
    lambda _: 20,
    lambda size: 2 * size,
)
"""Lengths of random rows that are not padded; the model may take the first alone."""


class _Stopwatch:
    """Seconds since it was made: of this thread on a processor, so that as much is tried on a busy
    machine, or a tenth of the clock's, for a device.

    Mutable state: ``_on_processor``, as it was when it was last asked for, at ``_asked``: to ask
    the system takes as long as a run of a small model.
    """

    def __init__(self) -> None:
        self._began = self._asked = time.monotonic()
        self._used = time.thread_time()
        self._on_processor = 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        if now > self._asked + 0.05:
            self._asked, self._on_processor = now, time.thread_time() - self._used
        return max(self._on_processor, (now - self._began) / 10)


def _distance(one: TriedRow, other: TriedRow, place: tuple[int, int]) -> float:
    output, at = place
    left, right = (float(tried.answer[output].flat[at]) for tried in (one, other))
    distance = abs(left - right)
    return distance if np.isfinite(distance) else 0.0 if left == right else np.inf
