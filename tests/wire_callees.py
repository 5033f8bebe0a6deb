"""Functions that call each other as over a network: what goes between them is written and read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from runtime.batching.calls import CallOptions
from runtime.declaration.function_spec import FunctionSpec
from runtime.execution.function import Function
from runtime.execution.stages.function_stage import FunctionCaller, InlineCallees, Outcome
from runtime.http.bodies.answers import encode_outcomes
from runtime.protocol.row_codec import decode_rows, encode_rows
from runtime.settings import Settings

MOST = 100_000


class WireCallees:
    """See ``FunctionCaller``; the functions lie in this process, their rows in bytes between."""

    def __init__(self, inner: FunctionCaller) -> None:
        self.inner = inner

    async def call(
        self, name: str, rows: Sequence[dict[str, Any]], options: CallOptions
    ) -> Sequence[Outcome]:
        """The outcomes, read from what was written of them."""
        there = decode_rows(b"".join(encode_rows(rows)), MOST)
        found = await self.inner.call(name, there, options)  # type: ignore[arg-type]  # no errors
        return decode_rows(b"".join(encode_outcomes(found)), MOST)

    def hold(self, name: str) -> AbstractAsyncContextManager[None]:
        """As of the functions in this process."""
        return self.inner.hold(name)

    async def close(self) -> None:
        """Frees the functions."""
        await self.inner.close()


async def load_function(
    spec: FunctionSpec, settings: Settings, *, over_wire: bool, **more: Any
) -> Function:
    """A function with those that it calls, which are closed with it."""

    async def load(called: FunctionSpec, callees: InlineCallees) -> Function:
        used = WireCallees(callees) if over_wire else callees
        return await Function.load(called, settings, callees=used, **more)

    inner = await InlineCallees.load(spec, load)
    callees: FunctionCaller = WireCallees(inner) if over_wire else inner
    try:
        function = await Function.load(spec, settings, callees=callees, **more)
    except BaseException:
        await inner.close()
        raise
    function._own_callees = callees
    return function
