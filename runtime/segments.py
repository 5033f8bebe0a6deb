"""A graph cut into segments: where rows are gathered anew, and what runs without a pause in between.

A model begins a segment, since its batch is worth gathering; coroutine stages form segments of their own on the event loop; plain
Python stages belong to the segment before them. MiniLM embeddings make two: ``tokenize``, then ``model, answer``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from runtime.batching.policy import ALONE, BatchLimits
from runtime.batching.rows import Row
from runtime.stages import ModelStage, PythonStage


class Segment:
    """Stages that run one after another on the same rows; see ``batching.batcher.Segment``."""

    def __init__(self, stages: Sequence[PythonStage | ModelStage], limits: BatchLimits) -> None:
        first = stages[0]
        self._model = first if isinstance(first, ModelStage) else None
        self.name = first.name
        self.stages = tuple(stages)
        self.on_loop = _is_async(first)
        self.limits: BatchLimits | None = None
        self.retune(limits)

    def retune(self, limits: BatchLimits) -> None:
        """Gathers rows for its model by these limits from the next batch on."""
        if self._model is not None:
            self.limits = limits if self._model.batchable else ALONE

    def measure(self, row: Row) -> None:
        """Sets what the batching policy needs to know of a waiting row."""
        if self._model is not None:
            self._model.measure(row)

    def run(self, rows: Sequence[Row]) -> None:
        """In a worker thread: every stage on the rows that have no error yet."""
        for stage in self.stages:
            rows = [row for row in rows if row.error is None]
            stage.run(rows)

    async def run_on_loop(self, rows: Sequence[Row]) -> None:
        """Each row's coroutines at the same time as the other rows'."""
        await asyncio.gather(*map(self._run_row, rows))

    async def _run_row(self, row: Row) -> None:
        for stage in self.stages:
            if row.error is None and isinstance(stage, PythonStage):
                await stage.run_on_loop(row)


def cut(stages: Sequence[PythonStage | ModelStage], limits: BatchLimits) -> list[Segment]:
    """The segments of a graph's stages, in order."""
    groups: list[list[PythonStage | ModelStage]] = []
    for stage in stages:
        begins = isinstance(stage, ModelStage) or not groups or _is_async(groups[-1][0]) != _is_async(stage)
        if begins:
            groups.append([stage])
        else:
            groups[-1].append(stage)
    return [Segment(group, limits) for group in groups]


def _is_async(stage: PythonStage | ModelStage) -> bool:
    return isinstance(stage, PythonStage) and stage.signature.is_async
