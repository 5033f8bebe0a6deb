"""What a function with stages of their own deployment is split into."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.declaration.function_spec import DeclaredSpec, FunctionSpec, version_hash
from runtime.declaration.split_stages import (
    expand,
    parents_of,
    split_issues,
    split_stages_of,
    without_split_stages,
)
from tests.problems import expect_values

CROP = {"stage": "crop", "python": "apps.ocr:Crop", "with": {"height": 48}}
RECOGNISE = {
    "stage": "recognise",
    "onnx": "models/ocr/rec.onnx",
    "each": "crop",
    "when": "has_text",
    "inputs": {"x": "crop"},
    "outputs": {"ids": "letters"},
    "pad": {"x": 1},
    "deployment": {
        "num_cpus": 2,
        "min_replicas": 0,
        "max_replicas": 3,
        "batching": {"max_batch_size": 8},
    },
}
ANSWER = {"stage": "answer", "python": "apps.ocr:answer"}


def ocr(*graph: Any, **args: Any) -> DeclaredSpec:
    return DeclaredSpec.from_args(
        "ocr", "/v2/models/ocr", {"graph": list(graph or (CROP, RECOGNISE, ANSWER)), **args}
    )


def test_a_split_stage_has_that_stage_alone() -> None:
    """Its own keys go with it; how it is fed stays with the function."""
    (part,) = split_stages_of(
        ocr(limits={"request_timeout_s": 7, "max_rows": 64}, batching={"max_batch_size": 4})
    )
    assert (part.name, part.route_prefix) == ("ocr.recognise", "/v2/models/ocr.recognise")
    assert part.deployed.part_of == "ocr"
    (stage,) = part.graph
    assert stage.model_dump(exclude_defaults=True, by_alias=True) == {
        "stage": "recognise",
        "onnx": "models/ocr/rec.onnx",
        "pad": {"x": 1},
    }
    assert (
        part.resources.num_cpus,
        part.autoscaling.max_replicas,
        part.batching.max_batch_size,
    ) == (2, 3, 8)
    assert (part.limits.request_timeout_s, part.limits.max_rows, part.tier) == (7, 64, "auto")


def test_the_function_calls_it_where_the_stage_stood() -> None:
    """With the same feeding: elements, condition, names in and out."""
    spec = without_split_stages(ocr())
    assert [stage.stage for stage in spec.graph] == ["crop", "recognise", "answer"]
    assert spec.graph[1].model_dump(exclude_defaults=True) == {
        "stage": "recognise",
        "function": "ocr.recognise",
        "each": "crop",
        "when": "has_text",
        "inputs": {"x": "crop"},
        "outputs": {"ids": "letters"},
    }
    assert (spec.graph[0], spec.graph[2]) == (ocr().graph[0], ocr().graph[2])


def test_threads_go_with_the_stage_and_the_stream_stays() -> None:
    """The threads wait where it runs; its function sends what it gives."""
    waits = {
        "stage": "ask",
        "python": "apps.ocr:ask",
        "each": "crop",
        "stream": True,
        "ordered": False,
        "threads": 8,
        "deployment": {},
    }
    spec = ocr(CROP, waits)
    (part,) = split_stages_of(spec)
    assert (part.graph[0].threads, part.graph[0].stream) == (8, None)
    called = without_split_stages(spec).graph[-1]
    assert (called.function, called.threads) == ("ocr.ask", None)
    assert (called.each, called.stream, called.ordered) == ("crop", True, False)


def test_without_batching_of_its_own_a_split_stage_has_the_functions() -> None:
    """What was declared for all stages holds for this one."""
    stage = {**RECOGNISE, "deployment": {"num_cpus": 1}}
    (part,) = split_stages_of(
        ocr(CROP, stage, ANSWER, batching={"max_batch_size": 5, "max_padding": 0})
    )
    assert (part.batching.max_batch_size, part.batching.max_padding) == (5, 0)
    assert "min_replicas" not in part.autoscaling.model_fields_set


def test_several_stages_become_several_functions_each_before_its_parent() -> None:
    """In this order no function is deployed before those that it calls."""
    crop = {**CROP, "deployment": {"num_cpus": 1}}
    other = DeclaredSpec.from_args("other", "/other", {"onnx": "m.onnx"})
    found = expand([other, ocr(crop, RECOGNISE, ANSWER)])
    assert [spec.name for spec in found] == ["other", "ocr.crop", "ocr.recognise", "ocr"]
    assert parents_of([other, ocr(crop, RECOGNISE, ANSWER)]) == {
        "ocr.crop": ("ocr", 0),
        "ocr.recognise": ("ocr", 1),
    }


def test_a_function_without_such_a_stage_is_itself() -> None:
    """Nothing is added."""
    plain = ocr(CROP, ANSWER)
    assert expand([plain]) == (FunctionSpec.of(plain),)
    assert without_split_stages(plain) == FunctionSpec.of(plain)


def test_the_resources_of_a_split_stage_do_not_restart_its_function() -> None:
    """The function's identity knows the part's name only."""
    wider = {**RECOGNISE, "deployment": {"num_cpus": 4}}
    assert version_hash(without_split_stages(ocr())) == version_hash(
        without_split_stages(ocr(CROP, wider, ANSWER))
    )
    assert version_hash(split_stages_of(ocr())[0]) != version_hash(
        split_stages_of(ocr(CROP, wider, ANSWER))[0]
    )


@pytest.mark.parametrize(
    ("other", "taken_by"),
    [
        (("ocr.recognise", "/elsewhere"), "and 'ocr.recognise'"),
        (("else", "/v2/models/ocr.recognise"), "and 'else'"),
    ],
)
def test_a_split_stage_whose_name_is_taken_is_an_issue(
    other: tuple[str, str], taken_by: str
) -> None:
    """By the name or by the prefix of another function."""
    (found,) = split_issues([ocr(), FunctionSpec.from_args(*other, {"onnx": "m.onnx"})])
    assert (found.function, found.stage, found.key) == ("ocr", 1, "stage")
    expect_values(found.message, "'ocr.recognise'", "/v2/models/ocr.recognise", taken_by)


def test_a_split_stage_that_cannot_be_declared_is_an_issue() -> None:
    """With what is wrong with it as a function."""
    stage = {**RECOGNISE, "deployment": {"batching": {"max_batch_size": 500}}}
    (found,) = split_issues([ocr(CROP, stage, ANSWER)])
    assert found.key == "deployment"
    assert "max_batch_size" in found.message
    assert "Value error" not in found.message
