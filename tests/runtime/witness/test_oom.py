"""Kills for want of memory: counted by the nearest file that can be read."""

from __future__ import annotations

from pathlib import Path

from runtime.witness import oom


def test_the_nearest_counter_decides(tmp_path):
    """The machine's count is asked only where the group's is gone: it counts strangers too."""
    group, machine = tmp_path / "memory.events", tmp_path / "vmstat"
    group.write_text("oom 2\noom_kill 1\noom_group_kill 0\n")
    machine.write_text("nr_free_pages 7\noom_kill 5\n")
    before = oom.counts([tmp_path / "missing", group, machine])
    assert before == {str(group): 1, str(machine): 5}
    machine.write_text("oom_kill 6\n")
    assert not oom.grew(before)
    group.write_text("oom_kill 2\n")
    assert oom.grew(before)
    group.unlink()
    assert oom.grew(before)
    assert not oom.grew({})


def test_this_system_is_read_without_complaint():
    """Whatever cgroups there are, the places exist or are passed over."""
    assert all(count >= 0 for count in oom.counts(oom.counters()).values())
    assert all(isinstance(path, Path) for path in oom.counters())
