"""Models that came from a stranger: read, or refused in words, and no other file is read."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from runtime.errors import LoadError
from runtime.onnx.model_file import read_interface, weights_of
from runtime.onnx.model_graph import read_graph
from runtime.onnx.model_info import inspect_model
from runtime.onnx.providers import CPU_PLAN
from runtime.onnx.session import Session, dummy_inputs
from runtime.types.tensors import TensorSpec
from tests.problems import expect_values
from tests.runtime.onnx.hostile_models import (
    PLACES,
    field,
    hostile_model,
    model_of,
    outside,
    set_place,
    write_folder,
)


def read_all(path: Path) -> None:
    """What is read of a model without ONNX Runtime; refusals are words."""
    for read in (inspect_model, read_graph, weights_of):
        with contextlib.suppress(LoadError):
            read(path)


def test_hostile_models_are_read_or_refused(tmp_path):
    """By `check`, which has no session look at them first."""
    models = write_folder(tmp_path)
    for seed in range(100):
        (models / "m.onnx").write_bytes(hostile_model(seed))
        read_all(models / "m.onnx")


@pytest.mark.slow
@pytest.mark.full  # the first hundred of them in the test before
def test_a_thousand_hostile_models_are_opened_or_refused(tmp_path):
    """Each in a process of its own, which ONNX Runtime may end: none hangs, none raises what is no
    refusal, none asks for a file but its own, and none of what is read is the secret.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.onnx.hostile_loads", str(tmp_path), "0", "1000"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["other"] == {}
    assert found["opened"] > 50
    assert found["refused"] > 500


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["graph", "node", "function", "twice", "unknown"])
def test_weights_lie_beside_their_model(how, place, tmp_path):
    """Of a name that leads elsewhere, to a link that does, to what is no file or to none: wherever it
    stands, also where other readers of protobuf put it together of two parts.
    """
    models = write_folder(tmp_path)
    path = models / "m.onnx"
    path.write_bytes(with_weights(how, place))
    if place in ("w.data", "./w.data"):
        assert weights_of(path) == [models / "w.data"]
        return
    with pytest.raises(LoadError) as refused:
        Session(path, CPU_PLAN)
    expect_values(refused.value, str(path))
    assert "secret that" not in refused.value.message


def with_weights(how: str, place: str) -> bytes:
    """y = x + w, where w says that it lies in a file."""
    if how == "graph":
        return outside(place).SerializeToString()
    tensor = TensorProto(name="w", data_type=1, dims=[2])
    set_place(tensor, place)
    add = helper.make_node("Add", ["x", "w"], ["y"])
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    model = model_of([constant, add])
    if how == "function":
        function = model.functions.add(name="F", domain="evil", output=["w"])
        function.node.append(constant)
        function.opset_import.add(version=17)
        model.graph.node[0].CopyFrom(helper.make_node("F", [], ["w"], domain="evil"))
        model.opset_import.add(domain="evil", version=1)
    data = model.SerializeToString()
    if how == "twice":
        # two graphs are one to protobuf, also where nothing is in the second
        return outside(place).SerializeToString() + field(7, b"")
    if how == "unknown":
        # a location of a later ONNX behind the known one, which others skip
        whole = outside(place)
        inner = whole.graph.initializer[0].SerializeToString() + b"\x70\x02"
        whole.graph.ClearField("initializer")
        graph = whole.graph.SerializeToString() + field(5, inner)
        whole.ClearField("graph")
        return whole.SerializeToString() + field(7, graph)
    return data


def test_a_field_is_not_hidden_by_a_number_with_more_bits(tmp_path):
    """ONNX Runtime drops the bits above 32, and finds weights there."""
    whole = outside("w.data")
    weights = whole.graph.initializer[0].SerializeToString()
    whole.graph.ClearField("initializer")
    hidden = b"\xaa\x80\x80\x80\x10" + field(5, weights)[1:]
    graph = whole.graph.SerializeToString() + hidden
    whole.ClearField("graph")
    path = tmp_path / "m.onnx"
    path.write_bytes(whole.SerializeToString() + field(7, graph))
    with pytest.raises(LoadError) as refused:
        weights_of(path)
    expect_values(refused.value, str(path), "29 bits")


def test_a_circle_of_operators_ends(tmp_path):
    """A model whose answer is what it is made of, and one that is made of nothing."""
    path = tmp_path / "m.onnx"
    squeeze = helper.make_node("Squeeze", ["x"], ["unused"])
    for nodes in (
        [helper.make_node("Neg", ["z"], ["y"]), helper.make_node("Neg", ["y"], ["z"])],
        [helper.make_node("Neg", ["y"], ["y"])],
        [helper.make_node("Neg", [], ["y"])],
    ):
        path.write_bytes(model_of([squeeze, *nodes]).SerializeToString())
        assert inspect_model(path).squeeze == ""


def test_a_file_of_empty_fields_takes_no_more_memory_than_its_size_allows(tmp_path):
    """A megabyte of them made ninety of objects; here it is a part of one."""
    path = tmp_path / "m.onnx"
    path.write_bytes(field(7, b"\x0a\x00" * 20_000 + field(12, b"\x0a\x01y")))
    tracemalloc.start()
    read_interface(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_tensor_with_more_axes_than_an_array_is_refused(tmp_path):
    """Of inputs and of constants: the product of a million sizes has as many digits."""
    model = model_of([helper.make_node("Neg", ["x"], ["y"])])
    for _ in range(20_000):
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 2**40
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(LoadError) as refused:
        read_interface(path)
    expect_values(refused.value, "'x'", "20002", "64")
    constant = TensorProto(name="c", data_type=TensorProto.INT64, dims=[2**40] * 20_000)
    path.write_bytes(
        model_of([helper.make_node("Neg", ["x"], ["y"])], [constant]).SerializeToString()
    )
    with pytest.raises(LoadError, match="axes"):
        read_graph(path)


@pytest.mark.parametrize("shape", [(2**40,), (2**62, 2**62), (0, 2**62, 2), (2**60,) * 64])
def test_made_up_inputs_fit_into_memory_or_are_refused(shape):
    """A model with a fixed size that no machine has."""
    with pytest.raises(LoadError) as refused:
        dummy_inputs([TensorSpec("x", "FP32", shape)], 1, 1)
    expect_values(refused.value, "'x'", str(shape[0]))


def test_made_up_inputs_have_no_more_axes_than_an_array():
    """ONNX Runtime opens a model whose input has thousands."""
    with pytest.raises(LoadError) as refused:
        dummy_inputs([TensorSpec("x", "FP32", (2**40,) * 3000)], 1, 1)
    expect_values(refused.value, "'x'", "3000", "64")
