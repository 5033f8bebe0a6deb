"""A file as a manifest for KubeRay."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from ray.serve.schema import ServeDeploySchema
from ruamel.yaml import YAML

from deployments.builders import catalogue, function, host
from deployments.cli import main
from deployments.kuberay import RAY_VERSION
from deployments.rayprivate import MEASURED

FILE = """\
http_options: {host: 127.0.0.1, port: 9000}
applications:
  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}
  - {name: host, route_prefix: /v2/models, import_path: "deployments:host"}
  - name: rare
    route_prefix: /v2/models/rare
    import_path: deployments:function
    args: {graph: [{stage: s, python: "stages_of_kuberay:say"}]}
  - name: busy
    route_prefix: /v2/models/busy
    import_path: deployments:function
    args: {graph: [{stage: s, python: "stages_of_kuberay:Say", with: {key: "${SAY_KEY}"}}], autoscaling: {min_replicas: 1}}
"""

STAGES = """\
def say(name: str) -> dict[str, str]:
    return {"said": name}

class Say:
    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, name: str) -> dict[str, str]:
        return {"said": name}
"""


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """The manifest of a file."""
    (tmp_path / "stages_of_kuberay.py").write_text(STAGES)
    (tmp_path / "serve_config.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    arguments = ["export", "kuberay", "--image", "registry/functions:7", "--workers", "2", "--max-workers", "5", "--gpus", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return YAML(typ="safe").load(result.stdout)


def test_serve_takes_the_applications_as_up_deploys_them(exported):
    """Only what has a deployment of its own is an application; the rest is told to the host of each worker, which listens to all."""
    config = YAML(typ="safe").load(exported["spec"]["serveConfigV2"])
    schema = ServeDeploySchema.model_validate(config)
    assert [application.name for application in schema.applications] == ["catalogue", "host", "busy"]
    assert (schema.proxy_location, config["http_options"]["host"], config["http_options"]["port"]) == ("EveryNode", "0.0.0.0", 8000)
    told = config["applications"][1]["args"]
    assert told["everywhere"]
    assert [one["name"] for one in told["functions"]] == ["rare"]
    assert [list(one["args"]["made_of"]) for one in (told["functions"][0], config["applications"][2])] == [["code"], ["code"]]


def test_the_builders_take_their_arguments(exported):
    """As `serve deploy` gives them: nothing in them is `up`'s alone."""
    config = YAML(typ="safe").load(exported["spec"]["serveConfigV2"])
    for application, builder in zip(config["applications"], (catalogue, host, function), strict=True):
        assert set(application) <= {"name", "route_prefix", "import_path", "args"}
        assert builder(application["args"])


def test_every_pod_has_the_image_and_the_environment(exported):
    """The head computes nothing; workers come and go between two bounds."""
    cluster = exported["spec"]["rayClusterConfig"]
    (workers,) = cluster["workerGroupSpecs"]
    assert cluster["rayVersion"] == RAY_VERSION == MEASURED
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert (workers["minReplicas"], workers["maxReplicas"]) == (2, 5)
    for group in (cluster["headGroupSpec"], workers):
        (container,) = group["template"]["spec"]["containers"]
        environment = {variable["name"]: variable.get("value") or variable["valueFrom"] for variable in container["env"]}
        assert container["image"] == "registry/functions:7"
        assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        assert environment["SAY_KEY"] == {"secretKeyRef": {"name": "wakeful-secrets", "key": "SAY_KEY"}}
        assert environment["RAY_SERVE_HAPROXY_BINARY_PATH"] == "/app/.venv/bin/wakeful-haproxy"
    assert workers["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_a_file_for_serve_deploy_has_what_up_adds(tmp_path, monkeypatch):
    """The part of a split stage is an application, and who calls it knows it; Ray's schema and our builders take all of it."""
    (tmp_path / "stages_of_kuberay.py").write_text(STAGES)
    part = """\
  - name: split
    route_prefix: /v2/models/split
    import_path: deployments:function
    args:
      graph: [{stage: say, python: "stages_of_kuberay:say", deployment: {max_replicas: 2}}]
      autoscaling: {min_replicas: 1}
"""
    (tmp_path / "serve_config.yaml").write_text(FILE + part)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["export", "serve"])
    assert result.exit_code == 0, result.output
    config = YAML(typ="safe").load(result.stdout)
    assert [one.name for one in ServeDeploySchema.model_validate(config).applications] == ["catalogue", "host", "busy", "split"]
    assert (config["http_options"]["host"], config["http_options"]["port"]) == ("127.0.0.1", 9000)
    by_name = {one["name"]: one["args"] for one in config["applications"]}
    assert [one["name"] for one in by_name["host"]["functions"]] == ["rare", "split.say"]
    assert list(by_name["split"]["calls"]) == ["split.say"]
    for name, builder in (("catalogue", catalogue), ("host", host), ("split", function)):
        assert builder(by_name[name])
