"""How long the process that talks to Ray waits for what it has deployed."""

from __future__ import annotations

import pytest

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
