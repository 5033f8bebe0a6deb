from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtime.errors import WakefulError
from runtime.protocol.inference_codec import decode_request, encode_response
from runtime.protocol.messages import InferRequest, InferResponse
from runtime.types.tensors import FLOATS, NUMPY, from_numpy

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def arrays(datatype: str, *, is_json: bool) -> st.SearchStrategy[np.ndarray]:
    if datatype == "BYTES":
        elements: st.SearchStrategy[Any] = st.text() if is_json else st.binary()
    elif datatype in FLOATS and is_json:  # JSON has no NaN and no infinity
        elements = hnp.from_dtype(NUMPY[datatype], allow_nan=False, allow_infinity=False)
    else:
        elements = hnp.from_dtype(NUMPY[datatype])
    return SHAPES.flatmap(
        lambda shape: hnp.arrays(NUMPY[datatype], shape, elements=elements, fill=st.nothing())
    )


def tensors(*, is_json: bool) -> st.SearchStrategy[dict[str, np.ndarray]]:
    datatypes = sorted(NUMPY.keys() - {"FP16"} if is_json else NUMPY)
    return st.dictionaries(
        st.text(min_size=1),
        st.sampled_from(datatypes).flatmap(lambda name: arrays(name, is_json=is_json)),
        max_size=4,
    )


def as_request(outputs: dict[str, np.ndarray], *, is_binary: bool) -> tuple[bytes, int | None]:
    """A request body with these tensors: the body of a response with them, its outputs called
    inputs.
    """
    body, header_length = encode_response(
        InferResponse("f", "", outputs, {}), InferRequest("", {}, (), is_binary, {})
    )
    header = json.loads(body if isinstance(body, bytes) else bytes(body[0]))
    text = json.dumps({"inputs": header["outputs"]}).encode()
    return (
        (text, None)
        if isinstance(body, bytes)
        else (b"".join([text, *body[1:]]), header_length and len(text))
    )


def assert_equal(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(actual) == list(expected)
    for array, wanted in zip(actual.values(), expected.values(), strict=True):
        assert (from_numpy(array.dtype), array.shape) == (from_numpy(wanted.dtype), wanted.shape)
        assert (
            array.tolist() == wanted.tolist()
            if array.dtype == object
            else array.tobytes() == wanted.tobytes()
        )


def status_of(body: bytes, header_length: int | None) -> int:
    try:
        decode_request(body, header_length)
    except WakefulError as error:
        return error.status
    return 200


@given(tensors(is_json=True))
@example(
    {
        "x": np.array(
            [np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal, -0.0], np.float32
        )
    }
)
def test_json_brings_back_what_was_sent(outputs: dict[str, np.ndarray]) -> None:
    """Any tensors of any datatype but FP16 and any shape, empty and scalar ones too, survive JSON
    to the bit.
    """
    assert_equal(decode_request(*as_request(outputs, is_binary=False)).inputs, outputs)


@given(tensors(is_json=False))
def test_binary_data_brings_back_what_was_sent(outputs: dict[str, np.ndarray]) -> None:
    """Any tensors of any datatype and shape survive binary data to the bit, NaN included."""
    assert_equal(decode_request(*as_request(outputs, is_binary=True)).inputs, outputs)


@given(tensors(is_json=False), st.data())
def test_a_damaged_binary_body_is_read_or_refused(
    outputs: dict[str, np.ndarray], data: st.DataObject
) -> None:
    """Whatever bytes are cut or flipped, the answer is a request or an error of the caller's, never
    another exception.
    """
    body, header_length = as_request(outputs, is_binary=True)
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))
    length = data.draw(st.just(header_length) | st.none() | st.integers(-1, len(body) + 1))
    assert status_of(bytes(damaged[:cut]), length) in (200, 400, 413, 415)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(), st.lists, max_leaves=8
    ),
    st.data(),
)
def test_a_strange_value_anywhere_is_read_or_refused(value: Any, data: st.DataObject) -> None:
    """Any JSON value in any place of a request is read or refused as the caller's fault."""
    tensor = {"name": "x", "datatype": "INT8", "shape": [1], "data": [1], "parameters": {"p": 1}}
    message: dict[str, Any] = {
        "id": "i",
        "inputs": [tensor],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
    place: Any = data.draw(
        st.sampled_from(
            [message, tensor, tensor["parameters"], message["outputs"][0]["parameters"]]
        )
    )
    place[data.draw(st.sampled_from([*place, "binary_data_size"]))] = value
    assert status_of(json.dumps(message).encode(), None) in (200, 400)
