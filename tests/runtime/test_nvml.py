"""What the driver's library says, asked of one that is made here, in C's calling convention: no machine of ours has the real one."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from runtime import nvml
from runtime.devices import Gpu
from runtime.gpus import given
from runtime.settings import Settings


class Memory(ctypes.Structure):
    """``nvmlMemory_t``."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


STATUS, UINT, POINTER = ctypes.c_int, ctypes.c_uint, ctypes.c_void_p


class Driver:
    """Three devices of 16000 MiB, of which the second and third have 1 and 2 GiB taken; one of its functions may fail.

    Attributes:
        library: its functions in C's calling convention.
        open: how often it was begun and not ended.
    """

    def __init__(self, fails: str) -> None:
        self.open = 0
        self._fails = fails
        self.library = SimpleNamespace(
            nvmlInit_v2=ctypes.CFUNCTYPE(STATUS)(self._init),
            nvmlShutdown=ctypes.CFUNCTYPE(STATUS)(self._shutdown),
            nvmlDeviceGetCount_v2=ctypes.CFUNCTYPE(STATUS, POINTER)(self._count),
            nvmlDeviceGetHandleByIndex_v2=ctypes.CFUNCTYPE(STATUS, UINT, POINTER)(self._handle),
            nvmlDeviceGetMemoryInfo=ctypes.CFUNCTYPE(STATUS, POINTER, POINTER)(self._memory),
        )

    def _init(self) -> int:
        self.open += self._fails != "init"
        return int(self._fails == "init")

    def _shutdown(self) -> int:
        self.open -= 1
        return 0

    def _count(self, count: int) -> int:
        UINT.from_address(count).value = 3
        return int(self._fails == "count")

    def _handle(self, index: int, device: int) -> int:
        POINTER.from_address(device).value = index + 1
        return 0

    def _memory(self, device: int, memory: int) -> int:
        said = Memory.from_address(memory)
        said.total, said.used = 16000 << 20, (device - 1) << 30
        said.free = said.total - said.used
        return int(self._fails == "second" and device == 2)


@pytest.mark.parametrize(("fails", "used_gb"), [("", [0, 1, 2]), ("init", []), ("count", []), ("second", [0, 2])])
def test_devices_are_those_that_answer(fails, used_gb):
    """In the driver's order, with their memory; one that does not say is left out, and the library is let go of."""
    driver = Driver(fails)
    found = nvml.devices(lambda name: driver.library)
    assert [device.used_bytes >> 30 for device in found] == used_gb
    assert all(device.total_bytes == 16000 << 20 for device in found)
    assert driver.open == 0


def test_without_a_driver_there_is_no_device():
    """As on most machines; nothing is raised."""
    assert nvml.devices(lambda name: ctypes.CDLL("libnvidia-ml-that-is-nowhere.so.1")) == ()


@pytest.mark.parametrize(
    ("mb", "assigned", "visible", "gpu"),
    [
        (16000, ["1"], "1", Gpu(0, 16000 << 20)),
        (16000, ["1"], "0,1", Gpu(1, 16000 << 20)),
        (16000, [], None, Gpu(0, 16000 << 20)),
    ],
)
def test_a_process_is_given_the_device_that_ray_assigned(tmp_path, mb, assigned, visible, gpu):
    """With the memory that the settings say, where no driver does."""
    assert given(Settings(tmp_path, tmp_path, gpu_memory_mb=mb), assigned, visible) == gpu
