"""How a process ended, in words."""

from __future__ import annotations

import pytest

from runtime.system.child_processes import explain_exit


@pytest.mark.parametrize(
    ("status", "out_of_memory", "explanation"),
    [
        (0, False, "exit status 0"),
        (3, False, "exit status 3"),
        (-11, False, "SIGSEGV (Segmentation fault)"),
        (-6, True, "SIGABRT"),
        (-9, True, "out of memory"),
        (-9, False, "SIGKILL"),
        (-40, False, "died of signal 40"),
    ],
)
def test_an_exit_is_explained_by_its_status(
    status: int, out_of_memory: bool, explanation: str
) -> None:
    """Exit codes, signals, and the system's own doing."""
    assert explanation in explain_exit(status, out_of_memory=out_of_memory)
