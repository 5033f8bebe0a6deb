"""Calls of one function under way: admitted or refused at once, counted, and ended at their deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from runtime.admission import IN_FLIGHT, Capacity, Load, backlog_s, refusal, refuse_too_many
from runtime.batching.batcher import Batcher
from runtime.batching.rows import PLAIN, Ask, Call, expired
from runtime.batching.stream import Stream
from runtime.errors import DeadlineExceeded, RequestError
from runtime.keeper import Keeper
from runtime.onnx.options import workers
from runtime.sequenced import in_turn
from runtime.spec import FunctionSpec

Begun = tuple[Call, "asyncio.Future[Call]", asyncio.TimerHandle]
"""A call that was submitted, what it is answered by, and the timer of its deadline."""

STREAMS: Final = "the function streams its answer: POST one row to its prefix, or to its /generate_stream."


class Flow:
    """What a ``Function`` is to those who only count, wait and call.

    Args:
        batcher: its queues; closed by whoever made them.
        kept: names of the values that the calls of a sequence leave to each other.

    Attributes:
        spec: its declaration.
        streams: a row is answered item by item, by ``runtime/streaming``.
        keeper: of its sequences; None where its stages keep nothing.
        calls: accepted since it was loaded.
        in_flight: calls accepted and not answered.
        last_used: when a call last arrived or was answered, seconds, ``time.monotonic``; at first when it was loaded.

    Mutable state, on the event loop only: these, ``spec`` and ``_capacity`` (``Function.retune``), and ``_rows`` in flight.
    """

    def __init__(self, spec: FunctionSpec, batcher: Batcher, *, streams: bool, kept: Sequence[str] = ()) -> None:
        self.spec = spec
        self.streams = streams
        self.keeper = Keeper(kept, spec.sequences) if spec.sequences is not None else None
        self.calls = 0
        self.in_flight = 0
        self.last_used = time.monotonic()
        self._rows = 0
        self._capacity = capacity_of(spec)
        self._batcher = batcher
        self._loop = asyncio.get_running_loop()

    @property
    def waiting(self) -> int:
        """Rows that wait for a worker."""
        return self._batcher.waiting

    @property
    def busy_s(self) -> float:
        """Worker seconds spent in its stages since it was loaded, batches under way included; never falls. Coroutine stages cost none."""
        return self._batcher.busy_s

    @property
    def row_seconds(self) -> float:
        """Seconds of one worker that a row takes, smoothed."""
        return self._batcher.row_seconds

    @property
    def sequences(self) -> int:
        """Sequences that live: what is kept of them goes with it."""
        return 0 if self.keeper is None else len(self.keeper)

    @property
    def capacity(self) -> Capacity:
        """What it may have in flight."""
        return self._capacity

    @property
    def backlog_s(self) -> int:
        """Seconds that what is in flight will take, one at least: when a caller who was refused may come again."""
        return backlog_s(self._rows, self._batcher.row_seconds, self._capacity.workers)

    async def run(self, rows: Sequence[dict[str, Any]], ask: Ask = PLAIN, indexes: Sequence[int] | None = None) -> Call:
        """Runs validated rows; the call that comes back has values or an error in each of its rows.

        Args:
            rows: none that ``ask`` refuses.
            indexes: of the rows in the body, where rows of it are not among them; None: 0, 1, 2 …

        Raises:
            TooLarge: more than ``limits.max_rows``.
            Overloaded: the bounded queue is full.
            DeadlineExceeded: no answer within ``limits.request_timeout_s`` and ``ask.timeout_s``, or no time to begin with.
            Draining: the function is being closed.
            RequestError: it streams (``runtime/streaming``); or it keeps sequences, and the call is not one row of a sequence.
            SequenceUnknown, TooManySequences: as ``Keeper.turn``.
        """
        if self.keeper is not None:
            async with in_turn(self.keeper, self.spec, rows, ask) as mine:
                call = await self._run(mine.rows, mine.ask, indexes)
                mine.keep(call)
                return call
        return await self._run(rows, ask, indexes)

    async def _run(self, rows: Sequence[dict[str, Any]], ask: Ask, indexes: Sequence[int] | None) -> Call:
        call, answered, timer = self.begin(rows, ask, indexes)
        try:
            return await answered
        finally:
            timer.cancel()
            call.is_abandoned = True

    def begin(self, rows: Sequence[dict[str, Any]], ask: Ask, indexes: Sequence[int] | None = None, stream: Stream | None = None) -> Begun:
        """The part of ``run`` that does not wait; whoever calls it does what ``run`` does behind it.

        Args:
            stream: takes the items of a function that streams.
        """
        if self.streams and stream is None:
            raise RequestError(STREAMS)
        limits = self.spec.limits
        refuse_too_many(len(rows), limits.max_rows)
        timeout_s = min(limits.request_timeout_s, ask.timeout_s)
        if timeout_s <= 0:
            raise DeadlineExceeded("the call's time was over before it was computed.")
        refused = refusal(Load(self.in_flight, self._rows), self._capacity, len(rows), self._batcher.row_seconds)
        if refused is not None:
            raise refused
        now = time.monotonic()
        call = Call(rows, request_id=ask.request_id, now=now, deadline=now + timeout_s, mark=ask.mark, indexes=indexes)
        call.stream = stream
        if ask.alone:
            for row in call.rows:
                row.alone = row.index in ask.alone
        future: asyncio.Future[Call] = self._loop.create_future()
        self._batcher.submit(call, lambda done: self._answered(done, future))
        self.calls += 1
        self.in_flight += 1
        self.last_used = now
        self._rows += len(rows)
        return call, future, self._loop.call_later(timeout_s, _expire, call, future)

    def _answered(self, call: Call, future: asyncio.Future[Call]) -> None:
        self.in_flight -= 1
        self.last_used = time.monotonic()
        self._rows -= len(call.rows)
        if not future.done():
            future.set_result(call)


def _expire(call: Call, future: asyncio.Future[Call]) -> None:
    if not future.done():
        future.set_exception(expired(call))


def capacity_of(spec: FunctionSpec) -> Capacity:
    """The declared limits as admission takes them."""
    limits = spec.limits
    calls = limits.max_ongoing_requests + limits.max_queued_requests
    most_bytes = limits.max_ongoing_bytes or IN_FLIGHT * limits.max_body_bytes
    return Capacity(calls, IN_FLIGHT * limits.max_rows, workers(spec.resources.num_cpus), most_bytes)
