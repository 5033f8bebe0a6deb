"""Functions that stages call (``function: NAME``), wherever they are: in this process, or behind the edge of this machine."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from runtime.batching.rows import Ask, Call, Row
from runtime.errors import FunctionError, WakefulError
from runtime.stages import NOTHING, charge

LOADING_S: Final = 60.0
"""How long a function is waited for while its caller loads: a first run has no deadline, and at the start of a cluster those who are called
start with their caller."""


class Callees(Protocol):
    """Who answers when a stage calls a function.

    ``call`` runs on the event loop of the function that calls. It gives as many outcomes as it got rows, in their order: what the
    function answers by name of its values, or the row's error; and raises a ``WakefulError`` that concerns all of them. It comes back
    by ``ask.timeout_s``. ``close`` frees what it holds.

    Args of ``call``:
        name: the function's; one of the ``calls`` of the declaration.
        rows: what it takes, by its names; plain values and arrays, not checked yet.
        ask: what is left of the caller's time, and the id that its request has in the logs.
    """

    async def call(self, name: str, rows: Sequence[dict[str, Any]], ask: Ask) -> Sequence[dict[str, Any] | WakefulError]: ...
    async def close(self) -> None: ...


class FunctionStage:
    """A stage that is another function: its rows of one call go there together, and share batches there with everybody's.

    Args:
        name: the stage's.
        function: the name of the function that is called.
        callees: who calls it.
        sources: field of the function to the name of the value that fills it.
        instead: field to what it takes for a row that is without the value.
        gives: what the function answers, to the name of the value.

    Attributes:
        gives: names of the values it gives.
    """

    def __init__(
        self,
        name: str,
        function: str,
        callees: Callees,
        sources: Mapping[str, str],
        gives: Mapping[str, str],
        *,
        instead: Mapping[str, Any] = NOTHING,
    ) -> None:
        self.name = name
        self.function = function
        self._callees = callees
        self._sources = tuple(sources.items())
        self.takes = tuple(sources.values())
        self._instead = dict(instead)
        self._answers = tuple(gives.items())
        self.gives = tuple(gives.values())

    async def run_on_loop(self, rows: Sequence[Row]) -> None:
        """Every row gets the function's values, or its error."""
        by_call: defaultdict[Call, list[Row]] = defaultdict(list)
        for row in rows:
            by_call[row.call].append(row)
        await asyncio.gather(*[self._call(call, of) for call, of in by_call.items()])

    async def _call(self, call: Call, rows: Sequence[Row]) -> None:
        began, now = time.perf_counter(), time.monotonic()
        try:
            ask = Ask(call.request_id, call.deadline - now)
            outcomes = await self._callees.call(self.function, [self._taken(row) for row in rows], ask)
            for row, outcome in zip(rows, outcomes, strict=True):
                self._keep(row, outcome)
        except WakefulError as error:
            for row in rows:
                row.error = error
        charge(rows, "model", time.perf_counter() - began)

    def _taken(self, row: Row) -> dict[str, Any]:
        values, instead = row.values, self._instead
        return {field: values[source] if source in values or field not in instead else instead[field] for field, source in self._sources}

    def _keep(self, row: Row, outcome: dict[str, Any] | WakefulError) -> None:
        if isinstance(outcome, WakefulError):
            row.error = outcome
            return
        try:
            row.values.update([(value, outcome[name]) for name, value in self._answers])
        except KeyError as missing:
            row.error = FunctionError(f"function {self.function!r} answered without {missing}; it is another version than this one knows.")
