"""Which field of a function a body fills as it is (``accepts``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.graph.graph import Port


def raw_field_of(fields: Mapping[str, Port]) -> str | None:
    """The one required field, if it is of type ``bytes``; None: a body cannot fill the row as
    it is.
    """
    required = [name for name, port in fields.items() if port.is_required]
    return (
        required[0] if len(required) == 1 and fields[required[0]].type.annotation is bytes else None
    )


def media_issue(accepts: Sequence[str], fields: Mapping[str, Port]) -> str:
    """Why a function of these fields cannot take such bodies; empty when it can, or declares
    none.
    """
    if not accepts or raw_field_of(fields) is not None:
        return ""
    wanted = "a body taken as it is fills the one field that a call must carry, of type `bytes`"
    required = [f"{name!r} ({port.type})" for name, port in fields.items() if port.is_required]
    return (
        f"{wanted}; this function must have {', '.join(required) or 'none'}. Give the others"
        " defaults, or delete the key."
    )
