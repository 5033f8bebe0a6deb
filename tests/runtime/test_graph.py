"""Stages wired by the names of their values."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.graph import Node, Port, wire
from runtime.tensors import TensorSpec
from runtime.values import of_annotation, of_tensor


def python(name: str, takes: dict, gives: dict, **more) -> Node:
    """A Python stage of plain annotations."""
    ports = tuple(Port(param, of_annotation(kind), kind) for param, kind in takes.items())
    return Node(name, "python", ports, {value: of_annotation(kind) for value, kind in gives.items()}, **more)


def model(takes: dict, gives: dict, **more) -> Node:
    """A model of FP32 tensors of these row shapes."""

    def types(of):
        return {name: of_tensor(TensorSpec(name, "FP32", (-1, *shape)), rows=True) for name, shape in of.items()}

    return Node("model", "onnx", tuple(Port(name, kind, kind.annotation) for name, kind in types(takes).items()), types(gives), **more)


ARRAY = NDArray[np.float32]


def test_names_make_the_edges():
    """Values flow by name, what nobody gives is a field of the request, the last stage's values are the answer."""
    graph = wire(
        [
            python("pre", {"text": str}, {"x": ARRAY}),
            model({"x": (-1,)}, {"y": (3,)}),
            python("post", {"y": ARRAY, "top": int}, {"best": str}),
        ]
    )
    assert not graph.faults
    assert list(graph.fields) == ["text", "top"]
    assert list(graph.answer) == ["best"]
    assert graph.sources == ({"text": "text"}, {"x": "x"}, {"y": "y", "top": "top"})


def test_a_mapping_renames_an_edge():
    """inputs maps a port to a value, or says that it is a field of the request."""
    graph = wire([python("pre", {"text": str}, {"ids": ARRAY}), model({"x": (-1,), "z": (2,)}, {"y": (3,)}, inputs={"x": "ids", "z": "z"})])
    assert not graph.faults
    assert list(graph.fields) == ["text", "z"]


def test_the_latest_value_of_a_name_counts():
    """A stage may give a value of a name that it takes; later stages get the new one."""
    graph = wire([python("pre", {"x": str}, {"x": ARRAY}), model({"x": (-1,)}, {"y": (3,)})])
    assert not graph.faults


@pytest.mark.parametrize(
    ("nodes", "stage", "key", "message"),
    [
        ([python("pre", {"text": str}, {"ids": ARRAY}), model({"x": (-1,)}, {"y": ()})], 1, "onnx", "'x' is filled by no earlier stage"),
        ([python("pre", {"text": str}, {"input_id": ARRAY}), model({"input_ids": (-1,)}, {"y": ()})], 1, "onnx", "did you mean 'input_id'"),
        ([python("a", {"t": str}, {"tokens": str}), python("b", {"token": str}, {"c": str})], 1, "python", "did you mean 'tokens'"),
        (
            [python("a", {"t": str}, {"u": str}), python("b", {"u": int}, {"c": str})],
            1,
            "python",
            "takes the value 'u', but it is scalar BYTES",
        ),
        ([python("a", {"t": str}, {"u": str}), python("b", {"t": int}, {"c": str})], 1, "python", "takes the request field 't'"),
        ([python("a", {"t": str}, {"u": str}, inputs={"q": "t"})], 0, "inputs.q", "takes no 'q'"),
        ([model({"x": (3,)}, {"y": ()}, pad={"w": 1})], 0, "pad.w", "takes no 'w'"),
        ([python("pre", {"t": str}, {"x": NDArray[np.int64]}), model({"x": (-1,)}, {"y": ()})], 1, "onnx", "array INT64"),
    ],
)
def test_wrong_edges_are_named(nodes, stage, key, message):
    """Each fault says which stage, which key, and why."""
    (fault,) = wire(nodes).faults
    assert (fault.stage, fault.key) == (stage, key)
    assert message in fault.message
