"""A secret on its way to a replica and to the host, and what is to be seen of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from deployments.cluster.head import cluster_variables
from deployments.ray_support import processes, secret_store
from deployments.ray_support.environment import inherited_variables, to_mapping
from deployments.ray_support.state_dir import StateDir
from deployments.rollout.prepare import (
    SYSTEM_VARIABLES,
    prepare_for_deployment,
    remove_from_environment,
    secret_digests,
)
from runtime.declaration.config_file import read
from runtime.graph.resolve import ResolvedConfig
from runtime.settings import Settings
from runtime.system.secrets import Secrets
from tests import secret_stages
from tests.deployments.projects import HOST, STANDING, Project, Standing

OLD, NEW = "first-value-A", "second-value-B"

FUNCTION = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      graph: [{{stage: s, python: "secret_stages:Tells", with: {{key: "${{A_KEY_OF_A_TEST}}"}}}}]
      autoscaling: {{min_replicas: {least}}}
"""


def test_what_is_fetched_is_hidden_from_now_on(monkeypatch):
    """Before a stage is constructed with it: a call that wakes the function may have it. Nothing is
    asked where nothing is named, nor is what the cluster has not.
    """
    asked: list[set[str]] = []

    def fetch(marks: set[str]) -> dict[str, str]:
        asked.append(marks)
        return {"m1": OLD}

    monkeypatch.setattr(secret_store, "fetch_secrets", fetch)
    secrets = Secrets()
    asyncio.run(secret_store.fetch_into(secrets, [{"KEY": "m1", "OTHER": "m2"}, {}]))
    assert secrets.hide(f"a {OLD}") == "a ${KEY}"
    asyncio.run(secret_store.fetch_into(secrets, [{}]))
    assert asked == [{"m1", "m2"}]


def declare(project: Project) -> None:
    """A function with a deployment of its own, and one in the host."""
    (project.folder / "secret_stages.py").write_text(Path(secret_stages.__file__).read_text())
    project.declare(
        *HOST, FUNCTION.format(name="own", least=1), FUNCTION.format(name="hosted", least=0)
    )


def up(project: Project, value: str | None) -> subprocess.CompletedProcess[str]:
    """`wakeful up --detach` with this value in its environment."""
    project.more = {**STANDING, **({} if value is None else {"A_KEY_OF_A_TEST": value})}
    return project.run("up", "--detach")


def call(project: Project, name: str) -> dict[str, str]:
    """What a function answers of its key."""
    answer = httpx.post(f"{project.url}/v2/models/{name}", json={"text": "hello"}, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()
    return found


def everything_to_be_seen(project: Project) -> str:
    """What commands print, all files of the cluster, and the environment of each of its
    processes.
    """
    outputs = [
        project.run(*command)
        for command in (
            ["status", "--json"],
            ["status", "own", "--why"],
            ["explain"],
            ["logs", "own"],
        )
    ]
    texts = [one.stdout + one.stderr for one in outputs]
    files = [
        Path(folder, name) for folder, _, names in os.walk(project.home.path) for name in names
    ]
    files += [
        Path(f"/proc/{process.pid}/{name}")
        for process in processes.cluster_processes(project.home.path)
        for name in ("environ", "cmdline")
    ]
    for file in files:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has gone meanwhile
            if file.is_file() and not file.is_symlink():
                texts.append(file.read_text(errors="replace"))
    return "\n".join(texts)


@pytest.mark.ray
@pytest.mark.slow
def test_a_secret_reaches_its_stages_and_no_other_process(standing: Standing) -> None:
    """By a replica and by the host; a changed value restarts both, the same one neither; without it
    nothing starts.
    """
    declare(standing)
    refused = up(standing, None)
    assert refused.returncode == 2
    assert (
        "serve_config.yaml:8: applications[2].args.graph[0].with.key: ${A_KEY_OF_A_TEST} is not set"
        in refused.stderr
    )
    started = up(standing, OLD)
    assert started.returncode == 0, started.stderr
    before = {name: call(standing, name) for name in ("own", "hosted")}
    assert {(one["ends"], one["in_environment"]) for one in before.values()} == {("A", "False")}
    failed = httpx.post(f"{standing.url}/v2/models/own", json={"text": "fail"}, timeout=30)
    assert failed.status_code == 500
    seen = everything_to_be_seen(standing)
    assert "my key is ${A_KEY_OF_A_TEST}" in seen
    assert "ValueError: key ${A_KEY_OF_A_TEST} is wrong" in seen
    assert OLD not in seen + started.stdout + started.stderr + failed.text

    assert up(standing, OLD).returncode == 0
    assert call(standing, "own")["pid"] == before["own"]["pid"]
    changed = up(standing, NEW)
    assert changed.returncode == 0, changed.stderr
    assert {call(standing, name)["ends"] for name in ("own", "hosted")} == {"B"}
    assert call(standing, "own")["pid"] != before["own"]["pid"]
    seen = everything_to_be_seen(standing)
    assert OLD not in seen
    assert NEW not in seen


def test_marks_stand_in_the_declaration_and_values_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values go separately, and out of the environment that a cluster would inherit."""
    file = tmp_path / "serve_config.yaml"
    stages = '[{stage: s, python: "m:C", with: {key: "${A_KEY_OF_A_TEST}", home: "${HOME}"}}]'
    file.write_text(
        "applications:\n  - {name: f, route_prefix: /v2/models/f, import_path: "
        "deployments:function, args: {graph: " + stages + "}}\n"
    )
    monkeypatch.setenv("A_KEY_OF_A_TEST", OLD)
    secrets = Secrets({"A_KEY_OF_A_TEST": OLD, "HOME": "/h"})
    config = prepare_for_deployment(
        ResolvedConfig.split(read(file)),
        Settings(tmp_path, tmp_path, secrets=secrets),
        secret_key=b"key",
    )
    (spec,) = config.specs
    carried = config.secret_values
    assert sorted(carried.values()) == ["/h", OLD]
    assert set(spec.deployed.secrets) == {"A_KEY_OF_A_TEST", "HOME"}
    assert secrets.find("A_KEY_OF_A_TEST", spec.deployed.secrets["A_KEY_OF_A_TEST"]) == OLD
    assert OLD not in repr(config)
    nested = [
        {"name": "host", "args": {"functions": [{"args": spec.to_args()}]}},
        {"name": "f", "args": spec.to_args()},
        {"name": "c"},
    ]
    assert secret_digests(nested) == sorted(carried)
    remove_from_environment(config.specs)
    assert "A_KEY_OF_A_TEST" not in os.environ
    assert "HOME" in SYSTEM_VARIABLES


def test_a_state_folder_has_a_key(tmp_path: Path) -> None:
    """Its token, which only its user can read."""
    home = StateDir(Path("/tmp") / f"wk{tmp_path.name[-6:]}")
    home.prepare()
    try:
        assert len(home.key()) == 64
    finally:
        (home.path / "token").unlink()
        home.path.rmdir()


STORE = """
import sys

import ray
from deployments.ray_support.secret_store import fetch_secrets, store_secrets

def elsewhere(marks):
    return fetch_secrets(marks)

ray.init(address=sys.argv[1], log_to_driver=False)
a, b, other = "11111111-a", "11111111-b", "22222222-c"
store_secrets({other: "3"}, [], "22222222-")
store_secrets({a: "1"}, [], "11111111-")
assert fetch_secrets([a, b]) == {a: "1"}
store_secrets({b: "2"}, [a], "11111111-")
assert ray.get(ray.remote(num_cpus=0)(elsewhere).remote([a, b])) == {a: "1", b: "2"}
store_secrets({}, [], "11111111-")
assert fetch_secrets([a, b, other]) == {other: "3"}
store_secrets({}, [], "22222222-")
print("good")
"""


@pytest.mark.ray
@pytest.mark.slow
def test_the_cluster_keeps_what_is_needed_and_no_more(standing: Standing) -> None:
    """In the store of Ray's head; read from any process, each state folder's own."""
    up = standing.with_anything()
    ran = subprocess.run(
        [sys.executable, "-c", STORE, up.address],
        env=inherited_variables(to_mapping(cluster_variables(up, standing.home))),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.stdout == "good\n", ran.stderr


@pytest.mark.slow
def test_a_secrets_file_goes_with_check_and_explain_needs_none(project: Project) -> None:
    """What is in the file is not missing; commands that only show are given names."""
    declare(project)
    (project.folder / "secrets.env").write_text(f"A_KEY_OF_A_TEST={OLD}\n")
    refused = project.run("check")
    assert refused.returncode == 2
    assert (
        "serve_config.yaml:8: applications[2].args.graph[0].with.key: ${A_KEY_OF_A_TEST} is not set"
        in refused.stdout
    )
    checked = project.run("check", "--secrets", "secrets.env")
    assert checked.returncode == 0, checked.stdout
    explained = project.run("explain")
    assert explained.returncode == 0, explained.stderr
    assert OLD not in checked.stdout + explained.stdout
