"""Modules of a project in a process that outlives their code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from runtime import reimport
from runtime.modules import Reading, digest_of
from runtime.reimport import Taken, take


class Project:
    """A folder of modules, from which Python imports. Mutable state: ``_written``, files so far: each is a second newer than the last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written = 0

    def write(self, **modules: str) -> None:
        """Writes modules; ``__`` in a name is a dot. Python takes a file of the same size and second for the same."""
        for name, text in modules.items():
            file = self.folder / f"{name.replace('__', '/')}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            self._written += 1
            os.utime(file, (1_700_000_000 + self._written,) * 2)

    def remove(self, name: str) -> None:
        """A module's file vanishes."""
        (self.folder / f"{name}.py").unlink()

    def digest(self, *names: str) -> str:
        """What `up` would find."""
        return digest_of({name: source.sha256 for name, source in Reading().reach(names).items()})

    def take(self, *names: str) -> Taken:
        """As a load does that was declared as the files are now."""
        return take(names, self.digest(*names))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Modules that begin with ``r_``; none is left behind."""
    monkeypatch.syspath_prepend(tmp_path)
    yield Project(tmp_path)
    for name in [name for name in sys.modules if name.startswith("r_")]:
        del sys.modules[name]


def value(taken: Taken, name: str = "r_stage") -> object:
    """What its stage answers."""
    return taken.module(name).f()


STAGE = "import r_helper\ndef f():\n    return r_helper.X\n"


def test_a_changed_module_and_what_imports_it_is_imported_afresh(project: Project) -> None:
    """Who is loaded keeps what it has; what did not change is the same module still."""
    project.write(r_helper="X = 1\n", r_stage=STAGE, r_other="")
    first, other = project.take("r_stage"), project.take("r_other").module("r_other")
    project.write(r_helper="X = 2\n")
    second = project.take("r_stage")
    assert (value(first), value(second)) == (1, 2)
    assert project.take("r_other").module("r_other") is other
    assert project.take("r_stage").module("r_stage") is second.module("r_stage")


def test_functions_that_share_a_module_are_on_different_versions_of_it(project: Project) -> None:
    """One is still on the former: each has what it was loaded with, and gets it again when it wakes."""
    project.write(r_helper="X = 1\n", r_stage=STAGE, r_also=STAGE)
    declared = project.digest("r_also")
    former, _ = project.take("r_also"), project.take("r_stage")
    project.write(r_helper="X = 2\n")
    assert value(project.take("r_stage")) == 2
    again = take(["r_also"], declared)
    assert (value(again, "r_also"), again.digest, again.module("r_also")) == (1, declared, former.module("r_also"))
    assert value(project.take("r_stage")) == 2
    assert value(project.take("r_also"), "r_also") == 2


def test_who_wakes_gets_the_code_that_it_was_declared_with(project: Project) -> None:
    """Though its file was edited meanwhile, if the process has it; where it has not, the digest tells."""
    project.write(r_helper="X = 1\n", r_stage=STAGE)
    declared = project.digest("r_stage")
    first = take(["r_stage"], declared)
    project.write(r_helper="X = 2\n")
    again = take(["r_stage"], declared)
    assert (value(again), again.digest) == (1, declared)
    del first, again
    anew = take(["r_stage"], declared)
    assert (value(anew), anew.digest == declared) == (2, False)


@pytest.mark.parametrize("broken", ["def (\n", "raise ValueError('not today')\n", "import r_no_such_module\n"])
def test_code_that_does_not_import_leaves_the_former(project: Project, broken: str) -> None:
    """In its place among the modules; who asked gets the error, and others load as ever."""
    project.write(r_helper="X = 1\n", r_stage=STAGE, r_user=STAGE)
    declared = project.digest("r_stage")
    first = take(["r_stage"], declared)
    helper = sys.modules["r_helper"]
    project.write(r_stage=STAGE + broken)
    failed = project.take("r_stage")
    with pytest.raises((SyntaxError, ValueError, ImportError)):
        failed.module("r_stage")
    assert sys.modules["r_stage"] is first.module("r_stage")
    assert sys.modules["r_helper"] is helper
    assert value(project.take("r_user"), "r_user") == 1
    assert value(take(["r_stage"], declared)) == 1
    project.write(r_stage="def f():\n    return 'mended'\n")
    assert value(project.take("r_stage")) == "mended"


PACKAGED = {
    "from_package": "from r_pack import helper\ndef f():\n    return helper.X\n",
    "relative": "from . import helper\ndef f():\n    return helper.X\n",
    "by_attribute": "import r_pack.helper\ndef f():\n    return r_pack.helper.X\n",
    "name": "from r_pack.helper import X\ndef f():\n    return X\n",
}


@pytest.mark.parametrize("how", PACKAGED)
@pytest.mark.parametrize("is_namespace", [False, True])
def test_a_package_goes_whole(project: Project, how: str, is_namespace: bool) -> None:
    """So that neither version finds the other's module as an attribute of it."""
    if not is_namespace:
        (project.folder / "r_pack").mkdir()
        (project.folder / "r_pack" / "__init__.py").write_text("")
    project.write(r_pack__helper="X = 1\n", r_pack__stage=PACKAGED[how])
    declared = project.digest("r_pack.stage")
    first = project.take("r_pack.stage")
    project.write(r_pack__helper="X = 2\n")
    second = project.take("r_pack.stage")
    assert (value(first, "r_pack.stage"), value(second, "r_pack.stage")) == (1, 2)
    assert value(take(["r_pack.stage"], declared), "r_pack.stage") == 1


def test_modules_in_a_circle_are_imported_afresh_together(project: Project) -> None:
    """Whichever of them changed."""
    project.write(r_a="import r_b\nX = 1\ndef f():\n    return r_b.g()\n", r_b="import r_a\ndef g():\n    return r_a.X\n")
    assert value(project.take("r_a"), "r_a") == 1
    project.write(r_a="import r_b\nX = 2\ndef f():\n    return r_b.g()\n")
    assert value(project.take("r_a"), "r_a") == 2


def test_a_module_whose_file_vanished_is_gone(project: Project) -> None:
    """As it is in a process that is started now."""
    optional = "try:\n    import r_helper\nexcept ImportError:\n    r_helper = None\ndef f():\n    return r_helper\n"
    project.write(r_helper="X = 1\n", r_stage=optional)
    assert isinstance(value(project.take("r_stage")), ModuleType)
    project.remove("r_helper")
    assert value(project.take("r_stage")) is None


def test_a_module_that_is_imported_while_a_stage_runs_is_known_by_what_it_was_imported_from(project: Project) -> None:
    """Nobody looked when it was imported, and its file has changed by the time that somebody does."""
    lazy = "def f():\n    import r_helper\n    return r_helper.X\n"
    project.write(r_helper="X = 1\n", r_stage=lazy)
    assert value(project.take("r_stage")) == 1
    project.write(r_helper="X = 2\n")
    assert value(project.take("r_stage")) == 2


def test_state_of_a_module_begins_anew_with_its_code_and_not_before(project: Project) -> None:
    """A load of the same code finds it as it is."""
    project.write(r_stage="calls = []\ndef f():\n    calls.append(1)\n    return len(calls)\n")
    assert [value(project.take("r_stage")) for _ in range(2)] == [1, 2]
    project.write(r_stage="calls = []\ndef f():\n    calls.append(1)\n    return len(calls), 'anew'\n")
    assert value(project.take("r_stage")) == (1, "anew")


def test_loads_at_the_same_time_get_whole_versions(project: Project) -> None:
    """One takes modules out while another imports."""
    names = [f"r_stage{index}" for index in range(8)]
    project.write(r_helper="X = 0\n", **dict.fromkeys(names, STAGE))
    with ThreadPoolExecutor(len(names)) as pool:
        for version in (1, 2, 3):
            project.write(r_helper=f"X = {version}\n")
            assert list(pool.map(lambda name: value(project.take(name), name), names)) == [version] * len(names)


def test_a_compiled_module_stays_and_the_digest_tells(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process loads a C extension once; here a file by whose name it is taken for one."""
    monkeypatch.setattr("runtime.modules.EXTENSION_SUFFIXES", ["_compiled.py"])
    project.write(r_compiled="X = 1\n", r_stage="import r_compiled\ndef f():\n    return r_compiled.X\n")
    assert value(project.take("r_stage")) == 1
    project.write(r_compiled="X = 2\n", r_stage="import r_compiled\ndef f():\n    return -r_compiled.X\n")
    taken = project.take("r_stage")
    assert (value(taken), taken.digest == project.digest("r_stage")) == (-1, False)


def test_modules_that_are_no_longer_held_go(project: Project) -> None:
    """Former code is not kept for ever."""
    project.write(r_stage="def f():\n    return 1\n")
    declared = project.digest("r_stage")
    taken = project.take("r_stage")
    assert declared in reimport._kept
    del taken
    assert declared not in reimport._kept
