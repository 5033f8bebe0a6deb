"""What a stage changes of its arguments is seen by none other: no later stage, no other element, no
other caller, no caller's or called function, no second run of a batch.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pytest

from runtime.batching.calls import CallOptions
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import WakefulError
from runtime.execution.function import Function
from runtime.graph.resolve import link_callees
from runtime.protocol.messages import InferRequest
from runtime.protocol.sequences import SequenceRef
from runtime.settings import Settings
from runtime.types.annotations import Rows, State
from tests.inference import infer

HERE = __name__
LABELS = ["a", "b"]


class Start(TypedDict):
    flag: bool
    data: dict[str, Any]
    parts: list[int]


def start(x: int) -> Start:
    return {"flag": x > 0, "data": {"a": [x]}, "parts": [1, 2, 3]}


def given(flag: bool) -> list[str]:
    return ["given"]


def appends(x: int, given: list[str] = []) -> list[str]:  # noqa: B006  # what is tried here
    given.append(str(x))
    return given


@dataclass(eq=False)
class Tags:
    """It has a hash: pydantic copies no such default."""

    tags: list[str] = field(default_factory=list)


def tags(x: int, of: Tags = Tags()) -> list[str]:  # noqa: B008  # what is tried here
    of.tags.append(str(x))
    return of.tags


def nested(x: int, of: dict[str, Any] = {"k": []}) -> list[Any]:  # noqa: B006  # what is tried here
    of["k"].append(x)
    found: list[Any] = of["k"]
    return found


def touch(data: dict[str, Any]) -> bool:
    data["touched"] = True
    data["a"].append(99)
    return True


class Got(TypedDict):
    got: dict[str, Any]


def touch_and_give(data: dict[str, Any]) -> Got:
    touch(data)
    return {"got": data}


def show(data: dict[str, Any]) -> str:
    return str(data)


def of_element(parts: int, data: dict[str, Any]) -> str:
    data["a"].append(parts)
    return str(data["a"])


def labels() -> list[str]:
    return LABELS


def pops(labels: list[str]) -> list[str]:
    labels.pop()
    return labels


def of_all(parts: Rows[list[int]]) -> Rows[list[int]]:
    for one in parts:
        one.append(7)
    if [0, 7] in parts:
        raise ValueError("a bad row")
    return parts


class Kept(TypedDict):
    history: list[int]
    seen: list[int]


def keep(x: int, history: State[list[int]]) -> Kept:
    history = history or []
    history.append(x)
    if x < 0:
        raise ValueError("this call does not count")
    return {"history": history, "seen": history}


def python(name: str, stage: str = "s", **more: Any) -> dict[str, Any]:
    return {"stage": stage, "python": f"{HERE}:{name}", **more}


def answers(root: Path, rows: list[dict[str, Any]], *graphs: list[dict[str, Any]]) -> list[Any]:
    """What the last of these functions, ``f0``, ``f1`` …, answers, a row after the other."""

    async def main() -> list[Any]:
        function = await load(root, *graphs)
        try:
            return [(await function.call_row(row))[0] for row in rows]
        finally:
            await function.close(5)

    return asyncio.run(main())


async def load(root: Path, *graphs: list[dict[str, Any]], **args: Any) -> Function:
    settings = Settings.read({"WAKEFUL_ROOT": str(root)})
    declared = [
        FunctionSpec.from_args(f"f{index}", f"/v2/models/f{index}", {"graph": graph, **args})
        for index, graph in enumerate(graphs)
    ]
    linked, faults = link_callees(declared, settings)
    assert faults == []
    return await Function.load(linked[-1], settings)


@pytest.mark.parametrize("name", ["appends", "tags", "nested"])
def test_a_default_is_nobody_elses(tmp_path, name):
    """Over JSON and over v2, whatever earlier callers made of it."""

    async def main() -> list[Any]:
        function = await load(tmp_path, [python(name)])
        try:
            rows = [(await function.call_row({"x": x}))[0]["s"] for x in (1, 2)]
            for x in (3, 4):
                asked = InferRequest("", {"x": np.array([x])}, (), False, {})
                (call_rows,) = (await infer(function, asked))[1].rows
                rows.append(call_rows.values["s"])
            return rows
        finally:
            await function.close(5)

    assert [list(map(int, row)) for row in asyncio.run(main())] == [[1], [2], [3], [4]]


def test_a_default_for_a_skipped_value_is_nobody_elses(tmp_path):
    """Where `when` did not hold, each row has its own."""
    graph = [
        python("start", "start"),
        python("given", "given", when="flag"),
        python("appends", inputs={"x": "x"}),
    ]
    found = answers(tmp_path, [{"x": x} for x in (0, -1, 1, -2)], graph)
    assert [row["s"] for row in found] == [["0"], ["-1"], ["given", "1"], ["-2"]]


@pytest.mark.parametrize(
    "stage",
    [python("touch"), python("touch", when="flag"), python("touch_and_give", outputs={"got": "s"})],
)
def test_a_later_stage_does_not_see_what_one_changed(tmp_path, stage):
    """Of a value that both take: as if one had a deployment of its own."""
    (found,) = answers(tmp_path, [{"x": 1}], [python("start", "start"), stage, python("show", "z")])
    assert found["z"] == "{'a': [1]}"


def test_a_called_function_changes_nothing_of_its_callers(tmp_path):
    """In one process as over HTTP."""
    calls = {"stage": "s", "function": "f0", "outputs": {"got": "s"}}
    (found,) = answers(
        tmp_path,
        [{"x": 1}],
        [python("touch_and_give")],
        [python("start", "start"), calls, python("show", "z")],
    )
    assert found["z"] == "{'a': [1]}"


def test_elements_do_not_see_each_others_changes(tmp_path):
    """Of a value that all of them take."""
    graph = [python("start", "start"), python("of_element", each="parts")]
    (found,) = answers(tmp_path, [{"x": 5}], graph)
    assert found["s"] == ["[5, 1]", "[5, 2]", "[5, 3]"]


def test_what_a_stage_gives_stays_its_own(tmp_path):
    """It may give an object that it keeps, such as a constant of its module."""
    found = answers(tmp_path, [{}, {}], [python("labels", "labels"), python("pops")])
    assert [row["s"] for row in found] == [["a"], ["a"]]
    assert LABELS == ["a", "b"]


def test_halves_of_a_batch_are_run_with_what_it_was_run_with(tmp_path):
    """Where a row of a stage that takes all fails after the stage has changed the others."""

    async def main() -> list[Any]:
        function = await load(
            tmp_path, [python("of_all")], batching={"max_batch_size": 4, "batch_wait_timeout_s": 1}
        )
        try:
            rows = [{"parts": [n]} for n in (1, 0, 2, 3)]
            return (await function.call_rows(rows))[0]
        finally:
            await function.close(5)

    found = asyncio.run(main())
    assert isinstance(found[1], WakefulError)
    assert [row["s"] for row in (found[0], *found[2:])] == [[1, 7], [2, 7], [3, 7]]


def test_a_state_is_as_the_last_call_that_was_answered_left_it(tmp_path):
    """A call that changed it and failed does not count."""

    async def main() -> list[Any]:
        function = await load(tmp_path, [python("keep")], sequences={"idle_timeout_s": 60})
        try:
            found = []
            for index, x in enumerate((1, -1, 2)):
                options = CallOptions(sequence=SequenceRef("1", not index, False))
                try:
                    found.append((await function.call_row({"x": x}, options))[0]["seen"])
                except WakefulError as error:
                    found.append(error.code)
            return found
        finally:
            await function.close(5)

    assert asyncio.run(main()) == [[1], "function_failed", [1, 2]]
