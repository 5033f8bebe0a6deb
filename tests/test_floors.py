"""The floors of the house: imports go down, and three libraries stay behind their fences."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FLOORS = {
    0: ["errors", "datatypes", "tensors", "annotations", "values", "wording", "speaker"],
    1: ["settings", "secrets", "spec", "specfile", "declaration"],
    2: [
        "admission",
        "signature",
        "kept",
        "sequences",
        "branch",
        "graph",
        "wiring",
        "interface",
        "fields",
        "media",
        "batching.policy",
        "batching.turns",
        "batching.ceiling",
        "batching.doubt",
        "batching.collate",
        "wire",
        "lifecycle",
        "demand",
        "scaling",
        "split",
        "parts",
        "travel",
        "tiers",
        "devices",
    ],
    3: [
        "store",
        "onnx",
        "batching.rows",
        "batching.fanout",
        "keeper",
        "batching.segment",
        "batching.stream",
        "batching.streams",
        "batching.queues",
        "batching.workers",
        "batching.batcher",
        "witness",
        "metrics",
        "memory",
        "footprint",
        "nvml",
        "gpus",
        "given",
        "modules",
        "reimport",
    ],
    4: [
        "convert",
        "halving",
        "stages",
        "yielding",
        "chains",
        "callees",
        "privately",
        "segments",
        "assemble",
        "linking",
        "check",
        "sample",
        "planning",
        "contents",
        "origin",
        "running",
        "loading",
        "warmup",
        "vitals",
        "openinference",
        "sequenced",
        "flow",
        "function",
        "streaming",
        "coldstart",
        "holding",
        "neighbours",
        "residents",
        "register",
        "flights",
        "library",
        "probe",
        "replay",
    ],
    5: ["http", "local"],
}
"""Modules of ``runtime`` by floor; a package stands for all that is in it."""

FENCES = {
    "ray": ["deployments/", "loadtests/bench/handle.py", "tests/deployments/"],
    "starlette": ["runtime/http/", "deployments/", "loadtests/", "tests/"],
    "onnxruntime": ["runtime/onnx/", "loadtests/bench/", "tests/"],
}
"""Who may import what."""


def module_of(path: Path) -> str:
    """The module a file is."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


CODE = sorted(path for folder in ("runtime", "deployments", "apps", "loadtests") for path in (ROOT / folder).rglob("*.py"))


MODULES = {module_of(path) for path in CODE}


def floor(module: str) -> int | None:
    """The floor of a module of ``runtime``, by its longest listed prefix."""
    names = {name: level for level, modules in FLOORS.items() for name in modules}
    parts = module.removeprefix("runtime.").split(".")
    for size in range(len(parts), 0, -1):
        if ".".join(parts[:size]) in names:
            return names[".".join(parts[:size])]
    return None


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, lazily or not, those for type checking included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


@pytest.mark.parametrize("path", [path for path in CODE if path.is_relative_to(ROOT / "runtime")], ids=module_of)
def test_imports_of_the_engine_go_down(path):
    """A module imports its own floor and those below."""
    module = module_of(path)
    if module in ("runtime", "runtime.batching"):
        return
    here = floor(module)
    assert here is not None, f"{module} has no floor yet; give it one in {Path(__file__).name}"
    for name in imports(path):
        there = floor(name) if name.startswith("runtime.") else None
        assert there is None or there <= here, f"floor {here} {module} imports floor {there} {name}: move the shared part down"
        assert name.split(".")[0] not in ("deployments", "apps", "loadtests"), f"{module} imports {name}: the engine runs without it"


@pytest.mark.parametrize("library", FENCES)
def test_libraries_stay_behind_their_fences(library):
    """ray, starlette and onnxruntime are imported where they belong and nowhere else."""
    for path in CODE:
        if any(name.split(".")[0] == library for name in imports(path)):
            place = str(path.relative_to(ROOT))
            assert place.startswith(tuple(FENCES[library])), f"{place} imports {library}; only {', '.join(FENCES[library])} may"


def test_the_environment_is_read_in_one_place():
    """os.environ belongs to settings; elsewhere values are passed."""
    readers = [path for path in CODE if path.is_relative_to(ROOT / "runtime") and "os.environ" in path.read_text()]
    assert [str(path.relative_to(ROOT)) for path in readers] == ["runtime/settings.py"]


def test_modules_import_each_other_in_no_circle():
    """The imports at the top of the modules make no cycle."""
    graph = {module_of(path): {name for name in imports(path) if name.startswith(("runtime", "deployments"))} for path in CODE}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"a circle of imports: {' → '.join([*trail[trail.index(module) :], module])}"
        if module in done or module not in graph:
            return
        for name in graph[module]:
            if name != module:
                visit(name, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", CODE, ids=module_of)
def test_a_module_says_its_idea_and_keeps_it_short(path):
    """Every module opens with a docstring, and none is past 300 lines."""
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{path.name} has no docstring"
    assert text.count("\n") <= 300, f"{path.name} has {text.count(chr(10))} lines: two ideas?"
