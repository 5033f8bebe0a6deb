"""The calls of one function that are in flight: admitted or refused at once, counted, and ended at
their deadline.

``runtime.execution.admission`` decides which are admitted; ``InFlight`` asks and performs.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from runtime.batching.batcher import Batcher
from runtime.batching.calls import Call, CallOptions, deadline_error
from runtime.batching.streams.stream import Stream
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import DeadlineExceeded, RequestError, refuse_too_many
from runtime.execution.admission import (
    AdmissionLoad,
    admission_limits_of,
    is_admitted,
    is_surely_in_time,
    late_error,
    next_caution,
    overloaded_error,
    retry_after_s,
    seconds_too_late,
)
from runtime.types.headers import RequestedHeader, headers_to_carry

PendingCall = tuple[Call, "asyncio.Future[Call]"]
"""A call that was submitted, and the future of its answer."""

NONE: Final[Mapping[str, Any]] = MappingProxyType({})

STREAMS: Final = (
    "the function streams its answer: POST one row to its prefix, or to its /generate_stream."
)

ROW_TIME_S: Final = 0.01
"""How long the measured time of a row is used before it is read again."""


class InFlight:
    """Admits calls of one function to its batcher and counts them until they are answered. Held by
    a ``Function``; used on its event loop only.

    Args:
        batcher: the function's queues; not closed here.
        streams: each row is answered item by item (``runtime.execution.streaming``).
        headers: of the request, by name: those that stages read.

    Attributes:
        calls: accepted and not answered.
        rows: of those calls.
        total_calls: accepted since the function was loaded.
        last_used: when a call last arrived or was answered, seconds, ``time.monotonic``; at first
            when the function was loaded.
        admission_limits: how much may be in flight.
        on_unwanted: called with a call whose answer comes when nothing waits for it any more.

    Mutable state: these attributes; ``_limits``, the declared ones (``apply_settings``);
    ``_pending``, the futures of the calls; ``_timer``, at the earliest of their deadlines or before
    it (``_due``, seconds of ``time.monotonic``); ``_row_s``, seconds that a row takes when many
    wait, read again after ``_row_s_until``; ``_caution``, since calls came too late all the same.
    Most calls have one time limit, so a deadline that comes later seldom comes before the one that
    is waited for: a timer for each call took 2 us.
    """

    def __init__(
        self,
        spec: FunctionSpec,
        batcher: Batcher,
        *,
        streams: bool,
        headers: Mapping[str, RequestedHeader] = NONE,
    ) -> None:
        self.calls = self.rows = self.total_calls = 0
        self.last_used = time.monotonic()
        self._batcher = batcher
        self._streams = streams
        self._headers = headers
        self._loop = asyncio.get_running_loop()
        self.on_unwanted: Callable[[Call], None] = lambda call: None
        self._pending: dict[Call, asyncio.Future[Call]] = {}
        self._due = math.inf
        self._row_s, self._row_s_until = 0.0, -math.inf
        self._caution = 1.0
        self._timer: asyncio.TimerHandle | None = None
        self.apply_settings(spec)

    def __repr__(self) -> str:
        return f"<InFlight: {self.calls} calls, {self.rows} rows>"

    @property
    def retry_after_s(self) -> int:
        """Seconds, at least one, that the rows in flight will take: when a client that was refused
        may call again.
        """
        return retry_after_s(self.rows, self._batcher.row_seconds, self.admission_limits.workers)

    def apply_settings(self, spec: FunctionSpec) -> None:
        """Takes the limits of this declaration, from the next call on."""
        self._limits = spec.limits
        self.admission_limits = admission_limits_of(spec)

    def begin(
        self,
        rows: Sequence[dict[str, Any]],
        options: CallOptions,
        indexes: Sequence[int] | None = None,
        *,
        stream: Stream | None = None,
    ) -> PendingCall:
        """Submits a call without waiting for it. The caller waits within a block of the call
        (``with call``), or sets ``is_abandoned`` when it waits no longer.

        Args:
            indexes: of the rows in the body, where not all of its rows are run; None: 0, 1, 2 …
            stream: takes the items of a function that streams.

        Raises:
            TooLarge: more than ``limits.max_rows``.
            Overloaded: the bounded queue is full, or what is in it leaves no time for this call.
            DeadlineExceeded: the call's time is over before it is computed.
            Draining: the function is being closed.
            MissingInput: ``options`` lack a header that a stage needs.
            RequestError: the function streams, and there is no ``stream``.
        """
        if self._streams and stream is None:
            raise RequestError(STREAMS)
        limits = self._limits
        if len(rows) > limits.max_rows:
            refuse_too_many(len(rows), limits.max_rows)
        if self._headers:
            headers = options.headers or NONE
            carried = headers_to_carry(self._headers.values(), headers, options.request_id)
            rows = [row | carried for row in rows]
        now = time.monotonic()
        deadline = options.deadline_at(now, limits.request_timeout_s)
        if deadline <= now:
            raise DeadlineExceeded("the call's time was over before it was computed.")
        load = AdmissionLoad(self.calls, self.rows)
        if not is_admitted(load, self.admission_limits, len(rows)):
            raise overloaded_error(load, self.admission_limits, self.retry_after_s)
        if self.calls:
            self._refuse_late(len(rows), deadline - now, now)
        call = Call(
            rows,
            request_id=options.request_id,
            now=now,
            deadline=deadline,
            fingerprint=options.fingerprint,
            indexes=indexes,
        )
        call.stream = stream
        call.account = options.account
        call.trace = options.trace
        if options.run_solo:
            for row in call.rows:
                row.run_solo = row.index in options.run_solo
        future: asyncio.Future[Call] = self._loop.create_future()
        self._batcher.submit(call, lambda done: self._on_answered(done, future))
        self.calls += 1
        self.total_calls += 1
        self.last_used = now
        self.rows += len(rows)
        self._pending[call] = future
        if call.deadline < self._due:
            self._wait_until(call.deadline, now)
        return call, future

    def _refuse_late(self, rows: int, timeout_s: float, now: float) -> None:
        """Raises ``Overloaded`` where the call would not be answered in time. Most calls cost it a
        product: the time of a row is read a hundred times a second at most, and the rows that wait
        are asked for only where there may be too many.
        """
        if now > self._row_s_until:
            self._row_s, self._row_s_until = self._batcher.queued_row_s, now + ROW_TIME_S
        if is_surely_in_time(self.rows + rows, self._row_s, timeout_s):
            return
        ahead = self._batcher.work_ahead()
        # a call whose client left costs nothing when it is reached
        needed = sum(len(call.rows) for call in self._pending if not call.is_over(now))
        ahead = ahead._replace(seconds=ahead.seconds * needed / self.rows)
        late_s = seconds_too_late(ahead, rows * self._row_s, timeout_s, self._caution)
        if late_s > 0:
            raise late_error(AdmissionLoad(self.calls, self.rows), timeout_s, late_s)

    def close(self) -> None:
        """Waits for no deadline any more, unless a call is not answered yet: its own ends it. The
        timer would hold the function in memory. Idempotent.
        """
        if self._timer is not None and not self._pending:
            self._timer.cancel()

    def _wait_until(self, due: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_later(due - now, self._expire)

    def _expire(self) -> None:
        """Ends the calls whose deadline has passed."""
        now = time.monotonic()
        # a timer counts from the begin of the loop's turn that set it, and so may be early
        reached, self._due = max(now, self._due), math.inf
        fix = self._batcher.late_fixes(now)
        for call, future in self._pending.items():
            if call.deadline > reached:
                self._due = min(self._due, call.deadline)
            elif not (future.done() or call.is_abandoned):
                future.set_exception(deadline_error(call, fix(call)))
        if self._due < math.inf:
            self._wait_until(self._due, now)

    def _on_answered(self, call: Call, future: asyncio.Future[Call]) -> None:
        del self._pending[call]
        self.calls -= 1
        self.last_used = time.monotonic()
        self.rows -= len(call.rows)
        error = call.rows[0].error
        if error is not None or self._caution > 1:
            self._caution = next_caution(self._caution, isinstance(error, DeadlineExceeded))
        if not future.done():
            future.set_result(call)
        else:
            self.on_unwanted(call)
