"""Cuts a graph into segments: stages that run on one batch without a pause. Between two segments
rows are batched again.

A model begins a segment, since a full batch of it pays; so does a stage that takes all rows
(``Rows``), unless the segment before it has batched rows by the same limits and by nothing else.
Coroutine stages and calls of other functions form segments of their own on the event loop, and a
stage with ``threads`` is one by itself; stages that take a row at a time belong to the segment
before them, if they are for the same rows (``each``, ``when``). MiniLM embeddings make two:
``tokenize``, then ``model, answer``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from types import FrameType
from typing import Any

from runtime.artifacts.tracebacks import is_wakefuls
from runtime.batching.bisection import BatchSizeCap
from runtime.batching.calls import Row, rows_still_needed
from runtime.batching.fan_out import ElementOrder
from runtime.batching.policy import UNBATCHED, BatchLimits
from runtime.batching.reservation import large_bytes, set_held
from runtime.declaration.function_spec import BatchingSpec
from runtime.errors import Overloaded
from runtime.execution.stages.function_stage import FunctionStage
from runtime.execution.stages.model_stage import ModelStage
from runtime.execution.stages.python_stage import PythonStage
from runtime.graph.segmentation import (
    ON_LOOP,
    StageKind,
    StageType,
    batch_limits_of,
    gathers_rows,
    group_stages,
    type_of_signature,
    waits_before,
)
from runtime.types.conditions import Condition

AnyStage = PythonStage | ModelStage | FunctionStage
"""Each gives every row without an error its values, or its error: as many rows come out as went in.
"""


@dataclass(frozen=True, slots=True)
class GraphStage:
    """A stage and the rows that it is for.

    Attributes:
        each: the value whose elements it runs over; None: outer rows.
        when: which of them it is for; None: all.
        threads: that run it and nothing else; 0: the function's workers do.
        element_order: of what it streams for the elements of ``each``; None: that is gathered.
        build: of a stage that is a class, makes a new object of it; None: it has none.
    """

    stage: AnyStage
    each: str | None = None
    when: Condition | None = None
    threads: int = 0
    element_order: ElementOrder | None = None
    build: Callable[[], Callable[..., Any]] | None = None


class Segment:
    """Stages that run one after another on the same rows; see
    ``runtime.batching.queues.SegmentProtocol``.

    Args:
        needed: names of the values that are used after it.
        made: those of them that stages gave up to here; the memory that they take is counted.
        spent: names of the values that are not used any more; they are dropped: a page's pixels
            before its lines are read.
        waits: its rows may wait for batch-mates; False where they have done so just before.
        one_by_one: its elements are streamed in the end: another function gets each by itself, and
            answers each when it is done.

    Attributes:
        gathers: its first stage takes many rows at once.
    """

    def __init__(
        self,
        stages: Sequence[GraphStage],
        batching: BatchingSpec,
        needed: Collection[str],
        made: Collection[str],
        spent: Collection[str],
        *,
        waits: bool = True,
        one_by_one: bool = False,
    ) -> None:
        first = stages[0].stage
        self._model = first if isinstance(first, ModelStage) else None
        self.gathers = gathers_rows(kind_of(first))
        self._waits = waits
        self.name = first.name
        self.stages = tuple(stage.stage for stage in stages)
        self._builds = [
            (stage.stage, stage.build)
            for stage in stages
            if isinstance(stage.stage, PythonStage) and stage.build is not None
        ]
        self.each, self.when = stages[0].each, stages[0].when
        self.threads = stages[0].threads
        self.is_python = all(isinstance(stage, PythonStage) for stage in self.stages)
        self.gives = tuple(name for stage in self.stages for name in stage.gives if name in needed)
        self._made = tuple(made)
        self._spent = tuple(spent)
        self.on_loop = kind_of(first) in ON_LOOP
        self.element_order = stages[-1].element_order
        self.calls = isinstance(first, FunctionStage)
        self.by_call = self.calls and not one_by_one
        self.streams = isinstance(first, PythonStage) and first.signature.is_generator
        self.batch_limits: BatchLimits | None = UNBATCHED if self.streams else None
        self.apply_settings(batching)

    def apply_settings(self, batching: BatchingSpec) -> None:
        """Batches rows as declared, from the next batch on."""
        if self.gathers:
            self.batch_limits = batch_limits_of(
                batching, waits=self._waits, is_model=self._model is not None
            )
        elif self._model is not None:
            self.batch_limits = UNBATCHED

    def renew(self, stage: str) -> None:
        """Blocking: from now on the stage of this name has a new object if it is a class; all that
        are classes where the name is empty. One that runs goes on with the object that it has.

        Raises:
            LoadError: an ``__init__`` raises; that stage keeps its object.
        """
        for one, build in self._builds:
            if stage in ("", one.name):
                one.call = build()

    def stage_in(self, frames: Sequence[FrameType]) -> str:
        """The stage that stands in a thread's frames, innermost first; empty: none of its."""
        for frame in frames:
            # reading the variables of other code may run some of it
            owner = is_wakefuls(frame.f_code.co_filename) and frame.f_locals.get("self")
            for stage in self.stages:
                if owner is stage:
                    name: str = stage.name
                    return name
        return ""

    def measure(self, row: Row) -> None:
        """Sets what the batching policy needs to know of a waiting row."""
        if self._model is not None:
            self._model.measure(row)
        elif row.shapes:
            row.key, row.shapes, row.padded_size = (), (), 0  # set for an earlier model

    def run(self, rows: Sequence[Row]) -> BatchSizeCap | None:
        """In a worker thread: runs every stage on the rows that are still needed; returns the cap
        of later batches if memory ran out.
        """
        lowest_cap, all_rows = None, rows
        for stage in self.stages:
            assert not isinstance(stage, FunctionStage)
            rows = rows_still_needed(rows, time.monotonic())
            cap = stage.run(rows)
            if cap is not None:
                lowest_cap = cap.min_with(lowest_cap, cap.since)
        self._drop_spent(all_rows)
        return lowest_cap

    def run_copies(self, rows: Sequence[Row]) -> None:
        """In a thread, before the function is ready: runs copies of one row as a batch.

        A stage that takes a row at a time is given the first copy alone, and the others get what it
        gave: it would print, wait, or call a service that is paid for once for each, and show
        nothing more. The first copy has the error of such a stage.
        """
        first, *others = rows
        for stage in self.stages:
            assert not isinstance(stage, FunctionStage)
            if gathers_rows(kind_of(stage)):
                stage.run(rows)
                continue
            stage.run([first])
            if first.error is not None:
                return
            for row in others:
                for name in stage.gives:
                    if name in first.values:
                        row.values[name] = first.values[name]
                    else:
                        row.values.pop(name, None)
        self._drop_spent(rows)

    async def run_on_loop(self, rows: Sequence[Row]) -> None:
        """Runs the coroutines of all rows at the same time; a function is called with all rows
        together, which are one call's.
        """
        only = self.stages[0]
        if isinstance(only, FunctionStage):
            await only.run_on_loop(rows)
        elif len(rows) == 1:
            await self._run_row(rows[0])
        else:
            await asyncio.gather(*map(self._run_row, rows))
        if not self.streams:
            self._drop_spent(rows)

    def _drop_spent(self, rows: Sequence[Row]) -> None:
        for name in self._spent:
            for row in rows:
                row.values.pop(name, None)
        for row in rows:
            if row.call.account is not None:
                self._count_held(row)

    def _count_held(self, row: Row) -> None:
        """Counts the row's values instead of what stages have reserved. Values of inner rows count
        once they are gathered.
        """
        counts = row.error is None and row.parent is None
        try:
            set_held(row, large_bytes(row.values, self._made) if counts else 0)
        except Overloaded as error:
            row.error = error
            row.values.clear()
            set_held(row, 0)

    async def _run_row(self, row: Row) -> None:
        for stage in self.stages:
            if row.error is None and isinstance(stage, PythonStage):
                await stage.run_on_loop(row)


def cut_into_segments(
    stages: Sequence[GraphStage], batching: BatchingSpec, answer: Iterable[str]
) -> list[Segment]:
    """The segments of a graph's stages, in order.

    Args:
        answer: names of the values that are used after the last stage.
    """
    groups = [
        [stages[at] for at in group] for group in group_stages([_kind(stage) for stage in stages])
    ]
    segments: list[Segment] = []
    needed = set(answer)
    streamed = len(groups)
    if groups[-1][-1].element_order is not None:
        each = groups[-1][-1].each
        while streamed and groups[streamed - 1][0].each == each:
            streamed -= 1
    for index in reversed(range(len(groups))):
        known = {
            name
            for stage in chain(*groups[: index + 1])
            for name in (*_needs(stage), *stage.stage.gives)
        }
        waits = not index or not waits_before(_kind(groups[index - 1][0]), _kind(groups[index][0]))
        made = needed & {
            name for stage in chain(*groups[: index + 1]) for name in stage.stage.gives
        }
        segments.insert(
            0,
            Segment(
                groups[index],
                batching,
                needed,
                made,
                known - needed,
                waits=waits,
                one_by_one=index >= streamed,
            ),
        )
        needed.update(*map(_needs, groups[index]))
    return segments


def _needs(stage: GraphStage) -> set[str]:
    """Names of the values that the stage takes, and of those that decide which rows it is for."""
    return {
        *stage.stage.takes,
        *(name for name in (stage.each, stage.when and stage.when.value) if name),
    }


def _kind(stage: GraphStage) -> StageKind:
    is_ragged = isinstance(stage.stage, ModelStage) and stage.stage.is_ragged
    return StageKind(
        kind_of(stage.stage),
        stage.each,
        stage.when,
        frozenset(stage.stage.gives),
        is_ragged=is_ragged,
        threads=stage.threads,
    )


def kind_of(stage: AnyStage) -> StageType:
    """The kind of a stage, by which its graph is cut."""
    if isinstance(stage, FunctionStage):
        return "function"
    if isinstance(stage, ModelStage):
        return "model" if stage.batchable else "runs"
    return type_of_signature(stage.signature)
