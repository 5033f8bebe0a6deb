"""The models of random graphs: small, exact (integers), and of every way that rows share a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


@dataclass(frozen=True)
class Model:
    """What it takes and gives, by kinds; and what its stage declares."""

    takes: Mapping[str, str]
    gives: Mapping[str, str]
    declared: Mapping[str, Any] = field(default_factory=dict)


MODELS = {
    "same_shapes": Model({"x": "Numbers"}, {"y": "Numbers"}),
    "sum": Model({"x": "Numbers"}, {"s": "Cell", "y": "Numbers"}),
    "two_ragged": Model({"a": "Numbers", "b": "Numbers"}, {"y": "Numbers"}),
    "padded": Model({"x": "Numbers"}, {"s": "Cell", "y": "Numbers"}, {"pad": {"x": 0}}),
    "two_padded": Model(
        {"a": "Numbers", "b": "Numbers"},
        {"u": "Cell", "y": "Numbers"},
        {"pad": {"a": 0, "b": 0}},
    ),
    "alone": Model({"x": "Numbers"}, {"y": "Numbers"}, {"rows": False}),
    "cell": Model({"x": "Cell"}, {"y": "Cell"}),
}


def compute(name: str, values: Mapping[str, Array]) -> dict[str, Array]:
    """What a model makes of one row, in plain numpy."""
    return {
        "same_shapes": lambda x: {"y": x * 2 + 1},
        "sum": lambda x: {"s": np.asarray(x.sum()), "y": x + 1},
        "two_ragged": lambda a, b: {"y": np.concatenate([a, b])},
        "padded": lambda x: {"s": np.asarray(x.sum()), "y": x * 3},
        "two_padded": lambda a, b: {"u": np.asarray(a.sum() + b.sum()), "y": -b},
        "alone": lambda x: {"y": np.cumsum(x)},
        "cell": lambda x: {"y": x + x},
    }[name](**values)


def write(folder: Path) -> None:
    """Every model, as ``NAME.onnx``."""
    node = helper.make_node
    total = node("ReduceSum", ["x", "axis"], ["s"], keepdims=0)
    _save(
        folder / "same_shapes.onnx",
        [node("Mul", ["x", "two"], ["z"]), node("Add", ["z", "one"], ["y"])],
        {"x": ["N", "L"]},
        {"y": ["N", "L"]},
    )
    _save(
        folder / "sum.onnx",
        [total, node("Add", ["x", "one"], ["y"])],
        {"x": ["N", "L"]},
        {"s": ["N"], "y": ["N", "L"]},
    )
    _save(
        folder / "two_ragged.onnx",
        [node("Concat", ["a", "b"], ["y"], axis=1)],
        {"a": ["N", "A"], "b": ["N", "B"]},
        {"y": ["N", "C"]},
    )
    _save(
        folder / "padded.onnx",
        [total, node("Mul", ["x", "three"], ["y"])],
        {"x": ["N", "L"]},
        {"s": ["N"], "y": ["N", "L"]},
    )
    _save(
        folder / "two_padded.onnx",
        [
            node("ReduceSum", ["a", "axis"], ["s"], keepdims=0),
            node("ReduceSum", ["b", "axis"], ["t"], keepdims=0),
            node("Add", ["s", "t"], ["u"]),
            node("Neg", ["b"], ["y"]),
        ],
        {"a": ["N", "A"], "b": ["N", "B"]},
        {"u": ["N"], "y": ["N", "B"]},
    )
    _save(folder / "alone.onnx", [node("CumSum", ["x", "zero"], ["y"])], {"x": ["T"]}, {"y": ["T"]})
    _save(folder / "cell.onnx", [node("Add", ["x", "x"], ["y"])], {"x": ["N"]}, {"y": ["N"]})


def _save(
    path: Path, nodes: list[Any], takes: dict[str, list[str]], gives: dict[str, list[str]]
) -> None:
    constants = {"axis": [1], "zero": 0, "one": 1, "two": 2, "three": 3}
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        path.stem,
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, dims)
            for name, dims in takes.items()
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, dims)
            for name, dims in gives.items()
        ],
        [
            numpy_helper.from_array(np.asarray(value, np.int64), name)
            for name, value in constants.items()
            if name in used
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
