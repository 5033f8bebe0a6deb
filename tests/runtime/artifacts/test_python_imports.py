"""Which modules of a project a stage runs, found without running them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.artifacts.python_imports import ImportScanner, digest_of, imported

MODULES = {
    "m_flat.py": "import m_helper, json, numpy\n",
    "m_helper.py": "from m_deep import x\n",
    "m_deep.py": "x = 1\n",
    "m_lazy.py": "def f():\n    import m_deep\n",
    "m_circle_a.py": "import m_circle_b\n",
    "m_circle_b.py": "import m_circle_a\n",
    "m_broken.py": "import m_deep\ndef (\n",
    "m_nul.py": "import m_deep\0\n",
    "m_absent.py": "import m_no_such_thing, m_deep.no\n",
    "m_wakeful.py": "from wakeful import Rows\nimport deployments\n",
    "m_unrelated.py": "",
    "m_pack/__init__.py": "",
    "m_pack/stage.py": "from . import sibling\nfrom .inner.leaf import y\nfrom ..above import z\n",
    "m_pack/sibling.py": "",
    "m_pack/attribute.py": "from m_pack import sibling, no_module\n",
    "m_pack/inner/__init__.py": "from ..other import w\n",
    "m_pack/inner/leaf.py": "from .. import star\nfrom ..star import *\n",
    "m_pack/other.py": "",
    "m_pack/star.py": "",
    "m_space/part.py": "import m_space.within.leaf\n",
    "m_space/within/leaf.py": "",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules, from which Python imports."""
    for name, text in MODULES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("m_flat", {"m_flat", "m_helper", "m_deep"}),
        ("m_lazy", {"m_lazy", "m_deep"}),
        ("m_circle_a", {"m_circle_a", "m_circle_b"}),
        ("m_broken", {"m_broken"}),
        ("m_nul", {"m_nul"}),
        ("m_absent", {"m_absent", "m_deep"}),
        ("m_wakeful", {"m_wakeful"}),
        (
            "m_pack.stage",
            {
                "m_pack",
                "m_pack.stage",
                "m_pack.sibling",
                "m_pack.inner",
                "m_pack.inner.leaf",
                "m_pack.other",
                "m_pack.star",
            },
        ),
        ("m_pack.attribute", {"m_pack", "m_pack.attribute", "m_pack.sibling"}),
        ("m_space.part", {"m_space", "m_space.part", "m_space.within", "m_space.within.leaf"}),
        ("json", set()),
        ("numpy", set()),
        ("runtime.declaration.function_spec", set()),
        ("m_no_such_thing", set()),
    ],
)
def test_a_module_reaches_what_it_imports_of_the_project(
    project: Path, name: str, reached: set[str]
) -> None:
    """Wherever the statement is, relative or not, in circles and in packages without
    ``__init__``; never beyond the project.
    """
    before = set(sys.modules)
    assert ImportScanner().reach([name]).keys() == reached
    assert not [module for module in set(sys.modules) - before if module.startswith("m_")]


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ("m_flat.py", True),
        ("m_helper.py", True),
        ("m_deep.py", True),
        ("m_unrelated.py", False),
        ("m_lazy.py", False),
    ],
)
def test_the_digest_is_of_what_is_reached(project: Path, changed: str, differs: bool) -> None:
    """Contents count, not when they were written."""

    def digest() -> str:
        return digest_of(
            {name: source.sha256 for name, source in ImportScanner().reach(["m_flat"]).items()}
        )

    before = digest()
    (project / changed).write_text(MODULES[changed])
    assert digest() == before
    (project / changed).write_text(MODULES[changed] + "# changed\n")
    assert (digest() != before) is differs


def test_the_digest_is_the_same_wherever_the_project_lies(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """And in another process."""
    other = tmp_path_factory.mktemp("other")
    for name, text in MODULES.items():
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text(text)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom runtime.artifacts.python_imports import"
        " ImportScanner, digest_of, imported\nprint(digest_of({name: source.sha256 for name, source"
        " in ImportScanner().reach(['m_pack.stage', 'm_space.part']).items()}))"
    )
    command = [sys.executable, "-c", code]
    assert (
        len(
            {
                subprocess.run([*command, str(folder)], capture_output=True, check=True).stdout
                for folder in (project, other)
            }
        )
        == 1
    )


def test_modules_installed_in_the_folder_are_not_the_projects(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment of Python is below the project, as it often does."""
    packages = project / ".venv" / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "m_installed.py").write_text("import m_deep\n")
    (project / "m_user.py").write_text("import m_installed\n")
    monkeypatch.syspath_prepend(packages)
    assert ImportScanner().reach(["m_user"]).keys() == {"m_user"}


def test_imported_modules_count_as_they_were(tmp_path, monkeypatch):
    """A file that was edited since is not what runs, for other stages that use it either; one that is
    not imported yet is read again.
    """
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "i_stage.py").write_text("import i_helper\n")
    (tmp_path / "i_other.py").write_text("import i_helper\n")
    helper = tmp_path / "i_helper.py"
    helper.write_text("X = 1\n")
    first = imported(["i_stage"])
    assert first == digest_of(
        {name: source.sha256 for name, source in ImportScanner().reach(["i_stage"]).items()}
    )
    helper.write_text("X = 22\n")
    second = imported(["i_stage"])
    assert second != first
    try:
        importlib.import_module("i_stage")
        runs = {name: source.sha256 for name, source in ImportScanner().reach(["i_other"]).items()}
        helper.write_text("X = 333\n")
        assert imported(["i_stage"]) == second
        assert imported(["i_other"]) == digest_of(runs)
    finally:
        sys.modules.pop("i_stage", None)
        sys.modules.pop("i_helper", None)
    assert imported(["i_stage"]) not in (first, second)
    assert imported(["json"]) == ""
