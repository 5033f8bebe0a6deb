"""Prepares a resolved file for a cluster: each function gets, beside its declaration, what only the
machine that runs ``up`` can know, and the values of its secrets travel apart from it.

A function gets the digests of what it consists of and those of its secrets (``made_of`` and
``secrets`` of ``FunctionSpec.deployed``); on a cluster of several machines its declaration gets
those of its models (``sha256``). Ray's head gets the secrets' values; no environment gets either of
them. What a cluster has no way to apply is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from runtime.artifacts.python_imports import ImportScanner
from runtime.artifacts.version import FUNCTIONS, content_digests, module_digests, pin_models
from runtime.declaration.config_file import ConfigFile
from runtime.declaration.function_spec import FunctionSpec, hash_of, version_hash
from runtime.errors import Problem
from runtime.settings import Settings
from runtime.system.secrets import digests_of, reference_names

if TYPE_CHECKING:
    # `down` and `status` need this module and no models
    from runtime.graph.resolve import ResolvedConfig

SYSTEM_VARIABLES: Final = frozenset(
    {
        "HOME",
        "LANG",
        "LOGNAME",
        "PATH",
        "PWD",
        "PYTHONPATH",
        "SHELL",
        "TERM",
        "TMPDIR",
        "TZ",
        "USER",
    }
)
"""Variables that every process has, whether a declaration names them or not."""

ONLY_SERVE_DEPLOY: Final = ("runtime_env", "deployments", "autoscaling_policy")
"""Keys of an application that Ray's Python interface has no place for; ``serve deploy`` applies
them.
"""


@dataclass(frozen=True, slots=True)
class DeployableFunction:
    """A function as a cluster gets it.

    Attributes:
        spec: its declaration, complete.
        modules: a short hash of each module that its code consists of, by name.
    """

    spec: FunctionSpec
    modules: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class DeployableConfig:
    """A file as a cluster gets it.

    Attributes:
        resolved: the file, and its functions before they were prepared.
        functions: in the same order.
        secret_values: the values of the secrets that the functions name, by digest.
    """

    resolved: ResolvedConfig
    functions: tuple[DeployableFunction, ...]
    secret_values: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({}), repr=False
    )

    @property
    def specs(self) -> tuple[FunctionSpec, ...]:
        """The declarations of all functions."""
        return tuple(function.spec for function in self.functions)


def prepare_for_deployment(
    resolved: ResolvedConfig,
    settings: Settings,
    *,
    secret_key: bytes | None = None,
    should_pin: bool = False,
) -> DeployableConfig:
    """The functions of a file, ready for a cluster.

    Args:
        settings: its secrets know the values by digest afterwards, too.
        secret_key: makes the digests of secrets; None writes none, and the cluster's processes take
            the values from their environment.
        should_pin: whether each local model is pinned by its digest, so that a load on another
            machine is of that model or is refused.

    Raises:
        StoreError: a model that is to be pinned is not there.
    """
    scanner = ImportScanner()
    secret_values: dict[str, str] = {}
    functions: list[FunctionSpec] = []
    for spec in resolved.functions:
        if should_pin:
            spec = pin_models(spec, settings)
        added: dict[str, Any] = {"made_of": content_digests(spec, settings, scanner)}
        if secret_key is not None:
            names = reference_names(stage.with_ for stage in spec.graph)
            by_name, values = digests_of(settings.secrets.find, names, secret_key)
            secret_values |= values
            if by_name:
                added["secrets"] = by_name
        functions.append(spec.with_deployed(**added))
    settings.secrets.learn(secret_values)
    deployable = tuple(
        DeployableFunction(spec, module_digests(spec, scanner))
        for spec in with_callees_digests(functions)
    )
    return DeployableConfig(resolved, deployable, secret_values)


def with_callees_digests(functions: Sequence[FunctionSpec]) -> tuple[FunctionSpec, ...]:
    """The functions, of which those that construct themselves with others (``at_load``) are made of
    these, too: an index of embeddings is of the model that made them.

    Args:
        functions: each with what it is made of by itself. None calls another in a circle.
    """
    by_name = {spec.name: spec for spec in functions}
    versions: dict[str, str] = {}

    def with_digest(spec: FunctionSpec) -> FunctionSpec:
        used = {
            name: version_of(by_name[name])
            for name, callee in spec.deployed.calls.items()
            if callee.at_load and name in by_name
        }
        if not used:
            return spec
        return spec.with_deployed(made_of={**spec.deployed.made_of, FUNCTIONS: hash_of(used)})

    def version_of(spec: FunctionSpec) -> str:
        if spec.name not in versions:
            versions[spec.name] = version_hash(with_digest(spec))
        return versions[spec.name]

    return tuple(map(with_digest, functions))


def remove_from_environment(functions: Iterable[FunctionSpec]) -> None:
    """Removes the secrets that functions name from this process's environment, so that no process
    of a cluster inherits them from here.
    """
    names = reference_names(stage.with_ for spec in functions for stage in spec.graph)
    for name in set(names) - SYSTEM_VARIABLES:
        os.environ.pop(name, None)


def secret_digests(applications: Iterable[Mapping[str, Any]]) -> list[str]:
    """The digests of secrets in the declarations of functions, at any depth of the arguments of
    applications.
    """
    return sorted(
        {
            digest
            for application in applications
            for digest in _secret_digests(application.get("args"))
        }
    )


def _secret_digests(args: Any) -> Iterable[str]:
    if isinstance(args, Mapping):
        for key, value in args.items():
            if key == "secrets" and isinstance(value, Mapping):
                yield from value.values()
            else:
                yield from _secret_digests(value)
    elif isinstance(args, list):
        for value in args:
            yield from _secret_digests(value)


_UNUSED_BY_RUN: Final[Mapping[str, str]] = {
    "runtime_env": "`wakeful run` and `wakeful up` install and set nothing: stages import what is"
    ' installed beside Wakeful, and get variables by `with: {NAME: "${VARIABLE}"}`. `serve'
    " deploy` applies it.",
    "deployments": "no effect under `wakeful run`, and `wakeful up` refuses it; `serve deploy`"
    " applies it.",
    "autoscaling_policy": "no effect under `wakeful run`, and `wakeful up` refuses it; `serve"
    " deploy` applies it.",
    "target_capacity": "no effect under `wakeful run`, and `wakeful up` refuses it; `serve deploy`"
    " applies it.",
    "logging_config": "no effect under `wakeful run`: it is of Ray Serve's own logs. What stages"
    " log: docs/logging.md.",
    "tracing_config": "no effect under `wakeful run`: it is of Ray Serve's own traces. Those of"
    " calls: docs/traces.md.",
    "grpc_options": "no effect under `wakeful run`, which has no gRPC.",
    "controller_options": "no effect under `wakeful run`, which has no controller of Ray Serve's.",
}
"""What is said of a key that one process does not act on."""

_UNUSED_HTTP: Final[Mapping[str, str]] = {
    "root_path": "no effect under `wakeful run`: functions are at their `route_prefix`. Let the"
    " proxy take the path away.",
    "request_timeout_s": "no effect under `wakeful run`: a function's deadline is"
    " `limits: {request_timeout_s: SECONDS}`.",
    "keep_alive_timeout_s": "no effect under `wakeful run`, which keeps an idle connection for"
    " 90 s.",
}


def unused_keys(file: ConfigFile) -> list[Problem]:
    """Keys of Ray's that a file has and ``wakeful run`` does not act on, to be warned of."""
    found = [
        file.problem(key, message)
        for key, message in _UNUSED_BY_RUN.items()
        if file.raw.get(key) is not None
    ]
    found += [
        file.problem(f"{file.key_of(function.name)}.{key}", message)
        for function in file.functions
        for key, message in _UNUSED_BY_RUN.items()
        if file.raw["applications"][file.positions[function.name]].get(key) is not None
    ]
    http = file.raw.get("http_options") or {}
    found += [
        file.problem(f"http_options.{key}", message)
        for key, message in _UNUSED_HTTP.items()
        if http.get(key) not in (None, "")
    ]
    return sorted(found, key=lambda problem: problem.line)


def unappliable_problems(file: ConfigFile) -> list[Problem]:
    """Keys of a file that ``up`` would have to ignore, and refuses instead."""
    message = "`wakeful up` has no way to apply this; `serve deploy` has. Remove it, or use that."
    problems = [
        file.problem(f"applications[{index}].{key}", message)
        for index, data in enumerate(file.raw["applications"])
        for key in ONLY_SERVE_DEPLOY
        if data.get(key) is not None
    ]
    if file.raw.get("target_capacity") is not None:
        problems.append(file.problem("target_capacity", message))
    if file.host is not None and file.catalogue is None:
        index = file.raw["applications"].index(file.host)
        problems.append(
            file.problem(
                f"applications[{index}]",
                "a host needs the catalogue, which owns placement, and another application of the"
                " file is at `/`. Give that one a prefix of its own.",
            )
        )
    return sorted(problems, key=lambda problem: problem.line)
