"""Tiny real ONNX models, built where they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: dict,
    outputs: dict,
    constants: dict | None = None,
) -> Path:
    """Writes a model; ``inputs`` and ``outputs`` map names to (element type, shape)."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in (constants or {}).items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def double(path: Path, shape: Sequence[str | int] = ("rows", 3)) -> Path:
    """y = 2 x."""
    return save(
        path,
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        {"x": (FLOAT, shape)},
        {"y": (FLOAT, shape)},
        {"two": np.float32(2)},
    )


def masked_mean(path: Path) -> Path:
    """mean [rows] of x [rows, length] where mask is 1: padding changes nothing."""
    nodes = [
        helper.make_node("Mul", ["x", "mask"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "one"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "one"], ["count"], keepdims=0),
        helper.make_node("Div", ["total", "count"], ["mean"]),
    ]
    ragged = (FLOAT, ["rows", "length"])
    return save(
        path,
        nodes,
        {"x": ragged, "mask": ragged},
        {"mean": (FLOAT, ["rows"])},
        {"one": np.array([1], np.int64)},
    )


def fails_on_negative(path: Path) -> Path:
    """y = table[i]: an index outside the table of 4 fails the run it is in."""
    nodes = [helper.make_node("Gather", ["table", "i"], ["y"])]
    table = np.arange(4, dtype=np.float32) * 10
    return save(path, nodes, {"i": (INT64, ["rows"])}, {"y": (FLOAT, ["rows"])}, {"table": table})


def lookup(path: Path) -> Path:
    """y [rows, 4] of ids [rows, 6]: the mean of rows of a table of 50, projected; an id beyond it
    fails the run it is in.
    """
    random = np.random.default_rng(1)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows_of_it"]),
        helper.make_node("ReduceMean", ["rows_of_it"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["y"]),
    ]
    constants = {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in {"table": (50, 16), "weights": (16, 4)}.items()
    }
    return save(path, nodes, {"ids": (INT64, ["rows", 6])}, {"y": (FLOAT, ["rows", 4])}, constants)


def hungry(path: Path, megabytes: int, shape: Sequence[str | int] = ("rows",)) -> Path:
    """y = x, by way of so many megabytes for each number of it."""
    size = np.array([1] * len(shape) + [megabytes * 2**18], np.int64)
    last = np.array([len(shape)], np.int64)
    nodes = [
        helper.make_node("Unsqueeze", ["x", "last"], ["column"]),
        helper.make_node("Expand", ["column", "size"], ["much"]),
        helper.make_node("ReduceMax", ["much"], ["y"], axes=[len(shape)], keepdims=0),
    ]
    return save(
        path, nodes, {"x": (FLOAT, shape)}, {"y": (FLOAT, shape)}, {"size": size, "last": last}
    )


def fails_at_first_run(path: Path) -> Path:
    """A graph that loads, and whose reshape cannot work on any input of three columns."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    return save(
        path,
        nodes,
        {"x": (FLOAT, ["rows", 3])},
        {"y": (FLOAT, ["rows", "n"])},
        {"shape": np.array([-1, 7], np.int64)},
    )


def perceptron(path: Path, *, seed: int = 0) -> Path:
    """y [rows, 4] of x [rows, 64] by way of 300: weights of 77 kB, distinguished by ``seed``."""
    random = np.random.default_rng(seed)
    nodes = [
        helper.make_node("MatMul", ["x", "wide"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "narrow"], ["y"]),
    ]
    weights = {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in {"wide": (64, 300), "narrow": (300, 4)}.items()
    }
    return save(path, nodes, {"x": (FLOAT, ["rows", 64])}, {"y": (FLOAT, ["rows", 4])}, weights)
