"""A file as Ray Serve's own, and the page that has a manifest for KubeRay around it."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from click.testing import CliRunner
from ray.serve.schema import ServeDeploySchema

from deployments.cli import main
from deployments.cli.export import _to_yaml
from deployments.placement.builders import catalogue, function, host
from deployments.ray_support.assumptions.versions import judge
from runtime.declaration.config_file import read
from runtime.declaration.yaml_reader import parse
from tests.problems import expect_values

FILE = """\
http_options: {host: 127.0.0.1, port: 9000}
applications:
  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}
  - {name: host, route_prefix: /v2/models, import_path: "deployments:host"}
"""

FUNCTIONS = """\
  - name: rare
    route_prefix: /v2/models/rare
    import_path: deployments:function
    args: {graph: [{stage: s, python: "stages_of_export:say"}]}
  - name: busy
    route_prefix: /v2/models/busy
    import_path: deployments:function
    args:
      graph: [{stage: s, python: "stages_of_export:Say", with: {key: "${SAY_KEY}"}}]
      autoscaling: {min_replicas: 1}
"""

PART = """\
  - name: split
    route_prefix: /v2/models/split
    import_path: deployments:function
    args:
      graph: [{stage: say, python: "stages_of_export:say", deployment: {max_replicas: 2}}]
      autoscaling: {min_replicas: 1}
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
def export(tmp_path, monkeypatch):
    """Writes a file and exports it."""
    (tmp_path / "stages_of_export.py").write_text(STAGES)
    monkeypatch.chdir(tmp_path)

    def export(text):
        (tmp_path / "serve_config.yaml").write_text(text)
        result = CliRunner().invoke(main, ["export", "serve"])
        assert result.exit_code == 0, result.output
        return result.stdout

    return export


@pytest.fixture
def page(root):
    """The file and the manifest of docs/kuberay.md."""
    return re.findall(
        r"```yaml\n(.*?)```", (root / "docs" / "kuberay.md").read_text(encoding="utf-8"), re.DOTALL
    )


def test_a_file_for_serve_deploy_has_what_up_adds(export):
    """The split stage is an application, and its caller knows it; Ray's schema and our
    builders take all of it.
    """
    config = yaml.safe_load(export(FILE + FUNCTIONS + PART))
    assert [one.name for one in ServeDeploySchema.model_validate(config).applications] == [
        "catalogue",
        "host",
        "busy",
        "split",
    ]
    assert (config["http_options"]["host"], config["http_options"]["port"]) == ("127.0.0.1", 9000)
    by_name = {one["name"]: one["args"] for one in config["applications"]}
    assert [one["name"] for one in by_name["host"]["functions"]] == ["rare", "split.say"]
    assert list(by_name["split"]["deployed"]["calls"]) == ["split.say"]
    for name, builder in (("catalogue", catalogue), ("host", host), ("split", function)):
        assert builder(by_name[name])


def test_what_is_written_for_ray_is_no_file_of_wakefuls(export, tmp_path):
    """It has what commands add: `check` says so, and which file it takes."""
    written = tmp_path / "written.yaml"
    written.write_text(export(f"applications:\n{FUNCTIONS}{PART}"))
    result = CliRunner().invoke(main, ["check", str(written), "--json"])
    assert result.exit_code == 2
    problems = {one["key"]: one["message"] for one in json.loads(result.stdout)["problems"]}
    key = "applications[0].args.deployed"
    assert key in problems
    expect_values(problems[key], "`wakeful export serve`")


def test_the_file_of_the_page_gives_each_machine_a_host(export, page):
    """Only what has a deployment of its own is an application; the hosts list the others, and
    HTTP is open.
    """
    config = yaml.safe_load(export(page[0] + FUNCTIONS))
    schema = ServeDeploySchema.model_validate(config)
    assert (
        schema.proxy_location,
        config["http_options"]["host"],
        config["http_options"]["port"],
    ) == ("EveryNode", "0.0.0.0", 8000)
    by_name = {one["name"]: one for one in config["applications"]}
    assert list(by_name) == ["busy", "catalogue", "host"]
    host_args = by_name["host"]["args"]
    assert host_args["everywhere"]
    assert [one["name"] for one in host_args["functions"]] == ["rare"]
    assert [
        list(args["deployed"]["made_of"])
        for args in (host_args["functions"][0]["args"], by_name["busy"]["args"])
    ] == [["code"], ["code"]]
    for name, builder in (("catalogue", catalogue), ("host", host), ("busy", function)):
        assert set(by_name[name]) <= {"name", "route_prefix", "import_path", "args"}
        assert builder(by_name[name]["args"])


def test_three_lines_become_the_whole_form(export):
    """Ray's schema and our builders take it."""
    f = '{name: f, args: {graph: [{stage: s, python: "stages_of_export:say"}]}}'
    config = yaml.safe_load(export(f"applications: [{f}]"))
    assert ServeDeploySchema.model_validate(config)
    by_name = {one["name"]: one for one in config["applications"]}
    assert {name: one["route_prefix"] for name, one in by_name.items()} == {
        "catalogue": "/",
        "host": "/v2/models",
    }
    assert [one["name"] for one in by_name["host"]["args"]["functions"]] == ["f"]
    assert catalogue(by_name["catalogue"]["args"])
    assert host(by_name["host"]["args"])


def test_the_manifest_of_the_page_is_a_ray_service(export, page):
    """With the applications put in as the page says: each pod has the image and the environment,
    and the head computes nothing.
    """
    applications = "".join(f"    {line}\n" for line in export(page[0] + FUNCTIONS).splitlines())
    manifest = yaml.safe_load(
        page[1].replace("  serveConfigV2: |\n", f"  serveConfigV2: |\n{applications}")
    )
    assert (manifest["apiVersion"], manifest["kind"], list(manifest["metadata"])) == (
        "ray.io/v1",
        "RayService",
        ["name"],
    )
    assert set(manifest["spec"]) == {"serveConfigV2", "rayClusterConfig"}
    assert (
        len(
            ServeDeploySchema.model_validate(
                yaml.safe_load(manifest["spec"]["serveConfigV2"])
            ).applications
        )
        == 3
    )
    assert not read("serve_config.yaml").others
    cluster = manifest["spec"]["rayClusterConfig"]
    assert set(cluster) == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    assert judge(cluster["rayVersion"]) == "tried"
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert set(head) == {"rayStartParams", "template"}
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert set(workers) == {
        "groupName",
        "replicas",
        "minReplicas",
        "maxReplicas",
        "rayStartParams",
        "template",
    }
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    (main_one,), (worker,) = (group["template"]["spec"]["containers"] for group in (head, workers))
    for container in (main_one, worker):
        assert set(container) == {"name", "image", "workingDir", "envFrom", "ports", "resources"}
        assert {"name": "serve", "containerPort": 8000} in container["ports"]
    assert [main_one[key] for key in ("image", "workingDir", "envFrom")] == [
        worker[key] for key in ("image", "workingDir", "envFrom")
    ]


def test_what_two_applications_share_is_written_twice():
    """YAML has anchors for that, which no file of ours may have."""
    shared = {"graph": ["a"]}
    text = _to_yaml({"applications": [{"args": shared}, {"args": shared}]})
    assert parse(text, "f.yaml").data == {"applications": [{"args": shared}] * 2}
