"""A secret on its way to a replica and to the host, and what is to be seen of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from deployments import processes
from deployments.home import Home
from deployments.sealing import EVERYBODYS, marks_of, seal, withhold
from runtime.secrets import Secrets
from runtime.specfile import read
from tests import secret_stages
from tests.deployments.projects import HOST, Project

OLD, NEW = "first-value-A", "second-value-B"

FUNCTION = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      graph: [{{stage: s, python: "secret_stages:Tells", with: {{key: "${{A_KEY_OF_A_TEST}}"}}}}]
      autoscaling: {{min_replicas: {least}}}
"""


def declare(project: Project) -> None:
    """A function with a deployment of its own, and one in the host."""
    (project.folder / "secret_stages.py").write_text(Path(secret_stages.__file__).read_text())
    project.declare(*HOST, FUNCTION.format(name="own", least=1), FUNCTION.format(name="hosted", least=0))


def up(project: Project, value: str | None) -> subprocess.CompletedProcess[str]:
    """`wakeful up --detach` with this value in its environment."""
    project.more = {} if value is None else {"A_KEY_OF_A_TEST": value}
    return project.run("up", "--detach")


def told(project: Project, name: str) -> dict[str, str]:
    """What a function says of its key."""
    answer = httpx.post(f"{project.url}/v2/models/{name}", json={"text": "hello"}, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()
    return found


def everything_to_be_seen(project: Project) -> str:
    """What commands print, all files of the cluster, and the environment of each of its processes."""
    said = [project.run(*command) for command in (["status", "--json"], ["status", "own", "--why"], ["explain"], ["logs", "own"])]
    texts = [one.stdout + one.stderr for one in said]
    texts += [path.read_text(errors="replace") for path in project.home.path.rglob("*") if path.is_file() and not path.is_symlink()]
    for process in processes.ours(project.home.path):
        texts += [Path(f"/proc/{process.pid}/{file}").read_text(errors="replace") for file in ("environ", "cmdline")]
    return "\n".join(texts)


@pytest.mark.ray
@pytest.mark.slow
def test_a_secret_reaches_its_stages_and_nobody_else(project: Project) -> None:
    """By a replica and by the host; a changed value restarts both, the same one neither; without it nothing starts."""
    declare(project)
    refused = up(project, None)
    assert refused.returncode == 2
    assert "serve_config.yaml:8: applications[2].args.graph[0].with.key: ${A_KEY_OF_A_TEST} is not set" in refused.stderr
    started = up(project, OLD)
    assert started.returncode == 0, started.stderr
    before = {name: told(project, name) for name in ("own", "hosted")}
    assert {(one["ends"], one["in_environment"]) for one in before.values()} == {("A", "False")}
    failed = httpx.post(f"{project.url}/v2/models/own", json={"text": "fail"}, timeout=30)
    assert failed.status_code == 500
    seen = everything_to_be_seen(project)
    assert "my key is ${A_KEY_OF_A_TEST}" in seen
    assert "ValueError: key ${A_KEY_OF_A_TEST} is wrong" in seen
    assert OLD not in seen + started.stdout + started.stderr + failed.text

    assert up(project, OLD).returncode == 0
    assert told(project, "own")["pid"] == before["own"]["pid"]
    changed = up(project, NEW)
    assert changed.returncode == 0, changed.stderr
    assert {told(project, name)["ends"] for name in ("own", "hosted")} == {"B"}
    assert told(project, "own")["pid"] != before["own"]["pid"]
    seen = everything_to_be_seen(project)
    assert OLD not in seen
    assert NEW not in seen
    assert project.run("down").returncode == 0
    assert project.is_clean()


def test_marks_stand_in_the_declaration_and_values_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The values go beside it, and out of the environment that a cluster would inherit."""
    file = tmp_path / "serve_config.yaml"
    stages = '[{stage: s, python: "m:C", with: {key: "${A_KEY_OF_A_TEST}", home: "${HOME}"}}]'
    file.write_text(
        "applications:\n  - {name: f, route_prefix: /v2/models/f, import_path: deployments:function, args: {graph: " + stages + "}}\n"
    )
    monkeypatch.setenv("A_KEY_OF_A_TEST", OLD)
    secrets = Secrets({"A_KEY_OF_A_TEST": OLD, "HOME": "/h"})
    sealed, carried = seal(read(file), secrets, b"key")
    (spec,) = sealed.functions
    assert sorted(carried.values()) == ["/h", OLD]
    assert set(spec.secrets) == {"A_KEY_OF_A_TEST", "HOME"}
    assert secrets.find("A_KEY_OF_A_TEST", spec.secrets["A_KEY_OF_A_TEST"]) == OLD
    assert OLD not in repr(sealed)
    nested = [{"name": "host", "args": {"functions": [{"args": spec.to_args()}]}}, {"name": "f", "args": spec.to_args()}, {"name": "c"}]
    assert marks_of(nested) == sorted(carried)
    withhold(sealed)
    assert "A_KEY_OF_A_TEST" not in os.environ
    assert "HOME" in EVERYBODYS


def test_a_state_folder_has_a_key(tmp_path: Path) -> None:
    """Its token, which is its owner's alone."""
    home = Home(Path("/tmp") / f"wk{tmp_path.name[-6:]}")
    home.prepare()
    try:
        assert len(home.key()) == 64
    finally:
        (home.path / "token").unlink()
        home.path.rmdir()


VAULT = """
import ray
from deployments import vault
from deployments.rayprivate import HeadStore

def there():
    HeadStore.is_there = staticmethod(lambda: {is_there})

def elsewhere(marks):
    there()
    return vault.fetch(marks)

there()
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000)
a, b, other = "11111111-a", "11111111-b", "22222222-c"
vault.keep({{other: "3"}}, [], "22222222-")
vault.keep({{a: "1"}}, [], "11111111-")
assert vault.fetch([a, b]) == {{a: "1"}}
vault.keep({{b: "2"}}, [a], "11111111-")
assert ray.get(ray.remote(num_cpus=0)(elsewhere).remote([a, b])) == {{a: "1", b: "2"}}
vault.keep({{}}, [], "11111111-")
assert vault.fetch([a, b, other]) == {{other: "3"}}
print("good")
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("is_there", [True, False])
def test_the_cluster_keeps_what_is_needed_and_no_more(root: Path, project: Project, is_there: bool) -> None:
    """In the store of Ray's head, or by the public way; asked from any process, each state folder's own."""
    environ = {**os.environ, "PYTHONPATH": str(root), "RAY_TMPDIR": project.short, "TMPDIR": project.short}
    command = [sys.executable, "-c", VAULT.format(is_there=is_there)]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert ran.stdout == "good\n", ran.stderr


@pytest.mark.slow
def test_a_secrets_file_goes_with_check_and_explain_needs_none(project: Project) -> None:
    """What is in the file is not missing; whoever only looks is shown names."""
    declare(project)
    (project.folder / "secrets.env").write_text(f"A_KEY_OF_A_TEST={OLD}\n")
    refused = project.run("check")
    assert refused.returncode == 2
    assert "serve_config.yaml:8: applications[2].args.graph[0].with.key: ${A_KEY_OF_A_TEST} is not set" in refused.stdout
    checked = project.run("check", "--secrets", "secrets.env")
    assert checked.returncode == 0, checked.stdout
    explained = project.run("explain")
    assert explained.returncode == 0, explained.stderr
    assert OLD not in checked.stdout + explained.stdout
