"""A stage that is given a function calls it as a ``function:`` stage would, with the same answers,
errors, time and batches.
"""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.batching.calls import CallOptions
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import DeadlineExceeded, FunctionError, LoadError, WakefulError
from runtime.execution.function import Function
from runtime.execution.streaming import StreamSource
from runtime.graph.resolve import link_callees
from runtime.settings import Settings
from runtime.system.telemetry.trace import CallTrace
from tests import calling_stages
from tests.calling_stages import CALLED, spec
from tests.problems import expect_values
from tests.wire_callees import load_function


@pytest.fixture(params=["in process", "over a wire"])
def over_wire(request: pytest.FixtureRequest) -> bool:
    """Both ways to a function."""
    return bool(request.param == "over a wire")


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    """No stage has retried yet, and none has been slow."""
    calling_stages.RETRIED.clear()
    calling_stages.COMPUTED.clear()
    calling_stages.LET_GO.clear()


def with_function(
    root: Path,
    work: Callable[[Function], Awaitable[Any]],
    caller: FunctionSpec,
    *called: FunctionSpec,
    over_wire: bool = False,
) -> Any:
    """Loads a function with those that it calls, works, and closes it."""
    settings = Settings.read({"WAKEFUL_ROOT": str(root)})
    linked, faults = link_callees((*(called or CALLED), caller), settings)
    assert not faults

    async def main() -> Any:
        function = await load_function(linked[-1], settings, over_wire=over_wire)
        try:
            return await work(function)
        finally:
            await function.close(5)

    return asyncio.run(main())


def call(root: Path, caller: FunctionSpec, *texts: str, **more: Any) -> list[Any]:
    """What each text is answered with, one call after another: a value, or an error."""

    async def work(function: Function) -> list[Any]:
        return [await outcome(function, text) for text in texts]

    return list(with_function(root, work, caller, **more))


async def outcome(function: Function, text: str, **options: Any) -> Any:
    """Of one call: the value, or the error."""
    try:
        answer, _ = await function.call_row({"text": text}, CallOptions(**options))
    except WakefulError as error:
        return error
    return answer.get(function.spec.name, answer)


@pytest.mark.parametrize(
    ("name", "answered"),
    [
        ("plain", [3.0, 1.0]),
        ("awaited", [3.0, 1.0]),
        ("annotated", [3.0, 1.0]),
        ("in_a_thread", 3.0),
        ("in_a_loop", 3.0),
        ("itself", {"found": {"length": 3}}),
        ("under", "r1"),
    ],
)
def test_a_stage_calls_a_function(
    tmp_path: Path, over_wire: bool, name: str, answered: Any
) -> None:
    """Without ``await`` in a plain stage, with it in a coroutine, from threads and loops of its
    own; the answer has arrays, and the caller's id goes along.
    """

    async def work(function: Function) -> Any:
        return await outcome(function, "abc", request_id="r1")

    found = with_function(tmp_path, work, spec(name), over_wire=over_wire)
    assert found == answered


@pytest.mark.parametrize("name", ["Index", "AsyncIndex"])
def test_an_index_is_built_once(tmp_path: Path, over_wire: bool, name: str) -> None:
    """``__init__`` calls a function, and ``__call__`` does later, for its own caller."""
    index = spec("f", name, stage={"with": {"texts": ["a", "bb", "ccc"]}})
    assert call(tmp_path, index, "dddd", "", over_wire=over_wire) == [
        [4.0, 1.0, 2.0, 3.0],
        [0.0, 1.0, 2.0, 3.0],
    ]


def test_a_stage_of_all_rows_has_what_it_built(tmp_path: Path) -> None:
    """And may not call: its rows are of several callers."""
    index = spec("f", "RowsIndex", stage={"with": {"texts": ["a", "bb"]}})
    built, refused = call(tmp_path, index, "x", "call")
    assert built == [1.0, 2.0]
    assert isinstance(refused, FunctionError)
    expect_values(refused.message, "'f'", "'embed'", "__init__")


def test_what_init_calls_and_fails_is_named(tmp_path: Path) -> None:
    """The function does not load, and says which call it was."""
    index = spec("f", "Index", stage={"with": {"texts": ["a", "refused"]}})
    with pytest.raises(LoadError) as caught:
        call(tmp_path, index, "x")
    expect_values(caught.value.message, "Index", "embed", "422", "[1].text")


def test_calls_of_a_stage_share_a_batch(tmp_path: Path) -> None:
    """Two at once of one row, and those of several callers."""

    async def work(function: Function) -> Any:
        return await asyncio.gather(*(outcome(function, "a") for _ in range(4)))

    assert with_function(tmp_path, work, spec("fanned")) == [[8, 8]] * 4


@pytest.mark.parametrize("name", ["streamed", "streamed_plainly"])
def test_a_stream_calls_for_each_item(tmp_path: Path, name: str) -> None:
    """An asynchronous generator awaits as a coroutine does, a plain one waits."""

    async def work(function: Function) -> list[Any]:
        found: list[Any] = []
        async with StreamSource(function, {"text": "abc"}, CallOptions()) as source:
            while items := await source.take():
                found += items
        return found

    found = with_function(tmp_path, work, spec(name))
    assert found == [{name: 1.0}] * 3


REFUSALS = ["refused", "upstream", "broken"]


@pytest.mark.parametrize("text", REFUSALS)
def test_an_error_that_is_not_caught_is_answered_as_of_a_function_stage(
    tmp_path: Path, over_wire: bool, text: str
) -> None:
    """The same code, status, place and text."""
    graph = [{"stage": "embed", "function": "embed"}]
    edge = FunctionSpec.from_args("edge", "/v2/models/edge", {"graph": graph})
    (handle,) = call(tmp_path, spec("uncaught"), text, over_wire=over_wire)
    (stage,) = call(tmp_path, edge, text, over_wire=over_wire)
    assert isinstance(handle, WakefulError)
    assert handle.body("r") == stage.body("r")
    assert (type(handle), handle.status) == (type(stage), stage.status)


def test_a_field_that_the_function_lacks_is_its_refusal(tmp_path: Path, over_wire: bool) -> None:
    """With its code and place."""
    (found,) = call(tmp_path, spec("misspelt"), "a", over_wire=over_wire)
    assert (found.status, found.code) == (400, "missing_input")
    assert found.where.endswith("text")


def test_a_stage_catches_a_call_that_was_not_answered(tmp_path: Path, over_wire: bool) -> None:
    """And sees what an HTTP client would."""
    refused, upstream = call(tmp_path, spec("caught"), "refused", "upstream", over_wire=over_wire)
    assert refused == {
        "status": 422,
        "code": "bad_request",
        "where": "text",
        "function": "embed",
        "is_retryable": False,
    }
    assert (upstream["status"], upstream["code"]) == (502, "upstream_failed")
    assert upstream["is_retryable"]


def test_rows_fail_one_by_one(tmp_path: Path, over_wire: bool) -> None:
    """Each has its answer or its error; or the first error is raised, with its place."""
    found = call(tmp_path, spec("some_fail"), "refused", "b", over_wire=over_wire)
    assert found == [["ok", "bad_request", "missing_input"], ["ok", "ok", "missing_input"]]
    assert call(tmp_path, spec("first_fails"), "a", over_wire=over_wire) == ["[1].text"]


@pytest.mark.parametrize("name", ["waits", "retries"])
def test_a_call_ends_with_the_time_of_its_caller(
    tmp_path: Path, over_wire: bool, name: str
) -> None:
    """It is a missed deadline, after which no try makes sense."""

    async def work(function: Function) -> Any:
        found = await outcome(function, "20", deadline=time.monotonic() + 0.5)
        assert calling_stages.COMPUTED == []
        async with asyncio.timeout(30):
            while name == "retries" and not calling_stages.RETRIED:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # in which it would try again
        calling_stages.LET_GO.set()
        return found

    found = with_function(tmp_path, work, spec(name), over_wire=over_wire)
    assert isinstance(found, DeadlineExceeded)
    if name == "retries":
        assert calling_stages.RETRIED == ["deadline_exceeded"]


def test_a_coroutine_gives_a_call_up(tmp_path: Path) -> None:
    """The called row is not computed for a stage that does not wait any more."""

    async def work(function: Function) -> Any:
        found = await asyncio.gather(*(outcome(function, "20") for _ in range(8)))
        calling_stages.LET_GO.set()
        return found

    assert with_function(tmp_path, work, spec("gives_up")) == ["gave up"] * 8
    assert len(calling_stages.COMPUTED) < 8


@pytest.mark.parametrize("name", ["plain", "awaited"])
def test_nothing_keeps_the_row_of_a_call(tmp_path: Path, name: str) -> None:
    """Neither a timer of the called function nor a thread that waits for the next row."""

    async def work(function: Function) -> bool:
        call = await function.run([{"text": "abc"}])
        assert call.rows[0].error is None
        found = weakref.ref(call.rows[0])
        del call
        async with asyncio.timeout(10):
            while found() is not None:
                gc.collect()
                await asyncio.sleep(0.01)
        return True

    assert with_function(tmp_path, work, spec(name))


def test_each_call_is_a_part_of_the_trace(tmp_path: Path) -> None:
    """Two calls, two spans."""

    async def work(function: Function) -> Any:
        trace = CallTrace(7, 8, 0, is_sampled=True)
        await outcome(function, "a", trace=trace)
        return [part.name for part in trace.parts if part.kind == "hop"]

    assert with_function(tmp_path, work, spec("fanned")) == ["embed", "embed"]
