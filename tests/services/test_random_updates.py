"""Random updates of a file whose functions call each other, while callers call and processes are
killed: nothing is lost or refused, and no answer is of a version that was not declared.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.command import Bench
from loadtests.faults.scenarios import SCENARIOS
from loadtests.server import free_port

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(
    "is_quick",
    [
        pytest.param(True, marks=pytest.mark.full),
        pytest.param(False, marks=[pytest.mark.full, pytest.mark.timeout(2400)]),
    ],
)
def test_random_updates_lose_and_refuse_nothing(is_quick: bool, tmp_path: Path) -> None:
    """The account of each call, and that each update was taken or refused as it should be."""
    (run,) = SCENARIOS["updates"](Bench(is_quick, free_port(), tmp_path))
    assert run.verdict == "met", f"{run}\n{(tmp_path / 'updates.lost').read_text()}"
