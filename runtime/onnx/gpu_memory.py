"""GPUs in shares: the memory of a share, how the models of a process divide it, and what always-on
replicas need of all devices.

Ray hands out fractions of a GPU and does not hold a process to its own, so arithmetic does. A
replica's memory must fit its share of one device; then whatever replicas Ray puts on a device fit
it together, in any order. Sizes are MB of 2**20 bytes, as drivers count.

Devices and their memory come from the settings or from NVIDIA's driver (NVML). NVML starts no CUDA
context. Its numbering is that of the PCI bus, which Ray uses too, and CUDA with
``CUDA_DEVICE_ORDER=PCI_BUS_ID``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runtime.settings import Settings

MB: Final = 1024 * 1024

CONTEXT_MB: Final = 600
"""Of a replica's share, kept for what lies outside ONNX Runtime's arena: the CUDA context (300 to
500 MB by what is known of it) and the workspaces of cuBLAS and cuDNN. Not measured here: no GPU was
at hand.
"""


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """The device that Ray assigned to a process.

    Attributes:
        index: among those that the process sees, as CUDA numbers them.
        memory_bytes: of the whole device; None where no driver reports it.
    """

    index: int = 0
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class AlwaysOnReplicas:
    """Replicas of one function that run without traffic.

    Attributes:
        memory_mb: what one of them takes of its device; None: not known.
    """

    name: str
    count: int
    num_gpus: float
    memory_mb: int | None


def device_share(num_gpus: float) -> float:
    """The share of one device: a replica with several whole GPUs has all of each."""
    return min(1.0, num_gpus)


def smallest_share(memory_mb: int, device_mb: int) -> float:
    """The smallest fraction, in hundredths, whose memory is enough; above 1 if no device has it."""
    return math.ceil(100 * memory_mb / device_mb - 1e-9) / 100


def share_overflow_message(num_gpus: float, memory_mb: int, device_mb: int) -> str:
    """Why a replica's memory does not fit its share of a device, and what would; empty when it
    fits.
    """
    share = device_share(num_gpus)
    if memory_mb <= share * device_mb:
        return ""
    if memory_mb > device_mb:
        return (
            f"{memory_mb} MB of GPU memory are needed and a device has {device_mb}. Use larger"
            " devices or a smaller model."
        )
    least = smallest_share(memory_mb, device_mb)
    sum_ = f"{share:g} of a device of {device_mb} MB is {share * device_mb:.0f} MB"
    return f"{sum_}, and {memory_mb} MB are needed. Declare num_gpus: {least:g} or more."


def arena_mb(num_gpus: float, memory_mb: int | None, device_mb: int | None) -> int | None:
    """What the arenas of a replica's models may hold together: the replica's memory (declared, or
    its share of the device) less ``CONTEXT_MB``.

    Returns:
        None where neither is known: nothing is limited.

    Raises:
        ValueError: with the arithmetic, where the memory does not fit the share, or leaves the
            models nothing.
    """
    if (
        memory_mb is not None
        and device_mb is not None
        and (refused := share_overflow_message(num_gpus, memory_mb, device_mb))
    ):
        raise ValueError(refused)
    if memory_mb is not None:
        total = memory_mb
    elif device_mb is not None:
        total = int(device_share(num_gpus) * device_mb)
    else:
        return None
    if total <= CONTEXT_MB:
        what = (
            "gpu_memory_mb"
            if memory_mb is not None
            else f"{device_share(num_gpus):g} of a device of {device_mb} MB"
        )
        raise ValueError(
            f"{what} is {total} MB, and a process takes about {CONTEXT_MB} of them before any"
            " model. Declare more."
        )
    return total - CONTEXT_MB


def split_memory(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """A limit for each model's arena, in the unit of ``total``: its weights, and an equal part
    of what all weights leave.

    Raises:
        ValueError: with the arithmetic, where they leave nothing.
    """
    remainder = total - sum(weights)
    if remainder <= 0:
        raise ValueError(
            f"the models' weights are {sum(weights)} and the room for them and all activations is"
            f" {total}"
        )
    return tuple(weight + remainder // len(weights) for weight in weights)


def device_position(assigned: Sequence[str], visible: str | None) -> int:
    """The index of the first device that Ray assigned, among those visible to the process.

    Args:
        assigned: ids as Ray gives them, ``["1"]``.
        visible: ``CUDA_VISIBLE_DEVICES``, by which CUDA numbers devices from 0 again; None: unset,
            all are visible.
    """
    if not assigned:
        return 0
    if visible is None:
        return int(assigned[0]) if assigned[0].isdigit() else 0
    names = [name.strip() for name in visible.split(",")]
    return names.index(assigned[0]) if assigned[0] in names else 0


def overcommitted_message(
    always_on: Sequence[AlwaysOnReplicas], devices: int, device_mb: int
) -> str:
    """Why replicas that are always on can never all be held by so many devices; empty when they
    can, as far as is known.

    Only memory that is known is counted. What is refused here could never be placed; a replica
    whose fraction is merely in use waits.
    """
    known = [
        (function, function.memory_mb)
        for function in always_on
        if function.memory_mb is not None and function.count
    ]
    total = sum(function.count * memory for function, memory in known)
    terms = " + ".join(
        f"{function.count} x {memory} ({function.name})" for function, memory in known
    )
    has = f"{devices} device{'s' * (devices != 1)} of {device_mb} MB"
    fix = "Lower min_replicas, let some sleep (min_replicas: 0), or add devices."
    if total > devices * device_mb:
        return (
            f"always-on replicas take {terms} = {total} MB of GPU memory, and {has} hold"
            f" {devices * device_mb}. {fix}"
        )
    halves = [(function, memory) for function, memory in known if 2 * memory > device_mb]
    if (count := sum(function.count for function, _ in halves)) > devices:
        terms = " + ".join(
            f"{function.count} x {memory} ({function.name})" for function, memory in halves
        )
        return (
            f"{count} always-on replicas, {terms} MB, take more than half of a device each, and"
            f" there are {has}. {fix}"
        )
    return ""


def assigned_gpu(
    settings: Settings, assigned: Sequence[str] = (), visible: str | None = None
) -> GpuDevice:
    """The first of the devices that were assigned.

    Args:
        assigned: ids as Ray gives them, which are the driver's numbers; none: the first that the
            process sees.
        visible: the process's ``CUDA_VISIBLE_DEVICES``; None: unset.
    """
    number = int(assigned[0]) if assigned and assigned[0].isdigit() else 0
    return GpuDevice(device_position(assigned, visible), memory_bytes(settings, number))


def memory_bytes(settings: Settings, number: int = 0) -> int | None:
    """Memory of one device of this machine; None where neither settings nor driver report it."""
    if settings.gpu_memory_mb is not None:
        return settings.gpu_memory_mb * MB
    found = list_devices()
    return found[number].total_bytes if number < len(found) else None


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of one device in bytes, of all processes together."""

    total_bytes: int
    used_bytes: int


def list_devices() -> tuple[DeviceMemory, ...]:
    """Every device of this machine that answers, in the driver's order; none where there is no
    driver, or no package that asks it.
    """
    try:
        import pynvml  # 10 ms that a process without GPUs does without
    except ModuleNotFoundError:  # an installation for CPUs
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver, or none that works
        return ()
    found = []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):
                memory = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(index))
                found.append(DeviceMemory(memory.total, memory.used))
    except pynvml.NVMLError:  # it does not count them
        return ()
    finally:
        pynvml.nvmlShutdown()
    return tuple(found)
