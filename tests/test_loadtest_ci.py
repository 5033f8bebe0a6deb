"""docs/ci/loadtest.yaml: the steps of the workflow do what they say, on a project of the test's."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from deployments.cli import main
from deployments.cli.traffic.loadtest import loadtest
from tests.problems import expect_values

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / "docs" / "ci" / "loadtest.yaml"

FILE = """\
applications:
  - name: hello
    route_prefix: /v2/models/hello
    import_path: deployments:function
    args:
      graph: [{stage: greet, python: "ci_hello:greet"}]
      example: {name: bo}
"""

STAGE = """\
import time

def greet(name: str) -> str:
    time.sleep(%s)
    return f"hello {name}"
"""


def workflow() -> dict[str, Any]:
    """As GitHub reads it."""
    content: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    return content


def steps() -> dict[str, dict[str, Any]]:
    """The steps with a name."""
    return {
        step["name"]: step for step in workflow()["jobs"]["load-test"]["steps"] if "name" in step
    }


def test_the_workflow_is_well_formed():
    """Each script is bash, each action has a version, the token reads alone, and the load is one
    that the command takes.
    """
    content = workflow()
    assert content["permissions"] == {"contents": "read"}
    for step in content["jobs"]["load-test"]["steps"]:
        if "run" in step:
            subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True)
        else:
            assert step["uses"].rpartition("@")[2].startswith("v")
    parent = click.Context(main, **main.context_settings)
    arguments = shlex.split(content["env"]["LOAD"])
    context = loadtest.make_context("loadtest", arguments, parent=parent)
    assert context.params["seconds"] == 60


TRIES = 4
"""Of a load test that says that the machine was too busy to tell."""


@pytest.mark.full
@pytest.mark.parametrize(("now_s", "status"), [("0.05", 1), ("0.002", 0)], ids=["slower", "same"])
def test_a_regression_fails_the_check(tmp_path, now_s, status):
    """The base is loaded, then the change with what the base measured; reports of both are left."""
    for side, seconds in (("before", "0.002"), ("now", now_s)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "serve_config.yaml").write_text(FILE)
        (tmp_path / side / "ci_hello.py").write_text(STAGE % seconds)
        (tmp_path / f"venv-{side}").mkdir()
        (tmp_path / f"venv-{side}" / "bin").symlink_to(Path(sys.executable).parent)
    base = carry_out("Load test of the base", tmp_path)
    assert base.returncode == 0, base.stdout + base.stderr
    for _ in range(TRIES):
        change = carry_out("Load test of this change", tmp_path)
        if "::warning::" not in change.stdout:
            break
        assert change.returncode == 0
        assert "the generator was the limit" in change.stdout
    for side in ("before", "now"):
        left = {path.name for path in (tmp_path / "results" / side).iterdir()}
        assert left == {"run.json", "calls.csv", "report.html"}
    assert "::warning::" not in change.stdout, "too busy a machine to tell, each time"
    assert change.returncode == status, change.stdout + change.stderr
    if status:
        expect_values(change.stdout, "hello", "slower")


def carry_out(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A step of the workflow, in a folder, with a short load."""
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", steps()[name]["run"]],
        cwd=folder,
        env={**os.environ, "LOAD": "--rps 40 --for 4 --warm-up 1 --seed 1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
