"""Models of a wanted size with next to no work in them: a table of random numbers, and a row of it looked up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 16
"""Numbers in a row."""


def table(file: Path, size_bytes: int, seed: int) -> Path:
    """A model of that size: ``row`` [rows, 16] of ``place`` [rows]. Another seed is another file to the last byte of its table."""
    numbers = np.random.default_rng(seed).random((size_bytes // (4 * WIDTH), WIDTH), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "place"], ["row"])],
        "table",
        [helper.make_tensor_value_info("place", TensorProto.INT64, ["rows"])],
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, ["rows", WIDTH])],
        [numpy_helper.from_array(numbers, "table")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    return file
