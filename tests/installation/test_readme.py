"""The first commands of the README, typed as they stand in a clone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import serving
from tests.installation.environments import INSTALL_TIMEOUT_S, ROOT, UV, Environment, served

CLONED = ("wakeful", "runtime", "deployments", "pyproject.toml", "README.md", "LICENSE")
"""What an installation is made of."""

PIP = """\
#!/bin/sh
exec {} pip "$@" --python {}
"""
"""uv's, which has most packages at hand. It is told where to install: run by an interpreter, it would
do so beside that.
"""


@pytest.mark.full
def test_four_commands_answer(tmp_path: Path) -> None:
    """An installation, a new function, a server, a call."""
    part = (
        (ROOT / "README.md").read_text(encoding="utf-8").split("## Your own, in four commands")[1]
    )
    block = part.split("```console\n")[1].split("```")[0]
    commands = [line.partition(" #")[0].rstrip() for line in block.splitlines()]
    install, make, serve, call = [command.removeprefix("$ ") for command in commands]
    folder = tmp_path / "clone"
    for name in CLONED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        folder.mkdir(exist_ok=True)
        copy(ROOT / name, folder / name)
    environment = Environment.make(tmp_path / "venv", Path(sys.executable))
    pip = Path(environment.command("pip"))
    pip.write_text(PIP.format(" ".join(UV), environment.command("python")))
    pip.chmod(0o755)
    port = serving.free_port()
    variables = {**environment.variables, "WAKEFUL_PORT": str(port)}

    def type_in(folder: Path, command: str, variables: dict[str, str]) -> str:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    try:
        type_in(folder, f"{install} --quiet", {**os.environ, "PATH": variables["PATH"]})
        where = Path(type_in(folder, f"{{ {make}; }} >&2 && pwd", variables).strip())
        command = ["sh", "-c", f"exec {serve}"]
        with served(command, f"http://127.0.0.1:{port}", where, variables):
            answer = json.loads(type_in(where, call, variables))
        assert answer == {"words": 2, "longest": "words"}
    finally:
        shutil.rmtree(environment.state)


def test_nothing_of_it_has_to_be_filled_in() -> None:
    """No address, folder or version that a reader has to know."""
    for name in ("README.md", "docs/install.md", "docs/tutorial.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        lines = re.findall(r"^.*pip install .*$", text, re.MULTILINE)
        assert lines
        for line in lines:
            assert not re.search(r"pip install [^`#]*(ADDRESS|git\+|\bURL\b|<\w+>)", line), line
