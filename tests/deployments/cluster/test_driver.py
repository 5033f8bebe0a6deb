"""What the process that talks to Ray waits for, and how long. No Ray runs."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError

from deployments.cluster import driver
from deployments.cluster.driver import NO_RESOURCES_S, STUCK_S, is_settled
from deployments.ray_support.serve_status import AppState

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
    monkeypatch.setattr(driver, "_has_controller", start.has_controller)
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
