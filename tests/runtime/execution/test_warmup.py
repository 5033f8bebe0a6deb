"""First runs: a model at one row and at the largest batch that it may get, and not beyond."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Annotated, Any, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import FunctionError, LoadError
from runtime.execution import function, warmup
from runtime.execution.function import Function
from runtime.execution.stages.model_stage import ModelStage
from runtime.execution.verification import answer_check
from runtime.settings import Settings
from tests import onnx_models
from tests.problems import expect_values
from wakeful import RequestError, Rows, Shape

HERE = __name__


class Masked(TypedDict):
    """A ragged row for the model."""

    x: Annotated[NDArray[np.float32], Shape(-1)]
    mask: Annotated[NDArray[np.float32], Shape(-1)]


def numbers(values: list[float]) -> Masked:
    """A row of as many elements as it has numbers."""
    return {"x": np.array(values, np.float32), "mask": np.ones(len(values), np.float32)}


def parts(values: list[float]) -> list[list[float]]:
    """Each number by itself."""
    return [[value] for value in values]


@pytest.mark.parametrize(
    ("batching", "sizes"),
    [
        ({"max_batch_size": 8}, [1, 8]),
        ({"max_batch_size": 1}, [1]),
        ({"max_batch_size": 8, "max_batch_cost": 9}, [1, 3]),
        ({"max_batch_size": 8, "max_batch_cost": 2}, [1]),
    ],
    ids=["by rows", "of one", "by elements", "no two fit"],
)
def test_the_largest_batch_is_what_the_declaration_allows(tmp_path, monkeypatch, batching, sizes):
    """Three elements a row: ``max_batch_cost`` bounds it as it does later."""
    graph = [
        {"stage": "numbers", "python": f"{HERE}:numbers"},
        {"stage": "model", "onnx": "m.onnx"},
    ]
    assert _runs(tmp_path, monkeypatch, graph, batching) == sizes


def test_what_a_row_becomes_is_run_one_by_one(tmp_path, monkeypatch):
    """Three elements of a fanned-out value, and then a full batch of one of them, however many the
    row has.
    """
    graph = [
        {"stage": "parts", "python": f"{HERE}:parts"},
        {
            "stage": "numbers",
            "python": f"{HERE}:numbers",
            "each": "parts",
            "inputs": {"values": "parts"},
        },
        {"stage": "model", "onnx": "m.onnx", "each": "parts"},
    ]
    assert _runs(tmp_path, monkeypatch, graph, {"max_batch_size": 2}) == [1, 1, 1, 2]


def _runs(root, monkeypatch, graph: list[dict[str, Any]], batching: dict[str, Any]) -> list[int]:
    """Rows of each run of the model while a function with an example of three numbers is loaded."""
    sizes: list[int] = []
    run = ModelStage.run

    def seen(self: ModelStage, rows: Any) -> Any:
        sizes.append(len(rows))
        return run(self, rows)

    onnx_models.masked_mean(root / "m.onnx")
    monkeypatch.setattr(ModelStage, "run", seen)
    spec = FunctionSpec.from_args(
        "f",
        "/v2/models/f",
        {"graph": graph, "batching": batching, "example": {"values": [1, 2, 3]}},
    )

    async def main() -> None:
        function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(root)}))
        await function.close(5)

    asyncio.run(main())
    return sizes


def looked_up(text: str) -> int:
    """A stage that fails."""
    return LABELS[text]


def refused(text: str) -> str:
    """A stage that refuses."""
    raise RequestError("no text of two letters.", where="text", status=422)


def soon(text: Rows[str]) -> Rows[str]:
    """A stage that takes its time."""
    time.sleep(0.05)
    return list(text)


def one(text: str) -> str:
    """A row at a time."""
    print("one", text)
    return text


async def awaited(one: str) -> str:
    """A coroutine."""
    print("awaited")
    return one


def together(awaited: Rows[str]) -> Rows[str]:
    """Many rows."""
    print("together", len(awaited))
    return list(awaited)


def behind(together: str) -> str:
    """In the segment of the one before."""
    print("behind")
    return together


def last(behind: Rows[str]) -> Rows[str]:
    """Takes what that gave."""
    print("last", len(behind))
    return list(behind)


LABELS: dict[str, int] = {}


@pytest.mark.parametrize(
    ("stage", "values", "notes"),
    [
        (
            "looked_up",
            ["stage 's'", "(tests/runtime/execution/test_warmup.py:{line}, in looked_up)"],
            [
                "  KeyError: 'hi'",
                "  tests/runtime/execution/test_warmup.py:{line}, in looked_up: "
                "return LABELS[text]",
            ],
        ),
        ("refused", ["text: no text of two letters."], []),
    ],
)
def test_an_example_that_fails_is_reported_once_with_the_authors_line(
    tmp_path, caplog, stage, values, notes
):
    """By the error; what the stage raised, which may quote what it was given, in its notes. No
    traceback of ours next to it.
    """
    line = looked_up.__code__.co_firstlineno + 2
    graph = [{"stage": "s", "python": f"{HERE}:{stage}"}]
    with pytest.raises(LoadError) as caught:
        _runs_of(tmp_path, graph, example={"text": "hi"})
    expect_values(caught.value, "declared example", *(one.format(line=line) for one in values))
    assert getattr(caught.value, "__notes__", []) == [note.format(line=line) for note in notes]
    assert not caplog.records


def test_a_long_first_run_says_that_it_goes_on(tmp_path, caplog, monkeypatch):
    """With what is run, and for how long already."""
    monkeypatch.setattr(warmup, "SILENT_S", 0.02)
    caplog.set_level(logging.INFO, "wakeful.load")
    _runs_of(
        tmp_path,
        [{"stage": "s", "python": f"{HERE}:soon"}],
        example={"text": "hi"},
        batching={"max_batch_size": 3},
    )
    logged = [record.getMessage() for record in caplog.records]
    for rows in ("one row", "3 rows"):
        first = next(line for line in logged if rows in line)
        expect_values(first, "f: ", "stage 's'", "0 s")


def test_a_stage_that_takes_a_row_at_a_time_is_not_run_for_each_copy(tmp_path, capsys):
    """It would print, wait or pay for each, and show nothing more: it has the example, and where
    it follows one that takes many, the first of a full batch too.
    """
    names = ("one", "awaited", "together", "behind", "last")
    graph = [{"stage": name, "python": f"{HERE}:{name}"} for name in names]
    _runs_of(tmp_path, graph, example={"text": "hi"}, batching={"max_batch_size": 32})
    assert capsys.readouterr().out.splitlines() == [
        "one hi",
        "awaited",
        *("together 1", "behind", "last 1"),
        *("together 32", "behind", "last 32"),
    ]


def fails_at_the_second(together: str) -> str:
    """A stage that a full batch finds out."""
    print("it has been called before")
    LABELS["calls"] = LABELS.get("calls", 0) + 1
    if LABELS["calls"] > 1:
        raise RuntimeError
    return together


def test_what_fails_behind_a_full_batch_refuses_the_function(tmp_path, capsys, monkeypatch):
    """With what it printed."""
    monkeypatch.setattr(sys.modules[HERE], "LABELS", {})
    graph = [
        {"stage": "together", "python": f"{HERE}:together", "inputs": {"awaited": "text"}},
        {"stage": "s", "python": f"{HERE}:fails_at_the_second"},
    ]
    with pytest.raises(LoadError) as caught:
        _runs_of(tmp_path, graph, example={"text": "hi"}, batching={"max_batch_size": 8})
    expect_values(caught.value, "in a batch of 8", "stage 's'")
    assert capsys.readouterr().out.count("it has been called before") == 2


def _runs_of(root, graph, **args):
    async def main() -> None:
        spec = FunctionSpec.from_args("f", "/f", {"graph": graph, **args})
        function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(root)}))
        await function.close(5)

    asyncio.run(main())


def test_a_function_of_models_alone_has_its_first_answer_tried(tmp_path, monkeypatch):
    """Without an example: what is made up goes through all of them, and the answer is written in
    every form.
    """
    onnx_models.double(tmp_path / "m.onnx")
    graph = [
        {"stage": "one", "onnx": "m.onnx"},
        {"stage": "two", "onnx": "m.onnx", "inputs": {"x": "y"}, "outputs": {"y": "z"}},
    ]
    binary: list[bool] = []

    def refuse(response: Any, request: Any) -> Any:
        binary.append(request.binary_default)
        if request.binary_default:
            raise FunctionError("it has no form.")

    monkeypatch.setattr(answer_check, "encode_response", refuse)
    for args in ({"graph": graph}, {"onnx": "m.onnx"}):
        binary.clear()
        spec = FunctionSpec.from_args("f", "/v2/models/f", args)
        assert spec.is_tried
        with pytest.raises(
            LoadError,
            match=rf"stage '{'two' if 'graph' in args else 'model'}': it has no form\.",
        ):
            asyncio.run(Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(tmp_path)})))
        assert binary == [False, True]


@pytest.mark.parametrize("stages", ["python", "models that do not fit"])
def test_an_answer_of_which_nothing_is_known_is_not_tried(tmp_path, monkeypatch, stages):
    """A stage of the author's is called with no made-up values; what is made up for one model may
    be none for the next.
    """
    onnx_models.double(tmp_path / "m.onnx", ("rows", "n"))
    onnx_models.double(tmp_path / "three.onnx", ("rows", 3))
    graph = [{"stage": "soon", "python": f"{HERE}:looked_up"}]
    if stages != "python":
        graph = [
            {"stage": "one", "onnx": "m.onnx"},
            {"stage": "two", "onnx": "three.onnx", "inputs": {"x": "y"}, "outputs": {"y": "z"}},
        ]
    monkeypatch.setattr(function, "check_answer", lambda *_: pytest.fail("it was tried"))
    spec = FunctionSpec.from_args("f", "/v2/models/f", {"graph": graph})

    async def main() -> None:
        await (await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))).close(5)

    asyncio.run(main())
    assert spec.is_tried is (stages != "python")
