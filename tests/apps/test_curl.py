"""What the pages tell a reader to type, typed."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from runtime.declaration.config_file import read
from tests import serving

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HERE = "http://127.0.0.1:8000"
SHIPPED = {spec.route_prefix for spec in read(ROOT / "serve_config.yaml").functions}

pytestmark = [pytest.mark.models, pytest.mark.slow]


def typed() -> list[tuple[str, str]]:
    """Page and command, of each that calls a shipped function or the catalogue; backslashes join
    lines.
    """
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^\$ (curl .*)$", text, re.MULTILINE):
            path = re.search(rf"{HERE}(/v2/(?:models/)?[\w-]+)", line)
            if path and (path[1] in SHIPPED or "/models/" not in path[1]):
                found.append((page.name, line))
    return found


@pytest.fixture(scope="module")
def url(models, tmp_path_factory):
    """The shipped functions, by `wakeful run`."""
    with serving.run(
        ROOT / "serve_config.yaml", root=ROOT, log=tmp_path_factory.mktemp("curl") / "log"
    ) as url:
        yield url


@pytest.mark.parametrize(("page", "line"), typed(), ids=lambda value: value[:60])
def test_a_line_works(url, page, line):
    """From the project's folder; curl says of a status from 400 on that it failed."""
    command = [
        *shlex.split(line.replace(HERE, url)),
        "--silent",
        "--show-error",
        "--fail-with-body",
        "--max-time",
        "30",
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=40, check=False
    )
    assert done.returncode == 0, f"{page}: {line}\n{done.stdout}{done.stderr}"
    assert done.stdout


def test_every_function_has_a_line():
    """In the README."""
    lines = [line for page, line in typed() if page == "README.md"]
    assert {
        prefix for prefix in SHIPPED if not any(f"{HERE}{prefix} " in line for line in lines)
    } == set()
