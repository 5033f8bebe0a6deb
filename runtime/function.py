"""A declared function, loaded: takes rows or tensors, gives rows or tensors.

One object owns everything a function needs to answer: its stages, its models, its queues. The worker threads are its own, or shared
with other functions and somebody else's. It is made by ``load``, belongs to one event loop, and is closed by whoever loaded it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from runtime import media
from runtime.admission import refuse_too_many
from runtime.assemble import Assembly
from runtime.batching.batcher import Batcher
from runtime.batching.rows import PLAIN, Ask, Call, Row
from runtime.batching.stream import Item
from runtime.batching.workers import Workers
from runtime.callees import Callees
from runtime.devices import Gpu
from runtime.errors import RequestError, WakefulError
from runtime.fields import RowValidator
from runtime.flow import Flow, capacity_of
from runtime.loading import build
from runtime.onnx.options import workers as workers_of
from runtime.openinference import OpenInference
from runtime.origin import Origin, origin
from runtime.privately import Privately
from runtime.running import running
from runtime.segments import Placed, cut
from runtime.sequenced import ONE_ROW
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.stages import ModelStage
from runtime.values import is_mapping
from runtime.vitals import Vitals
from runtime.warmup import warm_up as run_once
from runtime.wire.messages import InferRequest, InferResponse

logger = logging.getLogger("wakeful.load")


class Function(Flow):
    """A loaded function.

    Attributes:
        protocol: its tensors on the wire.
        raw_field: that a body of one of the ``accepts`` fills; None: there is none.
        load_s: seconds by phase of loading: those of ``runtime/loading``, and ``warm_up``.
        running: what its models really run on.
        origin: the code that it was loaded from, and whether it is what was declared.

    And those of ``Flow``.
    """

    def __init__(
        self,
        assembly: Assembly,
        stages: Sequence[Placed],
        load_s: Mapping[str, float],
        *,
        workers: Workers | None = None,
    ) -> None:
        spec, graph = assembly.spec, assembly.graph
        assert graph is not None
        self.load_s = dict(load_s)
        self.answer = graph.answer
        self.validator = RowValidator(spec.name, graph.fields)
        self.protocol = OpenInference(spec.name, graph.fields, graph.answer, self.validator, has_rows=assembly.rows)
        self.raw_field = media.raw_field(graph.fields)
        self._names = tuple(graph.answer)
        only = graph.answer[self._names[0]]
        self._answer_is_value = len(self._names) == 1 and only.container == "object" and is_mapping(only.annotation)
        self._segments = cut(stages, spec.batching, (*graph.answer, *graph.kept))
        self.running = running(one.stage.session for one in stages if isinstance(one.stage, ModelStage))
        share = workers_of(spec.resources.num_cpus)
        self._own_workers: Workers | None = None
        if workers is None:
            workers = self._own_workers = Workers(share)
        loop = asyncio.get_running_loop()
        batcher = Batcher(spec.name, self._segments, workers=workers, share=share, loop=loop)
        batcher.max_fan_out = spec.limits.max_fan_out
        super().__init__(spec, batcher, streams=self._segments[-1].streams, kept=graph.kept)
        self._own_callees: Callees | None = None
        self.origin = Origin()
        self.vitals = Vitals(spec, self.validator, self._segments, self._batcher)

    @classmethod
    async def load(
        cls,
        spec: FunctionSpec,
        settings: Settings,
        *,
        workers: Workers | None = None,
        warm_up: bool = True,
        callees: Callees | None = None,
        gpu: Gpu | None = None,
    ) -> Function:
        """Loads off the event loop, warms up, and returns it ready.

        Args:
            workers: threads that it shares with others, at most ``resources.num_cpus`` of them at once; None gives it threads of its own.
            warm_up: False leaves out the first runs, for a function that was probed since it last changed.
            callees: who answers for the functions that its stages call; None: they are loaded with it, for it alone.
            gpu: the device this process was given; None: the first that it sees.

        Raises:
            LoadError: with the reason; nothing is left behind.
        """
        own = await Privately.load(spec, lambda called: cls.load(called, settings, gpu=gpu)) if spec.calls and callees is None else None
        try:
            found, (assembly, stages, load_s) = await asyncio.to_thread(_built, spec, settings, callees or own or Privately(), gpu)
            began = time.perf_counter()
            function = cls(assembly, stages, load_s, workers=workers)
            function.origin = found
        except BaseException:
            if own is not None:
                await own.close()
            raise
        function._own_callees = own
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

    async def call_rows(
        self, data: Sequence[Any], ask: Ask = PLAIN, *, as_values: bool = False
    ) -> tuple[list[dict[str, Any] | WakefulError], Call | None]:
        """Rows in, for each its answer or its error out, in order; a bad row fails alone.

        Args:
            as_values: for a stage of another function, which takes values by their names: also an answer that is a mapping by itself.

        Raises:
            WakefulError: one of ``run``, which concerns all of them.
        """
        return await self.run_rows(self.check_rows(data, as_values=as_values), ask, as_values=as_values)

    def check_rows(self, data: Sequence[Any], *, as_values: bool = False) -> list[dict[str, Any] | WakefulError]:
        """Each row validated, or its error; in any thread.

        Raises:
            TooLarge: more than ``limits.max_rows``.
        """
        refuse_too_many(len(data), self.spec.limits.max_rows)
        return (self.validator.values if as_values else self.validator.rows)(data)

    async def run_rows(
        self, checked: Sequence[dict[str, Any] | WakefulError], ask: Ask = PLAIN, *, as_values: bool = False
    ) -> tuple[list[dict[str, Any] | WakefulError], Call | None]:
        """As ``call_rows``, for rows that ``check_rows`` has seen."""
        if self.keeper is not None and len(checked) != 1:
            raise RequestError(ONE_ROW)
        if ask.refused:
            checked = [ask.refused.get(index, row) for index, row in enumerate(checked)]
        good = {index: row for index, row in enumerate(checked) if not isinstance(row, WakefulError)}
        call = await self.run(list(good.values()), ask, list(good)) if good else None
        answered = iter(call.rows if call else ())
        return [row if isinstance(row, WakefulError) else _outcome(self, next(answered), as_values) for row in checked], call

    def answer_of(self, row: Row, as_values: bool = False) -> dict[str, Any]:
        """The values of the last stage, by name; one that is a mapping is the answer itself, unless values are wanted."""
        if self._answer_is_value and not as_values:
            answer: dict[str, Any] = row.values[self._names[0]]
            return answer
        values = row.values
        return {name: values[name] for name in self._names}

    def item_of(self, item: Item) -> dict[str, Any]:
        """What the last stage yielded, as ``answer_of``."""
        only: dict[str, Any] = item[self._names[0]] if self._answer_is_value else {name: item[name] for name in self._names}
        return only

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
        if self.keeper is not None and spec.sequences is not None:
            self.keeper.retune(spec.sequences)
        self._batcher.max_fan_out = spec.limits.max_fan_out
        for segment in self._segments:
            segment.retune(spec.batching)

    async def close(self, timeout_s: float) -> None:
        """Answers what was accepted, then ends the threads that are its own. Idempotent."""
        until = time.monotonic() + timeout_s
        self.vitals.close()
        if self.keeper is not None:
            self.keeper.close()
        await asyncio.to_thread(self._batcher.close, timeout_s)
        if self._own_workers is not None:
            await asyncio.to_thread(self._own_workers.close, max(0.0, until - time.monotonic()))
        if self._own_callees is not None:
            await self._own_callees.close()


def _built(
    spec: FunctionSpec, settings: Settings, callees: Callees, gpu: Gpu | None
) -> tuple[Origin, tuple[Assembly, list[Placed], dict[str, float]]]:
    """What it is loaded from, and its parts; blocking, as ``build``, whose first phase counts the imports."""
    began = time.perf_counter()
    found = origin(spec, settings)
    took_s = time.perf_counter() - began
    assembly, stages, load_s = build(spec, settings, callees, gpu, found.module)
    if found.astray:
        logger.warning("%s: %s", spec.name, found.astray)
    return found, (assembly, stages, {**load_s, "read": load_s["read"] + took_s})


def _refuse_all(ask: Ask) -> None:
    """Raises the error of a row that is not to be run, where it is the whole call's."""
    if ask.refused:
        raise next(iter(ask.refused.values()))


def _outcome(function: Function, row: Row, as_values: bool) -> dict[str, Any] | WakefulError:
    return row.error if row.error is not None else function.answer_of(row, as_values)
