"""One row of a function that streams, answered item by item."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.batching.calls import DEFAULT_OPTIONS, CallOptions
from runtime.batching.streams.stream import BUFFER
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import (
    DeadlineExceeded,
    FunctionError,
    LoadError,
    Overloaded,
    RequestError,
    RowQuarantined,
    SequenceUnknown,
)
from runtime.execution.function import Function
from runtime.execution.streaming import RowsSource, StreamSource
from runtime.protocol.sequences import SequenceRef
from runtime.settings import Settings
from tests.problems import expect_values
from tests.streamers import PATIENCE_S, TAPS

STAGES = "tests.streamers"


def streaming(
    root: Path,
    work: Callable[[Function], Awaitable[Any]],
    *stages: str,
    close_s: float = 5.0,
    **args: Any,
) -> Any:
    """Does the work with a function of these stages."""

    async def main() -> Any:
        graph = [{"stage": stage, "python": f"{STAGES}:{stage}"} for stage in stages]
        function = await Function.load(
            FunctionSpec.from_args("f", "/f", {"graph": graph, **args}),
            Settings.read({"WAKEFUL_ROOT": str(root)}),
        )
        try:
            return await work(function)
        finally:
            await function.close(close_s)

    return asyncio.run(main())


async def items_of(
    function: Function, row: dict[str, Any], ask: CallOptions = DEFAULT_OPTIONS
) -> list[dict[str, Any]]:
    """All of a stream."""
    items: list[dict[str, Any]] = []
    async with StreamSource(function, function.validator.validate(row), ask) as stream:
        while more := await stream.take():
            items += more
    return items


async def begun(key: str) -> None:
    """Waits until the generator runs."""
    async with asyncio.timeout(PATIENCE_S):
        while not TAPS[key].begun:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("stage", ["numbers", "slowly"])
def test_items_come_in_order_and_the_generator_ends(stage, tmp_path):
    """More of them than the buffer holds, from a worker and from the event loop."""

    async def work(function: Function) -> None:
        items = await items_of(function, {"to": 50, "key": stage})
        assert [item["n" if stage == "numbers" else stage] for item in items] == list(range(50))
        assert TAPS[stage].shut == ["ended"]
        assert function.in_flight.calls == 0

    streaming(tmp_path, work, stage)


def test_an_item_is_what_an_answer_would_be(tmp_path):
    """A TypedDict by its names, one value under the stage's name, an object as it is."""

    async def work(function: Function) -> list[dict[str, Any]]:
        return await items_of(
            function,
            {"text": "a b"}
            if "text" in function.validator.json_schema()["properties"]
            else {"x": 1},
        )

    assert streaming(tmp_path, work, "words") == [{"word": "a"}, {"word": "b"}]
    assert streaming(tmp_path, work, "twice", "countdown") == [{"countdown": 2}, {"countdown": 1}]


def test_a_stream_of_nothing_ends(tmp_path):
    """No item, no error."""

    async def work(function: Function) -> None:
        assert await items_of(function, {"to": 0}) == []

    streaming(tmp_path, work, "numbers")


@pytest.mark.parametrize("stage", ["numbers", "slowly"])
def test_what_came_before_an_error_is_given(stage, tmp_path):
    """Then the error, which is the stage's own; the generator has ended."""

    async def work(function: Function) -> None:
        seen = []
        async with StreamSource(
            function,
            function.validator.validate({"to": 9, "key": f"{stage} fails", "refuse_at": 3}),
            DEFAULT_OPTIONS,
        ) as stream:
            while len(seen) < 3:
                seen += await stream.take()
            with pytest.raises(RequestError, match="3 is not wanted"):
                await stream.take()
        assert len(seen) == 3
        assert TAPS[f"{stage} fails"].shut == ["closed"]

    streaming(tmp_path, work, stage)


def test_a_fault_of_the_function_keeps_its_secret(tmp_path):
    """As everywhere, the log has it."""

    async def work(function: Function) -> None:
        with pytest.raises(FunctionError) as raised:
            await items_of(function, {"to": 9, "break_at": 0})
        assert "secret" not in str(raised.value)

    streaming(tmp_path, work, "numbers")


@pytest.mark.parametrize("stage", ["numbers", "slowly"])
def test_a_client_that_does_not_read_costs_no_worker(stage, tmp_path):
    """Its stream is parked when the buffer is full; the one worker answers others, and the rest of
    the stream is there when the client reads on.
    """

    async def work(function: Function) -> None:
        key = f"{stage} parks"
        async with StreamSource(
            function, function.validator.validate({"to": 100, "key": key}), DEFAULT_OPTIONS
        ) as stream:
            first = await stream.take()
            async with asyncio.timeout(PATIENCE_S):
                while len(TAPS[key].given) < len(first) + BUFFER:
                    await asyncio.sleep(0)
            for _ in range(3):
                assert len(await items_of(function, {"to": 20})) == 20
            assert len(TAPS[key].given) <= len(first) + BUFFER + (stage == "slowly")
            rest = []
            while more := await stream.take():
                rest += more
        assert len(first) + len(rest) == 100

    streaming(tmp_path, work, stage)


def test_streams_share_one_worker_by_turns(tmp_path):
    """Three clients that read at once are all served before the first of them is done."""

    async def work(function: Function) -> None:
        ends: list[int] = []

        async def one(n: int) -> None:
            await items_of(function, {"to": 200, "key": "turns"})
            ends.append(n)

        await asyncio.gather(*map(one, range(3)))
        given = TAPS["turns"].given
        assert sorted(ends) == [0, 1, 2]
        assert given.count(0) == 3
        # the last to begin did so before any stream had ended
        assert len(given) - 1 - given[::-1].index(0) < 200

    streaming(tmp_path, work, "numbers")


def test_new_rows_are_not_kept_waiting_by_streams(tmp_path):
    """A call whose first stage has to wait for the worker gets it between two items of others."""

    async def work(function: Function) -> None:
        async def forever() -> None:
            async with StreamSource(
                function, function.validator.validate({"x": 10**9}), DEFAULT_OPTIONS
            ) as stream:
                while await stream.take():
                    pass

        busy = [asyncio.create_task(forever()) for _ in range(5)]
        async with asyncio.timeout(PATIENCE_S):
            assert len(await items_of(function, {"x": 3})) == 6
        for task in busy:
            task.cancel()
        await asyncio.wait(busy)

    streaming(tmp_path, work, "twice", "countdown")


@pytest.mark.parametrize("stage", ["numbers", "slowly"])
def test_a_client_that_leaves_ends_the_generator(stage, tmp_path):
    """Parked or not, and nothing of the call stays behind."""

    async def work(function: Function) -> None:
        key = f"{stage} leaves"
        async with StreamSource(
            function, function.validator.validate({"to": 10**9, "key": key}), DEFAULT_OPTIONS
        ) as stream:
            await stream.take()
        await TAPS[key].until_shut()
        assert TAPS[key].shut == ["closed"]
        async with asyncio.timeout(PATIENCE_S):
            while function.in_flight.calls:
                await asyncio.sleep(0)
        assert len(await items_of(function, {"to": 3})) == 3

    streaming(tmp_path, work, stage)


@pytest.mark.parametrize(
    ("stage", "row"), [("numbers", {"to": 10**9}), ("slowly", {"to": 3, "pause_s": 3600.0})]
)
def test_a_deadline_bounds_the_whole_stream(stage, row, tmp_path, clock):
    """By the client's timeout or request_timeout_s: then the generator is closed, and the error
    follows the items that have come.
    """

    async def work(function: Function) -> None:
        key = f"{stage} late"
        items = items_of(function, {**row, "key": key}, CallOptions("", time.monotonic() + 20))
        stream = asyncio.create_task(items)
        await begun(key)
        clock.advance(20)
        with pytest.raises(DeadlineExceeded) as late:
            await stream
        expect_values(late.value, "the stream", "limits.request_timeout_s")
        await TAPS[key].until_shut()
        assert TAPS[key].shut == ["closed"]

    streaming(tmp_path, work, stage)


def test_a_deadline_ends_a_parked_stream(tmp_path, clock):
    """A call whose client does not come back for its items."""

    async def work(function: Function) -> None:
        async with StreamSource(
            function,
            function.validator.validate({"to": 10**9, "key": "parked late"}),
            CallOptions("", time.monotonic() + 20),
        ) as stream:
            await begun("parked late")
            clock.advance(20)
            await TAPS["parked late"].until_shut()
            given = await stream.take()
            assert len(given) == BUFFER
            with pytest.raises(DeadlineExceeded):
                await stream.take()

    streaming(tmp_path, work, "numbers")


def test_an_item_has_a_deadline_of_its_own(tmp_path, clock):
    """limits.item_timeout_s bounds the wait for each."""

    async def work(function: Function) -> None:
        row = {"to": 3, "pause_s": 3600.0, "key": "item late"}
        stream = asyncio.create_task(items_of(function, row))
        await begun("item late")
        clock.advance(20)
        with pytest.raises(DeadlineExceeded, match=r"\b20(\.0)? s of limits\.item_timeout_s"):
            await stream
        await TAPS["item late"].until_shut()

    streaming(tmp_path, work, "slowly", limits={"item_timeout_s": 20})


@pytest.mark.parametrize("stage", ["numbers", "slowly"])
def test_a_function_that_closes_ends_its_streams(stage, tmp_path):
    """What is not at its end within the time is closed, parked streams as well; their callers are
    told.
    """
    key = f"{stage} closes"

    async def work(function: Function) -> None:
        async with StreamSource(
            function, function.validator.validate({"to": 10**9, "key": key}), DEFAULT_OPTIONS
        ) as stream:
            await stream.take()
            await function.close(0.1)
            assert TAPS[key].shut == ["closed"]
            await stream.take()
            with pytest.raises(DeadlineExceeded):
                await stream.take()

    streaming(tmp_path, work, stage)


def test_admission_counts_streams(tmp_path):
    """One that is in flight takes the place of a call until its end."""

    async def work(function: Function) -> None:
        row = function.validator.validate({"to": 10**9})
        async with (
            StreamSource(function, row, DEFAULT_OPTIONS),
            StreamSource(function, row, DEFAULT_OPTIONS),
        ):
            with pytest.raises(Overloaded):
                await items_of(function, {"to": 1})
        async with asyncio.timeout(PATIENCE_S):
            while function.in_flight.calls:
                await asyncio.sleep(0)
        assert len(await items_of(function, {"to": 1})) == 1

    limits = {"max_ongoing_requests": 1, "max_queued_requests": 1}
    streaming(tmp_path, work, "numbers", limits=limits, batching={"max_batch_size": 1})


def test_a_stream_is_not_an_answer(tmp_path):
    """Rows and tensors of such a function are refused with what to do, and a row that must not run
    does not.
    """

    async def work(function: Function) -> None:
        for call in (function.call_row({"to": 1}), function.call_rows([{"to": 1}])):
            with pytest.raises(RequestError, match="streams its answer"):
                await call
        with pytest.raises(RowQuarantined):
            await items_of(
                function, {"to": 1}, CallOptions(refused={0: RowQuarantined("not again.")})
            )

    streaming(tmp_path, work, "numbers")


def test_the_example_shows_that_it_works(tmp_path):
    """Its first items are computed at the warm-up, and the generator is closed."""

    async def nothing(function: Function) -> None: ...

    for stage in ("numbers", "slowly"):
        key = f"{stage} warm"
        streaming(
            tmp_path,
            nothing,
            stage,
            example={"to": 10**9, "key": key},
            batching={"max_batch_size": 2},
        )
        assert TAPS[key].given == list(range(BUFFER))
        assert TAPS[key].shut == ["closed"]
        with pytest.raises(LoadError, match="not wanted"):
            streaming(tmp_path, nothing, stage, example={"to": 3, "refuse_at": 1})


def test_a_sequence_of_streams(tmp_path):
    """Each goes on from what the one before it left at its end; one that fails, or is left, leaves
    everything as it was.
    """

    async def work(function: Function) -> None:
        def ask(starts: bool = False) -> CallOptions:
            return CallOptions(sequence=SequenceRef("s", starts))

        assert await items_of(function, {"x": [1, 2]}, ask(starts=True)) == [{"at": 0}, {"at": 1}]
        async with StreamSource(
            function, function.validator.validate({"x": [4] * 100}), ask()
        ) as stream:
            assert await stream.take()
        with pytest.raises(RequestError):
            await items_of(function, {"x": [3, -1]}, ask())
        assert await items_of(function, {"x": [5]}, ask()) == [{"at": 0}]
        async with function.sequences.lock(SequenceRef("s"), time.monotonic() + PATIENCE_S) as lock:
            assert lock.values == {"total": 8}
        with pytest.raises(SequenceUnknown):
            await items_of(function, {"x": [5]}, CallOptions(sequence=SequenceRef("t")))

    streaming(tmp_path, work, "added", sequences={})


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["numbers", "slowly"])
def test_streams_of_many_callers(stage, tmp_path):
    """Clients read fast, slowly or half, in time or not: items are in order and whole, every
    generator ends once, nothing stays.
    """
    dice = random.Random(7)
    key = f"{stage} many"

    async def one(
        function: Function, to: int, leaves_at: int, pause_s: float, timeout_s: float
    ) -> bool:
        seen: list[int] = []
        try:
            async with StreamSource(
                function,
                function.validator.validate({"to": to, "key": key}),
                CallOptions(deadline=time.monotonic() + timeout_s),
            ) as stream:
                while more := await stream.take():
                    seen += [item["n" if stage == "numbers" else stage] for item in more]
                    if len(seen) >= leaves_at:
                        break
                    await asyncio.sleep(pause_s)
            assert len(seen) == to or leaves_at <= len(seen)
        except DeadlineExceeded:
            assert timeout_s < 1
        assert seen == list(range(len(seen)))
        return bool(seen)

    async def work(function: Function) -> None:
        plan = [
            (
                dice.randrange(1, 80),
                dice.choice([5, 10**9]),
                dice.choice([0.0, 0.0, 0.002]),
                dice.choice([0.02, PATIENCE_S]),
            )
            for _ in range(300)
        ]
        begun = await asyncio.gather(*(one(function, *each) for each in plan))
        async with asyncio.timeout(PATIENCE_S):
            while function.in_flight.calls or function.waiting_rows:
                await asyncio.sleep(0)
        assert sum(begun) > 100
        assert len(TAPS[key].begun) == len(TAPS[key].shut) >= sum(begun)

    streaming(
        tmp_path, work, stage, limits={"max_queued_requests": 1000}, resources={"num_cpus": 2}
    )


def test_rows_that_were_taken_are_let_go(tmp_path):
    """In order, as they are done; an error has its place. The rest stays until it is taken."""

    async def work(function: Function) -> None:
        checked = [{"x": 1}, RequestError("no."), {"x": 2}]
        source = RowsSource(function, checked, DEFAULT_OPTIONS)
        found: list[Any] = []
        while not source.is_at_end:
            found += await source.take(PATIENCE_S)
        assert found == [{"twice": 2}, checked[1], {"twice": 4}]
        assert [row.values for row in source.call.rows] == [{}, {}]
        source.close()
        with pytest.raises(DeadlineExceeded):
            RowsSource(function, checked, CallOptions(deadline=time.monotonic() + 0.0))

    streaming(tmp_path, work, "twice")
