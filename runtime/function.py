"""A declared function, loaded: takes rows or tensors, gives rows or tensors.

One object owns everything a function needs to answer: its stages, its models, its queues. The worker threads are its own, or shared
with other functions and somebody else's. It is made by ``load``, belongs to one event loop, and is closed by whoever loaded it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from runtime import convert
from runtime.admission import IN_FLIGHT, Capacity, Load, backlog_s, refusal, refuse_too_many
from runtime.assemble import Assembly
from runtime.batching.batcher import Batcher
from runtime.batching.rows import PLAIN, Ask, Call, Row, expired
from runtime.batching.workers import Workers
from runtime.errors import DeadlineExceeded, WakefulError
from runtime.fields import RowValidator
from runtime.loading import build
from runtime.onnx.options import workers
from runtime.openinference import OpenInference
from runtime.segments import cut
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.stages import ModelStage, PythonStage
from runtime.vitals import Vitals
from runtime.warmup import warm_up as run_once
from runtime.wire.messages import InferRequest, InferResponse


class Function:
    """A loaded function.

    Attributes:
        spec: its declaration.
        protocol: its tensors on the wire.
        load_s: seconds by phase of loading: those of ``runtime/loading``, and ``warm_up``.
        calls: accepted since it was loaded.
        last_used: when a call last arrived or was answered, seconds, ``time.monotonic``; at first when it was loaded.

    Mutable state, on the event loop only: ``in_flight`` and ``_rows`` count what is in flight, ``calls`` and ``last_used`` see above.
    """

    def __init__(
        self,
        assembly: Assembly,
        stages: Sequence[PythonStage | ModelStage],
        load_s: Mapping[str, float],
        *,
        workers: Workers | None = None,
    ) -> None:
        spec, graph = assembly.spec, assembly.graph
        assert graph is not None
        self.spec = spec
        self.load_s = dict(load_s)
        self.answer = graph.answer
        self.validator = RowValidator(spec.name, graph.fields)
        self.protocol = OpenInference(spec.name, graph.fields, graph.answer, self.validator, has_rows=assembly.rows)
        self._names = tuple(graph.answer)
        only = graph.answer[self._names[0]]
        self._answer_is_value = len(self._names) == 1 and only.container == "object" and convert.is_mapping(only.annotation)
        self._capacity = capacity_of(spec)
        self._segments = cut(stages, spec.batching)
        self.calls = 0
        self.in_flight = 0
        self.last_used = time.monotonic()
        self._rows = 0
        self._loop = asyncio.get_running_loop()
        share = self._capacity.workers
        self._own_workers: Workers | None = None
        if workers is None:
            workers = self._own_workers = Workers(share)
        self._batcher = Batcher(spec.name, self._segments, workers=workers, share=share, loop=self._loop)
        self.vitals = Vitals(spec, self.validator, self._segments, self._batcher)

    @classmethod
    async def load(cls, spec: FunctionSpec, settings: Settings, *, workers: Workers | None = None, warm_up: bool = True) -> Function:
        """Loads off the event loop, warms up, and returns it ready.

        Args:
            workers: threads that it shares with others, at most ``resources.num_cpus`` of them at once; None gives it threads of its own.
            warm_up: False leaves out the first runs, for a function that was probed since it last changed.

        Raises:
            LoadError: with the reason; nothing is left behind.
        """
        assembly, stages, load_s = await asyncio.to_thread(build, spec, settings)
        began = time.perf_counter()
        function = cls(assembly, stages, load_s, workers=workers)
        try:
            if warm_up:
                await run_once(spec, function.validator, function._segments)
        except BaseException:
            await function.close(1.0)
            raise
        function.load_s["warm_up"] = time.perf_counter() - began
        return function

    def __repr__(self) -> str:
        return f"<Function {self.spec.name}: {self.in_flight} calls, {self._rows} rows in flight; {self._batcher!r}>"

    @property
    def trouble(self) -> str:
        """Why it cannot answer; empty when all is well."""
        return self.vitals.trouble

    @property
    def is_healthy(self) -> bool:
        """Whether there is no ``trouble``."""
        return not self.trouble

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
        """
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
        if ask.alone:
            for row in call.rows:
                row.alone = row.index in ask.alone
        future: asyncio.Future[Call] = self._loop.create_future()
        self._batcher.submit(call, lambda done: self._answered(done, future))
        self.calls += 1
        self.in_flight += 1
        self.last_used = now
        self._rows += len(rows)
        timer = self._loop.call_later(timeout_s, _expire, call, future)
        try:
            return await future
        finally:
            timer.cancel()
            call.is_abandoned = True

    def _answered(self, call: Call, future: asyncio.Future[Call]) -> None:
        self.in_flight -= 1
        self.last_used = time.monotonic()
        self._rows -= len(call.rows)
        if not future.done():
            future.set_result(call)

    async def call_row(self, data: Any, ask: Ask = PLAIN) -> tuple[dict[str, Any], Call]:
        """One row in, its answer out.

        Args:
            data: the request's fields, as decoded from JSON.

        Raises:
            WakefulError: the row's own error, or one of ``run``.
        """
        return await self.run_row(self.validator.row(data), ask)

    async def run_row(self, row: dict[str, Any], ask: Ask = PLAIN) -> tuple[dict[str, Any], Call]:
        """As ``call_row``, for a row that is validated."""
        _refuse_all(ask)
        call = await self.run((row,), ask)
        only = call.rows[0]
        if only.error is not None:
            raise only.error
        return self.answer_of(only), call

    async def call_rows(self, data: Sequence[Any], ask: Ask = PLAIN) -> tuple[list[dict[str, Any] | WakefulError], Call | None]:
        """Rows in, for each its answer or its error out, in order; a bad row fails alone.

        Raises:
            WakefulError: one of ``run``, which concerns all of them.
        """
        return await self.run_rows(self.check_rows(data), ask)

    def check_rows(self, data: Sequence[Any]) -> list[dict[str, Any] | WakefulError]:
        """Each row validated, or its error; in any thread.

        Raises:
            TooLarge: more than ``limits.max_rows``.
        """
        refuse_too_many(len(data), self.spec.limits.max_rows)
        return self.validator.rows(data)

    async def run_rows(
        self, checked: Sequence[dict[str, Any] | WakefulError], ask: Ask = PLAIN
    ) -> tuple[list[dict[str, Any] | WakefulError], Call | None]:
        """As ``call_rows``, for rows that ``check_rows`` has seen."""
        if ask.refused:
            checked = [ask.refused.get(index, row) for index, row in enumerate(checked)]
        good = {index: row for index, row in enumerate(checked) if not isinstance(row, WakefulError)}
        call = await self.run(list(good.values()), ask, list(good)) if good else None
        answered = iter(call.rows if call else ())
        return [row if isinstance(row, WakefulError) else _outcome(self, next(answered)) for row in checked], call

    def answer_of(self, row: Row) -> dict[str, Any]:
        """The values of the last stage, by name."""
        if self._answer_is_value:
            answer: dict[str, Any] = row.values[self._names[0]]
            return answer
        values = row.values
        return {name: values[name] for name in self._names}

    async def infer(
        self, request: InferRequest, ask: Ask = PLAIN, rows: Sequence[dict[str, Any]] | None = None
    ) -> tuple[InferResponse, Call]:
        """An Open Inference Protocol inference, decoded.

        Args:
            rows: what ``protocol.rows`` has made of the request; None: that is done here.

        Raises:
            RequestError: inputs that are not this function's.
            WakefulError: one of ``run``, or the first row's that failed or is refused: tensors have no place for the error of one row.
        """
        _refuse_all(ask)
        call = await self.run(self.protocol.rows(request, self.spec.limits.max_rows) if rows is None else rows, ask)
        return self.protocol.response(request, call.rows), call

    def retune(self, spec: FunctionSpec) -> None:
        """Takes other batching and limits while it runs; from the next batch and the next call on.

        Args:
            spec: the same function with other tunables (``runtime.spec.from_tunables``).
        """
        self.spec = spec
        self._capacity = capacity_of(spec)
        self.vitals.retune(spec)
        for segment in self._segments:
            segment.retune(spec.batching)

    async def close(self, timeout_s: float) -> None:
        """Answers what was accepted, then ends the threads that are its own. Idempotent."""
        until = time.monotonic() + timeout_s
        self.vitals.close()
        await asyncio.to_thread(self._batcher.close, timeout_s)
        if self._own_workers is not None:
            await asyncio.to_thread(self._own_workers.close, max(0.0, until - time.monotonic()))


def _expire(call: Call, future: asyncio.Future[Call]) -> None:
    if not future.done():
        future.set_exception(expired(call))


def _refuse_all(ask: Ask) -> None:
    """Raises the error of a row that is not to be run, where it is the whole call's."""
    if ask.refused:
        raise next(iter(ask.refused.values()))


def _outcome(function: Function, row: Row) -> dict[str, Any] | WakefulError:
    return row.error if row.error is not None else function.answer_of(row)


def capacity_of(spec: FunctionSpec) -> Capacity:
    """The declared limits as admission takes them."""
    limits = spec.limits
    calls = limits.max_ongoing_requests + limits.max_queued_requests
    most_bytes = limits.max_ongoing_bytes or IN_FLIGHT * limits.max_body_bytes
    return Capacity(calls, IN_FLIGHT * limits.max_rows, workers(spec.resources.num_cpus), most_bytes)
