"""The cores that a process may use."""

from __future__ import annotations

import os

import pytest

from runtime.system.cores import usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="macOS holds no process to cores")
def test_a_process_that_is_held_to_a_core_has_one():
    """As in a container with a set of cores."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_system_that_does_not_say_has_all(monkeypatch):
    """macOS, where `wakeful run` would otherwise not start."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == os.cpu_count()
