"""Runs rows of a model by themselves and in company, and compares their answers.

A difference counts only where the row's answer stands still by itself. An answer that is another at
the next run is random; one that moves as far when the row's own floats move by a millionth lies on
an edge (a number to be rounded, the larger of two equals), where the order of a sum decides as
well. Both are judged element by element.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtime.execution.stages.model_stage import ModelStage
from runtime.execution.verification.trial_rows import Array, Tensors
from runtime.onnx.providers import CPU

Outputs = Sequence[Array]

TOLERANCE: Final = 1e-4
"""How far a number may move, of the largest number of its output where that is above 1: sums of
unlike order differ by less.
"""

EXACT: Final = (CPU, "CUDAExecutionProvider")
INEXACT_TOLERANCE: Final = 1e-2
"""The same where a device may round float32 by itself, and differently for each number of rows;
CUDA is configured not to.
"""

NUDGES: Final = (1e-6, -1e-6, 4e-6, -4e-6)
"""How far the floats of a row are moved, of themselves, to see if its answer lies on an edge."""


FAILS: Final = "its run fails"


SAME: Final = 1e-3
"""Of the tolerance: what moves further when the same row runs again is random."""


@dataclass(slots=True)
class TriedRow:
    """A row that the model ran on.

    Attributes:
        row: its tensors, without the rows axis.
        answer: its outputs by itself.
        unsteady: by output, the elements that differ by themselves; None until that is asked for.
    """

    row: Tensors
    answer: Outputs
    unsteady: list[NDArray[np.bool_]] | None = field(default=None)


class CompanyTrials:
    """Tries one model.

    Mutable state: ``runs``, how many companies ran; ``_random``, by output, the elements that were
    seen to differ at another run of the same row.
    """

    def __init__(self, stage: ModelStage) -> None:
        self._stage = stage
        self._tolerance = TOLERANCE if stage.session.provider in EXACT else INEXACT_TOLERANCE
        self._random: dict[int, NDArray[np.bool_]] = {}
        self.runs = 0

    @property
    def random(self) -> Collection[int]:
        """Outputs that differ when the same row runs again."""
        return self._random.keys()

    def find_random(self, tried: TriedRow) -> None:
        """Runs a row again, to see what of its answer is random."""
        for _ in range(2):
            again = self._stage.try_run([tried.row])
            for index, output in enumerate(again[0] if again else ()):
                self._note_random(index, tried.answer[index], output)

    def run_alone(self, row: Tensors) -> TriedRow | None:
        """A row by itself; None where the model does not run on it.

        Raises:
            ValueError: the model returns another number of rows.
            MemoryError: there was no room for the run.
        """
        found = self._stage.try_run([row])
        return TriedRow(row, found[0]) if found else None

    def find_change(self, rows: Sequence[TriedRow]) -> str:
        """How an answer changes in one run of these rows, and of which; empty where none does, and
        ``FAILS`` where the run fails.

        Raises:
            ValueError, MemoryError: as ``run_alone``.
        """
        found = self._stage.try_run([one.row for one in rows])
        if not found:
            return FAILS
        self.runs += 1
        if self._is_still(rows, found):
            return ""
        for at, (tried, outputs) in enumerate(zip(rows, found, strict=True)):
            if why := self._compare(tried, outputs):
                return f"{why} as number {at + 1} of {len(rows)} rows"
        return ""

    def _is_still(self, rows: Sequence[TriedRow], found: Sequence[Outputs]) -> bool:
        """Whether surely no answer moved: all rows at a time, since nearly always none did."""
        for index in range(len(rows[0].answer)):
            drawn = self._random.get(index)
            if drawn is not None and drawn.all():
                continue
            answers = [one.answer[index] for one in rows]
            given = [outputs[index] for outputs in found]
            if drawn is not None or [one.shape for one in answers] != [one.shape for one in given]:
                return False
            left, right = (np.concatenate([one.ravel() for one in of]) for of in (answers, given))
            if not _is_close(left, right, self._tolerance):
                return False
        return True

    def _compare(self, tried: TriedRow, found: Outputs) -> str:
        specs = self._stage.session.info.outputs
        for index, (spec, wanted, given) in enumerate(zip(specs, tried.answer, found, strict=True)):
            moved = find_moved(wanted, given, self._tolerance)
            if moved is None:
                continue
            if wanted.shape == given.shape:
                moved = moved & ~self._drawn(index, moved.shape)
                if moved.any():
                    if tried.unsteady is None:
                        tried.unsteady = self._find_unsteady(tried)
                    moved = moved & ~tried.unsteady[index] & ~self._drawn(index, moved.shape)
                if not moved.any():
                    continue
            return f"{spec.name!r} of a row is {describe_change(wanted, given, moved)}"
        return ""

    def _drawn(self, index: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """The elements of an output that are random; all, where they were seen in another shape."""
        drawn = self._random.get(index, np.zeros((), bool))
        return np.broadcast_to(drawn if drawn.shape == shape else drawn.any(), shape)

    def _find_unsteady(self, tried: TriedRow) -> list[NDArray[np.bool_]]:
        """By output, what moves when the floats of the row are nudged."""
        unsteady = [np.zeros(output.shape, bool) for output in tried.answer]
        self.find_random(tried)
        for nudge in NUDGES:
            near = {
                name: array * array.dtype.type(1 + nudge) if array.dtype.kind == "f" else array
                for name, array in tried.row.items()
            }
            found = self._stage.try_run([near])
            for index, output in enumerate(found[0] if found else ()):
                moved = find_moved(tried.answer[index], output, self._tolerance)
                if moved is not None:
                    unsteady[index] |= moved
        return unsteady

    def _note_random(self, index: int, answer: Array, again: Array) -> None:
        moved = find_moved(answer, again, self._tolerance * SAME)
        if moved is not None:
            known = self._random.get(index)
            is_alike = known is not None and known.shape == moved.shape
            self._random[index] = known | moved if known is not None and is_alike else moved


def find_moved(
    alone: Array, found: Array, tolerance: float = TOLERANCE
) -> NDArray[np.bool_] | None:
    """Which elements of an output differ from those of the row by itself; all where the shapes do,
    and None where nothing differs.
    """
    if alone.shape != found.shape:
        return np.ones(alone.shape, bool)
    if alone.dtype.kind != "f":
        moved = np.asarray(alone != found, bool)
        return moved if moved.any() else None
    if _is_close(alone, found, tolerance):
        return None
    wanted, given = alone.astype(np.float64), found.astype(np.float64)
    largest = float(np.max(np.abs(wanted), where=np.isfinite(wanted), initial=1.0))
    allowed = largest * max(tolerance, 4 * float(np.finfo(alone.dtype).eps))
    with np.errstate(invalid="ignore"):
        moved = ~(
            (np.abs(given - wanted) <= allowed)
            | (wanted == given)
            | (np.isnan(wanted) & np.isnan(given))
        )
    return moved if moved.any() else None


def _is_close(alone: Array, found: Array, tolerance: float) -> bool:
    """Whether no number moved further than any may; False for what has a NaN."""
    if alone.dtype.kind != "f":
        return np.array_equal(alone, found)
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.abs(found - alone).max(initial=0.0) <= tolerance)


def describe_change(alone: Array, found: Array, moved: NDArray[np.bool_]) -> str:
    """The two numbers that are furthest from each other, or the first that are unlike; of unlike
    shapes, the shapes.
    """
    if alone.shape != found.shape:
        return f"{list(alone.shape)} by itself and {list(found.shape)}"
    at: Any = np.unravel_index(int(np.argmax(moved)), moved.shape)
    if alone.dtype.kind != "f":
        return f"{alone[at]} by itself and {found[at]}"
    wanted, given = alone.astype(np.float64), found.astype(np.float64)
    is_number = moved & np.isfinite(wanted) & np.isfinite(given)
    with np.errstate(invalid="ignore"):
        distance = np.where(is_number, np.abs(given - wanted), 0)
    if distance.any():
        at = np.unravel_index(int(np.argmax(distance)), distance.shape)
    return f"{wanted[at]:.6g} by itself and {given[at]:.6g}"
