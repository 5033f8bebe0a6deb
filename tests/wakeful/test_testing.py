"""`wakeful.testing` serves a file in the process of a test, and its page says how."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from runtime.errors import DeclarationError, NotFound
from runtime.system import memory
from tests import basic
from wakeful import testing
from wakeful.testing import CallError, ServedFunctions, serve

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def written(page: Path, folder: Path) -> None:
    """The files of a page: blocks that begin with a file's name, one after the other."""
    files: dict[str, str] = defaultdict(str)
    for block in re.findall(r"```(?:python|yaml)\n(.*?)```", page.read_text(), re.DOTALL):
        name, rest = re.match(r"# (\S+)\n(.*)", block, re.DOTALL).groups()
        files[name] += rest + "\n\n"
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.mark.slow
def test_the_page_is_a_project_whose_tests_pass(tmp_path):
    """Written out, in a folder of its own, by pytest's own command."""
    written(PAGE, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(PAGE.parents[1]), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b8 passed", done.stdout)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The functions that every way of serving is tried with."""
    with serve(basic.write(tmp_path_factory.mktemp("app"))) as served:
        yield served


def test_arrays_go_in_and_out(app: ServedFunctions):
    """As lists in JSON, as they lie by the protocol; FP32 stays FP32."""
    assert app.mean(values=np.array([1.0, 2.0, 6.0]))["mean"] == 3.0
    answer = app.double.infer(x=np.array([[1.5, 0, 1], [2.5, 0, 1]], np.float32))
    assert {name: array.tolist() for name, array in answer.items()} == {
        "y": [[3.0, 0.0, 2.0], [5.0, 0.0, 2.0]]
    }
    assert answer["y"].dtype == np.float32
    with pytest.raises(CallError) as refused:
        app.double.infer(z=np.zeros(1, np.float32))
    assert refused.value.status == 400


def test_calls_of_several_threads_are_answered(app: ServedFunctions):
    """One server, as many callers as a test has."""
    found: list[float] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(app.mean(values=[n])["mean"]))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == list(range(8))


def test_an_unknown_function_is_named(app: ServedFunctions):
    """With the near name; `hasattr` and copying are not surprised."""
    with pytest.raises(AttributeError, match=r"did you mean .mean"):
        _ = app.maen
    with pytest.raises(NotFound):
        app["maen"]
    assert not hasattr(app, "__wrapped__")
    assert "mean" in dir(app)


def test_everything_else_is_http(app: ServedFunctions):
    """The catalogue and headers, on the same port."""
    assert {function["name"] for function in app.http.get("/").json()["functions"]} >= {"mean"}
    answer = app.http.post(app.mean.path, json={"values": [1]}, headers={"x-request-id": "mine"})
    assert answer.headers["x-request-id"] == "mine"


def test_a_wrong_file_is_refused_before_anything_starts(tmp_path):
    """As by `check`."""
    before = threading.active_count()
    (tmp_path / "serve_config.yaml").write_text("applications:\n  - {name: a}\n")
    with pytest.raises(DeclarationError), serve(tmp_path / "serve_config.yaml"):
        pass
    assert threading.active_count() == before


def project(folder: Path, module: str, answer: str) -> Path:
    """A file of one function, of a module of its folder."""
    folder.mkdir()
    (folder / f"{module}.py").write_text(f"def f() -> str:\n    return {answer!r}\n")
    file = folder / "serve_config.yaml"
    file.write_text(
        f"applications:\n  - {{name: f, args: {{graph: [{{stage: f, python: '{module}:f'}}]}}}}\n"
    )
    return file


def test_two_files_are_served_at_once(tmp_path):
    """Each by its own code; nothing of it stays behind."""
    before = list(sys.path), threading.active_count()
    one, two = project(tmp_path / "a", "t_one", "1"), project(tmp_path / "b", "t_two", "2")
    with serve(one) as first, serve(two) as second:
        assert (first.f()["f"], second.f()["f"]) == ("1", "2")
    with serve(one) as again:
        assert again.f()["f"] == "1"
    assert (list(sys.path), threading.active_count()) == before


def test_a_module_of_another_folder_does_not_answer(tmp_path):
    """Python has one module of a name, and the first would answer for both."""
    one, two = project(tmp_path / "a", "t_same", "1"), project(tmp_path / "b", "t_same", "2")
    with serve(one) as first:
        assert first.f()["f"] == "1"
    with pytest.raises(ImportError, match=r"b/t_same\.py is wanted.*a/t_same\.py"), serve(two):
        pass


def repeat(text: str) -> Iterator[str]:
    """Twice."""
    yield text
    yield text


def test_a_stream_has_texts_with_any_end_of_line(tmp_path):
    """JSON leaves U+2028 and U+0085 as they are."""
    file = tmp_path / "serve_config.yaml"
    file.write_text(
        f"applications:\n  - {{name: r, args: {{graph: [{{stage: r, python: '{__name__}:repeat'}}]}}}}\n"
    )
    text = "a\u2028b\x85c\nd"
    with serve(file) as app:
        assert list(app.r.stream(text=text)) == [{"r": text}] * 2


GATE = threading.Event()


def wait(x: float) -> float:
    """The same, once the gate is open."""
    assert GATE.wait(60)
    return x


@pytest.mark.slow
def test_functions_close_together_and_look_at_little(tmp_path, monkeypatch):
    """Garbage is collected once for all of them, and not among what was there before: 250 functions
    did not close in time.
    """
    trims: list[int] = []
    monkeypatch.setattr(memory, "trim_memory", lambda: trims.append(gc.get_freeze_count()))
    file = project(tmp_path / "many", "t_many", "1")
    function = file.read_text().splitlines()[1]
    names = [f"f{number}" for number in range(8)]
    lines = [function.replace("name: f,", f"name: {name},") for name in names]
    file.write_text("\n".join(["applications:", *lines]))
    gc.unfreeze()
    with serve(file) as app:
        assert [app[name]()["f"] for name in names] == ["1"] * 8
    assert len(trims) == 1
    assert trims[0] > 10_000
    assert gc.get_freeze_count() == 0


def test_a_stage_that_does_not_return_is_said(tmp_path, monkeypatch):
    """The block ends all the same, and its thread once the stage does."""
    monkeypatch.setattr(testing, "STOP_TIMEOUT_S", 1.0)
    (tmp_path / "serve_config.yaml").write_text(
        f"applications:\n  - {{name: wait, args: {{graph: [{{stage: wait, python: '{__name__}:wait'}}]}}}}\n"
    )
    before = set(threading.enumerate())
    failed = threading.Event()

    def call(app: ServedFunctions) -> None:
        try:
            app.wait(x=1.0)
        except (CallError, httpx.HTTPError):
            failed.set()

    def leave_a_call_behind() -> None:
        with serve(tmp_path / "serve_config.yaml") as app:
            threading.Thread(target=call, args=(app,), daemon=True).start()
            until = time.monotonic() + 60
            while app.http.get("/").json()["functions"][0]["state"] != "ready":
                assert time.monotonic() < until

    try:
        with pytest.raises(RuntimeError, match="does not return"):
            leave_a_call_behind()
    finally:
        GATE.set()
    assert failed.wait(60)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
