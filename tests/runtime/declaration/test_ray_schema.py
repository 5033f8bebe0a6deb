from __future__ import annotations

import ast
from importlib.metadata import distribution
from pathlib import Path

import pytest
from pydantic import BaseModel

from runtime.declaration import ray_schema

PAIRS = [
    ("schema", "ServeDeploySchema", ray_schema.ServeConfig),
    ("schema", "HTTPOptionsSchema", ray_schema.HttpOptions),
    ("schema", "gRPCOptionsSchema", ray_schema.GrpcOptions),
    ("schema", "LoggingConfig", ray_schema.LoggingConfig),
    ("schema", "TracingConfig", ray_schema.TracingConfig),
    ("schema", "ServeApplicationSchema", ray_schema.Application),
    ("schema", "DeploymentSchema", ray_schema.Deployment),
    ("schema", "RayActorOptionsSchema", ray_schema.RayActorOptions),
    ("config", "ControllerOptions", ray_schema.ControllerOptions),
    ("config", "AutoscalingConfig", ray_schema.AutoscalingConfig),
    ("config", "AutoscalingPolicy", ray_schema.AutoscalingPolicy),
    ("config", "BackpressureConfig", ray_schema.BackpressureConfig),
    ("config", "RequestRouterConfig", ray_schema.RequestRouterConfig),
    ("config", "GangSchedulingConfig", ray_schema.GangSchedulingConfig),
    ("config", "DeploymentActorConfig", ray_schema.DeploymentActor),
]

REFUSED_BY_RAY = {"host", "port"}
"""Ray's application schema has these and refuses a file of several applications that uses them."""

IGNORED_BY_RAY = {"http"}
"""Of the file, and ours."""


@pytest.mark.parametrize(("module", "theirs", "ours"), PAIRS, ids=[pair[1] for pair in PAIRS])
def test_the_known_keys_are_those_of_the_installed_ray(
    module: str, theirs: str, ours: type[BaseModel]
) -> None:
    """Read from Ray's source, since importing Ray takes seconds."""
    source = Path(str(distribution("ray").locate_file(f"ray/serve/{module}.py"))).read_text(
        encoding="utf-8"
    )
    found = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == theirs
    )
    names = {
        node.target.id
        for node in found.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    public = {name for name in names if not name.startswith("_")}
    assert set(ours.model_fields) - IGNORED_BY_RAY == public - (
        REFUSED_BY_RAY if theirs == "ServeApplicationSchema" else set()
    )
