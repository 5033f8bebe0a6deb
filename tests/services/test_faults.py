"""The scenarios of `make faults` at their quickest: that they run, take everything down, and lose
nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.command import Bench
from loadtests.faults.scenarios import SCENARIOS
from loadtests.server import free_port

pytestmark = [pytest.mark.ray, pytest.mark.full]


@pytest.mark.parametrize("name", ["kill2", "kill1", "overload"])
def test_nothing_is_lost(name: str, tmp_path: Path) -> None:
    """The account is whole, whatever was killed or refused."""
    (run,) = SCENARIOS[name](Bench(True, free_port(), tmp_path))
    assert run.verdict != "void", f"{run}\n{(tmp_path / f'{name}.lost').read_text()}"
