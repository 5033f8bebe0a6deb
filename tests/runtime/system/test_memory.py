"""How much memory there is."""

from __future__ import annotations

import psutil
import pytest

from runtime.settings import Settings, budget_bytes
from runtime.system.memory import free_bytes, trim_memory


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


def test_memory_is_given_back_wherever_it_runs():
    """It may be called at any time."""
    trim_memory()
    trim_memory()
