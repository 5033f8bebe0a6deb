"""`wakeful run --reload`: an edit is answered, a broken one changes nothing, and no call is refused
meanwhile.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import httpx
import numpy as np
import psutil
import pytest
from onnx import helper

from tests.console_page import open_page
from tests.deployments.local.running import STAGE, shell
from tests.deployments.projects import wait_until
from tests.onnx_models import FLOAT, save

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project."""
    with shell(tmp_path_factory.mktemp("edited")) as made:
        yield made


@pytest.fixture(scope="module")
def run(project):
    """It serves, and watches."""
    with project.serving("--reload") as running:
        assert running.call() == "hello bo"
        yield running
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(autouse=True)
def _as_before(project, run):
    """What one test has edited, no other finds."""
    yield
    project.write("hello")
    wait_until(lambda: run.call() == "hello bo")


def multiply_by(path, factor):
    """A model: y = factor x."""
    kind = (FLOAT, ("rows", 2))
    product = helper.make_node("Mul", ["x", "factor"], ["y"])
    save(path, [product], {"x": kind}, {"y": kind}, {"factor": np.float32(factor)})


class Caller(threading.Thread):
    """Calls all the time, by a connection that it keeps and by new ones; short pauses leave the edit
    a core.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.answers, self.faults = f"{url}/v2/models/hello", set(), []
        self.may_end = threading.Event()

    def run(self) -> None:
        """Until it may end."""
        with httpx.Client(timeout=60) as kept:
            while not self.may_end.wait(0.01):
                try:
                    for post in (kept.post, httpx.post):
                        response = post(self.url, json={"name": "bo"})
                        assert response.status_code == 200, response.text
                        self.answers.add(response.json()["greeting"])
                except Exception as error:
                    self.faults.append(error)


def test_an_edit_of_code_is_answered_and_no_call_is_refused(project, run):
    """By callers that keep their connection and by others, over several edits."""
    caller = Caller(run.url)
    caller.start()
    try:
        for word in ("hi", "howdy", "salut"):
            project.write("hello", STAGE.replace("hello ", f"{word} "))
            wait_until(lambda word=word: run.call() == f"{word} bo")
    finally:
        caller.may_end.set()
        caller.join()
    assert caller.faults == []
    assert {"hi bo", "howdy bo"} <= caller.answers


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (STAGE + "1 / 0\n", "ZeroDivisionError: division by zero (hello_of_a_test.py:4"),
        (STAGE + "def (\n", "SyntaxError: invalid syntax (hello_of_a_test.py"),
        (STAGE.replace('f"hello {name}"', "nme"), "hello_of_a_test.py:3, in greet"),
        (STAGE.replace("name: str", "name"), "serve_config.yaml:7: applications[1].args.graph[0]"),
    ],
    ids=["import", "syntax", "example", "annotation"],
)
def test_broken_code_changes_nothing(project, run, stage, said):
    """It is named with file and line, and the version before answers."""
    count = sum("goes on answering" in json.dumps(event) for event in run.events)
    project.write("hello", stage)
    run.wait_for("goes on answering", count + 1)
    assert run.call() == "hello bo"
    # a file that is seen while it is written is refused for what it lacks, and looked at again
    wait_until(lambda: said in run.log.read_text())


def test_a_broken_file_changes_nothing(project, run):
    """Nor does one that is gone."""
    file = project.folder / "serve_config.yaml"
    count = sum("goes on answering" in json.dumps(event) for event in run.events)
    file.write_text(file.read_text().replace("graph:", "grph:"))
    run.wait_for("goes on answering", count + 1)
    assert "serve_config.yaml:7: applications[1].args.grph: unknown key" in run.log.read_text()
    file.unlink()
    run.wait_for("goes on answering", count + 2)
    assert run.call() == "hello bo"


def test_a_module_that_was_missing_is_found_when_it_comes(project, run):
    """Though no file that is known has changed."""
    count = sum("goes on answering" in json.dumps(event) for event in run.events)
    project.write(
        "hello",
        "import words_of_a_test as words\n" + STAGE.replace('f"hello {name}"', "words.HEY + name"),
    )
    run.wait_for("goes on answering", count + 1)
    (project.folder / "words_of_a_test.py").write_text('HEY = "hey "\n')
    wait_until(lambda: run.call() == "hey bo")
    (project.folder / "words_of_a_test.py").write_text('HEY = "heya "\n')
    wait_until(lambda: run.call() == "heya bo")


def test_an_edit_of_the_file_and_of_a_model_is_answered(project, run):
    """A function that is new, and the model that it names."""
    model = project.folder / "scale.onnx"
    multiply_by(model, 2)
    with (project.folder / "serve_config.yaml").open("a") as file:
        file.write(
            "  - name: scale\n    route_prefix: /v2/models/scale\n"
            "    import_path: deployments:function\n    args: {onnx: scale.onnx}\n"
        )

    def scaled() -> object:
        return httpx.post(f"{run.url}/v2/models/scale", json={"x": [1.0, 2.0]}).json()

    wait_until(lambda: scaled() == {"y": [2.0, 4.0]})
    multiply_by(model, 3)
    wait_until(lambda: scaled() == {"y": [3.0, 6.0]})


def test_an_open_page_of_the_console_goes_on_with_the_next_version(project, run):
    """It is told that its server ends, and the next one takes it, with the same token."""
    answers = []
    with open_page(run.url) as page:
        page.until("server")
        token = httpx.get(f"{run.url}/console/session").json()["token"]
        project.write("hello", STAGE.replace("hello", "good morning"))
        page.until_end()
        assert page.events[-1] == ("closing", {"is_moving": False})
    with open_page(run.url) as page:
        assert page.until("functions")["all"]
        answers.append(httpx.get(f"{run.url}/console/session").json()["token"])
    assert answers == [token]
    wait_until(lambda: run.call() == "good morning bo")


def test_a_serving_process_that_dies_is_started_again(project, run):
    """Its callers wait, and the watching process stays."""
    watching = psutil.Process(run.process.pid)
    wait_until(lambda: len(watching.children()) == 1)  # former versions have ended
    (child,) = watching.children()
    os.kill(child.pid, signal.SIGKILL)
    assert run.call() == "hello bo"
    run.wait_for("died of SIGKILL")


def test_it_waits_for_a_file_that_is_broken_from_the_beginning(tmp_path):
    """And serves it once it is mended."""
    with shell(tmp_path) as project:
        right = (tmp_path / "serve_config.yaml").read_text()
        (tmp_path / "serve_config.yaml").write_text(right.replace("graph:", "grph:"))
        with project.serving("--reload") as run:
            run.wait_for("nothing answers yet")
            (tmp_path / "serve_config.yaml").write_text(right)
            assert run.call() == "hello bo"
            (child,) = psutil.Process(run.process.pid).children()
        assert not child.is_running()


def test_a_function_that_is_called_otherwise_is_printed_again(tmp_path):
    """With the line that calls it now; an edit that changes no field prints none."""
    with shell(tmp_path) as project, (project.folder / "printed").open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", "run", "--port", "0", "--reload"],
            cwd=project.folder,
            env=project.environment,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        file = project.folder / "printed"

        def typed(line: str) -> str:
            return subprocess.getoutput(line.replace("curl", "curl --silent", 1))

        def lines() -> list[str]:
            return [line for line in file.read_text().splitlines() if line.startswith("  curl ")]

        try:
            wait_until(lambda: "/console" in file.read_text())
            assert len(lines()) == 1
            project.write("hello", STAGE.replace("hello ", "hi "))
            wait_until(lambda: typed(lines()[0]).endswith('"hi Ada"}'))
            declared = project.folder / "serve_config.yaml"
            other = STAGE.replace("name", "first")
            (project.folder / "hello_of_a_test.py").write_text(other)
            declared.write_text(declared.read_text().replace("{name: Ada}", "{first: Ada}"))
            wait_until(lambda: len(lines()) > 1)
            (_, line) = lines()
            assert json.loads(typed(line)) == {"greeting": "hello Ada"}
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


FILE_STAGE = """\
def greet(name: bytes) -> dict[str, int]:
    return {"greeting": len(name)}
"""


def test_an_edit_of_the_file_of_an_example_starts_the_next_version(tmp_path):
    """Which is tried with it; one that is not there is said, and the version before serves on."""
    with shell(tmp_path) as project:
        project.write("hello", FILE_STAGE)
        declared = project.folder / "serve_config.yaml"
        declared.write_text(declared.read_text().replace("name: Ada", "name: !file sample.bin"))
        sample = project.folder / "sample.bin"
        sample.write_bytes(b"one")

        def loaded(run) -> int:
            return sum(event["event"] == "function" for event in run.events)

        with project.serving("--reload") as run:
            assert run.url
            before = loaded(run)
            sample.write_bytes(b"three")
            wait_until(lambda: loaded(run) > before)
            sample.unlink()
            wait_until(lambda: "sample.bin is not there" in run.log.read_text())
            before = loaded(run)
            sample.write_bytes(b"another")
            wait_until(lambda: loaded(run) > before)
