"""The functions of pages that teach something pass `wakeful check`, and every command on them
prints what is below it.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from runtime.declaration.config_file import read
from runtime.graph.resolve import examine
from runtime.settings import Settings
from tests import serving

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {
    "streaming": (("selling", "reading"), 8),
    "sequences": (("means",), 4),
    "stages": (("quotes",), 4),
}
"""By page: the modules that its first blocks of Python are, each with its block of YAML, and how many
commands it has.
"""


def text_of(page: str) -> str:
    """The page."""
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def write(page: str, folder: Path) -> Path:
    """The functions of the page."""
    modules, _ = PAGES[page]
    blocks = re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)
    declared = re.findall(r"```yaml\napplications:\n(.*?)```", text_of(page), re.DOTALL)
    for module, python in zip(modules, blocks, strict=False):
        (folder / f"{module}.py").write_text(python)
    file = folder / "serve_config.yaml"
    file.write_text("".join(["applications:\n", *declared[: len(modules)]]))
    return file


def examples(page: str) -> list[tuple[str, str]]:
    """Each command of the page with what it prints."""
    blocks = re.findall(r"```console\n(.*?)```", text_of(page), re.DOTALL)
    return [
        (command, expected)
        for block in blocks
        for command, expected in re.findall(
            r"^\$ (.*?)\n(.*?)(?=^\$ |\Z)", block, re.DOTALL | re.MULTILINE
        )
    ]


def timeless(text: str) -> str:
    """Without what differs each time."""
    return re.sub(
        r"dur=[\d.]+", "dur=0", re.sub(r'"request_id":"\w*"', '"request_id":""', text)
    ).rstrip("\n")


@pytest.mark.parametrize("page", PAGES)
def test_the_function_is_one(page, tmp_path, monkeypatch):
    """It passes `wakeful check`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not examine(
        read(write(page, tmp_path)), Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    ).problems


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_prints_what_is_below_it(page, tmp_path):
    """Against `wakeful run`."""
    assert len(examples(page)) == PAGES[page][1]
    with serving.run(write(page, tmp_path), root=tmp_path, log=tmp_path / "log") as url:
        for command, expected in examples(page):
            arguments = shlex.split(command.replace("http://127.0.0.1:8000", url))
            printed = subprocess.run(
                [arguments[0], "-s", *arguments[1:]],
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            ).stdout
            assert timeless(printed) == timeless(expected), command
