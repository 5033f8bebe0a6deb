"""What the author of a stage imports from Wakeful: ``from wakeful import Rows, Shape, State``.

The one public front; modules of ``runtime`` and ``deployments`` may change with any version.
"""

from runtime.batching.reservation import reserve
from runtime.errors import CallError, RequestError, UpstreamError
from runtime.types.annotations import Header, MediaType, RequestId, Rows, Shape, State
from runtime.types.call_handles import Call
from runtime.types.files import File

__all__ = [
    "Call",
    "CallError",
    "File",
    "Header",
    "MediaType",
    "RequestError",
    "RequestId",
    "Rows",
    "Shape",
    "State",
    "UpstreamError",
    "reserve",
]
