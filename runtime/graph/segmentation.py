"""Where a graph is cut into segments, and by what limits each gathers rows: decisions on kinds of
stages, none of which is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from runtime.batching.policy import BatchLimits
from runtime.declaration.sections import BatchingSpec
from runtime.graph.python_stages.signature import Signature
from runtime.types.conditions import Condition

StageType = Literal[
    "model", "runs", "rows", "row", "coroutine", "function", "stream", "coroutine stream"
]
"""``model``: rows share runs; ``runs``: a model whose rows are runs of their own. ``rows``: a
Python stage that takes all rows of a batch; ``row``: one at a time, and so on.
"""

ON_LOOP: Final = frozenset({"coroutine", "function", "coroutine stream"})
"""Types of stages that run on the event loop."""

_ALWAYS_BEGIN: Final = frozenset({"model", "runs", "function", "stream", "coroutine stream"})
"""Types of stages that begin a segment wherever they are."""


@dataclass(frozen=True, slots=True)
class StageKind:
    """What must be known of a stage to cut its graph.

    Attributes:
        each, when: the rows that it is for.
        gives: names of the values that it gives.
        is_ragged: a model whose rows may be of unlike shapes, so that not all of them can share a
            run.
        threads: that run it and nothing else; 0: the function's workers do.
    """

    type: StageType
    each: str | None = None
    when: Condition | None = None
    gives: frozenset[str] = frozenset()
    is_ragged: bool = False
    threads: int = 0


def type_of_signature(signature: Signature) -> StageType:
    """The type of a Python stage."""
    if signature.is_generator:
        return "coroutine stream" if signature.is_async else "stream"
    return "coroutine" if signature.is_async else "rows" if signature.takes_rows else "row"


def gathers_rows(type_: StageType) -> bool:
    """Whether a segment that begins with such a stage gathers rows as ``batching`` declares."""
    return type_ in ("model", "rows")


def group_stages(kinds: Sequence[StageKind]) -> list[list[int]]:
    """The stages of each segment, by their index in the graph."""
    groups: list[list[int]] = []
    for index, kind in enumerate(kinds):
        if groups and not _begins_segment(kind, [kinds[other] for other in groups[-1]]):
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _begins_segment(kind: StageKind, group: Sequence[StageKind]) -> bool:
    """Whether a stage cannot join the segment of ``group``. Whether a row is for a segment is
    decided once for all of its stages.
    """
    first = group[0]
    if kind.when is not None and any(kind.when.value in earlier.gives for earlier in group):
        return True
    if (
        kind.type in _ALWAYS_BEGIN
        or first.type == "function"
        or (first.type in ON_LOOP) != (kind.type in ON_LOOP)
    ):
        return True
    if (first.each, first.when) != (kind.each, kind.when) or first.threads or kind.threads:
        return True
    return kind.type == "rows" and (not gathers_rows(first.type) or first.is_ragged)


def waits_before(before: StageKind, kind: StageKind) -> bool:
    """Whether rows have waited for batch-mates in the segment just before: those of a ``Rows``
    stage do, and do not wait again at a model.
    """
    return (
        before.type == "rows"
        and kind.type == "model"
        and (before.each, before.when) == (kind.each, kind.when)
    )


def batch_limits_of(batching: BatchingSpec, *, waits: bool, is_model: bool) -> BatchLimits:
    """The declared batching as the policy takes it."""
    return BatchLimits(
        batching.max_batch_size,
        batching.batch_wait_timeout_s if waits else 0.0,
        batching.run_cost,
        batching.max_padding,
        batching.max_batch_cost,
        before_models=not is_model,
    )
