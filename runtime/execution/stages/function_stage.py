"""Stages that call another function (``function: NAME``), in this process or in another.

``FunctionCaller`` is the interface; ``InlineCallees`` loads the called functions into this process,
where no other process has them, as in a probe.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from runtime.batching.calls import CallOptions, Row, add_timing
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import FunctionError, TooLarge, WakefulError
from runtime.graph.graph import OMITTED
from runtime.protocol.row_values import carried, least_bytes
from runtime.system.telemetry.trace import Part

LOADING_S: Final = 60.0
"""How long a call waits for the called function while its caller loads: a first run has no
deadline, and at the start of a cluster called functions start together with their callers.
"""

PARTS: Final = 2
"""Parts of one call that are sent to a function at once: one is computed while another waits, and
the function still admits other calls.
"""

Outcome = dict[str, Any] | WakefulError


class CallableFunction(Protocol):
    """A loaded function, as far as a caller in its process needs it."""

    @property
    def spec(self) -> FunctionSpec: ...
    async def call_rows(
        self, data: Sequence[Any], options: CallOptions, *, as_values: bool
    ) -> tuple[list[Outcome], Any]: ...


class FunctionCaller(Protocol):
    """Calls functions for stages.

    ``call`` runs on the event loop of the calling function. It returns as many outcomes as it got
    rows, in their order: the answer by the names of its values, or the row's error; it raises a
    ``WakefulError`` that concerns all rows. It returns by ``options.deadline``. More rows than
    the function takes at once are sent in parts. ``hold`` has the function loaded, and keeps it so
    within the block where it is in this process; it raises a ``WakefulError`` where the function
    does not load. ``close`` frees its resources.

    Args of ``call``:
        name: of the function; one of the ``calls`` of the declaration.
        rows: the function's fields by name; plain values and arrays, not checked yet.
        options: the caller's deadline, and the id that its request has in the logs.
    """

    async def call(
        self, name: str, rows: Sequence[dict[str, Any]], options: CallOptions
    ) -> Sequence[Outcome]: ...
    def hold(self, name: str) -> AbstractAsyncContextManager[None]: ...
    async def close(self) -> None: ...


async def call_for_rows(
    callees: FunctionCaller, name: str, rows: Sequence[Row], fields: Sequence[dict[str, Any]]
) -> Sequence[Outcome]:
    """Calls a function for rows of one call: within its time, under its id, with its memory, and as
    a part of its trace.

    Args:
        fields: of each row that is sent; as ``FunctionCaller.call`` takes them.

    Raises:
        WakefulError: as ``FunctionCaller.call``.
    """
    now, call = time.monotonic(), rows[0].call
    account = call.account and call.account.part(sum(row.held for row in rows))
    trace = call.trace and call.trace.begin_hop()
    try:
        options = CallOptions(call.request_id, call.deadline, account=account, trace=trace)
        return await callees.call(name, fields, options)
    finally:
        if account is not None:
            account.end()
        if call.trace is not None:
            call.trace.add(Part("hop", name, now, time.monotonic(), hop=trace))


async def call_in_parts(
    rows: Sequence[dict[str, Any]],
    call: Callable[[Sequence[dict[str, Any]]], Awaitable[Sequence[Outcome]]],
) -> Sequence[Outcome]:
    """The outcomes of rows, in their order.

    Args:
        call: returns as many outcomes as it gets rows, or raises ``TooLarge``, also of rows that it
            has not sent: then each half of them is a call of its own.

    Raises:
        WakefulError: of ``call`` with all rows, or with one. The error of a part is the outcome of
            its rows.
    """
    return await _call_part(rows, call, asyncio.Semaphore(PARTS))


async def _call_part(
    part: Sequence[dict[str, Any]],
    call: Callable[[Sequence[dict[str, Any]]], Awaitable[Sequence[Outcome]]],
    gate: asyncio.Semaphore,
) -> Sequence[Outcome]:
    try:
        async with gate:
            return await call(part)
    except TooLarge:
        if len(part) < 2:
            raise
    middle = (len(part) + 1) // 2
    halves = part[:middle], part[middle:]
    found: list[Outcome] = []
    for half, result in zip(
        halves,
        await asyncio.gather(
            *(_call_part(half, call, gate) for half in halves), return_exceptions=True
        ),
        strict=True,
    ):
        if isinstance(result, BaseException) and not isinstance(result, WakefulError):
            raise result
        found += [result] * len(half) if isinstance(result, WakefulError) else result
    return found


async def call_in_process(
    function: CallableFunction,
    rows: Sequence[dict[str, Any]],
    options: CallOptions,
    on_call: Callable[[Any], object] = lambda call: None,
) -> Sequence[Outcome]:
    """Calls a function of this process, within the same limits as over HTTP; the outcomes of the
    rows, in their order.

    Args:
        rows: of values as they go to another function (``runtime.protocol.row_values.carried``).
        options: with the caller's deadline.
        on_call: called with what the rows were computed as, a ``runtime.batching.calls.Call``, of
            each part; or with None where none was computed.

    Raises:
        WakefulError: as ``call_in_parts``.
    """
    most = function.spec.limits.max_body_bytes
    large = {index: size for index, row in enumerate(rows) if (size := least_bytes(row)) > most}
    if large:
        answered = iter(
            await call_in_process(
                function,
                [row for index, row in enumerate(rows) if index not in large],
                options,
                on_call,
            )
        )
        message = (
            "the function {!r} was to be given a row of {} bytes; limits.max_body_bytes is {}."
        )
        return [
            FunctionError(message.format(function.spec.name, large[index], most))
            if index in large
            else next(answered)
            for index in range(len(rows))
        ]

    async def part(part_rows: Sequence[dict[str, Any]]) -> Sequence[Outcome]:
        until = time.monotonic() + function.spec.limits.request_timeout_s
        within = options._replace(deadline=min(options.deadline, until))
        outcomes, call = await function.call_rows(part_rows, within, as_values=True)
        on_call(call)
        return [carried_values(outcome) for outcome in outcomes]

    return await call_in_parts(rows, part) if rows else ()


def carried_values(values: Outcome) -> Outcome:
    """Values as they go to another function, or the error of the first one that cannot."""
    if isinstance(values, WakefulError):
        return values
    try:
        return {name: carried(value, name) for name, value in values.items()}
    except FunctionError as error:
        return error


class FunctionStage:
    """A stage that is another function: its rows of one call go there together, and share batches
    there with the rows of all callers.

    Args:
        name: of the stage.
        function: the name of the called function.
        callees: calls it.
        sources: field of the function to the name of the value that fills it.
        defaults: field to its value for a row that lacks the source.
        gives: name in the function's answer to the name of the value.
        lacking: names in the answer that a row may lack.

    Attributes:
        takes: names of the values it takes.
        gives: names of the values it gives.
    """

    def __init__(
        self,
        name: str,
        function: str,
        callees: FunctionCaller,
        sources: Mapping[str, str],
        gives: Mapping[str, str],
        *,
        defaults: Mapping[str, Any],
        lacking: Container[str] = (),
    ) -> None:
        self.name = name
        self._lacking = lacking
        self.function = function
        self._callees = callees
        self._sources = tuple(sources.items())
        self.takes = tuple(sources.values())
        self._defaults = dict(defaults)
        self._answers = tuple(gives.items())
        self.gives = tuple(gives.values())

    async def run_on_loop(self, rows: Sequence[Row]) -> None:
        """Calls the function with rows of one call; each gets the function's values, or its
        error.
        """
        began = time.perf_counter()
        taken = [(row, self._fields_of(row)) for row in rows]
        sent = [(row, values) for row, values in taken if not isinstance(values, WakefulError)]
        try:
            answered = iter(
                await call_for_rows(
                    self._callees,
                    self.function,
                    [row for row, _ in sent],
                    [values for _, values in sent],
                )
                if sent
                else ()
            )
            for row, values in taken:
                self._store(row, values if isinstance(values, WakefulError) else next(answered))
        except WakefulError as error:
            for row in rows:
                row.error = error
        add_timing(rows, "model", time.perf_counter() - began)

    def _fields_of(self, row: Row) -> Outcome:
        values, instead = row.values, self._defaults
        taken = [
            (field, values[source] if source in values or field not in instead else instead[field])
            for field, source in self._sources
        ]
        return carried_values({field: value for field, value in taken if value is not OMITTED})

    def _store(self, row: Row, outcome: Outcome) -> None:
        if isinstance(outcome, WakefulError):
            row.error = outcome
            return
        try:
            for name, value in self._answers:
                if name in outcome or name not in self._lacking:
                    row.values[value] = outcome[name]
                else:
                    row.values.pop(value, None)
        except KeyError as missing:
            row.error = FunctionError(
                f"function {self.function!r} answered without {missing}; it is another version "
                "than this one knows."
            )


class ClosableFunction(CallableFunction, Protocol):
    """A function that its caller closes."""

    async def close(self, timeout_s: float) -> None: ...


class InlineCallees:
    """The functions that one function calls, loaded with it; see ``FunctionCaller``.

    Mutable state: ``_functions``, those that it calls itself, and ``_loaded``, in the order of
    their loads those that it closes; both are emptied by ``close``.
    """

    def __init__(self) -> None:
        self._functions: dict[str, ClosableFunction] = {}
        self._loaded: dict[tuple[str, str], ClosableFunction] = {}

    @classmethod
    async def load(
        cls,
        spec: FunctionSpec,
        load: Callable[[FunctionSpec, InlineCallees], Awaitable[ClosableFunction]],
    ) -> InlineCallees:
        """Loads every function that this one calls, and those that they call: each once, however
        many of them call it.

        Args:
            load: loads a function with those that it calls, which it does not close.

        Raises:
            LoadError: one of them does not load; all resources are released.
        """
        callees = cls()
        try:
            await callees._load(spec, load, callees._loaded)
        except BaseException:
            await callees.close()
            raise
        return callees

    async def _load(
        self,
        spec: FunctionSpec,
        load: Callable[[FunctionSpec, InlineCallees], Awaitable[ClosableFunction]],
        loaded: dict[tuple[str, str], ClosableFunction],
    ) -> None:
        """Loads what ``spec`` calls, but for what is in ``loaded`` (by name and digest) already."""
        for name, callee in spec.deployed.calls.items():
            key = (name, callee.digest)
            if key not in loaded:
                called, below = spec.called(name), InlineCallees()
                await below._load(called, load, loaded)
                loaded[key] = await load(called, below)
            self._functions[name] = loaded[key]

    async def call(
        self, name: str, rows: Sequence[dict[str, Any]], options: CallOptions
    ) -> Sequence[Outcome]:
        """See ``FunctionCaller``."""
        return await call_in_process(self._functions[name], rows, options)

    def hold(self, name: str) -> AbstractAsyncContextManager[None]:
        """See ``FunctionCaller``: they stay until ``close``."""
        return contextlib.nullcontext()

    async def close(self) -> None:
        """Frees them, callers first. Idempotent."""
        loaded, self._loaded, self._functions = self._loaded, {}, {}
        for function in reversed(loaded.values()):
            await function.close(1.0)
