"""Row-wise int8: close to the float model, independent of batch-mates, and right at the edges."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from runtime.onnx.quantization.rowwise import quantize_rows

WIDTH, OUT = 24, 16
WAYS = {
    "rows": {},
    "asymmetric": {"asymmetric": lambda weight: True},
    "channels": {"ranges": {"x": np.full(WIDTH, 4, np.float32)}},
    "seven bits": {"weight_bits": 7},
}


def dense(opset=21, *, activation="", bias=True, seed=0):
    """y = activation(x) @ w (+ b), x float32 [rows, tokens, 24]."""
    random = np.random.default_rng(seed)
    weight = random.integers(-127, 128, (WIDTH, OUT)) / 127
    weight[0] = 1  # so that 8 bits hold the weight exactly, and errors are the activation's
    constants = {"w": weight, "b": random.normal(size=OUT)}
    nodes = [helper.make_node(activation, ["x"], ["a"])] if activation else []
    nodes.append(
        helper.make_node("MatMul", ["a" if activation else "x", "w"], ["p" if bias else "y"])
    )
    nodes += [helper.make_node("Add", ["p", "b"], ["y"])] if bias else []
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", "tokens", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", "tokens", OUT])],
        [
            numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in constants.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(model, **feeds):
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, feeds
    )[0]


def normal(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("way", WAYS)
def test_close_to_the_float_model(way, opset):
    """Every way of rounding is within a few hundredths, in every operator set."""
    model, x = dense(opset), normal(3, 5, WIDTH)
    exact, rounded = run(model, x=x), run(quantize_rows(model, **WAYS[way]), x=x)
    assert np.abs(rounded - exact).max() < (0.3 if way == "seven bits" else 0.15)


@pytest.mark.parametrize("way", WAYS)
def test_a_row_does_not_depend_on_its_batch_mates(way):
    """A row's numbers are the same alone, between others a thousand times larger, and padded."""
    quantized = quantize_rows(dense(), **WAYS[way])
    alone, loud = normal(1, 4, WIDTH), 1000 * normal(2, 4, WIDTH, seed=2)
    wanted = run(quantized, x=alone)[0]
    assert np.abs(run(quantized, x=np.concatenate([loud, alone]))[2] - wanted).max() < 1e-5
    padded = np.pad(alone, ((0, 0), (0, 7), (0, 0)), constant_values=99)
    assert np.abs(run(quantized, x=padded)[0, :4] - wanted).max() < 1e-5


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("way", WAYS)
def test_a_row_of_zeros_gives_the_bias(way, opset):
    """Its scale is 0, and 0/0 harms nothing."""
    model = dense(opset)
    bias = numpy_helper.to_array(model.graph.initializer[1])
    assert (
        np.abs(
            run(quantize_rows(model, **WAYS[way]), x=np.zeros((1, 1, WIDTH), np.float32))[0, 0]
            - bias
        ).max()
        < 1e-5
    )


def test_a_floor_doubles_the_resolution_of_one_sided_values():
    """What follows a Relu or Gelu is counted from its floor, and comes closer than around zero."""
    x = normal(64, 1, WIDTH)
    for activation in ("Relu", "Gelu"):
        model = dense(activation=activation)
        plain = onnx.ModelProto()
        plain.CopyFrom(model)
        # hides where the values come from
        plain.graph.node.insert(1, helper.make_node("Identity", ["a"], ["hidden"]))
        plain.graph.node[2].input[0] = "hidden"
        exact = run(model, x=x)
        errors = [np.abs(run(quantize_rows(each), x=x) - exact).mean() for each in (model, plain)]
        assert errors[0] < 0.6 * errors[1]


def test_a_value_beyond_its_range_is_cut_off():
    """A channel of 9 counts as the 4 of its range, a channel within it as what it is."""
    x = np.zeros((1, 1, WIDTH), np.float32)
    x[..., 5], x[..., 6] = 9, 4
    quantized = quantize_rows(dense(), **WAYS["channels"])
    assert np.allclose(run(quantized, x=x), run(dense(), x=np.minimum(x, 4)), atol=1e-5)


def test_a_bias_joins_only_where_nothing_else_reads_the_product():
    """A product that is also an output, or shared, keeps its own name and value."""
    model = dense()
    model.graph.output.append(
        helper.make_tensor_value_info("p", TensorProto.FLOAT, ["rows", "tokens", OUT])
    )
    quantized = quantize_rows(model)
    x = normal(1, 2, WIDTH)
    session = ort.InferenceSession(
        quantized.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    y, product = session.run(None, {"x": x})
    assert np.allclose(product + numpy_helper.to_array(model.graph.initializer[1]), y, atol=1e-5)


def test_without_a_bias():
    """The product alone is the output."""
    model, x = dense(bias=False), normal(2, 2, WIDTH)
    for way in WAYS.values():
        assert np.abs(run(quantize_rows(model, **way), x=x) - run(model, x=x)).max() < 0.3


def test_the_model_given_stays_as_it_is():
    """A copy is changed, and the float weight is not in it any more."""
    model = dense()
    before = model.SerializeToString()
    quantized = quantize_rows(model)
    assert model.SerializeToString() == before
    assert "w" not in {tensor.name for tensor in quantized.graph.initializer}


def table(rows):
    """y = table[ids]."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        "table",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", WIDTH])],
        [numpy_helper.from_array(normal(rows, WIDTH), "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_large_tables_shrink_to_a_quarter():
    """Each row of an int8 table has its own scale; small tables and other uses stay."""
    model, ids = table(4096), np.arange(0, 4096, 7)
    quantized = quantize_rows(model, embeddings=True)
    assert quantized.ByteSize() < 0.3 * model.ByteSize()
    assert np.abs(run(quantized, ids=ids) - run(model, ids=ids)).max() < 0.02
    assert quantize_rows(table(100), embeddings=True).graph.node[0].op_type == "Gather"
    assert len(quantize_rows(model).graph.node) == 1


@settings(max_examples=60)
@given(
    x=arrays.arrays(np.float32, (2, 1, WIDTH), elements=st.floats(-1e6, 1e6, width=32)),
    way=st.sampled_from(["rows", "asymmetric"]),
)
def test_the_error_is_bounded_by_the_row_itself(x, way):
    """Half a step of each input times its weight, whatever the numbers."""
    model = dense(bias=False)
    weight = np.abs(numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64))
    error = np.abs(
        run(quantize_rows(model, **WAYS[way]), x=x).astype(np.float64) - run(model, x=x)
    )[:, 0]
    rows = np.abs(x[:, 0].astype(np.float64))
    steps = (np.ptp(x[:, 0], axis=1) / 255 if way == "asymmetric" else rows.max(1) / 127)[:, None]
    # float32's own, in the sums that are compared
    floats = 1e-6 * WIDTH * rows.max(1, keepdims=True) * weight.max()
    assert (error <= 1.01 * steps / 2 * weight.sum(0) + floats + 1e-30).all()
