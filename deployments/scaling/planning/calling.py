"""Calls of a function in this process, without HTTP."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any, Final

from runtime.batching.calls import CallOptions
from runtime.execution.function import Function
from runtime.execution.streaming import StreamSource
from runtime.protocol.sequences import SequenceRef

_NUMBERS: Final = itertools.count()


async def call_at_once(function: Function, row: Mapping[str, Any], rows: int) -> None:
    """So many calls of a row each, in one turn of the event loop, answered.

    Raises:
        WakefulError: the first call that was refused or failed.
    """
    checked = function.validator.validate(row)
    await asyncio.gather(*(_call(function, dict(checked)) for _ in range(rows)))


async def _call(function: Function, values: dict[str, Any]) -> None:
    sequence = None
    if function.sequences is not None:
        sequence = SequenceRef(f"profile-{next(_NUMBERS)}", starts=True, ends=True)
    options = CallOptions(request_id="profile", sequence=sequence)
    if function.streams:
        async with StreamSource(function, values, options) as source:
            while await source.take():
                pass
        return
    call = await function.run((values,), options)
    function.answer_of(call.rows[0])
