"""Runs a function before it is ready, and again when it is suspected to be broken.

The first runs (``warm_up``) allocate memory, choose kernels, prove the declared example, and check
that batching does not change a model's answers (``verification``). A function that was probed since
its declaration last changed may be loaded without them; then its first call pays for them.

``SelfTest`` watches whether a loaded function can still answer: it reads the state of the worker
threads, and repeats the first run where batches suggest a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from runtime.artifacts.tracebacks import notes_of, with_notes
from runtime.batching.batcher import Batcher
from runtime.batching.calls import Row, Trial
from runtime.batching.fan_out import RowRouter
from runtime.batching.health.failure_detector import ignore_failure
from runtime.batching.health.hangs import HUNG_S
from runtime.batching.health.stacks import frames_of, stage_lines
from runtime.batching.policy import Run, choose
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import FunctionError, LoadError, RequestError, WakefulError
from runtime.execution.segments import Segment
from runtime.execution.stages.model_stage import ModelStage
from runtime.execution.verification.batching_check import verify_batching
from runtime.graph.requests.examples import Example
from runtime.onnx.prepared_model import VerifiedModels
from runtime.system.function_context import CURRENT_FUNCTION

FREE_DIMENSION = 16
"""Size of a free dimension in a warm-up run without an example: long enough to be no special case,
short enough to be quick.
"""

LARGEST_BYTES: Final = 4 << 20
"""Size of the largest answer to made-up values that is checked by writing it; a larger one takes
seconds, and is written like a small one.
"""

LOAD_THREAD: Final = "wakeful-load "
"""Begins the names of threads of loads; the function's follows."""

SILENT_S: Final = 2.0
"""How long a load goes on before its progress is logged."""

logger = logging.getLogger("wakeful.load")

Result = TypeVar("Result")


async def warm_up(
    spec: FunctionSpec, example: Example | None, segments: Sequence[Segment], models: Path
) -> Sequence[Row]:
    """Runs every model at batch 1 and at the largest batch. With an example the whole graph runs on
    it once, and what takes many rows at once on the largest batch of it too. Without one the whole
    graph runs only where all its stages are models: made-up values do not go to a stage of the
    author's.

    Args:
        models: the folder that records which models were verified.

    Returns:
        The rows that the example, or the made-up row, became, with the values of the last stage;
        none where the whole graph was not run.

    Raises:
        LoadError: a run failed, or batching changes an answer.
    """
    most = spec.batching.max_batch_size
    check_batching = functools.partial(_check_batching, spec, example, VerifiedModels(models))
    if example is not None:
        return await _whole_graph(spec, await _read_fields(example), most, segments, check_batching)
    for rows in sorted({1, most}):
        await run_warmup(spec, example, segments, rows, is_first=True)
    for segment in segments:
        await run_apart(
            f"{spec.name}: whether batching moves answers is tried, stage {segment.name!r}",
            check_batching,
            segment,
            None,
        )
    return await _models_alone(spec, segments)


async def _models_alone(spec: FunctionSpec, segments: Sequence[Segment]) -> Sequence[Row]:
    """Runs one made-up row through a graph of models. Empty where there are other stages, or where
    the models do not take the row: one model's made-up values may be too short or too large for the
    next.
    """
    fields: dict[str, Any] = {}
    for stage in (stage for segment in segments for stage in segment.stages):
        if not isinstance(stage, ModelStage) or stage.session.is_unproven:
            return ()
        for name, array in stage.dummy_row(FREE_DIMENSION).items():
            fields.setdefault(name, array)
    with contextlib.suppress(LoadError):
        rows = await _whole_graph(spec, fields, 1, segments)
        sizes = [
            getattr(row.values.get(name), "nbytes", 0)
            for row in rows
            for name in segments[-1].gives
        ]
        return rows if sum(sizes) <= LARGEST_BYTES else ()
    return ()


async def run_warmup(
    spec: FunctionSpec,
    example: Example | None,
    segments: Sequence[Segment],
    rows: int,
    *,
    is_first: bool = False,
) -> Sequence[Row]:
    """Runs the example through the graph, alone and as one of ``rows``; without an example, that
    many rows of made-up data through every model.

    Args:
        is_first: the function is being loaded (``Session.warm_up``).

    Returns:
        As ``warm_up``.

    Raises:
        LoadError: it failed.
    """
    if example is not None:
        return await _whole_graph(spec, await _read_fields(example), rows, segments)
    for stage in (stage for segment in segments for stage in segment.stages):
        if isinstance(stage, ModelStage) and (stage.batchable or rows == 1):
            await run_apart(
                f"{spec.name}: first run of {rows} made-up row{'' if rows == 1 else 's'}, "
                f"stage {stage.name!r}",
                functools.partial(
                    stage.session.warm_up,
                    rows,
                    free=FREE_DIMENSION,
                    has_rows=stage.batchable,
                    is_first=is_first,
                ),
            )
    return ()


def _check_batching(
    spec: FunctionSpec,
    example: Example | None,
    verified: VerifiedModels,
    segment: Segment,
    row: Row | None,
) -> None:
    """Checks each model of a segment: the first one on the row that waits there, the others, and
    without a row, on made-up values.
    """
    for stage in segment.stages:
        if isinstance(stage, ModelStage):
            is_real = (
                row is not None
                and stage is segment.stages[0]
                and len(_full_batch(segment, row, 2)) > 1
            )
            # a value of another type or too large for the model: the runs report it
            with contextlib.suppress(ValueError, MemoryError):
                tensors = stage.tensors(row.values) if row is not None and is_real else None
                verify_batching(
                    stage,
                    tensors,
                    most=spec.batching.max_batch_size,
                    verified=verified,
                    of=example.identity if example is not None and tensors is not None else None,
                )


async def _read_fields(example: Example) -> dict[str, Any]:
    """Its files are not read on the event loop, which answers other functions."""
    return await asyncio.to_thread(_fields, example) if example.files else _fields(example)


def _fields(example: Example) -> dict[str, Any]:
    try:
        return example.fields()
    except (RequestError, FunctionError) as error:
        raise _fails(error) from None


async def _whole_graph(
    spec: FunctionSpec,
    fields: dict[str, Any],
    count: int,
    segments: Sequence[Segment],
    check_batching: Callable[[Segment, Row | None], None] | None = None,
) -> Sequence[Row]:
    """Runs a row through every segment that is for it, and where stages take many rows at once,
    as many copies of it as share a batch there (``Segment.run_copies``); without the batcher.

    Args:
        check_batching: called with each segment and a row that waits there, before it runs.
    """
    rows = Trial([fields], request_id="warm-up", now=0.0, deadline=math.inf).rows
    router = RowRouter(segments, threading.Lock())
    router.max_fan_out = spec.limits.max_fan_out
    waiting, done = router.route(-1, rows)
    for index, segment in enumerate(segments):
        batch = waiting.pop(index, [])
        copies = _full_batch(segment, batch[0], count) if batch and segment.gathers else []
        if check_batching is not None:
            await run_apart(
                f"{spec.name}: whether batching moves answers is tried, stage {segment.name!r}",
                check_batching,
                segment,
                batch[0] if batch else None,
            )
        for row in batch:  # one by one: a row may become too many rows for a batch
            await _run_alone(segment, row, spec.name)
        _raise_failed(batch)
        if len(copies) > 1:
            what = f"{spec.name}: first run of {len(copies)} rows, stage {segment.name!r}"
            await run_apart(what, segment.run_copies, copies)
            _raise_failed(copies, at_once=len(copies))
        routed, ended = router.route(index, batch)
        done += ended
        for at, moved in routed.items():
            waiting.setdefault(at, []).extend(moved)
    _raise_failed(done)
    return done


def _raise_failed(rows: Sequence[Row], at_once: int = 1) -> None:
    failed = next((row.error for row in rows if row.error is not None), None)
    if failed is not None:
        raise _fails(failed, at_once) from None


def _fails(error: WakefulError, at_once: int = 1) -> LoadError:
    """The error of a load whose example fails: the reason, with the author's own lines as notes,
    which the log has.
    """
    batch = f" in a batch of {at_once}" if at_once > 1 else ""
    return with_notes(
        LoadError(
            f"the declared example fails{batch}: "
            f"{f'{error.where}: ' if error.where else ''}{error.message}"
        ),
        error,
    )


async def _run_alone(segment: Segment, row: Row, function: str) -> None:
    what = f"{function}: first run of one row, stage {segment.name!r}"
    if segment.on_loop:
        with with_progress(what):
            await segment.run_on_loop([row])
    else:
        await run_apart(what, segment.run, [row])


async def run_apart(what: str, call: Callable[..., Result], *arguments: Any) -> Result:
    """Runs it in a thread of its own, with progress; where it has not returned after ``HUNG_S``,
    the log has its stack, once. If this task is cancelled the thread goes on: those that asyncio
    shares among all that blocks are few, and may all wait for what needs one of them, or hang.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()
    context = contextvars.copy_context()

    def hand_over(result: Result | None, error: BaseException | None) -> None:
        if done.done():  # cancelled meanwhile
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # the result of no error

    def run() -> None:
        result, raised = None, None
        try:
            result = context.run(call, *arguments)
        except BaseException as error:  # sys.exit of an `__init__` included
            raised = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(hand_over, result, raised)

    def log_stack() -> None:
        lines = stage_lines(frames_of(thread.ident or 0))
        logger.warning(
            "%s, has not returned for %g s. It is here:\n%s", what, HUNG_S, "\n".join(lines)
        )

    name = f"{LOAD_THREAD}{CURRENT_FUNCTION.get()}"
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    timer = loop.call_later(HUNG_S, log_stack)
    try:
        with with_progress(what):
            return await done
    finally:
        timer.cancel()


@contextlib.contextmanager
def with_progress(what: str) -> Iterator[None]:
    """Logs, while the block runs, what goes on and for how long: after ``SILENT_S``, and then after
    twice the pause each time.
    """
    loop, began, pause_s = asyncio.get_running_loop(), time.monotonic(), SILENT_S
    handle = loop.call_later(SILENT_S, lambda: log())

    def log() -> None:
        nonlocal handle, pause_s
        logger.info("%s, %.0f s so far", what, time.monotonic() - began)
        handle = loop.call_later(pause_s, log)
        pause_s *= 2

    try:
        yield
    finally:
        handle.cancel()


def _full_batch(segment: Segment, row: Row, count: int) -> list[Row]:
    """Copies of a row: as many as would leave together if ``count`` of them waited. One page may
    fill a batch, as 16 words fill another.
    """
    copies = [Row(row.call, row.index, dict(row.values)) for _ in range(count)]
    if segment.batch_limits is None:
        return copies
    for copy in copies:
        segment.measure(copy)
    release = choose(copies, segment.batch_limits, math.inf)
    assert isinstance(release, Run)
    return [copies[at] for at in release.positions]


function_logger = logging.getLogger("wakeful.function")

TEST_S = 30.0
"""How long a test may take: it waits for no queue, and its runs took milliseconds when the function
was loaded.
"""


class SelfTest:
    """Tests one function when its batcher suspects a failure. Held by the function.

    Args:
        spec: its declaration; the test runs its example, or its models on made-up data.
        example: the same as when it was loaded, whatever has become of its files; None: none.
        batcher: reports a suspected failure; gets the longest time that a call waits.

    Attributes:
        on_broken: called on the event loop, once, when the function is found broken. Trouble of the
            threads concerns all functions of the process, and is not reported here.

    Mutable state, on the event loop only: ``_broken`` (why, once it is), ``_test`` (the running
    test), ``_is_closed``.
    """

    def __init__(
        self,
        spec: FunctionSpec,
        example: Example | None,
        segments: Sequence[Segment],
        batcher: Batcher,
    ) -> None:
        self.on_broken: Callable[[], None] = _no_callback
        self._example = example
        self._segments = segments
        self._batcher = batcher
        self._broken = ""
        self._test: asyncio.Task[None] | None = None
        self._is_closed = False
        batcher.failures.on_suspected_failure = self._on_suspected_failure
        self.apply_settings(spec)

    def __repr__(self) -> str:
        test = ", being tested" if self._test is not None else ""
        return f"<SelfTest {self._spec.name}: {self.trouble or 'healthy'}{test}>"

    @property
    def trouble(self) -> str:
        """Why the function cannot answer, or its threads cannot; empty when all is well."""
        return self._broken or self._batcher.health.trouble

    def apply_settings(self, spec: FunctionSpec) -> None:
        """Takes other limits."""
        self._spec = spec
        limits = spec.limits
        self._batcher.health.timeout_s = min(
            limits.request_timeout_s,
            # of a stream, a worker computes an item, or elements, that are taken when it is done
            limits.item_timeout_s or math.inf
            if self._segments[-1].streams or self._segments[-1].element_order
            else math.inf,
        )

    def close(self) -> None:
        """Starts no more tests; a run in a thread ends by itself. Idempotent."""
        self._is_closed = True
        # the batcher must not keep what is closed
        self._batcher.failures.on_suspected_failure = ignore_failure
        self.on_broken = _no_callback
        if self._test is not None:
            self._test.cancel()

    def _on_suspected_failure(self, reason: str) -> None:
        if self._is_closed or self._broken:
            return
        if reason:
            self._mark_broken(reason)
        elif self._test is None:
            self._test = asyncio.create_task(self._run(), name=f"test {self._spec.name}")

    async def _run(self) -> None:
        """Runs one row through the whole graph, without the queues."""
        reason = notes = ""
        try:
            async with asyncio.timeout(TEST_S):
                example = self._example
                if example is not None and not await asyncio.to_thread(example.is_readable):
                    example = None  # it was tried on another machine, which has the files
                await run_warmup(self._spec, example, self._segments, 1)
        except TimeoutError:
            reason = f"a run that succeeded before it was ready did not end within {TEST_S:g} s."
        except Exception as error:  # whatever it is, the same run succeeded before
            message = (
                error.message
                if isinstance(error, WakefulError)
                else f"{type(error).__name__}: {error}"
            )
            reason = f"a run that succeeded before it was ready fails: {message}"
            notes = notes_of(error)
        finally:
            self._test = None
        if reason and not self._is_closed:
            self._mark_broken(reason, notes)

    def _mark_broken(self, reason: str, notes: str = "") -> None:
        self._broken = reason
        function_logger.error("%s is broken: %s%s", self._spec.name, reason, notes)
        self.on_broken()


def _no_callback(*_: object) -> None:
    """Default callback: does nothing."""
