"""Who has which share of the GPUs, and what a replica that wants one waits for: sums, and what one device has left."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

SHOWN: Final = 8
"""Functions named in a sentence; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one replica has.

    Attributes:
        name: its function's.
        num_gpus: as declared.
        device: the device, and its node; empty where that is not known, or for several.
    """

    name: str
    num_gpus: float
    device: str = ""


def most_free(shares: Sequence[Share], devices: float) -> float:
    """The largest part of one device that nobody has; if it is not known who is where, all that is left counts as one part."""
    parts: dict[str, float] = defaultdict(float)
    for share in shares:
        parts[share.device] += share.num_gpus
    if "" in parts or len(parts) < devices:
        return max(0.0, min(1.0, devices - sum(parts.values())))
    return max((round(1.0 - part, 4) for part in parts.values()), default=0.0)


def fits(wanted: float, shares: Sequence[Share], free: float) -> bool:
    """Whether some device has a share of that size left; of several whole ones, whether all that is left is enough."""
    one_has = most_free(shares, free + _sum(shares)) if wanted <= 1 else free
    return wanted <= min(free, one_has) + 1e-9


def running(replicas: Mapping[str, int], resources: Mapping[str, Mapping[str, float]]) -> list[Share]:
    """What the replicas have that run, where nobody says on which device; both by the function's name."""
    return [
        Share(name, wants["num_gpus"]) for name, wants in resources.items() if wants.get("num_gpus") for _ in range(replicas.get(name, 0))
    ]


def taken(shares: Sequence[Share], free: float | None, wanted: float) -> str:
    """``2 of 2 GPUs are taken: a 4 x 0.25, b 1.``; empty when nobody has any.

    Args:
        free: of all GPUs of the cluster; None: not known.
        wanted: by the replica that waits.
    """
    if not shares:
        return ""
    have = _sum(shares)
    groups = Counter((share.name, share.num_gpus) for share in shares)
    names = [f"{name} {f'{count} x ' if count > 1 else ''}{size:g}" for (name, size), count in sorted(groups.items())]
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    listed = f"{', '.join(names[:SHOWN])}{rest}"
    if free is None:
        return f"{have:g} GPU{'s are' if have > 1 else ' is'} taken: {listed}."
    left = "" if fits(wanted, shares, free) or free < wanted else f", and no device has more than {most_free(shares, free + have):g} left"
    return f"{have:g} of {have + free:g} GPU{'s are' if have + free > 1 else ' is'} taken{left}: {listed}."


def _sum(shares: Sequence[Share]) -> float:
    return sum(share.num_gpus for share in shares)
