"""A function whose elements are streamed: the caller has each as it is done, and the same answers
as from a list.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypedDict

import pytest

from runtime.batching.calls import DEFAULT_OPTIONS, CallOptions
from runtime.batching.streams.elements import LEAST_WINDOW
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import DeadlineExceeded, LoadError, RequestError
from runtime.execution.function import Function
from runtime.execution.streaming import StreamSource
from runtime.graph.resolve import link_callees
from runtime.protocol.sequences import SequenceRef
from runtime.settings import Settings
from tests.runtime.execution.test_streaming import items_of
from wakeful import RequestError as Refused
from wakeful import Rows, State

HERE = __name__
PATIENCE_S = 30.0
GATES: defaultdict[int, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(0))
"""By element; what is 1000 or more waits for its own."""
BEGUN: list[int] = []
BATCHES: list[list[int]] = []


class Read(TypedDict):
    """Of an element."""

    text: str
    twice: int


def split(pages: list[int]) -> list[int]:
    """Gives them on."""
    return pages


def read(pages: int, unit: str = "") -> Read:
    """Of one; some wait, and 13 is refused."""
    BEGUN.append(pages)
    if pages >= 1000:
        assert GATES[pages].acquire(timeout=PATIENCE_S)
    if pages == 13:
        raise Refused("no thirteens.", where="pages")
    return {"text": f"{pages}{unit}", "twice": 2 * pages}


async def read_soon(pages: int, unit: str = "") -> Read:
    """The same on the event loop."""
    await asyncio.sleep(0)
    return read(pages, unit)


async def read_later(pages: int, unit: str = "") -> Read:
    """On the event loop, once the gate lets it through."""
    while pages >= 1000 and not GATES[pages].acquire(blocking=False):
        await asyncio.sleep(0.001)
    return {"text": f"{pages}{unit}", "twice": 2 * pages}


def add(pages: int) -> int:
    """Before another stage of the same elements."""
    return pages + 1


def together(add: Rows[int]) -> Rows[int]:
    """All that wait."""
    BATCHES.append(list(add))
    return [10 * one for one in add]


def shout(pages: int) -> dict[str, int]:
    """An answer that is a mapping by itself."""
    return {"n": pages}


class Counted(TypedDict):
    """Of a call of a sequence."""

    pages: list[int]
    calls: int


def count(pages: list[int], calls: State[int]) -> Counted:
    """Calls of a sequence so far."""
    return {"pages": pages, "calls": (calls or 0) + 1}


def tell(pages: int, calls: int) -> str:
    """An element, and which call it is of."""
    return f"{pages} of call {calls}"


def bad(pages: int) -> list[int]:
    """Not what it says."""
    return ["a"] if pages == 3 else [pages]  # type: ignore[list-item]


def stage(name: str, **keys: Any) -> dict[str, Any]:
    """A stage of this module."""
    return {"stage": name, "python": f"{HERE}:{name}", **keys}


FIRST = {"stage": "pages", "python": f"{HERE}:split"}
LAST = stage("read", each="pages", stream=True)


def serve(
    root: Path, work: Callable[[Function], Awaitable[Any]], *graph: dict[str, Any], **args: Any
) -> Any:
    """Does the work with a function of these stages; ``read_it`` can be called."""
    names = [FunctionSpec.from_args("read_it", "/r", {"graph": [stage("read")]})]
    names.append(FunctionSpec.from_args("later", "/l", {"graph": [stage("read_later")]}))
    names.append(FunctionSpec.from_args("f", "/f", {"graph": list(graph), **args}))
    settings = Settings.read({"WAKEFUL_ROOT": str(root)})
    (*_, spec), issues = link_callees(names, settings)
    assert not issues

    async def main() -> Any:
        function = await Function.load(spec, settings)
        try:
            found = await work(function)
            async with asyncio.timeout(PATIENCE_S):
                while function.in_flight.calls:
                    await asyncio.sleep(0.001)
            return found
        finally:
            await function.close(5.0)

    return asyncio.run(main())


async def rest_of(source: StreamSource, seen: list[Any] | None = None) -> list[Any]:
    """All that still comes."""
    seen = [] if seen is None else seen
    while more := await source.take():
        seen += more
    return seen


async def left_alone(function: Function, source: StreamSource) -> list[Any]:
    """The same, once its call has ended by itself."""
    async with asyncio.timeout(PATIENCE_S):
        while function.in_flight.calls:
            await asyncio.sleep(0.001)
    return await rest_of(source)


CALL = {"stage": "called", "function": "read_it", "each": "pages", "stream": True}


@pytest.mark.parametrize(
    ("last", "extra"),
    [
        (LAST, {}),
        (stage("read_soon", each="pages", stream=True), {}),
        (stage("read", each="pages", stream=True, threads=4), {}),
        (CALL, {}),
        (LAST, {"resources": {"num_cpus": 3}}),
    ],
)
def test_elements_come_in_order_as_a_list_would_have_them(
    last: dict[str, Any], extra: dict[str, Any], tmp_path: Path
) -> None:
    """More of them than a window holds, from a worker, the loop, threads, and another function."""
    pages = list(range(100, 100 + 3 * LEAST_WINDOW))

    async def work(function: Function) -> list[dict[str, Any]]:
        return await items_of(function, {"pages": pages, "unit": "p"})

    items = serve(tmp_path, work, FIRST, last, **extra)
    assert items == [{"text": f"{one}p", "twice": 2 * one} for one in pages]


@pytest.mark.parametrize(
    "last", [stage("read_soon", each="pages"), stage("read", each="pages"), CALL]
)
def test_as_done_each_comes_with_its_index(last: dict[str, Any], tmp_path: Path) -> None:
    """All of them, whatever their order."""
    pages = list(range(100, 200))

    async def work(function: Function) -> list[dict[str, Any]]:
        return await items_of(function, {"pages": pages})

    items = serve(tmp_path, work, FIRST, {**last, "stream": True, "ordered": False})
    assert sorted(item["index"] for item in items) == list(range(100))
    assert all(item["twice"] == 2 * pages[item["index"]] for item in items)


@pytest.mark.parametrize("ordered", [True, False])
def test_the_first_is_there_while_others_run(tmp_path: Path, *, ordered: bool) -> None:
    """In order a later one waits for it; as done it does not."""

    async def work(function: Function) -> None:
        row = function.validator.validate({"pages": [1000, 1001, 1, 2]})
        async with StreamSource(function, row, DEFAULT_OPTIONS) as source:
            if ordered:
                assert await source.take(0.05) is None
                GATES[1000].release()
                assert await source.take() == [{"text": "1000", "twice": 2000}]
            else:
                assert next(item["index"] for item in await source.take() or ()) in (2, 3)
                GATES[1000].release()
            GATES[1001].release()
            assert len(await rest_of(source)) >= 2

    last = stage("read", each="pages", stream=True, ordered=ordered, threads=4)
    serve(tmp_path, work, FIRST, last)


def test_each_element_is_a_call_of_its_own_to_another_function(tmp_path: Path) -> None:
    """One that takes long there keeps none of the others."""

    async def work(function: Function) -> None:
        row = function.validator.validate({"pages": [1, 1003, 2, 3]})
        async with StreamSource(function, row, DEFAULT_OPTIONS) as source:
            seen: list[Any] = []
            while len(seen) < 3:
                seen += await source.take() or ()
            assert sorted(item["twice"] for item in seen) == [2, 4, 6]
            GATES[1003].release()
            assert [item["twice"] for item in await rest_of(source)] == [2006]

    serve(tmp_path, work, FIRST, {**CALL, "function": "later", "ordered": False})


def test_an_item_is_what_an_answer_for_one_element_would_be(tmp_path: Path) -> None:
    """A mapping as it is; one that comes as done has the index beside it."""

    async def work(function: Function) -> list[dict[str, Any]]:
        return await items_of(function, {"pages": [5]})

    last = stage("shout", each="pages", stream=True)
    assert serve(tmp_path, work, FIRST, last) == [{"n": 5}]
    unordered = serve(tmp_path, work, FIRST, {**last, "ordered": False})
    assert unordered == [{"index": 0, "shout": {"n": 5}}]


def test_no_elements_are_a_stream_of_nothing(tmp_path: Path) -> None:
    """No item, no error."""

    async def work(function: Function) -> None:
        assert await items_of(function, {"pages": []}) == []

    serve(tmp_path, work, FIRST, LAST)


@pytest.mark.parametrize("last", [LAST, CALL, stage("read_soon", each="pages", stream=True)])
def test_what_comes_before_a_failure_is_sent(last: dict[str, Any], tmp_path: Path) -> None:
    """Then the element's own error ends the stream."""

    async def work(function: Function) -> None:
        row = function.validator.validate({"pages": [1, 2, 13, *range(20, 200)]})
        seen: list[Any] = []
        async with StreamSource(function, row, DEFAULT_OPTIONS) as source:
            with pytest.raises(RequestError, match="no thirteens") as raised:
                await rest_of(source, seen)
        assert raised.value.where == "pages"
        assert [item["twice"] for item in seen] == [2, 4]

    serve(tmp_path, work, FIRST, last)


def test_more_elements_than_may_be_are_refused_before_one_is_begun(tmp_path: Path) -> None:
    """As of a list."""
    BEGUN.clear()

    async def work(function: Function) -> None:
        with pytest.raises(RequestError, match="max_fan_out"):
            await items_of(function, {"pages": [1, 2, 3]})

    serve(tmp_path, work, FIRST, LAST, limits={"max_fan_out": 2})
    assert not BEGUN


def test_a_caller_that_does_not_take_costs_a_window(tmp_path: Path) -> None:
    """The others of its elements are not begun, and none of them once it has left."""
    BEGUN.clear()

    async def work(function: Function) -> None:
        row = function.validator.validate({"pages": list(range(100, 900))})
        async with StreamSource(function, row, DEFAULT_OPTIONS) as source:
            async with asyncio.timeout(PATIENCE_S):
                while len(BEGUN) < LEAST_WINDOW:
                    await asyncio.sleep(0.001)
            # another caller is answered meanwhile, and knows nothing of it
            assert len(await items_of(function, {"pages": list(range(100, 300))})) == 200
            assert len(BEGUN) == LEAST_WINDOW + 200
            assert await source.take()
        async with asyncio.timeout(PATIENCE_S):
            while function.in_flight.calls:
                await asyncio.sleep(0.001)
        assert len(BEGUN) <= 3 * LEAST_WINDOW + 200

    serve(tmp_path, work, FIRST, LAST)


def test_the_deadline_ends_it_with_what_was_done_sent(tmp_path: Path) -> None:
    """Whether an element runs or all wait to be taken."""

    async def work(function: Function) -> None:
        for pages in ([1, 1002, 2], list(range(100, 400))):
            row = function.validator.validate({"pages": pages})
            async with StreamSource(
                function, row, CallOptions(deadline=time.monotonic() + 0.3)
            ) as source:
                assert await source.take()
                with pytest.raises(DeadlineExceeded):
                    await (rest_of(source) if 1002 in pages else left_alone(function, source))
            GATES[1002].release()

    serve(tmp_path, work, FIRST, LAST)


def test_elements_of_several_callers_share_batches(tmp_path: Path) -> None:
    """Through two stages of the same elements, the second of which takes all rows; each caller has
    its own.
    """
    BATCHES.clear()

    async def work(function: Function) -> None:
        calls = [items_of(function, {"pages": [n, n + 100, n + 200]}) for n in range(20)]
        for n, items in enumerate(await asyncio.gather(*calls)):
            assert [item["together"] for item in items] == [
                10 * (one + 1) for one in (n, n + 100, n + 200)
            ]

    last = stage("together", each="pages", stream=True)
    serve(tmp_path, work, FIRST, stage("add", each="pages"), last)
    assert max(len({one % 100 for one in batch}) for batch in BATCHES) > 1


def test_a_function_that_ends_ends_its_streams(tmp_path: Path) -> None:
    """An element that is computed is not interrupted; what is left is not begun."""

    async def work(function: Function) -> None:
        row = function.validator.validate({"pages": list(range(100, 900))})
        async with StreamSource(function, row, DEFAULT_OPTIONS) as source:
            assert await source.take()
            await function.close(0.05)
            with pytest.raises(DeadlineExceeded):
                await rest_of(source)

    serve(tmp_path, work, FIRST, LAST)


def test_a_stream_of_elements_is_the_turn_of_its_sequence(tmp_path: Path) -> None:
    """The state goes to the next call."""

    async def work(function: Function) -> list[Any]:
        ask = CallOptions(sequence=SequenceRef("s"))
        first = await items_of(
            function, {"pages": [7, 8]}, CallOptions(sequence=SequenceRef("s", starts=True))
        )
        return [*first, *await items_of(function, {"pages": [9]}, ask)]

    items = serve(
        tmp_path, work, stage("count"), stage("tell", each="pages", stream=True), sequences={}
    )
    assert [item["tell"] for item in items] == ["7 of call 1", "8 of call 1", "9 of call 2"]


@pytest.mark.parametrize(("pages", "loads"), [([1, 2], True), ([1, 3], False)])
def test_the_example_is_tried_element_by_element(
    pages: list[int], tmp_path: Path, *, loads: bool
) -> None:
    """Against what the stage says of one."""

    async def work(function: Function) -> list[Any]:
        return await items_of(function, {"pages": [1]})

    last = stage("bad", each="pages", stream=True)
    if loads:
        assert serve(tmp_path, work, FIRST, last, example={"pages": pages}) == [{"bad": [1]}]
        return
    with pytest.raises(LoadError, match="bad"):
        serve(tmp_path, work, FIRST, last, example={"pages": pages})
