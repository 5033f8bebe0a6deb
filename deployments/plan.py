"""What ``up`` has to deploy for a file, and what of it is deployed already: decisions, nothing is started here."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from deployments.home import Deployed
from runtime.declaration.applications import OURS
from runtime.errors import Problem
from runtime.memory import free_bytes
from runtime.probe import Probe
from runtime.settings import Settings
from runtime.spec import FunctionSpec, identity
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
    def sharing(self) -> tuple[dict[str, Any], ...]:
        """The applications that are told of the functions."""
        return tuple(data for data in self.applications if is_told(data))

    @property
    def prefixes(self) -> frozenset[str]:
        """Every prefix that HTTP has to reach."""
        return frozenset(entry.route_prefix for entry in self.deployed if entry.route_prefix and not entry.hosted)


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between a plan and a cluster: applications to deploy, and names to delete."""

    applications: tuple[dict[str, Any], ...]
    gone: tuple[str, ...]


def plan(
    file: ServeFile,
    settings: Settings,
    probes: Mapping[str, Probe] = MappingProxyType({}),
    *,
    host: str | None = None,
    port: int | None = None,
    is_open: bool = False,
) -> Plan:
    """The plan for a file; flags come before the environment, that before the file.

    Args:
        probes: what was found of its functions, by name.
        is_open: for a cluster of which there may be more machines: each gets a HAProxy, and the hosts of one.
    """
    host = host or settings.host or file.http_host
    port = port or settings.port or file.http_port
    written = {key: file.raw[key] for key in SERVE_KEYS if file.raw.get(key) is not None}
    http = {key: value for key, value in file.http.model_dump(exclude_unset=True).items() if value is not None}
    specs = {spec.name: spec for spec in file.functions}
    known = [_known(file, spec, probes.get(spec.name)) for spec in file.functions]
    part_of = {data["name"]: data["part_of"] for data in file.raw["applications"] if "part_of" in data}
    known = [{**data, "part_of": part_of.get(data["name"], "")} for data in known]
    shared = {data["name"] for data in known if not data["fixed"]}
    hosts = settings.hosts or default_hosts()
    entries = [{"name": "default", "route_prefix": "/", **_as_ray_has_it(data)} for data in file.raw["applications"]]
    applications = [_application(file, data, specs, known, hosts, is_open) for data in entries if data["name"] not in shared]
    built = {data["name"]: data for data in applications} | {data["name"]: {"args": data["args"]} for data in known if not data["fixed"]}
    return Plan(
        host=host,
        port=port,
        serve={
            "proxy_location": file.raw.get("proxy_location") or ("EveryNode" if is_open else "HeadOnly"),
            "http_options": {**http, "host": host, "port": port},
            **written,
        },
        applications=tuple(applications),
        deployed=tuple(
            replace(
                _deployed({**data, **built.get(data["name"], {})}, specs.get(data["name"]), hosted=data["name"] in shared),
                part_of=part_of.get(data["name"], ""),
            )
            for data in entries
        ),
    )


def is_hosted(file: ServeFile, spec: FunctionSpec) -> bool:
    """Whether a function begins in the shared host: there is one, its prefix reaches it, and nothing asks for a deployment of its own."""
    if file.host is None or spec.tier == "own" or spec.resources.num_gpus:
        return False
    if spec.autoscaling.min_replicas or spec.autoscaling.initial_replicas:
        return False
    return spec.route_prefix.startswith(str(file.host["route_prefix"]).rstrip("/") + "/")


def default_hosts() -> int:
    """Two where there is room for the second."""
    return 2 if (os.cpu_count() or 1) >= 4 and free_bytes() >= 8e9 else 1


def changes(wanted: Plan, standing: Iterable[Deployed], alive: Iterable[str]) -> Changes:
    """What to do to a cluster on which ``standing`` was deployed and the names in ``alive`` are neither failed nor missing.

    A function that is shared has no application to deploy or delete: the host and the catalogue are told of it.
    """
    before = {entry.name: entry for entry in standing}
    healthy = frozenset(alive)
    after = {entry.name: entry for entry in wanted.deployed}
    return Changes(
        applications=tuple(
            application
            for application in wanted.applications
            if application["name"] not in healthy or before.get(application["name"]) != after[application["name"]]
        ),
        gone=tuple(name for name, entry in before.items() if not entry.hosted and (name not in after or after[name].hosted)),
    )


def is_told(application: dict[str, Any]) -> bool:
    """Whether an application is told of the functions."""
    return OURS.get(application["import_path"]) in ("catalogue", "host")


def without(application: dict[str, Any], gone: Collection[str]) -> dict[str, Any]:
    """An application that is told of the functions, told of fewer."""
    args = application["args"]
    return {**application, "args": {**args, "functions": [data for data in args["functions"] if data["name"] not in gone]}}


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
    if file.host is not None and file.catalogue is None:
        index = file.raw["applications"].index(file.host)
        wanted = '{name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}'
        problems.append(file.problem(f"applications[{index}]", f"a host needs the catalogue, which owns placement. Add `- {wanted}`."))
    return sorted(problems, key=lambda problem: problem.line)


def shadows(folders: Iterable[Path]) -> list[Problem]:
    """Files in folders that stages are imported from, named as modules of the standard library: Ray would import them instead."""
    said = "Ray's processes would import it instead of the standard library's module of that name, and not start. Give it another name."
    found = [path for folder in folders for path in sorted(folder.glob("*.py")) if path.stem in sys.stdlib_module_names]
    return [Problem(str(path), 1, "", said) for path in found]


def _as_ray_has_it(application: dict[str, Any]) -> dict[str, Any]:
    """Without what ``runtime.parts`` says of a part."""
    return {key: value for key, value in application.items() if key != "part_of"}


def _known(file: ServeFile, spec: FunctionSpec, probe: Probe | None) -> dict[str, Any]:
    """What the owner of placement, and the host, are told of a function."""
    return {
        "name": spec.name,
        "url": spec.route_prefix,
        "args": spec.to_args(),
        "fixed": not is_hosted(file, spec),
        "identity": identity(spec),
        "memory_bytes": probe.memory_bytes if probe else 0,
        "probed": probe is not None and not probe.skipped,
    }


def _application(
    file: ServeFile, data: dict[str, Any], specs: Mapping[str, FunctionSpec], known: list[dict[str, Any]], hosts: int, is_open: bool
) -> dict[str, Any]:
    """As written, with what Ray would take where nothing is, and with what only ``up`` knows.

    A function's ``version`` is what a running replica cannot change; the catalogue and the host are told of the functions.
    """
    owner = file.catalogue.get("name", "default") if file.catalogue else ""
    match OURS.get(data["import_path"]):
        case "function":
            spec = specs[data["name"]]
            return {**data, "args": spec.to_args(), "version": identity(spec), "owner": owner}
        case "catalogue":
            return {**data, "version": "1", "args": {"functions": known}}
        case "host":
            args = {"prefix": data["route_prefix"], "owner": owner, "hosts": hosts, "functions": [one for one in known if not one["fixed"]]}
            return {**data, "version": "1", "args": {**args, "everywhere": True} if is_open else args}
    return data


def _deployed(data: dict[str, Any], spec: FunctionSpec | None, *, hosted: bool) -> Deployed:
    role = OURS.get(data["import_path"], "other")
    wants = {key: value for key, value in spec.resources.model_dump().items() if key in ("num_cpus", "num_gpus")} if spec else {}
    return Deployed(data["name"], data["route_prefix"] or "", role, fingerprint(data), wants, hosted)


def fingerprint(data: Any) -> str:
    """A short hash of plain data, the same wherever it is made."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
