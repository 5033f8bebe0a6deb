"""Ranges of activations."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from runtime.onnx.quantization.acceptance import measure_ranges, normalized


def model():
    """y = LayerNorm(x) @ w + LayerNorm(LayerNorm(x))."""
    constants = {"gamma": np.ones(4), "w": np.eye(4)}
    graph = helper.make_graph(
        [
            helper.make_node("LayerNormalization", ["x", "gamma"], ["first"]),
            helper.make_node("LayerNormalization", ["first", "gamma"], ["second"]),
            helper.make_node("MatMul", ["first", "w"], ["product"]),
            helper.make_node("Add", ["product", "second"], ["y"]),
        ],
        "norms",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
        [
            numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in constants.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_only_norms_that_a_product_reads_are_named():
    """The second one feeds no MatMul."""
    assert normalized(model()) == ["first"]


def test_extremes_of_each_channel_over_all_feeds():
    """The least and the greatest of each column, whichever feed had it."""
    feeds = [
        {"x": np.array([[1, 2, 3, 4], [0, 2, 9, 4]], np.float32)},
        {"x": np.array([[5, -2, 3, 4]], np.float32)},
    ]
    low, high = measure_ranges(model(), ["first"], feeds)["first"]
    every = np.concatenate([feed["x"] for feed in feeds])
    rows = (every - every.mean(1, keepdims=True)) / every.std(1, keepdims=True)
    assert np.allclose(low, rows.min(0), atol=1e-4)
    assert np.allclose(high, rows.max(0), atol=1e-4)
