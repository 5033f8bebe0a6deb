"""The documentation is true to the code: pages are what made them, examples work, links lead
somewhere.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import tempfile
from pathlib import Path

import pytest
import yaml

from runtime.batching.calls import CallOptions
from runtime.declaration.config_file import read
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.yaml_reader import parse
from runtime.execution.function import Function
from runtime.execution.streaming import StreamSource
from runtime.graph.resolve import examine, resolve
from runtime.protocol import dumps
from runtime.settings import Settings
from tests import reference_pages
from tests.file_tag import safe_load
from tests.regenerate import PAGES
from wakeful.testing import serve

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_made_it(name):
    """`make fix` writes it again."""
    assert (ROOT / name).read_text(encoding="utf-8") == PAGES[name]()


def test_every_key_and_setting_has_a_reason():
    """No row of the pages has an empty cell."""
    rows = [
        line
        for line in (reference_pages.declaration() + reference_pages.settings()).splitlines()
        if re.match(r"\|[^-]", line)
    ]
    assert len(rows) > 60
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 4, row
        assert all(cells), row


def test_what_has_a_default_is_not_called_needed():
    """`accepts` may be left out, and so may `graph` where `onnx` is."""
    defaults = dict(
        re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|", reference_pages.declaration(), re.MULTILINE)
    )
    assert [defaults[key] for key in ("accepts", "graph", "applications")] == [
        "unset",
        "unset",
        "needed",
    ]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    """A relative link names a file that exists."""
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", [ROOT / "serve_config.yaml", *TEXTS], ids=lambda path: path.name)
def test_yaml_is_read_by_serve_deploy_as_well(path):
    """By PyYAML, as here: the shipped file, and every block of the pages. The tag of a file in an
    example is the one that it has to be told of.
    """
    read_it = yaml.safe_load if path.suffix == ".yaml" else safe_load
    text = path.read_text(encoding="utf-8")
    for block in (
        [text] if path.suffix == ".yaml" else re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    ):
        assert read_it(block) == parse(block, path.name).data


def test_the_function_in_the_readme_is_one(tmp_path, monkeypatch):
    """Its Python and its YAML, written out, pass `wakeful check`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (python,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (declaration,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "hello.py").write_text(python)
    (tmp_path / "serve_config.yaml").write_text(declaration)
    monkeypatch.syspath_prepend(str(tmp_path))
    file = read(tmp_path / "serve_config.yaml")
    assert not examine(file, Settings.read({"WAKEFUL_ROOT": str(tmp_path)})).problems


@pytest.mark.slow
def test_the_files_of_the_bodies_page(tmp_path, monkeypatch):
    """Its Python and its YAML answer its calls as the page says, and leave no file behind."""
    text = (ROOT / "docs" / "bodies.md").read_text(encoding="utf-8")
    part = text.split("## Answers that are files")[1].split("\n## ")[0]
    (python,) = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    (declaration,) = re.findall(r"```yaml\n(.*?)```", part, re.DOTALL)
    (console,) = re.findall(r"```console\n(.*?)```", part, re.DOTALL)
    (tmp_path / "charts.py").write_text(python)
    (tmp_path / "serve_config.yaml").write_text(declaration)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with serve(tmp_path / "serve_config.yaml") as app:
        for line, answer in re.findall(r"^\$ (.*)\n((?:[^$].*\n)+)", console, re.MULTILINE):
            _, url, *words = shlex.split(line)
            headers = dict(
                words[at + 1].split(": ") for at, word in enumerate(words) if word == "-H"
            )
            path = url.removeprefix("http://127.0.0.1:8000")
            found = app.http.post(path, content=words[words.index("-d") + 1], headers=headers)
            assert found.text.strip() == answer.strip()
    assert not list((tmp_path / "temporary").iterdir())


def test_every_dependency_earns_a_line():
    """Each package of pyproject.toml is in the README's table."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[A-Za-z0-9_.-]+", line).group() for line in project["dependencies"]}
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## What it stands on")[1]
    assert {name for name in names if name not in table} == set()


def test_the_shipped_file_is_checked(models):
    """serve_config.yaml passes `wakeful check`."""
    assert not examine(
        read(ROOT / "serve_config.yaml"), Settings.read({"WAKEFUL_ROOT": str(ROOT)})
    ).problems


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
    (spec,) = resolve(read(tmp_path / "serve_config.yaml"), settings).functions

    async def called():
        function = await Function.load(spec, settings)
        try:
            return (await function.call_row(json.loads(request)))[0]
        finally:
            await function.close(5)

    assert asyncio.run(called()) == json.loads(answer)


def test_the_elements_of_the_streaming_page_stream(tmp_path, monkeypatch):
    """Its Python and its YAML pass `wakeful check`, and its call has the lines of the page."""
    text = (ROOT / "docs" / "streaming.md").read_text(encoding="utf-8")
    section = text.split("## The elements of a list")[1].split("\n## ")[0]
    (python,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (declaration,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    ((request, lines),) = re.findall(r"-d '(.*?)'\n(.*?)```", section, re.DOTALL)
    (tmp_path / "reading.py").write_text(python)
    (tmp_path / "serve_config.yaml").write_text(declaration)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    (spec,) = resolve(read(tmp_path / "serve_config.yaml"), settings).functions

    async def streamed():
        function = await Function.load(spec, settings)
        row, items = function.validator.validate(json.loads(request)), []
        try:
            async with StreamSource(function, row, CallOptions()) as source:
                while more := await source.take():
                    items += more
        finally:
            await function.close(5)
        return items

    assert asyncio.run(streamed()) == [json.loads(line) for line in lines.splitlines()]


def test_the_stage_with_many_types_of_the_stages_page_is_one(tmp_path, monkeypatch):
    """Its Python passes `wakeful check`, and it answers as the page says."""
    text = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
    (python,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        if "def read(" in block
    )
    request, answer = re.findall(r"`(\{\"boxes\".*?\})` is answered with\n`(\{.*?\})`", text)[0]
    (tmp_path / "letters.py").write_text(python)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = FunctionSpec.from_args(
        "letters", "/letters", {"graph": [{"stage": "read", "python": "letters:read"}]}
    )

    async def called():
        function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))
        try:
            return dumps((await function.call_row(json.loads(request)))[0])
        finally:
            await function.close(5)

    assert json.loads(asyncio.run(called())) == json.loads(answer)
