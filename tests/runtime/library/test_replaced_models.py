"""A model file that is replaced while its function sleeps is tried before it answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import helper

from runtime.artifacts.python_imports import ImportScanner
from runtime.artifacts.version import content_digests
from runtime.declaration.function_spec import FunctionSpec
from runtime.library.library import DeclaredFunction
from runtime.onnx.session import Session
from runtime.settings import Settings
from tests import onnx_models
from tests.onnx_models import FLOAT
from tests.problems import expect_values
from tests.sleepers import Served, run, serving

SPEC = FunctionSpec.from_args("f", "/v2/models/f", {"onnx": "m.onnx"})


def replace(path: Path, operator: str) -> None:
    """Another model in its place at once: the operator of x, less the mean over its rows where it
    is ``ReduceMean``.
    """
    shape = {"x": (FLOAT, ["n", 4])}
    nodes = [helper.make_node(operator, ["x"], ["t"])]
    if operator == "ReduceMean":
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "m"], ["t"]),
        ]
    nodes.append(helper.make_node("Identity", ["t"], ["y"]))
    fresh = onnx_models.save(path.with_suffix(".new"), nodes, shape, {"y": (FLOAT, ["n", 4])})
    fresh.replace(path)


async def call(served: Served) -> tuple[int, object]:
    answer = await served.client.post("/v2/models/f", json={"x": [1.0, -2.0, 3.0, 4.0]})
    return answer.status_code, answer.json()


def test_another_model_is_tried_before_it_answers(tmp_path):
    """One that mixes rows is refused, and a right one serves after it."""
    replace(tmp_path / "m.onnx", "Relu")

    async def work(served: Served) -> None:
        assert await call(served) == (200, {"y": [1.0, 0.0, 3.0, 4.0]})
        await served.library.unload("f")
        replace(tmp_path / "m.onnx", "ReduceMean")
        status, problem = await call(served)
        assert status == 503
        expect_values(problem, "load_failed", "'m'", "rows", "'y'", "ReduceMean")
        replace(tmp_path / "m.onnx", "Neg")
        served.library.declare([DeclaredFunction(SPEC)])  # it may be tried again now
        assert await call(served) == (200, {"y": [-1.0, 2.0, -3.0, -4.0]})

    run(serving(tmp_path, SPEC), work)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_model_that_was_probed_is_tried_if_it_was_replaced_since(
    tmp_path, monkeypatch, is_replaced
):
    """What `up` deployed wakes without a run; another file is no longer that."""
    replace(tmp_path / "m.onnx", "Relu")
    settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    made_of = content_digests(SPEC, settings, ImportScanner())
    declared = DeclaredFunction(SPEC.with_deployed(made_of=made_of), is_probed=True)
    if is_replaced:
        replace(tmp_path / "m.onnx", "ReduceMean")
    tries: list[None] = []
    try_run = Session.try_run

    def seen(self, feeds):
        tries.append(None)
        return try_run(self, feeds)

    monkeypatch.setattr(Session, "try_run", seen)

    async def work(served: Served) -> None:
        for _ in range(2):
            status, _ = await call(served)
            assert status == (503 if is_replaced else 200)
            assert bool(tries) is is_replaced
            await served.library.unload("f")

    run(serving(tmp_path, declared), work)
