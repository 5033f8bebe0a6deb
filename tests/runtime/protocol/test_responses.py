from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from runtime.errors import FunctionError, UnknownInput
from runtime.protocol.inference_codec import encode_response
from runtime.protocol.messages import InferRequest, InferResponse, RequestedOutput

OUTPUTS = {"x": np.array([[1, 2]], np.float32), "text": np.array(["a"], object)}


def request(*outputs: RequestedOutput, binary: bool = False) -> InferRequest:
    return InferRequest("", {}, outputs, binary, {})


def response(outputs: dict[str, np.ndarray], **changes: Any) -> InferResponse:
    return InferResponse(
        **{"model_name": "f", "id": "", "outputs": outputs, "parameters": {}, **changes}
    )


def test_a_json_response_has_the_protocols_form() -> None:
    """Without binary outputs the body is one JSON text and no header length is given."""
    body, header_length = encode_response(response(OUTPUTS, id="7", parameters={"a": 1}), request())
    assert header_length is None
    assert isinstance(body, bytes)
    assert json.loads(body) == {
        "model_name": "f",
        "model_version": "1",
        "id": "7",
        "parameters": {"a": 1},
        "outputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]},
            {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]},
        ],
    }


def test_id_and_parameters_are_left_out_when_there_are_none() -> None:
    """The protocol's optional fields are absent rather than empty."""
    body, _ = encode_response(response({}), request())
    assert isinstance(body, bytes)
    assert json.loads(body) == {"model_name": "f", "model_version": "1", "outputs": []}


def test_binary_outputs_are_chunks_of_their_own() -> None:
    """The JSON says each output's size, and the arrays follow it as they are in memory."""
    chunks, header_length = encode_response(response(OUTPUTS), request(binary=True))
    assert isinstance(chunks, list)
    header, x, text = chunks
    assert len(header) == header_length
    assert [entry["parameters"] for entry in json.loads(bytes(header))["outputs"]] == [
        {"binary_data_size": 8},
        {"binary_data_size": 5},
    ]
    assert np.shares_memory(np.frombuffer(x, np.uint8), OUTPUTS["x"])
    assert bytes(text) == b"\x01\x00\x00\x00a"


def test_outputs_come_as_they_were_requested() -> None:
    """Only the requested outputs, in the requested order, each in its requested form."""
    chunks, _ = encode_response(
        response(OUTPUTS),
        request(RequestedOutput("text", False), RequestedOutput("x", True), binary=True),
    )
    text, x = json.loads(bytes(chunks[0]))["outputs"]
    assert (text["name"], text["data"]) == ("text", ["a"])
    assert (x["name"], x["parameters"], "data" in x) == ("x", {"binary_data_size": 8}, False)
    assert len(chunks) == 2


def test_json_never_has_a_bare_nan() -> None:
    """NaN and infinities are null (reliability case 22)."""
    body, _ = encode_response(
        response({"x": np.array([np.nan, np.inf, -np.inf, 1], np.float16)}), request()
    )
    assert isinstance(body, bytes)
    assert body.endswith(b'"data":[null,null,null,1.0]}]}')


def test_an_output_that_there_is_not_is_refused() -> None:
    """An unknown output is answered with the nearest known one."""
    with pytest.raises(UnknownInput, match="'text'") as caught:
        encode_response(
            response(OUTPUTS), request(RequestedOutput("x", False), RequestedOutput("txt", False))
        )
    assert caught.value.where == "outputs[1].name"


def test_an_output_without_a_datatype_is_the_functions_fault() -> None:
    """A dtype that the protocol has no name for is a FunctionError that names output and dtype."""
    with pytest.raises(FunctionError, match=r"'x'.*complex128"):
        encode_response(response({"x": np.array([1j])}), request())
