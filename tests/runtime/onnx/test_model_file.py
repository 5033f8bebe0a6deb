"""What is read of a model's file without ``onnx`` is what ``onnx`` reads of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from runtime.errors import LoadError
from runtime.onnx.model_file import DATA_TYPES, MAX_DEPTH, read_interface, weights_of
from tests import onnx_models
from tests.problems import expect_values


def described(values):
    """Of onnx's own messages."""
    for value in values:
        tensor = value.type.tensor_type
        dims = [
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
            for dim in tensor.shape.dim
        ]
        name = TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type else ""
        yield value.name, name, tuple(dims)


def assert_alike(path: Path) -> None:
    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    found = [
        [(value.name, value.element, value.dims) for value in values]
        for values in read_interface(path)
    ]
    assert found == [list(described(inputs)), list(described(graph.output))]


@pytest.mark.models
def test_the_models_of_the_lock(models):
    """All that are pulled, and their prepared forms with weights outside."""
    files = [file for file in models.rglob("*.onnx") if ".fp32" not in file.name]
    assert len(files) > 10
    for file in files:
        assert_alike(file)


@pytest.mark.parametrize("number", range(1, len(DATA_TYPES)))
def test_every_type_of_elements(number, tmp_path):
    """By onnx's names; those of a newer ONNX by number."""
    path = written(tmp_path, [helper.make_tensor_value_info("x", number, ["rows", 2])])
    ((value,), _) = read_interface(path)
    assert value.element == TensorProto.DataType.Name(number)


def test_shapes(tmp_path):
    """Sizes, names, a size of 0 and below it, nothing at all, a scalar, no shape."""
    shapes = [["rows", 3, None], [0, -1], [], None, ["ünïcode"]]
    path = written(
        tmp_path,
        [
            helper.make_tensor_value_info(f"x{index}", TensorProto.FLOAT, shape)
            for index, shape in enumerate(shapes)
        ],
    )
    assert_alike(path)
    assert [value.dims for value in read_interface(path)[0]] == [
        ("rows", 3, None),
        (0, -1),
        (),
        (),
        ("ünïcode",),
    ]


def test_what_is_no_tensor(tmp_path):
    """Sequences and optionals have no type of elements."""
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    kinds = [helper.make_sequence_type_proto(tensor), helper.make_optional_type_proto(tensor)]
    path = written(
        tmp_path, [helper.make_value_info(f"x{i}", kind) for i, kind in enumerate(kinds)]
    )
    assert [value.element for value in read_interface(path)[0]] == ["", ""]


def test_weights_that_are_inputs_too(tmp_path):
    """Of ONNX's first versions: no inputs of the model."""
    path = onnx_models.save(
        tmp_path / "m.onnx",
        [helper.make_node("Add", ["x", "w"], ["y"])],
        {"x": (onnx_models.FLOAT, [2]), "w": (onnx_models.FLOAT, [2])},
        {"y": (onnx_models.FLOAT, [2])},
        {"w": np.float32([1, 2])},
    )
    assert [value.name for value in read_interface(path)[0]] == ["x"]


def test_files_of_weights_at_any_depth(tmp_path):
    """Of the graph, of a constant, and of a branch within a branch."""
    inner = helper.make_graph(
        [constant("c")], "inner", [], [info("c")], [external("inner.bin", "i")]
    )
    outer = helper.make_graph(
        [branch(inner), constant("d", external("constant.bin", "v"))], "outer", [], [info("d")]
    )
    path = written(tmp_path, [info("x")], [branch(outer)], [external("top.bin", "w")])
    names = ["constant.bin", "inner.bin", "top.bin"]
    assert weights_of(path) == [tmp_path / name for name in names]
    assert weights_of(onnx_models.double(tmp_path / "n.onnx")) == []


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"", ["empty"]),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", ["`git lfs pull`"]),
        (b"\x08\x01", ["no graph"]),
        (b"no model", ["text"]),
        (b"\x0e\x00", ["wire type 6"]),
        (b"\x3a\x05ab", ["within a field"]),
        (b"\x3a", ["text"]),
        (b"\x3a\x80", ["within a number"]),
        (b"\x08" + b"\xff" * 11, ["64 bits"]),
        (b"\x3a\xf5" + b"\xff" * 8 + b"\x01", ["length", "below 0"]),
        (b"\x38\x01", ["field 7"]),
        (b"\x3a\x00", ["no outputs"]),
    ],
)
def test_what_is_no_model(data, values, tmp_path):
    """Refused by name."""
    expect_values(refused(tmp_path, data), str(tmp_path / "m.onnx"), *values)


def refused(folder: Path, data: bytes) -> LoadError:
    """The error of a file that is no model."""
    path = folder / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(LoadError) as caught:
        read_interface(path)
    return caught.value


def test_a_file_that_cannot_be_read(tmp_path):
    """A folder, for one."""
    with pytest.raises(LoadError, match="cannot be read"):
        read_interface(tmp_path)


def test_graphs_too_deep(tmp_path):
    """Refused before Python's own limit."""
    graph = helper.make_graph([], "g", [], [], [external("w.bin", "w")])
    data = graph.SerializeToString()
    for _ in range(MAX_DEPTH):
        data = field(1, field(5, field(6, data)))  # of a graph's node its attribute's graph
    path = tmp_path / "m.onnx"
    path.write_bytes(field(7, data))
    with pytest.raises(LoadError, match="graphs in graphs"):
        weights_of(path)


@given(st.binary(max_size=64), st.integers(0, 300), st.integers(0, 255))
def test_any_damage_is_refused_or_read(tmp_path_factory, tail, at, byte):
    """A model that is cut, continued or changed raises nothing else."""
    whole = onnx_models.double(tmp_path_factory.getbasetemp() / "whole.onnx").read_bytes()
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    at %= len(whole)
    for data in (whole[:at] + tail, whole[:at] + bytes([byte]) + whole[at + 1 :]):
        path.write_bytes(data)
        for read in (read_interface, weights_of):
            with contextlib.suppress(LoadError):
                read(path)


def info(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])


def external(location, name):
    """A tensor whose numbers lie in a file."""
    tensor = numpy_helper.from_array(np.float32([1, 2]), name)
    set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def constant(name, value=None):
    return helper.make_node(
        "Constant", [], [name], value=value or numpy_helper.from_array(np.float32([1, 2]))
    )


def branch(graph):
    return helper.make_node("If", ["b"], ["y"], then_branch=graph, else_branch=graph)


def written(folder: Path, inputs, nodes=(), weights=()) -> Path:
    """A model of that graph, not checked: nothing runs it."""
    graph = helper.make_graph(list(nodes), "g", list(inputs), [info("y")], list(weights))
    path = folder / "m.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def field(number: int, data: bytes) -> bytes:
    """A message as a field of another."""
    size, rest = b"", len(data)
    while rest > 0x7F:
        size, rest = size + bytes([rest & 0x7F | 0x80]), rest >> 7
    return bytes([number << 3 | 2]) + size + bytes([rest]) + data
