"""The wheel is all that a user needs: in an empty environment and a folder of one's own."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from deployments.ray_support.assumptions.versions import judge
from tests import onnx_models
from tests.installation.environments import VERSIONS, Environment, build_wheel, find_python

pytestmark = pytest.mark.slow

FILE = """\
applications:
  - name: greet
    route_prefix: /v2/models/greet
    import_path: deployments:function
    args:
      graph: [{stage: greet, python: "stages:greet"}]
  - name: double
    route_prefix: /v2/models/double
    import_path: deployments:function
    args: {onnx: double.onnx}
"""

STAGES = """\
from wakeful import Rows

def greet(name: Rows[str]) -> Rows[str]:
    return [f"hello {each}" for each in name]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of this clone."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(version, marks=[] if version == VERSIONS[0] else pytest.mark.full)
        for version in VERSIONS
    ],
)
def installed(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """The wheel with ``[cpu]``, in an empty environment of that Python."""
    python = find_python(request.param)
    if python is None:
        pytest.skip(f"there is no Python {request.param} here")
    folder = tmp_path_factory.mktemp(f"python{request.param}")
    environment = Environment.make(folder / "venv", python, f"{wheel}[cpu]")
    yield environment
    shutil.rmtree(environment.state)
    shutil.rmtree(folder)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder: a file, a module, a model."""
    (tmp_path / "serve_config.yaml").write_text(FILE)
    (tmp_path / "stages.py").write_text(STAGES)
    onnx_models.double(tmp_path / "double.onnx")
    return tmp_path


def test_what_is_in_the_wheel(wheel: Path):
    """Our packages, their types, and what they read; no functions, load tests or tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "wakeful",
        "runtime",
        "deployments",
    }
    for name in ("wakeful/py.typed", "runtime/py.typed", "deployments/py.typed"):
        assert name in names
    for name in (
        *("rules.cfg.j2", "serve.cfg.j2", "workers.cfg.j2"),
        *("sequence_routing.lua", "waiting.lua"),
    ):
        assert f"deployments/ingress/haproxy/{name}" in names
    assert "wakeful/templates/onnx/model.onnx" in names


@contextmanager
def serving(environment: Environment, project: Path) -> Iterator[str]:
    """``wakeful run`` in the folder; gives its URL, and ends it as Ctrl-C does."""
    served = subprocess.Popen(
        [environment.command("wakeful"), "run", "--port", "0"],
        cwd=project,
        env=environment.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert served.stdout is not None
    try:
        written = ""
        for line in served.stdout:
            written += line
            if line.startswith("serving on "):
                break
        assert "serving on " in written, written
        yield written.split("serving on ")[1].split(";")[0]
    finally:
        served.send_signal(signal.SIGINT)
        rest, _ = served.communicate(timeout=60)
    assert served.returncode == 0, rest


def test_an_installation_checks_serves_and_calls(installed: Environment, project: Path):
    """In a folder without anything of the clone: a function of plain Python, and a model."""
    checked = installed.run(project, "wakeful", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 functions, nothing wrong" in checked.stdout
    with serving(installed, project) as url:
        body = '[{"name": "Ada"}, {"name": "Bo"}]'
        called = installed.run(project, "wakeful", "call", "greet", body, "--url", url)
        assert json.loads(called.stdout) == [{"greet": "hello Ada"}, {"greet": "hello Bo"}]
        answer = httpx.post(f"{url}/v2/models/double", json={"x": [1, 2, 3]})
        assert answer.json() == {"y": [2, 4, 6]}


def test_a_new_function_answers_in_an_installation(installed: Environment, tmp_path: Path):
    """By four commands, none of them an editor: an environment, an installation, `wakeful new` and
    `run`, a call. Its model needs nothing but ONNX Runtime.
    """
    made = installed.run(tmp_path, "wakeful", "new", "flowers", "--template", "onnx")
    assert made.returncode == 0, made.stdout + made.stderr
    with serving(installed, tmp_path / "flowers") as url:
        request = (tmp_path / "flowers" / "request.json").read_text()
        called = installed.run(tmp_path, "wakeful", "call", "flowers", request)
        assert json.loads(called.stdout)["species"] == "setosa", called.stderr
        assert httpx.get(f"{url}/v2/models/flowers").is_success


def test_what_an_installation_lacks_is_said_with_its_line(installed: Environment, project: Path):
    """Of ``up``, of the benchmarks, of a package of the project's that hides ours."""
    up = installed.run(project, "wakeful", "up")
    assert up.returncode == 1
    assert "pip install 'wakeful[ray]'" in up.stderr
    bench = installed.run(project, "wakeful", "bench")
    assert bench.returncode == 1
    assert "not part of an installation" in bench.stderr
    (project / "runtime").mkdir()
    (project / "runtime" / "__init__.py").touch()
    checked = installed.run(project, "wakeful", "check", "--json")
    assert checked.returncode == 0
    (warning,) = json.loads(checked.stdout)["warnings"]
    assert warning["file"] == str(project / "runtime" / "__init__.py")


def test_a_users_stages_have_types(installed: Environment, tmp_path: Path):
    """mypy, strict, in a project of its own: it follows ``wakeful`` to what a stage is given."""
    (tmp_path / "stages.py").write_text(
        STAGES.replace("    return", "    reveal_type(name)\n    return")
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")),
            *("--python-executable", installed.command("python"), "stages.py"),
        ],
        cwd=tmp_path,
        env=installed.variables,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'Revealed type is "typing.Sequence[str]"' in done.stdout


@pytest.mark.full
@pytest.mark.parametrize("version", VERSIONS)
def test_every_extra_has_its_packages(version: str, wheel: Path, tmp_path: Path):
    """For each Python; as wheels, so that nothing is compiled. Nothing is installed."""
    wanted = tmp_path / "wanted.txt"
    for build in ("cpu", "gpu"):
        wanted.write_text(f"wakeful[{build},ray,models,load,otel] @ {wheel.as_uri()}\n")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", str(wanted)),
                *("--python-version", version, "--only-binary", ":all:"),
            ],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (ray,) = re.findall(r"^ray==(\S+)$", done.stdout, re.MULTILINE)
        assert judge(ray) != "old"
