"""A graph cut into segments: where rows are gathered anew, and what runs without a pause in between.

A model begins a segment, since its batch is worth gathering; coroutine stages form segments of their own on the event loop; plain
Python stages belong to the segment before them. MiniLM embeddings make two: ``tokenize``, then ``model, answer``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from runtime.batching.ceiling import Ceiling
from runtime.batching.policy import ALONE, BatchLimits
from runtime.batching.rows import Row, wanted
from runtime.spec import BatchingSpec
from runtime.stages import ModelStage, PythonStage


class Segment:
    """Stages that run one after another on the same rows; see ``batching.batcher.Segment``."""

    def __init__(self, stages: Sequence[PythonStage | ModelStage], batching: BatchingSpec) -> None:
        first = stages[0]
        self._model = first if isinstance(first, ModelStage) else None
        self.name = first.name
        self.stages = tuple(stages)
        self.on_loop = _is_async(first)
        self.limits: BatchLimits | None = None
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
        lowest = None
        for stage in self.stages:
            rows = wanted(rows, time.monotonic())
            ceiling = stage.run(rows)
            if ceiling is not None:
                lowest = ceiling.lowered(lowest, ceiling.since)
        return lowest

    async def run_on_loop(self, rows: Sequence[Row]) -> None:
        """Each row's coroutines at the same time as the other rows'."""
        await asyncio.gather(*map(self._run_row, rows))

    async def _run_row(self, row: Row) -> None:
        for stage in self.stages:
            if row.error is None and isinstance(stage, PythonStage):
                await stage.run_on_loop(row)


def cut(stages: Sequence[PythonStage | ModelStage], batching: BatchingSpec) -> list[Segment]:
    """The segments of a graph's stages, in order."""
    groups: list[list[PythonStage | ModelStage]] = []
    for stage in stages:
        begins = isinstance(stage, ModelStage) or not groups or _is_async(groups[-1][0]) != _is_async(stage)
        if begins:
            groups.append([stage])
        else:
            groups[-1].append(stage)
    return [Segment(group, batching) for group in groups]


def _is_async(stage: PythonStage | ModelStage) -> bool:
    return isinstance(stage, PythonStage) and stage.signature.is_async


def _limits(batching: BatchingSpec) -> BatchLimits:
    """The declared batching as the policy takes it."""
    return BatchLimits(
        batching.max_batch_size, batching.batch_wait_timeout_s, batching.run_cost, batching.max_padding, batching.max_batch_cost
    )
