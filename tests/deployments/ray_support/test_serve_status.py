"""Ray Serve's status in the words of a function's life."""

from __future__ import annotations

import pytest
from ray.serve._private.common import ReplicaState
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ProxyStatus,
    ServeStatus,
)

from deployments.ray_support.serve_status import AppState, application_states, deployment_states


def status(kind: ApplicationStatus, **replicas: int) -> ServeStatus:
    """One application with these replicas."""
    counts = {ReplicaState(name): count for name, count in replicas.items()}
    deployment = DeploymentStatusOverview(
        DeploymentStatus.UPDATING, DeploymentStatusTrigger.UNSPECIFIED, counts, "why"
    )
    application = ApplicationStatusOverview(kind, "", 0.0, {"Function": deployment})
    return ServeStatus(proxies={"node": ProxyStatus.HEALTHY}, applications={"f": application})


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
    (found,) = application_states(status(kind, **replicas))
    assert found == AppState("f", state, replicas.get("RUNNING", 0), message, ("Function",))


def test_an_application_whose_replica_is_replaced_is_waking_with_its_reason():
    """For commands that wait for the new replica, though the one before serves."""
    (found,) = deployment_states(status(ApplicationStatus.DEPLOYING, RUNNING=1, STARTING=1))
    assert found == AppState("f", "waking", 1, "why", ("Function",))
    (found,) = deployment_states(status(ApplicationStatus.RUNNING, RUNNING=1))
    assert found.state == "ready"
