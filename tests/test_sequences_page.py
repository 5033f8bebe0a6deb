"""The examples of docs/sequences.md do what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from runtime.check import check
from runtime.settings import Settings
from runtime.specfile import read
from tests import serving

PAGE = (Path(__file__).parent.parent / "docs" / "sequences.md").read_text(encoding="utf-8")


def write(folder: Path) -> Path:
    """The function of the page."""
    (python,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (declaration,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (folder / "means.py").write_text(python)
    (folder / "serve_config.yaml").write_text(declaration)
    return folder / "serve_config.yaml"


def examples() -> list[tuple[str, str]]:
    """Each command of the page with what it prints."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [
        (command, said) for block in blocks for command, said in re.findall(r"^\$ (.*?)\n(.*?)(?=^\$ |\Z)", block, re.DOTALL | re.MULTILINE)
    ]


def timeless(text: str) -> str:
    """Without what differs each time."""
    return re.sub(r'"request_id":"\w*"', '"request_id":""', text).rstrip("\n")


def test_the_function_is_one(tmp_path, monkeypatch):
    """It passes `wakeful check`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not check(read(write(tmp_path)), Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))


@pytest.mark.slow
def test_every_command_prints_what_stands_below_it(tmp_path):
    """Against `wakeful run`."""
    assert len(examples()) == 4
    with serving.run(write(tmp_path), root=tmp_path, log=tmp_path / "log") as url:
        for command, said in examples():
            arguments = shlex.split(command.replace("http://127.0.0.1:8000", url))
            printed = subprocess.run([arguments[0], "-s", *arguments[1:]], capture_output=True, text=True, timeout=30, check=True).stdout
            assert timeless(printed) == timeless(said), command
