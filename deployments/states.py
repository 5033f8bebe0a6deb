"""Ray Serve's status in the words of a function's life: asleep, waking, ready, draining, failed."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, ServeStatus

_STARTING: Final = ("STARTING", "UPDATING", "RECOVERING", "PENDING_MIGRATION")

_UNDER_WAY: Final = (ApplicationStatus.NOT_STARTED, ApplicationStatus.DEPLOYING)


def states(status: ServeStatus) -> list[dict[str, Any]]:
    """One entry an application: ``name``, ``state``, ``replicas`` (running), ``message`` (why it is not ready)."""
    return [{"name": name, **_state(application)} for name, application in status.applications.items()]


def settling(status: ServeStatus) -> list[dict[str, Any]]:
    """The same for those who wait for a deployment to be done: while Ray deploys, a replica that runs may be one of those that are
    being replaced or changed, and is not ready yet."""
    on_its_way = {name: _message(app) for name, app in status.applications.items() if app.status in _UNDER_WAY}
    return [
        {**state, "state": "waking", "message": on_its_way[state["name"]]} if state["name"] in on_its_way else state
        for state in states(status)
    ]


def _state(application: ApplicationStatusOverview) -> dict[str, Any]:
    deployments = list(application.deployments.values())
    counts = Counter[str]()
    for deployment in deployments:
        # Ray annotates an enumeration and gives its text
        counts.update({str(getattr(kind, "value", kind)): count for kind, count in deployment.replica_states.items()})
    running, starting = counts["RUNNING"], sum(counts[kind] for kind in _STARTING)
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
    return {"state": state, "replicas": running, "message": "" if state in ("ready", "asleep") else _message(application)}


def _message(application: ApplicationStatusOverview) -> str:
    """A deployment's has the reason, the application's only says that there is one."""
    return "; ".join(one.message for one in application.deployments.values() if one.message) or str(application.message)
