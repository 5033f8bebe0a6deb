"""Ray's messages about an application in one sentence: why it failed, or what it waits for; with
the shares of the GPUs where a replica waits for one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deployments.ray_support.texts import ActorDeath, is_loading, read_error, read_wait

SHOWN: Final = {"CPU": "CPU", "GPU": "GPU", "memory": "bytes of memory"}


def waiting_reason(
    message: str, wants: Mapping[str, float] | None = None, shares: Sequence[GpuShare] = ()
) -> str:
    """One sentence of a status message.

    Args:
        message: Ray's, with a traceback in it perhaps.
        wants: the declared resources of a replica, for a message without them.
        shares: of the GPUs, that replicas have; named where a replica waits for a GPU.
    """
    if waits := read_wait(message):
        wanted, has = waits
        gpus, free = float(wanted.get("GPU", 0)), float(has.get("GPU", 0))
        if not _lacks(wanted, has) and has_room(gpus, shares, free):
            return "is starting its process."
        sentence = (
            f"waits for {_amounts(wanted) or 'resources'} a replica; free in the cluster: "
            f"{_amounts(has, empty=wanted) or 'nothing'}."
        )
        return f"{sentence} {allocation_message(shares, free, gpus) if gpus else ''}".rstrip()
    if is_loading(message):
        return "is loading."
    error = read_error(message)
    if isinstance(error, ActorDeath):
        return f"{error.actor} died: {error.why}"
    if error is not None:
        return error.message if error.kind == "LoadError" else f"{error.kind}: {error.message}"
    lines = message.strip().splitlines()
    if lines:
        return lines[-1]
    wanted = {
        key.removeprefix("num_").upper()[:-1]: str(value) for key, value in (wants or {}).items()
    }
    gpus = float(wanted.get("GPU", 0))
    return (
        f"waits for {_amounts(wanted)} a replica. "
        f"{allocation_message(shares, None, gpus) if gpus else ''}"
    ).rstrip()


def _amounts(found: Mapping[str, str], empty: Mapping[str, str] | None = None) -> str:
    """``0.5 GPU and 1 CPU``; a resource that is wanted and not in the cluster is 0."""
    amounts = {
        name: float(found.get(name, 0)) for name in SHOWN if name in found or name in (empty or {})
    }
    kept = {name: amount for name, amount in amounts.items() if amount or empty is not None}
    return " and ".join(f"{amount:g} {SHOWN[name]}" for name, amount in kept.items())


def waits_for_resources(message: str) -> bool:
    """Whether a status message says that a replica has no room in the cluster. Ray says so too of a
    replica whose process takes long to start, though there is room."""
    waits = read_wait(message)
    return waits is not None and _lacks(*waits)


def _lacks(wanted: Mapping[str, str], free: Mapping[str, str]) -> bool:
    return any(float(amount) > float(free.get(name, 0)) for name, amount in wanted.items())


SHOWN_SHARES: Final = 8
"""Functions named in a sentence; the rest are counted."""


@dataclass(frozen=True, slots=True)
class GpuShare:
    """The part of the GPUs that one replica has.

    Attributes:
        name: its function's.
        num_gpus: as declared.
        device: the device, and its node; empty where it is not known, or for several.
    """

    name: str
    num_gpus: float
    device: str = ""


def most_free_share(shares: Sequence[GpuShare], devices: float) -> float:
    """The largest free part of one device; where the devices of the replicas are not known, all
    that is free counts as one part.
    """
    parts: dict[str, float] = defaultdict(float)
    for share in shares:
        parts[share.device] += share.num_gpus
    if "" in parts or len(parts) < devices:
        return max(0.0, min(1.0, devices - sum(parts.values())))
    return max((round(1.0 - part, 4) for part in parts.values()), default=0.0)


def has_room(wanted: float, shares: Sequence[GpuShare], free: float) -> bool:
    """Whether a device has a share of that size free; for several whole devices, whether enough are
    free.
    """
    one_has = most_free_share(shares, free + _sum(shares)) if wanted <= 1 else free
    return wanted <= min(free, one_has) + 1e-9


def running_shares(
    replicas: Mapping[str, int], resources: Mapping[str, Mapping[str, float]]
) -> list[GpuShare]:
    """The shares of running replicas whose devices are not known; both arguments by the function's
    name.
    """
    return [
        GpuShare(name, wants["num_gpus"])
        for name, wants in resources.items()
        if wants.get("num_gpus")
        for _ in range(replicas.get(name, 0))
    ]


def allocation_message(shares: Sequence[GpuShare], free: float | None, wanted: float) -> str:
    """``2 of 2 GPUs are taken: a 4 x 0.25, b 1.``; empty when no replica has any.

    Args:
        free: free GPUs of the cluster; None: not known.
        wanted: GPUs that the waiting replica needs.
    """
    if not shares:
        return ""
    have = _sum(shares)
    groups = Counter((share.name, share.num_gpus) for share in shares)
    names = [
        f"{name} {f'{count} x ' if count > 1 else ''}{size:g}"
        for (name, size), count in sorted(groups.items())
    ]
    rest = f" and {len(names) - SHOWN_SHARES} more" if len(names) > SHOWN_SHARES else ""
    listed = f"{', '.join(names[:SHOWN_SHARES])}{rest}"
    if free is None:
        return f"{have:g} GPU{'s are' if have > 1 else ' is'} taken: {listed}."
    most_left = (
        ""
        if has_room(wanted, shares, free) or free < wanted
        else f", and no device has more than {most_free_share(shares, free + have):g} left"
    )
    return (
        f"{have:g} of {have + free:g} GPU{'s are' if have + free > 1 else ' is'} taken{most_left}: "
        f"{listed}."
    )


def _sum(shares: Sequence[GpuShare]) -> float:
    return sum(share.num_gpus for share in shares)
