"""An error of ours as plain data, from one process to another: there it is the same error again, of the same class."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from runtime.errors import RequestError, WakefulError

_PLAIN: Final[Mapping[str, tuple[type, ...]]] = {
    "error": (str,),
    "code": (str,),
    "where": (str,),
    "request_id": (str,),
    "status": (int,),
    "retry_after_s": (int, float, type(None)),
}


def encode(error: WakefulError) -> dict[str, Any]:
    """The error form, with the status and what ``Retry-After`` says."""
    return {**error.body(""), "status": error.status, "retry_after_s": error.retry_after_s}


def decode(form: Any, status: int = 500, retry_after_s: float | None = None) -> WakefulError | None:
    """The error that a form stands for; None where it is no error form.

    Args:
        form: what ``encode`` made, or the body of an answer with an error.
        status: of that answer, where the form has none.
        retry_after_s: likewise.
    """
    if not isinstance(form, dict) or not {"error", "code"} <= form.keys() <= _PLAIN.keys():
        return None
    if not all(type(value) in _PLAIN[key] for key, value in form.items()):
        return None
    status = form.get("status", status)
    if not 400 <= status <= 599:
        return None
    kind = _kind(form["code"], status)
    return kind(form["error"], where=form.get("where", ""), retry_after_s=form.get("retry_after_s", retry_after_s))


def _kind(code: str, status: int) -> type[WakefulError]:
    """The class of that code; one that is known nowhere here (a function's own, a later version's) keeps its code and status."""
    known = _known().get(code)
    return known if known is not None and known.status == status else _unknown(code, status)


@functools.lru_cache(maxsize=256)
def _unknown(code: str, status: int) -> type[WakefulError]:
    base = RequestError if status < 500 and status != 429 else WakefulError
    return type("RemoteError", (base,), {"__module__": __name__, "__doc__": "Raised elsewhere.", "status": status, "code": code})


@functools.cache
def _known() -> dict[str, type[WakefulError]]:
    """Ours by code, those nearest the root first where two share one."""
    kinds: list[type[WakefulError]] = [WakefulError, *_below(WakefulError)]
    return {kind.code: kind for kind in reversed(kinds) if kind.__module__ == WakefulError.__module__}


def _below(root: type[WakefulError]) -> Iterator[type[WakefulError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _below(kind)
