"""The first runs of a function, before it is ready: memory is allocated, kernels are chosen, and the declared example is proved.

A function that was probed since its declaration last changed may be loaded without them; then its first call pays for them.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from typing import Any

from runtime.batching.fanout import Way
from runtime.batching.policy import Release, choose
from runtime.batching.rows import Call, Row
from runtime.errors import LoadError, RequestError
from runtime.fields import RowValidator
from runtime.segments import Segment
from runtime.spec import FunctionSpec
from runtime.stages import ModelStage

FREE_DIMENSION = 16
"""Size of a free dimension in a warm-up run without an example: long enough to be no special case, short enough to be quick."""


async def warm_up(spec: FunctionSpec, validator: RowValidator, segments: Sequence[Segment]) -> None:
    """Every model at batch 1 and at the largest batch; with an example, the whole graph at both.

    Raises:
        LoadError: a run failed.
    """
    most = spec.batching.max_batch_size
    for rows in (most,) if spec.example is not None else sorted({1, most}):
        await run(spec, validator, segments, rows, is_first=True)


async def run(spec: FunctionSpec, validator: RowValidator, segments: Sequence[Segment], rows: int, *, is_first: bool = False) -> None:
    """The example through the graph, alone and as one of ``rows``; without one, so many rows of made-up data through every model.

    Args:
        is_first: the function is being loaded (``Session.warm_up``).

    Raises:
        LoadError: it failed.
    """
    if spec.example is not None:
        await _whole_graph(spec, spec.example, rows, validator, segments)
        return
    for stage in (stage for segment in segments for stage in segment.stages):
        if isinstance(stage, ModelStage) and (stage.batchable or rows == 1):
            await asyncio.to_thread(stage.session.warm_up, rows, free=FREE_DIMENSION, is_first=is_first)


async def _whole_graph(
    spec: FunctionSpec, example: dict[str, Any], count: int, validator: RowValidator, segments: Sequence[Segment]
) -> None:
    """The example through every segment that is for it, and as many copies of it as share a batch there; past the batcher."""
    try:
        fields = validator.row(example)
    except RequestError as error:
        raise LoadError(f"the declared example fails: {error.where}: {error.message}") from error
    rows = Call([fields], request_id="warm-up", now=0.0, deadline=math.inf).rows
    way = Way(segments, threading.Lock())
    way.max_fan_out = spec.limits.max_fan_out
    waiting, done = way.onward(-1, rows)
    for index, segment in enumerate(segments):
        batch = waiting.pop(index, [])
        copies = _full_batch(segment, batch[0], count) if batch else []
        for row in batch:  # one by one: what a row becomes may be too many for a batch
            await _run(segment, [row])
        _refuse_failed(batch)
        if len(copies) > 1:
            await _run(segment, copies)
            _refuse_failed(copies)
        onward, ended = way.onward(index, batch)
        done += ended
        for at, moved in onward.items():
            waiting.setdefault(at, []).extend(moved)
    _refuse_failed(done)


def _refuse_failed(rows: Sequence[Row]) -> None:
    failed = next((row.error for row in rows if row.error is not None), None)
    if failed is not None:
        raise LoadError(f"the declared example fails at {len(rows)} rows: {failed.where}: {failed.message}") from failed


async def _run(segment: Segment, rows: Sequence[Row]) -> None:
    if segment.on_loop:
        await segment.run_on_loop(rows)
    else:
        await asyncio.to_thread(segment.run, rows)


def _full_batch(segment: Segment, row: Row, count: int) -> list[Row]:
    """Copies of a row: as many as would leave together, were ``count`` of them waiting. A page may be a batch, and 16 words another."""
    copies = [Row(row.call, row.index, dict(row.values)) for _ in range(count)]
    if segment.limits is None:
        return copies
    for copy in copies:
        segment.measure(copy)
    release = choose(copies, segment.limits, math.inf)
    assert isinstance(release, Release)
    return [copies[at] for at in release.positions]
