"""Ray's messages about an application, in a sentence: why it failed, or what it waits for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from deployments.shares import Share, fits, taken

_WAITS: Final = re.compile(r"Resources required for each replica: (\{.*?\}), total resources available: (\{.*?\})")
_NUMBER: Final = re.compile(r"""["']([^"']+)["']: ?([0-9.]+)""")
_ERROR: Final = re.compile(r"^(?:[A-Za-z_]\w*\.)*(?P<kind>[A-Za-z_]\w*(?:Error|Exception|Exit|Interrupt)): (?P<message>.+)$", re.MULTILINE)

_LOADS: Final = "to initialize"
"""Of Ray's message about a replica whose constructor takes its time."""

SHOWN: Final = {"CPU": "CPU", "GPU": "GPU", "memory": "bytes of memory"}


def reason(message: str, wants: Mapping[str, float] | None = None, shares: Sequence[Share] = ()) -> str:
    """One sentence of a status message.

    Args:
        message: Ray's, with a traceback in it perhaps.
        wants: the resources that a replica takes as declared, for a message that says nothing of them.
        shares: of the GPUs, that replicas have: said where one is waited for.
    """
    waits = _WAITS.search(message)
    if waits:
        wanted, has = _wanted_and_free(waits)
        gpus, free = float(wanted.get("GPU", 0)), float(has.get("GPU", 0))
        if not _lacks(wanted, has) and fits(gpus, shares, free):
            return "is starting its process."
        said = f"waits for {_amounts(wanted) or 'resources'} a replica; free in the cluster: {_amounts(has, empty=wanted) or 'nothing'}."
        return f"{said} {taken(shares, free, gpus) if gpus else ''}".rstrip()
    if _LOADS in message:
        return "is loading."
    errors = list(_ERROR.finditer(message))
    if errors:
        last = errors[-1]
        return last["message"] if last["kind"] == "LoadError" else f"{last['kind']}: {last['message']}"
    lines = message.strip().splitlines()
    if lines:
        return lines[-1]
    wanted = {key.removeprefix("num_").upper()[:-1]: str(value) for key, value in (wants or {}).items()}
    gpus = float(wanted.get("GPU", 0))
    return f"waits for {_amounts(wanted)} a replica. {taken(shares, None, gpus) if gpus else ''}".rstrip()


def _amounts(found: Mapping[str, str], empty: Mapping[str, str] | None = None) -> str:
    """``0.5 GPU and 1 CPU``; a resource that is wanted and that the cluster does not name is 0."""
    amounts = {name: float(found.get(name, 0)) for name in SHOWN if name in found or name in (empty or {})}
    kept = {name: amount for name, amount in amounts.items() if amount or empty is not None}
    return " and ".join(f"{amount:g} {SHOWN[name]}" for name, amount in kept.items())


def waits_for_resources(message: str) -> bool:
    """Whether a status message says that a replica finds no room in the cluster. Ray says so as well of one whose process takes long to
    start, though there is room."""
    waits = _WAITS.search(message)
    return waits is not None and _lacks(*_wanted_and_free(waits))


def _wanted_and_free(waits: re.Match[str]) -> tuple[dict[str, str], dict[str, str]]:
    wanted, free = (dict(_NUMBER.findall(text)) for text in waits.groups())
    return wanted, free


def _lacks(wanted: Mapping[str, str], free: Mapping[str, str]) -> bool:
    return any(float(amount) > float(free.get(name, 0)) for name, amount in wanted.items())
