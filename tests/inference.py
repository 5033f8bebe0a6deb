"""Open Inference Protocol requests to a function of this process, past HTTP."""

from __future__ import annotations

from runtime.batching.calls import DEFAULT_OPTIONS, Call, CallOptions
from runtime.execution.function import Function
from runtime.protocol.messages import InferRequest, InferResponse


async def infer(
    function: Function, request: InferRequest, options: CallOptions = DEFAULT_OPTIONS
) -> tuple[InferResponse, Call]:
    """The response to a decoded request, and its call."""
    rows = function.protocol.rows(request, function.spec.limits.max_rows)
    call = await function.run(rows, options)
    return function.protocol.response(request, call.rows), call
