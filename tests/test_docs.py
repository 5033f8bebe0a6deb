"""The documentation tells the truth of today: pages are what made them, examples work, links lead somewhere."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from runtime.check import check, linked
from runtime.function import Function
from runtime.settings import Settings
from runtime.specfile import read
from tests.regenerate import PAGES

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_made_it(name):
    """`make fix` writes it anew."""
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name]()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    """A relative link names a file that exists."""
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_function_in_the_readme_is_one(tmp_path, monkeypatch):
    """Its Python and its YAML, written out, pass `wakeful check`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (python,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (declaration,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "hello.py").write_text(python)
    (tmp_path / "serve_config.yaml").write_text(declaration)
    monkeypatch.syspath_prepend(str(tmp_path))
    file = read(tmp_path / "serve_config.yaml")
    assert not check(file, Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))


def test_every_dependency_earns_a_line():
    """Each package that pyproject.toml asks for stands in the README's table."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[A-Za-z0-9_.-]+", line).group() for line in project["dependencies"]}
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## What it stands on")[1]
    assert {name for name in names if name not in table} == set()


def test_the_shipped_file_is_checked(models):
    """serve_config.yaml passes `wakeful check`."""
    assert not check(read(ROOT / "serve_config.yaml"), Settings.read({"WAKEFUL_ROOT": str(ROOT)}))


def test_the_graph_of_the_graphs_page_is_one(tmp_path, monkeypatch):
    """Its Python and its YAML pass `wakeful check`, and it answers as the page says."""
    text = (ROOT / "docs" / "graphs.md").read_text(encoding="utf-8")
    (python,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (declaration,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    request, answer = re.findall(r"`(\{\"text\".*?\})` is answered with `(\{.*?\})`", text)[0]
    (tmp_path / "addresses.py").write_text(python)
    (tmp_path / "serve_config.yaml").write_text(declaration)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    (spec,) = linked(read(tmp_path / "serve_config.yaml"), settings).functions

    async def called():
        function = await Function.load(spec, settings)
        try:
            return (await function.call_row(json.loads(request)))[0]
        finally:
            await function.close(5)

    assert asyncio.run(called()) == json.loads(answer)
