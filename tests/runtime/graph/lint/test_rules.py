"""What is warned of though it serves."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import pytest

from runtime.declaration.config_file import read
from runtime.graph.resolve import examine
from runtime.settings import Settings
from tests import onnx_models
from tests.problems import place, places
from tests.runtime.graph.test_resolve import APPLICATION

HERE = __name__


class Scores(TypedDict):
    """Two values."""

    probabilities: list[float]
    label: int


def score(text: str) -> Scores: ...
def takes_both(probabilities: list[float], label: int) -> str: ...
def takes_one(label: int) -> str: ...
def misspelt(probs: list[float], label: int) -> str: ...
def other_type(top: int, label: int) -> str: ...
def alone(text: str) -> str: ...
def numbers(x: list[float]) -> str: ...
def after(a: list[str]) -> str: ...
def either(result: str | None, other: str | None) -> str: ...
def looked_up(text: str) -> str | None: ...
def needs(looked_up: str) -> str: ...
def defaulted(looked_up: str = "") -> str: ...
def takes_any(looked_up: Any) -> str: ...
def takes_object(looked_up: object) -> str: ...
def found(text: str) -> list[float | None]: ...
def needs_all(found: list[float]) -> str: ...
def takes_gaps(found: list[float | None] | None) -> str: ...
def takes_none(looked_up: Annotated[str | None, "a name"]) -> str: ...


@pytest.mark.parametrize(
    ("graph", "where"),
    [
        (["stage: score, python: M:score", "stage: answer, python: M:takes_both"], []),
        (
            ["stage: score, python: M:score", "stage: answer, python: M:takes_one"],
            ["7: applications[0].args.graph[0].python"],
        ),
        (
            ["stage: score, python: M:score", "stage: answer, python: M:misspelt"],
            ["7: applications[0].args.graph[0].python"],
        ),
        (
            [
                "stage: score, python: M:score",
                "stage: answer, python: M:misspelt, inputs: {probs: probs}",
            ],
            ["7: applications[0].args.graph[0].python"],
        ),
        (
            ["stage: score, python: M:score", "stage: answer, python: M:other_type"],
            ["7: applications[0].args.graph[0].python"],
        ),
        (
            ["stage: one, python: M:alone", "stage: two, python: M:alone"],
            ["7: applications[0].args.graph[0].python"],
        ),
        (
            [
                "stage: score, python: M:score, outputs: {label: kind}",
                "stage: a, python: M:takes_both, inputs: {label: kind}",
            ],
            [],
        ),
        (
            [
                "stage: score, python: M:score",
                "stage: a, python: M:alone, each: probabilities",
                "stage: b, python: M:after, when: {label: 1}, outputs: {after: result}",
                "stage: c, python: M:after, when: not label, outputs: {after: other}",
                "stage: d, python: M:either",
            ],
            [],
        ),
    ],
)
def test_values_that_no_stage_takes_are_warned_of(tmp_path, graph, where):
    """A misspelt parameter is offered the value that fits it; what says that it is a field is
    one.
    """
    assert places(warnings(tmp_path, graph)) == where


LOOKED_UP = "stage: looked_up, python: M:looked_up"
FOUND = "stage: found, python: M:found"


@pytest.mark.parametrize(
    ("graph", "where"),
    [
        ([LOOKED_UP, "stage: a, python: M:needs"], ["8: applications[0].args.graph[1].python"]),
        ([LOOKED_UP, "stage: a, python: M:defaulted"], ["8: applications[0].args.graph[1].python"]),
        (
            [LOOKED_UP, "stage: a, python: M:alone, inputs: {text: looked_up}"],
            ["8: applications[0].args.graph[1].python"],
        ),
        ([LOOKED_UP, "stage: a, python: M:takes_any"], []),
        ([LOOKED_UP, "stage: a, python: M:takes_object"], []),
        ([LOOKED_UP, "stage: a, python: M:takes_none"], []),
        ([LOOKED_UP, "stage: a, python: M:needs, when: {looked_up: one}"], []),
        (
            [LOOKED_UP, "stage: b, python: M:alone, outputs: {b: looked_up}",
             "stage: a, python: M:needs"],
            ["7: applications[0].args.graph[0].python"],
        ),
        ([FOUND, "stage: a, python: M:needs_all"], ["8: applications[0].args.graph[1].python"]),
        ([FOUND, "stage: a, python: M:takes_gaps"], []),
        (
            [FOUND, "stage: m, onnx: m.onnx, inputs: {x: found}"],
            ["8: applications[0].args.graph[1].onnx"],
        ),
    ],
)  # fmt: skip
def test_none_that_a_stage_does_not_take_is_warned_of(tmp_path, graph, where):
    """Not where it is replaced before, or the rows that have it are left out. (The last graph is
    warned of a value that no stage takes.)
    """
    onnx_models.double(tmp_path / "m.onnx")
    assert places(warnings(tmp_path, graph)) == where


UNUSED_MODEL = ["stage: model, onnx: m.onnx", "stage: answer, python: M:alone"]


def test_unused_outputs_of_a_model_are_not_warned_of(tmp_path):
    """It gives what it gives; a model of which nothing is used is."""
    onnx_models.double(tmp_path / "m.onnx")
    (warning,) = warnings(tmp_path, UNUSED_MODEL)
    assert place(warning) == "7: applications[0].args.graph[0].onnx"


def warnings(folder, graph):
    """Of a function of these stages."""
    stages = "\n".join(f"        - {{{stage.replace('M:', HERE + ':')}}}" for stage in graph)
    (folder / "f.yaml").write_text(f"{APPLICATION}      graph:\n{stages}\n")
    checked = examine(read(folder / "f.yaml"), Settings.read({"WAKEFUL_ROOT": str(folder)}))
    return checked.warnings
