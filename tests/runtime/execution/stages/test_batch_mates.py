"""Stages on a batch: whatever one row does in whichever stage, the others answer as if they were
alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.batching.calls import Call, Row
from runtime.declaration.function_spec import BatchingSpec, FunctionSpec
from runtime.errors import DeadlineExceeded, FunctionError
from runtime.execution.loader import build_function
from runtime.execution.segments import cut_into_segments
from runtime.execution.stages.function_stage import InlineCallees
from runtime.settings import Settings
from tests import onnx_models
from wakeful import RequestError, Rows

HERE = __name__


class Ids(TypedDict):
    """What the model takes."""

    ids: Rows[NDArray[np.int64]]


def ids(start: Rows[int], poison: Rows[str]) -> Ids:
    """Six ids a row; 'pre' breaks here, 'model' is an id that the table has not."""
    if "pre" in poison:
        raise ValueError("a secret of the function")
    return {
        "ids": [
            np.arange(n, n + 6) + (1000 if kind == "model" else 0)
            for n, kind in zip(start, poison, strict=True)
        ]
    }


def norm(y: Rows[NDArray[np.float32]], poison: Rows[str]) -> Rows[float]:
    """The length of the model's vector; 'post' breaks here, 'refused' is refused."""
    if "post" in poison:
        raise ValueError("a secret of the function")
    if "refused" in poison:
        raise RequestError("not wanted.", where="poison")
    return [float(np.linalg.norm(vector)) for vector in y]


def norm_of_one(y: NDArray[np.float32], poison: str) -> float:
    """The same, row by row."""
    return norm([y], [poison])[0]


async def norm_on_loop(y: NDArray[np.float32], poison: str) -> float:
    """The same, as a coroutine."""
    return norm([y], [poison])[0]


class Loses:
    """A stage whose answer for a bad row lacks a part, and which takes and gives a value of the
    same name.
    """

    def __call__(self, x: Rows[float], y: Rows[float]) -> Rows[Pair]:
        """x + 1 and y; no y where y is negative."""
        return [{"x": a + 1, "y": b} if b >= 0 else {"x": a + 1} for a, b in zip(x, y, strict=True)]  # type: ignore[typeddict-item]


class Pair(TypedDict):
    """Two numbers."""

    x: float
    y: float


def doubles_in_place(x: Rows[NDArray[np.float32]]) -> Rows[float]:
    """Writes into what it is given before it fails on a negative row."""
    for row in x:
        row *= 2
        if row[0] < 0:
            raise ValueError("negative")
    return [float(row[0]) for row in x]


ENDS: list[Call] = []
"""Calls whose time is over as soon as ``ends_a_call`` has run."""


def ends_a_call(n: int) -> int:
    """The same number."""
    for call in ENDS:
        call.deadline = 0.0
    return n


def ones(y: Rows[NDArray[np.float32]]) -> Rows[float]:
    """For each row."""
    return [1.0] * len(y)


def plus_one(first: int) -> int:
    """One more."""
    return first + 1


def in_one_batch(
    root: Path, fields: list[dict[str, Any]], graph: list[dict[str, Any]]
) -> list[Row]:
    """The rows through every stage together."""
    spec = FunctionSpec.from_args("f", "/f", {"graph": graph})
    _, stages, _ = build_function(spec, Settings.read({"WAKEFUL_ROOT": str(root)}), InlineCallees())
    rows = Call(fields, request_id="r", now=0.0, deadline=math.inf).rows
    for segment in cut_into_segments(
        stages,
        spec.batching,
        [name for one in stages for name in (*one.stage.takes, *one.stage.gives)],
    ):
        segment.run(rows)
    return rows


def norms(root: Path, post: str = "norm") -> list[dict[str, Any]]:
    """ids → lookup → norm."""
    onnx_models.lookup(root / "lookup.onnx")
    return [
        {"stage": "pre", "python": f"{HERE}:ids"},
        {"stage": "model", "onnx": "lookup.onnx"},
        {"stage": "norm", "python": f"{HERE}:{post}"},
    ]


@pytest.mark.parametrize("count", [8, 32])
@pytest.mark.parametrize("post", ["norm", "norm_of_one"])
@pytest.mark.parametrize("poison", ["pre", "model", "post", "refused"])
def test_a_poisoned_row_fails_alone(tmp_path, count, post, poison):
    """In the stage before the model, in ONNX Runtime, or after it: the others' answers are those
    they get alone, to 1e-4.
    """
    graph = norms(tmp_path, post)
    place = count // 3
    fields = [{"start": n, "poison": poison if n == place else ""} for n in range(count)]
    rows = in_one_batch(tmp_path, fields, graph)
    error = rows[place].error
    assert isinstance(error, RequestError if poison == "refused" else FunctionError)
    assert "secret" not in error.message
    for row, field in zip(rows, fields, strict=True):
        if row is not rows[place]:
            (solo,) = in_one_batch(tmp_path, [field], graph)
            assert row.error is None
            assert row.values["norm"] == pytest.approx(solo.values["norm"], abs=1e-4)


def test_rows_poisoned_in_different_stages_fail_each_by_itself(tmp_path):
    """Four of 32 in one batch, each with the error of its own stage; 28 answer."""
    kinds = {3: "pre", 4: "model", 20: "post", 31: "refused"}
    rows = in_one_batch(
        tmp_path, [{"start": n, "poison": kinds.get(n, "")} for n in range(32)], norms(tmp_path)
    )
    assert {n for n, row in enumerate(rows) if row.error is not None} == set(kinds)
    messages = {kinds[n]: row.error.message for n, row in enumerate(rows) if row.error is not None}
    assert [
        stage in messages[kind]
        for kind, stage in {"pre": "'pre'", "model": "'model'", "post": "'norm'"}.items()
    ] == [True] * 3


def test_a_row_whose_time_is_over_costs_no_further_stage(tmp_path):
    """The call of the second of three rows ends in the first stage of a segment: the next one does
    not see it.
    """
    graph = [
        {"stage": "first", "python": f"{HERE}:ends_a_call"},
        {"stage": "second", "python": f"{HERE}:plus_one"},
    ]
    _, stages, _ = build_function(
        FunctionSpec.from_args("f", "/f", {"graph": graph}),
        Settings.read({"WAKEFUL_ROOT": str(tmp_path)}),
        InlineCallees(),
    )
    rows = [Call([{"n": n}], request_id="r", now=0.0, deadline=math.inf).rows[0] for n in range(3)]
    ENDS.append(rows[1].call)
    (segment,) = cut_into_segments(stages, BatchingSpec(), ("second",))
    segment.run(rows)
    assert [row.values.get("second") for row in rows] == [1, None, 3]
    assert isinstance(rows[1].error, DeadlineExceeded)


def test_a_run_that_failed_half_way_leaves_no_trace(tmp_path):
    """A stage that takes and gives x lacks a part of one row's answer: the others' x is one more
    than it was, not two or six.
    """
    fields = [{"x": float(n), "y": -1.0 if n == 5 else 1.0} for n in range(8)]
    rows = in_one_batch(tmp_path, fields, [{"stage": "pair", "python": f"{HERE}:Loses"}])
    assert [row.values["x"] for row in rows if row.error is None] == [
        n + 1.0 for n in range(8) if n != 5
    ]
    assert rows[5].error is not None


def test_a_stage_cannot_write_into_what_it_may_be_given_again(tmp_path):
    """It fails on any row, alone or not, and no answer is made of a value that was changed
    twice.
    """
    fields = [{"x": np.array([n], np.float32)} for n in (1, 2, -3, 4)]
    rows = in_one_batch(
        tmp_path, fields, [{"stage": "twice", "python": f"{HERE}:doubles_in_place"}]
    )
    assert all(isinstance(row.error, FunctionError) for row in rows)
    assert [field["x"][0] for field in fields] == [1, 2, -3, 4]


def test_a_stage_behind_a_model_is_not_batched_by_the_models_shapes(tmp_path):
    """What was measured of a row for an earlier model is gone."""
    graph = [*norms(tmp_path), {"stage": "ones", "python": f"{HERE}:ones"}]
    spec = FunctionSpec.from_args("f", "/f", {"graph": graph})
    settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    _, stages, _ = build_function(spec, settings, InlineCallees())
    only = cut_into_segments(stages[-1:], spec.batching, ["ones"])[0]
    (row,) = Call([{}], request_id="r", now=0.0, deadline=math.inf).rows
    row.key, row.shapes, row.padded_size = ("x",), ((7,),), 7
    only.measure(row)
    assert (row.key, row.shapes, row.padded_size) == ((), (), 0)
