"""A GPU in shares: what memory a share has, how the models of a process divide it, and what always-on replicas ask of all devices.

Ray hands out fractions and nothing holds a process to its own, so the arithmetic does. A replica's memory must fit its share of one
device; then whatever replicas Ray puts on a device fit it together, in any order. Sizes are MB of 2**20 bytes, as drivers count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runtime.spec import ResourcesSpec

MB: Final = 1024 * 1024

CONTEXT_MB: Final = 600
"""Of a replica's share, left to what lies outside of ONNX Runtime's arena: the CUDA context (300 to 500 MB by what is known of it) and the
workspaces of cuBLAS and cuDNN. Not measured here: no GPU was at hand."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """The device that a process was given.

    Attributes:
        index: among those that the process sees, as CUDA numbers them.
        memory_bytes: all that the device has; None where no driver says.
    """

    index: int = 0
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """Replicas of one function that are kept without traffic.

    Attributes:
        memory_mb: that one of them takes of its device; None: not known.
    """

    name: str
    count: int
    num_gpus: float
    memory_mb: int | None


def on_cpu(resources: ResourcesSpec) -> bool:
    """Whether models are declared to run on CPUs alone, and see no other device."""
    if resources.providers is not None:
        return resources.providers[0].startswith("CPU")
    return resources.device == "cpu" or (resources.device == "auto" and not resources.num_gpus)


def share_of(num_gpus: float) -> float:
    """Of one device: a replica with several whole GPUs has all of each."""
    return min(1.0, num_gpus)


def least_share(memory_mb: int, device_mb: int) -> float:
    """The smallest fraction, in hundredths, whose memory is enough; above 1 if no device has it."""
    return math.ceil(100 * memory_mb / device_mb - 1e-9) / 100


def beyond_share(num_gpus: float, memory_mb: int, device_mb: int) -> str:
    """Why a replica's memory does not fit its share of a device, and what would; empty when it fits."""
    share = share_of(num_gpus)
    if memory_mb <= share * device_mb:
        return ""
    if memory_mb > device_mb:
        return f"{memory_mb} MB of GPU memory are needed and a device has {device_mb}. Use larger devices or a smaller model."
    least = least_share(memory_mb, device_mb)
    sum_ = f"{share:g} of a device of {device_mb} MB is {share * device_mb:.0f} MB"
    return f"{sum_}, and {memory_mb} MB are needed. Declare num_gpus: {least:g} or more."


def arena_mb(num_gpus: float, memory_mb: int | None, device_mb: int | None) -> int | None:
    """What the arenas of a replica's models may hold together: its memory, declared or its share of the device, less ``CONTEXT_MB``.

    Returns:
        None where neither is known: nothing is limited.

    Raises:
        ValueError: with the arithmetic, where the memory does not fit the share, or leaves the models nothing.
    """
    if memory_mb is not None and device_mb is not None and (refused := beyond_share(num_gpus, memory_mb, device_mb)):
        raise ValueError(refused)
    room = memory_mb if memory_mb is not None else None if device_mb is None else int(share_of(num_gpus) * device_mb)
    if room is None:
        return None
    if room <= CONTEXT_MB:
        said = "gpu_memory_mb" if memory_mb is not None else f"{share_of(num_gpus):g} of a device of {device_mb} MB"
        raise ValueError(f"{said} is {room} MB, and a process takes about {CONTEXT_MB} of them before any model. Declare more.")
    return room - CONTEXT_MB


def divided(room: int, weights: Sequence[int]) -> tuple[int, ...]:
    """A limit for each model's arena, in the unit of ``room``: its weights, and an equal part of what all weights leave.

    Raises:
        ValueError: with the arithmetic, where they leave nothing.
    """
    left = room - sum(weights)
    if left <= 0:
        raise ValueError(f"the models' weights are {sum(weights)} and the room for them and all activations is {room}")
    return tuple(weight + left // len(weights) for weight in weights)


def position(assigned: Sequence[str], visible: str | None) -> int:
    """Where the first device that Ray assigned stands among those that the process sees.

    Args:
        assigned: ids as Ray gives them, ``["1"]``.
        visible: ``CUDA_VISIBLE_DEVICES``, by which CUDA numbers devices from 0 anew; None: unset, it sees all.
    """
    if not assigned:
        return 0
    if visible is None:
        return int(assigned[0]) if assigned[0].isdigit() else 0
    seen = [name.strip() for name in visible.split(",")]
    return seen.index(assigned[0]) if assigned[0] in seen else 0


def overcommitted(kept: Sequence[Kept], devices: int, device_mb: int) -> str:
    """Why replicas that are always on can never all be held by so many devices; empty when they can, as far as can be said.

    Only memory that is known is counted. What is refused here could not be placed by anybody; a fraction that is merely taken waits.
    """
    known = [(one, one.memory_mb) for one in kept if one.memory_mb is not None and one.count]
    total = sum(one.count * memory for one, memory in known)
    terms = " + ".join(f"{one.count} x {memory} ({one.name})" for one, memory in known)
    has = f"{devices} device{'s' * (devices != 1)} of {device_mb} MB"
    fix = "Lower min_replicas, let some sleep (min_replicas: 0), or add devices."
    if total > devices * device_mb:
        return f"always-on replicas take {terms} = {total} MB of GPU memory, and {has} hold {devices * device_mb}. {fix}"
    halves = [(one, memory) for one, memory in known if 2 * memory > device_mb]
    if (count := sum(one.count for one, _ in halves)) > devices:
        each = " + ".join(f"{one.count} x {memory} ({one.name})" for one, memory in halves)
        return f"{count} always-on replicas, {each} MB, take more than half of a device each, and there are {has}. {fix}"
    return ""
