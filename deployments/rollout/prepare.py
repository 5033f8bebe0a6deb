"""Prepares a resolved file for a cluster: each function gets, beside its declaration, what only the
machine that runs ``up`` can know, and the values of its secrets travel apart from it.

A function gets the digests of what it consists of and those of its secrets (``made_of`` and
``secrets`` of ``FunctionSpec.deployed``); on a cluster of several machines its declaration gets
those of its models (``sha256``). Ray's head gets the secrets' values; no environment gets either of
them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from runtime.artifacts.python_imports import ImportScanner
from runtime.artifacts.version import FUNCTIONS, content_digests, module_digests, pin_models
from runtime.declaration.function_spec import FunctionSpec, hash_of, version_hash
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
    modules: list[Mapping[str, str]] = []
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
        modules.append(module_digests(spec, scanner))
    settings.secrets.learn(secret_values)
    deployable = map(DeployableFunction, with_callees_digests(functions), modules)
    return DeployableConfig(resolved, tuple(deployable), secret_values)


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
