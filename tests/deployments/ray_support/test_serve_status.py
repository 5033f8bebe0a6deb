"""Ray Serve's status in the words of a function's life."""

from __future__ import annotations

from typing import Any

import pytest
from ray.serve._private.common import ReplicaState
from ray.serve.schema import ApplicationStatus

from deployments.ray_support.serve_status import AppState, application_states, deployment_states


def details(kind: ApplicationStatus, **replicas: int) -> dict[str, Any]:
    """One application with these replicas, as Serve gives it."""
    states = [ReplicaState(name) for name, count in replicas.items() for _ in range(count)]
    deployment = {"message": "why", "replicas": [{"state": state} for state in states]}
    return {"f": {"status": kind, "message": "", "deployments": {"Function": deployment}}}


@pytest.mark.parametrize(
    ("kind", "replicas", "state", "message"),
    [
        (ApplicationStatus.RUNNING, {}, "asleep", ""),
        (ApplicationStatus.RUNNING, {"RUNNING": 2}, "ready", ""),
        (ApplicationStatus.RUNNING, {"STARTING": 1}, "waking", "why"),
        (ApplicationStatus.DEPLOYING, {}, "waking", "why"),
        (ApplicationStatus.DEPLOYING, {"RUNNING": 1, "STARTING": 1}, "ready", ""),
        (ApplicationStatus.DEPLOY_FAILED, {}, "failed", "why"),
        (ApplicationStatus.UNHEALTHY, {"RUNNING": 1}, "failed", "why"),
        (ApplicationStatus.DELETING, {"RUNNING": 1}, "draining", "why"),
    ],
)
def test_a_state(kind, replicas, state, message):
    """The state, the replicas that run, and why it is not ready."""
    (found,) = application_states(details(kind, **replicas))
    assert found == AppState("f", state, replicas.get("RUNNING", 0), message, ("Function",))


def test_an_application_whose_replica_is_replaced_is_waking_with_its_reason():
    """For commands that wait for the new replica, though the one before serves."""
    (found,) = deployment_states(details(ApplicationStatus.DEPLOYING, RUNNING=1, STARTING=1))
    assert found == AppState("f", "waking", 1, "why", ("Function",))
    (found,) = deployment_states(details(ApplicationStatus.RUNNING, RUNNING=1))
    assert found.state == "ready"
