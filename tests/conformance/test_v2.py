"""The Open Inference Protocol and Triton's binary extension, corner by corner, by a codec that is
not ours and by tritonclient.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from onnx import helper

from runtime.declaration.function_spec import FunctionSpec
from tests import onnx_models, serving, sleepers
from tests.conformance.v2 import HEADER, LETTERS, Tensor, request, response

EXTENSIONS = ["binary_tensor_data", "model_configuration", "statistics", "model_repository"]

DATATYPES = (*LETTERS, "BYTES")
ONNX = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING"}
SINGLE = {"FP16": 65504.0, "FP32": 3.4028234663852886e38, "FP64": 1.7976931348623157e308}

Call = Callable[..., httpx.Response]


def elements(datatype: str, count: int, form: str) -> list[Any]:
    """So many, the extremes of the datatype among them; what JSON cannot carry only in binary."""
    if datatype == "BOOL":
        some: list[Any] = [True, False]
    elif datatype == "BYTES":
        some = ["é", "", "a\x00b", "日本"]
    elif datatype in SINGLE:
        some = [0.5, -0.0, SINGLE[datatype], -1.25, 6.103515625e-05]
        some += [math.inf, -math.inf] if form == "binary" else []
    else:
        bits = int(datatype.lstrip("UINT"))
        some = (
            [0, 2**bits - 1] if datatype[0] == "U" else [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0]
        )
    return [some[index % len(some)] for index in range(count)]


def declared(root: Path) -> dict[str, dict[str, Any]]:
    """Functions by name: a model that gives what it takes for each datatype, one without rows, and
    stages.
    """
    functions: dict[str, dict[str, Any]] = {}
    for datatype in DATATYPES:
        kind = getattr(onnx.TensorProto, ONNX.get(datatype, datatype))
        shape = (kind, ["rows", "n"])
        onnx_models.save(
            root / f"{datatype}.onnx",
            [helper.make_node("Identity", ["x"], ["y"])],
            {"x": shape},
            {"y": shape},
        )
        functions[datatype] = {"onnx": f"{datatype}.onnx"}
    whole = (onnx.TensorProto.FLOAT, [2, 3])
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
    ]
    onnx_models.save(
        root / "whole.onnx", nodes, {"x": whole}, {"y": whole, "sum": (onnx.TensorProto.FLOAT, [])}
    )
    functions["whole"] = {"onnx": "whole.onnx"}
    for name in ("add", "count", "say", "spoil"):
        functions[name] = {"graph": [{"stage": name, "python": f"tests.conformance.stages:{name}"}]}
    return functions


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """``call(name, body, headers)`` of the functions in process, by ASGI; or ``call(url)``, a GET."""
    root = tmp_path_factory.mktemp("v2")
    specs = [
        FunctionSpec.from_args(name, f"/v2/models/{name}", args)
        for name, args in declared(root).items()
    ]
    with asyncio.Runner() as runner:
        manager = sleepers.serving(root, *specs)
        served = runner.run(manager.__aenter__())

        def ask(
            name: str,
            body: bytes | None = None,
            headers: dict[str, str] | None = None,
            route: str = "/infer",
        ) -> httpx.Response:
            if body is None:
                return runner.run(served.client.get(name))
            return runner.run(
                served.client.post(f"/v2/models/{name}{route}", content=body, headers=headers)
            )

        yield ask
        runner.run(manager.__aexit__(None, None, None))


def answered(answer: httpx.Response) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A good answer, read by the other codec."""
    assert answer.status_code == 200, answer.text
    return response(answer.content, answer.headers)


def same(found: Sequence[Any], wanted: Sequence[Any]) -> bool:
    """Element by element, the sign of zero too."""
    texts = [one.decode() if isinstance(one, bytes) else one for one in found]
    return list(map(repr, texts)) == list(map(repr, wanted))


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("form", ["flat", "nested", "binary"])
@pytest.mark.parametrize("is_binary", [False, True])
def test_every_datatype_comes_back_as_it_went(
    call: Call, datatype: str, form: str, is_binary: bool
) -> None:
    """In each form of request and of answer, of several shapes; FP16 has no form in JSON requests."""
    for shape in ((2, 3), (1, 5), (3, 1), (2, 0)):
        sent = Tensor("x", datatype, shape, elements(datatype, math.prod(shape), form))
        answer = call(
            datatype, *request([sent], form, id="r-1", parameters={"binary_data_output": is_binary})
        )
        if datatype == "FP16" and form != "binary":
            assert (answer.status_code, answer.json()["where"]) == (400, "inputs[0].data")
            assert "binary" in answer.json()["error"]
            continue
        head, outputs = answered(answer)
        assert (head["model_name"], head["model_version"], head["id"]) == (datatype, "1", "r-1")
        assert (
            (HEADER.lower() in answer.headers)
            == is_binary
            == (answer.headers["content-type"] == "application/octet-stream")
        )
        wanted = [
            None if one in (math.inf, -math.inf) and not is_binary else one for one in sent.elements
        ]  # JSON has no word for them
        assert (outputs["y"].datatype, outputs["y"].shape) == (datatype, shape)
        assert same(outputs["y"].elements, wanted)


def test_the_metadata_of_a_function_is_what_it_does(call: Call) -> None:
    """Server, model metadata and readiness, by version too; the extensions are those that are
    served.
    """
    server = call("/v2").json()
    assert (server["name"], server["extensions"]) == ("wakeful", EXTENSIONS)
    metadata = call("/v2/models/INT8").json()
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "x", "datatype": "INT8", "shape": [-1, -1]}]
    assert metadata["outputs"] == [{"name": "y", "datatype": "INT8", "shape": [-1, -1]}]
    assert call("/v2/models/INT8/versions/1").json() == metadata
    assert call("/v2/models/INT8/ready").json()["ready"] is True
    assert call("/v2/models/INT8/versions/2/ready").status_code == 404
    body, headers = request([Tensor("x", "INT8", (1, 1), [5])])
    assert answered(call("INT8", body, headers, "/versions/1/infer"))[1]["y"].elements == [5]
    assert call("INT8", body, headers, "/versions/2/infer").status_code == 404


X = Tensor("x", "FP32", (2, 3), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])


def test_outputs_come_as_they_are_requested(call: Call) -> None:
    """Those, in that order, each in its own form; none requested is all; a model without rows
    answers a scalar.
    """
    outputs = [{"name": "sum", "parameters": {"binary_data": True}}, {"name": "y"}]
    head, found = answered(call("whole", *request([X], "binary", outputs)))
    assert [(output["name"], "data" in output) for output in head["outputs"]] == [
        ("sum", False),
        ("y", True),
    ]
    assert (found["sum"].shape, found["sum"].elements, found["y"].elements) == (
        (),
        [21.0],
        X.elements,
    )
    assert "id" not in head
    default = {"binary_data_output": True}
    head, found = answered(
        call(
            "whole",
            *request(
                [X],
                "flat",
                [{"name": "y", "parameters": {"binary_data": False}}],
                parameters=default,
            ),
        )
    )
    assert [("data" in output) for output in head["outputs"]] == [True]
    head, found = answered(call("whole", *request([X], "nested", parameters=default)))
    assert (list(found), [("data" in output) for output in head["outputs"]]) == (
        ["y", "sum"],
        [False, False],
    )
    assert list(answered(call("whole", *request([X], outputs=[{"name": "sum"}])))[1]) == ["sum"]
    body, headers = request([X])
    assert list(
        answered(call("whole", body.replace(b'"inputs"', b'"outputs": [], "inputs"'), headers))[1]
    ) == ["y", "sum"]


def test_json_and_binary_inputs_go_together(call: Call) -> None:
    """And bytes follow the JSON in the order of the inputs that have any."""
    x, y = Tensor("x", "FP32", (1, 2), [1.0, 2.0]), Tensor("y", "FP32", (1, 2), [10.0, 20.0])
    body, headers = request([x], "binary")
    length = int(headers[HEADER])
    head = json.loads(body[:length])
    head["inputs"].insert(0, {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [10, 20]})
    text = json.dumps(head).encode()
    assert answered(call("add", text + body[length:], headers | {HEADER: str(len(text))}))[1][
        "add"
    ].elements == [11.0, 22.0]
    assert answered(call("add", *request([y, x], "binary")))[1]["add"].elements == [11.0, 22.0]


@pytest.mark.parametrize("form", ["flat", "binary"])
def test_optional_inputs_may_be_left_out(call: Call, form: str) -> None:
    """One of two, or all of them: the stage's default is taken, as by JSON rows."""
    x = Tensor("x", "FP32", (2, 2), [1.0, 2.0, 3.0, 4.0])
    assert answered(call("add", *request([x], form)))[1]["add"].elements == x.elements
    assert answered(call("count", *request([x], form)))[1]["count"].elements == [1, 1]
    assert answered(call("count", *request([], form)))[1]["count"].elements == [0]
    missing = call("add", *request([Tensor("y", "FP32", (1, 1), [1.0])], form))
    assert (missing.status_code, missing.json()["code"]) == (400, "missing_input")


SAYS = [
    Tensor("flag", "BOOL", (2,), [True, False]),
    Tensor("number", "INT64", (2,), [-(2**63), 2**63 - 1]),
    Tensor("ratio", "FP64", (2,), [0.1, -0.0]),
    Tensor("text", "BYTES", (2,), ["é", ""]),
    Tensor("raw", "BYTES", (2,), ["abc", ""]),
    Tensor("many", "INT64", (2, 2), [1, 2, 3, 4]),
    Tensor("words", "BYTES", (2, 2), ["a", "b", "\x00", ""]),
    Tensor("some", "BYTES", (2,), ['{"k": [1]}', "{}"]),
]


@pytest.mark.parametrize("form", ["flat", "binary"])
def test_every_kind_of_field_has_a_tensor(call: Call, form: str) -> None:
    """Scalars, text, bytes, lists, objects as JSON text; rows are the first axis of each."""
    _, found = answered(call("say", *request(SAYS, form)))
    values = {
        name: [one.decode() if isinstance(one, bytes) else one for one in tensor.elements]
        for name, tensor in found.items()
    }
    assert values == {
        "flag": [True, False], "number": [-(2**63), 2**63 - 1], "ratio": [0.1, -0.0], "text": ["éab", "\x00"], "many": [1, 2, 3, 4],
        "mean": [1.5, 3.5], "size": [3, 0], "keys": ["k", ""],
    }  # fmt: skip
    assert found["many"].shape == (2, 2)


def test_a_stage_cannot_write_into_what_it_is_given(call: Call) -> None:
    """However it came: memory of a body may be another row's, and a batch may be run again."""
    x = Tensor("x", "FP32", (1, 2), [1.0, 2.0])
    errors = [call("spoil", *request([x], form)) for form in ("flat", "nested", "binary")]
    errors.append(call("spoil", b'{"x": [1, 2]}', {"content-type": "application/json"}, ""))
    assert [(answer.status_code, answer.json()["code"]) for answer in errors] == [
        (500, "function_failed")
    ] * 4


def entry(**change: Any) -> dict[str, Any]:
    """An input of ``whole``, changed."""
    return {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]} | change


OUT = [{"name": "y"}]


def parameters_of(**parameters: Any) -> dict[str, Any]:
    """A good request for one output, with parameters of its own."""
    return {"inputs": [entry()], "outputs": [{"name": "y", "parameters": parameters}]}


@pytest.mark.parametrize(
    ("message", "code", "where"),
    [
        ({}, "missing_input", "inputs"),
        ({"inputs": {}}, "malformed_body", "inputs"),
        ({"inputs": []}, "missing_input", "inputs"),
        ({"inputs": [1]}, "malformed_body", "inputs[0]"),
        ({"inputs": [entry(), entry()]}, "malformed_body", "inputs[1].name"),
        ({"inputs": [entry(name="z")]}, "unknown_input", "inputs[0].name"),
        ({"inputs": [entry(name="")]}, "malformed_body", "inputs[0].name"),
        ({"inputs": [entry(datatype="FP64")]}, "wrong_datatype", "inputs[0].datatype"),
        ({"inputs": [entry(datatype="fp32")]}, "wrong_datatype", "inputs[0].datatype"),
        ({"inputs": [entry(datatype="BF16")]}, "wrong_datatype", "inputs[0].datatype"),
        ({"inputs": [entry(shape=[3, 2])]}, "wrong_shape", "inputs[0].shape[0]"),
        ({"inputs": [entry(shape=[6])]}, "wrong_shape", "inputs[0].shape"),
        ({"inputs": [entry(shape=[2, 4])]}, "wrong_shape", "inputs[0].data"),
        ({"inputs": [entry(shape=[-1, 3])]}, "wrong_shape", "inputs[0].shape"),
        ({"inputs": [entry(shape="2,3")]}, "wrong_shape", "inputs[0].shape"),
        ({"inputs": [entry(data=[[1, 2], [3, 4], [5, 6]])]}, "wrong_shape", "inputs[0].data"),
        ({"inputs": [entry(data=[[1, 2, 3], [4, 5]])]}, "wrong_shape", "inputs[0].data[1]"),
        ({"inputs": [entry(data=[1, 2, 3, 4, 5, True])]}, "wrong_datatype", "inputs[0].data[5]"),
        ({"inputs": [entry(data=[1, 2, 3, 4, 5, "6"])]}, "wrong_datatype", "inputs[0].data[5]"),
        ({"inputs": [entry(data=[1, 2, 3, 4, 5, 1e39])]}, "wrong_datatype", "inputs[0].data[5]"),
        ({"inputs": [entry(data=None)]}, "missing_input", "inputs[0].data"),
        ({"inputs": [entry(dat=[])]}, "unknown_input", "inputs[0]"),
        ({"inputs": [entry()], "outputs": [*OUT, *OUT]}, "malformed_body", "outputs[1].name"),
        ({"inputs": [entry()], "outputs": [{"name": "z"}]}, "unknown_input", "outputs[0].name"),
        ({"inputs": [entry()], "outputs": [{"name": "y", "data": []}]}, "unknown_input", "outputs[0]"),
        (parameters_of(binary_data=1), "malformed_body", "outputs[0].parameters.binary_data"),
        (parameters_of(classification=3), "bad_request", "outputs[0].parameters.classification"),
        ({"inputs": [entry(parameters={"shared_memory_region": "r"})]}, "bad_request", "inputs[0].parameters.shared_memory_region"),
        ({"inputs": [entry()], "parameters": {"binary_data_output": "yes"}}, "malformed_body", "parameters.binary_data_output"),
        ({"inputs": [entry()], "parameters": {"timeout": 1.5}}, "malformed_body", "parameters.timeout"),
        ({"inputs": [entry()], "parameters": {"p": []}}, "malformed_body", "parameters"),
        ({"inputs": [entry()], "id": 7}, "bad_request", "id"),
        ({"inputs": [entry()], "input": []}, "unknown_input", ""),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(
    call: Call, message: dict[str, Any], code: str, where: str
) -> None:
    """400 and a path into the request, each time."""
    answer = call("whole", json.dumps(message).encode(), {"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"], answer.json().get("where", "")) == (
        400,
        code,
        where,
    ), answer.text


def test_unknown_parameters_pass(call: Call) -> None:
    """They are the protocol's place for extensions; so do Triton's priority, and a timeout of none."""
    known = {"priority": 1, "timeout": 0, "tone": "warm", "weight": 0.5, "is_it": True}
    assert (
        answered(
            call("whole", *request([X], parameters=known, model_name="whole", model_version="1"))
        )[1]["y"].elements
        == X.elements
    )


BINARY, HEADERS = request([X], "binary")
LENGTH = int(HEADERS[HEADER])
TEXT, FLAG = Tensor("x", "BYTES", (1, 2), ["a", "bc"]), Tensor("x", "BOOL", (1, 1), [True])


def ends_with(tensor: Tensor, cut: int, end: bytes) -> tuple[str, bytes, int]:
    """A request of the tensor's function whose last bytes are others."""
    body, headers = request([tensor], "binary")
    return tensor.datatype, body[:-cut] + end, int(headers[HEADER])


@pytest.mark.parametrize(
    ("name", "body", "length"),
    [
        ("whole", BINARY[:-1], LENGTH),
        ("whole", BINARY + b"\x00", LENGTH),
        ("whole", BINARY, LENGTH - 1),
        ("whole", BINARY, LENGTH + 1),
        ("whole", BINARY, 0),
        ("whole", BINARY, -1),
        ("whole", BINARY, len(BINARY) + 1),
        ("whole", BINARY, 10**30),
        ("whole", BINARY, "x"),
        ("whole", BINARY, None),
        ("whole", BINARY.replace(b'"binary_data_size": 24', b'"binary_data_size": 23'), LENGTH),
        ("whole", BINARY.replace(b'"binary_data_size": 24', b'"binary_data_size": -1'), LENGTH),
        ("whole", BINARY.replace(b'"binary_data_size": 24', b'"binary_data_size":1e2'), LENGTH - 1),
        ends_with(TEXT, 1, b""),
        ends_with(TEXT, 6, b"\xff\xff\xff\xffbc"),
        ends_with(TEXT, 6, b"\x01\x00\x00\x00bc"),
        ends_with(TEXT, 2, b"\xff\xfe"),
        ends_with(FLAG, 1, b"\x02"),
    ],
)  # fmt: skip
def test_lengths_that_do_not_add_up_are_refused(
    call: Call, name: str, body: bytes, length: object
) -> None:
    """Bytes that are missing, left over, of no tensor or of no text: 400, whatever the header says."""
    headers = {"content-type": "application/octet-stream"} | (
        {} if length is None else {HEADER: str(length)}
    )
    answer = call(name, body, headers)
    assert (answer.status_code, answer.json()["code"] != "internal") == (400, True), answer.text


def tensors(datatype: str) -> tuple[np.ndarray, Any]:
    """An array of the datatype, and it as tritonclient's input."""
    array = np.array(
        elements(datatype, 6, "binary"),
        object if datatype == "BYTES" else np.dtype(LETTERS[datatype]),
    ).reshape(2, 3)
    tensor = triton.InferInput("x", [2, 3], datatype)
    tensor.set_data_from_numpy(array, binary_data=True)
    return array, tensor


def equal(found: np.ndarray, sent: np.ndarray) -> bool:
    """Text comes back as bytes."""
    texts = np.array(
        [one.decode() if isinstance(one, bytes) else one for one in found.reshape(-1).tolist()],
        object,
    ).reshape(found.shape)
    return (
        found.shape == sent.shape
        and (texts if sent.dtype == object else found).tolist() == sent.tolist()
    )


@pytest.mark.slow
def test_tritonclient_is_understood_and_understands(tmp_path: Path) -> None:
    """Every datatype over a real server, by its blocking and its asyncio client; what it reads of a
    server is there; errors are its own.
    """
    file = tmp_path / "serve_config.yaml"
    functions = declared(tmp_path)
    file.write_text(json.dumps({"applications": [
        {"name": name, "route_prefix": f"/v2/models/{name}", "import_path": "deployments:function", "args": args}
        for name, args in functions.items()
    ]}))  # fmt: skip

    async def by_asyncio(host: str) -> None:
        async with triton_aio.InferenceServerClient(host) as client:
            for datatype in DATATYPES:
                sent, tensor = tensors(datatype)
                result = await client.infer(
                    datatype, [tensor], outputs=[triton.InferRequestedOutput("y", binary_data=True)]
                )
                assert equal(result.as_numpy("y"), sent), datatype
            assert (await client.get_server_metadata())["extensions"] == EXTENSIONS

    with serving.run(file, root=tmp_path, log=tmp_path / "log") as url:
        host = url.removeprefix("http://")
        client = triton.InferenceServerClient(host)
        for datatype in DATATYPES:
            sent, tensor = tensors(datatype)
            for outputs in (None, [triton.InferRequestedOutput("y", binary_data=True)]):
                assert equal(
                    client.infer(datatype, [tensor], outputs=outputs, request_id="r").as_numpy("y"),
                    sent,
                ), datatype
        with pytest.raises(
            triton.InferenceServerException,
            match="classification",
        ):
            client.infer(
                "FP32",
                [tensors("FP32")[1]],
                outputs=[triton.InferRequestedOutput("y", class_count=2)],
            )
        with pytest.raises(triton.InferenceServerException, match="FP64"):
            client.infer("FP32", [tensors("FP64")[1]])
        client.close()
        asyncio.run(by_asyncio(host))
