"""The GPUs of this machine as NVIDIA's driver counts them: memory, and how much of it is taken.

Asked of the driver's own library (NVML), which starts no CUDA context and needs no package; a machine without it has no GPUs.
Its numbering is that of the PCI bus, which Ray goes by too, and CUDA with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

LIBRARY: Final = "libnvidia-ml.so.1"

_SUCCESS: Final = 0


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of one device in bytes, of all processes together."""

    total_bytes: int
    used_bytes: int


class _Memory(ctypes.Structure):
    """``nvmlMemory_t``."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def devices(load: Callable[[str], Any] = ctypes.CDLL) -> tuple[DeviceMemory, ...]:
    """Every device of this machine, in the driver's order; none where there is no driver, or it does not answer.

    Args:
        load: gives the functions of a library by its name, or raises OSError.
    """
    with _opened(load) as nvml:
        if nvml is None:
            return ()
        count = ctypes.c_uint()
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != _SUCCESS:
            return ()
        return tuple(filter(None, (_memory(nvml, index) for index in range(count.value))))


@contextlib.contextmanager
def _opened(load: Callable[[str], Any]) -> Iterator[Any | None]:
    try:
        nvml = load(LIBRARY)
    except OSError:
        yield None
        return
    if nvml.nvmlInit_v2() != _SUCCESS:
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _memory(nvml: Any, index: int) -> DeviceMemory | None:
    handle, memory = ctypes.c_void_p(), _Memory()
    if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) != _SUCCESS:
        return None
    if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) != _SUCCESS:
        return None
    return DeviceMemory(memory.total, memory.used)
