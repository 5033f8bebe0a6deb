"""Functions that keep something between the calls of a sequence, loaded and called."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypedDict

import pytest
from onnx import helper

from runtime.batching.calls import CallOptions
from runtime.declaration.function_spec import FunctionSpec, with_live_settings
from runtime.errors import (
    FunctionError,
    LoadError,
    MissingInput,
    RequestError,
    SequenceUnknown,
    WakefulError,
)
from runtime.execution.function import Function
from runtime.execution.streaming import StreamSource
from runtime.protocol.sequences import SequenceRef
from runtime.settings import Settings
from tests import accumulators, onnx_models
from tests.problems import expect_values
from wakeful import State

STAGES = "tests.accumulators"
ADD = [{"stage": "add", "python": f"{STAGES}:add"}]


def keeping(
    root: Path, graph: list[dict[str, Any]], work: Callable[[Function], Awaitable[Any]], **args: Any
) -> Any:
    """Does the work with a function of these stages."""

    async def main() -> Any:
        spec = FunctionSpec.from_args("f", "/f", {"graph": graph, "sequences": {}, **args})
        function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(root)}))
        try:
            return await work(function)
        finally:
            await function.close(5.0)

    return asyncio.run(main())


def ask(identity: str, starts: bool = False, ends: bool = False) -> CallOptions:
    """Of a call in a sequence."""
    return CallOptions(sequence=SequenceRef(identity, starts, ends))


def test_a_call_goes_on_from_what_the_one_before_left(tmp_path):
    """Each sequence from its own; what is kept is in no answer, unless a stage gives it under
    another name.
    """

    async def work(function: Function) -> None:
        answers = [
            (await function.call_row({"n": n}, ask(identity, starts)))[0]
            for identity, starts, n in [
                ("a", True, 1),
                ("b", True, 10),
                ("a", False, 2),
                ("b", False, 20),
                ("a", True, 5),
            ]
        ]
        assert answers == [{"calls": 1}, {"calls": 1}, {"calls": 2}, {"calls": 2}, {"calls": 1}]
        assert function.sequence_count == 2
        assert [tensor.name for tensor in function.protocol.outputs] == ["calls"]
        assert list(function.validator.json_schema()["properties"]) == ["n"]

    keeping(tmp_path, ADD, work)


@pytest.mark.parametrize(("n", "error"), [(13, RequestError), (14, FunctionError)])
def test_a_row_that_fails_leaves_the_state_as_it_was(tmp_path, n, error):
    """Whether the stage refuses it or breaks."""

    async def work(function: Function) -> None:
        await function.call_row({"n": 1}, ask("a", starts=True))
        with pytest.raises(error):
            await function.call_row({"n": n}, ask("a"))
        answer, _ = await function.call_row({"n": 2}, ask("a"))
        assert answer == {"sum": 3, "calls": 2}
        with pytest.raises(error):
            await function.call_row({"n": n}, ask("b", starts=True))
        with pytest.raises(SequenceUnknown):
            await function.call_row({"n": 1}, ask("b"))

    keeping(tmp_path, [*ADD, {"stage": "told", "python": f"{STAGES}:told"}], work)


def test_a_call_is_one_row_of_a_sequence(tmp_path):
    """Anything else is refused, not guessed: no sequence, no row, two rows, and a bad row next to a
    good one.
    """

    async def work(function: Function) -> None:
        with pytest.raises(MissingInput, match="x-sequence-id"):
            await function.call_row({"n": 1})
        for rows in ([], [{"n": 1}, {"n": 2}], [{"n": 1}, {"n": "no number"}]):
            with pytest.raises(RequestError, match="one row"):
                await function.call_rows(rows, ask("a", starts=True))
        outcomes, _ = await function.call_rows([{"n": 1}], ask("a", starts=True))
        assert outcomes == [{"calls": 1}]
        outcomes, _ = await function.call_rows([{"n": "no number"}], ask("a"))
        assert isinstance(outcomes[0], WakefulError)

    keeping(tmp_path, ADD, work)


def test_the_time_that_a_call_waits_for_its_sequence_is_its_own(tmp_path):
    """Its deadline counts from when it came, and not from when the call before it was answered."""

    async def work(function: Function) -> None:
        accumulators.MAY_END.set()
        await function.call_row({"n": 1}, ask("a", starts=True))
        accumulators.MAY_END.clear()
        first = asyncio.create_task(function.call_row({"n": 2}, ask("a")))
        second = asyncio.create_task(function.call_row({"n": 3}, ask("a")))
        async with asyncio.timeout(30):
            while not function.in_flight.calls:
                await asyncio.sleep(0.001)
        still_held = time.monotonic()
        accumulators.MAY_END.set()
        await first
        _, call = await second
        assert call.deadline <= still_held + function.spec.limits.request_timeout_s

    keeping(tmp_path, [{"stage": "held", "python": f"{STAGES}:held"}], work)


def test_a_late_call_leaves_the_state_as_it_was(tmp_path):
    """504: a client that got no result can send the call again."""

    async def work(function: Function) -> None:
        accumulators.MAY_END.set()
        await function.call_row({"n": 1}, ask("a", starts=True))
        accumulators.MAY_END.clear()
        with pytest.raises(WakefulError) as late:
            await function.call_row({"n": 2}, ask("a")._replace(deadline=time.monotonic() + 0.05))
        accumulators.MAY_END.set()
        assert late.value.status == 504
        answer, call = await function.call_row({"n": 3}, ask("a"))
        assert answer == {"before": 1}
        assert call.timings["queue"] >= 0

    keeping(tmp_path, [{"stage": "held", "python": f"{STAGES}:held"}], work)


def test_a_models_state_is_batched_across_sequences(tmp_path):
    """The state is a tensor whose first axis is the rows, and a value that the model gives; answers
    do not depend on batch-mates.
    """
    shape = (onnx_models.FLOAT, ["rows", 3])
    nodes = [helper.make_node("Add", ["x", "state"], ["y"])]
    onnx_models.save(tmp_path / "add.onnx", nodes, {"x": shape, "state": shape}, {"y": shape})
    graph = [
        {"stage": "begin", "python": f"{STAGES}:begin"},
        {"stage": "model", "onnx": "add.onnx", "outputs": {"y": "state"}},
        {"stage": "sums", "python": f"{STAGES}:sums"},
    ]

    async def work(function: Function) -> None:
        async def sequence(number: int) -> list[dict[str, Any]]:
            row = {"values": [number, 1.0, 0.0]}
            return [
                (await function.call_row(row, ask(str(number), starts=not step)))[0]
                for step in range(8)
            ]

        answers = await asyncio.gather(*map(sequence, range(24)))
        for number, steps in enumerate(answers):
            assert [one["sums"] for one in steps] == [
                [number * step, float(step), 0.0] for step in range(1, 9)
            ]
        assert max(one["rows"] for steps in answers for one in steps) > 4

    keeping(tmp_path, graph, work)


def test_a_stream_keeps_what_its_stages_gave(tmp_path):
    """Once it has ended: when it breaks, or its client disconnects, the sequence is as it was,
    and the call can be sent again.
    """

    async def items(
        function: Function, n: int, options: CallOptions, most: int = 1000
    ) -> list[Any]:
        got: list[Any] = []
        async with StreamSource(function, {"n": n}, options) as stream:
            while len(got) < most and (more := await stream.take()):
                got += [item["tell"] for item in more]
        return got

    async def work(function: Function) -> None:
        assert await items(function, 2, ask("a", starts=True)) == [0, 1]
        assert await items(function, 3, ask("a")) == [2, 3, 4]
        assert (await items(function, 50, ask("a"), most=1))[0] == 5
        with pytest.raises(RequestError, match="100"):
            await items(function, 96, ask("a"))
        assert await items(function, 2, ask("a")) == [5, 6]
        with pytest.raises(SequenceUnknown):
            await items(function, 1, ask("b"))
        assert function.sequence_count == 1

    stages = [
        {"stage": "count", "python": f"{STAGES}:count"},
        {"stage": "tell", "python": f"{STAGES}:tell"},
    ]
    keeping(tmp_path, stages, work)


def test_limits_change_while_it_runs(tmp_path):
    """What lives, lives on."""

    async def work(function: Function) -> None:
        await function.call_row({"n": 1}, ask("a", starts=True))
        function.apply_settings(
            with_live_settings(function.spec, {"sequences": {"max_sequences": 1}})
        )
        with pytest.raises(WakefulError) as refused:
            await function.call_row({"n": 1}, ask("b", starts=True))
        assert refused.value.code == "too_many_sequences"
        assert (await function.call_row({"n": 1}, ask("a")))[0] == {"calls": 2}

    keeping(tmp_path, ADD, work)


class Other(TypedDict):
    """Of another type than is taken."""

    total: str
    n: int


def wrong_type(total: State[int]) -> Other:
    """Gives text where it takes a number."""
    return {"total": "", "n": 0}


def forgets(n: int, total: State[int]) -> dict[str, int]:
    """Never gives it again."""
    return {}


def only_state(n: int, total: State[int]) -> OnlyState:
    """Answers nothing."""
    return {"total": n}


class OnlyState(TypedDict):
    """Nothing to answer."""

    total: int


def total(n: int) -> int:
    """Gives a value of the name before it is taken."""
    return n


HERE = __name__


@pytest.mark.parametrize(
    ("graph", "sequences", "where", "values"),
    [
        (
            [f"{HERE}:wrong_type"],
            True,
            "stage 'wrong_type', python",
            ["'total'", "scalar BYTES []"],
        ),
        ([f"{HERE}:forgets"], True, "stage 'forgets', python", ["'total'", "return it"]),
        ([f"{HERE}:only_state"], True, "stage 'only_state', python", ["the answer"]),
        (
            [f"{HERE}:total", f"{STAGES}:add"],
            True,
            "stage 'addx', python",
            ["'total'", "earlier stage", "Rename"],
        ),
        (
            [f"{STAGES}:add", f"{STAGES}:add"],
            True,
            "stage 'addx', python",
            ["'total'", "'seen'", "stage 'add'", "already"],
        ),
        (
            [f"{STAGES}:told", f"{STAGES}:add"],
            True,
            "stage 'addx', python",
            ["'total'", "earlier stage", "Rename"],
        ),
        ([f"{STAGES}:add"], False, "sequences", ["'total'", "Add 'sequences: {}'"]),
        ([f"{HERE}:total"], True, "sequences", ["State", "Delete 'sequences'"]),
    ],
)
def test_a_graph_that_keeps_nothing_sensible_is_refused(tmp_path, graph, sequences, where, values):
    """At check and at load, with the stage and what to do."""
    text = str(refused(tmp_path, graph, sequences))
    assert text.startswith(f"{where}: ")
    expect_values(text, *values)


def refused(folder: Path, graph: list[str], sequences: bool) -> LoadError:
    """The error of a graph that does not load."""
    stages = [
        {"stage": python.partition(":")[2] + "x" * index, "python": python}
        for index, python in enumerate(graph)
    ]
    args = {"graph": stages, **({"sequences": {}} if sequences else {})}

    with pytest.raises(LoadError) as caught:
        asyncio.run(
            Function.load(
                FunctionSpec.from_args("f", "/f", args),
                Settings.read({"WAKEFUL_ROOT": str(folder)}),
            )
        )
    return caught.value
