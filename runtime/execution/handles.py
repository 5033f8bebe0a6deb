"""Functions that stages are given, to be called: ``embed: Annotated[Call, "embed"]``.

A call goes where a ``function:`` stage's goes (``function_stage``), on the event loop of the
calling function, in its caller's time. A coroutine awaits it; in any other thread it blocks, until
the function has answered or the time is over.

No call waits for a thread that waits for it. A stage that blocks has threads of its own
(``ResolvedPython.blocks``), which run no other stage; the functions that it calls, and those that
these call, have others, and none of them calls back: circles are refused. So the stage that calls
nothing always has a thread, and answers. A class is constructed, and a stage run for the first
time, in a thread of its own load, for the same reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final, TypeVar, cast

from runtime.batching.calls import CallOptions, Row, cancelled_row_error
from runtime.batching.reservation import CURRENT_ROW
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import CallError, DeadlineExceeded, FunctionError, WakefulError
from runtime.execution.stages.function_stage import (
    LOADING_S,
    FunctionCaller,
    Outcome,
    call_for_rows,
    carried_values,
)
from runtime.graph.python_stages.signature import Signature
from runtime.types.call_handles import CallHandle

T = TypeVar("T")

GRACE_S: Final = 1.0
"""How long a thread waits for a call beyond its time, which the call itself keeps: longer only if
the event loop has ended.
"""

ROW: Final = re.compile(r"^\[\d+\]\.?")
"""The row in an error's place: of those that were sent together, which a stage does not know."""


class FunctionHandles:
    """Makes the handles of one function's stages.

    Args:
        spec: of the function whose stages call.
        callees: calls the functions.
        loop: the event loop that ``callees`` is used on.

    Mutable state, on the event loop: ``_held``.
    """

    def __init__(
        self, spec: FunctionSpec, callees: FunctionCaller, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._spec = spec
        self._callees = callees
        self._loop = loop
        self._held = _HeldCallees(callees)

    def bind(
        self, call: Callable[..., Any], signature: Signature, stage: str
    ) -> Callable[..., Any]:
        """A stage that takes its values alone, and is given its functions for the row that it runs
        for.
        """
        if not signature.handles:
            return call
        places = [
            (handle.position, self._target(handle.function, stage)) for handle in signature.handles
        ]

        def bound(*values: Any) -> Any:
            arguments, row = list(values), _current_row()
            for position, target in places:
                arguments.insert(position, _Handle(target, row))
            return call(*arguments)

        bound.__wrapped__ = call  # type: ignore[attr-defined]  # as of functools.wraps
        return bound

    def init_handle(self, function: str, signature: Signature, stage: str) -> CallHandle:
        """What ``__init__`` of a stage is given of a function: for its own calls, and for those of
        ``__call__``, which are for the row that runs then.
        """
        return _InitHandle(
            self._target(function, stage, self._held), can_call=not signature.takes_rows
        )

    async def end_load(self) -> None:
        """The stages are constructed, or are not to be: what they called may sleep again."""
        await self._held.release()

    def _target(self, function: str, stage: str, callees: FunctionCaller | None = None) -> _Target:
        gives = self._spec.deployed.calls[function].gives
        unnamed = next((name for name, data in gives.items() if data.get("is_unnamed")), None)
        return _Target(function, stage, callees or self._callees, self._loop, unnamed)


class _Target:
    """A function that a stage calls.

    Attributes:
        stage: that calls, for messages.
        unnamed: the name of the one value that is its answer by itself; None: an answer has names.
    """

    __slots__ = ("_loop", "callees", "function", "stage", "unnamed")

    def __init__(
        self,
        function: str,
        stage: str,
        callees: FunctionCaller,
        loop: asyncio.AbstractEventLoop,
        unnamed: str | None,
    ) -> None:
        self.function = function
        self.stage = stage
        self.callees = callees
        self.unnamed = unnamed
        self._loop = loop

    def begin(self, answer: Coroutine[Any, Any, T], left_s: float) -> Any:
        """Begins a call: returns what is to be awaited in a coroutine, and otherwise waits.

        Args:
            left_s: seconds that it may take.
        """
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            return answer
        future = asyncio.run_coroutine_threadsafe(answer, self._loop)
        if running is not None:
            return asyncio.wrap_future(future)
        try:
            return future.result(left_s + GRACE_S)
        except (TimeoutError, CancelledError):
            if future.done() and not future.cancelled():  # the answer's own error
                raise
            future.cancel()
            error = DeadlineExceeded("the call was not answered in the time that its caller had.")
            raise CallError.of(error, self.function, has_time=False) from None

    async def answer(self, row: Row | None, fields: dict[str, Any]) -> Any:
        """Calls the function with one row.

        Args:
            row: that the stage runs for; None: it runs for none, as while it is constructed.
        """
        outcome = carried_values(fields)
        if not isinstance(outcome, WakefulError):
            # a timer that is set on the way must not keep the row's values
            before = CURRENT_ROW.set(None)
            try:
                (outcome,) = await self._send(row, [outcome])
            except WakefulError as error:
                outcome = error
            finally:
                CURRENT_ROW.reset(before)
        if isinstance(outcome, WakefulError):
            raise self._error(outcome, row) from outcome
        return outcome if self.unnamed is None else outcome[self.unnamed]

    async def answers(
        self,
        row: Row | None,
        rows: Sequence[Mapping[str, Any]],
        *,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Calls the function with several rows, sent together."""
        checked: list[Outcome] = [carried_values(dict(one)) for one in rows]
        sent = [values for values in checked if not isinstance(values, WakefulError)]
        before = CURRENT_ROW.set(None)
        try:
            answered = iter(await self._send(row, sent) if sent else ())
        except WakefulError as error:
            raise self._error(error, row) from error
        finally:
            CURRENT_ROW.reset(before)
        found: list[Any] = []
        for index, values in enumerate(checked):
            outcome = values if isinstance(values, WakefulError) else next(answered)
            if not isinstance(outcome, WakefulError):
                found.append(outcome if self.unnamed is None else outcome[self.unnamed])
                continue
            failed = self._error(outcome, row, f"[{index}]")
            if not return_exceptions:
                raise failed from outcome
            found.append(failed)
        return found

    def _send(
        self, row: Row | None, sent: Sequence[dict[str, Any]]
    ) -> Awaitable[Sequence[Outcome]]:
        """What waits for the outcomes of rows.

        Raises:
            WakefulError: the row that the stage runs for is over.
        """
        if row is None:
            # of a stage that is constructed, or of a thread of its own
            alone = CallOptions(deadline=time.monotonic() + LOADING_S)
            return self.callees.call(self.function, sent, alone)
        if row.is_over(time.monotonic()):
            raise cancelled_row_error(row)
        return call_for_rows(self.callees, self.function, [row], sent)

    def _error(self, error: WakefulError, row: Row | None, where: str = "") -> CallError:
        has_time = row is None or not row.is_over(time.monotonic())
        place = ".".join(filter(None, (where, ROW.sub("", error.where))))
        return CallError.of(error, self.function, where=place, has_time=has_time)


class _Handle(CallHandle):
    """A function, for the row that a stage runs for."""

    __slots__ = ("_row", "_target")

    def __init__(self, target: _Target, row: Row | None) -> None:
        self._target = target
        self._row = row

    def __repr__(self) -> str:
        return f"<function {self._target.function!r}>"

    def __call__(self, /, **fields: Any) -> Any:
        return self._target.begin(self._target.answer(self._caller, fields), self._left_s)

    def rows(self, rows: Iterable[Mapping[str, Any]], *, return_exceptions: bool = False) -> Any:
        answers = self._target.answers(
            self._caller, list(rows), return_exceptions=return_exceptions
        )
        return self._target.begin(answers, self._left_s)

    @property
    def _caller(self) -> Row | None:
        """The row that a call is for."""
        return self._row

    @property
    def _left_s(self) -> float:
        row = self._caller
        if row is None or not math.isfinite(row.call.deadline):
            return LOADING_S
        return max(0.0, row.call.deadline - time.monotonic())


class _InitHandle(_Handle):
    """A function that a stage was given when it was constructed, for whichever row it runs.

    Args:
        can_call: its ``__call__`` is called for one row.
    """

    __slots__ = ("_can_call",)

    def __init__(self, target: _Target, *, can_call: bool) -> None:
        super().__init__(target, None)
        self._can_call = can_call

    @property
    def _caller(self) -> Row | None:
        row = _current_row()
        if row is not None and not self._can_call:
            raise FunctionError(
                f"stage {self._target.stage!r} calls {self._target.function!r} from a __call__"
                " that takes all rows, which are of several callers. Call it in __init__, or in a"
                " stage before this one."
            )
        return row


def _current_row() -> Row | None:
    """The row that the stage runs for, in whose thread or task this is."""
    return cast("Row | None", CURRENT_ROW.get())


class _HeldCallees:
    """Calls functions for stages that are constructed: each is loaded by its first call, and kept
    until ``release``. See ``FunctionCaller``.

    Mutable state: ``_holding`` (by name, how it was loaded), None once it was released.
    """

    def __init__(self, callees: FunctionCaller) -> None:
        self._callees = callees
        self._stack = AsyncExitStack()
        self._holding: dict[str, asyncio.Task[None]] | None = {}

    async def call(
        self, name: str, rows: Sequence[dict[str, Any]], options: CallOptions
    ) -> Sequence[Outcome]:
        """See ``FunctionCaller``."""
        if self._holding is None:
            return await self._callees.call(name, rows, options)
        task = self._holding.get(name)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._holding[name] = asyncio.create_task(self._hold(name))
        await asyncio.shield(task)
        return await self._callees.call(name, rows, options._replace(request_id="load"))

    def hold(self, name: str) -> AbstractAsyncContextManager[None]:
        """See ``FunctionCaller``."""
        return self._callees.hold(name)

    async def close(self) -> None:
        """There is nothing of its own to close."""

    async def release(self) -> None:
        """Lets them sleep. Idempotent."""
        tasks, self._holding = self._holding, None
        for task in (tasks or {}).values():
            task.cancel()
            with contextlib.suppress(WakefulError, asyncio.CancelledError):
                await task
        await self._stack.aclose()

    async def _hold(self, name: str) -> None:
        await self._stack.enter_async_context(self._callees.hold(name))
