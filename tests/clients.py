"""Clients of the Open Inference Protocol that others wrote, against the basic functions."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

DATATYPES = {"float32": "FP32", "float64": "FP64", "object": "BYTES"}


def triton(url: str) -> None:
    """Everything that tritonclient.http does with a model: health, metadata, inference by JSON and
    by binary, several at once.
    """
    client = triton_http.InferenceServerClient(url.removeprefix("http://"), concurrency=4)
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("mean")
        assert client.is_model_ready("mean", "1")
        assert not client.is_model_ready("meen")
        assert client.get_server_metadata()["name"] == "wakeful"
        metadata = client.get_model_metadata("mean")
        assert {tensor["name"]: tensor.get("parameters") for tensor in metadata["inputs"]} == {
            "values": None,
            "unit": {"optional": True, "default": "m"},
        }
        assert {entry["name"] for entry in client.get_model_repository_index()} >= {
            "mean",
            "double",
        }
        for binary in (True, False):
            _double(client, binary=binary)
            _mean(client, binary=binary)
            _timeout(client, binary=binary)
        pending = [
            client.async_infer("double", [_tensor("x", np.full((n, 3), n, np.float32))])
            for n in range(1, 30)
        ]
        for n, request in enumerate(pending, 1):
            np.testing.assert_array_equal(
                request.get_result().as_numpy("y"), np.full((n, 3), 2 * n, np.float32)
            )
    finally:
        client.close()


def _tensor(name: str, data: np.ndarray, *, binary: bool = True) -> triton_http.InferInput:
    tensor = triton_http.InferInput(name, list(data.shape), DATATYPES[str(data.dtype)])
    tensor.set_data_from_numpy(data, binary_data=binary)
    return tensor


def _double(client: triton_http.InferenceServerClient, *, binary: bool) -> None:
    data = np.arange(12, dtype=np.float32).reshape(4, 3)
    wanted = [triton_http.InferRequestedOutput("y", binary_data=binary)]
    result = client.infer(
        "double", [_tensor("x", data, binary=binary)], outputs=wanted, request_id="r1"
    )
    np.testing.assert_array_equal(result.as_numpy("y"), 2 * data)
    assert result.get_response()["id"] == "r1"


def _timeout(client: triton_http.InferenceServerClient, *, binary: bool) -> None:
    """Triton's parameter, in microseconds: enough, none, and too little."""
    inputs = [_tensor("x", np.ones((1, 3), np.float32), binary=binary)]
    for timeout in (30_000_000, 0):
        assert client.infer("double", inputs, timeout=timeout).as_numpy("y").tolist() == [
            [2.0, 2.0, 2.0]
        ]
    with pytest.raises(InferenceServerException, match="the call's time was over") as late:
        client.infer("double", inputs, timeout=1)
    assert late.value.status() == "504"


def _mean(client: triton_http.InferenceServerClient, *, binary: bool) -> None:
    values, unit = np.array([[1.0, 2.0], [4.0, 6.0]]), np.array([b"m", "é".encode()], object)
    wanted = [
        triton_http.InferRequestedOutput(name, binary_data=binary)
        for name in ("label", "mean", "twice")
    ]
    result = client.infer(
        "mean",
        [_tensor("values", values, binary=binary), _tensor("unit", unit, binary=binary)],
        outputs=wanted,
    )
    assert result.as_numpy("mean").tolist() == [1.5, 5.0]
    assert [
        label if isinstance(label, str) else label.decode() for label in result.as_numpy("label")
    ] == ["1.5 m", "5.0 é"]
    np.testing.assert_array_equal(
        result.as_numpy("twice"), np.array([[1.5, 1.5], [5, 5]], np.float32)
    )
