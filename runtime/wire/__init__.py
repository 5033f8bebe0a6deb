"""Open Inference Protocol v2 over HTTP: bodies to arrays and back.

    names ◀─ jsontext ◀┬─ json_codec   ◀┬─ requests.decode
    messages           └─ binary_codec ◀┴─ responses.encode          checks.check_inputs (names, messages)

Nothing here knows a web framework, a function or a model; every refusal is a ``RequestError``.
"""

from __future__ import annotations

from runtime.wire.checks import check_inputs, check_outputs
from runtime.wire.jsontext import dumps, loads, refuse_repeated_keys_of
from runtime.wire.messages import InferRequest, InferResponse, RequestedOutput
from runtime.wire.requests import decode, read_header_length
from runtime.wire.responses import encode

__all__ = [
    "InferRequest",
    "InferResponse",
    "RequestedOutput",
    "check_inputs",
    "check_outputs",
    "decode",
    "dumps",
    "encode",
    "loads",
    "read_header_length",
    "refuse_repeated_keys_of",
]
