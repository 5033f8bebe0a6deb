"""Whatever dtype a stage's values or a model's outputs have is answered, by plain JSON and by v2,
or refused as the author's error.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import LoadError
from runtime.execution.function import Function
from runtime.http.asgi import AsgiApp
from runtime.http.function_handler import FunctionHandler
from runtime.onnx.model_info import inspect_model
from runtime.protocol import tensor_codec
from runtime.protocol.json_text import dumps
from runtime.settings import Settings
from tests import onnx_models

HERE = sys.modules[__name__]
NUMBERS = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "longlong",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "ulonglong",
]
FLOATS = ["float16", "float32", "float64"]
TEXTS = ["str_", "object_"]
NONE = ["complex64", "complex128", "longdouble", "datetime64[D]", "timedelta64[s]"]
"""Of which JSON has no form, and the protocol no datatype."""


@dataclasses.dataclass
class Held:
    """A value in a dataclass."""

    value: Any


def filled(dtype: str, rank: int) -> Any:
    """An array of that rank, and not all of one value."""
    shape = (2, 3, 2)[:rank]
    if dtype in TEXTS:
        return np.full(shape, "é", np.dtype(getattr(np, dtype)) if dtype == "object_" else "U3")
    kind = (
        np.dtype(dtype)
        if "64[" in dtype
        else np.dtype(getattr(np, dtype if dtype != "bool" else "bool_"))
    )
    array = np.ones(shape, np.int64).astype(kind)
    if rank:
        array.reshape(-1)[0] = 0
    return array


made: list[Any] = [None]
"""What the stage gives next."""


def give(n: int) -> dict[str, Any]:
    """The value in every place that it may have."""
    value = made[0]
    scalar = value.reshape(-1)[0]
    return {
        "v": value,
        "scalar": scalar,
        "list": [value, scalar],
        "in": {"a": [{"b": value}]},
        "held": Held(value),
        "tuple": (scalar,),
    }


class Answer(TypedDict):
    """With the type of each array left open."""

    v: np.ndarray


def give_tensor(n: int) -> Answer:
    """The value by itself."""
    return {"v": made[0]}


def called(
    work: Callable[[httpx.AsyncClient], Awaitable[None]],
    tmp_path: Any,
    graph: list[dict[str, Any]],
    **args: Any,
) -> None:
    """Loads a function and calls it."""

    async def main() -> None:
        spec = FunctionSpec.from_args("f", "/f", {"graph": graph, **args})
        function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))
        app = AsgiApp(FunctionHandler(function))

        async def mounted(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "root_path": "/f"}, receive, send)

        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(mounted), base_url="http://test"
        ) as client:
            await work(client)
        await function.close(5)

    asyncio.run(main())


def python(stage: str) -> list[dict[str, Any]]:
    """A graph of one stage of this module."""
    return [{"stage": "s", "python": f"{__name__}:{stage}"}]


async def infer(
    client: httpx.AsyncClient, *, binary: bool, rows: int = 1
) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Status, message, and the outputs' values by name."""
    body = {
        "inputs": [{"name": "n", "datatype": "INT64", "shape": [rows], "data": [1] * rows}],
        "parameters": {"binary_data_output": binary},
    }
    answer = await client.post("/f/infer", json=body)
    length = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    message = json.loads(answer.content[:length])
    values, at = {}, length
    for output in message.get("outputs", ()):
        if binary:
            size = output["parameters"]["binary_data_size"]
            shape, count = output["shape"], int(np.prod(output["shape"]))
            array = tensor_codec.decode_binary(
                answer.content, at, size, output["datatype"], shape, count, ""
            )
            values[output["name"]] = (
                np.vectorize(bytes.decode)(array).tolist()
                if array.dtype.hasobject
                else array.tolist()
            )
            at += size
        else:
            values[output["name"]] = (
                np.array(output["data"], object).reshape(output["shape"]).tolist()
            )
    return answer.status_code, message, values


def test_every_dtype_is_answered_wherever_it_is(tmp_path):
    """By JSON: as an array of each rank and as a scalar, alone and within lists, objects,
    dataclasses and tuples; by v2 as JSON text.
    """

    async def work(client: httpx.AsyncClient) -> None:
        for dtype in NUMBERS + FLOATS + TEXTS:
            for rank in range(4):
                made[0] = value = filled(dtype, rank)
                plain, scalar = value.tolist(), value.reshape(-1)[0]
                scalar = scalar.item() if isinstance(scalar, np.generic) else scalar
                wanted = {
                    "v": plain,
                    "scalar": scalar,
                    "list": [plain, scalar],
                    "in": {"a": [{"b": plain}]},
                }
                wanted |= {"held": {"value": plain}, "tuple": [scalar]}
                answer = await client.post("/f", json={"n": 1})
                assert (answer.status_code, answer.json()) == (200, wanted), (dtype, rank)
                for binary in (False, True):
                    status, _, values = await infer(client, binary=binary)
                    assert (status, json.loads(values["s"][0])) == (200, wanted), (dtype, rank)

    called(work, tmp_path, python("give"))


def test_every_dtype_is_a_tensor_of_its_datatype(tmp_path):
    """By v2, as JSON and as binary data, and by plain JSON."""
    datatypes = {
        "longlong": "INT64",
        "ulonglong": "UINT64",
        "bool": "BOOL",
        "str_": "BYTES",
        "object_": "BYTES",
    }

    async def work(client: httpx.AsyncClient) -> None:
        for dtype in NUMBERS + FLOATS + TEXTS:
            for rank in range(4):
                made[0] = value = filled(dtype, rank)
                wanted = datatypes.get(dtype) or dtype.upper().replace("FLOAT", "FP")
                answer = await client.post("/f", json={"n": 1})
                assert (answer.status_code, answer.json()) == (200, {"v": value.tolist()}), (
                    dtype,
                    rank,
                )
                for binary in (False, True):
                    status, message, values = await infer(client, binary=binary)
                    assert (status, values.get("v")) == (200, [value.tolist()]), (
                        dtype,
                        rank,
                        binary,
                        message,
                    )
                    assert message["outputs"][0]["datatype"] == wanted

    called(work, tmp_path, python("give_tensor"))


def test_a_dtype_without_a_form_is_the_authors_error(tmp_path):
    """Complex numbers, dates and more than 64 bits: a 500 that names the dtype, by either wire;
    never a wrong number.
    """

    async def work(client: httpx.AsyncClient) -> None:
        for dtype in NONE:
            for rank in range(3):
                made[0] = filled(dtype, rank)
                name = str(made[0].dtype)
                answer = await client.post("/f", json=[{"n": 1}])
                assert (answer.json()[0]["code"], name in answer.json()[0]["error"]) == (
                    "function_failed",
                    True,
                ), (dtype, answer.text)
                status, message, _ = await infer(client, binary=True)
                assert (status, message["code"], name in message["error"]) == (
                    500,
                    "function_failed",
                    True,
                ), (dtype, message)

    called(work, tmp_path, python("give_tensor"))
    called(work, tmp_path, python("give"))


def test_no_number_is_null():
    """NaN and infinities, of every float dtype, in arrays and outside."""
    for dtype in FLOATS:
        array = np.array([np.nan, np.inf, -np.inf, 1], dtype)
        assert json.loads(dumps({"a": array, "b": array[0], "c": [float("nan")]})) == {
            "a": [None, None, None, 1],
            "b": None,
            "c": [None],
        }


def test_bytes_are_base64_text_as_in_a_request():
    """Any bytes, as Python's, as numpy's, and in an array of objects."""
    answer = {
        "a": b"\xff",
        "b": np.bytes_(b"hi"),
        "c": np.array([b"hi", "hi"], object),
        "d": bytearray(b"hi"),
    }
    assert json.loads(dumps(answer)) == {"a": "/w==", "b": "aGk=", "c": ["aGk=", "hi"], "d": "aGk="}


ONNX = {
    name: getattr(TensorProto, name)
    for name in [
        "FLOAT",
        "FLOAT16",
        "DOUBLE",
        "INT8",
        "INT16",
        "INT32",
        "INT64",
        "UINT8",
        "UINT16",
        "UINT32",
        "UINT64",
        "BOOL",
        "STRING",
    ]
}


def outputs_of(path: Any, types: dict[str, int], shapes: dict[str, list[Any]]) -> None:
    """A model whose outputs are its input in each of the types: 0 and 1, in each of the shapes."""
    nodes, outputs = [], {}
    for name, type_ in types.items():
        for label, shape in shapes.items():
            source = "n" if label == "scalar" else "pair"
            nodes.append(helper.make_node("Cast", [source], [f"{name}_{label}"], to=type_))
            outputs[f"{name}_{label}"] = (type_, shape)
    nodes.insert(0, helper.make_node("Unsqueeze", ["n", "axes"], ["column"]))
    nodes.insert(1, helper.make_node("Concat", ["column", "column"], ["pair"], axis=1))
    onnx_models.save(
        path,
        nodes,
        {"n": (TensorProto.INT64, ["rows"])},
        outputs,
        {"axes": np.array([1], np.int64)},
    )


def test_every_output_of_a_model_is_answered(tmp_path):
    """A number and two a row, of every datatype, by JSON, as rows, and by v2 in both forms; with
    nothing but the model declared.
    """
    outputs_of(tmp_path / "m.onnx", ONNX, {"scalar": ["rows"], "pair": ["rows", 2]})

    async def work(client: httpx.AsyncClient) -> None:
        wanted = {}
        for name in ONNX:
            one: Any = {"STRING": "1", "BOOL": True}.get(name, 1)
            wanted |= {f"{name}_scalar": one, f"{name}_pair": [one, one]}
        answer = await client.post("/f", json={"n": 1})
        assert (answer.status_code, answer.json()) == (200, wanted)
        answer = await client.post("/f", json=[{"n": 1}, {"n": 1}])
        assert answer.json() == [wanted, wanted]
        for binary in (False, True):
            status, message, values = await infer(client, binary=binary, rows=2)
            assert (status, values) == (
                200,
                {name: [value, value] for name, value in wanted.items()},
            )
            assert {
                output["name"].split("_")[0]: output["datatype"] for output in message["outputs"]
            } == {
                name: name.replace("FLOAT16", "FP16")
                .replace("FLOAT", "FP32")
                .replace("DOUBLE", "FP64")
                .replace("STRING", "BYTES")
                for name in ONNX
            }

    called(work, tmp_path, [{"stage": "m", "onnx": "m.onnx"}])


def test_an_output_without_a_datatype_is_refused_by_check(tmp_path):
    """BF16 is in the protocol and not in numpy; FP8 is in neither."""
    for name in ("BFLOAT16", "FLOAT8E4M3FN"):
        node = helper.make_node("Cast", ["n"], ["y"], to=getattr(TensorProto, name))
        graph = helper.make_graph(
            [node],
            "test",
            [helper.make_tensor_value_info("n", TensorProto.INT64, ["rows"])],
            [helper.make_tensor_value_info("y", getattr(TensorProto, name), ["rows"])],
        )
        onnx.save(helper.make_model(graph), str(tmp_path / f"{name}.onnx"))
        with pytest.raises(LoadError, match=f"'y' is {name}"):
            inspect_model(tmp_path / f"{name}.onnx")


@pytest.mark.slow  # two seconds of imports
def test_a_classifier_as_sklearn_exports_it_is_answered(tmp_path):
    """Labels are INT64 [rows], of which one is numpy's ``longlong``."""
    sklearn = pytest.importorskip("sklearn.linear_model")
    skl2onnx = pytest.importorskip("skl2onnx")
    types = pytest.importorskip("skl2onnx.common.data_types")
    model = sklearn.LogisticRegression().fit(np.array([[0.0], [1.0], [2.0], [3.0]]), [0, 0, 1, 1])
    proto = skl2onnx.convert_sklearn(
        model, initial_types=[("X", types.FloatTensorType([None, 1]))], options={"zipmap": False}
    )
    (tmp_path / "iris.onnx").write_bytes(proto.SerializeToString())

    async def work(client: httpx.AsyncClient) -> None:
        answer = await client.post("/f", json={"X": [3.0]})
        assert (answer.status_code, answer.json()["label"]) == (200, 1)

    called(work, tmp_path, [{"stage": "iris", "onnx": "iris.onnx"}])
