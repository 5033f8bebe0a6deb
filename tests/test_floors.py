"""The floors of the house: imports go down, and three libraries stay behind their fences."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MOST_ENTRIES = 15

FLOORS = {
    "runtime": [
        ["errors"],
        ["system", "types"],
        ["settings", "declaration"],
        ["onnx", "protocol"],
        ["artifacts"],
        ["batching"],
        ["graph"],
        ["execution"],
        ["library"],
        ["http"],
    ],
    "deployments": [
        ["control", "ray_support", "preflight"],
        ["ingress", "observability"],
        ["scaling"],
        ["serving"],
        ["placement"],
        ["rollout"],
        ["cluster", "local"],
        ["loadtest"],
        ["cli"],
    ],
}
"""Folders, and the modules next to them, from the ground up: each imports of lower floors
only.
"""

FENCES = {
    "ray": ["deployments/", "loadtests/peers/", "tests/deployments/"],
    "starlette": ["runtime/http/", "deployments/", "loadtests/", "tests/"],
    "onnxruntime": [
        "runtime/onnx/",
        "apps/build/",
        "loadtests/bench/",
        "loadtests/peers/",
        "tests/",
    ],
}
"""Library to the folders that may import it."""


def module_of(path: Path) -> str:
    """The module a file is."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


CODE = sorted(
    path
    for folder in ("wakeful", "runtime", "deployments", "apps", "loadtests")
    for path in (ROOT / folder).rglob("*.py")
)


MODULES = {module_of(path) for path in CODE}


def folder_of(module: str) -> tuple[str, str]:
    """The package that a module belongs to, and the folder in it."""
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0]


LEVELS = {
    (package, name): level
    for package, floors in FLOORS.items()
    for level, names in enumerate(floors)
    for name in names
}


@cache
def imports(path: Path) -> list[str]:
    """Every module that a file imports, lazily or not, those for type checking included."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.append(inner if inner in MODULES else node.module)
    return names


def test_imports_go_down():
    """Of its own package a folder imports what is on lower floors; the engine imports nothing but
    the engine.
    """
    faults = []
    for path in CODE:
        package, folder = here = folder_of(module_of(path))
        if package not in FLOORS:
            continue
        if folder and here not in LEVELS:
            faults.append(
                f"{package}/{folder} has no floor yet; give it one in {Path(__file__).name}"
            )
            continue
        for name in imports(path):
            there = folder_of(name)
            if (
                folder
                and there != here
                and there in LEVELS
                and there[0] == package
                and LEVELS[there] >= LEVELS[here]
            ):
                faults.append(
                    f"{path.relative_to(ROOT)} imports {name}, which is not below {package}/{folder}: move the shared part down"
                )
            if package == "runtime" and there[0] in ("wakeful", "deployments", "apps", "loadtests"):
                faults.append(
                    f"{path.relative_to(ROOT)} imports {name}: the engine runs without it"
                )
    assert not faults, "\n".join(faults)


def entries_by_folder() -> dict[str, int]:
    """How many files and folders are in each folder of code, whatever their kind."""
    inside = {folder for path in CODE for folder in path.relative_to(ROOT).parents[:-1]}
    return {
        str(folder): sum(path.name != "__pycache__" for path in (ROOT / folder).iterdir())
        for folder in inside
    }


def test_a_folder_can_be_read():
    """At most fifteen entries in a folder, so that it is read at one look."""
    crowded = {name: count for name, count in entries_by_folder().items() if count > MOST_ENTRIES}
    assert not crowded, crowded


@pytest.mark.parametrize("library", FENCES)
def test_libraries_stay_behind_their_fences(library):
    """ray, starlette and onnxruntime are imported where they belong and nowhere else."""
    for path in CODE:
        if any(name.split(".")[0] == library for name in imports(path)):
            place = str(path.relative_to(ROOT))
            assert place.startswith(tuple(FENCES[library])), (
                f"{place} imports {library}; only {', '.join(FENCES[library])} may"
            )


def test_the_environment_is_read_in_one_place():
    """os.environ belongs to settings; elsewhere values are passed."""
    readers = [
        path
        for path in CODE
        if path.is_relative_to(ROOT / "runtime") and "os.environ" in path.read_text()
    ]
    assert [str(path.relative_to(ROOT)) for path in readers] == ["runtime/settings.py"]


def test_modules_import_each_other_in_no_circle():
    """The imports at the top of the modules make no cycle."""
    graph = {
        module_of(path): {
            name for name in imports(path) if name.startswith(("runtime", "deployments"))
        }
        for path in CODE
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, (
            f"a circle of imports: {' → '.join([*trail[trail.index(module) :], module])}"
        )
        if module in done or module not in graph:
            return
        for name in graph[module]:
            if name != module:
                visit(name, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


SHARED_NAMES = {
    "Run": "of the load generator, and what a worker decides",
    "CallRecord": "what a client knows of a call, and what a server does",
}
"""Classes of which there are two, each of its own field, and what they are of."""


def test_a_class_name_occurs_once():
    """Of two classes of one name a reader takes one for the other."""
    places: dict[str, list[str]] = {}
    for path in CODE:
        if path.relative_to(ROOT).parts[0] in ("runtime", "deployments"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef):
                    places.setdefault(node.name, []).append(module_of(path))
    several = {name: modules for name, modules in places.items() if len(modules) > 1}
    assert several.keys() == SHARED_NAMES.keys(), several


def test_a_module_says_its_idea():
    """Every module opens with a docstring, and one past 550 lines is looked at twice."""
    texts = {module_of(path): path.read_text() for path in CODE}
    mute = [
        module
        for module, text in texts.items()
        if text.strip() and not ast.get_docstring(ast.parse(text))
    ]
    assert not mute, f"no docstring: {mute}"
    long = {module: text.count("\n") for module, text in texts.items() if text.count("\n") > 550}
    assert not long, f"two ideas in one module? {long}"
