"""A command neither imports nor needs what other parts of Wakeful need: it works where those
packages cannot be imported, and what does need one says how to install it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from deployments.ray_support import ports
from runtime.declaration import config_file
from tests import onnx_models
from tests.installation.environments import served

ROOT = Path(__file__).parents[3]

EXTRAS = ("ray", "onnx", "onnxruntime", "pynvml", "huggingface_hub", "transformers", "tokenizers")
EXTRAS += ("safetensors", "sklearn", "skl2onnx", "PIL", "locust", "opentelemetry")
"""What an installation without extras lacks, or may lack."""

SERVING = ("starlette", "uvicorn", "uvloop", "httptools", "httpx")
READING = ("numpy", "pydantic", "ruamel", "orjson", "msgpack")

BLOCKING = """\
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Blocker())
from deployments.cli import main
main(prog_name="wakeful")
"""

FILE = """\
http_options: {{port: {port}}}
applications:
  - name: greet
    route_prefix: /v2/models/greet
    import_path: deployments:function
    args:
      graph: [{{stage: greet, python: "greetings:greet"}}]
"""

STAGE = """\
from wakeful import Rows

def greet(name: Rows[str]) -> Rows[str]:
    return [f"hello {each}" for each in name]
"""

MODEL = """\
  - name: double
    route_prefix: /v2/models/double
    import_path: deployments:function
    args: {onnx: double.onnx}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A file with a function of plain Python, and its module."""
    port = ports.find_free("127.0.0.1", 8000)
    (tmp_path / "serve_config.yaml").write_text(FILE.format(port=port))
    (tmp_path / "greetings.py").write_text(STAGE)
    return tmp_path


def command(blocked: Sequence[str], *arguments: str) -> list[str]:
    """A ``wakeful`` that cannot import those packages."""
    return [sys.executable, "-c", BLOCKING, ",".join(blocked), *arguments]


def run(project: Path, blocked: Sequence[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(dir="/tmp") as state:
        return subprocess.run(
            command(blocked, *arguments),
            cwd=project,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "TMPDIR": state},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.mark.parametrize(
    ("blocked", "arguments", "said"),
    [
        ((*EXTRAS, *SERVING, *READING, "rich", "psutil"), ("--help",), "Functions that sleep"),
        ((*EXTRAS, *SERVING), ("check",), "greet takes name: str"),
        ((*EXTRAS, *SERVING), ("explain",), "takes name"),
        ((*EXTRAS, *SERVING), ("scale", "trace", "greet=1", "--for", "1"), "at_s,function"),
        (EXTRAS, ("status",), "nothing is up"),
        (EXTRAS, ("down",), "nothing is up"),
        (EXTRAS, ("env",), "RAY_SERVE_ENABLE_HA_PROXY"),
        (EXTRAS, ("export", "serve"), "applications:"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_a_command_works_without_what_it_does_not_use(blocked, arguments, said, project):
    """Each package, imported, would fail it."""
    done = run(project, blocked, *arguments)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


@pytest.fixture
def url(project: Path) -> Iterator[str]:
    """``wakeful run`` without any extra; it drains at its end."""
    address = f"http://127.0.0.1:{config_file.read(project / 'serve_config.yaml').http_port}"
    with tempfile.TemporaryDirectory(dir="/tmp") as state:
        variables = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "TMPDIR": state}
        with served(command((*EXTRAS, "httpx"), "run"), address, project, variables):
            yield address


@pytest.mark.slow
def test_run_and_call_need_no_extra(url, project):
    """A server without ONNX Runtime and Ray, and a client that imports neither numpy nor pydantic."""
    client = (*EXTRAS, "starlette", "uvicorn", "uvloop", "httptools", *READING)
    done = run(project, client, "call", "greet", '{"name": "Ada"}', "--url", url)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"greet": "hello Ada"})
    assert httpx.get(f"{url}/v2/health/ready").is_success


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (("up",), "'wakeful[ray]'"),
        (("join", "127.0.0.1:1"), "'wakeful[ray]'"),
        (("run",), "'wakeful[cpu]'"),
        (("check",), "tokenizers"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_is_missing_is_said_with_the_line_that_installs_it(arguments, package, project):
    """Before anything starts, and without a traceback."""
    onnx_models.double(project / "double.onnx")
    file = project / "serve_config.yaml"
    file.write_text(file.read_text() + MODEL)
    if package == "tokenizers":
        (project / "greetings.py").write_text("import tokenizers\n" + STAGE)
    done = run(project, EXTRAS, *arguments)
    assert done.returncode in (1, 2)
    assert f"pip install {package}" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
