"""Which models share a segment, and which values stay on their device."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.branch import condition
from runtime.chains import Chained, follows, keep
from runtime.onnx.options import CPU_PLAN
from runtime.onnx.session import Session
from runtime.stages import ModelStage
from tests import onnx_models
from tests.runtime.onnx.test_resident import BOUND


@pytest.fixture
def model(tmp_path: Path):
    """A model in its place; ``on`` its device, or on none."""
    file = onnx_models.double(tmp_path / "m.onnx")

    def made(takes: str, gives: str, *, on: bool = True, each: str | None = None, when: str | None = None) -> Chained:
        session = Session(file, BOUND if on else CPU_PLAN)
        stage = ModelStage("m", session, {"x": takes}, batchable=True, pad={}, outputs={"y": gives})
        return Chained(stage.takes, stage.gives, each, when and condition(when), stage)

    return made


def python(takes: str, gives: str, each: str | None = None) -> Chained:
    """A Python stage in its place."""
    return Chained([takes], [gives], each, None, None)


def test_a_model_follows_who_gives_what_it_takes_on_the_same_device(model):
    """For the same rows, and nowhere else."""
    first = model("x", "h")
    assert follows(first, model("h", "y"))
    assert not follows(first, model("x", "y"))
    assert not follows(first, model("h", "y", on=False))
    assert not follows(model("x", "h", on=False), model("h", "y"))
    assert not follows(first, model("h", "y", when="x"))
    assert not follows(first, python("h", "y"))
    assert follows(model("x", "h", each="x"), model("h", "y", each="x"))


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        ([("model", "h", "y")], True),
        ([("model", "h", "y"), ("model", "y", "z")], True),
        ([("model", "h", "y"), ("python", "y", "z")], True),
        ([("model", "h", "y"), ("python", "h", "z")], False),
        ([("python", "h", "y")], False),
        ([("model", "h", "y"), ("python", "y", "p"), ("model", "h", "z")], False),
        ([("model", "h", "y"), ("python", "y", "h")], False),
        ([], False),
    ],
)
def test_a_value_stays_if_only_models_of_the_chain_take_it(model, after, kept):
    """And nobody else gives it: an answer, and what Python takes, comes to memory."""
    first = model("x", "h")
    stages = [first, *(model(takes, gives) if kind == "model" else python(takes, gives) for kind, takes, gives in after)]
    keep(stages)
    assert first.model is not None
    assert first.model.keep == (frozenset({"h"}) if kept else frozenset())


def test_a_value_that_rows_are_chosen_by_comes_to_memory(model):
    """``each`` and ``when`` look at it."""
    first = model("x", "h")
    keep([first, model("h", "y"), python("y", "z", each="h")])
    assert first.model is not None
    assert first.model.keep == frozenset()
