"""Which bodies are taken as they are: the content types a function accepts, and the field that such a body fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.errors import UnsupportedMediaType
from runtime.graph import Port

JSON = "application/json"


def raw_field(fields: Mapping[str, Port]) -> str | None:
    """The one field that a call must carry, if it is of type ``bytes``; None: no body is the whole of a call."""
    required = [name for name, port in fields.items() if port.is_required]
    return required[0] if len(required) == 1 and fields[required[0]].type.annotation is bytes else None


def misfit(accepts: Sequence[str], fields: Mapping[str, Port]) -> str:
    """Why a function of these fields cannot take such bodies; empty when it can, or is not to."""
    if not accepts or raw_field(fields) is not None:
        return ""
    wanted = "a body taken as it is fills the one field that a call must carry, of type `bytes`"
    required = [f"{name!r} ({port.type})" for name, port in fields.items() if port.is_required]
    return f"{wanted}; this function must have {', '.join(required) or 'none'}. Give the others defaults, or delete the key."


def is_raw(content_type: str, accepts: Sequence[str]) -> bool:
    """Whether a body of this content type is taken as it is; False: it is JSON. One that says nothing is taken for JSON.

    Args:
        content_type: the header's value; parameters such as ``charset`` decide nothing.
        accepts: as declared, ranges among them.

    Raises:
        UnsupportedMediaType: naming what is read here.
    """
    kind = content_type.split(";", 1)[0].strip().lower()
    if kind in ("", JSON):
        return False
    if not kind.startswith("multipart/") and any(_covers(media, kind) for media in accepts):
        return True
    if not accepts:
        raise UnsupportedMediaType("the call takes application/json; with curl: -H 'content-type: application/json'.", where="content-type")
    if kind.startswith("multipart/"):
        raise UnsupportedMediaType("forms are not read here; with curl: --data-binary @FILE instead of -F.", where="content-type")
    sample = f"-H 'content-type: {accepts[0].replace('*', '...')}' "
    raise UnsupportedMediaType(
        f"the call takes {', '.join([JSON, *accepts])}; with curl: {sample}--data-binary @FILE sends a file as it is.", where="content-type"
    )


def _covers(media: str, kind: str) -> bool:
    """Media ranges of RFC 9110, section 12.5.1."""
    return media in ("*/*", kind) or (media.endswith("/*") and kind.startswith(media[:-1]))
