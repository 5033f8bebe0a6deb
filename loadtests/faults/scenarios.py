"""The scenarios by name, in the order of the table; one that fails leaves the others standing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import httpx

from loadtests.bench.children import ChildFailed
from loadtests.faults import kills
from loadtests.faults.controller import controller
from loadtests.faults.mixed import mixed
from loadtests.faults.overload import overload
from loadtests.faults.plan import Setting
from loadtests.faults.poison import poison
from loadtests.faults.redeploy import redeploy
from loadtests.faults.row import Row
from loadtests.faults.scale import scale
from loadtests.ledger.book import Verdict

Scenario = Callable[[Setting], Row]
"""Starts a Wakeful, breaks something under load, and takes everything down."""

SCENARIOS: Mapping[str, Scenario] = {
    "kill2": kills.two,
    "kill1": kills.one,
    "redeploy": redeploy,
    "poison": poison,
    "overload": overload,
    "controller": controller,
    "scale": scale,
    "mixed": mixed,
}

FAILURES = (ChildFailed, httpx.HTTPError, OSError, ValueError, KeyError)
"""What ends a scenario and not the run: something did not start or stop, or an answer about it could not be read."""


def run(names: frozenset[str], setting: Setting) -> Iterator[tuple[str, Row]]:
    """Each row that was asked for, as it is found."""
    for name, scenario in SCENARIOS.items():
        if name in names:
            setting.say(f"scenario {name}")
            yield name, attempt(name, scenario, setting)


def attempt(name: str, scenario: Scenario, setting: Setting) -> Row:
    """A scenario's row; if it fails, one that says why and is not good."""
    try:
        return scenario(setting)
    except* FAILURES as failures:
        told = "; ".join(str(error) or type(error).__name__ for error in failures.exceptions)
    setting.say(f"{name}: {told}")
    return Row(name, Verdict(0, 0, 0, 0, 0), failed=told)
