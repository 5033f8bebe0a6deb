"""What the batcher knows of a segment: stages that run on one batch without a pause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from runtime.batching.ceiling import Ceiling
from runtime.batching.fanout import Passage
from runtime.batching.queues import Gathers
from runtime.batching.rows import Row


class Segment(Gathers, Passage, Protocol):
    """Stages that run on one batch without a pause; made by ``runtime/segments``.

    Attributes:
        name: of its first stage.
        on_loop: its stages are coroutines and run on the event loop, each row by itself.
        streams: it gives one item of a row at a time (``stream``), or on the event loop all of them; only the last may.

    ``measure`` sets a waiting row's length and cost. ``run`` (in a worker) and ``run_on_loop`` give each row its values or its error
    and do not raise for a fault of one row; ``run`` returns what batches are to be kept to if memory had no room for these rows at once.
    """

    @property
    def name(self) -> str: ...
    @property
    def on_loop(self) -> bool: ...
    @property
    def streams(self) -> bool: ...
    def measure(self, row: Row) -> None: ...
    def run(self, rows: Sequence[Row]) -> Ceiling | None: ...
    async def run_on_loop(self, rows: Sequence[Row]) -> None: ...
