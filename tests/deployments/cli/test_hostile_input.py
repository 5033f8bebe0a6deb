"""Files and models of a stranger, as commands are given them: refused in words, and at once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deployments.cli import main
from runtime.declaration.config_file import read
from tests import onnx_models
from tests.runtime.declaration.test_hostile_files import SMALL
from tests.runtime.onnx.hostile_models import SECRET, hostile_model, write_folder

BOMBS = ("aliases of aliases", "a python object")


def invoke(*arguments: str) -> Result:
    """A command whose faults are words, and no traceback."""
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.mark.parametrize("command", ["check", "run", "up", "explain"])
def test_a_file_that_was_made_to_hurt_is_refused_by_every_command(command, tmp_path, monkeypatch):
    """Before anything is started, each with its file and line."""
    monkeypatch.chdir(tmp_path)
    for name in BOMBS:
        Path("serve_config.yaml").write_text(SMALL[name])
        result = invoke(command, "serve_config.yaml")
        assert result.exit_code == 2, (name, result.output[:2000])
        assert "serve_config.yaml:" in result.output, name


def declare(models: Path, count: int) -> Path:
    """A file with a function of each of so many hostile models."""
    lines = ["applications:"]
    for seed in range(count):
        (models / f"m{seed}.onnx").write_bytes(hostile_model(seed))
        lines.append(f"  - {{name: m{seed}, args: {{onnx: models/m{seed}.onnx}}}}")
    file = models.parent / "serve_config.yaml"
    file.write_text("\n".join(lines))
    return file


@pytest.mark.parametrize(
    "count", [15, pytest.param(900, marks=[pytest.mark.slow, pytest.mark.full])]
)
def test_check_refuses_hostile_models_in_words(count, tmp_path, monkeypatch):
    """All at once, each at its line."""
    monkeypatch.chdir(tmp_path)
    declare(write_folder(tmp_path), count)
    result = invoke("check", "serve_config.yaml")
    assert result.exit_code == 2
    refused = [line for line in result.output.splitlines() if line.startswith("serve_config.yaml:")]
    assert len(refused) > count / 4
    assert SECRET.decode() not in result.output


@pytest.mark.parametrize(
    "count", [15, pytest.param(900, marks=[pytest.mark.slow, pytest.mark.full])]
)
def test_add_takes_those_that_can_be_served_and_names_the_others(count, tmp_path, monkeypatch):
    """Of a folder of Triton's; the file is one that can be read."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path)
    for seed in range(count):
        folder = tmp_path / "triton" / f"m{seed}" / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(hostile_model(seed))
    onnx_models.double(tmp_path / "triton" / "whole" / "1" / "model.onnx", ("n", 3))
    odd = tmp_path / "triton" / "odd"
    (odd / "1").mkdir(parents=True)
    (odd / "config.pbtxt").write_text(
        'platform: "onnxruntime_onnx" default_model_filename: "a\\000b.onnx"'
    )
    result = invoke("add", "triton")
    assert result.exit_code == 0, result.output[-3000:]
    names = {spec.name for spec in read("serve_config.yaml").functions}
    assert "whole" in names
    assert len(names) < count
    assert SECRET.decode() not in result.output


CRASHES = """\
import ctypes

class Load:
    def __init__(self) -> None:
        ctypes.string_at(0)

    def __call__(self, n: int) -> int:
        return n
"""


@pytest.mark.slow
def test_a_run_that_dies_while_it_loads_says_where(tmp_path):
    """As one does whose model ends ONNX Runtime; with more processes, and on Ray, another is left to
    say so.
    """
    (tmp_path / "crashing_stage.py").write_text(CRASHES)
    file = tmp_path / "serve_config.yaml"
    graph = '[{stage: load, python: "crashing_stage:Load"}]'
    file.write_text(f"applications: [{{name: a, args: {{graph: {graph}, example: {{n: 1}}}}}}]")
    wakeful = Path(sys.executable).with_name("wakeful")
    done = subprocess.run(
        [wakeful, "run", str(file), "--port", "0"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in done.stderr
    assert "crashing_stage.py" in done.stderr
