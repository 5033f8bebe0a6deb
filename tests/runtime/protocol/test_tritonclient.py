"""tritonclient is the protocol's most used client: its own builder and parser against our codec."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from runtime.protocol.inference_codec import decode_request, encode_response
from runtime.protocol.messages import InferRequest, InferResponse
from runtime.types.tensors import NUMPY

SHAPES: list[tuple[int, ...]] = [(1,), (2, 3), (2, 0), ()]


def sample(datatype: str, shape: tuple[int, ...], *, text: bool = False) -> np.ndarray:
    if datatype == "BYTES":
        values: list[Any] = ["é", "", "\x00b"] * 2 if text else [b"\xff\x00", b"", b"\xc3\xa9"] * 2
        flat = np.array(values, object)
    else:
        flat = np.arange(6).astype(NUMPY[datatype])
    return flat[: int(np.prod(shape))].reshape(shape)


def request_of(array: np.ndarray, datatype: str, *, binary: bool, **options: Any) -> InferRequest:
    tensor = InferInput("x", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return decode_request(*InferenceServerClient.generate_request_body([tensor], **options))


def answered(outputs: dict[str, np.ndarray], request: InferRequest) -> InferResult:
    body, header_length = encode_response(InferResponse("f", request.id, outputs, {}), request)
    return InferenceServerClient.parse_response_body(
        body if isinstance(body, bytes) else b"".join(body), header_length=header_length
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("datatype", "binary"),
    [(name, binary) for name in NUMPY for binary in (True, False) if binary or name != "FP16"],
)
def test_its_requests_are_understood(datatype: str, binary: bool, shape: tuple[int, ...]) -> None:
    """Every tensor that tritonclient writes, as JSON or as binary data, is read as it was."""
    array = sample(datatype, shape, text=not binary)
    read = request_of(array, datatype, binary=binary).inputs["x"]
    assert (read.dtype, read.shape, read.tolist()) == (array.dtype, array.shape, array.tolist())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("datatype", NUMPY)
def test_it_understands_our_answers(datatype: str, shape: tuple[int, ...]) -> None:
    """Every tensor that we write is read by tritonclient as it was: binary by its default, JSON
    when requested so.
    """
    binary, text = sample(datatype, shape), sample(datatype, shape, text=True)
    outputs = [
        InferRequestedOutput("y", binary_data=False),
        InferRequestedOutput("x", binary_data=True),
    ]
    default = answered({"x": binary}, request_of(np.zeros(1, np.int8), "INT8", binary=True))
    chosen = answered(
        {"x": binary, "y": text},
        request_of(np.zeros(1, np.int8), "INT8", binary=False, outputs=outputs),
    )
    for result, name, array in ((default, "x", binary), (chosen, "x", binary), (chosen, "y", text)):
        read = result.as_numpy(name)
        assert (read.dtype, read.shape, read.tolist()) == (array.dtype, array.shape, array.tolist())


def test_it_reads_null_as_nan() -> None:
    """NaN, which JSON output writes as null, is NaN again on the other side."""
    outputs = [InferRequestedOutput("y", binary_data=False)]
    result = answered(
        {"y": np.array([1, np.nan], np.float32)},
        request_of(np.zeros(1, np.int8), "INT8", binary=True, outputs=outputs),
    )
    assert np.array_equal(result.as_numpy("y"), np.array([1, np.nan], np.float32), equal_nan=True)


def test_ids_and_parameters_come_through() -> None:
    """The id returns in the answer, and the client's own parameters reach the request."""
    request = request_of(
        np.zeros(1, np.int8),
        "INT8",
        binary=True,
        request_id="r-1",
        parameters={"tone": "warm"},
        priority=2,
    )
    assert (request.id, request.parameters) == (
        "r-1",
        {"priority": 2, "binary_data_output": True, "tone": "warm"},
    )
    assert answered({}, request).get_response()["id"] == "r-1"
