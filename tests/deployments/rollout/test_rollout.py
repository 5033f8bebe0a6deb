"""An update asks the catalogue what is loaded; Ray is a fake that takes all it is told."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from deployments.ray_support.driver_client import RayError
from deployments.ray_support.serve_status import AppState
from deployments.ray_support.state_dir import ClusterState, StateDir
from deployments.rollout import catalogue_client, rollout
from deployments.rollout.plan import Plan
from deployments.rollout.rollout import Rollout, RolloutOutcome
from tests.deployments.rollout.simulated_update import BELOW, Fn, make_plan
from tests.deployments.rollout.test_catalogue_client import entry, served
from tests.problems import expect_values

LOADED = {"functions": [{**entry(), "tier": "host", "reason": ""}]}
REFUSED = {"functions": [{**entry(update="no weights"), "tier": "host", "reason": ""}]}
SILENT = ""
"""What is no answer of a catalogue."""


def plan(version: int) -> Plan:
    """Of one function in the host."""
    return make_plan({"f": Fn("f", 0, f"{BELOW}/f", version=version)})


class Driver:
    """Takes every order.

    Attributes:
        calls: what it was asked.
        states: of the applications.
    """

    def __init__(self, **states: str) -> None:
        self.calls: list[str] = []
        self.states = states

    def ask(self, verb: str, address: str, **request: Any) -> Iterator[dict[str, Any]]:
        """As ``DriverClient.ask``."""
        self.calls.append(verb)
        if verb == "status":
            states = [asdict(AppState(name, state)) for name, state in self.states.items()]
            yield {"event": "states", "states": states}


@pytest.fixture
def home(monkeypatch) -> Iterator[StateDir]:
    """Of a cluster whose HAProxy knows every prefix."""
    monkeypatch.setattr(rollout, "wait_routed", lambda *_, **__: None)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        found = StateDir(Path(short) / "w")
        found.prepare()
        yield found


def update(
    home: StateDir, driver: Driver, url: str, seen: list[str], *, had_keys: bool = False
) -> RolloutOutcome:
    """From the first version to the second, which asks for no keys."""
    before = plan(1)
    port = int(url.rpartition(":")[2])
    up = ClusterState("own", "", "127.0.0.1", port, "f.yaml", "/", "/", deployed=before.deployed)
    home.save(replace(up, auth={}) if had_keys else up)
    home.save_applications([app.to_dict() for app in before.applications])
    by = Rollout(home, driver, lambda event, _: seen.append(event))  # type: ignore[arg-type]
    return by.update(up, plan(2))


def test_a_catalogue_that_restarts_is_waited_for(home):
    """No answer is not the answer that nothing is loaded: the new version would not be awaited, and
    not be rolled back.
    """
    seen: list[str] = []
    driver = Driver(catalogue="ready", host="ready")
    with served(SILENT, SILENT, LOADED, REFUSED) as url:
        outcome = update(home, driver, url, seen)
    assert outcome.refused == {"f": "no weights"}
    assert seen[1:3] == ["unanswered", "updating"]


def test_one_that_answers_is_not_waited_for(home):
    """And no wait is announced."""
    seen: list[str] = []
    with served(LOADED, REFUSED) as url:
        outcome = update(home, Driver(catalogue="ready", host="ready"), url, seen)
    assert outcome.refused == {"f": "no weights"}
    assert "unanswered" not in seen


@pytest.mark.parametrize("had_keys", [True, False])
def test_keys_are_asked_for_until_an_update_without_them_is_saved(home, monkeypatch, had_keys):
    """The catalogue is asked with what opens it now, and not with what will."""
    secrets: list[str] = []

    def fetch(_: str, secret: str, __: object) -> list[dict[str, Any]]:
        secrets.append(secret)
        return []

    monkeypatch.setattr(catalogue_client, "fetch_index", fetch)
    with served(REFUSED) as url:
        update(home, Driver(catalogue="ready", host="ready"), url, [], had_keys=had_keys)
    assert bool(secrets[0]) == had_keys


def test_nothing_is_changed_while_no_catalogue_answers(home, monkeypatch):
    """The message says which one, and what to do."""
    monkeypatch.setattr(catalogue_client, "wait_index", lambda *_: None)
    driver = Driver(catalogue="ready", host="ready")
    with served(SILENT) as url, pytest.raises(RayError) as refused:
        update(home, driver, url, [])
    expect_values(refused.value.message, url, "60 s", "No function was changed", "`wakeful up`")
    assert driver.calls == ["status"]
    found = home.load()
    assert found is not None
    assert found.deployed == plan(1).deployed


@pytest.mark.parametrize(
    ("states", "waits"),
    [({"catalogue": "failed"}, False), ({}, False), ({"catalogue": "waking"}, True)],
)
def test_a_catalogue_that_ray_does_not_run_is_mended_by_the_update(
    home, monkeypatch, states, waits
):
    """One that Ray has given up is not waited for; one that waits for resources may get them from
    what the update removes.
    """
    monkeypatch.setattr(catalogue_client, "wait_index", lambda *_: None)
    driver, seen = Driver(host="ready", **states), list[str]()
    with served(SILENT) as url:
        assert not update(home, driver, url, seen).refused
    assert "deploy" in driver.calls
    assert ("unanswered" in seen) == waits
