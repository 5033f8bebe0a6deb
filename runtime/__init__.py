"""Wakeful's engine: functions declared in YAML, served in one process or, by ``deployments``, on
Ray Serve.

What a stage author imports stands here; everything else is reachable and not promised.
"""

from runtime.batching.reservation import reserve
from runtime.errors import RequestError, UpstreamError
from runtime.types.annotations import Header, RequestId, Rows, Shape, State

__all__ = [
    "Header",
    "RequestError",
    "RequestId",
    "Rows",
    "Shape",
    "State",
    "UpstreamError",
    "reserve",
]
