from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from runtime import errors
from runtime.protocol.inference_codec import decode_request, read_header_length
from runtime.protocol.messages import RequestedOutput

TEXT: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hello"]}


def with_input(**changes: Any) -> dict[str, Any]:
    """A request with one input, changed; a change to None leaves the key out."""
    return {
        "inputs": [{key: value for key, value in {**TEXT, **changes}.items() if value is not None}]
    }


def refused(message: Any, binary: bytes | None = None) -> errors.WakefulError:
    header = json.dumps(message).encode()
    with pytest.raises(errors.RequestError) as caught:
        decode_request(header, None) if binary is None else decode_request(
            header + binary, len(header)
        )
    assert caught.value.status == 400
    assert len(caught.value.message) < 1000
    return caught.value


def test_a_whole_request_is_decoded() -> None:
    """Inputs by name in order, outputs with their form, id and parameters."""
    message = {
        "id": "r-1",
        "inputs": [
            TEXT,
            {
                "name": "x",
                "datatype": "FP32",
                "shape": [1, 2],
                "data": [[1, 2]],
                "parameters": {"content_type": "np"},
            },
        ],
        "outputs": [{"name": "b"}, {"name": "a", "parameters": {"binary_data": False}}],
        "parameters": {"binary_data_output": True, "priority": 1},
    }
    request = decode_request(json.dumps(message).encode(), None)
    assert (request.id, request.binary_default, request.parameters) == (
        "r-1",
        True,
        message["parameters"],
    )
    assert request.outputs == (RequestedOutput("b", True), RequestedOutput("a", False))
    assert list(request.inputs) == ["text", "x"]
    assert request.inputs["text"].tolist() == ["hello"]
    assert request.inputs["x"].tolist() == [[1.0, 2.0]]


def test_optional_parts_may_be_null_or_left_out() -> None:
    """Clients that write null for what they leave out, or repeat the model's name, are understood."""
    message = {
        **with_input(),
        "id": None,
        "outputs": None,
        "parameters": None,
        "model_name": "embed",
        "model_version": "1",
    }
    request = decode_request(json.dumps(message).encode(), None)
    assert (request.id, request.outputs, request.binary_default, request.parameters) == (
        "",
        (),
        False,
        {},
    )


def test_binary_data_is_taken_in_order_beside_json_data() -> None:
    """Binary inputs take their bytes from behind the JSON one after the other; inputs with JSON
    data take none.
    """
    inputs = [
        {"name": "a", "datatype": "UINT8", "shape": [2], "parameters": {"binary_data_size": 2}},
        TEXT,
        {
            "name": "empty",
            "datatype": "FP32",
            "shape": [0, 4],
            "parameters": {"binary_data_size": 0},
        },
        {"name": "b", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
    ]
    header = json.dumps({"inputs": inputs}).encode()
    request = decode_request(header + b"\x01\x02" + b"\x01\x00\x00\x00\xff", len(header))
    values = {name: array.tolist() for name, array in request.inputs.items()}
    assert values == {"a": [1, 2], "text": ["hello"], "empty": [], "b": [b"\xff"]}
    assert request.inputs["empty"].shape == (0, 4)


@pytest.mark.parametrize(
    ("message", "error", "where"),
    [
        (None, errors.MalformedBody, ""),
        ([], errors.MalformedBody, ""),
        ({}, errors.MissingInput, "inputs"),
        ({"inputs": None}, errors.MissingInput, "inputs"),
        ({"inputs": {}}, errors.MalformedBody, "inputs"),
        ({"inputs": [1]}, errors.MalformedBody, "inputs[0]"),
        ({"text": "hello"}, errors.UnknownInput, ""),
        (
            {"inputs": [TEXT, with_input(dtype="FP32")["inputs"][0]]},
            errors.UnknownInput,
            "inputs[1]",
        ),
        (with_input(name=None), errors.MalformedBody, "inputs[0].name"),
        (with_input(name=""), errors.MalformedBody, "inputs[0].name"),
        (with_input(name=["a"]), errors.MalformedBody, "inputs[0].name"),
        ({"inputs": [TEXT, TEXT]}, errors.MalformedBody, "inputs[1].name"),
        ({"inputs": [TEXT] * 1000}, errors.RequestError, "inputs"),
        (with_input(data=None), errors.MissingInput, "inputs[0].data"),
        (with_input(parameters=[]), errors.MalformedBody, "inputs[0].parameters"),
        (with_input(parameters={"x": {}}), errors.MalformedBody, "inputs[0].parameters"),
        (
            with_input(parameters={"shared_memory_region": "r"}),
            errors.RequestError,
            "inputs[0].parameters.shared_memory_region",
        ),
        ({**with_input(), "parameters": "x"}, errors.MalformedBody, "parameters"),
        (
            {**with_input(), "parameters": {"binary_data_output": 1}},
            errors.MalformedBody,
            "parameters.binary_data_output",
        ),
    ],
)
def test_a_request_of_another_form_is_refused(
    message: Any, error: type[errors.RequestError], where: str
) -> None:
    """Whatever is not as the protocol says is refused by its kind and place (reliability cases 11
    and 17).
    """
    caught = refused(message)
    assert (type(caught), caught.where) == (error, where)


@pytest.mark.parametrize(
    ("outputs", "error", "where"),
    [
        ("y", errors.MalformedBody, "outputs"),
        (["y"], errors.MalformedBody, "outputs[0]"),
        ([{"name": "y"}, {"name": "y"}], errors.MalformedBody, "outputs[1].name"),
        ([{"name": "y", "shape": [1]}], errors.UnknownInput, "outputs[0]"),
        ([{"name": str(index)} for index in range(100_000)], errors.RequestError, "outputs"),
        (
            [{"name": "y", "parameters": {"classification": 3}}],
            errors.RequestError,
            "outputs[0].parameters.classification",
        ),
        (
            [{"name": "y", "parameters": {"shared_memory_offset": 3}}],
            errors.RequestError,
            "outputs[0].parameters.shared_memory_offset",
        ),
        (
            [{"name": "y", "parameters": {"binary_data": "yes"}}],
            errors.MalformedBody,
            "outputs[0].parameters.binary_data",
        ),
    ],
)
def test_requested_outputs_of_another_form_are_refused(
    outputs: Any, error: type[errors.RequestError], where: str
) -> None:
    """Duplicate, too many and malformed outputs, and extensions that are not served, are refused
    (reliability case 17).
    """
    caught = refused({**with_input(), "outputs": outputs})
    assert (type(caught), caught.where) == (error, where)


@pytest.mark.parametrize(
    ("shape", "where"),
    [
        ([-1], ""),
        ([1.0], "[0]"),
        (["1"], "[0]"),
        ([1, True], "[1]"),
        ([None], "[0]"),
        ("1", ""),
        ({}, ""),
        ([1] * 10_000, ""),
        ([2**32, 2**32], ""),
        ([2**63], ""),
        ([0, 2**63], ""),
        ([0] + [2**31] * 31, ""),
        ([2**64], "[0]"),
        ([2**31 + 1], ""),
    ],
)
def test_a_shape_that_no_array_has_is_refused(shape: Any, where: str) -> None:
    """Shapes are counted with Python integers, and no wrong one reaches numpy (reliability case
    15).
    """
    caught = refused(with_input(shape=shape))
    assert (type(caught), caught.where) == (errors.WrongShape, f"inputs[0].shape{where}")


@pytest.mark.parametrize(
    ("datatype", "hint"),
    [("INT322", "'INT32'"), ("fp32", "'FP32'"), ("BF16", "FP32"), (32, "string"), (None, "string")],
)
def test_an_unknown_datatype_is_refused(datatype: Any, hint: str) -> None:
    """A datatype that is not read is answered with one that is (reliability case 18)."""
    caught = refused(with_input(datatype=datatype))
    assert (type(caught), caught.where) == (errors.WrongDatatype, "inputs[0].datatype")
    assert hint in caught.message


@pytest.mark.parametrize("request_id", ["x" * 129, "a\nb", "a\x1b[31m", "\u202e", 5, ["a"]])
def test_an_id_that_could_forge_a_log_line_is_refused(request_id: Any) -> None:
    """An id is a short printable string (reliability case 27)."""
    assert refused({**with_input(), "id": request_id}).where == "id"


@pytest.mark.parametrize(
    "values", [["-1"], ["abc"], [""], ["1.5"], ["+5"], ["٣"], ["5", "5"], ["9" * 5000]]
)
def test_a_header_length_that_is_no_number_is_refused(values: list[str]) -> None:
    """Inference-Header-Content-Length occurs once and is digits (reliability case 19)."""
    with pytest.raises(errors.MalformedBody):
        read_header_length(values)


def test_a_header_length_is_read() -> None:
    """None without the header, the number with it."""
    assert (read_header_length([]), read_header_length([" 12 "])) == (None, 12)


@pytest.mark.parametrize("length", [-1, 0, 99999999999, 5, 60, 10_000])
def test_a_header_length_that_does_not_cut_at_the_json_is_refused(length: int) -> None:
    """Nothing, half a JSON text, half a character and more than the body are refused (reliability
    case 19).
    """
    body = json.dumps(with_input(data=["é" * 100]), ensure_ascii=False).encode()
    with pytest.raises(errors.MalformedBody):
        decode_request(body, length)


@pytest.mark.parametrize("size", [-1, 1.0, "4", True, None, 2**63, 5, 3, 0, 2**64])
def test_a_binary_size_that_is_not_the_tensors_is_refused(size: Any) -> None:
    """Sizes that are no byte count, do not fit the tensor or the body are refused (reliability case
    20).
    """
    message = with_input(
        datatype="INT8", shape=[4], data=None, parameters={"binary_data_size": size}
    )
    assert refused(message, b"\x00" * 4).where == "inputs[0].parameters.binary_data_size"


def test_binary_data_must_be_announced_once_and_used_up() -> None:
    """Both forms of data, bytes without the header and bytes of no input are refused (reliability
    cases 19 and 20).
    """
    sized = {"datatype": "INT8", "shape": [4], "parameters": {"binary_data_size": 4}}
    assert "not both" in refused(with_input(**sized, data=[1, 2, 3, 4]), b"\x00" * 4).message
    assert "Inference-Header-Content-Length" in refused(with_input(**sized, data=None)).message
    assert "belong to no input" in refused(with_input(**sized, data=None), b"\x00" * 5).message
    assert "belong to no input" in refused(with_input(), b"\x00").message


def test_an_error_repeats_none_of_the_data() -> None:
    """Messages hold kinds, places and short names, not what the caller sent."""
    secret = "s3cret" * 50
    for message in (
        with_input(datatype="INT8", data=[secret]),
        with_input(datatype=secret),
        {secret: 1},
        {**with_input(), "id": secret},
    ):
        assert secret not in refused(message).message


def test_an_array_from_json_is_the_functions_to_keep() -> None:
    """What comes from JSON is a fresh array that may be written."""
    array = decode_request(json.dumps(with_input(datatype="FP32", data=[1])).encode(), None).inputs[
        "text"
    ]
    assert array.flags.writeable
    assert array.dtype == np.float32
