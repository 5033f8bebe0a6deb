"""A v2 inference request's body to an ``InferRequest``, and an ``InferResponse`` to a body.

Open Inference Protocol v2, *Inference Request JSON Object* and *Inference Response JSON Object*,
and the binary tensor data extension. A key that the protocol does not have is refused with the
nearest one that it has. Parameters are the protocol's place for extensions, so unknown ones pass;
those of extensions that are not served here (classification, shared memory) are refused, since
leaving them out would change the answer.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import numpy as np

from runtime.errors import (
    FunctionError,
    MalformedBody,
    MissingInput,
    RequestError,
    UnknownInput,
    WrongDatatype,
    WrongShape,
)
from runtime.protocol import json_text, tensor_codec
from runtime.protocol.json_text import json_kind
from runtime.protocol.messages import (
    InferRequest,
    InferResponse,
    RequestedOutput,
    unknown_input,
)
from runtime.system.messages import list_names, quote_names, suggest_name
from runtime.types.tensors import NUMPY, element_count, from_numpy

TOO_MANY_TENSORS: Final = 1000
"""Inputs, or requested outputs, from which a request is refused: models have tens."""
MAX_RANK: Final = 32
"""Dimensions of a shape; numpy stops at 64, models at about 8."""
MAX_ID_CHARS: Final = 128
HEADER: Final = "Inference-Header-Content-Length"

_MESSAGE_KEYS: Final = frozenset(
    {"id", "inputs", "outputs", "parameters", "model_name", "model_version"}
)  # kserve repeats the name
_INPUT_KEYS: Final = frozenset({"name", "datatype", "shape", "data", "parameters"})
_OUTPUT_KEYS: Final = frozenset({"name", "parameters"})
_NOT_SERVED: Final = frozenset(
    {"classification", "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"}
)
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def read_header_length(values: Sequence[str]) -> int | None:
    """The JSON part's length from every ``Inference-Header-Content-Length`` header of a request;
    None when there is none.

    Raises:
        MalformedBody: sent twice, or not a whole number.
    """
    if not values:
        return None
    value = values[0].strip()
    if len(values) > 1 or not (value.isascii() and value.isdigit() and len(value) < 20):
        raise MalformedBody(
            f"{HEADER} must stand once and be the number of bytes of the JSON part.", where=HEADER
        )
    return int(value)


def decode_request(
    body: bytes | memoryview,
    header_length: int | None = None,
    known: Collection[str] | None = None,
) -> InferRequest:
    """The request in a body.

    Args:
        body: JSON, and behind its first ``header_length`` bytes the inputs' binary data in order.
        header_length: length of the JSON part; None when the body is all JSON.
        known: names of the function's inputs, if one of another name is to be refused before its
            values are read; None: it is not.

    Raises:
        RequestError: and its kinds, all status 400, with the path of the fault in ``where``.
    """
    header = bytes(body) if header_length is None else _header(body, header_length)
    message = _object(json_text.loads(header), _MESSAGE_KEYS, "")
    request_id = message.get("id")
    parameters = _parameters(message, "")
    binary_default = _flag(parameters, "binary_data_output", False, "parameters")
    entries = _entries(message, "inputs")
    if entries is None:
        raise MissingInput(
            "the request has no 'inputs': an array of {name, datatype, shape, data}.",
            where="inputs",
        )
    inputs = _inputs(entries, body, header_length, known)
    asked = _entries(message, "outputs")
    outputs = _outputs(asked, binary_default) if asked else ()
    request_id = "" if request_id is None else _id(request_id)
    return InferRequest(
        request_id, inputs, outputs, binary_default, parameters, _timeout_s(parameters)
    )


def _header(body: bytes | memoryview, length: int) -> bytes:
    if length <= 0:
        raise MalformedBody(
            f"{HEADER} is {length}: a body without its JSON part is not read here. Send the JSON"
            " part first.",
            where=HEADER,
        )
    if length > len(body):
        raise MalformedBody(
            f"{HEADER} is {length} but the body has {len(body)} bytes.", where=HEADER
        )
    return bytes(body[:length])


def _inputs(
    entries: list[Any],
    body: bytes | memoryview,
    header_length: int | None,
    known: Collection[str] | None,
) -> dict[str, np.ndarray]:
    """The arrays by name."""
    inputs: dict[str, np.ndarray] = {}
    offset = len(body) if header_length is None else header_length
    for index, value in enumerate(entries):
        where = f"inputs[{index}]"
        entry = _object(value, _INPUT_KEYS, where)
        name = _name(entry, where)
        if known is not None and name not in known:
            raise unknown_input(name, known, index)
        if name in inputs:
            raise MalformedBody(
                f"the input {quote_names(name)} is sent twice. Keep one.", where=f"{where}.name"
            )
        parameters = _parameters(entry, where)
        datatype = _datatype(entry, where)
        shape, count = _shape(entry, f"{where}.shape")
        data = entry.get("data")
        if "binary_data_size" in parameters:
            size = _binary_size(
                parameters, data, header_length is not None, len(body) - offset, where
            )
            inputs[name] = tensor_codec.decode_binary(
                body, offset, size, datatype, shape, count, where
            )
            offset += size
        elif data is None:
            raise MissingInput(
                f"the input {quote_names(name)} has no 'data' and no parameters.binary_data_size.",
                where=f"{where}.data",
            )
        else:
            inputs[name] = tensor_codec.decode_json(data, datatype, shape, count, f"{where}.data")
    if offset != len(body):
        raise MalformedBody(
            f"{len(body) - offset} bytes of the body belong to no input: the sizes in"
            " binary_data_size add up to less."
        )
    return inputs


def _outputs(entries: list[Any], binary_default: bool) -> tuple[RequestedOutput, ...]:
    outputs: dict[str, RequestedOutput] = {}
    for index, value in enumerate(entries):
        where = f"outputs[{index}]"
        entry = _object(value, _OUTPUT_KEYS, where)
        name = _name(entry, where)
        if name in outputs:
            raise MalformedBody(
                f"the output {quote_names(name)} is requested twice. Keep one.",
                where=f"{where}.name",
            )
        parameters = _parameters(entry, where)
        outputs[name] = RequestedOutput(
            name, _flag(parameters, "binary_data", binary_default, f"{where}.parameters")
        )
    return tuple(outputs.values())


def _entries(message: dict[str, Any], key: str) -> list[Any] | None:
    entries = message.get(key)
    if entries is None:
        return None
    if type(entries) is not list:
        raise MalformedBody(f"{key} is {json_kind(entries)}, not an array.", where=key)
    if len(entries) >= TOO_MANY_TENSORS:
        raise RequestError(
            f"{len(entries)} {key} in one request; fewer than {TOO_MANY_TENSORS} are read.",
            where=key,
        )
    return entries


def _object(value: object, keys: frozenset[str], where: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise MalformedBody(
            f"{where or 'the body'} is {json_kind(value)}, not an object.", where=where
        )
    if not value.keys() <= keys:
        unknown = next(key for key in value if key not in keys)
        text = (
            f"{where or 'the request'} has an unknown key"
            f" {quote_names(unknown)}.{suggest_name(unknown, keys)} Known:"
            f" {list_names(sorted(keys))}."
        )
        if not where and "inputs" not in value:
            text += " An object of fields goes to the function's own route, without /infer."
        raise UnknownInput(text, where=where)
    return value


def _name(entry: dict[str, Any], where: str) -> str:
    name = entry.get("name")
    if type(name) is not str or not name:
        raise MalformedBody(
            f"{where} needs a 'name', a string that is not empty.", where=f"{where}.name"
        )
    return name


def _parameters(entry: dict[str, Any], where: str) -> dict[str, Any]:
    """The entry's parameters, checked to be plain values and of no extension that is not served."""
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    where = f"{where}.parameters".lstrip(".")
    if type(parameters) is not dict:
        raise MalformedBody(f"{where} is {json_kind(parameters)}, not an object.", where=where)
    for key, value in parameters.items():
        if type(value) not in _SCALARS:
            raise MalformedBody(
                f"the parameter {quote_names(key)} is {json_kind(value)}, not a string, number or"
                " boolean.",
                where=where,
            )
        if key in _NOT_SERVED:
            raise RequestError(
                f"{key} is an extension that is not served here. Leave it out.",
                where=f"{where}.{key}",
            )
    return parameters


def _flag(parameters: dict[str, Any], key: str, default: bool, where: str) -> bool:
    value = parameters.get(key, default)
    if type(value) is not bool:
        raise MalformedBody(
            f"{key} is {json_kind(value)}; it takes true or false.", where=f"{where}.{key}"
        )
    return value


def _timeout_s(parameters: dict[str, Any]) -> float:
    """As Triton reads it: 0 is no timeout of the request's own."""
    micros = parameters.get("timeout", 0)
    if type(micros) is not int or micros < 0:
        raise MalformedBody(
            "timeout is in microseconds, a whole number of them; 0 is none.",
            where="parameters.timeout",
        )
    return micros / 1e6 or math.inf


def _id(value: object) -> str:
    if type(value) is not str or len(value) > MAX_ID_CHARS or not value.isprintable():
        raise RequestError(
            f"id must be a string of at most {MAX_ID_CHARS} printable characters.", where="id"
        )
    return value


def _datatype(entry: dict[str, Any], where: str) -> str:
    datatype = entry.get("datatype")
    if type(datatype) is str and datatype in NUMPY:
        return datatype
    where = f"{where}.datatype"
    if datatype == "BF16":
        raise WrongDatatype(
            "BF16 is not read here: numpy has no such type. Send FP32.", where=where
        )
    found = (
        f"{quote_names(datatype)} is no datatype.{suggest_name(datatype, NUMPY)}"
        if type(datatype) is str
        else "the datatype is missing or no string."
    )
    raise WrongDatatype(f"{found} Known: {', '.join(NUMPY)}.", where=where)


def _shape(entry: dict[str, Any], where: str) -> tuple[list[int], int]:
    """The shape and how many elements it has, after checking that it is one that numpy can make."""
    shape = entry.get("shape")
    if type(shape) is not list:
        raise WrongShape(
            f"the shape is {json_kind(shape)}, not an array of whole numbers.", where=where
        )
    if len(shape) > MAX_RANK:
        raise WrongShape(
            f"the shape has {len(shape)} dimensions; at most {MAX_RANK} are read.", where=where
        )
    for axis, dim in enumerate(shape):
        if type(dim) is not int:
            raise WrongShape(
                f"{where}[{axis}] is {json_kind(dim)}, not a whole number.",
                where=f"{where}[{axis}]",
            )
    count = element_count(shape, where)
    if count == 0:
        # numpy refuses [0, 2**63] although it is empty
        element_count([dim for dim in shape if dim], where)
    return shape, count


def _binary_size(
    parameters: dict[str, Any], data: object, has_header: bool, remaining: int, where: str
) -> int:
    """How many of the body's ``remaining`` bytes belong to an input."""
    size = parameters["binary_data_size"]
    where = f"{where}.parameters.binary_data_size"
    if type(size) is not int or size < 0:
        raise MalformedBody("binary_data_size must be a whole number of bytes.", where=where)
    if data is not None:
        raise MalformedBody(
            "an input has either 'data' or binary_data_size, not both.", where=where
        )
    if not has_header:
        raise MalformedBody(
            f"binary data needs the header {HEADER}, the length of the JSON part.", where=where
        )
    if size > remaining:
        raise MalformedBody(
            f"binary_data_size is {size} but {remaining} bytes of the body are left.", where=where
        )
    return size


MODEL_VERSION: Final = "1"
"""A function has one version at a time; the protocol wants a string."""


def encode_response(
    response: InferResponse, request: InferRequest
) -> tuple[bytes | list[bytes | memoryview], int | None]:
    """The body that answers a request.

    Args:
        response: every output of the function.
        request: says which of them are sent, in which order, and which as binary data.

    Returns:
        The JSON and None; or, when an output is binary, the JSON and one chunk an output, to be
        sent one after the other, and the JSON's length, which the
        ``Inference-Header-Content-Length`` header carries.

    Raises:
        UnknownInput: a requested output that the function does not have (``messages.check_outputs``
            says so before it computes).
        RequestError: bytes that are not UTF-8 in an output that is not asked for as binary data.
        FunctionError: an output that the protocol has no datatype for.
    """
    chunks: list[bytes | memoryview] = []
    asked = request.outputs or [
        RequestedOutput(name, request.binary_default) for name in response.outputs
    ]
    outputs = [_output(response, output, index, chunks) for index, output in enumerate(asked)]
    message: dict[str, Any] = {"model_name": response.model_name, "model_version": MODEL_VERSION}
    if response.id:
        message["id"] = response.id
    if response.parameters:
        message["parameters"] = response.parameters
    # lets others run where it is long
    header = b"".join([json_text.dumps(message)[:-1], b',"outputs":[', *_listed(outputs), b"]}"])
    return ([header, *chunks], len(header)) if chunks else (header, None)


def _listed(outputs: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    """The entries' text. What is long has been written, and is not written again."""
    for index, entry in enumerate(outputs):
        data = entry.get("data")
        text = entry.pop("data") if type(data) is bytes else None
        yield b"," if index else b""
        yield from (
            [json_text.dumps(entry)]
            if text is None
            else [json_text.dumps(entry)[:-1], b',"data":[', text, b"]}"]
        )


def _output(
    response: InferResponse, asked: RequestedOutput, index: int, chunks: list[bytes | memoryview]
) -> dict[str, Any]:
    """The output's entry in the JSON; its binary data is appended to ``chunks``."""
    name = asked.name
    array = response.outputs.get(name)
    if array is None:
        known = response.outputs
        text = (
            f"no output {quote_names(name)}.{suggest_name(name, known)} The function answers with"
            f" {list_names(known)}."
        )
        raise UnknownInput(text, where=f"outputs[{index}].name")
    try:
        datatype = from_numpy(array.dtype)
    except KeyError as error:
        raise FunctionError(
            f"output {quote_names(name)} is {array.dtype}, which the protocol has no datatype for."
        ) from error
    entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
    if asked.binary:
        chunk = tensor_codec.encode_binary(array, datatype, name)
        entry["parameters"] = {"binary_data_size": len(chunk)}
        chunks.append(chunk)
    else:
        entry["data"] = tensor_codec.encode_json(array, name, f"outputs[{index}]")
    return entry
