"""Checks, before a function is ready, that batching does not change a model's answers.

``verify_batching`` runs rows alone, with others, and padded, and compares their answers.

- *With others*: the row is first, in the middle and last in runs with rows of other values and
  ranges. A model that adds up along the first axis, or rounds by the whole run, answers differently
  there, and is refused: ``rows: false`` makes each row a run of its own.
- *Padded*, where inputs are named in ``pad``: rows share runs with longer and shorter ones. A model
  that reads its padding is refused: it is right without ``pad``, or with a mask in the model.
- *By its graph* (``runtime.onnx.rows.mixing``): where an operator computes across rows, random rows
  of many ranges are tried, since what follows may hide it from most. Where trying cannot show
  anything, since an output is random or the model runs on nothing but copies of one row, the graph
  decides. Batch normalisation in training mode is refused: it answers by what ran before.

The values come from the example, as the earlier stages give them. They are made up where there is
no example, and where the limits let no two rows like the example's share a run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from runtime.errors import LoadError
from runtime.execution.stages.model_stage import ModelStage
from runtime.execution.verification.company_search import DEEP, PADDED, RUN_SIZES, CompanySearch
from runtime.execution.verification.company_trials import FAILS, CompanyTrials, TriedRow
from runtime.execution.verification.trial_rows import (
    Resize,
    Tensors,
    find_masks,
    is_padding,
    plan_companies,
    resize,
    vary,
)
from runtime.onnx.model_graph import ModelGraph, read_graph
from runtime.onnx.prepared_model import VerifiedModels, verification_key
from runtime.onnx.rows.mixing import Mixing, find_mixing
from runtime.onnx.session import dummy_inputs, varied_inputs

FREE: Final = (16, 32, 64)
"""Sizes of free dimensions for made-up rows; the first that the model takes is used. 32 is for
pictures, whose sides are halved.
"""

_VERSION: Final = 2
"""Raised when more is checked."""

logger = logging.getLogger("wakeful.model")


def verify_batching(
    stage: ModelStage, row: Tensors | None, *, most: int, verified: VerifiedModels, of: Any
) -> None:
    """Checks a model, unless that was done before.

    Args:
        row: the example's inputs without the rows axis; None: they are made up.
        most: rows that may share a run; 1: it is seen that one row gets one answer.
        of: plain data that the row depends on.

    Raises:
        LoadError: an answer changes; says by how much, and what to declare.
    """
    if not stage.batchable:
        return
    claim = verification_key(
        _VERSION, min(most, LARGEST), dict(stage.pad), stage.session.provider, of
    )
    if verified.holds(stage.session.path, claim):
        return
    check = _BatchingCheck(stage, most)
    if (problem := check.find_problem(row)) is not None:
        key, why = problem
        raise LoadError(f"stage {stage.name!r}, {key}: {why}")
    if check.has_run:
        verified.record(stage.session.path, claim)


LARGEST: Final = max(RUN_SIZES)
"""Rows of a run from which on more are not tried."""


class _BatchingCheck:
    """One check of one model.

    Args:
        most: rows that may share a run.

    Mutable state: ``_trials`` keeps what the rows showed.
    """

    def __init__(self, stage: ModelStage, most: int) -> None:
        self._stage = stage
        self._most = min(most, LARGEST)
        self._inputs = stage.session.info.inputs
        self._trials = CompanyTrials(stage)
        self._graph = _read_graph(stage)
        self._mixing = self._find_mixing(None)

    @property
    def has_run(self) -> bool:
        """Whether the model was tried."""
        return self._trials.runs > 0

    def find_problem(self, row: Tensors | None) -> tuple[str, str] | None:
        """The key that is wrong, and why; None where no answer changes."""
        if trained := [one for one in self._mixing if one.operator == "BatchNormalization"]:
            return "onnx", (
                f"{trained[0]} is in training mode: it answers by the rows that ran before and by"
                " those beside. Export the model for inference (`model.eval()` before the export)."
            )
        try:
            return self._find_change(row)
        except ValueError as error:  # the model returns another number of rows
            return "rows", f"{error}. {NO_ROWS}"

    def _find_change(self, row: Tensors | None) -> tuple[str, str] | None:
        base = self._dummy_row() if row is None else self._trials.run_alone(row)
        if base is None and row is not None:
            return None  # the runs of the example report it
        if base is None:
            return self._judge_untried("it runs on no row that was made up")
        if self._most < 2:
            self._trials.find_change([base])
            return None
        self._trials.find_random(base)
        made_up = "" if row is not None else MADE_UP
        if why := self._find_change_by_company(base):
            return "rows", f"{why}: {ROWS_DEPEND}{self._hint()}{made_up}"
        if self._stage.pad and (why := self._find_change_by_padding(base.row)):
            return "pad", (
                f"{why} Delete `pad`, and only rows of identical shapes share a run; or mask the"
                f" padding in the model.{made_up}"
            )
        return self._judge_random()

    def _find_change_by_company(self, base: TriedRow) -> str:
        mates = [
            tried
            for row in vary(base.row)
            if not _is_same(row, base.row) and (tried := self._trials.run_alone(row))
        ]
        if why := self._try_all([base, *mates]):
            return why
        if not mates and self._mixing:
            return "it runs on copies of one row alone, so other rows cannot be tried"
        if not mates:
            logger.warning(
                "%s runs on copies of one row alone; whether other rows move its answers was not"
                " tried, and nothing in its graph says so.",
                self._stage.session.path,
            )
        if not self._mixing:
            return ""
        search = CompanySearch(self._trials, self._inputs, base.row, most=self._most)
        return search.find_change(DEEP)

    def _try_all(self, rows: Sequence[TriedRow]) -> str:
        """Runs the first row with the others. Mates with which a run fails are left out; it
        fails at calls too, and is run in halves.
        """
        for order in plan_companies(len(rows) - 1, self._most):
            company = [rows[index] for index in order]
            change = self._trials.find_change(company)
            if change == FAILS:
                pairs = [[rows[0], mate] for mate in company if mate is not rows[0]]
                changes = [self._trials.find_change(pair) for pair in pairs]
                change = next((found for found in changes if found != FAILS), FAILS)
                if change == FAILS:
                    change = self._trials.find_change([rows[0]] * len(company))
                if change == FAILS:
                    return f"a run of {len(company)} rows fails, and of one of them does not"
            if change:
                return change
        return ""

    def _find_change_by_padding(self, row: Tensors) -> str:
        """How padding changes an answer; empty where it does not."""
        inputs = [spec for spec in self._inputs if spec.name in self._stage.pad]
        masks = find_masks(row)
        row = {name: np.ones_like(of) if name in masks else of for name, of in row.items()}
        for shorter, longer in LENGTHS:
            sizes = [resize(row, inputs, change) for change in (shorter, longer)]
            if not all(array.size for array in sizes[0].values()):
                continue
            short, long = (self._trials.run_alone(of) for of in sizes)
            if short is None or long is None:
                continue
            others = [other for other in vary(row, masks) if not is_padding(other, self._stage.pad)]
            shorts, longs = (
                [
                    tried
                    for other in others
                    if (tried := self._trials.run_alone(resize(other, inputs, change)))
                ]
                for change in (shorter, longer)
            )
            change = ""
            for at, company in enumerate(_chunks([short, *shorts], min(self._most, 5) - 1)):
                company.insert(at % (len(company) + 1), [long, *longs][at % (1 + len(longs))])
                change = change or self._trials.find_change(company)
            search = CompanySearch(
                self._trials, self._inputs, row, most=self._most, pad=self._stage.pad, masks=masks
            )
            if not (change := change or search.find_change(PADDED)):
                return ""
            shapes = [[list(size[spec.name].shape) for size in sizes] for spec in inputs]
            names = ", ".join(
                f"{spec.name!r} {shape[0]} to {shape[1]}"
                for spec, shape in zip(inputs, shapes, strict=True)
            )
            return f"{change}, of lengths that differ ({names})."
        return "it runs on rows of no other length, so padding cannot be tried."

    def _judge_untried(self, why: str) -> tuple[str, str] | None:
        """What the graph alone says."""
        if self._mixing:
            return "rows", (
                f"{why}, so it cannot be tried: {ROWS_DEPEND}{self._hint()} Or declare an `example`"
                " that reaches the model."
            )
        logger.warning(
            "%s: %s, so whether batching moves its answers was not tried; nothing in its graph says"
            " so. Declare an example that reaches it.",
            self._stage.session.path,
            why,
        )
        return None

    def _judge_random(self) -> tuple[str, str] | None:
        """What the graph says of outputs that differ by themselves, and cannot be compared."""
        outputs = self._stage.session.info.outputs
        names = [outputs[index].name for index in sorted(self._trials.random)]
        if not names:
            return None
        text = ", ".join(map(repr, names))
        if mixing := self._find_mixing(names):
            return "rows", (
                f"{text} of the same row is another at each run, so it cannot be tried, and"
                f" {mixing[0]} computes across rows: {ROWS_DEPEND}"
            )
        logger.info(
            "%s: %s of the same row is another at each run, so company was tried without it",
            self._stage.session.path,
            text,
        )
        return None

    def _hint(self) -> str:
        return f" In its graph {self._mixing[0]} computes across rows." if self._mixing else ""

    def _find_mixing(self, outputs: Sequence[str] | None) -> list[Mixing]:
        if self._graph is None:
            return []
        ranks = {spec.name: len(spec.shape) for spec in self._inputs}
        return find_mixing(self._graph, ranks, outputs)

    def _dummy_row(self) -> TriedRow | None:
        """A row that the model runs on; None if it runs on no made-up row."""
        for free in FREE:
            for make in (varied_inputs, dummy_inputs):
                made = make(self._inputs, 1, free)
                row = {name: array[0, ...] for name, array in made.items()}
                if (tried := self._trials.run_alone(row)) is not None:
                    return tried
        return None


NO_ROWS: Final = "`rows: false` takes and gives its tensors as they are."

ROWS_DEPEND: Final = (
    "answers depend on the other rows of a run. Declare `rows: false` for this model, and each row"
    " is a run of its own, its tensors as they are; or, if its first axis is one of rows all the"
    " same, `batching: {max_batch_size: 1}`."
)

MADE_UP: Final = " The values were made up; with an `example` they are its own."

LENGTHS: Final[Sequence[tuple[Resize, Resize]]] = (
    (lambda size: size, lambda size: 2 * size),
    (lambda size: size, lambda size: size + 7),
    (lambda size: size // 2, lambda size: size),
    (lambda size: size - 1, lambda size: size),
)
"""Lengths of a shorter and a longer row: some models take only multiples of a number, or rows no
longer than the example.
"""


def _read_graph(stage: ModelStage) -> ModelGraph | None:
    """None where it cannot be read: it is no ONNX file, or was removed since."""
    try:
        return read_graph(stage.session.path)
    except LoadError as error:
        logger.warning("%s", error)
        return None


def _is_same(row: Tensors, other: Tensors) -> bool:
    return all(np.array_equal(array, other[name]) for name, array in row.items())


def _chunks(rows: Sequence[TriedRow], size: int) -> Iterator[list[TriedRow]]:
    for start in range(0, len(rows), max(1, size)):
        yield list(rows[start : start + max(1, size)])
