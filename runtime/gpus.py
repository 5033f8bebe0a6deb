"""The GPU that a process was given, with its memory: of this machine's, as the driver counts them, or as the settings say."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.devices import MB, Gpu, position
from runtime.nvml import devices
from runtime.settings import Settings


def given(settings: Settings, assigned: Sequence[str] = (), visible: str | None = None) -> Gpu:
    """The first of the devices that were assigned.

    Args:
        assigned: ids as Ray gives them, which are the driver's numbers; none: the first that the process sees.
        visible: the process's ``CUDA_VISIBLE_DEVICES``; None: unset.
    """
    number = int(assigned[0]) if assigned and assigned[0].isdigit() else 0
    return Gpu(position(assigned, visible), memory_bytes(settings, number))


def memory_bytes(settings: Settings, number: int = 0) -> int | None:
    """Memory of one device of this machine; None where nobody says."""
    if settings.gpu_memory_mb is not None:
        return settings.gpu_memory_mb * MB
    found = devices()
    return found[number].total_bytes if number < len(found) else None
