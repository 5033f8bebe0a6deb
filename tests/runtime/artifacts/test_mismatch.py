"""Functions whose code, models and files change while a process serves them: code is the process's,
the rest is looked at by each load.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.artifacts.python_imports import ImportScanner
from runtime.artifacts.version import content_digests, is_of_code
from runtime.declaration.function_spec import FunctionSpec
from runtime.library.function_report import FunctionReport
from runtime.library.library import DeclaredFunction
from runtime.settings import Settings
from tests import onnx_models
from tests.problems import expect_values
from tests.sleepers import Served, run, serving

STAGE = """\
from pathlib import Path

import o_helper

class Stage:
    def __init__(self, file: str = "") -> None:
        self.text = Path(file).read_text() if file else ""
        if o_helper.VERSION < 0:
            raise ValueError("not this version")

    def __call__(self, n: float) -> dict[str, float]:
        return {"version": o_helper.VERSION, "length": len(self.text)}
"""


class Project:
    """A folder whose files are written one after another. Mutable state: ``_at``, when the next is,
    seconds.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._at = 1_700_000_000
        self.write(
            "o_stage.py",
            f"# {folder}: code of its own, which no other test has left in this process\n{STAGE}",
        )
        self.version(1)

    def write(self, name: str, text: str) -> None:
        """A file, newer than all before."""
        (self.folder / name).write_text(text)
        self.touch(name)

    def touch(self, name: str) -> None:
        """Python takes a file of the same size and second for the same."""
        self._at += 1
        os.utime(self.folder / name, (self._at, self._at))

    def version(self, number: int) -> None:
        """Of the module that the stage's imports."""
        self.write("o_helper.py", f"VERSION = {number}\n")

    def declared(self, name: str = "f", **args: Any) -> DeclaredFunction:
        """The function as `up` declares it now."""
        graph = [{"stage": "s", "python": "o_stage:Stage", **({"with": args} if args else {})}]
        return self.made(FunctionSpec.from_args(name, f"/v2/models/{name}", {"graph": graph}))

    def made(self, spec: FunctionSpec) -> DeclaredFunction:
        """With what it is made of now."""
        made_of = content_digests(
            spec, Settings(self.folder, self.folder / "models"), ImportScanner()
        )
        return DeclaredFunction(spec.with_deployed(made_of=made_of))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Modules that begin with ``o_``; all are removed."""
    monkeypatch.syspath_prepend(tmp_path)
    yield Project(tmp_path)
    for name in [name for name in sys.modules if name.startswith("o_")]:
        del sys.modules[name]


async def answer(served: Served, name: str = "f") -> dict[str, float]:
    """What it answers."""
    response = await served.call(name)
    assert response.status_code == 200, response.text
    found: dict[str, float] = response.json()
    return found


def report(served: Served, name: str = "f") -> FunctionReport:
    """What the library reports of it."""
    return served.library.report()[name]


def test_a_process_keeps_the_code_that_it_has_imported(project: Project) -> None:
    """What is declared with other code is reported not to be that version; a neighbour's load and the
    next wake change nothing of it.
    """

    async def work(served: Served) -> None:
        assert [(await answer(served, name))["version"] for name in ("f", "g")] == [1, 1]
        project.version(2)
        served.library.declare([project.declared("f"), before])
        await served.until(lambda: report(served).update == "" and report(served).reason != "")
        expect_values(report(served).reason, "code", "`wakeful up`")
        assert [(await answer(served, name))["version"] for name in ("f", "g")] == [1, 1]
        assert [report(served, name).loads for name in ("f", "g")] == [1, 1]
        assert report(served, "g").reason == ""

    before = project.declared("g")
    run(serving(project.folder, project.declared("f"), before), work)


def test_a_function_that_wakes_after_an_edit_answers_as_the_process_has_it(
    project: Project,
) -> None:
    """An edit is no version until `up` has seen it."""

    async def work(served: Served) -> None:
        await answer(served)
        await served.library.unload("f")
        project.version(2)
        assert (await answer(served))["version"] == 1
        assert report(served).reason == ""

    run(serving(project.folder, project.declared()), work)


def test_a_function_first_loaded_after_an_edit_reports_it(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers from what there is; undone, the edit still runs in this process."""
    caplog.set_level(logging.WARNING, "wakeful.load")

    async def work(served: Served) -> None:
        project.version(2)
        assert (await answer(served))["version"] == 2
        reason = (
            "its code is not what `wakeful up` deployed: changed since, or this machine has another"
            " copy. Run it again, or copy them here."
        )
        assert report(served).reason == served.library.entries.require("f").state.reason == reason
        assert is_of_code(reason)
        assert f"f: {reason}" in caplog.text
        project.version(1)
        served.library.declare([project.declared()])
        await served.until(lambda: report(served).loads == 1)
        assert (await answer(served))["version"] == 2
        assert report(served).reason == reason

    run(serving(project.folder, project.declared()), work)


def test_a_file_given_to_a_stage_is_part_of_the_version(project: Project) -> None:
    """A change of it is reported like one of code."""
    project.write("text.txt", "four")
    file = str(project.folder / "text.txt")

    async def work(served: Served) -> None:
        assert (await answer(served))["length"] == 4
        project.write("text.txt", "sevenfold")
        served.library.declare([project.declared(file=file)])
        await served.until(lambda: report(served).update == "")
        assert (await answer(served))["length"] == 9
        await served.library.unload("f")
        project.write("text.txt", "")
        assert (await answer(served))["length"] == 0
        expect_values(report(served).reason, "files", "`wakeful up`")

    run(serving(project.folder, project.declared(file=file)), work)


def test_a_replaced_model_is_opened_again(project: Project) -> None:
    """Though the previous version has it open under the same path."""
    spec = FunctionSpec.from_args("m", "/v2/models/m", {"onnx": "m.onnx"})
    path = project.folder / "m.onnx"
    onnx_models.perceptron(path)

    async def work(served: Served) -> None:
        async def scores() -> Any:
            response = await served.client.post("/v2/models/m", json={"x": [1.0] * 64})
            assert response.status_code == 200, response.text
            return response.json()

        first = await scores()
        onnx_models.perceptron(path, seed=1)
        project.touch("m.onnx")
        served.library.declare([project.made(spec)])
        await served.until(lambda: report(served, "m").update == "")
        assert await scores() != first

    run(serving(project.folder, project.made(spec)), work)
