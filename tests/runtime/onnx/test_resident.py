"""Outputs that stay on the device for the next model give the answers of those that go through memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from runtime.batching.rows import Call, Row
from runtime.onnx.options import CPU_PLAN, SessionPlan
from runtime.onnx.resident import Kept, Part, whole
from runtime.onnx.session import Session
from runtime.segments import Placed, Segment, cut
from runtime.spec import BatchingSpec
from runtime.stages import ModelStage
from tests import onnx_models

BOUND = replace(CPU_PLAN, keeps_on=("cpu", 0))
"""Outputs may stay where they are, by ONNX Runtime's binding, on the one device that every machine has."""


def encoder(path: Path) -> Path:
    """hidden [rows, 4] and norm [rows] of x [rows, 3]."""
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["hidden"]),
        helper.make_node("ReduceL2", ["hidden"], ["norm"], axes=[1], keepdims=0),
    ]
    weights = np.random.default_rng(3).standard_normal((3, 4)).astype(np.float32)
    outputs = {"hidden": (onnx_models.FLOAT, ["rows", 4]), "norm": (onnx_models.FLOAT, ["rows"])}
    return onnx_models.save(path, nodes, {"x": (onnx_models.FLOAT, ["rows", 3])}, outputs, {"weights": weights})


def decoder(path: Path) -> Path:
    """y [rows] of hidden [rows, 4] and of i [rows], an index into a table of 4: one beyond fails the run it is in."""
    nodes = [
        helper.make_node("ReduceSum", ["hidden", "one"], ["total"], keepdims=0),
        helper.make_node("Gather", ["table", "i"], ["found"]),
        helper.make_node("Add", ["total", "found"], ["y"]),
    ]
    inputs = {"hidden": (onnx_models.FLOAT, ["rows", 4]), "i": (onnx_models.INT64, ["rows"])}
    constants = {"one": np.array([1], np.int64), "table": np.arange(4, dtype=np.float32) * 10}
    return onnx_models.save(path, nodes, inputs, {"y": (onnx_models.FLOAT, ["rows"])}, constants)


@pytest.fixture
def segments(tmp_path: Path) -> Callable[[SessionPlan], list[Segment]]:
    """The two models one after the other."""
    files = {"encoder": encoder(tmp_path / "e.onnx"), "decoder": decoder(tmp_path / "d.onnx")}

    def build(plan: SessionPlan) -> list[Segment]:
        placed = []
        for name, file in files.items():
            session = Session(file, plan)
            sources = {spec.name: spec.name for spec in session.info.inputs}
            placed.append(Placed(ModelStage(name, session, sources, batchable=True, pad={})))
        return cut(placed, BatchingSpec(), ("y", "norm"))

    return build


def rows_of(*indexes: int) -> Sequence[Row]:
    """Rows of numbers that differ, with these indexes into the table."""
    numbers = np.random.default_rng(1).standard_normal((len(indexes), 3)).astype(np.float32)
    values = [{"x": row, "i": index} for row, index in zip(numbers, indexes, strict=True)]
    return Call(values, request_id="r", now=time.monotonic(), deadline=math.inf).rows


def run(segments: Sequence[Segment], rows: Sequence[Row]) -> list[float | str]:
    """Every segment on all rows; the answers, or what their errors are."""
    for segment in segments:
        segment.run(rows)
    return [type(row.error).__name__ if row.error else float(row.values["y"]) for row in rows]


def test_models_on_one_device_are_one_segment_and_answer_the_same(segments):
    """Bit for bit; what nobody takes has come to memory, and what stayed on the device is let go of."""
    apart, together = segments(CPU_PLAN), segments(BOUND)
    rows, others = rows_of(0, 1, 2, 3, 1), rows_of(0, 1, 2, 3, 1)
    assert (len(apart), len(together)) == (2, 1)
    assert run(together, rows) == run(apart, others)
    assert [row.values["norm"] for row in rows] == [row.values["norm"] for row in others]
    assert "hidden" not in rows[0].values


def test_a_row_at_fault_is_found_though_the_batch_stayed_on_the_device(segments):
    """The halves are not the whole output any more, and go through memory."""
    rows = rows_of(0, 9, 2, 3, 1)
    answers = run(segments(BOUND), rows)
    assert answers == run(segments(CPU_PLAN), rows_of(0, 9, 2, 3, 1))
    assert answers[1] == "FunctionError"


def test_only_all_rows_in_their_order_are_the_output_itself(segments):
    """Anything else is cut together anew."""
    rows = rows_of(0, 1, 2)
    (segment,) = segments(BOUND)
    segment.stages[0].run(rows)
    parts = [row.values["hidden"] for row in rows]
    assert all(isinstance(part, Part) for part in parts)
    assert isinstance(whole(parts), Kept)
    for other in (parts[:2], [parts[1], parts[0], parts[2]], [*parts, parts[2]], [parts[0], parts[1].array(), parts[2]], [1.0]):
        assert whole(other) is None
