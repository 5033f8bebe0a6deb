"""A declared function, loaded: rows and tensors in, answers out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec, with_live_settings
from runtime.errors import (
    DeadlineExceeded,
    FunctionError,
    LoadError,
    Overloaded,
    TooLarge,
    WakefulError,
    WrongShape,
)
from runtime.execution.answers.open_inference import platform_of
from runtime.execution.function import Function
from runtime.execution.stages.model_stage import ModelStage
from runtime.protocol import InferRequest
from runtime.settings import Settings
from tests import onnx_models
from tests.inference import infer
from tests.problems import expect_values
from wakeful import RequestError, Rows, Shape

HERE = __name__


class Masked(TypedDict):
    """Ragged columns."""

    x: Rows[NDArray[np.float32]]
    mask: Rows[NDArray[np.float32]]


class Mean(TypedDict):
    """The answer."""

    mean: float
    tripled: Annotated[NDArray[np.float32], Shape(1)]


def numbers(values: Rows[list[float]]) -> Masked:
    """Lists to ragged tensors."""
    arrays = [np.array(row, np.float32) for row in values]
    return {"x": arrays, "mask": [np.ones_like(row) for row in arrays]}


def answer(mean: NDArray[np.float32]) -> Mean:
    """A model's number to an answer."""
    if mean == 13:
        raise RequestError("13 is not wanted.", where="values")
    if mean == 14:
        raise RuntimeError("secret")
    return {"mean": float(mean), "tripled": np.array([3 * mean], np.float32)}


async def slow(x: float) -> float:
    """Waits on the event loop."""
    await asyncio.sleep(x)
    return x


def loop_then_thread(slow: float, k: int = 2) -> dict[str, float]:
    """An answer that is an object by itself."""
    return {"product": slow * k}


class Scale:
    """A stage with an argument."""

    def __init__(self, by: float) -> None:
        if by == 0:
            raise ValueError("by is zero")
        self.by = by

    def __call__(self, x: float) -> float:
        """x scaled."""
        return x * self.by


def drop(x: Rows[float]) -> Rows[float]:
    """Breaks the contract: fewer rows than it got."""
    return list(x)[1:]


def declared(root: Path, **args: Any) -> tuple[FunctionSpec, Settings]:
    """A function and the settings whose root is the test's folder."""
    return FunctionSpec.from_args("f", "/v2/models/f", args), Settings.read(
        {"WAKEFUL_ROOT": str(root)}
    )


def mean_graph(root: Path) -> list[dict[str, Any]]:
    """numbers → masked mean → answer."""
    onnx_models.masked_mean(root / "mean.onnx")
    return [
        {"stage": "numbers", "python": f"{HERE}:numbers"},
        {"stage": "model", "onnx": "mean.onnx"},
        {"stage": "answer", "python": f"{HERE}:answer"},
    ]


def with_function(root: Path, work: Callable[[Function], Awaitable[Any]], **args: Any) -> Any:
    """Loads, works, closes."""

    async def main() -> Any:
        function = await Function.load(*declared(root, **args))
        try:
            return await work(function)
        finally:
            await function.close(5)

    return asyncio.run(main())


def test_rows_go_through_the_graph(tmp_path):
    """One row, and many of unlike length at once, each with its own answer; timings name every
    part.
    """

    async def work(function: Function) -> None:
        one, call = await function.call_row({"values": [1, 2, 6]})
        assert one["mean"] == 3.0
        assert call.timings["model"] > 0
        outcomes, _ = await function.call_rows([{"values": [float(n)] * n} for n in range(1, 12)])
        assert [outcome["mean"] for outcome in outcomes] == list(range(1, 12))

    with_function(tmp_path, work, graph=mean_graph(tmp_path))


def test_a_bad_row_fails_alone(tmp_path):
    """Refused by a field, by a stage, or failed in a stage: its element is the error, the others
    answer.
    """

    async def work(function: Function) -> list[Any]:
        rows = [
            {"values": [1.0]},
            {"values": "x"},
            {"values": [13.0]},
            {"values": [14.0]},
            {"value": [1.0]},
            {"values": [2.0]},
        ]
        outcomes, _ = await function.call_rows(rows)
        return outcomes

    first, text, refused, failed, unknown, last = with_function(
        tmp_path, work, graph=mean_graph(tmp_path)
    )
    assert (first["mean"], last["mean"]) == (1.0, 2.0)
    assert (text.status, text.where) == (400, "[1].values")
    assert (refused.status, refused.message) == (400, "13 is not wanted.")
    assert isinstance(failed, FunctionError)
    assert "secret" not in failed.message
    assert unknown.status == 400


def test_a_row_that_fails_the_model_fails_alone(tmp_path):
    """A batch that ONNX Runtime refuses is halved until the row at fault is alone."""
    onnx_models.fails_on_negative(tmp_path / "m.onnx")

    async def work(function: Function) -> list[Any]:
        outcomes, _ = await function.call_rows([{"i": n} for n in (0, 3, 99, 1, 2, 0, 1)])
        return outcomes

    outcomes = with_function(tmp_path, work, onnx="m.onnx")
    assert [None if isinstance(o, WakefulError) else float(o["y"]) for o in outcomes] == [
        0,
        30,
        None,
        10,
        20,
        0,
        10,
    ]


def test_a_bare_model_is_a_function(tmp_path):
    """Names, datatypes, shapes and the batch axis are the file's; tensors come back as they went
    in, doubled.
    """
    onnx_models.double(tmp_path / "m.onnx")

    async def work(function: Function) -> None:
        assert function.protocol.metadata()["inputs"] == [
            {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
        ]
        x = np.arange(12, dtype=np.float32).reshape(4, 3)
        response, _ = await infer(function, InferRequest("7", {"x": x}, (), False, {}))
        np.testing.assert_array_equal(response.outputs["y"], x * 2)
        row, _ = await function.call_row({"x": [1, 2, 3]})
        assert row["y"].tolist() == [2, 4, 6]

    with_function(tmp_path, work, onnx="m.onnx")


def greet(name: str, times: int = 1, rate: float = math.nan) -> dict[str, str]:
    """A function of plain Python, whose answer has keys of its own."""
    return {"greeting": " ".join([name] * times), "rate": str(rate)}


def test_metadata_says_what_may_be_left_out_and_what_the_answer_is(tmp_path):
    """A default that is one word is shown; a mapping is the JSON answer itself, and a tensor of its
    stage's name.
    """

    async def work(function: Function) -> None:
        metadata = function.protocol.metadata()
        assert metadata["platform"] == "python"
        assert [tensor.get("parameters") for tensor in metadata["inputs"]] == [
            None,
            {"optional": True, "default": 1},
            {"optional": True},
        ]
        assert metadata["outputs"] == [
            {
                "name": "greet",
                "datatype": "BYTES",
                "shape": [-1],
                "parameters": {"is_answer": True},
            }
        ]

    with_function(tmp_path, work, graph=[{"stage": "greet", "python": f"{__name__}:greet"}])


def test_a_model_of_a_called_function_is_the_platform():
    """As where the stage runs in the function's process."""

    def link(digest: str) -> dict[str, Any]:
        return {"route_prefix": "/c", "digest": digest, "takes": {}, "gives": {}}

    graph = [{"stage": "b", "function": "b"}]
    declarations = {
        "1": {"graph": [{"stage": "c", "function": "c"}], "deployed": {"calls": {"c": link("2")}}},
        "2": {"graph": [{"stage": "m", "onnx": "m.onnx"}], "deployed": {"calls": {}}},
    }
    deployed = {"calls": {"b": link("1")}, "declarations": declarations}
    calling = FunctionSpec.from_args("a", "/a", {"graph": graph, "deployed": deployed})
    assert platform_of(calling) == "onnxruntime_onnx"
    assert platform_of(FunctionSpec.from_args("a", "/a", {"graph": graph})) == "python"


def test_a_model_without_a_batch_axis_is_never_batched(tmp_path):
    """Its tensors have no rows: they go in and out whole."""
    onnx_models.double(tmp_path / "m.onnx", (2, 3))

    async def work(function: Function) -> None:
        assert function.protocol.metadata()["inputs"] == [
            {"name": "x", "datatype": "FP32", "shape": [2, 3]}
        ]
        x = np.ones((2, 3), np.float32)
        response, _ = await infer(function, InferRequest("", {"x": x}, (), False, {}))
        np.testing.assert_array_equal(response.outputs["y"], x * 2)
        with pytest.raises(WrongShape):
            await infer(
                function, InferRequest("", {"x": np.ones((4, 3), np.float32)}, (), False, {})
            )

    with_function(tmp_path, work, onnx="m.onnx")


def test_tensors_go_through_a_graph(tmp_path):
    """v2 inputs become the stages' Python values, their values become outputs; the first failed row
    is the answer's error.
    """

    async def work(function: Function) -> None:
        response, _ = await infer(
            function,
            InferRequest("", {"values": np.array([[1.0, 3.0], [4.0, 4.0]])}, (), False, {}),
        )
        assert response.outputs["mean"].tolist() == [2.0, 4.0]
        np.testing.assert_array_equal(
            response.outputs["tripled"], np.array([[6], [12]], np.float32)
        )
        with pytest.raises(RequestError, match="13 is not wanted"):
            await infer(function, InferRequest("", {"values": np.array([[13.0]])}, (), False, {}))

    with_function(tmp_path, work, graph=mean_graph(tmp_path))


def test_the_largest_batch_is_run_before_ready(tmp_path):
    """With an example, one batch of one and one of max_batch_size, whatever max_rows and the number
    of workers are.
    """
    sizes: list[int] = []
    run = ModelStage.run

    def seen(self: ModelStage, rows: Any) -> None:
        sizes.append(len(rows))
        run(self, rows)

    async def work(function: Function) -> None:
        assert sizes == [1, 8]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelStage, "run", seen)
        more = {
            "batching": {"max_batch_size": 8},
            "limits": {"max_rows": 2},
            "resources": {"num_cpus": 3},
        }
        with_function(
            tmp_path, work, graph=mean_graph(tmp_path), example={"values": [1, 2]}, **more
        )


def test_a_function_may_be_loaded_without_its_first_runs(tmp_path):
    """warm_up=False runs nothing, even an example that fails: it was proved before. Loading's
    phases are reported all the same.
    """

    async def main() -> Function:
        args = {
            "graph": [{"stage": "s", "python": f"{HERE}:Scale", "with": {"by": 2}}],
            "example": {"y": 1},
        }
        function = await Function.load(*declared(tmp_path, **args), warm_up=False)
        try:
            assert await function.call_row({"x": 2.0}) != ()
            return function
        finally:
            await function.close(5)

    function = asyncio.run(main())
    assert {"stages", "session", "warm_up"} <= set(function.load_s)
    assert all(seconds >= 0 for seconds in function.load_s.values())


def test_functions_share_workers(tmp_path):
    """Two functions on the same threads answer; closing one leaves the other and the threads."""

    async def main() -> None:
        workers = Workers(1, spare=1)
        try:
            graph = [{"stage": "s", "python": f"{HERE}:Scale", "with": {"by": 2}}]
            one, two = [
                await Function.load(*declared(tmp_path, graph=graph), workers=workers)
                for _ in range(2)
            ]
            await asyncio.gather(*(function.call_row({"x": 2.0}) for function in (one, two) * 10))
            await one.close(5)
            assert (await two.call_row({"x": 3.0}))[0] == {"s": 6.0}
            assert not two.trouble
            await two.close(5)
            assert not workers.trouble
        finally:
            await asyncio.to_thread(workers.close, 5)

    asyncio.run(main())


def test_a_function_counts_what_it_does(tmp_path):
    """Calls, calls in flight, rows that wait, worker seconds and the last use: read at any time,
    without waking anything.
    """

    async def work(function: Function) -> None:
        began = function.in_flight.last_used
        assert (
            function.in_flight.total_calls,
            function.in_flight.calls,
            function.waiting_rows,
            function.busy_s,
        ) == (
            0,
            0,
            0,
            0.0,
        )
        under_way = asyncio.create_task(function.call_rows([{"values": [1.0]}] * 2))
        await asyncio.sleep(0)
        arrived = function.in_flight.last_used
        assert (function.in_flight.total_calls, function.in_flight.calls, arrived > began) == (
            1,
            1,
            True,
        )
        await under_way
        assert (
            function.in_flight.total_calls,
            function.in_flight.calls,
            function.waiting_rows,
        ) == (1, 0, 0)
        assert function.in_flight.last_used > arrived
        assert function.row_seconds > 0
        while not function.busy_s:
            await asyncio.sleep(0)

    with_function(tmp_path, work, graph=mean_graph(tmp_path))


class Uneven(TypedDict):
    """Rows that may be no tensor."""

    x: list[float]
    mask: list[float]


def uneven(x: float) -> Uneven:
    """A row that no tensor can be made of, where x is negative."""
    row: Any = [[1.0], [1.0, 2.0]] if x < 0 else [x]
    return {"x": row, "mask": [1.0] * len(row)}


def test_a_row_that_is_no_tensor_fails_alone(tmp_path):
    """Its batch-mates answer."""
    onnx_models.masked_mean(tmp_path / "mean.onnx")

    async def work(function: Function) -> list[Any]:
        outcomes, _ = await function.call_rows([{"x": 1.0}, {"x": -1.0}, {"x": 3.0}])
        return outcomes

    first, bad, last = with_function(
        tmp_path,
        work,
        graph=[{"stage": "u", "python": f"{HERE}:uneven"}, {"stage": "m", "onnx": "mean.onnx"}],
    )
    assert (float(first["mean"]), float(last["mean"])) == (1.0, 3.0)
    assert isinstance(bad, FunctionError)


def defaults(x: float = 2.0) -> float:
    """All that it takes is optional."""
    return x * 2


def test_a_v2_request_without_inputs_is_one_row(tmp_path):
    """Where every field has a default, no inputs are one row of defaults."""

    async def work(function: Function) -> None:
        response, _ = await infer(function, InferRequest("", {}, (), False, {}))
        assert response.outputs["d"].tolist() == [4.0]

    with_function(tmp_path, work, graph=[{"stage": "d", "python": f"{HERE}:defaults"}])


def test_coroutine_stages_run_on_the_loop_together(tmp_path):
    """Rows wait at the same time, then go on in a worker; the answer of a dict stage is that
    dict.
    """
    graph = [
        {"stage": "slow", "python": f"{HERE}:slow"},
        {"stage": "product", "python": f"{HERE}:loop_then_thread"},
    ]

    async def work(function: Function) -> list[Any]:
        async with asyncio.timeout(30):
            outcomes, _ = await function.call_rows([{"x": 0.2, "k": 3}] * 200)
        return outcomes

    assert with_function(tmp_path, work, graph=graph) == [{"product": pytest.approx(0.6)}] * 200


def test_limits_refuse_at_once(tmp_path):
    """Too many rows, too many calls, too little time: each its own error."""
    graph = [{"stage": "slow", "python": f"{HERE}:slow"}]
    limits = {
        "max_rows": 3,
        "max_ongoing_requests": 1,
        "max_queued_requests": 1,
        "request_timeout_s": 0.05,
    }

    async def work(function: Function) -> None:
        with pytest.raises(TooLarge):
            await function.call_rows([{"x": 0.0}] * 4)
        with pytest.raises(DeadlineExceeded):
            await function.call_row({"x": 5.0})
        while function.in_flight.calls:
            await asyncio.sleep(0.001)
        calls = [asyncio.create_task(function.call_row({"x": 5.0})) for _ in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [
            DeadlineExceeded,
            DeadlineExceeded,
            Overloaded,
        ]

    with_function(tmp_path, work, graph=graph, limits=limits, batching={"max_batch_size": 1})


def test_a_stage_that_loses_rows_is_a_fault_of_the_function(tmp_path):
    """Every row gets an error instead of a neighbour's value."""

    async def work(function: Function) -> list[Any]:
        outcomes, _ = await function.call_rows([{"x": 1.0}, {"x": 2.0}])
        return outcomes

    assert all(
        isinstance(outcome, FunctionError)
        for outcome in with_function(
            tmp_path, work, graph=[{"stage": "d", "python": f"{HERE}:drop"}]
        )
    )


def test_tunables_change_while_it_runs(tmp_path):
    """apply_settings takes other limits and batching from the next call on."""

    async def work(function: Function) -> None:
        function.apply_settings(with_live_settings(function.spec, {"limits": {"max_rows": 1}}))
        with pytest.raises(TooLarge):
            await function.call_rows([{"values": [1.0]}] * 2)

    with_function(tmp_path, work, graph=mean_graph(tmp_path))


@pytest.mark.parametrize(
    ("graph", "example", "values"),
    [
        (
            [{"stage": "s", "python": f"{HERE}:Scale", "with": {"by": 0}}],
            None,
            [f"{HERE}:Scale", "ValueError: by is zero", "test_function.py", "__init__"],
        ),
        (
            [{"stage": "s", "python": f"{HERE}:Scale", "with": {"bye": 1}}],
            None,
            ["stage 's', with:", "Scale.__init__", "'bye'", "'by'?"],
        ),
        (
            [{"stage": "s", "python": f"{HERE}:answer", "with": {"by": 1}}],
            None,
            ["stage 's', with:", f"{HERE}:answer", "function"],
        ),
        (
            [{"stage": "s", "python": f"{HERE}:anwser"}],
            None,
            ["stage 's', python:", "'anwser'", "'answer'?"],
        ),
        (
            [{"stage": "s", "python": "tests.no_such:x"}],
            None,
            ["stage 's', python:", "'tests.no_such'"],
        ),
        ([{"stage": "m", "onnx": "missing.onnx"}], None, ["stage 'm', onnx:", "missing.onnx"]),
        (
            [{"stage": "m", "onnx": "text.onnx"}],
            None,
            ["stage 'm', onnx:", "text.onnx", "no ONNX model"],
        ),
        (
            [{"stage": "m", "onnx": "warm.onnx"}],
            None,
            ["warm.onnx", "warm-up", "{'x': [1, 3]}", "Reshape"],
        ),
        (
            [{"stage": "s", "python": f"{HERE}:Scale", "with": {"by": 2}}],
            {"y": 1},
            ["example", "'x'"],
        ),
    ],
)
def test_what_cannot_become_ready_says_why(tmp_path, graph, example, values):
    """Each failed load carries its reason."""
    (tmp_path / "text.onnx").write_text("no model")
    onnx_models.fails_at_first_run(tmp_path / "warm.onnx")
    args = {"graph": graph} if example is None else {"graph": graph, "example": example}
    with pytest.raises(LoadError) as caught:
        asyncio.run(Function.load(*declared(tmp_path, **args)))
    expect_values(caught.value, *values)
