"""A graph cut into segments: where rows are gathered anew, and what runs without a pause in between.

A model begins a segment, since its batch is worth gathering; coroutine stages and calls of other functions form segments of their own
on the event loop; plain Python stages belong to the segment before them, if they are for the same rows (``each``, ``when``). MiniLM
embeddings make two: ``tokenize``, then ``model, answer``. Models that follow each other on a device share one (``chains``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from runtime.batching.ceiling import Ceiling
from runtime.batching.policy import ALONE, BatchLimits
from runtime.batching.rows import Row, wanted
from runtime.branch import Condition
from runtime.callees import FunctionStage
from runtime.chains import Chained, follows, keep
from runtime.spec import BatchingSpec
from runtime.stages import ModelStage, PythonStage

AnyStage = PythonStage | ModelStage | FunctionStage


@dataclass(frozen=True, slots=True)
class Placed:
    """A stage and the rows that it is for.

    Attributes:
        each: the value whose elements it runs over; None: outer rows.
        when: which of them it is for; None: all.
    """

    stage: AnyStage
    each: str | None = None
    when: Condition | None = None


class Segment:
    """Stages that run one after another on the same rows; see ``batching.segment.Segment``.

    Args:
        needed: names of the values that somebody wants after it.
        spent: names of those that nobody does; they are let go of: a page's pixels before its lines are read.
    """

    def __init__(self, placed: Sequence[Placed], batching: BatchingSpec, needed: Collection[str], spent: Collection[str]) -> None:
        first = placed[0].stage
        self._model = first if isinstance(first, ModelStage) else None
        self.name = first.name
        self.stages = tuple(each.stage for each in placed)
        self.each, self.when = placed[0].each, placed[0].when
        self.gives = tuple(name for stage in self.stages for name in stage.gives if name in needed)
        self._spent = tuple(spent)
        self.on_loop = _is_async(first)
        self.streams = _streams(first)
        self.limits: BatchLimits | None = ALONE if self.streams else None
        self.retune(batching)

    def retune(self, batching: BatchingSpec) -> None:
        """Gathers rows for its model as declared, from the next batch on."""
        if self._model is not None:
            self.limits = _limits(batching) if self._model.batchable else ALONE

    def measure(self, row: Row) -> None:
        """Sets what the batching policy needs to know of a waiting row."""
        if self._model is not None:
            self._model.measure(row)

    def run(self, rows: Sequence[Row]) -> Ceiling | None:
        """In a worker thread: every stage on the rows that are still wanted; says what batches memory has room for, if it had not."""
        lowest, all_rows = None, rows
        for stage in self.stages:
            assert not isinstance(stage, FunctionStage)
            rows = wanted(rows, time.monotonic())
            ceiling = stage.run(rows)
            if ceiling is not None:
                lowest = ceiling.lowered(lowest, ceiling.since)
        self._let_go(all_rows)
        return lowest

    async def run_on_loop(self, rows: Sequence[Row]) -> None:
        """Each row's coroutines at the same time as the other rows'; a function is called with all of them."""
        only = self.stages[0]
        if isinstance(only, FunctionStage):
            await only.run_on_loop(rows)
        else:
            await asyncio.gather(*map(self._run_row, rows))
        if not self.streams:
            self._let_go(rows)

    def _let_go(self, rows: Sequence[Row]) -> None:
        for name in self._spent:
            for row in rows:
                row.values.pop(name, None)

    async def _run_row(self, row: Row) -> None:
        for stage in self.stages:
            if row.error is None and isinstance(stage, PythonStage):
                await stage.run_on_loop(row)


def cut(placed: Sequence[Placed], batching: BatchingSpec, answer: Iterable[str]) -> list[Segment]:
    """The segments of a graph's stages, in order.

    Args:
        answer: names of the values that are wanted of the last one.
    """
    groups: list[list[Placed]] = []
    links = [_link(one) for one in placed]
    for one, link, before in zip(placed, links, [None, *links], strict=False):
        if before is None or (_begins(groups[-1][0], one) and not follows(before, link)):
            groups.append([one])
        else:
            groups[-1].append(one)
    keep(links)
    segments: list[Segment] = []
    needed = set(answer)
    for index in reversed(range(len(groups))):
        known = {name for link in map(_link, chain(*groups[: index + 1])) for name in (*link.takes, *link.asks, *link.gives)}
        segments.insert(0, Segment(groups[index], batching, needed, known - needed))
        for link in map(_link, groups[index]):
            needed |= link.takes | link.asks
    return segments


def _link(one: Placed) -> Chained:
    stage = one.stage
    return Chained(stage.takes, stage.gives, one.each, one.when, stage if isinstance(stage, ModelStage) else None)


def _begins(first: Placed, one: Placed) -> bool:
    """Whether a stage cannot belong to the segment that ``first`` began."""
    if isinstance(one.stage, ModelStage | FunctionStage) or isinstance(first.stage, FunctionStage) or _streams(one.stage):
        return True
    return _is_async(first.stage) != _is_async(one.stage) or (first.each, first.when) != (one.each, one.when)


def _is_async(stage: AnyStage) -> bool:
    return isinstance(stage, FunctionStage) or (isinstance(stage, PythonStage) and stage.signature.is_async)


def _streams(stage: AnyStage) -> bool:
    return isinstance(stage, PythonStage) and stage.signature.streams


def _limits(batching: BatchingSpec) -> BatchLimits:
    """The declared batching as the policy takes it."""
    return BatchLimits(
        batching.max_batch_size, batching.batch_wait_timeout_s, batching.run_cost, batching.max_padding, batching.max_batch_cost
    )
