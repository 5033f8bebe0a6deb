"""What is read of a model's nodes without ``onnx`` is what ``onnx`` reads of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from runtime.errors import LoadError
from runtime.onnx.model_graph import MAX_VALUES, ModelGraph, read_graph
from tests import onnx_models
from tests.company.made import make
from tests.conformance import cases
from tests.problems import expect_values


def assert_alike(found: ModelGraph, wanted: onnx.GraphProto) -> None:
    assert found.outputs == tuple(value.name for value in wanted.output)
    assert set(found.constants) == {tensor.name for tensor in wanted.initializer}
    for tensor in wanted.initializer:
        constant = found.constants[tensor.name]
        assert constant.dims == tuple(tensor.dims)
        if constant.values is not None:
            assert list(constant.values) == numpy_helper.to_array(tensor).ravel().tolist()
    for node, known in zip(found.nodes, wanted.node, strict=True):
        assert node.operator.rpartition(".")[2] == known.op_type
        assert (node.inputs, node.outputs) == (tuple(known.input), tuple(known.output))
        for attribute in known.attribute:
            match attribute.type:
                case onnx.AttributeProto.INT:
                    assert node.numbers[attribute.name] == attribute.i
                case onnx.AttributeProto.INTS:
                    assert node.lists.get(attribute.name, ()) == tuple(attribute.ints)
                case onnx.AttributeProto.STRING:
                    assert node.texts.get(attribute.name, "") == attribute.s.decode()
                case onnx.AttributeProto.GRAPH:
                    assert_alike(node.graphs[attribute.name], attribute.g)


def assert_read(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    graph, model = read_graph(path), onnx.load_from_string(data)
    assert_alike(graph, model.graph)
    assert graph.opset == next(
        (one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0
    )


def test_random_models(tmp_path):
    """With constants, attributes and branches."""
    for seed in range(40):
        assert_read(tmp_path / "m.onnx", make(seed).model)


@pytest.mark.slow
@pytest.mark.full
def test_the_cases_of_onnx(tmp_path):
    """Every third of those that its package generates."""
    count = 0
    for case in itertools.islice(cases.generated(), 0, None, 3):
        assert_read(tmp_path / "m.onnx", case.model)
        count += 1
    assert count > 100


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("count", [0, 1, MAX_VALUES, MAX_VALUES + 1])
@pytest.mark.parametrize("is_raw", [True, False])
def test_constants_of_integers(tmp_path, dtype, count, is_raw):
    """Those that can be axes or shapes, stored either way; of more, the shape alone."""
    values = np.arange(count, dtype=dtype) - 1
    path = onnx_models.double(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model.graph.initializer.append(
        numpy_helper.from_array(values, "k")
        if is_raw
        else onnx.helper.make_tensor("k", kind, values.shape, values.tolist())
    )
    onnx.save(model, str(path))
    constant = read_graph(path).constants["k"]
    assert constant.dims == (count,)
    assert constant.values == (tuple(values.tolist()) if count <= MAX_VALUES else None)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path):
    """With its name."""
    path = tmp_path / "m.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(LoadError) as refused:
        read_graph(path)
    expect_values(refused.value, "m.onnx", "no ONNX model")
