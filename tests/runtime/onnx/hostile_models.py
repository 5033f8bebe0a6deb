"""Models that are nearly right, each by its number: bytes flipped, cut and spliced, and fields that
say what no exporter writes.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from tests import onnx_models
from tests.company.made import make

SECRET = b"a secret that is no weight"
"""What lies beside the folder of the models, and must not be read."""

SIZES = (0, -1, 1, 2, 65, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
"""Of dimensions, attributes and versions."""

PLACES = (
    *("../secret", "/etc/passwd", "/dev/zero", "/dev/stdin", "sub/../../secret", "./../secret", ""),
    *(".", "..", "w.data", "./w.data", "link", "pipe", "a" * 300, "a\0b", "é", "C:\\secret"),
    *("*/_ORT_MEM_ADDR_/*", "file:///etc/passwd", "/proc/self/environ", "//etc/passwd"),
)
"""Where weights are said to lie."""


@cache
def whole_models() -> Sequence[bytes]:
    """Models that are right, as they are saved."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        made = [
            onnx_models.double(folder / "a.onnx"),
            onnx_models.double(folder / "b.onnx", (2, 2)),
            onnx_models.masked_mean(folder / "c.onnx"),
        ]
        found = [path.read_bytes() for path in made]
    found += [make(seed).model for seed in range(12)]
    return [*found, _branching().SerializeToString(), outside("w.data").SerializeToString()]


def hostile_model(seed: int) -> bytes:
    """The model of a number; the same each time."""
    random = Random(seed)
    data = random.choice(whole_models())
    if random.random() < 0.45:
        return _damaged(random, data)
    model = onnx.ModelProto.FromString(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        random.choice(CHANGES)(random, model)
    changed: bytes = model.SerializeToString()
    return changed + field(7, changed[:0]) if random.random() < 0.05 else changed


def _damaged(random: Random, data: bytes) -> bytes:
    damaged, other = bytearray(data), random.choice(whole_models())
    for _ in range(random.choice((1, 1, 3, 20))):
        at, to = sorted(random.randint(0, len(damaged)) for _ in range(2))
        match random.randrange(6):
            case 0 if at < len(damaged):
                damaged[at] ^= 1 << random.randrange(8)
            case 1:
                del damaged[at:]
            case 2:
                damaged[at:] = other[random.randrange(len(other)) :]
            case 3:
                damaged[at:at] = damaged[at:to]
            case 4:
                damaged[at:at] = random.randbytes(random.choice((1, 8)))
            case _:
                damaged[at:at] = b"\xff" * random.choice((1, 9, 10))
    return bytes(damaged)


def _nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return list(_all_nodes(model.graph))


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_nodes(attribute.g)


def _values(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.output] or [model.graph.input.add()]


def _change_dims(random: Random, model: onnx.ModelProto) -> None:
    shape = random.choice(_values(model)).type.tensor_type.shape
    match random.randrange(4):
        case 0 if shape.dim:
            random.choice(shape.dim).dim_value = random.choice(SIZES)
        case 1:
            for _ in range(random.choice((1, 65, 3000))):
                shape.dim.add().dim_value = random.choice(SIZES)
        case 2 if shape.dim:
            random.choice(shape.dim).dim_param = random.choice(("", "n", "é\0", "a" * 5000))
        case _:
            del shape.dim[:]


def _change_kind(random: Random, model: onnx.ModelProto) -> None:
    value = random.choice(_values(model))
    value.type.tensor_type.elem_type = random.choice((*range(30), 2**31 - 1))


def _change_names(random: Random, model: onnx.ModelProto) -> None:
    nodes = _nodes(model)
    names = [name for node in nodes for name in (*node.input, *node.output)] or ["x"]
    node = random.choice(nodes) if nodes else model.graph.node.add()
    match random.randrange(5):
        case 0 if node.input:
            node.input[random.randrange(len(node.input))] = random.choice(names)
        case 1 if node.output:
            node.output[random.randrange(len(node.output))] = random.choice(names)
        case 2:
            del node.input[:]
        case 3:
            node.input.extend(random.choices(names, k=random.choice((1, 300))))
        case _:
            random.choice(_values(model)).name = random.choice([*names, "", "a" * 5000])


def _change_operator(random: Random, model: onnx.ModelProto) -> None:
    for node in random.sample(nodes := _nodes(model), min(1, len(nodes))):
        node.op_type = random.choice(OPERATORS)
        if random.random() < 0.2:
            node.domain = random.choice(("com.microsoft", "ai.onnx.ml", "evil", "é"))


OPERATORS = (
    *("Neg", "Squeeze", "Identity", "Loop", "If", "Scan", "ConstantOfShape", "Reshape", "Expand"),
    *("Tile", "EPContext", "Softmax", "Gather", "Conv", "LSTM", "Resize", "Upsample", "Einsum", ""),
    *("OptionalGetElement", "SequenceAt", "StringSplit", "Nothing", "Pad", "Range", "TopK"),
)


def _change_attribute(random: Random, model: onnx.ModelProto) -> None:
    nodes = _nodes(model)
    if not nodes:
        return
    attributes = random.choice(nodes).attribute
    attribute = random.choice(list(attributes)) if attributes else attributes.add()
    attribute.name = attribute.name or random.choice(("axis", "axes", "keepdims", "value", "perm"))
    match random.randrange(5):
        case 0:
            attribute.i = random.choice(SIZES)
            attribute.type = onnx.AttributeProto.INT
        case 1:
            attribute.ints.extend(random.choices(SIZES, k=random.choice((1, 5, 2000))))
            attribute.type = onnx.AttributeProto.INTS
        case 2:
            attribute.s = random.choice((b"", b"\xff", b"a" * 5000))
            attribute.type = onnx.AttributeProto.STRING
        case 3:
            attribute.f = random.choice((float("nan"), float("inf"), -1e38))
            attribute.type = onnx.AttributeProto.FLOAT
        case _:
            attribute.type = random.randrange(15)


def _change_weights(random: Random, model: onnx.ModelProto) -> None:
    tensors = list(model.graph.initializer) or [model.graph.initializer.add()]
    tensor = random.choice(tensors)
    match random.randrange(5):
        case 0:
            del tensor.dims[:]
            tensor.dims.extend(random.choices(SIZES, k=random.choice((1, 2, 3, 70, 5000))))
        case 1:
            tensor.data_type = random.choice((*range(30), 2**31 - 1))
        case 2:
            tensor.raw_data = random.randbytes(random.choice((0, 1, 7, 4096)))
        case 3:
            tensor.int64_data.extend(random.choices(SIZES, k=random.choice((1, 500))))
        case _:
            tensor.name = random.choice(("", "x", "y", "a" * 5000))


def _move_weights(random: Random, model: onnx.ModelProto) -> None:
    """Weights in a file, of the graph, of a node, of a node's graph, of a function, or sparse."""
    tensor = TensorProto(name=f"w{random.random()}", data_type=1, dims=[2])
    set_place(tensor, random.choice(PLACES), random)
    node = helper.make_node("Constant", [], [tensor.name], value=tensor)
    match random.randrange(6):
        case 0 if model.graph.initializer:
            name, place = model.graph.initializer[0].name, model.graph.initializer[0]
            place.CopyFrom(tensor)
            place.name = name
        case 1:
            model.graph.node.insert(0, node)
        case 2:
            inner = helper.make_graph([], "inner", [], [], [tensor])
            branch = helper.make_node("If", ["b"], ["c"], then_branch=inner, else_branch=inner)
            model.graph.node.append(branch)
        case 3:
            function = model.functions.add(name="F", domain="evil")
            function.node.append(node)
            function.opset_import.add(version=17)
            function.output.append(tensor.name)
        case 4:
            sparse = model.graph.sparse_initializer.add(dims=[10])
            sparse.values.CopyFrom(tensor)
            sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0, 1]), "i"))
        case _:
            model.graph.initializer.append(tensor)


def set_place(tensor: TensorProto, place: str, random: Random | None = None) -> None:
    """Has a tensor say that its numbers lie in a file."""
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": place}
    if random is not None and random.random() < 0.4:
        odd = str(random.choice((*SIZES, "a", "", 2**70)))
        entries[random.choice(("offset", "length", "checksum", "x"))] = odd
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def _deepen(random: Random, model: onnx.ModelProto) -> None:
    """Graphs within graphs."""
    graph = copy.deepcopy(model.graph)
    for level in range(random.choice((1, 3, 20, 28))):
        try:
            node = helper.make_node("If", ["b"], [f"d{level}"], then_branch=graph)
        except DecodeError:  # protobuf itself goes no deeper
            break
        graph = onnx.GraphProto(name="g", node=[node])
    model.graph.node.extend(graph.node)


def _change_versions(random: Random, model: onnx.ModelProto) -> None:
    if random.random() < 0.5 and model.opset_import:
        random.choice(model.opset_import).version = random.choice(SIZES)
    else:
        model.ir_version = random.choice(SIZES)


def _double_graph(random: Random, model: onnx.ModelProto) -> None:
    """All parts of the graph twice."""
    model.graph.MergeFrom(copy.deepcopy(model.graph))


def _empty(random: Random, model: onnx.ModelProto) -> None:
    part = random.choice(("node", "input", "output", "initializer"))
    model.graph.ClearField(part)


CHANGES: Sequence[Callable[[Random, onnx.ModelProto], None]] = (
    *(_change_dims, _change_kind, _change_names, _change_names, _change_operator),
    *(_change_attribute, _change_weights, _move_weights, _move_weights, _deepen),
    *(_change_versions, _double_graph, _empty),
)


def _branching() -> onnx.ModelProto:
    """y = x, or -x."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["x"], [name])], name, [], [_info(name)]
        )
        for name, operator in (("then", "Identity"), ("else", "Neg"))
    }
    total = helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0)
    is_true = helper.make_node("Cast", ["s"], ["b"], to=TensorProto.BOOL)
    node = helper.make_node("If", ["b"], ["y"], **branches)
    return model_of([total, is_true, node], [])


def outside(place: str) -> onnx.ModelProto:
    """y = x + w, where w says that it lies in a file."""
    tensor = TensorProto(name="w", data_type=1, dims=[2])
    set_place(tensor, place)
    return model_of([helper.make_node("Add", ["x", "w"], ["y"])], [tensor])


def model_of(nodes: Sequence[Any], weights: Sequence[Any] = ()) -> onnx.ModelProto:
    """A model of x and y, both [n, 2], that nothing has checked."""
    graph = helper.make_graph(list(nodes), "g", [_info("x")], [_info("y")], list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _info(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2])


def write_folder(folder: Path) -> Path:
    """A folder for models with what some of them name beside them: weights, a link that leads out, a
    pipe that nothing writes to; and the secret beside it.
    """
    models = folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    (folder / "secret").write_bytes(SECRET)
    (models / "w.data").write_bytes(np.float32([1, 2]).tobytes())
    (models / "link").symlink_to(folder / "secret")
    os.mkfifo(models / "pipe")
    return models


def field(number: int, data: bytes) -> bytes:
    """A message as a field of another."""
    size, rest = b"", len(data)
    while rest > 0x7F:
        size, rest = size + bytes([rest & 0x7F | 0x80]), rest >> 7
    tag = number << 3 | 2
    head = bytes([tag]) if tag < 0x80 else bytes([tag & 0x7F | 0x80, tag >> 7])
    return head + size + bytes([rest]) + data
