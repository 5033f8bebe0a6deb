"""What ``up`` has to deploy for a file, and what of it is deployed already: decisions, nothing is started here."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deployments.home import Deployed
from runtime.declaration.applications import OURS
from runtime.errors import Problem
from runtime.settings import Settings
from runtime.spec import identity
from runtime.specfile import ServeFile

SERVE_KEYS: Final = ("grpc_options", "controller_options", "logging_config", "tracing_config")
"""Keys of the file that Ray Serve takes when it starts, beside ``http_options`` and ``proxy_location``."""

ONLY_SERVE_DEPLOY: Final = ("runtime_env", "deployments", "autoscaling_policy")
"""Keys of an application that Ray's Python interface has no place for; ``serve deploy`` applies them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a file asks of a cluster.

    Attributes:
        host: address to serve HTTP on.
        port: likewise.
        serve: arguments of ``ray.serve.start``.
        applications: in file order, as the driver takes them.
        deployed: what stands afterwards, in the same order.
    """

    host: str
    port: int
    serve: dict[str, Any]
    applications: tuple[dict[str, Any], ...]
    deployed: tuple[Deployed, ...]

    @property
    def prefixes(self) -> frozenset[str]:
        """Every prefix that HTTP has to reach."""
        return frozenset(entry.route_prefix for entry in self.deployed if entry.route_prefix)


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between a plan and a cluster: applications to deploy, and names to delete."""

    applications: tuple[dict[str, Any], ...]
    gone: tuple[str, ...]


def plan(file: ServeFile, settings: Settings, *, host: str | None = None, port: int | None = None) -> Plan:
    """The plan for a file; flags come before the environment, that before the file."""
    host = host or settings.host or file.http_host
    port = port or settings.port or file.http_port
    written = {key: file.raw[key] for key in SERVE_KEYS if file.raw.get(key) is not None}
    http = {key: value for key, value in file.http.model_dump(exclude_unset=True).items() if value is not None}
    applications = [_application(file, data) for data in file.raw["applications"]]
    return Plan(
        host=host,
        port=port,
        serve={
            # One machine by default: a proxy on each would have to be told so.
            "proxy_location": file.raw.get("proxy_location") or "HeadOnly",
            "http_options": {**http, "host": host, "port": port},
            **written,
        },
        applications=tuple(applications),
        deployed=tuple(_deployed(file, data) for data in applications),
    )


def changes(wanted: Plan, standing: Iterable[Deployed], alive: Iterable[str]) -> Changes:
    """What to do to a cluster on which ``standing`` was deployed and the names in ``alive`` are neither failed nor missing."""
    before = {entry.name: entry for entry in standing}
    healthy = frozenset(alive)
    after = {entry.name: entry for entry in wanted.deployed}
    return Changes(
        applications=tuple(
            application
            for application in wanted.applications
            if application["name"] not in healthy or before.get(application["name"]) != after[application["name"]]
        ),
        gone=tuple(name for name in before if name not in after),
    )


def unappliable(file: ServeFile) -> list[Problem]:
    """Keys of a file that ``up`` would have to ignore, and refuses instead."""
    said = "`wakeful up` has no way to apply this; `serve deploy` has. Remove it, or use that."
    problems = [
        file.problem(f"applications[{index}].{key}", said)
        for index, data in enumerate(file.raw["applications"])
        for key in ONLY_SERVE_DEPLOY
        if data.get(key) is not None
    ]
    if file.raw.get("target_capacity") is not None:
        problems.append(file.problem("target_capacity", said))
    if file.host is not None:
        index = file.raw["applications"].index(file.host)
        problems.append(file.problem(f"applications[{index}]", "there is no shared host yet: every function has a deployment of its own."))
    return sorted(problems, key=lambda problem: problem.line)


def shadows(folders: Iterable[Path]) -> list[Problem]:
    """Files in folders that stages are imported from, named as modules of the standard library: Ray would import them instead."""
    said = "Ray's processes would import it instead of the standard library's module of that name, and not start. Give it another name."
    found = [path for folder in folders for path in sorted(folder.glob("*.py")) if path.stem in sys.stdlib_module_names]
    return [Problem(str(path), 1, "", said) for path in found]


def _application(file: ServeFile, data: dict[str, Any]) -> dict[str, Any]:
    """As written, with what Ray would take where nothing is.

    A function's ``version`` is what a running replica cannot change; the catalogue is told of the functions.
    """
    data = {"name": "default", "route_prefix": "/", **data}
    role = OURS.get(data["import_path"])
    if role == "function":
        return {**data, "version": identity(next(spec for spec in file.functions if spec.name == data["name"]))}
    if role == "catalogue":
        known = [{"name": spec.name, "url": spec.route_prefix, "description": spec.description} for spec in file.functions]
        return {**data, "version": "1", "args": {**data.get("args", {}), "functions": known}}
    return data


def _deployed(file: ServeFile, data: dict[str, Any]) -> Deployed:
    role = OURS.get(data["import_path"], "other")
    spec = next((spec for spec in file.functions if spec.name == data["name"]), None)
    wants = {key: value for key, value in spec.resources.model_dump().items() if key in ("num_cpus", "num_gpus")} if spec else {}
    return Deployed(data["name"], data["route_prefix"] or "", role, fingerprint(data), wants)


def fingerprint(data: Any) -> str:
    """A short hash of plain data, the same wherever it is made."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
