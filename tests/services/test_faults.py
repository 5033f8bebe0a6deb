"""The scenarios of `make faults` at their smallest: that they run, take everything down, and lose nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.bench.serving import free_port
from loadtests.faults import kills, overload
from loadtests.faults.plan import QUICK, Setting
from loadtests.faults.row import Row

pytestmark = pytest.mark.ray

PLAN = replace(QUICK, kills=2, kill_every_s=2, many=300, few=50, steady_s=2, overload_s=3)


@pytest.mark.parametrize("scenario", [kills.two, kills.one, overload.overload])
def test_nothing_is_lost(scenario: Callable[[Setting], Row], tmp_path: Path) -> None:
    """The account is whole, whatever was killed or refused."""
    row = scenario(Setting(PLAN, free_port(), tmp_path, Path("models"), lambda what: None))
    assert row.is_good, f"{row}\n{row.verdict.examples[:3]}"
