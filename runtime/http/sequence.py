"""The sequence that a call names: by its headers, or by the parameters of the Open Inference Protocol's sequence extension.

    x-sequence-id: SESSION    x-sequence-start: 1    x-sequence-end: 1
    {"parameters": {"sequence_id": "SESSION", "sequence_start": true, "sequence_end": true}, ...}

HAProxy writes the header where it finds the parameter in a body (``deployments/haproxy``), so a call may have both; the body's hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.types import Scope

from runtime.errors import MalformedBody, RequestError
from runtime.http.exchange import header
from runtime.sequences import MAX_ID_CHARS, InSequence, in_sequence
from runtime.wire.names import shown

ID: Final = b"x-sequence-id"
START: Final = b"x-sequence-start"
END: Final = b"x-sequence-end"
ROUTE: Final = b"x-wakeful-sequence"
"""Of HAProxy: see ``InSequence.route``."""

_FLAGS: Final = {b"": False, b"0": False, b"false": False, b"1": True, b"true": True}


def of_headers(scope: Scope) -> InSequence | None:
    """What the headers say; None when they name no sequence.

    Raises:
        RequestError: an id that can be none, or a start or an end that is neither 1 nor 0.
    """
    return in_sequence(header(scope, ID).decode("utf-8", "replace"), _flag(scope, START), _flag(scope, END), ID.decode(), _route(scope))


def of_parameters(parameters: Mapping[str, Any], scope: Scope) -> InSequence | None:
    """What the parameters of a v2 request say, or the headers where they name no sequence.

    Raises:
        RequestError: as ``of_headers``.
    """
    for key in ("sequence_start", "sequence_end"):
        if type(parameters.get(key, False)) is not bool:
            raise MalformedBody(f"{key} takes true or false.", where=f"parameters.{key}")
    starts = parameters.get("sequence_start", False) or _flag(scope, START)
    ends = parameters.get("sequence_end", False) or _flag(scope, END)
    identity = parameters.get("sequence_id") or header(scope, ID).decode("utf-8", "replace")
    return in_sequence(identity, starts, ends, "parameters.sequence_id", _route(scope))


def _route(scope: Scope) -> str:
    return header(scope, ROUTE)[:MAX_ID_CHARS].decode("latin-1")


def _flag(scope: Scope, name: bytes) -> bool:
    said = header(scope, name).strip().lower()
    if said not in _FLAGS:
        raise RequestError(f"{name.decode()} is {shown(said.decode('latin-1'))}; 1 or 0 is wanted.", where=name.decode())
    return _FLAGS[said]
