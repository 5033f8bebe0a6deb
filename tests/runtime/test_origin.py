"""Functions whose code, models and files change while a process serves them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime import contents
from runtime.library import Declared
from runtime.modules import Reading
from runtime.settings import Settings
from runtime.spec import FunctionSpec, identity
from tests import onnx_models
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
    """A folder whose files are written one after another. Mutable state: ``_at``, when the next is, seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._at = 1_700_000_000
        self.write("o_stage.py", f"# {folder}: code of its own, which no other test has left in this process\n{STAGE}")
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

    def declared(self, name: str = "f", **args: Any) -> Declared:
        """The function as `up` declares it now."""
        graph = [{"stage": "s", "python": "o_stage:Stage", **({"with": args} if args else {})}]
        return self.made(FunctionSpec.from_args(name, f"/v2/models/{name}", {"graph": graph}))

    def made(self, spec: FunctionSpec) -> Declared:
        """With what it is made of now."""
        made_of = contents.contents(spec, Settings(self.folder, self.folder / "models"), Reading())
        return Declared(spec.model_copy(update={"made_of": made_of}))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Modules that begin with ``o_``; none is left behind."""
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


def report(served: Served, name: str = "f") -> dict[str, Any]:
    """What the library says of it."""
    found: dict[str, Any] = served.library.report()["functions"][name]
    return found


def test_new_code_follows_while_the_former_serves_and_neighbours_stay_as_they_are(project: Project) -> None:
    """Awake and asleep; who did not change is not loaded anew."""
    project.write("o_other.py", "def f(n: float) -> dict[str, float]:\n    return {'n': n}\n")
    other = FunctionSpec.from_args("other", "/v2/models/other", {"graph": [{"stage": "s", "python": "o_other:f"}]})

    async def work(served: Served) -> None:
        assert [(await answer(served, name)).get("version") for name in ("f", "g", "other")] == [1, 1, None]
        await served.library.unload("g")
        project.version(2)
        after = [project.declared("f"), project.declared("g"), project.made(other)]
        served.library.declare(after)
        await served.until(lambda: report(served)["version"] == identity(after[0].spec))
        assert [(await answer(served, name)).get("version") for name in ("f", "g", "other")] == [2, 2, None]
        assert [report(served, name)["loads"] for name in ("f", "g", "other")] == [1, 1, 1]
        assert [report(served, name)["reason"] for name in ("f", "g", "other")] == [""] * 3

    run(serving(project.folder, project.declared("f"), project.declared("g"), project.made(other)), work)


def test_code_that_does_not_load_leaves_the_former_which_also_wakes_again(project: Project) -> None:
    """Its constructor raises, or it does not import; the next that does load follows."""

    async def work(served: Served) -> None:
        before = project.declared()
        await answer(served)
        for broken in (lambda: project.version(-1), lambda: project.write("o_helper.py", "VERSION = (\n")):
            broken()
            served.library.declare([project.declared()])
            await served.until(lambda: report(served)["update"] not in ("", "loading"))
            assert await answer(served) == {"version": 1, "length": 0}
            served.library.declare([before])
            await served.library.unload("f")
            assert await answer(served) == {"version": 1, "length": 0}
            assert report(served)["reason"] == ""
        project.version(2)
        served.library.declare([project.declared()])
        await served.until(lambda: report(served)["update"] == "")
        assert (await answer(served))["version"] == 2

    run(serving(project.folder, project.declared()), work)


def test_who_wakes_after_an_edit_answers_as_declared_where_the_process_has_it(project: Project) -> None:
    """An edit is no version until `up` has seen it."""

    async def work(served: Served) -> None:
        await answer(served)
        await served.library.unload("f")
        project.version(2)
        assert (await answer(served))["version"] == 1
        assert report(served)["reason"] == ""

    run(serving(project.folder, project.declared()), work)


def test_who_is_first_loaded_after_an_edit_says_so_until_it_is_declared(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    """It answers from what there is; `up` sees to it, also if the edit was undone by then."""
    caplog.set_level(logging.WARNING, "wakeful.load")

    async def work(served: Served) -> None:
        project.version(2)
        assert (await answer(served))["version"] == 2
        said = "its code changed after `wakeful up`, which has not seen what runs now. Run it again."
        assert report(served)["reason"] == served.library.state("f").reason == said
        assert f"f: {said}" in caplog.text
        project.version(1)
        served.library.declare([project.declared()])
        await served.until(lambda: report(served)["reason"] == "")
        assert (await answer(served))["version"] == 1

    run(serving(project.folder, project.declared()), work)


def test_a_file_that_a_stage_is_given_is_part_of_the_version(project: Project) -> None:
    """And is told of like code, if it changed since."""
    project.write("text.txt", "four")
    file = str(project.folder / "text.txt")

    async def work(served: Served) -> None:
        assert (await answer(served))["length"] == 4
        project.write("text.txt", "sevenfold")
        served.library.declare([project.declared(file=file)])
        await served.until(lambda: report(served)["update"] == "")
        assert (await answer(served))["length"] == 9
        await served.library.unload("f")
        project.write("text.txt", "")
        assert (await answer(served))["length"] == 0
        assert report(served)["reason"].startswith("its files changed after")

    run(serving(project.folder, project.declared(file=file)), work)


def test_a_model_that_was_replaced_is_opened_anew(project: Project) -> None:
    """Though the former version has it open under the same path."""
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
        await served.until(lambda: report(served, "m")["update"] == "")
        assert await scores() != first

    run(serving(project.folder, project.made(spec)), work)
