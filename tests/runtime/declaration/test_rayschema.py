from __future__ import annotations

import ast
from importlib.metadata import distribution
from pathlib import Path

import pytest
from pydantic import BaseModel

from runtime.declaration import rayschema

PAIRS = [
    ("schema", "ServeDeploySchema", rayschema.ServeConfig),
    ("schema", "HTTPOptionsSchema", rayschema.HttpOptions),
    ("schema", "gRPCOptionsSchema", rayschema.GrpcOptions),
    ("schema", "LoggingConfig", rayschema.LoggingConfig),
    ("schema", "TracingConfig", rayschema.TracingConfig),
    ("schema", "ServeApplicationSchema", rayschema.Application),
    ("schema", "DeploymentSchema", rayschema.Deployment),
    ("schema", "RayActorOptionsSchema", rayschema.RayActorOptions),
    ("config", "ControllerOptions", rayschema.ControllerOptions),
    ("config", "AutoscalingConfig", rayschema.AutoscalingConfig),
    ("config", "AutoscalingPolicy", rayschema.AutoscalingPolicy),
    ("config", "BackpressureConfig", rayschema.BackpressureConfig),
    ("config", "RequestRouterConfig", rayschema.RequestRouterConfig),
    ("config", "GangSchedulingConfig", rayschema.GangSchedulingConfig),
    ("config", "DeploymentActorConfig", rayschema.DeploymentActor),
]

REFUSED_BY_RAY = {"host", "port"}
"""Ray's application schema has these and refuses a file of several applications that uses them."""


@pytest.mark.parametrize(("module", "theirs", "ours"), PAIRS, ids=[pair[1] for pair in PAIRS])
def test_we_know_the_keys_that_the_installed_ray_knows(module: str, theirs: str, ours: type[BaseModel]) -> None:
    """Read from Ray's source, since importing Ray takes seconds."""
    source = Path(str(distribution("ray").locate_file(f"ray/serve/{module}.py"))).read_text(encoding="utf-8")
    found = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == theirs)
    names = {node.target.id for node in found.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    public = {name for name in names if not name.startswith("_")}
    assert set(ours.model_fields) == public - (REFUSED_BY_RAY if theirs == "ServeApplicationSchema" else set())
