"""The gate that a quantised model has to pass."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.errors import StoreError
from runtime.onnx.quantization.acceptance import QualityVerdict, accept, measure
from runtime.onnx.quantization.rowwise import quantize_rows

WIDTH = 32


def pooled(*, shared=False):
    """sum over tokens of (x * mask) @ w; with ``shared``, over the largest number of the whole
    batch, as a batch-wide scale does.
    """
    random = np.random.default_rng(0)
    constants = {
        "table": random.normal(size=(100, WIDTH)).astype(np.float32),
        "w": random.normal(size=(WIDTH, WIDTH)).astype(np.float32),
        "one": np.array([1]),
        "two": np.array([2]),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("MatMul", ["words", "w"], ["mapped"]),
        helper.make_node("Cast", ["mask"], ["seen"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["seen", "two"], ["seen3"]),
        helper.make_node("Mul", ["mapped", "seen3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["total" if shared else "y"], keepdims=0),
    ]
    if shared:
        nodes += [
            helper.make_node("ReduceMax", ["mapped"], ["most"], keepdims=0),
            helper.make_node("Div", ["total", "most"], ["y"]),
        ]
    graph = helper.make_graph(
        nodes,
        "pooled",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"])
            for name in ("ids", "mask")
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def rows():
    random = np.random.default_rng(1)
    return [
        {"ids": random.integers(1, 100, size), "mask": np.ones(size, np.int64)}
        for size in random.integers(1, 12, 20)
    ]


def test_a_close_model_is_accepted(rows):
    """The verdict says how close."""
    verdict = accept(quantize_rows(pooled()), pooled(), rows)
    assert verdict.cosine_min > 0.99
    assert "cosine" in str(verdict)


def test_a_model_whose_answers_depend_on_batch_mates_is_refused(rows):
    """Dividing by a number of the whole batch changes no cosine, and is refused all the same."""
    assert measure(pooled(shared=True), pooled(), rows).cosine_min > 0.999
    with pytest.raises(StoreError, match=r"batch-mates.* 0?\.?\d"):
        accept(pooled(shared=True), pooled(), rows)


def test_a_model_far_off_is_refused_with_its_numbers(rows):
    """The worst row is named."""
    with pytest.raises(StoreError, match=r"cosine .*-?0\.\d+.*\(row \d+\)"):
        accept(quantize_rows(pooled(), weight_bits=2), pooled(), rows)


def test_a_model_that_gives_no_numbers_in_company_is_refused(rows):
    """NaN is no small difference, in whichever batch it comes first: here the last, of four."""
    model = pooled()
    model.graph.node[-1].output[0] = "right"
    model.graph.initializer.append(numpy_helper.from_array(np.array([len(rows) % 8]), "four"))
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["words"], ["rows"], start=0, end=1),
            helper.make_node("Sub", ["rows", "four"], ["others"]),
            helper.make_node("Cast", ["others"], ["divisor"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["divisor", "divisor"], ["factor"]),
            helper.make_node("Mul", ["right", "factor"], ["y"]),
        ]
    )
    verdict = measure(model, pooled(), rows)
    assert verdict.cosine_min > 0.99
    assert not verdict.is_accepted


@pytest.mark.parametrize(
    ("cosine", "batch", "padding"),
    [(np.nan, 0, 0), (1, np.nan, 0), (1, 0, np.nan), (0.98, 0, 0), (1, 2e-5, 0), (1, 0, 2e-5)],
)
def test_each_measurement_decides(cosine, batch, padding):
    """None hides another."""
    assert QualityVerdict(1, 1, 0, 1e-5, 1e-5).is_accepted
    assert not QualityVerdict(cosine, cosine, 0, batch, padding).is_accepted
