"""What the driver's library says, asked of one that is compiled here: no machine of ours has the real one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from runtime import nvml
from runtime.devices import Gpu
from runtime.gpus import given
from runtime.settings import Settings

SOURCE = """
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
static int fails = %d;
int nvmlInit_v2(void) { return fails == 1; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return fails == 2; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(long)(index + 1); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, nvmlMemory_t *memory) {
    unsigned long long index = (long)device - 1;
    memory->total = 16000ull << 20; memory->used = index << 30; memory->free = memory->total - memory->used;
    return fails == 3 && index == 1;
}
"""


@pytest.fixture
def driver(tmp_path: Path):
    """A library with NVML's functions of which one fails, or none."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")

    def compiled(fails: int) -> str:
        source, library = tmp_path / "nvml.c", tmp_path / f"libnvml{fails}.so"
        source.write_text(SOURCE % fails)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        return str(library)

    return compiled


@pytest.mark.parametrize(("fails", "used_gb"), [(0, [0, 1, 2]), (1, []), (2, []), (3, [0, 2])])
def test_devices_are_those_that_answer(driver, fails, used_gb):
    """In the driver's order, with their memory; one that does not say is left out."""
    found = nvml.devices(driver(fails))
    assert [device.used_bytes >> 30 for device in found] == used_gb
    assert all(device.total_bytes == 16000 << 20 for device in found)


def test_without_a_driver_there_is_no_device():
    """As on most machines; nothing is raised."""
    assert nvml.devices("libnvidia-ml-that-is-nowhere.so.1") == ()


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
