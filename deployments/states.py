"""Ray Serve's status in the words of a function's life: asleep, waking, ready, draining, failed."""

from __future__ import annotations

from typing import Any

from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, ServeStatus

_STARTING = ("STARTING", "UPDATING", "RECOVERING", "PENDING_MIGRATION")


def states(status: ServeStatus) -> list[dict[str, Any]]:
    """One entry an application: ``name``, ``state``, ``replicas`` (running), ``message`` (why it is not ready)."""
    return [{"name": name, **_state(application)} for name, application in status.applications.items()]


def _state(application: ApplicationStatusOverview) -> dict[str, Any]:
    deployments = list(application.deployments.values())
    running = sum(deployment.replica_states.get("RUNNING", 0) for deployment in deployments)
    starting = sum(deployment.replica_states.get(kind, 0) for deployment in deployments for kind in _STARTING)
    message = application.message or "; ".join(deployment.message for deployment in deployments if deployment.message)
    match application.status:
        case ApplicationStatus.DELETING:
            state = "draining"
        case ApplicationStatus.DEPLOY_FAILED | ApplicationStatus.UNHEALTHY:
            state = "failed"
        case _ if running:
            state = "ready"
        case ApplicationStatus.RUNNING if not starting:
            state = "asleep"
        case _:
            state = "waking"
    return {"state": state, "replicas": running, "message": "" if state in ("ready", "asleep") else message}
