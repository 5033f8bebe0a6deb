"""The functions that stages are given to call are known before anything starts: what cannot be
called is refused with its line.
"""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime.declaration.config_file import read
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import LoadError, Problem
from runtime.execution.function import Function
from runtime.graph.resolve import ResolvedConfig, examine, resolve
from runtime.settings import Settings
from tests.problems import places

HEAD = """
import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any
from wakeful import Call, Header, Rows, State

def embed(text: str, scale: float = 1.0) -> list[float]: ...
def stream(text: str) -> Iterator[str]: yield text
def tenant(x: Annotated[str, Header("x-tenant")]) -> str: ...
def keep(n: State[int]) -> dict[str, int]: ...
def back(text: str, f: Call["f"]) -> str: ...
"""

FILE = """\
applications:
  - {{name: embed, args: {{graph: [{{stage: embed, python: "{0}:embed"}}]}}}}
  - {{name: stream, args: {{graph: [{{stage: s, python: "{0}:stream"}}]}}}}
  - {{name: tenant, args: {{graph: [{{stage: s, python: "{0}:tenant"}}]}}}}
  - {{name: f, args: {{graph: [{{stage: a, python: "{0}:a"{1}}}]}}}}
"""

AT = "5: applications[3].args.graph[0].python"
WITH = "5: applications[3].args.graph[0].with"


def written(folder: Path, source: str, more: str = "", file: str = FILE) -> Path:
    """A file whose function ``f`` has the stage ``a`` of a module of its own."""
    module = f"called_{zlib.crc32(source.encode())}"
    (folder / f"{module}.py").write_text(HEAD + source)
    path = folder / "serve_config.yaml"
    path.write_text(file.format(module, more))
    return path


def checked(folder: Path, path: Path) -> ResolvedConfig:
    """What `check` finds."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        return examine(read(path), Settings.read({"WAKEFUL_ROOT": str(folder)}))
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.startswith("called_")]:
            del sys.modules[name]  # the next folder has one of its own


def problems(folder: Path, source: str) -> Sequence[Problem]:
    """Of a file with that stage; a first line ``# with: {…}`` is its ``with``."""
    given = source.partition("\n")[0].removeprefix("# ") if source.startswith("# with") else ""
    return checked(folder, written(folder, source, f", {given}" if given else "")).problems


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ('def a(text: str, e: Call["embed"]) -> str: return e(text=text)', None),
        ('def a(text: str, e: Annotated[Call, "embed"]) -> str: return e(text=text)', None),
        ('E = Call["embed"]\ndef a(text: str, e: E) -> str: return e(text=text)', None),
        ('def a(text: str, e: Call["embde"]) -> str: ...', AT),
        ('def a(text: str, e: Call["f"]) -> str: ...', AT),
        ('def a(text: str, e: Call["stream"]) -> str: ...', AT),
        ('def a(text: str, e: Call["tenant"]) -> str: ...', AT),
        ("def a(text: str, e: Call) -> str: ...", AT),
        ('def a(text: str, e: Call["embed"] | None) -> str: ...', AT),
        ('def a(text: str, e: list[Call["embed"]]) -> str: ...', AT),
        ('def a(text: str, e: Call["embed"] = None) -> str: ...', AT),
        ('def a(text: str, *, e: Call["embed"]) -> str: ...', AT),
        ('def a(text: Rows[str], e: Call["embed"]) -> Rows[str]: ...', AT),
        ('def a(text: Rows[str], e: Rows[Call["embed"]]) -> Rows[str]: ...', AT),
        ('def a(text: str, e: Call["embed"]) -> Iterator[str]: yield text', None),
        ('async def a(text: str, e: Call["embed"]) -> AsyncIterator[str]: yield text', None),
        ('def a(text: str, e: Call["embed"]) -> str: return e(txt=text)', AT),
        ('def a(text: str, e: Call["embed"]) -> str: return e()', AT),
        ('def a(text: str, e: Call["embed"]) -> str: return e(text)', AT),
        ('async def a(text: str, e: Call["embed"]) -> str: return await e(text=text, scal=1)', AT),
        ('async def a(text: str, e: Call["embed"]) -> str: return e(text=text)["embed"]', AT),
        ('async def a(text: str, e: Call["embed"]) -> str: return (await e(text="a"))["x"]', None),
        ('def a(text: str, e: Call["embed"]) -> str: return e(**{"txt": text})', None),
        ('def a(text: str, e: Call["embed"]) -> str:\n    e = dict\n    return e(txt=text)', None),
        (
            'class A:\n    def __init__(self, e: Call["embed"]) -> None: ...\n'
            "    def __call__(self, text: str) -> str: ...\na = A",
            None,
        ),
        (
            'class A:\n    def __init__(self, *, e: Call["embed"], n: int = 1) -> None: ...\n'
            "    def __call__(self, text: str) -> str: ...\na = A",
            None,
        ),
        (
            'class A:\n    def __init__(self, e: Call["embde"]) -> None: ...\n'
            "    def __call__(self, text: str) -> str: ...\na = A",
            AT,
        ),
        (
            'class A:\n    def __init__(self, e: Call["embed"]) -> None: e.rows([]), e(txt="")\n'
            "    def __call__(self, text: str) -> str: ...\na = A",
            AT,
        ),
        (
            '# with: {e: embed}\nclass A:\n    def __init__(self, e: Call["embed"]) -> None: ...\n'
            "    def __call__(self, text: str) -> str: ...\na = A",
            WITH,
        ),
        (
            'class A:\n    def __init__(self, e: "Call[other]") -> None: ...\n'
            "    def __call__(self, text: str) -> str: ...\na = A",
            WITH,
        ),
        (
            'class A:\n    def __init__(self, e: "Nowhere", g: Call["embed"]) -> None: ...\n'
            "    def __call__(self, text: str) -> str: ...\na = A",
            WITH,
        ),
        ('def a(text: str, e: "Call[other]") -> str: ...', AT),
    ],
)
def test_what_a_stage_cannot_call_is_refused(tmp_path, source, where):
    """With its line and what to write; what can be called is not."""
    found = problems(tmp_path, source)
    assert places(found) == ([] if where is None else [where]), found


LOST = """\
applications:
  - {{name: other, args: {{graph: [{{stage: s, python: "tests.basic_stages:greet"}}]}}}}
  - {{name: f, args: {{graph: [{{stage: a, python: "{0}:a"}}]}}}}
"""

CLASS = "class a:\n    {}\n    def __call__(self, text: str) -> str: ..."


@pytest.mark.parametrize(
    "source",
    [
        "def a(text: str, e: Call[other]) -> str: ...",
        CLASS.format("def __init__(self, e: Call[other]) -> None: ..."),
        CLASS.format("def __init__(self, *, e: wakeful.Call[other], n: int = 1) -> None: ..."),
        "def other(text: str) -> str: ...\ndef a(text: str, e: Call[other]) -> str: ...",
    ],
)
@pytest.mark.parametrize("first", ["from __future__ import annotations\n", ""])
def test_a_function_whose_quotes_are_lost_is_written_otherwise(tmp_path, source, first):
    """By a linter, under the import from the future (ruff's UP037), or by hand; when it is checked
    and when it is loaded. What is said of an unknown type would lead astray.
    """
    (tmp_path / "lost_quotes.py").write_text(f"{first}import wakeful\n{HEAD}{source}\n")
    (tmp_path / "serve_config.yaml").write_text(LOST.format("lost_quotes"))
    settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    args = {"graph": [{"stage": "a", "python": "lost_quotes:a"}]}
    sys.path.insert(0, str(tmp_path))
    importlib.invalidate_caches()
    try:
        found = examine(read(tmp_path / "serve_config.yaml"), settings).problems
        with pytest.raises(LoadError) as caught:
            asyncio.run(Function.load(FunctionSpec.from_args("f", "/f", args), settings))
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("lost_quotes", None)
    said = [problem.message for problem in found]
    assert len(said) == 1
    for message in (*said, caught.value.message):
        assert 'write `Annotated[Call, "other"]`' in message
        assert "TYPE_CHECKING" not in message


def test_functions_that_build_from_each_other_are_refused(tmp_path):
    """A circle through a stage, a handle and ``__init__`` is one."""
    file = FILE + '  - {{name: back, args: {{graph: [{{stage: s, python: "{0}:back"}}]}}}}\n'
    source = (
        'class A:\n    def __init__(self, e: Call["g"]) -> None: ...\n'
        "    def __call__(self, text: str) -> str: ...\na = A"
    )
    file += "  - {{name: g, args: {{graph: [{{stage: s, function: back}}]}}}}\n"
    found = checked(tmp_path, written(tmp_path, source, file=file)).problems
    assert [problem.message for problem in found if "circle" in problem.message]
    assert {problem.key for problem in found} <= {
        f"applications[{at}].args.graph[0].{key}"
        for at in (3, 4, 5)
        for key in ("python", "function")
    }


def test_what_a_function_calls_is_in_its_declaration(tmp_path):
    """Of a stage and of ``__init__``; what it is constructed with is marked."""
    source = (
        "class A:\n"
        '    def __init__(self, e: Call["embed"]) -> None: ...\n'
        '    def __call__(self, text: str, again: Call["embed"], o: Call["other"]) -> str: ...\n'
        "a = A"
    )
    file = FILE + '  - {{name: other, args: {{graph: [{{stage: s, python: "{0}:embed"}}]}}}}\n'
    config = checked(tmp_path, written(tmp_path, source, file=file))
    assert not config.problems
    spec = next(spec for spec in config.functions if spec.name == "f")
    calls = spec.deployed.calls
    assert {name: callee.at_load for name, callee in calls.items()} == {
        "embed": True,
        "other": False,
    }
    assert list(calls["embed"].takes) == ["text", "scale"]
    assert spec.called("embed") == next(one for one in config.functions if one.name == "embed")


def test_a_module_that_does_not_import_is_imported_once(tmp_path, capsys):
    """To look for what its stages call, and no more; it may take seconds."""
    found = problems(tmp_path, 'print("imported")\nraise ValueError("no weights")\na = 1')
    assert len(found) == 1
    assert capsys.readouterr().out == "imported\n"
    module = next(tmp_path.glob("called_*.py"))
    module.write_text(HEAD + "def a(text: str) -> str: ...  # mended\n")
    assert not checked(tmp_path, tmp_path / "serve_config.yaml").problems


def test_a_stage_that_calls_can_be_split_off(tmp_path):
    """The split stage calls, and its function calls it."""
    path = written(
        tmp_path,
        'def a(text: str, e: Call["embed"]) -> str: return e(text=text)',
        ", deployment: {{}}".format(),
    )
    sys.path.insert(0, str(tmp_path))
    try:
        config = resolve(read(path), Settings.read({"WAKEFUL_ROOT": str(tmp_path)}), split=True)
    finally:
        sys.path.remove(str(tmp_path))
    calls = {spec.name: list(spec.deployed.calls) for spec in config.functions}
    assert (calls["f"], calls["f.a"]) == (["f.a"], ["embed"])


TYPED = """
from typing import Annotated, Any
from wakeful import Call, CallError

Embed = Annotated[Call, "embed"]

async def answer(text: str, embed: Annotated[Call, "embed"]) -> float:
    found = await embed(text=text)
    return float(found["score"])

def plain(text: str, embed: Embed) -> float:
    try:
        return float(embed.rows([{"text": text}])[0]["score"])
    except CallError as error:
        return float(error.status)

class Index:
    def __init__(self, embed: Embed) -> None:
        self.embed = embed

def wrong(embed: Embed) -> Any:
    return embed("text"), embed.row([])

def short(embed: Call["embed"]) -> None: ...
"""


@pytest.mark.slow
def test_a_type_checker_takes_the_annotation(tmp_path):
    """mypy, as strict as it can be, and knows what a handle has. A text within brackets is to it
    the name of a type, but within ``Annotated``.
    """
    (tmp_path / "stages.py").write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "stages.py"]
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env={"MYPYPATH": str(Path(__file__).parents[3]), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    own = [line for line in result.stdout.splitlines() if line.startswith("stages.py")]
    wrong, short = (
        [line.rpartition("[")[2] for line in own if line.startswith(f"stages.py:{at}:")]
        for at in (22, 24)
    )
    assert (wrong, set(short)) == (
        ["call-arg]", "attr-defined]"],
        {"name-defined]", "type-arg]"},
    ), result.stdout
    assert len(own) == len(wrong) + len(short), result.stdout
