"""An ``InferResponse`` to a v2 inference response's body.

Open Inference Protocol v2, *Inference Response JSON Object*, and the binary tensor data extension.
"""

from __future__ import annotations

from typing import Any, Final

from runtime.datatypes import from_numpy
from runtime.errors import FunctionError, UnknownInput
from runtime.wire import binary_codec, json_codec, jsontext
from runtime.wire.messages import InferRequest, InferResponse, RequestedOutput
from runtime.wire.names import listed, shown, suggestion

MODEL_VERSION: Final = "1"
"""A function has one version at a time; the protocol wants a string."""


def encode(response: InferResponse, request: InferRequest) -> tuple[bytes | list[bytes | memoryview], int | None]:
    """The body that answers a request.

    Args:
        response: every output of the function.
        request: says which of them are sent, in which order, and which as binary data.

    Returns:
        The JSON and None; or, when an output is binary, the JSON and one chunk an output, to be sent one after the other, and the
        JSON's length, which the ``Inference-Header-Content-Length`` header carries.

    Raises:
        UnknownInput: a requested output that the function does not have (``checks.check_outputs`` says so before it computes).
        RequestError: bytes that are not UTF-8 in an output that is not asked for as binary data.
        FunctionError: an output that the protocol has no datatype for.
    """
    chunks: list[bytes | memoryview] = []
    asked = request.outputs or [RequestedOutput(name, request.binary_default) for name in response.outputs]
    outputs = [_output(response, output, index, chunks) for index, output in enumerate(asked)]
    message: dict[str, Any] = {"model_name": response.model_name, "model_version": MODEL_VERSION}
    if response.id:
        message["id"] = response.id
    if response.parameters:
        message["parameters"] = response.parameters
    message["outputs"] = outputs
    header = jsontext.dumps(message)
    return ([header, *chunks], len(header)) if chunks else (header, None)


def _output(response: InferResponse, asked: RequestedOutput, index: int, chunks: list[bytes | memoryview]) -> dict[str, Any]:
    """The output's entry in the JSON; its binary data is appended to ``chunks``."""
    name = asked.name
    array = response.outputs.get(name)
    if array is None:
        known = response.outputs
        text = f"no output {shown(name)}.{suggestion(name, known)} The function answers with {listed(known)}."
        raise UnknownInput(text, where=f"outputs[{index}].name")
    try:
        datatype = from_numpy(array.dtype)
    except KeyError as error:
        raise FunctionError(f"output {shown(name)} is {array.dtype}, which the protocol has no datatype for.") from error
    entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
    if asked.binary:
        chunk = binary_codec.encode_data(array, datatype, name)
        entry["parameters"] = {"binary_data_size": len(chunk)}
        chunks.append(chunk)
    else:
        entry["data"] = json_codec.encode_data(array, name, f"outputs[{index}]")
    return entry
