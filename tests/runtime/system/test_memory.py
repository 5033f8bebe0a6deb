"""How much memory there is."""

from __future__ import annotations

import platform
import weakref

import numpy as np
import psutil
import pytest

from runtime.settings import Settings, budget_bytes
from runtime.system import memory
from runtime.system.memory import Footprint, free_bytes, trim_memory


def write(folder, files):
    """A control group's files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"memory.max": "3000000\n", "memory.current": "1000000\n"}, 2_000_000),
        (
            {
                "memory.max": "3000000\n",
                "memory.current": "1000000\n",
                "memory.stat": "anon 5\ninactive_file 400000\n",
            },
            2_400_000,
        ),
        (
            {
                "memory/memory.limit_in_bytes": "3000000\n",
                "memory/memory.usage_in_bytes": "4000000\n",
            },
            0,
        ),
    ],
)
def test_a_control_group_may_allow_less(tmp_path, files, free):
    """Its limit less what it uses; pages of files that no process uses are as good as free."""
    write(tmp_path, files)
    assert free_bytes(tmp_path) == free


def test_without_a_limit_the_machine_decides(tmp_path):
    """No group, or one without a limit."""
    write(tmp_path, {"memory.max": "max\n", "memory.current": "1000000\n"})
    assert 0 < free_bytes(tmp_path) <= psutil.virtual_memory().total


def test_the_budget_is_the_setting_or_half():
    """WAKEFUL_MEMORY_MB, in megabytes."""
    assert budget_bytes(Settings.read({"WAKEFUL_MEMORY_MB": "250"})) == 250_000_000
    assert 0 < budget_bytes(Settings.read({})) <= psutil.virtual_memory().total // 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others have no malloc_trim")
def test_memory_that_is_free_is_given_back():
    """Small blocks, most of them freed: the C library keeps them until it is asked."""
    blocks = [np.ones(60_000, np.uint8) for _ in range(1500)]
    kept = blocks[::50]
    held = Footprint.of().own_bytes
    del blocks
    trim_memory()
    assert Footprint.of().own_bytes < held - 60_000_000
    assert len(kept) == 30


def test_memory_is_given_back_wherever_it_runs(monkeypatch):
    """Garbage that refers to itself is collected, also where the C library gives nothing back."""

    class Circle:
        """Refers to itself."""

    def no_library(name: None) -> None:
        raise OSError

    monkeypatch.setattr(memory.ctypes, "CDLL", no_library)
    memory._trim.cache_clear()
    try:
        circle = Circle()
        circle.me = circle  # type: ignore[attr-defined]
        gone = weakref.ref(circle)
        del circle
        trim_memory()
        assert gone() is None
    finally:
        memory._trim.cache_clear()
