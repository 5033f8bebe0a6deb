"""Kills for want of memory: counted by the nearest file that can be read."""

from __future__ import annotations

from pathlib import Path

from runtime.system import memory


def test_the_nearest_counter_decides(tmp_path):
    """The machine's count is read only where the group's is gone: it counts other processes too."""
    group, machine = tmp_path / "memory.events", tmp_path / "vmstat"
    group.write_text("oom 2\noom_kill 1\noom_group_kill 0\n")
    machine.write_text("nr_free_pages 7\noom_kill 5\n")
    before = memory.read_oom_counts([tmp_path / "missing", group, machine])
    assert before == {str(group): 1, str(machine): 5}
    machine.write_text("oom_kill 6\n")
    assert not memory.oom_killed_since(before)
    group.write_text("oom_kill 2\n")
    assert memory.oom_killed_since(before)
    group.unlink()
    assert memory.oom_killed_since(before)
    assert not memory.oom_killed_since({})


def test_this_system_is_read_without_complaint():
    """Whatever cgroups there are, the places exist or are passed over."""
    assert all(count >= 0 for count in memory.read_oom_counts(memory.oom_counter_files()).values())
    assert all(isinstance(path, Path) for path in memory.oom_counter_files())
