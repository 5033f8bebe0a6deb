"""Where a graph computes across the rows of a run, read without running it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.onnx.model_file import read_interface
from runtime.onnx.model_graph import read_graph
from runtime.onnx.rows.mixing import find_bare_squeeze, find_mixing

N = helper.make_node
INT = np.int64


def written(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Any],
    shapes: Sequence[Sequence[Any]],
    opset: int,
) -> Path:
    """A model of x, and of a where there are two shapes, to y."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip("xa", shapes, strict=False)
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, str(path))
    return path


def mixing(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Any] | None = None,
    shapes: Sequence[Sequence[Any]] = (("n", 4),),
    opset: int = 17,
) -> list[str]:
    file = written(path / "m.onnx", nodes, constants or {}, shapes, opset)
    inputs, _ = read_interface(file)
    found = find_mixing(read_graph(file), {value.name: len(value.dims) for value in inputs})
    return [one.operator for one in found]


PICTURE = (("n", 3, 8, 8),)

ACROSS = {
    "the mean over all": [N("ReduceMean", ["x"], ["y"])],
    "the mean over the first axis": [N("ReduceMean", ["x"], ["y"], axes=[0])],
    "counted from the end": [N("ReduceMax", ["x"], ["y"], axes=[-2])],
    "by an input": [N("ReduceSum", ["x", "zero"], ["y"])],
    "by a constant of the graph": [
        N("Constant", [], ["k"], value_ints=[0]),
        N("ReduceSum", ["x", "k"], ["y"]),
    ],
    "after a transpose": [
        N("Transpose", ["x"], ["t"], perm=[1, 0]),
        N("Softmax", ["t"], ["y"], axis=-1),
    ],
    "after a new axis": [
        N("Unsqueeze", ["x", "zero"], ["t"]),
        N("ReduceMax", ["t"], ["y"], axes=[1]),
    ],
    "after an axis is gone": [
        N("Transpose", ["x"], ["t"], perm=[1, 0]),
        N("ReduceMean", ["t"], ["m"], axes=[0], keepdims=0),
        N("ArgMax", ["m"], ["y"], axis=0),
    ],
    "an argmax by default": [N("ArgMax", ["x"], ["y"])],
    "the largest rows": [N("TopK", ["x", "one"], ["y", "i"], axis=0)],
    "a running sum": [N("CumSum", ["x", "scalar"], ["y"])],
    "normalised from the first axis": [N("LayerNormalization", ["x", "w"], ["y"], axis=0)],
    "one scale for all": [N("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), N("Identity", ["q"], ["y"])],
    "rows times rows": [
        N("Transpose", ["x"], ["t"], perm=[1, 0]),
        N("MatMul", ["x", "t"], ["y"]),
    ],
    "a sum by a product": [N("MatMul", ["ones", "x"], ["y"])],
    "rows beside columns": [
        N("Transpose", ["x"], ["t"], perm=[1, 0]),
        N("Add", ["x", "t"], ["y"]),
    ],
    "the first row": [N("Gather", ["x", "zero"], ["y"], axis=0)],
    "a part of the rows": [N("Slice", ["x", "one", "far", "zero"], ["y"])],
    "rows in a row": [N("Concat", ["x", "x"], ["y"], axis=0)],
    "rows in one": [N("Flatten", ["x"], ["t"], axis=0), N("ReduceMax", ["t"], ["y"], axes=[1])],
    "seen as one row": [
        N("Reshape", ["x", "line"], ["t"]),
        N("ReduceMean", ["t"], ["y"], axes=[1]),
    ],
    "by letters": [N("Einsum", ["x"], ["y"], equation="nd->d")],
    "how many are not 0": [
        N("NonZero", ["x"], ["at"]),
        N("Shape", ["at"], ["s"]),
        N("Cast", ["s"], ["f"], to=1),
        N("Gather", ["f", "one"], ["c"]),
        N("Mul", ["x", "c"], ["y"]),
    ],
    "the number of rows": [
        N("Shape", ["x"], ["s"]),
        N("Gather", ["s", "scalar"], ["c"]),
        N("Cast", ["c"], ["f"], to=1),
        N("Div", ["x", "f"], ["y"]),
    ],
    "a branch for all": [
        N("ReduceMax", ["x"], ["m"], keepdims=0),
        N("Greater", ["m", "number"], ["c"]),
        N(
            "If",
            ["c"],
            ["y"],
            then_branch=helper.make_graph(
                [N("Neg", ["x"], ["p"])], "t", [], [helper.make_tensor_value_info("p", 1, None)]
            ),
            else_branch=helper.make_graph(
                [N("Abs", ["x"], ["q"])], "e", [], [helper.make_tensor_value_info("q", 1, None)]
            ),
        ),
    ],
    "time for rows": [N("LSTM", ["sequence", "w3", "r3"], ["y"], hidden_size=2)],
    "all axes of something lost": [N("Det", ["x"], ["t"]), N("ReduceSum", ["t"], ["y"])],
}  # fmt: skip

WITHIN = {
    "the mean of a row": [N("ReduceMean", ["x"], ["y"], axes=[1])],
    "the last axis": [N("ReduceMax", ["x"], ["y"], axes=[-1])],
    "a softmax": [N("Softmax", ["x"], ["y"])],
    "a product": [N("MatMul", ["x", "w2"], ["y"])],
    "a mean of weights": [N("ReduceMean", ["w2"], ["m"]), N("Add", ["x", "m"], ["y"])],
    "a product of a shape": [
        N("Shape", ["x"], ["s"], start=1),
        N("ReduceProd", ["s"], ["p"], keepdims=0),
        N("Cast", ["p"], ["f"], to=1),
        N("Div", ["x", "f"], ["y"]),
    ],
    "reshaped by its own shape": [
        N("Shape", ["x"], ["s"]),
        N("Gather", ["s", "zero"], ["n"]),
        N("Concat", ["n", "line"], ["to"], axis=0),
        N("Reshape", ["x", "to"], ["t"]),
        N("ReduceMean", ["t"], ["y"], axes=[2]),
    ],
    "used for its shape": [
        N("ReduceMean", ["x"], ["m"], axes=[0]),
        N("Shape", ["m"], ["s"]),
        N("ConstantOfShape", ["s"], ["z"]),
        N("Add", ["x", "z"], ["y"]),
    ],
    "used for nothing": [N("ReduceMean", ["x"], ["m"]), N("Abs", ["x"], ["y"])],
    "there and back": [
        N("Transpose", ["x"], ["t"], perm=[1, 0]),
        N("Abs", ["t"], ["u"]),
        N("Transpose", ["u"], ["v"], perm=[1, 0]),
        N("ReduceMax", ["v"], ["y"], axes=[1]),
    ],
    "all rows": [N("Slice", ["x", "zero", "far", "zero"], ["y"])],
    "columns": [N("Slice", ["x", "one", "far", "one"], ["y"])],
    "a place in a table": [
        N("Cast", ["x"], ["i"], to=7),
        N("Gather", ["w2", "i"], ["e"], axis=0),
        N("ReduceMean", ["e"], ["y"], axes=[1]),
    ],
    "positions": [
        N("Shape", ["x"], ["s"]),
        N("Gather", ["s", "scalar1"], ["l"]),
        N("Range", ["scalar", "l", "scalar1"], ["r"]),
        N("Cast", ["r"], ["f"], to=1),
        N("Add", ["x", "f"], ["y"]),
    ],
    "noise of its shape": [N("RandomNormalLike", ["x"], ["r"]), N("Add", ["x", "r"], ["y"])],
    "no axes, and so none": [N("ReduceSum", ["x"], ["y"], noop_with_empty_axes=1)],
}  # fmt: skip

CONSTANTS = {
    "zero": np.array([0], INT),
    "one": np.array([1], INT),
    "far": np.array([2**31], INT),
    "line": np.array([1, -1], INT),
    "scalar": INT(0),
    "scalar1": INT(1),
    "number": np.float32(3),
    "w": np.ones(4, "f4"),
    "w2": np.ones((4, 4), "f4"),
    "ones": np.ones((1, 7), "f4"),
    "w3": np.ones((1, 8, 4), "f4"),
    "r3": np.ones((1, 8, 2), "f4"),
}


@pytest.mark.parametrize("name", ACROSS)
def test_it_is_found(tmp_path, name):
    """The last operator, or one on the way to it."""
    nodes = ACROSS[name]
    if name == "time for rows":
        nodes = [N("Unsqueeze", ["x", "one"], ["sequence"]), *nodes]
    assert mixing(tmp_path, nodes, CONSTANTS)


@pytest.mark.parametrize("name", WITHIN)
def test_what_stays_within_a_row_is_not(tmp_path, name):
    """Neither is what depends on no row's values."""
    assert mixing(tmp_path, WITHIN[name], CONSTANTS) == []


@pytest.mark.parametrize(
    ("nodes", "opset", "found"),
    [
        ([N("Softmax", ["x"], ["y"], axis=0)], 12, ["Softmax"]),
        ([N("Softmax", ["x"], ["y"])], 12, []),
        ([N("MeanVarianceNormalization", ["x"], ["y"])], 13, ["MeanVarianceNormalization"]),
        ([N("MeanVarianceNormalization", ["x"], ["y"], axes=[2, 3])], 13, []),
        ([N("Conv", ["x", "k"], ["y"])], 17, []),
        ([N("Transpose", ["x"], ["t"], perm=[1, 0, 2, 3]), N("Conv", ["t", "k"], ["y"])], 17, ["Conv"]),
        ([N("BatchNormalization", ["x", "b", "b", "b", "b"], ["y"])], 17, []),
        (
            [N("BatchNormalization", ["x", "b", "b", "b", "b"], ["y", "m", "v"], training_mode=1)],
            17,
            ["BatchNormalization"],
        ),
        ([N("GlobalAveragePool", ["x"], ["y"])], 17, []),
    ],
)  # fmt: skip
def test_of_pictures_and_versions(tmp_path, nodes, opset, found):
    """Defaults that changed, and operators whose first axis is that of rows."""
    constants = {"k": np.ones((2, 3, 3, 3), "f4"), "b": np.ones(3, "f4")}
    assert mixing(tmp_path, nodes, constants, PICTURE, opset) == found


def test_two_inputs_meet_row_by_row(tmp_path):
    """[n, 4] and [n, 1] do; [n, 4] and [n] do not."""
    nodes = [N("Add", ["x", "a"], ["y"])]
    assert mixing(tmp_path, nodes, {}, (("n", 4), ("n", 1))) == []
    assert mixing(tmp_path, nodes, {}, (("n", 4), ("n",))) == ["Add"]


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ([N("Squeeze", ["x"], ["y"])], "y"),
        ([N("Squeeze", ["x"], ["t"], name="sq"), N("Sigmoid", ["t"], ["y"])], "sq"),
        ([N("Squeeze", ["x", "one"], ["y"])], ""),
        ([N("Squeeze", ["x"], ["t"]), N("Reshape", ["t", "line"], ["y"])], ""),
        ([N("Abs", ["x"], ["y"])], ""),
    ],
)
def test_a_squeeze_without_an_axis(tmp_path, nodes, found):
    """Of an answer; what is given its axes again is right."""
    file = written(tmp_path / "m.onnx", nodes, CONSTANTS, (("n", 1),), 17)
    assert find_bare_squeeze(file) == found


@pytest.mark.models
def test_the_shipped_models_stay_within_rows(models):
    """Those that share runs: int8 by rows as well."""
    for name in ("minilm/model.int8", "minilm/model.fp32", "forecast/model", "classify/model",
                 "moderate/model", "listen/model", "ocr/detect", "ocr/recognise"):  # fmt: skip
        file = models / f"{name}.onnx"
        inputs, _ = read_interface(file)
        ranks = {value.name: len(value.dims) for value in inputs}
        assert find_mixing(read_graph(file), ranks) == [], name
