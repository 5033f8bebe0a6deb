"""The first runs of a function, before it is ready: memory is allocated, kernels are chosen, and the declared example is proved.

A function that was probed since its declaration last changed may be loaded without them; then its first call pays for them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from runtime.batching.rows import Call
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
    for rows in sorted({1, spec.batching.max_batch_size}):
        await run(spec, validator, segments, rows)


async def run(spec: FunctionSpec, validator: RowValidator, segments: Sequence[Segment], rows: int) -> None:
    """So many rows of the example through the graph; without one, of made-up data through every model.

    Raises:
        LoadError: it failed.
    """
    if spec.example is not None:
        await _whole_graph(spec.example, rows, validator, segments)
        return
    for stage in (stage for segment in segments for stage in segment.stages):
        if isinstance(stage, ModelStage) and (stage.batchable or rows == 1):
            await asyncio.to_thread(stage.session.warm_up, rows, free=FREE_DIMENSION)


async def _whole_graph(example: dict[str, Any], count: int, validator: RowValidator, segments: Sequence[Segment]) -> None:
    """So many rows of the example through every segment as one batch, past the batcher, which would share them out."""
    try:
        fields = validator.row(example)
    except RequestError as error:
        raise LoadError(f"the declared example fails: {error.where}: {error.message}") from error
    rows = Call([dict(fields) for _ in range(count)], request_id="warm-up", now=0.0, deadline=math.inf).rows
    for segment in segments:
        if segment.on_loop:
            await segment.run_on_loop(rows)
        else:
            await asyncio.to_thread(segment.run, rows)
        failed = next((row.error for row in rows if row.error is not None), None)
        if failed is not None:
            raise LoadError(f"the declared example fails at {count} rows: {failed.where}: {failed.message}") from failed
