"""A call of a sequence at its turn: what it is given beside its row, what is left of its time, what it leaves."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from runtime.batching.rows import Ask, Call
from runtime.errors import RequestError
from runtime.keeper import Keeper, Turn
from runtime.sequences import unnamed
from runtime.spec import FunctionSpec

ONE_ROW = "a call of a sequence is one row: the next one goes on from what it left. Send an object, and make a call for each."


class Mine:
    """What a call has at its turn.

    Attributes:
        rows: its row, with what the sequence keeps.
        ask: its, with the time that is left.
    """

    def __init__(self, row: dict[str, Any], ask: Ask, turn: Turn) -> None:
        self.rows = ({**row, **turn.values},)
        self.ask = ask
        self._turn = turn

    def keep(self, call: Call) -> None:
        """The call has been answered: what its row has under the names that are kept, its sequence keeps. The wait counts as its queue."""
        call.timings["queue"] += self._turn.waited_s
        call.started -= self._turn.waited_s
        row = call.rows[0]
        if row.error is None:
            self._turn.keep(row.values)


@asynccontextmanager
async def in_turn(keeper: Keeper, spec: FunctionSpec, rows: Sequence[dict[str, Any]], ask: Ask) -> AsyncIterator[Mine]:
    """The call's turn; until the block ends, no other call of its sequence has one.

    Raises:
        RequestError: it names no sequence, or is not one row.
        SequenceUnknown, TooManySequences, Overloaded, DeadlineExceeded: as ``Keeper.turn``.
    """
    if len(rows) != 1:
        raise RequestError(ONE_ROW)
    if ask.sequence is None:
        raise unnamed(spec.name)
    timeout_s = min(spec.limits.request_timeout_s, ask.timeout_s)
    async with keeper.turn(ask.sequence, time.monotonic() + timeout_s) as turn:
        yield Mine(rows[0], ask._replace(timeout_s=timeout_s - turn.waited_s), turn)
