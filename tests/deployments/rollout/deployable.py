"""Files as a cluster gets them, without the models and the code that a check would need."""

from __future__ import annotations

from collections.abc import Mapping

from deployments.rollout.prepare import DeployableConfig, DeployableFunction
from runtime.declaration.config_file import ConfigFile
from runtime.graph.resolve import ResolvedConfig


def deployable(
    file: ConfigFile, modules: Mapping[str, Mapping[str, str]] | None = None
) -> DeployableConfig:
    """The functions of a file, with the hashes of their modules, by function."""
    resolved = ResolvedConfig.split(file)
    return DeployableConfig(
        resolved,
        tuple(
            DeployableFunction(spec, (modules or {}).get(spec.name, {}))
            for spec in resolved.functions
        ),
    )
