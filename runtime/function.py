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
from runtime.admission import ROWS_IN_FLIGHT, Capacity, Load, refusal
from runtime.assemble import Assembly
from runtime.batching.batcher import Batcher
from runtime.batching.policy import BatchLimits
from runtime.batching.rows import Call, Row, expired
from runtime.batching.workers import Workers
from runtime.errors import RequestError, TooLarge, WakefulError
from runtime.fields import RowValidator
from runtime.loading import build
from runtime.onnx.options import workers
from runtime.segments import cut
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.stages import ModelStage, PythonStage
from runtime.warmup import warm_up as run_once
from runtime.wire.checks import check_inputs
from runtime.wire.messages import InferRequest, InferResponse


class Function:
    """A loaded function.

    Attributes:
        spec: its declaration.
        inputs, outputs: its tensors on the wire.
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
        self.has_rows = assembly.rows
        self.fields = graph.fields
        self.answer = graph.answer
        self.inputs = tuple(port.type.tensor(name, rows=self.has_rows) for name, port in graph.fields.items())
        self.outputs = tuple(value.tensor(name, rows=self.has_rows) for name, value in graph.answer.items())
        self.validator = RowValidator(spec.name, graph.fields)
        self._optional = frozenset(name for name, port in graph.fields.items() if not port.is_required)
        self._reads = {name: convert.reader(port.type) for name, port in graph.fields.items()}
        self._checked_by_wire = all(port.type.container == "array" for port in graph.fields.values())
        self._names = tuple(graph.answer)
        only = graph.answer[self._names[0]]
        self._answer_is_value = len(self._names) == 1 and only.container == "object" and convert.is_mapping(only.annotation)
        self._capacity = capacity_of(spec)
        self._segments = cut(stages, limits_of(spec))
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
    def is_healthy(self) -> bool:
        """Whether it can answer: its worker threads live."""
        return self._batcher.is_healthy

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

    def metadata(self) -> dict[str, Any]:
        """The v2 model metadata response."""
        return {
            "name": self.spec.name,
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [tensor.metadata() for tensor in self.inputs],
            "outputs": [tensor.metadata() for tensor in self.outputs],
        }

    async def run(self, rows: Sequence[dict[str, Any]], request_id: str = "") -> Call:
        """Runs validated rows; the call that comes back has values or an error in each of its rows.

        Raises:
            TooLarge: more than ``limits.max_rows``.
            Overloaded: the bounded queue is full.
            DeadlineExceeded: no answer within ``limits.request_timeout_s``.
            Draining: the function is being closed.
        """
        limits = self.spec.limits
        self._refuse_too_many(len(rows))
        refused = refusal(Load(self.in_flight, self._rows), self._capacity, len(rows), self._batcher.row_seconds)
        if refused is not None:
            raise refused
        now = time.monotonic()
        call = Call(rows, request_id=request_id, now=now, deadline=now + limits.request_timeout_s)
        future: asyncio.Future[Call] = self._loop.create_future()
        self._batcher.submit(call, lambda done: self._answered(done, future))
        self.calls += 1
        self.in_flight += 1
        self.last_used = now
        self._rows += len(rows)
        timer = self._loop.call_later(limits.request_timeout_s, _expire, call, future)
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

    async def call_row(self, data: Any, request_id: str = "") -> tuple[dict[str, Any], Call]:
        """One row in, its answer out.

        Args:
            data: the request's fields, as decoded from JSON.

        Raises:
            WakefulError: the row's own error, or one of ``run``.
        """
        call = await self.run((self.validator.row(data),), request_id)
        row = call.rows[0]
        if row.error is not None:
            raise row.error
        return self.answer_of(row), call

    async def call_rows(self, data: Sequence[Any], request_id: str = "") -> tuple[list[dict[str, Any] | WakefulError], Call | None]:
        """Rows in, for each its answer or its error out, in order; a bad row fails alone.

        Raises:
            WakefulError: one of ``run``, which concerns all of them.
        """
        self._refuse_too_many(len(data))
        checked = [self._row_or_error(row, index) for index, row in enumerate(data)]
        good = [row for row in checked if not isinstance(row, WakefulError)]
        call = await self.run(good, request_id) if good else None
        answered = iter(call.rows if call else ())
        return [row if isinstance(row, WakefulError) else _outcome(self, next(answered)) for row in checked], call

    def _refuse_too_many(self, rows: int) -> None:
        most = self.spec.limits.max_rows
        if rows > most:
            raise TooLarge(f"{rows} rows are more than the {most} of limits.max_rows; send them in parts.")

    def _row_or_error(self, row: Any, index: int) -> dict[str, Any] | WakefulError:
        try:
            return self.validator.row(row, f"[{index}]")
        except RequestError as error:
            return error

    def answer_of(self, row: Row) -> dict[str, Any]:
        """The values of the last stage, by name."""
        if self._answer_is_value:
            answer: dict[str, Any] = row.values[self._names[0]]
            return answer
        values = row.values
        return {name: values[name] for name in self._names}

    async def infer(self, request: InferRequest, request_id: str = "") -> tuple[InferResponse, Call]:
        """An Open Inference Protocol inference, decoded.

        Raises:
            RequestError: inputs that are not this function's.
            WakefulError: one of ``run``, or the first row's that failed: tensors have no place for the error of one row.
        """
        count = check_inputs(request, self.inputs, self._optional, rows=self.has_rows)
        self._refuse_too_many(count)
        columns = {name: self._reads[name](tensor, name) for name, tensor in request.inputs.items()}
        data = [columns]
        if self.has_rows and columns:
            data = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        if not self._checked_by_wire:
            data = [self.validator.row(row, f"row {index}" if count != 1 else "") for index, row in enumerate(data)]
        call = await self.run(data, request_id)
        for row in call.rows:
            if row.error is not None:
                raise row.error
        wanted = {output.name for output in request.outputs} or set(self.answer)
        outputs = {
            spec.name: convert.column([row.values[spec.name] for row in call.rows], spec, value, rows=self.has_rows)
            for spec, value in zip(self.outputs, self.answer.values(), strict=True)
            if spec.name in wanted
        }
        return InferResponse(self.spec.name, request.id, outputs, {}), call

    def retune(self, spec: FunctionSpec) -> None:
        """Takes other batching and limits while it runs; from the next batch and the next call on.

        Args:
            spec: the same function with other tunables (``runtime.spec.from_tunables``).
        """
        self.spec = spec
        self._capacity = capacity_of(spec)
        for segment in self._segments:
            segment.retune(limits_of(spec))

    async def close(self, timeout_s: float) -> None:
        """Answers what was accepted, then ends the threads that are its own. Idempotent."""
        until = time.monotonic() + timeout_s
        await asyncio.to_thread(self._batcher.close, timeout_s)
        if self._own_workers is not None:
            await asyncio.to_thread(self._own_workers.close, max(0.0, until - time.monotonic()))


def _expire(call: Call, future: asyncio.Future[Call]) -> None:
    if not future.done():
        future.set_exception(expired(call))


def _outcome(function: Function, row: Row) -> dict[str, Any] | WakefulError:
    return row.error if row.error is not None else function.answer_of(row)


def capacity_of(spec: FunctionSpec) -> Capacity:
    """The declared limits as admission takes them."""
    limits = spec.limits
    calls = limits.max_ongoing_requests + limits.max_queued_requests
    return Capacity(calls, ROWS_IN_FLIGHT * limits.max_rows, workers(spec.resources.num_cpus))


def limits_of(spec: FunctionSpec) -> BatchLimits:
    """The declared batching as the policy takes it."""
    batching = spec.batching
    return BatchLimits(
        batching.max_batch_size, batching.batch_wait_timeout_s, batching.run_cost, batching.max_padding, batching.max_batch_cost
    )
