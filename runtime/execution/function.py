"""A declared function, loaded: takes rows or tensors, gives rows or tensors.

One object owns everything a function needs to answer: its stages, its models, its queues. The
worker threads are its own, or belong to the process and are shared with other functions.
``Function.load`` makes it, on one event loop; the code that loaded it closes it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runtime.artifacts.tracebacks import with_notes
from runtime.artifacts.version import mismatch
from runtime.batching.batcher import Batcher
from runtime.batching.calls import DEFAULT_OPTIONS, Call, CallOptions, Row
from runtime.batching.streams.stream import Item
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec, version_hash
from runtime.declaration.sections import worker_count
from runtime.errors import LoadError, RequestError, WakefulError, refuse_too_many
from runtime.execution.answers.files import AnswerFiles
from runtime.execution.answers.open_inference import OpenInference, platform_of
from runtime.execution.handles import FunctionHandles
from runtime.execution.in_flight import InFlight
from runtime.execution.loader import build_function, device_report
from runtime.execution.segments import GraphStage, cut_into_segments
from runtime.execution.sequence_store import ONE_ROW, SequenceStore, sequence_turn
from runtime.execution.stages.function_stage import FunctionCaller, InlineCallees
from runtime.execution.stages.model_stage import ModelStage
from runtime.execution.verification.answer_check import WHOLE, check_answer, sample_items
from runtime.execution.warmup import SelfTest, run_apart
from runtime.execution.warmup import warm_up as run_once
from runtime.graph.assembly import Assembly
from runtime.graph.request_fields import RowValidator
from runtime.graph.requests.raw_bodies import raw_field_of
from runtime.onnx.gpu_memory import GpuDevice
from runtime.settings import Settings
from runtime.system.crash.recorder import label_of
from runtime.system.telemetry.counters import FunctionCounters

logger = logging.getLogger("wakeful.load")


ModelStates = tuple[tuple[str, tuple[int, int] | None], ...]
"""Size in bytes and time of change in ns by path; None: there was no file."""


class Function:
    """A loaded function. Used on the event loop that it was loaded on, unless a method says that
    it may be called in any thread.

    Attributes:
        spec: its declaration; ``apply_settings`` replaces it.
        answer: the types of what a row is answered with, by name.
        validator: checks rows.
        protocol: its tensors in the Open Inference Protocol.
        raw_field: the field that a body of one of the ``accepts`` fills; None: there is none.
        files: those among its answers.
        headers: of the request, by name, that its stages read.
        streams: each row is answered item by item (``runtime.execution.streaming``).
        sequences: the state of its sequences; None: its stages keep none.
        in_flight: its calls that are not answered yet, and the admission of new ones.
        load_s: seconds by phase of loading: those of ``build_function``, and ``warm_up``.
        running: what its models really run on.
        mismatch: why it is not the version that was declared; empty when it is
            (``runtime.artifacts.version.mismatch``).
        self_test: watches whether it can still answer.
        label: names it in crash reports, and its rows.
        counters: count its calls, rows and batches.
    """

    def __init__(
        self,
        assembly: Assembly,
        stages: Sequence[GraphStage],
        load_s: Mapping[str, float],
        *,
        workers: Workers | None = None,
        counters: FunctionCounters | None = None,
    ) -> None:
        spec, graph = assembly.spec, assembly.graph
        assert graph is not None
        self.spec = spec
        self.load_s = dict(load_s)
        self.answer = graph.answer
        self.validator = assembly.validator or RowValidator(spec.name, graph.fields)
        self.protocol = OpenInference(
            spec.name,
            graph.fields,
            graph.answer,
            self.validator,
            has_rows=assembly.has_rows,
            is_value=graph.answers_as_value,
            platform=platform_of(spec),
        )
        self.raw_field = raw_field_of(graph.fields)
        self.files = AnswerFiles(graph.answer, graph.media_type)
        self._names = tuple(graph.answer)
        self._may_lack = any(value.may_lack for value in graph.answer.values())
        self._answer_is_value = graph.answers_as_value
        self._segments = cut_into_segments(
            stages, spec.batching, (*graph.answer, *graph.state_names)
        )
        self.running = device_report(
            one.stage.session for one in stages if isinstance(one.stage, ModelStage)
        )
        share = worker_count(spec.resources.num_cpus)
        self._own_workers: Workers | None = None
        if workers is None:
            workers = self._own_workers = Workers(share)
        loop = asyncio.get_running_loop()
        self.counters = counters or FunctionCounters(spec.name)
        self.label = label_of(spec.name, version_hash(spec))
        self._batcher = Batcher(
            spec.name,
            self._segments,
            workers=workers,
            share=share,
            loop=loop,
            label=self.label,
            counters=self.counters,
        )
        self._batcher.max_fan_out = spec.limits.max_fan_out
        self._batcher.health.construct_s = load_s.get("stages", 0.0)
        self.headers = graph.headers
        self.streams = graph.streams
        self.sequences = (
            SequenceStore(graph.state_names, spec.sequences) if spec.sequences is not None else None
        )
        self.in_flight = InFlight(spec, self._batcher, streams=self.streams, headers=self.headers)
        self.in_flight.on_unwanted = self.files.discard
        self._own_callees: FunctionCaller | None = None
        self.mismatch = ""
        self._example = assembly.example
        self.self_test = SelfTest(spec, self._example, self._segments, self._batcher)

    @classmethod
    async def load(
        cls,
        spec: FunctionSpec,
        settings: Settings,
        *,
        workers: Workers | None = None,
        warm_up: bool = True,
        warmed: ModelStates | None = None,
        callees: FunctionCaller | None = None,
        gpu: GpuDevice | None = None,
        counters: FunctionCounters | None = None,
    ) -> Function:
        """Loads off the event loop, warms up, and returns it ready.

        Args:
            workers: threads that it shares with others, at most ``resources.num_cpus`` of them at
                once; None gives it threads of its own.
            warm_up: False leaves out the first runs, for a function that was probed since it last
                changed. They are run all the same where its model files are others now.
            warmed: ``model_states`` of its last load in this process; None: there was none.
            callees: calls the functions that its stages call; None: they are loaded with it, for
                it alone.
            gpu: the device this process was given; None: the first that it sees.
            counters: of the process, for the function; None: it counts for itself.

        Raises:
            LoadError: with the reason; all resources are released.
        """
        own = (
            await InlineCallees.load(
                spec,
                lambda called, callees: cls.load(called, settings, gpu=gpu, callees=callees),
            )
            if spec.deployed.calls and callees is None
            else None
        )
        used = callees or own or InlineCallees()
        loop = asyncio.get_running_loop()
        handles = FunctionHandles(spec, used, loop) if spec.deployed.calls else None
        build = functools.partial(_built, spec, settings, used, gpu, handles)
        try:
            found, (assembly, stages, load_s) = await run_apart(
                f"{spec.name}: its stages are imported and constructed, its models opened", build
            )
            began = time.perf_counter()
            function = cls(assembly, stages, load_s, workers=workers, counters=counters)
            function.mismatch = found
        except BaseException:
            if handles is not None:
                await handles.end_load()
            if own is not None:
                await own.close()
            raise
        function._own_callees = own
        try:
            if warm_up or function._has_other_models(warmed):
                rows = await run_once(spec, function._example, function._segments, settings.models)
                await asyncio.to_thread(function._check_answer, rows)
        except BaseException as error:
            await function.close(1.0)
            if isinstance(error, LoadError):
                raise _hidden(error, settings.secrets.hide) from None
            raise
        finally:
            if handles is not None:
                await handles.end_load()
        function.load_s["warm_up"] = time.perf_counter() - began
        return function

    def __repr__(self) -> str:
        return f"<Function {self.spec.name}: {self.in_flight!r}; {self._batcher!r}>"

    @property
    def trouble(self) -> str:
        """Why it cannot answer; empty when all is well."""
        return self.self_test.trouble

    @property
    def note(self) -> str:
        """What is wrong with it though it answers: it is not the version that was declared, or
        calls of it have not returned from a stage; empty when all is well.
        """
        count = self._batcher.health.abandoned
        if self.mismatch or not count:
            return self.mismatch
        return (
            f"{count} of its calls {'has' if count == 1 else 'have'} not returned from a stage; its"
            " log says where. Others have new threads."
        )

    @property
    def model_states(self) -> ModelStates:
        """Its model files as they were when they were opened."""
        return tuple(
            (str(stage.session.path), stage.session.file_state)
            for segment in self._segments
            for stage in segment.stages
            if isinstance(stage, ModelStage)
        )

    def _has_other_models(self, warmed: ModelStates | None) -> bool:
        """Whether its model files are not those that were warmed up: in this process, or where it
        was deployed, as their digests say.
        """
        return bool(self.mismatch) if warmed is None else warmed != self.model_states

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for a worker, or for a thread of their stage."""
        return self._batcher.waiting_rows

    @property
    def busy_s(self) -> float:
        """Worker seconds spent in its stages since it was loaded, batches under way included; never
        falls. Coroutine stages cost none.
        """
        return self._batcher.busy_s

    @property
    def row_seconds(self) -> float:
        """Seconds of one worker that a row takes, smoothed."""
        return self._batcher.row_seconds

    @property
    def sequence_count(self) -> int:
        """Live sequences; their state is lost when the function is closed."""
        return 0 if self.sequences is None else len(self.sequences)

    def validate_rows(
        self, data: Sequence[Any], *, as_values: bool = False
    ) -> list[dict[str, Any] | WakefulError]:
        """Each row validated, or its error; in any thread.

        Args:
            as_values: for a stage of another function, which sends values by their names.

        Raises:
            TooLarge: more than ``limits.max_rows``.
        """
        refuse_too_many(len(data), self.spec.limits.max_rows)
        return (self.validator.validate_values if as_values else self.validator.validate_rows)(data)

    async def run(
        self,
        rows: Sequence[dict[str, Any]],
        options: CallOptions = DEFAULT_OPTIONS,
        indexes: Sequence[int] | None = None,
        *,
        keeps_files: bool = False,
    ) -> Call:
        """Runs validated rows; the returned call has values or an error in each of its rows.

        Args:
            indexes: of the rows in the body, where those that ``options`` refuse are not among
                them; None: 0, 1, 2 …
            keeps_files: files stay what the stages gave (``files.open``); else they are read, and
                their values are bytes.

        Raises:
            WakefulError: the error of a row that ``options`` refuse, where ``indexes`` are not
                given; one of ``InFlight.begin``; DeadlineExceeded if there is no answer in time.
            RequestError, SequenceUnknown, TooManySequences: as ``sequence_turn``, of a function
                that keeps sequences.
        """
        if options.refused and indexes is None:
            raise next(iter(options.refused.values()))
        if self.sequences is None:
            call, answered = self.in_flight.begin(rows, options, indexes)
            with call:
                await answered
        else:
            async with sequence_turn(self.sequences, self.spec, rows, options) as turn:
                if turn.answered is not None:  # and lost on its way to the client
                    return turn.answered
                call, answered = self.in_flight.begin(turn.rows, turn.options, indexes)
                with call:
                    await answered
                turn.commit(call, None if self.files.are_on_disk else self.answer)
        if self.files.are_on_disk and not keeps_files:
            await self.files.read_all(call, self.spec.limits.max_body_bytes)
        return call

    async def run_rows(
        self,
        checked: Sequence[dict[str, Any] | WakefulError],
        options: CallOptions = DEFAULT_OPTIONS,
        *,
        as_values: bool = False,
    ) -> tuple[list[dict[str, Any] | WakefulError], Call | None]:
        """Runs what ``validate_rows`` returned: for each row its answer or its error, in order; a
        bad row fails alone. There is no call where no row is run.

        Args:
            as_values: the answer by the names of the values, also where it is a mapping by itself.

        Raises:
            WakefulError: one of ``run``, which concerns all rows.
        """
        if self.sequences is not None and len(checked) != 1:
            raise RequestError(ONE_ROW)
        checked, good = rows_to_run(checked, options)
        call = await self.run(list(good.values()), options, list(good)) if good else None
        answered = iter(call.rows if call else ())
        return [
            row if isinstance(row, WakefulError) else self.outcome_of(next(answered), as_values)
            for row in checked
        ], call

    async def call_row(
        self, data: Any, options: CallOptions = DEFAULT_OPTIONS
    ) -> tuple[dict[str, Any], Call]:
        """Validates one row, as decoded from JSON, and runs it; for callers in this process.

        Raises:
            WakefulError: the row's own error, or one of ``run``.
        """
        call = await self.run((self.validator.validate(data),), options)
        return self.answer_of(call.rows[0]), call

    async def call_rows(
        self,
        data: Sequence[Any],
        options: CallOptions = DEFAULT_OPTIONS,
        *,
        as_values: bool = False,
    ) -> tuple[list[dict[str, Any] | WakefulError], Call | None]:
        """``validate_rows``, then ``run_rows``; for callers in this process."""
        rows = self.validate_rows(data, as_values=as_values)
        return await self.run_rows(rows, options, as_values=as_values)

    def answer_of(self, row: Row, as_values: bool = False) -> dict[str, Any]:
        """The values of the last stage, by name; one that is a mapping is the answer itself, unless
        values are wanted.

        Raises:
            WakefulError: the row's error.
        """
        if row.error is not None:
            raise row.error
        if self._answer_is_value and not as_values:
            answer: dict[str, Any] = row.values[self._names[0]]
            return answer
        return self._named(row.values)

    def item_of(self, item: Item) -> dict[str, Any]:
        """What the last stage yielded, as ``answer_of``."""
        only: dict[str, Any] = item[self._names[0]] if self._answer_is_value else self._named(item)
        return only

    def outcome_of(self, row: Row, as_values: bool = False) -> dict[str, Any] | WakefulError:
        """As ``answer_of``, or the row's error."""
        return row.error if row.error is not None else self.answer_of(row, as_values)

    def _named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: values[name] for name in self._names if not self._may_lack or name in values}

    def _check_answer(self, rows: Sequence[Row]) -> None:
        """Refuses a function whose example's answer cannot be sent in every form that a client can
        ask for.
        """
        self.files.read_rows(rows, self.spec.limits.max_body_bytes)
        for row in rows:
            if self.streams:
                for item in sample_items(row, self._segments[-1], self.answer):
                    check_answer(self.spec, self.answer, self.item_of(item))
            else:
                answer = self.answer_of(row)
                check_answer(
                    self.spec, self.answer, answer, lambda: self.protocol.response(WHOLE, rows)
                )

    def apply_settings(self, spec: FunctionSpec) -> None:
        """Takes other batching and limits while it runs, from the next batch and the next call on.

        Args:
            spec: the same function with other live settings
                (``runtime.declaration.function_spec.with_live_settings``).
        """
        self.spec = spec
        self.in_flight.apply_settings(spec)
        self.self_test.apply_settings(spec)
        if self.sequences is not None and spec.sequences is not None:
            self.sequences.apply_settings(spec.sequences)
        self._batcher.max_fan_out = spec.limits.max_fan_out
        for segment in self._segments:
            segment.apply_settings(spec.batching)

    async def close(self, timeout_s: float) -> None:
        """Answers what was accepted, then ends the threads that are its own. Idempotent."""
        until = time.monotonic() + timeout_s
        self.self_test.close()
        if self.sequences is not None:
            self.sequences.close()
        await asyncio.to_thread(_close, [self._batcher], timeout_s)
        self._batcher.forget()
        self.in_flight.close()
        if self._own_workers is not None:
            await asyncio.to_thread(self._own_workers.close, max(0.0, until - time.monotonic()))
        if self._own_callees is not None:
            await self._own_callees.close()


def _close(owned: list[Batcher], timeout_s: float) -> None:
    """In a thread, which keeps what it was given until it is asked again, or its core has time."""
    owned.pop().close(timeout_s)


def rows_to_run(
    checked: Sequence[dict[str, Any] | WakefulError], options: CallOptions
) -> tuple[Sequence[dict[str, Any] | WakefulError], dict[int, dict[str, Any]]]:
    """The rows of a call, with the errors of those that ``options`` refuse; and those of them that
    are run, by index.
    """
    if options.refused:
        checked = [options.refused.get(index, row) for index, row in enumerate(checked)]
    good = {index: row for index, row in enumerate(checked) if not isinstance(row, WakefulError)}
    return checked, good


def _built(
    spec: FunctionSpec,
    settings: Settings,
    callees: FunctionCaller,
    gpu: GpuDevice | None,
    handles: FunctionHandles | None,
) -> tuple[str, tuple[Assembly, list[GraphStage], dict[str, float]]]:
    """The function's ``mismatch``, and its parts. Blocking, as ``build_function``, whose first
    phase includes the time of this comparison.
    """
    began = time.perf_counter()
    found = mismatch(spec, settings)
    took_s = time.perf_counter() - began
    assembly, stages, load_s = build_function(spec, settings, callees, gpu, handles)
    if found:
        logger.warning("%s: %s", spec.name, found)
    return found, (assembly, stages, {**load_s, "read": load_s["read"] + took_s})


def _hidden(error: LoadError, hide: Callable[[str], str]) -> LoadError:
    """The same error without the secrets that a stage may have put into what it raised."""
    return with_notes(LoadError(hide(error.message)), error, hide)
