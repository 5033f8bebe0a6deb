"""The bare ONNX Runtime loop, on a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, checker, helper, numpy_helper, save

from loadtests.bench.bare import bare_loop
from loadtests.bench.children import ChildFailed
from loadtests.bench.policies import in_order
from loadtests.bench.texts import Text

TEXTS = [Text("a", (1, 2, 3)), Text("b", (4, 5)), Text("c", (6,))]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Sums the token ids that the mask lets through: padding must not count."""
    ids, mask = (helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"]) for name in ("input_ids", "attention_mask"))
    output = helper.make_tensor_value_info("sum", TensorProto.INT64, ["rows", 1])
    nodes = [helper.make_node("Mul", ["input_ids", "attention_mask"], ["kept"]), helper.make_node("ReduceSum", ["kept", "axis"], ["sum"])]
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    made = helper.make_model(
        helper.make_graph(nodes, "sum", [ids, mask], [output], [axis]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    checker.check_model(made)
    save(made, str(tmp_path / "sum.onnx"))
    return tmp_path / "sum.onnx"


def test_the_loop_counts_rows_and_answers_as_the_model_does(model: Path, tmp_path: Path) -> None:
    """Two workers, ragged rows padded, then answers and single calls from the same processes."""
    with bare_loop(model, 2, tmp_path / "log") as bare:
        assert bare.rows_per_s(TEXTS, in_order(3, 2), 0.05) > 0
        assert bare.embed(TEXTS) == [[6], [9], [6]]
        seconds = bare.call_seconds(TEXTS[0], 10)
    assert len(seconds) == 10
    assert all(0 < second < 1 for second in seconds)


def test_a_model_that_does_not_load_is_reported_with_what_the_worker_said(tmp_path: Path) -> None:
    """The failure carries the end of the worker's output."""
    with pytest.raises(ChildFailed, match=r"nothing\.onnx"), bare_loop(tmp_path / "nothing.onnx", 1, tmp_path / "log"):
        pass
