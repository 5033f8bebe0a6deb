"""The wire: Open Inference Protocol v2 and plain JSON, bodies to arrays and back; rows between
functions; sequences.

    inference_codec ─▶ tensor_codec ─▶ json_text   row_codec ─▶ row_values
                       messages      json_values   sequences

Called by the HTTP edge and by calls between functions. It knows no web framework, function or
model, and imports ``types``, ``declaration`` and ``system``; every refusal is a ``RequestError``.
"""

from __future__ import annotations

from runtime.protocol.inference_codec import decode_request, encode_response, read_header_length
from runtime.protocol.json_text import dumps, json_weight, loads
from runtime.protocol.messages import (
    InferRequest,
    InferResponse,
    RequestedOutput,
    check_inputs,
    check_outputs,
)

__all__ = [
    "InferRequest",
    "InferResponse",
    "RequestedOutput",
    "check_inputs",
    "check_outputs",
    "decode_request",
    "dumps",
    "encode_response",
    "json_weight",
    "loads",
    "read_header_length",
]
