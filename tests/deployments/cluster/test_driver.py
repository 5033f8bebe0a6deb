"""What the process that talks to Ray waits for, and how long. No Ray runs."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
from ray.exceptions import ActorDiedError

from deployments.cluster import driver
from deployments.cluster.driver import NO_RESOURCES_S, STUCK_S, is_settled
from deployments.ray_support.driver_client import RayError
from deployments.ray_support.serve_status import AppState
from deployments.ray_support.state_dir import WIRE
from tests.problems import expect_values

FULL = (
    "Deployment 'Function' in application 'a' has 1 replicas that have taken more than 5s to be "
    'scheduled. Resources required for each replica: {"GPU": 1.0}, total resources available: {}.'
)


@pytest.mark.parametrize(
    ("states", "unchanged_s", "expected"),
    [
        ({"a": "ready", "b": "asleep"}, 0.0, True),
        ({"a": "ready", "b": "failed"}, 0.0, True),
        ({"a": "ready", "b": "waking"}, STUCK_S - 1, False),
        ({"a": "ready", "b": "waking"}, STUCK_S + 1, True),
        ({"a": "ready", "b": "full"}, NO_RESOURCES_S - 1, False),
        ({"a": "ready", "b": "full"}, NO_RESOURCES_S + 1, True),
        ({"a": "waking", "b": "full"}, NO_RESOURCES_S + 1, False),
        ({"a": "ready"}, STUCK_S - 1, False),
        ({"a": "ready"}, STUCK_S + 1, True),
        ({"a": "full"}, NO_RESOURCES_S + 1, False),
        ({}, STUCK_S + 1, True),
    ],
)
def test_every_wait_for_an_application_ends(states, unchanged_s, expected):
    """Also for one that Ray does not have: another command may have deleted it."""
    known = {
        name: AppState(name, "waking", message=FULL) if state == "full" else AppState(name, state)
        for name, state in states.items()
    }
    assert is_settled(frozenset("ab"), known, unchanged_s) is expected


class Start:
    """Serve's start, which fails; its controller is there before that, or never.

    Attributes:
        events: what the command is told.
    """

    def __init__(self, error: Exception, *, has_controller: bool) -> None:
        self.events: list[str] = []
        self._error = error
        self._has_controller = has_controller
        self._looks = 0

    def start(self, **options: object) -> None:
        """In the place of ``serve.start``."""
        raise self._error

    def has_controller(self) -> bool:
        """Not at the first look."""
        self._looks += 1
        return self._has_controller and self._looks > 1

    def send(self, event: str, **details: object) -> None:
        """To the command."""
        self.events.append(" ".join([event, *map(str, details.values())]))


def start_serve(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deploys in a Serve that has to be started."""
    monkeypatch.setattr(driver.serve, "start", start.start)
    monkeypatch.setattr(driver, "has_controller", start.has_controller)
    with driver._ensure_serving({}, start.send) as started:
        start.events.append(f"deployed in what was started: {started}")


@pytest.mark.parametrize("error", [TimeoutError("HTTP proxies not available"), ActorDiedError()])
def test_a_proxy_that_is_late_or_replaced_does_not_end_up(error, monkeypatch):
    """Serve goes on with it; its functions are deployed."""
    start = Start(error, has_controller=True)
    start_serve(start, monkeypatch)
    assert start.events[:2] == ["serve", "deployed in what was started: True"]
    assert start.events[2].startswith(f"late {type(error).__name__}: ")


def test_a_serve_that_has_no_controller_ends_up_at_once(monkeypatch):
    """Nothing is deployed, or Ray would start a Serve that is open to other machines."""
    start = Start(TimeoutError("no room"), has_controller=False)
    with pytest.raises(TimeoutError, match="no room"):
        start_serve(start, monkeypatch)
    assert start.events == ["serve"]


class Deletions:
    """Ray Serve with applications; each goes at the look after its deletion, or stays.

    Attributes:
        there: names of what there is.
        stays: names that Serve never deletes.
        done: what was done, in order.
    """

    def __init__(self, *names: str, stays: tuple[str, ...] = ()) -> None:
        self.there = dict.fromkeys(names, "there")
        self.stays = stays
        self.done: list[str] = []
        self.runs = True

    def delete(self, name: str) -> None:
        """In the place of ``begin_delete``."""
        self.done.append(f"delete {name}")
        self.there[name] = "draining"

    def details(self) -> dict[str, str]:
        """In the place of Serve's status."""
        seen = dict(self.there)
        for name, state in seen.items():
            if state == "draining" and name not in self.stays:
                del self.there[name]
        return seen

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As the driver knows them; waits take no time."""
        monkeypatch.setattr(driver, "begin_delete", self.delete)
        monkeypatch.setattr(driver.serve, "shutdown", lambda: self.done.append("shutdown"))
        monkeypatch.setattr(driver, "application_details", self.details)
        monkeypatch.setattr(driver, "has_controller", lambda: self.runs)
        monkeypatch.setattr(driver, "DELETE_POLL_S", 0.0)
        monkeypatch.setattr(
            driver, "remove_signal", lambda name: self.done.append(f"no signal {name}")
        )
        monkeypatch.setattr(driver.PersistedState, "drop", lambda _: self.done.append("forgotten"))


def told(event: str, **details: object) -> None:
    """To a command that does not listen."""


def test_the_catalogue_goes_first_and_split_stages_last(monkeypatch):
    """It would deploy again what is deleted, and a function calls its stages to its end. Calls that
    waited for each go on when it is gone, and a later catalogue remembers nothing.
    """
    serve = Deletions("f.part", "f", "catalogue", "theirs")
    serve.install(monkeypatch)
    driver.delete(
        told,
        names=["f.part", "f", "catalogue", "never"],
        within_s=60,
        last=["f.part"],
        owner="catalogue",
    )
    assert serve.done == [
        *("delete catalogue", "no signal catalogue"),
        *("delete f", "no signal f"),
        *("delete f.part", "no signal f.part"),
        "forgotten",
    ]
    assert serve.there.keys() == {"theirs"}


def test_a_deletion_that_does_not_end_is_given_up(monkeypatch):
    """Ray goes on with it; calls still wait for the application, which is there."""
    serve = Deletions("f", stays=("f",))
    serve.install(monkeypatch)
    with pytest.raises(TimeoutError) as late:
        driver.delete_application("f", 0.01)
    assert "'f' within 0 s" in str(late.value)
    assert serve.done == ["delete f"]


@pytest.mark.parametrize(
    ("there", "runs", "ends"),
    [(("f",), True, True), (("f", "theirs"), True, False), ((), False, False)],
)
def test_serve_ends_with_its_last_application(there, runs, ends, monkeypatch):
    """What others deployed goes on, and a Serve that does not run is not started to be ended."""
    serve = Deletions(*there)
    serve.runs = runs
    serve.install(monkeypatch)
    driver.shutdown(told, names=["f"], within_s=60)
    assert ("shutdown" in serve.done) is ends
    assert ("delete f" in serve.done) is runs


@pytest.mark.parametrize(
    ("machines", "host", "is_refused"),
    [(1, "127.0.0.1", False), (2, "127.0.0.1", True), (2, "0.0.0.0", False), (2, "::1", True)],
)
def test_a_cluster_of_machines_listens_where_each_is_reached(
    machines, host, is_refused, monkeypatch
):
    """What a machine that joins must know is stored, whole, or nothing is."""
    stored: dict[str, str] = {}
    nodes = [{"Alive": True}] * machines + [{"Alive": False}]
    monkeypatch.setattr(driver.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(driver.HeadStore, "put", stored.__setitem__)
    facts = {"host": host, "port": 8000, "longest_s": 30.0, "hard_stop_s": 60, "cors": None}
    facts |= {"asks_for_keys": True, "tls": "", "per_address": 100}
    if is_refused:
        with pytest.raises(RayError) as refused:
            driver.publish(told, **facts)
        expect_values(refused.value.message, "2 machines", host, "--host 0.0.0.0")
        assert stored == {}
    else:
        driver.publish(told, **facts)
        assert {key: json.loads(text) for key, text in stored.items()} == {
            driver.FACTS: {**facts, "wire": WIRE}
        }


OFF = ["Ray 2.61.0 is newer than those that were tried.", "ProxyRouter: it is gone"]

STARTED = [(False, OFF, 1), (True, OFF, 0), (False, [], 0)]


@pytest.mark.parametrize(("runs", "off", "said"), STARTED)
def test_of_a_ray_that_was_not_tried_is_said_once_what_is_off(monkeypatch, runs, off, said):
    """When its Serve is started, and not at each update."""
    events: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(driver, "has_controller", lambda: runs)
    monkeypatch.setattr(driver, "what_is_off", lambda: off)
    monkeypatch.setattr(driver.serve, "start", lambda **options: None)
    monkeypatch.setattr(driver, "_ensure_serving", lambda options, send: nullcontext(not runs))
    driver.deploy(
        lambda event, **details: events.append((event, details)),
        serve_options={},
        applications=[],
        gone=[],
        within_s=0,
    )
    assert [details for event, details in events if event == "untried_ray"] == [
        {"lines": off}
    ] * said
