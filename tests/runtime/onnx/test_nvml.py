"""Devices as the driver reports them, by a fake driver: the tests' machines have no real one."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pynvml
import pytest

from runtime.onnx import gpu_memory
from runtime.onnx.gpu_memory import GpuDevice, assigned_gpu
from runtime.settings import Settings


class Driver:
    """Three devices of 16000 MiB, of which the second and third have 1 and 2 GiB taken; one of its
    functions may fail.

    Attributes:
        open: how often it was begun and not ended.
    """

    def __init__(self, fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = 0
        self._fails = fails
        monkeypatch.setattr(pynvml, "nvmlInit", self._init)
        monkeypatch.setattr(pynvml, "nvmlShutdown", self._shutdown)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", self._count)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", self._memory)

    def _refuse(self, what: str) -> None:
        if self._fails == what:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)

    def _init(self) -> None:
        self._refuse("init")
        self.open += 1

    def _shutdown(self) -> None:
        self.open -= 1

    def _count(self) -> int:
        self._refuse("count")
        return 3

    def _memory(self, device: int) -> SimpleNamespace:
        if device == 1:
            self._refuse("second")
        return SimpleNamespace(total=16000 << 20, used=device << 30)


@pytest.mark.parametrize(
    ("fails", "used_gb"), [("", [0, 1, 2]), ("init", []), ("count", []), ("second", [0, 2])]
)
def test_devices_are_those_that_answer(fails, used_gb, monkeypatch):
    """In the driver's order, with their memory; one that does not say is left out, and the library
    is let go of.
    """
    driver = Driver(fails, monkeypatch)
    found = gpu_memory.list_devices()
    assert [device.used_bytes >> 30 for device in found] == used_gb
    assert all(device.total_bytes == 16000 << 20 for device in found)
    assert driver.open == 0


def test_an_installation_for_cpus_has_no_device(monkeypatch):
    """It lacks the package that asks the driver, which `wakeful up` does anywhere."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_memory.list_devices() == ()


def test_without_a_driver_there_is_no_device(monkeypatch):
    """As on most machines; nothing is raised."""

    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert gpu_memory.list_devices() == ()


@pytest.mark.parametrize(
    ("mb", "assigned", "visible", "gpu"),
    [
        (16000, ["1"], "1", GpuDevice(0, 16000 << 20)),
        (16000, ["1"], "0,1", GpuDevice(1, 16000 << 20)),
        (16000, [], None, GpuDevice(0, 16000 << 20)),
    ],
)
def test_a_process_is_given_the_device_that_ray_assigned(tmp_path, mb, assigned, visible, gpu):
    """With the memory that the settings say, where no driver does."""
    assert assigned_gpu(Settings(tmp_path, tmp_path, gpu_memory_mb=mb), assigned, visible) == gpu
