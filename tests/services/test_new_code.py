"""`wakeful up` after the code of stages, or a model, has changed and the file has not, while
callers call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import onnx_models
from tests.deployments.projects import HOST, Project, Standing, state, wait_until
from tests.steady import Callers

pytestmark = pytest.mark.ray

STAGE = """\
import os, sys, time

import helper_of_{name} as helper

class Stage:
    def __init__(self) -> None:
        if "ray" in sys.modules and sys.modules["ray"].is_initialized():
            from ray import serve
            if ("host" if serve.get_replica_context().app_name == "host" else "own") in helper.FAILS_IN:
                raise ValueError("it is not for this machine")

    def __call__(self, ms: int) -> dict[str, int]:
        until = time.perf_counter() + ms / 1000
        while time.perf_counter() < until:
            pass
        return {{"version": helper.VERSION, "pid": os.getpid()}}
"""

ANSWER = """\
def answer(work: dict[str, int]) -> dict[str, int]:
    return work
"""

FUNCTION = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      graph:
        - {{stage: work, python: "stage_of_{name}:Stage"{part}}}
        - {{stage: answer, python: "answer_of_all:answer"}}
      autoscaling: {{min_replicas: {least}, downscale_to_zero_delay_s: {sleeps_s}}}
"""

MODEL = '  - {name: model, route_prefix: /v2/models/model, import_path: "deployments:function", args: {onnx: m.onnx}}\n'


def function(name: str, least: int = 0, *, sleeps_s: int = 600, part: str = "") -> str:
    """Its entry in the file."""
    return FUNCTION.format(name=name, least=least, sleeps_s=sleeps_s, part=part)


FUNCTIONS = {
    "own": function("own", 1),
    "same": function("same", 1),
    "awake": function("awake"),
    "also": function("also"),
    "asleep": function("asleep", sleeps_s=1),
    "edited": function("edited"),
    "busy": function("busy"),
    "busier": function("busier"),
    "split": function("split", part=", deployment: {min_replicas: 1}"),
}


PROMOTED = ("busy", "busier")
"""Once they are called all the time."""


class Served:
    """A project that is up. Mutable state: its files."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def write(self, name: str, version: int, fails_in: str = "", more: str = "") -> None:
        """The module that a function's stage imports."""
        (self.project.folder / f"helper_of_{name}.py").write_text(
            f"VERSION = {version}\nFAILS_IN = {fails_in!r}\n{more}"
        )

    def up(self, status: int = 0) -> str:
        """What the command says on its standard error."""
        outcome = self.project.run("up", "--detach")
        assert outcome.returncode == status, outcome.stderr
        return outcome.stderr

    def answer(self, name: str) -> tuple[int, int]:
        """The version and the process that answer a call."""
        answer = httpx.post(
            f"{self.project.url}/v2/models/{name}", json={"ms": 0}, timeout=30
        ).json()
        return answer["version"], answer["pid"]

    def state(self, name: str) -> dict[str, Any]:
        """What the catalogue says of a function."""
        with httpx.Client(base_url=self.project.url, timeout=30) as client:
            return state(client, name)

    def scores(self) -> list[float]:
        """Of the model."""
        answer = httpx.post(
            f"{self.project.url}/v2/models/model", json={"x": [1.0] * 64}, timeout=30
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["y"]

    def callers(self, *names: str, ms: int = 0) -> Callers:
        """Steady callers of some of the functions."""
        return Callers(self.project.port, names, ms)


@pytest.fixture(scope="module")
def served(standing: Standing) -> Iterator[Served]:
    """One cluster for all of these tests: functions of one module each, and of one that this
    imports.
    """
    served = Served(standing)
    (standing.folder / "answer_of_all.py").write_text(ANSWER)
    for name in FUNCTIONS:
        (standing.folder / f"stage_of_{name}.py").write_text(STAGE.format(name=name))
        served.write(name, 1)
    onnx_models.perceptron(standing.folder / "m.onnx")
    with standing.served(*HOST, *FUNCTIONS.values(), MODEL):
        yield served


def test_new_code_and_new_models_take_over_without_a_call_lost(served):
    """With a deployment of its own, promoted (two at once), as a part, in the host awake and asleep.
    What did not change keeps its process, but in the host, where it is loaded again by the new one.
    """
    _, host = served.answer("asleep")
    before = served.scores()
    with served.callers(*PROMOTED, ms=15) as busy:
        wait_until(lambda: all(len(busy.said(name)) == 2 for name in PROMOTED))
        wait_until(lambda: all(served.state(name)["doing"] == "" for name in PROMOTED))
        assert busy.lost() == []
    with served.callers("own", "awake", "split", "same", "also", *PROMOTED) as callers:
        wait_until(lambda: served.state("asleep")["state"] == "asleep")
        pids = {name: callers.last(name)[1] for name in callers.answers}
        for name in ("own", *PROMOTED, "awake", "split", "asleep"):
            served.write(name, 2)
        onnx_models.perceptron(served.project.folder / "m.onnx", seed=1)
        said = served.up()
        assert all(
            f"{name}: new code" in said
            for name in ("own", *PROMOTED, "awake", "split.work", "asleep")
        )
        assert "model: new models" in said
        assert "same:" not in said
        assert "also:" not in said
        changed = ("own", "awake", "split", *PROMOTED)
        wait_until(lambda: {callers.last(name)[0] for name in changed} == {2})
        version, new_host = served.answer("asleep")
        assert (version, new_host != host) == (2, True)
        assert served.scores() != before
        assert callers.last("awake") == (2, new_host)
        assert not {pids["own"], host} & {
            pid
            for name in ("own", *PROMOTED)
            for version, pid in callers.said(name)
            if version == 2
        }
        wait_until(lambda: callers.last("also") == (1, new_host))
        assert [callers.said(name) for name in ("same", "also")] == [
            {(1, pids["same"])},
            {(1, host), (1, new_host)},
        ]
        assert callers.lost() == []


def test_new_code_that_is_broken_never_takes_over(served):
    """Where it does not load anywhere, nothing is deployed; where only its process finds out, the
    version before goes on.
    """
    with served.callers("own", "awake") as callers:
        kept = {name: callers.last(name) for name in ("own", "awake")}
        served.write("own", 3, more="def (\n")
        served.write("awake", 3, more="raise ValueError('not today')\n")
        said = served.up(2)
        assert "does not import: SyntaxError" in said
        assert "not today" in said
        served.write("own", 3, "own")
        served.write("awake", 3, "host")
        said = served.up(1)
        for name, last in kept.items():
            assert f"{name} keeps the version before; the new one did not start: " in said
            assert callers.last(name) == last
        for name in kept:
            served.write(name, 4)
        served.up()
        wait_until(lambda: {callers.last(name)[0] for name in kept} == {4})
        assert callers.last("awake")[1] != kept["awake"][1]
        assert callers.lost() == []


@pytest.mark.full
def test_a_function_that_wakes_after_an_edit_says_so(served):
    """It answers; the log and the status tell until `up` has replaced the host, also if the edit
    was undone.
    """
    served.write("edited", 2)
    version, host = served.answer("edited")
    assert version == 2
    wait_until(
        lambda: served.state("edited")["reason"].startswith(
            "its code is not what `wakeful up` deployed"
        )
    )
    assert (
        "edited: its code is not what `wakeful up` deployed"
        in served.project.run("logs", "edited").stdout
    )
    served.write("edited", 1)
    served.up()
    version, new_host = served.answer("edited")
    assert (version, new_host != host) == (1, True)
    wait_until(lambda: served.state("edited")["reason"] == "")
