"""Ray Serve's status as states of functions (asleep, waking, ready, draining, failed), and lists of
functions as one short text, for Ray's ``user_config``.

Why a text: Serve's controller copies every deployment's configuration at every tick, element by
element: with a thousand functions in it as plain data that took 40 % of a core. A text is not
copied, and compressed it is a twentieth of the size.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

_STARTING: Final = ("STARTING", "UPDATING", "RECOVERING", "PENDING_MIGRATION")

_DEPLOYING: Final = ("NOT_STARTED", "DEPLOYING")

REPLICA_STATES: Final = frozenset({*_STARTING, "RUNNING"})
APPLICATION_STATES: Final = frozenset(
    {*_DEPLOYING, "DELETING", "DEPLOY_FAILED", "UNHEALTHY", "RUNNING"}
)
"""Those of Serve's that are told apart here."""


@dataclass(frozen=True, slots=True)
class AppState:
    """What Ray knows of an application.

    Attributes:
        state: ``asleep``, ``waking``, ``ready``, ``draining`` or ``failed``.
        replicas: that run.
        message: why it is not ready.
        deployments: their names.
    """

    name: str
    state: str
    replicas: int = 0
    message: str = ""
    deployments: tuple[str, ...] = ()


def application_states(applications: Mapping[str, Mapping[str, Any]]) -> list[AppState]:
    """Every application.

    Args:
        applications: as of ``ray_internals.application_details``.
    """
    return [_state(name, application) for name, application in applications.items()]


def deployment_states(applications: Mapping[str, Mapping[str, Any]]) -> list[AppState]:
    """The same, but an application is not ready while Ray deploys it: a replica that runs then may
    be one that is being replaced or changed."""
    deploying = {
        name: _message(app) for name, app in applications.items() if app["status"] in _DEPLOYING
    }
    return [
        replace(state, state="waking", message=deploying[state.name])
        if state.name in deploying
        else state
        for state in application_states(applications)
    ]


def _state(name: str, application: Mapping[str, Any]) -> AppState:
    counts = Counter[str](
        replica["state"]
        for deployment in application["deployments"].values()
        for replica in deployment["replicas"]
    )
    running, starting = counts["RUNNING"], sum(counts[kind] for kind in _STARTING)
    match application["status"]:
        case "DELETING":
            state = "draining"
        case "DEPLOY_FAILED" | "UNHEALTHY":
            state = "failed"
        case _ if running:
            state = "ready"
        case "RUNNING" if not starting:
            state = "asleep"
        case _:
            state = "waking"
    message = "" if state in ("ready", "asleep") else _message(application)
    return AppState(name, state, running, message, tuple(application["deployments"]))


def _message(application: Mapping[str, Any]) -> str:
    """Messages of deployments have the reason; the application's only says that there is one."""
    messages = (one["message"] for one in application["deployments"].values())
    return "; ".join(filter(None, messages)) or str(application["message"])


def pack_config(data: Mapping[str, Any]) -> str:
    """Plain JSON data as text."""
    return base64.b85encode(
        zlib.compress(json.dumps(data, separators=(",", ":")).encode())
    ).decode()


def unpack_config(text: str) -> Any:
    """The data that was packed."""
    return json.loads(zlib.decompress(base64.b85decode(text)))
